package data_test

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/wisp-project/wisp/internal/data"
)

// stored returns a made data set in memory and on disk.
func stored(t *testing.T) (*data.Dataset, *data.Stored, string) {
	t.Helper()
	source, dir := t.TempDir(), filepath.Join(t.TempDir(), "prepared")
	sim, err := data.NewSimulator(data.SimulateOptions{Users: 60, Items: 80, Events: 900, Seed: 3})
	if err != nil {
		t.Fatal(err)
	}
	if err := sim.WriteTo(t.Context(), source, nil); err != nil {
		t.Fatal(err)
	}
	src := data.Source{Format: "jsonl", Events: filepath.Join(source, "events.jsonl"), Items: filepath.Join(source, "items.jsonl")}
	if _, err := data.Prepare(t.Context(), src, data.PrepareOptions{}, dir, nil); err != nil {
		t.Fatal(err)
	}
	ds, err := data.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	s, err := data.Store(dir, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return ds, s, dir
}

func TestStored(t *testing.T) {
	ds, s, dir := stored(t)
	if s.Users() != len(ds.Users) {
		t.Fatalf("%d users, want %d", s.Users(), len(ds.Users))
	}
	for u, h := range ds.Histories {
		for _, c := range []struct{ lo, hi int }{{0, len(h)}, {len(h) / 2, len(h)}, {1, 1}} {
			got, err := s.Read(nil, u, c.lo, c.hi)
			if err != nil {
				t.Fatal(err)
			}
			if s.Len(u) != len(h) || len(got) != c.hi-c.lo || len(got) > 0 && !reflect.DeepEqual(got, h[c.lo:c.hi]) {
				t.Fatalf("events %d to %d of user %d: %v, want %v", c.lo, c.hi, u, got, h[c.lo:c.hi])
			}
		}
	}
	for _, share := range []float64{0, 0.1, 0.5, 0.8, 0.9, 1} {
		got, err := s.Quantile(share)
		if want := ds.Quantile(share); err != nil || got != want {
			t.Errorf("quantile %v is %d (%v), want %d", share, got, err, want)
		}
	}
	events, err := filepath.Glob(filepath.Join(dir, "events*"))
	if err != nil || len(events) != 1 {
		t.Fatal(events, err)
	}
	if err := os.Truncate(events[0], 100); err != nil {
		t.Fatal(err)
	}
	scratch := t.TempDir()
	if s, err := data.Store(dir, scratch); err == nil {
		t.Errorf("a damaged data set gives %d users", s.Users())
	}
	if left, err := os.ReadDir(scratch); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v (%v)", left, err)
	}
}

// TestStoredSplits compares the splits with those of a data set in memory.
func TestStoredSplits(t *testing.T) {
	ds, s, _ := stored(t)
	from, to := ds.Quantile(0.8), ds.Quantile(0.9)
	byTime, err := s.ByTime(from, to, false)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		want *data.Split
		got  *data.StoredSplit
	}{{data.LeaveOneOut(ds, 5), s.LeaveOneOut(5, false)}, {data.ByTime(ds, from, to), byTime}} {
		if c.got.Protocol != c.want.Protocol || len(c.got.Valid) != len(c.want.Valid) || len(c.want.Valid) == 0 {
			t.Fatalf("%s: %d questions, want %d of %s", c.got.Protocol, len(c.got.Valid), len(c.want.Valid), c.want.Protocol)
		}
		for u, n := range c.got.Train {
			if int(n) != len(c.want.Train[u]) {
				t.Errorf("%s: %d events of user %d train, want %d", c.got.Protocol, n, u, len(c.want.Train[u]))
			}
		}
		for i, q := range c.got.Valid {
			if w := c.want.Valid[i]; q.User != w.User || int(q.Target) != len(w.History) {
				t.Errorf("%s: question %d is %+v, want event %d of user %d", c.got.Protocol, i, q, len(w.History), w.User)
			}
		}
	}
	again, err := s.ByTime(from, to, true)
	if err != nil || len(again.Valid) > 0 {
		t.Fatal(len(again.Valid), err)
	}
	loo, more := s.LeaveOneOut(5, false), s.LeaveOneOut(5, true)
	for _, q := range loo.Valid {
		if more.Train[q.User] != q.Target+1 {
			t.Errorf("%d events of user %d train again, want %d", more.Train[q.User], q.User, q.Target+1)
		}
	}
}
