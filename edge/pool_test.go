package edge_test

import (
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"reflect"
	"runtime"
	"sync"
	"testing"

	"github.com/wisp-project/wisp/edge"
	"github.com/wisp-project/wisp/internal/layout"
	"github.com/wisp-project/wisp/internal/layout/layouttest"
	"github.com/wisp-project/wisp/wasm"
)

// gate is a context that holds its request up where the context is first looked
// at: in a sandbox.
type gate struct {
	context.Context
	once    sync.Once
	entered chan struct{}
	open    chan struct{}
}

func newGate(ctx context.Context) *gate {
	return &gate{Context: ctx, entered: make(chan struct{}), open: make(chan struct{})}
}

func (g *gate) Err() error {
	g.once.Do(func() {
		close(g.entered)
		<-g.open
	})
	return g.Context.Err()
}

// pooled returns what the runtime counts of its sandboxes.
func pooled(r *edge.Runtime) edge.Stats {
	s := r.Stats()
	return edge.Stats{InProgress: s.InProgress, Waiting: s.Waiting, Idle: s.Idle, Made: s.Made, Wiped: s.Wiped, Replaced: s.Replaced, Refused: s.Refused}
}

// TestIsolation answers the same requests in all ways, and looks for what they
// leave behind.
func TestIsolation(t *testing.T) {
	s := mid
	s.Text = layouttest.TextShapes()[1].Text
	a, _ := build(t, s)
	rng := rand.New(rand.NewPCG(11, 12))
	var histories [][]edge.Event
	for i := range 20 {
		events, _ := randomHistory(rng, s, 3*i)
		histories = append(histories, events)
	}
	var want []edge.Response
	for _, isolation := range []edge.Isolation{edge.Shared, edge.Wiped, edge.Fresh} {
		r := start(t, a, edge.Options{Sandboxes: 1, Isolation: isolation})
		for i, h := range histories {
			got, err := r.Recommend(t.Context(), edge.Request{History: h, K: 200, Description: "a bad cafe"})
			if err != nil {
				t.Fatal(err)
			}
			if isolation == edge.Shared {
				want = append(want, got)
			} else if !reflect.DeepEqual(got.Items, want[i].Items) {
				t.Errorf("isolation %d, history %d: %v, want %v", isolation, i, got.Items, want[i].Items)
			}
		}
		if traces := edge.Traces(r); (traces > 0) != (isolation == edge.Shared) {
			t.Errorf("isolation %d: %d bytes are left behind", isolation, traces)
		}
		all := int64(len(a.Goldens) + len(histories))
		stats := map[edge.Isolation]edge.Stats{
			edge.Shared: {Made: 1, Idle: 1},
			edge.Wiped:  {Made: 1, Idle: 1, Wiped: all + 1}, // one more records what a wipe brings back
			edge.Fresh:  {Made: all, Replaced: edge.Replaced{Used: all}},
		}
		if got := pooled(r); got != stats[isolation] {
			t.Errorf("isolation %d: stats %+v, want %+v", isolation, got, stats[isolation])
		}
	}
}

func TestIsolationNames(t *testing.T) {
	for _, i := range []edge.Isolation{edge.Shared, edge.Wiped, edge.Fresh} {
		name, err := i.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		var back edge.Isolation
		if err := back.UnmarshalText(name); err != nil || back != i {
			t.Errorf("%d became %q became %d: %v", i, name, back, err)
		}
	}
	var i edge.Isolation
	if err := i.UnmarshalText([]byte("loose")); !errors.Is(err, edge.ErrOptions) {
		t.Errorf("a name of none: got %v, want ErrOptions", err)
	}
	if err := (edge.Options{Isolation: 3}).Validate(); !errors.Is(err, edge.ErrOptions) {
		t.Errorf("isolation 3: got %v, want ErrOptions", err)
	}
}

// TestQueue fills the only sandbox and the queue behind it.
func TestQueue(t *testing.T) {
	a, _ := build(t, mid)
	r := start(t, a, edge.Options{Sandboxes: 1, Queue: 2})
	g := newGate(t.Context())
	var wg sync.WaitGroup
	ask := func(ctx context.Context, want error) {
		wg.Go(func() {
			if _, err := r.Recommend(ctx, edge.Request{}); !errors.Is(err, want) {
				t.Errorf("got %v, want %v", err, want)
			}
		})
	}
	waiting := func(n int) {
		for r.Stats().Waiting != n {
			runtime.Gosched()
		}
	}
	ask(g, nil)
	<-g.entered
	ctx, cancel := context.WithCancel(t.Context())
	ask(ctx, context.Canceled)
	ask(t.Context(), nil)
	waiting(2)
	if _, err := r.Recommend(t.Context(), edge.Request{}); !errors.Is(err, edge.ErrOverloaded) {
		t.Errorf("got %v, want ErrOverloaded", err)
	}
	cancel()
	waiting(1)
	ask(t.Context(), nil)
	waiting(2)
	if s := r.Stats(); s.InProgress != 1 || s.Refused != 1 || s.Made != 1 {
		t.Errorf("stats %+v", s)
	}
	close(g.open)
	wg.Wait()
	if s := r.Stats(); s.InProgress != 0 || s.Waiting != 0 || s.Idle != 1 || s.Made != 1 {
		t.Errorf("stats afterwards %+v", s)
	}
}

