package data_test

import (
	"context"
	"errors"
	"maps"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"github.com/wisp-project/wisp/internal/data"
)

func simulator(t *testing.T, opts data.SimulateOptions) *data.Simulator {
	t.Helper()
	s, err := data.NewSimulator(opts)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// The committed data set is what the simulator makes, bit for bit.
func TestMadeGolden(t *testing.T) {
	golden := filepath.Join("..", "..", "testdata", "made")
	s := simulator(t, data.SimulateOptions{Users: 120, Items: 150, Events: 4000, Seed: 1})
	dir := filepath.Join(t.TempDir(), "made")
	if os.Getenv("UPDATE_GOLDEN") != "" {
		dir = golden
	}
	if err := s.WriteTo(t.Context(), dir, nil); err != nil {
		t.Fatal(err)
	}
	got, want := snapshot(t, dir), snapshot(t, golden)
	for name := range maps.Keys(got) {
		if got[name] != want[name] {
			t.Errorf("%s differs from testdata/made; if that is meant, run with UPDATE_GOLDEN=1", name)
		}
	}
}

func TestSimulatedEvents(t *testing.T) {
	for _, scenario := range []string{"shop", "video", "music"} {
		t.Run(scenario, func(t *testing.T) {
			s := simulator(t, data.SimulateOptions{Users: 500, Items: 400, Events: 30000, Categories: 12, Seed: 5, Scenario: scenario})
			events := slices.Collect(s.Events())
			if len(events) != 30000 || len(s.Items()) != 400 || len(s.Users()) != 500 {
				t.Fatalf("%d events, %d items, %d users", len(events), len(s.Items()), len(s.Users()))
			}
			if !slices.Equal(events, slices.Collect(s.Events())) {
				t.Error("the second run differs from the first")
			}
			kinds, first := map[data.Kind]int{}, map[string]int64{}
			per := map[string]int{}
			last := data.Event{}
			for _, e := range events {
				if e.User == last.User && e.Time <= last.Time {
					t.Fatalf("%v does not come after %v", e, last)
				}
				if e.Time < data.SimulateStart || e.Time >= data.SimulateEnd {
					t.Fatalf("%v is outside the time", e)
				}
				if (e.Kind == data.Rating) != (e.Value >= 1 && e.Value <= 5) {
					t.Fatalf("%v has a wrong value", e)
				}
				if at, ok := first[e.Item]; !ok || e.Time < at {
					first[e.Item] = e.Time
				}
				kinds[e.Kind]++
				per[e.Item]++
				last = e
			}
			if len(kinds) != 4 {
				t.Errorf("kinds %v, want all four", kinds)
			}
			cold := 0
			for _, at := range first {
				if at >= data.SimulateLaunch {
					cold++
				}
			}
			if cold < 10 {
				t.Errorf("%d items appear at the end only, want about 20", cold)
			}
			counts := slices.Sorted(maps.Values(per))
			if top, middle := counts[len(counts)-1], counts[len(counts)/2]; top < 3*middle {
				t.Errorf("the most popular item has %d events, the median one %d: no skew", top, middle)
			}
			it := s.Items()[0]
			if it.Title == "" || it.Text == "" || len(it.Categories) == 0 || len(it.Attributes) == 0 {
				t.Errorf("item %+v", it)
			}
		})
	}
}

func TestSeedsDiffer(t *testing.T) {
	a := slices.Collect(simulator(t, data.SimulateOptions{Users: 20, Seed: 1}).Events())
	b := slices.Collect(simulator(t, data.SimulateOptions{Users: 20, Seed: 2}).Events())
	if slices.Equal(a, b) {
		t.Error("two seeds give the same events")
	}
}

// Items that users like are rated higher: the truth has something to learn.
func TestRatingsFollowTaste(t *testing.T) {
	s := simulator(t, data.SimulateOptions{Users: 300, Events: 30000, Seed: 9, Drift: -1})
	category := map[string]string{}
	for _, it := range s.Items() {
		category[it.ID] = it.Categories[0]
	}
	counts := map[string]map[string]int{} // by user and category
	for e := range s.Events() {
		if counts[e.User] == nil {
			counts[e.User] = map[string]int{}
		}
		counts[e.User][category[e.Item]]++
	}
	var often, seldom, nOften, nSeldom float64
	for e := range s.Events() {
		if e.Kind != data.Rating {
			continue
		}
		if n := counts[e.User]; n[category[e.Item]] == slices.Max(slices.Collect(maps.Values(n))) {
			often, nOften = often+float64(e.Value), nOften+1
		} else {
			seldom, nSeldom = seldom+float64(e.Value), nSeldom+1
		}
	}
	if d := often/nOften - seldom/nSeldom; d < 0.5 {
		t.Errorf("ratings of the main category are %.2f higher, want at least 0.5", d)
	}
}

// The scores are the probabilities: summed over many users they give the counts
// of the items that came next. Without redraws this is exact.
func TestScoresAreTheTruth(t *testing.T) {
	const users = 12000
	s := simulator(t, data.SimulateOptions{Users: users, Items: 60, Events: 8 * users, Categories: 5, Seed: 11, Redraws: -1, Drift: 0.5})
	index := map[string]int{}
	for i, it := range s.Items() {
		index[it.ID] = i
	}
	cuts := []int{0, 2, 5} // events before the question
	for _, cut := range cuts {
		expected, got := make([]float64, 60), make([]float64, 60)
		variance := make([]float64, 60)
		scores := make([]float32, 60)
		user, n := "", 0
		after := int64(0)
		for e := range s.Events() {
			if e.User != user {
				user, n, after = e.User, 0, 0
			}
			if n == cut {
				if err := s.Scores(scores, e.User, after); err != nil {
					t.Fatal(err)
				}
				sum := 0.0
				for i, p := range scores {
					sum += float64(p)
					expected[i] += float64(p)
					variance[i] += float64(p) * (1 - float64(p))
				}
				if math.Abs(sum-1) > 1e-5 {
					t.Fatalf("probabilities of %s sum to %g", e.User, sum)
				}
				got[index[e.Item]]++
			}
			n++
			after = e.Time
		}
		for i := range got {
			if d := math.Abs(got[i] - expected[i]); d > 4.5*math.Sqrt(variance[i])+1 {
				t.Errorf("after %d events item %d came next %g times, expected %.1f", cut, i, got[i], expected[i])
			}
		}
	}
}

// The score of the item that came is, on average, the sum of the squares of all
// scores. That is measured apart for events within a session and for the first
// of a session, where a taste may have drifted.
func TestScoresAreCalibrated(t *testing.T) {
	const users = 4000
	s := simulator(t, data.SimulateOptions{Users: users, Items: 60, Events: 8 * users, Categories: 8, Seed: 12, Redraws: -1, Drift: 0.9})
	index := map[string]int{}
	for i, it := range s.Items() {
		index[it.ID] = i
	}
	var sum, variance [2]float64
	var n [2]int
	scores := make([]float32, 60)
	last := data.Event{}
	for e := range s.Events() {
		if e.User == last.User {
			where := 0
			if e.Time-last.Time > 7200 {
				where = 1
			}
			if err := s.Scores(scores, e.User, last.Time); err != nil {
				t.Fatal(err)
			}
			var squares, cubes float64
			for _, p := range scores {
				squares += float64(p) * float64(p)
				cubes += float64(p) * float64(p) * float64(p)
			}
			sum[where] += float64(scores[index[e.Item]]) - squares
			variance[where] += cubes - squares*squares
			n[where]++
		}
		last = e
	}
	for where, name := range []string{"within a session", "after a break"} {
		if z := sum[where] / math.Sqrt(variance[where]); n[where] < 1000 || math.Abs(z) > 4 {
			t.Errorf("%s: the scores are off by %.1f standard errors in %d events", name, z, n[where])
		} else {
			t.Logf("%s: %.2f standard errors in %d events", name, z, n[where])
		}
	}
}

func TestScoresRefuse(t *testing.T) {
	s := simulator(t, data.SimulateOptions{Users: 5})
	dst := make([]float32, len(s.Items()))
	for _, user := range []string{"", "u", "u0", "u1", "u000000", "u000006", "x000001", "u+00001"} {
		wantError(t, s.Scores(dst, user, 0), data.ErrUnknownUser)
	}
	wantError(t, s.Scores(dst[1:], "u000001", 0), data.ErrOptions)
	if err := s.Scores(dst, "u000001", data.SimulateEnd); err != nil {
		t.Errorf("after the last event: %v", err)
	}
}

func TestSimulatorOptions(t *testing.T) {
	tests := map[string]data.SimulateOptions{
		"scenario":   {Scenario: "zoo"},
		"users":      {Users: -1},
		"items":      {Items: -1},
		"categories": {Items: 10, Categories: 5},
		"few events": {Users: 10, Events: 10},
		"too many":   {Users: 1, Events: 20000},
		"follow":     {Follow: 2},
		"cold":       {Cold: math.NaN()},
	}
	for name, opts := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := data.NewSimulator(opts)
			wantError(t, err, data.ErrOptions)
		})
	}
}

