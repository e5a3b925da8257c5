package data

import (
	"cmp"
	"fmt"
	"strconv"
)

// openEvents opens an event file of any format.
func (s *Source) openEvents(f *file) (rows[Event], error) {
	m := s.Mapping
	var t *table
	var err error
	switch s.Format {
	case "jsonl":
		return s.jsonEvents(f), nil
	case "recbole":
		t, err = openRecbole(s, f)
		m.User, m.Item, m.Kind, m.Value, m.Time, m.TimeLayout = "user_id", "item_id", "kind", "rating", "timestamp", ""
	case sequences:
		return s.openSequences(f)
	case "double-colon":
		m.User, m.Item, m.Kind, m.Value, m.Time, m.TimeLayout = "user", "item", "kind", "value", "time", ""
		t, err = openDoubleColon(s, f, m.User, m.Item, m.Value, m.Time)
	case "csv":
		t, err = openCSV(s, f)
	case "parquet":
		t, err = openParquet(f)
	}
	if err != nil {
		return nil, err
	}
	return s.tableEvents(f, t, m)
}

func (s *Source) tableEvents(f *file, t *table, m Mapping) (rows[Event], error) {
	user, err := t.require(f, cmp.Or(m.User, "user"))
	if err != nil {
		return nil, err
	}
	item, err := t.require(f, cmp.Or(m.Item, "item"))
	if err != nil {
		return nil, err
	}
	at, err := t.require(f, cmp.Or(m.Time, "time"))
	if err != nil {
		return nil, err
	}
	// A column that the mapping names must be there; a default one need not.
	kind, value := t.find(cmp.Or(m.Kind, "kind")), t.find(cmp.Or(m.Value, "value"))
	for _, name := range []string{s.Mapping.Kind, s.Mapping.Value} {
		if name != "" && (s.Format == "csv" || s.Format == "parquet") {
			if _, err := t.require(f, name); err != nil {
				return nil, err
			}
		}
	}
	byDefault := Click
	if value >= 0 {
		byDefault = Rating
	}
	if k, ok := parseKind(m.DefaultKind); ok {
		byDefault = k
	}
	return func() (int64, Event, *fault, error) {
		line, fields, bad, err := t.next()
		if err != nil || bad != nil {
			return line, Event{}, bad, err
		}
		e := Event{User: fields[user], Item: fields[item], Kind: byDefault}
		if kind >= 0 && fields[kind] != "" {
			if e.Kind, bad = s.kind(fields[kind]); bad != nil {
				return line, e, bad, nil
			}
		}
		if bad = checkEvent(&e); bad != nil {
			return line, e, bad, nil
		}
		if e.Kind == Rating {
			if value < 0 {
				return line, e, &fault{reasonValue, "the file has no column for it"}, nil
			}
			x, perr := strconv.ParseFloat(fields[value], 64)
			if perr != nil {
				return line, e, &fault{reasonValue, fmt.Sprintf("%q", short(fields[value]))}, nil
			}
			if e.Value, bad = checkValue(x); bad != nil {
				return line, e, bad, nil
			}
		}
		e.Time, bad = parseTime(fields[at], m.TimeLayout)
		return line, e, bad, nil
	}, nil
}

// kind reads the name of a kind of event, in the file's words or in ours.
func (s *Source) kind(name string) (Kind, *fault) {
	if k, ok := parseKind(cmp.Or(s.Mapping.Kinds[name], name)); ok {
		return k, nil
	}
	return 0, &fault{reasonKind, fmt.Sprintf("%q; translate it in the mapping", short(name))}
}

func checkEvent(e *Event) *fault {
	if bad := checkID("user", e.User); bad != nil {
		return bad
	}
	return checkID("item", e.Item)
}
