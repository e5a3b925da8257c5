package data_test

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"github.com/wisp-project/wisp/internal/data"
)

// Events, items and users that are written come back as they were, out of a prepared
// data set too.
func TestExchange(t *testing.T) {
	dir := t.TempDir()
	events := []data.Event{
		{User: "u\"1", Item: "a", Kind: data.Click, Time: 1672531200},
		{User: "u\"1", Item: "b", Kind: data.Rating, Value: 3.3, Time: 1672531260},
		{User: "ü2", Item: "a", Kind: data.Favourite, Time: data.MaxTime - 1},
	}
	items := []data.Item{{ID: "a", Title: "A <b>", Text: "words", Categories: []string{"x", "y"}, Attributes: map[string]string{"brand": "Z"}}, {ID: "b"}}
	users := []data.User{{ID: "u\"1", Description: "d"}, {ID: "ü2"}}
	src := data.Source{Format: "jsonl", Events: filepath.Join(dir, "e"), Items: filepath.Join(dir, "i"), Users: filepath.Join(dir, "u")}
	f, err := data.WriteEvents(src.Events, slices.Values(events))
	if err != nil {
		t.Fatal(err)
	}
	if want, err := data.Describe(src.Events); err != nil || f != want || f.Name != "e" {
		t.Errorf("described as %+v, is %+v (%v)", f, want, err)
	}
	if _, err := data.WriteItems(src.Items, items); err != nil {
		t.Fatal(err)
	}
	if _, err := data.WriteUsers(src.Users, users); err != nil {
		t.Fatal(err)
	}
	var got []data.Event
	rep, err := data.ReadEvents(t.Context(), src, func(e data.Event) string {
		if e.Kind == data.Favourite {
			return "not wanted"
		}
		got = append(got, e)
		return ""
	})
	if err != nil || !slices.Equal(got, events[:2]) {
		t.Errorf("read %+v (%v)", got, err)
	}
	if rep.Rows != 3 || rep.Kept != 2 || rep.Count("not wanted") != 1 {
		t.Errorf("the report says %v", rep)
	}
	if back, err := data.ReadItems(t.Context(), src); err != nil || !reflect.DeepEqual(back, items) {
		t.Errorf("read %+v (%v)", back, err)
	}
	if back, err := data.ReadUsers(t.Context(), src); err != nil || !reflect.DeepEqual(back, users) {
		t.Errorf("read %+v (%v)", back, err)
	}

	out := filepath.Join(dir, "prepared")
	if _, err := data.Prepare(t.Context(), src, data.PrepareOptions{}, out, nil); err != nil {
		t.Fatal(err)
	}
	ds, err := data.Load(out)
	if err != nil {
		t.Fatal(err)
	}
	if back := slices.Collect(ds.All()); !slices.Equal(back, events) {
		t.Errorf("the prepared data has %+v", back)
	}
}

// A file with a header alone is one without events, not an error.
func TestReadEventsOfNone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "e.csv")
	if err := os.WriteFile(path, []byte("user,item,time\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	rep, err := data.ReadEvents(t.Context(), data.Source{Format: "csv", Events: path}, func(data.Event) string { return "" })
	if err != nil || rep.Rows != 0 {
		t.Errorf("%v (%v)", rep, err)
	}
}
