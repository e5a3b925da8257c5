package edge_test

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wisp-project/wisp/artifact"
	"github.com/wisp-project/wisp/edge"
	"github.com/wisp-project/wisp/internal/layout"
)

// ofTenant stores an artefact of a tenant, and returns its path.
func ofTenant(t testing.TB, a *artifact.Artifact, tenant string) string {
	t.Helper()
	b := *a
	b.Manifest.Tenant = tenant
	return save(t, &b, key(1))
}

// TestNeighbours has a tenant whose kernels do what they can to disturb another
// one, and far more requests than there are places. The other's answers stay what
// they were, bit for bit, none is refused, and nothing that the bad ones answer is
// the other's.
func TestNeighbours(t *testing.T) {
	good, _ := build(t, mid)
	o := hosts("")
	o.Sandboxes = 2
	o.Queue = 50
	o.Tenants = map[string]edge.TenantLimits{"bad": {Sandboxes: 1, Queue: 30, Timeout: 100 * time.Millisecond, MaxAnswer: 4096}}
	h := newHost(t, o)
	m := opens(t, h, "good", ofTenant(t, good, "good"))
	rng := rand.New(rand.NewPCG(21, 22))
	type job struct {
		q    edge.Request
		want []edge.Recommendation
	}
	var jobs []job
	for i := range 12 {
		events, _ := randomHistory(rng, mid, 4*i)
		q := edge.Request{History: events, K: 20}
		got, err := m.Recommend(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		jobs = append(jobs, job{q, got.Items})
	}
	var bad []*edge.Model
	for name, behaviour := range map[string]func(m layout.Map) []byte{
		"traps": func(layout.Map) []byte { return []byte{unreachable} },
		"loops": func(layout.Map) []byte { return []byte{loop, void, br, 0, end} },
		"calls": func(layout.Map) []byte { return []byte{call, 0, drop} },
		"grows": func(layout.Map) []byte { return slices.Concat(word(1), memoryGrow, []byte{drop}) },
		"everywhere": func(m layout.Map) []byte { // fills all of its memory with ones, the image too
			return slices.Concat([]byte{loop, void, localGet, 0}, word(1), []byte{0x36, 2, 0, localGet, 0}, word(4), []byte{i32Add, localTee, 0},
				memorySize, word(16), []byte{i32Shl, i32LtU, brIf, 0, end})
		},
		"garbage":      func(m layout.Map) []byte { return says(m, 1, 0xffffffff, word(0), float(0)) },
		"another's":    func(m layout.Map) []byte { return says(m, 1, uint32(mid.Items)-1, word(0), float(12345)) }, // an item of its own, which is all it can name
		"answers more": func(m layout.Map) []byte { return says(m, 1_000_000, 0, word(0), float(0)) },
	} {
		a := foreign(t, func(m layout.Map) []byte {
			return module(2, slices.Concat(says(m, 1, 0, word(0), float(0)), when(asked(m), word(7), behaviour(m)...), word(0), []byte{end})...)
		})
		a.Manifest.Name = name
		bad = append(bad, opens(t, h, strings.ReplaceAll(strings.ReplaceAll(name, "'", ""), " ", "-"), ofTenant(t, a, "bad")))
	}

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var failed, refused atomic.Int64
	var flood sync.WaitGroup
	for i := range 40 {
		flood.Go(func() {
			for ctx.Err() == nil {
				_, err := bad[i%len(bad)].Recommend(ctx, edge.Request{K: 7})
				switch {
				case errors.Is(err, edge.ErrOverloaded):
					refused.Add(1)
					time.Sleep(time.Millisecond) // a client that backs off a little
				case err != nil:
					failed.Add(1)
				}
			}
		})
	}
	// As many requests as it takes the flood to become one: a machine may be slow to start it.
	raging := func() bool { return failed.Load() >= 10 && refused.Load() >= 5 }
	for i, began := 0, time.Now(); i < 300 || !raging() && time.Since(began) < 30*time.Second; i++ {
		j := jobs[i%len(jobs)]
		got, err := m.Recommend(t.Context(), j.q)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got.Items, j.want) {
			t.Fatalf("request %d: %v, want %v", i, got.Items, j.want)
		}
	}
	stop()
	flood.Wait()
	if !raging() {
		t.Errorf("of the flood %d failed and %d were refused: it was none", failed.Load(), refused.Load())
	}
	if s := m.Stats(); s.Replaced != 0 || s.Stats.Replaced != (edge.Replaced{}) || s.Failed != 0 || s.Refused != 0 {
		t.Errorf("the good one noticed: %+v", s.Stats.Replaced)
	}
	for _, b := range bad {
		if s := b.Stats(); s.InProgress != 0 || s.Waiting != 0 {
			t.Errorf("%s: %d are in progress, %d wait", b.Name(), s.InProgress, s.Waiting)
		}
	}
}