func TestNoQueue(t *testing.T) {
	a, _ := build(t, mid)
	r := start(t, a, edge.Options{Sandboxes: 1, Queue: -1})
	g := newGate(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := r.Recommend(g, edge.Request{}); err != nil {
			t.Error(err)
		}
	})
	<-g.entered
	if _, err := r.Recommend(t.Context(), edge.Request{}); !errors.Is(err, edge.ErrOverloaded) {
		t.Errorf("got %v, want ErrOverloaded", err)
	}
	close(g.open)
	wg.Wait()
}

// TestCloseInProgress closes a runtime whose request takes longer than Close may.
func TestCloseInProgress(t *testing.T) {
	a, _ := build(t, mid)
	r := start(t, a, edge.Options{Sandboxes: 1})
	g := newGate(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := r.Recommend(g, edge.Request{}); err != nil {
			t.Error(err)
		}
	})
	<-g.entered
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.Close(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("a request is in progress: got %v, want Canceled", err)
	}
	if _, err := r.Recommend(t.Context(), edge.Request{}); !errors.Is(err, edge.ErrClosed) {
		t.Errorf("after Close: got %v, want ErrClosed", err)
	}
	close(g.open)
	wg.Wait()
	if err := r.Close(ended); err != nil { // the request freed everything
		t.Errorf("nothing is in progress any more: %v", err)
	}
}

func TestMaxMemory(t *testing.T) {
	a, q := build(t, mid)
	need := int64(q.Map().End)
	start(t, a, edge.Options{MaxMemory: need})
	if _, err := edge.New(t.Context(), a, edge.Options{MaxMemory: need - 1}); !errors.Is(err, edge.ErrArtefact) {
		t.Errorf("got %v, want ErrArtefact", err)
	}
}

// TestOwnKernelState looks into the kernel for what a wipe cannot bring back: it has
// one global, the stack pointer, and a table without entries.
func TestOwnKernelState(t *testing.T) {
	counts := map[byte]byte{} // entries of each section
	for rest := wasm.Kernel[8:]; len(rest) > 0; {
		size, n := binary.Uvarint(rest[1:])
		counts[rest[0]] = rest[1+n]
		rest = rest[1+n+int(size):]
	}
	const tables, globals, elements = 4, 6, 9
	if counts[tables] > 1 || counts[globals] != 1 || counts[elements] != 0 {
		t.Errorf("%d tables, %d globals, %d elements", counts[tables], counts[globals], counts[elements])
	}
}

// TestZero fills memories of several sizes and zeroes what is not the image.
func TestZero(t *testing.T) {
	const page = 64 << 10
	image := make([]byte, page+5)
	for i := range image {
		image[i] = 7
	}
	for _, scratch := range []uint32{page, 3 * page, 5 * page, 40 * page} { // of which some stays over a wipe, or all
		from, until := uint32(layout.ImageBase), uint32(layout.ImageBase+2*page)
		got, err := edge.Scribble(image, from, until, until+scratch)
		if err != nil {
			t.Fatal(err)
		}
		for i, b := range got {
			want := byte(0)
			if i >= int(from) && i < int(from)+len(image) {
				want = 7
			}
			if b != want {
				t.Fatalf("scratch area of %d bytes: byte %d is %d, want %d", scratch, i, b, want)
			}
		}
	}
}

// BenchmarkIsolation is a request to a small model in all ways.
func BenchmarkIsolation(b *testing.B) {
	s := layout.Shape{Items: 1682, Dim: 64, Layers: 2, Heads: 1, FFN: 64, Window: 50, EventTypes: 3, GapBuckets: 24}
	a, _ := build(b, s)
	events, _ := randomHistory(rand.New(rand.NewPCG(1, 1)), s, 50)
	for name, isolation := range map[string]edge.Isolation{"shared": edge.Shared, "wiped": edge.Wiped, "fresh": edge.Fresh} {
		b.Run(name, func(b *testing.B) {
			r := start(b, a, edge.Options{Sandboxes: 1, Isolation: isolation})
			b.ReportAllocs()
			for b.Loop() {
				if _, err := r.Recommend(b.Context(), edge.Request{History: events}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkSandbox makes a sandbox over the same model and closes it.
func BenchmarkSandbox(b *testing.B) {
	s := layout.Shape{Items: 1682, Dim: 64, Layers: 2, Heads: 1, FFN: 64, Window: 50, EventTypes: 3, GapBuckets: 24}
	a, _ := build(b, s)
	r := start(b, a, edge.Options{Sandboxes: 1})
	b.ReportAllocs()
	for b.Loop() {
		if err := edge.Make(b.Context(), r); err != nil {
			b.Fatal(err)
		}
	}
}
