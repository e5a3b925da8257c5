package data

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// sequenceStep is the time in seconds from one event of a sequence to the next.
// Being always the same it tells a model nothing; it is longer than people need,
// so that no one is taken for a bot, and short enough for the longest row.
const sequenceStep = 3600

// openSequences opens a sequential atomic file of RecBole: a row is a user, the
// items of the history (item_id_list), oldest first, and the target that came
// next (item_id). Each item is an event of Mapping.DefaultKind, the target the
// last one, so that LeaveOneOut asks what the file asks. A file cut in windows,
// with several rows for a user, holds events more than once and is refused.
func (s *Source) openSequences(f *file) (rows[Event], error) {
	t, err := openRecbole(s, f)
	if err != nil {
		return nil, err
	}
	var user, history, target int
	for _, c := range []struct {
		at   *int
		name string
	}{{&user, "user_id"}, {&history, "item_id_list"}, {&target, "item_id"}} {
		if *c.at, err = t.require(f, c.name); err != nil {
			return nil, err
		}
	}
	kind, _ := parseKind(cmp.Or(s.Mapping.DefaultKind, Click.String()))
	if kind == Rating {
		return nil, fmt.Errorf("%w: default kind %q, but sequences have no ratings; use browse, click or favourite", ErrOptions, kind)
	}
	seen := map[string]bool{}
	var line int64
	var e Event // the last one
	var items []string
	next := 0
	return func() (int64, Event, *fault, error) {
		if next == len(items) {
			at, fields, bad, err := t.next()
			if err != nil || bad != nil {
				return at, Event{}, bad, err
			}
			if bad := checkID("user", fields[user]); bad != nil {
				return at, Event{}, bad, nil
			}
			if seen[fields[user]] {
				return at, Event{}, nil, fmt.Errorf("user %q had a row before; give the file with one row for each user", short(fields[user]))
			}
			line, next = at, 0
			e = Event{User: strings.Clone(fields[user]), Kind: kind, Time: -sequenceStep}
			seen[e.User] = true
			items = slices.Concat(t.list(fields[history]), []string{fields[target]})
		}
		e.Item = items[next]
		e.Time += sequenceStep
		next++
		return line, e, checkEvent(&e), nil
	}, nil
}