// TestTenantLimits opens artefacts of tenants that may not have as much.
func TestTenantLimits(t *testing.T) {
	a, q := build(t, mid)
	end := int64(q.Map().End)
	image := int64(0)
	for _, s := range a.Segments {
		image += int64(len(s.Data))
	}
	one := end // with one sandbox
	o := hosts("")
	o.Sandboxes = 1
	o.Tenants = map[string]edge.TenantLimits{
		"poor":  {Memory: one - 1},
		"even":  {Memory: one},
		"two":   {Memory: 2 * one},
		"brief": {MaxAnswer: 100, Timeout: time.Nanosecond},
		"keyed": {Keys: []ed25519.PublicKey{public(key(2))}},
		"own":   {Keys: []ed25519.PublicKey{public(key(2)), public(key(1))}},
	}
	h := newHost(t, o)
	path := map[string]string{}
	for tenant := range o.Tenants {
		path[tenant] = ofTenant(t, a, tenant)
	}
	refused := func(name, tenant string, want error, text string) {
		t.Helper()
		if _, err := h.Open(t.Context(), name, path[tenant]); !errors.Is(err, want) || !strings.Contains(fmt.Sprint(err), text) {
			t.Errorf("%s: error %v, want %v that says %q", tenant, err, want, text)
		}
	}
	refused("a", "poor", edge.ErrLimit, fmt.Sprintf("may have %d bytes", one-1))
	refused("a", "keyed", artifact.ErrUntrusted, "may not sign for tenant")
	opens(t, h, "own", path["own"])
	m := opens(t, h, "even", path["even"])
	// There is no room for a second, nor for two versions at once.
	refused("b", "even", edge.ErrLimit, "allow more")
	a.Manifest.Version++
	if _, err := m.Replace(t.Context(), ofTenant(t, a, "even")); !errors.Is(err, edge.ErrLimit) {
		t.Errorf("replacement: error %v, want ErrLimit", err)
	}
	if err := m.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	opens(t, h, "b", path["even"])
	two := opens(t, h, "two", path["two"])
	for range 3 { // what was replaced makes room
		a.Manifest.Version++
		if _, err := two.Replace(t.Context(), ofTenant(t, a, "two")); err != nil {
			t.Errorf("replacement: %v", err)
		}
	}
	// The goldens of an artefact are its own, but its requests are bounded.
	if _, err := h.Open(t.Context(), "brief", path["brief"]); !errors.Is(err, edge.ErrTimeout) {
		t.Errorf("a nanosecond: error %v, want ErrTimeout", err)
	}
	o.Tenants["brief"] = edge.TenantLimits{MaxAnswer: layout.AnswerHeaderLen + 7*12}
	brief := opens(t, newHost(t, o), "brief", path["brief"])
	if _, err := brief.Recommend(t.Context(), edge.Request{K: 7}); err != nil {
		t.Error(err)
	}
	if _, err := brief.Recommend(t.Context(), edge.Request{K: 8}); !errors.Is(err, edge.ErrRequest) || !strings.Contains(err.Error(), "ask for fewer") {
		t.Errorf("an answer with an eighth item: error %v, want ErrRequest", err)
	}
}

// TestLatency times requests with a clock that goes by a millisecond each time
// somebody looks at it.
func TestLatency(t *testing.T) {
	a, _ := build(t, least)
	var ticks atomic.Int64
	now := func() time.Time { return time.UnixMilli(ticks.Add(1)) }
	r := start(t, a, edge.Options{Now: now})
	before := r.Stats()
	for range 50 {
		if _, err := r.Recommend(t.Context(), edge.Request{}); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.Recommend(ctx, edge.Request{}); err == nil {
		t.Error("a cancelled request was answered")
	}
	s := r.Stats()
	if s.Answered-before.Answered != 50 || s.Failed != 1 || s.Latency.Count-before.Latency.Count != 51 || s.Latency.Sum-before.Latency.Sum != 51*time.Millisecond {
		t.Errorf("stats %d %d %d %v", s.Answered, s.Failed, s.Latency.Count, s.Latency.Sum)
	}
	for _, q := range []float64{0, 0.5, 0.99, 1} {
		if got := s.Latency.Quantile(q); got < time.Millisecond || got > 1125*time.Microsecond {
			t.Errorf("quantile %v is %v, want a millisecond and an eighth at most", q, got)
		}
	}
	var none edge.Latency
	if none.Quantile(0.5) != 0 {
		t.Error("no requests have a latency")
	}
	if s.ImageBytes == 0 || s.SandboxBytes <= s.ImageBytes {
		t.Errorf("%d bytes of sandboxes over %d of an image", s.SandboxBytes, s.ImageBytes)
	}
}
