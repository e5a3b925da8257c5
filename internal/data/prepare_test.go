package data_test

import (
	"context"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/wisp-project/wisp/internal/data"
)

// made simulates a small data set and returns it as a source.
func made(t *testing.T) data.Source {
	t.Helper()
	s, err := data.NewSimulator(data.SimulateOptions{Users: 60, Items: 100, Events: 2000, Seed: 3})
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "made")
	if err := s.WriteTo(t.Context(), dir, nil); err != nil {
		t.Fatal(err)
	}
	return simulated(dir)
}

func simulated(dir string) data.Source {
	return data.Source{
		Format: "jsonl",
		Events: filepath.Join(dir, "events.jsonl"), Items: filepath.Join(dir, "items.jsonl"), Users: filepath.Join(dir, "users.jsonl"),
	}
}

// The outcome does not depend on how the work was divided, and indices follow
// the first appearance in the file.
func TestPrepareIsDeterministic(t *testing.T) {
	src := made(t)
	var first map[string]string
	for _, parts := range []int{1, 7, 64} {
		out := filepath.Join(t.TempDir(), "out")
		if _, err := data.Prepare(t.Context(), src, data.PrepareOptions{Core: 3, Partitions: parts}, out, nil); err != nil {
			t.Fatal(err)
		}
		files := snapshot(t, out)
		delete(files, "manifest.json") // examples come in the order of the parts
		if first == nil {
			first = files
		} else if !maps.Equal(files, first) {
			t.Errorf("%d partitions give other files than 1", parts)
		}
	}
}

func TestOrderOfIndices(t *testing.T) {
	_, d := prepare(t, data.Source{Format: "double-colon", Events: put(t, "e", "late::z::5::900\nearly::y::5::100\nlate::y::5::50\nearly::x::5::1\n")}, data.PrepareOptions{})
	if d.Users[0].ID != "late" || d.Users[1].ID != "early" || d.Items[0].ID != "z" || d.Items[1].ID != "y" || d.Items[2].ID != "x" {
		t.Errorf("users %v, items %v", d.Users, d.Items)
	}
	if h := d.Histories[0]; h[0].Item != 1 || h[1].Item != 0 {
		t.Errorf("history %v", h)
	}
}

