package data

import (
	"encoding/json"
	"math"
)

// The fields of JSON Lines files; the simulator writes the same.
type (
	jsonEvent struct {
		User  string   `json:"user"`
		Item  string   `json:"item"`
		Kind  string   `json:"kind,omitempty"`
		Value *float64 `json:"value,omitempty"`
		Time  *float64 `json:"time"`
	}
	jsonItem struct {
		ID         string            `json:"id"`
		Title      string            `json:"title,omitempty"`
		Text       string            `json:"text,omitempty"`
		Categories []string          `json:"categories,omitempty"`
		Attributes map[string]string `json:"attributes,omitempty"`
	}
	jsonUser struct {
		ID          string            `json:"id"`
		Description string            `json:"description,omitempty"`
		Attributes  map[string]string `json:"attributes,omitempty"`
	}
)

// jsonRows reads one JSON object a line.
func jsonRows[T, J any](lines rows[string], convert func(*J) (T, *fault)) rows[T] {
	return func() (int64, T, *fault, error) {
		var zero T
		line, s, bad, err := lines()
		if err != nil || bad != nil {
			return line, zero, bad, err
		}
		var j J
		if err := json.Unmarshal([]byte(s), &j); err != nil {
			return line, zero, &fault{reasonSyntax, err.Error()}, nil
		}
		v, bad := convert(&j)
		return line, v, bad, nil
	}
}

func (s *Source) jsonEvents(f *file) rows[Event] {
	return jsonRows(lineReader(s.text(f)), func(j *jsonEvent) (Event, *fault) {
		e := Event{User: j.User, Item: j.Item}
		bad := checkEvent(&e)
		if bad != nil {
			return e, bad
		}
		switch {
		case j.Kind != "":
			if e.Kind, bad = s.kind(j.Kind); bad != nil {
				return e, bad
			}
		case s.Mapping.DefaultKind != "":
			e.Kind, _ = parseKind(s.Mapping.DefaultKind)
		case j.Value != nil:
			e.Kind = Rating
		default:
			e.Kind = Click
		}
		if e.Kind == Rating {
			if j.Value == nil {
				return e, &fault{reasonValue, "missing"}
			}
			if e.Value, bad = checkValue(*j.Value); bad != nil {
				return e, bad
			}
		}
		at := math.NaN()
		if j.Time != nil {
			at = *j.Time
		}
		e.Time, bad = checkTime(at)
		return e, bad
	})
}

func (s *Source) jsonItems(f *file) rows[Item] {
	return jsonRows(lineReader(s.text(f)), func(j *jsonItem) (Item, *fault) {
		return Item(*j), checkID("item", j.ID)
	})
}

func (s *Source) jsonUsers(f *file) rows[User] {
	return jsonRows(lineReader(s.text(f)), func(j *jsonUser) (User, *fault) {
		return User(*j), checkID("user", j.ID)
	})
}