func TestSimulatorWritesWhole(t *testing.T) {
	s := simulator(t, data.SimulateOptions{Users: 300, Events: 10000, Seed: 4, Follow: -1})
	parent := t.TempDir()
	dir := filepath.Join(parent, "made")
	if err := s.WriteTo(t.Context(), dir, nil); err != nil {
		t.Fatal(err)
	}
	before := snapshot(t, dir)
	if err := s.WriteTo(cancelled(t), dir, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want it cancelled", err)
	}
	if entries, err := os.ReadDir(parent); err != nil || len(entries) != 1 || !maps.Equal(before, snapshot(t, dir)) {
		t.Errorf("the folder changed; beside it lie %v, %v", entries, err)
	}
	again, err := data.OpenSimulator(dir)
	if err != nil {
		t.Fatal(err)
	}
	if again.Options() != s.Options() || !reflect.DeepEqual(again.Items(), s.Items()) {
		t.Error("the simulator that was opened differs from the one that wrote")
	}
	_, err = data.OpenSimulator(parent)
	wantError(t, err, data.ErrOptions, "truth.json")
	foreign := filepath.Dir(put(t, "truth.json", "{}"))
	wantError(t, s.WriteTo(t.Context(), foreign, nil), data.ErrExists)

	m, d := prepare(t, simulated(dir), data.PrepareOptions{})
	if m.Events != 10000 || len(m.EventReport.Dropped) > 0 {
		t.Errorf("report %+v", m.EventReport)
	}
	if d.Users[0].Description == "" || d.Items[0].Text == "" {
		t.Errorf("no words for %+v, %+v", d.Users[0], d.Items[0])
	}
}