func TestManifest(t *testing.T) {
	src := made(t)
	out := filepath.Join(t.TempDir(), "name")
	var stages []string
	m, err := data.Prepare(t.Context(), src, data.PrepareOptions{}, out, func(stage string, _, _ int64) {
		if !slices.Contains(stages, stage) {
			stages = append(stages, stage)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	got, err := data.ReadManifest(out)
	if err != nil || !reflect.DeepEqual(got, m) {
		t.Errorf("manifest read %+v, %v; written %+v", got, err, m)
	}
	if m.Name != "name" || m.Events != 2000 || m.EventReport.Rows != 2000 || len(m.Sources) != 3 || len(m.Files) != 3 || m.From < data.SimulateStart || m.To > data.SimulateEnd {
		t.Errorf("manifest %+v", m)
	}
	for _, want := range []string{"read", "clean", "sort", "write", "items", "users"} {
		if !slices.Contains(stages, want) {
			t.Errorf("no progress in stage %q of %q", want, stages)
		}
	}
	if files := snapshot(t, out); len(files) != 4 {
		t.Errorf("%d files, want 4", len(files))
	}
}

func TestStreamEqualsLoad(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	if _, err := data.Prepare(t.Context(), made(t), data.PrepareOptions{}, out, nil); err != nil {
		t.Fatal(err)
	}
	d, err := data.Load(out)
	if err != nil {
		t.Fatal(err)
	}
	users := 0
	for h, err := range data.Stream(out) {
		if err != nil {
			t.Fatal(err)
		}
		if int(h.User) != users || !slices.Equal(h.Events, d.Histories[h.User]) {
			t.Fatalf("user %d streams otherwise than it loads", h.User)
		}
		users++
	}
	if users != len(d.Users) || users != 60 {
		t.Errorf("%d users streamed of %d", users, len(d.Users))
	}
	for _, err := range data.Stream(out) {
		if err != nil {
			t.Error(err)
		}
		break // stopping early must not call the body again
	}
	h := d.Histories[0]
	next := d.Histories[1][0]
	_ = append(h, data.Interaction{Item: -1})
	if d.Histories[1][0] != next {
		t.Error("appending to a history changed the next one")
	}
}

// Whatever goes wrong, the data set that was there stays whole and nothing
// else is left behind.
func TestPreparedIsReplacedWhole(t *testing.T) {
	src := made(t)
	parent := t.TempDir()
	out := filepath.Join(parent, "out")
	if _, err := data.Prepare(t.Context(), src, data.PrepareOptions{}, out, nil); err != nil {
		t.Fatal(err)
	}
	before := snapshot(t, out)
	check := func(t *testing.T) {
		t.Helper()
		if !maps.Equal(snapshot(t, out), before) {
			t.Error("the previous data set changed")
		}
		if entries, err := os.ReadDir(parent); err != nil || len(entries) != 1 {
			t.Errorf("left behind: %v, %v", entries, err)
		}
	}
	t.Run("cancelled before", func(t *testing.T) {
		_, err := data.Prepare(cancelled(t), src, data.PrepareOptions{}, out, nil)
		wantError(t, err, context.Canceled)
		check(t)
	})
	for _, stage := range []string{"clean", "sort", "write", "items", "users"} {
		t.Run("cancelled in "+stage, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			_, err := data.Prepare(ctx, src, data.PrepareOptions{}, out, func(s string, _, _ int64) {
				if s == stage {
					cancel()
				}
			})
			wantError(t, err, context.Canceled)
			check(t)
		})
	}
	t.Run("nothing left", func(t *testing.T) {
		_, err := data.Prepare(t.Context(), src, data.PrepareOptions{Core: 5000}, out, nil)
		wantError(t, err, data.ErrEmpty, "outside the k-core", "2000")
		check(t)
	})
	t.Run("broken item file", func(t *testing.T) {
		bad := src
		bad.Items = put(t, "items.jsonl", "[]\n")
		_, err := data.Prepare(t.Context(), bad, data.PrepareOptions{}, out, nil)
		wantError(t, err, data.ErrSource, "items.jsonl:1")
		check(t)
	})
	t.Run("replaced", func(t *testing.T) {
		if _, err := data.Prepare(t.Context(), src, data.PrepareOptions{Name: "again"}, out, nil); err != nil {
			t.Fatal(err)
		}
		if m, err := data.ReadManifest(out); err != nil || m.Name != "again" {
			t.Errorf("manifest %+v, %v", m, err)
		}
		if entries, err := os.ReadDir(parent); err != nil || len(entries) != 1 {
			t.Errorf("left behind: %v, %v", entries, err)
		}
	})
}

func TestForeignFoldersAreLeftAlone(t *testing.T) {
	src := made(t)
	holiday := t.TempDir()
	if err := os.WriteFile(filepath.Join(holiday, "photo"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := data.Prepare(t.Context(), src, data.PrepareOptions{}, holiday, nil)
	wantError(t, err, data.ErrExists, holiday)
	_, err = data.Prepare(t.Context(), src, data.PrepareOptions{}, filepath.Join(holiday, "photo"), nil)
	wantError(t, err, data.ErrExists, "photo")
	if got := snapshot(t, holiday); !maps.Equal(got, map[string]string{"photo": "x"}) {
		t.Errorf("folder holds %v", got)
	}
	if _, err := data.Prepare(t.Context(), src, data.PrepareOptions{}, t.TempDir(), nil); err != nil {
		t.Errorf("an empty folder was refused: %v", err)
	}
}

func TestDamage(t *testing.T) {
	sound := filepath.Join(t.TempDir(), "out")
	if _, err := data.Prepare(t.Context(), made(t), data.PrepareOptions{}, sound, nil); err != nil {
		t.Fatal(err)
	}
	files := snapshot(t, sound)
	edit := func(f func(m map[string]any)) func(string) string {
		return func(s string) string {
			m := map[string]any{}
			if err := json.Unmarshal([]byte(s), &m); err != nil {
				t.Fatal(err)
			}
			f(m)
			b, err := json.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			return string(b)
		}
	}
	set := func(key string, v any) func(string) string { return edit(func(m map[string]any) { m[key] = v }) }
	flip := func(s string) string { return s[:len(s)/2] + string(s[len(s)/2]^1) + s[len(s)/2+1:] }
	tests := []struct {
		name, file string
		change     func(string) string
		words      []string
	}{
		{"events flipped", "events.parquet", flip, []string{"events.parquet", "damaged"}},
		{"items flipped", "items.parquet", flip, []string{"items.parquet", "damaged"}},
		{"users cut", "users.parquet", func(s string) string { return s[:len(s)-1] }, []string{"users.parquet", "damaged"}},
		{"manifest cut", "manifest.json", func(s string) string { return s[:len(s)/2] }, []string{"manifest.json"}},
		{"manifest of something else", "manifest.json", set("format", "x"), []string{"manifest.json"}},
		{"version", "manifest.json", set("version", 99), []string{"version 99"}},
		{"negative", "manifest.json", set("events", -1), []string{"impossible"}},
		{"no types", "manifest.json", set("types", nil), []string{"impossible"}},
		{"fewer types", "manifest.json", set("types", []any{map[string]any{"Name": "browse"}}), []string{"events.parquet", "event type"}},
		{"more events", "manifest.json", set("events", 2001), []string{"events.parquet", "2001"}},
		{"fewer items", "manifest.json", edit(func(m map[string]any) {
			m["coldItems"] = m["coldItems"].(float64) + m["items"].(float64) - 2
			m["items"] = 2
		}), []string{"events.parquet", "item"}},
		{"more users", "manifest.json", set("users", 61), []string{"users.parquet", "61"}},
		{"unlisted", "manifest.json", set("files", nil), []string{"does not list"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, s := range files {
				if name == tt.file {
					s = tt.change(s)
				}
				if err := os.WriteFile(filepath.Join(dir, name), []byte(s), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			_, err := data.Load(dir)
			wantError(t, err, data.ErrPrepared, tt.words...)
		})
	}
	t.Run("missing", func(t *testing.T) {
		_, err := data.Load(t.TempDir())
		wantError(t, err, data.ErrPrepared, "manifest.json")
		for _, err := range data.Stream(t.TempDir()) {
			wantError(t, err, data.ErrPrepared, "manifest.json")
		}
	})
}

// Known counts of real data.
func TestRealData(t *testing.T) {
	shared := filepath.Join("..", "..", "..", "shared", "data")
	tests := []struct {
		name                 string
		src                  data.Source
		core                 int
		users, items, events int
		title                string // of some item
	}{
		{
			"movietweetings",
			data.Source{Format: "double-colon", Events: "movietweetings/ratings.dat", Items: "movietweetings/movies.dat"},
			5, 3641, 2014, 52245, "Le fabuleux destin d'Amélie Poulain (2001)",
		},
		{
			"ml-100k",
			data.Source{Format: "recbole", Events: "ml-100k/ml-100k.inter", Items: "ml-100k/ml-100k.item", Users: "ml-100k/ml-100k.user"},
			0, 943, 1682, 100000, "Toy Story",
		},
		{
			"ml-latest-small",
			data.Source{Format: "csv", Events: "ml-latest-small/ratings.csv", Items: "ml-latest-small/movies.csv", Mapping: data.Mapping{
				User: "userId", Item: "movieId", Value: "rating", Time: "timestamp", ID: "movieId", Categories: "genres",
			}},
			0, 671, 9066, 100004, "Toy Story (1995)",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, p := range []*string{&tt.src.Events, &tt.src.Items, &tt.src.Users} {
				if *p == "" {
					continue
				}
				if *p = filepath.Join(shared, *p); !exists(*p) {
					t.Skipf("%s is not there", *p)
				}
			}
			m, d := prepare(t, tt.src, data.PrepareOptions{Core: tt.core})
			if m.Users != tt.users || m.Items != tt.items || int(m.Events) != tt.events || d.Events() != tt.events {
				t.Errorf("%d users, %d items, %d events, want %d, %d, %d; %s", m.Users, m.Items, m.Events, tt.users, tt.items, tt.events, m.EventReport.String())
			}
			if tt.core == 0 && len(m.EventReport.Dropped) > 0 {
				t.Errorf("dropped %+v", m.EventReport.Dropped)
			}
			if !slices.ContainsFunc(d.Items, func(it data.Item) bool { return it.Title == tt.title && len(it.Categories) > 0 }) {
				t.Errorf("no item %q with categories", tt.title)
			}
			t.Logf("%d cold; %s; items: %s", m.ColdItems, m.EventReport.String(), strings.TrimSpace(m.ItemReport.String()))
		})
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
