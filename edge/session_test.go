package edge_test

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"reflect"
	"slices"
	"sync"
	"testing"

	"github.com/wisp-project/wisp/edge"
	"github.com/wisp-project/wisp/internal/layout"
	"github.com/wisp-project/wisp/internal/layout/layouttest"
)

// one is a model whose answers depend on no more than the window.
var one = layout.Shape{Items: 40, Dim: 12, Layers: 1, Heads: 2, FFN: 9, Window: 6, EventTypes: 3, GapBuckets: 24}

// TestSession compares a session, and one that travels with its requests, with
// requests for the whole history: in steps of every length, past three windows,
// with events that come late, with unknown items, saved and resumed on the way.
func TestSession(t *testing.T) {
	described := layouttest.TextShapes()[1]
	for i, s := range []layout.Shape{mid, one, described} {
		a, q := build(t, s)
		r := start(t, a, edge.Options{Isolation: []edge.Isolation{edge.Shared, edge.Wiped, edge.Fresh}[i], AllowUnsigned: true})
		for seed := range uint64(6) {
			rng := rand.New(rand.NewPCG(seed, 7))
			session, err := r.NewSession()
			if err != nil {
				t.Fatal(err)
			}
			var history []edge.Event
			var carried []byte
			total := 3*s.Window + q.Map().MaxHistory
			all, _ := randomHistory(rng, s, total)
			for step := 0; len(history) < total; step++ {
				n := min([]int{0, 1, 1, 1, 2, 5, s.Window, q.Map().MaxHistory + 2}[rng.IntN(8)], total-len(history))
				fresh := slices.Clone(all[len(history):][:n])
				if n > 0 && seed%2 == 1 && rng.IntN(3) == 0 && len(history) > 0 { // an event comes late
					fresh[0].Time = history[max(0, len(history)-1-rng.IntN(2*s.Window))].Time + int64(rng.IntN(2))
				}
				if rng.IntN(5) == 0 {
					fresh = append(fresh, edge.Event{Item: "nowhere", Time: 2e9})
				}
				history = append(history, fresh...)
				total += len(fresh) - n
				all = slices.Insert(all, len(history)-len(fresh)+n, fresh[n:]...)
				request := edge.Request{K: 12, IncludeSeen: step%2 == 0, Exclude: []string{id(3)}, Explain: step%4 == 1}
				if s.Text.UserMap && step%3 != 1 {
					request.Description = layouttest.Text(rng)
				}
				whole := request
				whole.History = history
				want, err := r.Recommend(t.Context(), whole)
				if err != nil {
					t.Fatal(err)
				}
				request.History = fresh
				travels := request
				travels.Session, travels.KeepSession = carried, true
				compare := func(name string, got edge.Response, err error) {
					t.Helper()
					if err != nil {
						t.Fatalf("shape %d, seed %d, step %d, %s: %v", i, seed, step, name, err)
					}
					got.Session, got.Unknown, want.Unknown = nil, nil, nil
					if !reflect.DeepEqual(got, want) {
						t.Fatalf("shape %d, seed %d, step %d: %s answers %+v after %d of %d events, the whole history %+v", i, seed, step, name, got, len(fresh), len(history), want)
					}
				}
				got, err := r.Recommend(t.Context(), travels)
				compare("the travelling session", got, err)
				carried = got.Session
				if step%5 == 2 { // the events come without a request for items
					unknown, err := session.Append(fresh...)
					if known := n == len(fresh); err != nil || known != (len(unknown) == 0) {
						t.Fatalf("%v, unknown %q", err, unknown)
					}
					request.History = nil
				}
				got, err = session.Recommend(t.Context(), request)
				compare("the session", got, err)
				items := []string{id(0), id(s.Items - 1)}
				scores, err := session.Score(t.Context(), edge.ScoreRequest{Items: items, Description: request.Description})
				if err != nil {
					t.Fatal(err)
				}
				if same, err := r.Score(t.Context(), edge.ScoreRequest{History: history, Items: items, Description: request.Description}); err != nil || !slices.Equal(scores, same) {
					t.Fatalf("scores %v, want %v (%v)", scores, same, err)
				}
				if step%4 == 3 {
					saved, err := session.Save()
					if err != nil {
						t.Fatal(err)
					}
					session.Close()
					if session, err = r.ResumeSession(saved); err != nil {
						t.Fatal(err)
					}
				}
			}
			session.Close()
		}
	}
}

