package data

import (
	"context"
	"errors"
	"iter"
	"path/filepath"
	"slices"
	"strings"
)

// ReadEvents calls visit for each sound event of the event file of src, in the order
// of the file. An event for which it returns a reason is dropped and counted in the
// report, as broken rows are. A file without rows has an empty report. The error wraps
// ErrSource, also where most rows are broken, ErrOptions, or is that of ctx.
func ReadEvents(ctx context.Context, src Source, visit func(e Event) (reason string)) (*Report, error) {
	if err := src.check(); err != nil {
		return nil, err
	}
	return readAll(ctx, src.Events, src.openEvents, func(e Event) string {
		e.User, e.Item = strings.Clone(e.User), strings.Clone(e.Item)
		return visit(e)
	})
}

// ReadItems returns the items of the item file of src. Errors are as in ReadEvents.
func ReadItems(ctx context.Context, src Source) ([]Item, error) {
	var all []Item
	_, err := readAll(ctx, src.Items, src.openItems, func(it Item) string {
		all = append(all, it)
		return ""
	})
	return all, err
}

// ReadUsers returns the users of the user file of src. Errors are as in ReadEvents.
func ReadUsers(ctx context.Context, src Source) ([]User, error) {
	var all []User
	_, err := readAll(ctx, src.Users, src.openUsers, func(u User) string {
		all = append(all, u)
		return ""
	})
	return all, err
}

func readAll[T any](ctx context.Context, path string, open func(*file) (rows[T], error), visit func(T) string) (*Report, error) {
	rep := &Report{}
	err := scan(path, open, rep, func(int64, int64) error { return ctx.Err() }, func(line int64, v T) *fault {
		if reason := visit(v); reason != "" {
			rep.drop(reason, 1, place(path, line)+": "+reason) // sound for all that, so that it is no fault
			return nil
		}
		rep.Kept++
		return nil
	})
	if errors.Is(err, errNoRows) {
		return rep, nil
	}
	return rep, err
}

// All returns the events of d as they may be read again, user by user, each in order
// of time.
func (d *Dataset) All() iter.Seq[Event] {
	return func(yield func(Event) bool) {
		for u, h := range d.Histories {
			for _, e := range h {
				kind, _ := parseKind(d.Types[e.Type].Name)
				if !yield(Event{User: d.Users[u].ID, Item: d.Items[e.Item].ID, Kind: kind, Value: e.Value, Time: e.Time}) {
					return
				}
			}
		}
	}
}

// WriteEvents writes events to path in the format jsonl and returns what the file is
// called elsewhere. It is on the disk when WriteEvents returns.
func WriteEvents(path string, events iter.Seq[Event]) (File, error) {
	return written(path, writeLines(path, events, func(e Event) any {
		j := jsonEvent{User: e.User, Item: e.Item, Kind: e.Kind.String(), Time: new(float64)}
		*j.Time = float64(e.Time)
		if e.Kind == Rating {
			value := float64(e.Value)
			j.Value = &value
		}
		return j
	}))
}

// WriteItems writes items to path in the format jsonl, as WriteEvents does events.
func WriteItems(path string, items []Item) (File, error) {
	return written(path, writeLines(path, slices.Values(items), func(it Item) any { return jsonItem(it) }))
}

// WriteUsers writes users to path in the format jsonl, as WriteEvents does events.
func WriteUsers(path string, users []User) (File, error) {
	return written(path, writeLines(path, slices.Values(users), func(u User) any { return jsonUser(u) }))
}

func written(path string, err error) (File, error) {
	if err != nil {
		return File{Name: filepath.Base(path)}, err
	}
	return describe(path)
}

// Describe returns what manifests know a file by: its name, size and digest.
func Describe(path string) (File, error) { return describe(path) }
