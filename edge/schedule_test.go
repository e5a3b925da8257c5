package edge_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/wisp-project/wisp/edge"
)

// waits until a share has that many requests that wait.
func waits(s edge.Schedule, name string, n int) {
	for {
		if _, waiting := s.Counts(name); waiting == n {
			return
		}
		runtime.Gosched()
	}
}

// TestTurns has one tenant send far more than the others before they come.
func TestTurns(t *testing.T) {
	s := edge.NewSchedule(1, 1000)
	for _, name := range []string{"flood", "one", "two"} {
		s.Share("", name, 1, 1000)
	}
	if err := s.Enter(t.Context(), "flood", nil); err != nil {
		t.Fatal(err)
	}
	var order []string // one writes at a time: there is one place
	var wg sync.WaitGroup
	send := func(name string, n int) {
		for i := range n {
			wg.Go(func() {
				if err := s.Enter(t.Context(), name, nil); err != nil {
					t.Error(err)
					return
				}
				order = append(order, name)
				s.Leave(name)
			})
			waits(s, name, i+1)
		}
	}
	send("flood", 20)
	send("one", 2)
	send("two", 1)
	s.Leave("flood")
	wg.Wait()
	want := []string{"flood", "one", "two", "flood", "one", "flood"}
	if !slices.Equal(order[:len(want)], want) || len(order) != 23 {
		t.Errorf("the turns were %v, want %v and the rest of the flood", order, want)
	}
	if working, waiting := s.Counts(""); working != 0 || waiting != 0 {
		t.Errorf("%d work and %d wait", working, waiting)
	}
}

// TestPlaces has a tenant that may use one of two places, with two models of which
// one is full.
func TestPlaces(t *testing.T) {
	s := edge.NewSchedule(3, 10)
	s.Share("", "small", 2, 2)
	s.Share("small", "a", 1, 1)
	s.Share("small", "b", 1, -1)
	s.Share("", "big", 9, 9)
	enter := func(name string) error {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		return s.Enter(ctx, name, nil)
	}
	for _, c := range []struct {
		name string
		want error
	}{
		{"a", nil},
		{"a", context.Canceled}, // it would have to wait
		{"b", nil},
		{"b", edge.ErrOverloaded}, // it may not
		{"big", nil},
		{"big", context.Canceled}, // all places are taken
	} {
		if err := enter(c.name); !errors.Is(err, c.want) {
			t.Fatalf("%s: error %v, want %v", c.name, err, c.want)
		}
	}
	// Behind a request that cannot have the free place another one gets it.
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := s.Enter(t.Context(), "a", nil); err != nil {
			t.Error(err)
		}
	})
	waits(s, "a", 1)
	s.Leave("b")
	if err := enter("b"); err != nil {
		t.Error(err)
	}
	if err := enter("a"); !errors.Is(err, edge.ErrOverloaded) {
		t.Errorf("the queue of a is full: error %v", err)
	}
	s.Leave("a")
	wg.Wait()
	closed := make(chan struct{})
	close(closed)
	if err := s.Enter(t.Context(), "a", closed); !errors.Is(err, edge.ErrClosed) {
		t.Errorf("a closed runtime: error %v", err)
	}
	for _, name := range []string{"a", "b", "big"} {
		if idle := s.Leave(name); !idle {
			t.Errorf("%s is not idle", name)
		}
	}
	if working, waiting := s.Counts(""); working != 0 || waiting != 0 {
		t.Errorf("%d work and %d wait", working, waiting)
	}
}

// TestScheduleHammer checks that no limit is ever exceeded, whatever comes and
// gives up, and that nobody is forgotten.
func TestScheduleHammer(t *testing.T) {
	s := edge.NewSchedule(4, 30)
	limits := map[string]int64{"x": 2, "y": 3, "x1": 1, "x2": 2, "y1": 3}
	s.Share("", "x", 2, 10)
	s.Share("", "y", 3, 20)
	s.Share("x", "x1", 1, 10)
	s.Share("x", "x2", 2, 10)
	s.Share("y", "y1", 3, 20)
	working := map[string]*atomic.Int64{"": {}}
	limits[""] = 4
	for name := range limits {
		working[name] = &atomic.Int64{}
	}
	var served atomic.Int64
	var wg sync.WaitGroup
	for g := range uint64(24) {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(g, 3))
			leaf := []string{"x1", "x2", "y1"}[rng.IntN(3)]
			chain := []string{leaf, leaf[:1], ""}
			for range 400 {
				ctx, cancel := context.WithCancel(t.Context())
				if rng.IntN(3) == 0 {
					go cancel()
				}
				err := s.Enter(ctx, leaf, nil)
				cancel()
				if err != nil {
					if !errors.Is(err, context.Canceled) && !errors.Is(err, edge.ErrOverloaded) {
						t.Error(err)
					}
					continue
				}
				served.Add(1)
				for _, name := range chain {
					if n := working[name].Add(1); n > limits[name] {
						t.Errorf("%d work in %q, %d may", n, name, limits[name])
					}
				}
				for range rng.IntN(50) {
					runtime.Gosched()
				}
				for _, name := range chain {
					working[name].Add(-1)
				}
				s.Leave(leaf)
			}
		})
	}
	wg.Wait()
	for name := range limits {
		if working, waiting := s.Counts(name); working != 0 || waiting != 0 {
			t.Errorf("%q: %d work and %d wait", name, working, waiting)
		}
	}
	if served.Load() < 500 {
		t.Errorf("only %d were served", served.Load())
	}
}