// TestSessionsAreBounded counts sessions, and uses closed ones.
func TestSessionsAreBounded(t *testing.T) {
	a, _ := build(t, one)
	r := start(t, a, edge.Options{Sessions: 2, AllowUnsigned: true})
	first, err := r.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	saved, err := first.Save()
	if err != nil {
		t.Fatal(err)
	}
	second, err := r.ResumeSession(saved)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.NewSession(); !errors.Is(err, edge.ErrSessions) {
		t.Errorf("a third session: %v", err)
	}
	first.Close()
	first.Close()
	if third, err := r.NewSession(); err != nil {
		t.Error(err)
	} else {
		third.Close()
	}
	if _, err := first.Append(edge.Event{Item: id(1)}); !errors.Is(err, edge.ErrClosed) {
		t.Errorf("append to a closed session: %v", err)
	}
	if _, err := first.Recommend(t.Context(), edge.Request{}); !errors.Is(err, edge.ErrClosed) {
		t.Errorf("a request of a closed session: %v", err)
	}
	if _, err := second.Append(edge.Event{Item: id(1), Time: -1}); !errors.Is(err, edge.ErrRequest) {
		t.Errorf("an impossible event: %v", err)
	}
	// A request that could not be answered loses no event.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	event := []edge.Event{{Item: id(1), Time: 5}}
	if _, err := second.Recommend(ctx, edge.Request{History: event}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	got, err := second.Recommend(t.Context(), edge.Request{})
	if err != nil {
		t.Fatal(err)
	}
	want, err := r.Recommend(t.Context(), edge.Request{History: event})
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v (%v)", got, want, err)
	}
	none := start(t, a, edge.Options{Sessions: -1, AllowUnsigned: true})
	if _, err := none.NewSession(); !errors.Is(err, edge.ErrSessions) {
		t.Errorf("a session where there are none: %v", err)
	}
	if _, err := none.Recommend(t.Context(), edge.Request{Session: saved}); err != nil {
		t.Errorf("a session that travels counts nowhere: %v", err)
	}
}

// TestDamagedSessions resumes what is no session, or somebody's own making: it is
// refused or answers something, and nothing else happens.
func TestDamagedSessions(t *testing.T) {
	a, _ := build(t, one)
	r := start(t, a, edge.Options{AllowUnsigned: true})
	rng := rand.New(rand.NewPCG(3, 4))
	history, _ := randomHistory(rng, one, 20)
	response, err := r.Recommend(t.Context(), edge.Request{History: history, KeepSession: true})
	if err != nil {
		t.Fatal(err)
	}
	saved := response.Session
	answered := 0
	try := func(b []byte) {
		t.Helper()
		_, err := r.Recommend(t.Context(), edge.Request{Session: b, History: history[:2], K: 3})
		if err == nil {
			answered++
		} else if !errors.Is(err, edge.ErrSession) {
			t.Fatalf("got %v", err)
		}
	}
	for n := 1; n < len(saved); n++ {
		try(saved[:n])
	}
	if answered > 0 {
		t.Errorf("%d shortened sessions were accepted", answered)
	}
	for bit := range 8 * len(saved) {
		b := bytes.Clone(saved)
		b[bit/8] ^= 1 << (bit % 8)
		try(b)
	}
	if answered == 0 || answered == 8*len(saved) {
		t.Errorf("%d of %d flips were accepted: the test sees nothing", answered, 8*len(saved))
	}
	b, _ := build(t, mid)
	b.Digest[0]++
	other := start(t, b, edge.Options{AllowUnsigned: true})
	if _, err := other.ResumeSession(saved); !errors.Is(err, edge.ErrSession) {
		t.Errorf("another artefact goes on with it: %v", err)
	}
}

// TestSessionsAtOnce has many users, and many requests of one of them, at once.
func TestSessionsAtOnce(t *testing.T) {
	a, _ := build(t, one)
	r := start(t, a, edge.Options{Sandboxes: 2, Queue: 100, Isolation: edge.Wiped, AllowUnsigned: true})
	shared, err := r.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for g := range 6 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(g), 5))
			history, _ := randomHistory(rng, one, 25)
			own, err := r.NewSession()
			if err != nil {
				t.Error(err)
				return
			}
			defer own.Close()
			for i := range history {
				got, err := own.Recommend(t.Context(), edge.Request{History: history[i : i+1], K: 5})
				if err != nil {
					t.Error(err)
					return
				}
				want, err := r.Recommend(t.Context(), edge.Request{History: history[:i+1], K: 5})
				if err != nil || !reflect.DeepEqual(got, want) {
					t.Errorf("user %d, event %d: %+v, want %+v (%v)", g, i, got, want, err)
					return
				}
				if _, err := shared.Recommend(t.Context(), edge.Request{History: history[i : i+1]}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	// However the events came, the order of their times decides.
	var all []edge.Event
	for g := range 6 {
		history, _ := randomHistory(rand.New(rand.NewPCG(uint64(g), 5)), one, 25)
		all = append(all, history...)
	}
	got, err := shared.Recommend(t.Context(), edge.Request{IncludeSeen: true})
	if err != nil {
		t.Fatal(err)
	}
	want, err := r.Recommend(t.Context(), edge.Request{History: all, IncludeSeen: true})
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v (%v)", got, want, err)
	}
}
