package edge_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wisp-project/wisp/artifact"
	"github.com/wisp-project/wisp/edge"
	"github.com/wisp-project/wisp/internal/layout"
	"github.com/wisp-project/wisp/internal/layout/layouttest"
	"github.com/wisp-project/wisp/internal/q8"
	"github.com/wisp-project/wisp/quantize"
	"github.com/wisp-project/wisp/wasm"
)

// mid is a shape with everything in it: several layers, heads that need
// padding, a catalogue that fills no whole block.
var mid = layout.Shape{Items: 250, Dim: 30, Layers: 2, Heads: 3, FFN: 37, Window: 9, EventTypes: 3, GapBuckets: 24, Labels: layout.LabelShape{Labels: 9, Entries: 400}}

// build returns an artefact of random parameters and the model that defines its
// answers.
func build(t testing.TB, s layout.Shape) (*artifact.Artifact, *q8.Model) {
	t.Helper()
	return buildOf(t, layouttest.Params(s, 1))
}

// buildOf does the same for given parameters.
func buildOf(t testing.TB, p layout.Params) (*artifact.Artifact, *q8.Model) {
	t.Helper()
	s := p.Shape
	b, err := layout.Pack(p)
	if err != nil {
		t.Fatal(err)
	}
	image, err := layout.Open(b)
	if err != nil {
		t.Fatal(err)
	}
	q, err := q8.New(b)
	if err != nil {
		t.Fatal(err)
	}
	a := &artifact.Artifact{
		Manifest: artifact.Manifest{
			Name: "test", Version: 1,
		},
		Kernel: wasm.Kernel,
	}
	for i := range s.EventTypes {
		a.Manifest.EventTypes = append(a.Manifest.EventTypes, artifact.EventType{Name: typeName(i), AtLeast: float32(max(0, i-1))})
	}
	a.SetImage(image)
	for i := range s.Text.Classes {
		a.Manifest.Classes = append(a.Manifest.Classes, fmt.Sprintf("class %d", i))
	}
	labels := image.Labels()
	for i := range s.Items {
		a.Items = append(a.Items, artifact.Item{ID: id(i), Title: fmt.Sprintf("Item %d", i)})
		if labels != nil {
			for _, l := range labels[i] {
				a.Items[i].Categories = append(a.Items[i].Categories, category(int(l)))
			}
		}
	}
	requests := append(layouttest.Requests(s, image.Map, 32, 5), layouttest.RankRequests(s, image.Map, 160, 7)...)
	if s.Text.Dim > 0 {
		requests = append(requests, layouttest.TextRequests(s, image.Map, 32, 6)...)
	}
	if s.Items > 1<<14 {
		requests = requests[:32] // rules go through no table in another way, and q8 takes long
	}
	addGoldens(a, q, requests...)
	return a, q
}

// addGoldens adds golden requests with the answers of q.
func addGoldens(a *artifact.Artifact, q *q8.Model, requests ...layout.Request) {
	for _, r := range requests {
		answer := q.Run(r)
		a.Goldens = append(a.Goldens, artifact.Golden{Request: r.Append(nil), Answer: answer.Append(nil)})
	}
}

// category returns the name of label l, in the order of the labels.
func category(l int) string { return fmt.Sprintf("c%03d", l) }

func id(i int) string { return fmt.Sprintf("i%d", i) }

func typeName(i int) string {
	if i == 0 {
		return "click"
	}
	return "rating"
}

func start(t testing.TB, a *artifact.Artifact, o edge.Options) *edge.Runtime {
	t.Helper()
	r, err := edge.New(context.Background(), a, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return r
}

// randomHistory returns the same history as a caller writes it and as the guest
// reads it.
func randomHistory(rng *rand.Rand, s layout.Shape, n int) ([]edge.Event, []layout.Event) {
	var events []edge.Event
	var packed []layout.Event
	now := int64(1e9)
	for i := range n {
		item, kind := rng.IntN(s.Items), rng.IntN(s.EventTypes)
		gap := int64(rng.Uint64() >> (32 + rng.IntN(32)))
		if i == 0 {
			gap = 0
		}
		now += gap
		events = append(events, edge.Event{Item: id(item), Type: typeName(kind), Value: float32(max(0, kind-1)), Time: now})
		packed = append(packed, layout.Event{Item: uint32(item), Type: uint32(kind), Gap: uint32(gap)})
	}
	return events, packed
}

// TestEqualsDefinition compares every answer with internal/q8, which the runtime
// does not contain.
func TestEqualsDefinition(t *testing.T) {
	for _, s := range []layout.Shape{mid, {Items: 1, Dim: 1, Layers: 1, Heads: 1, FFN: 1, Window: 1, EventTypes: 1, GapBuckets: 1}} {
		a, q := build(t, s)
		r := start(t, a, edge.Options{})
		rng := rand.New(rand.NewPCG(1, 2))
		for range 100 {
			n := rng.IntN(3 * q.Map().MaxHistory)
			events, packed := randomHistory(rng, s, n)
			cut := max(0, n-q.Map().MaxHistory)
			request := layout.Request{Kind: layout.KindRecommend, K: uint32(min(10, q.Map().MaxK)), Flags: layout.FlagExcludeHistory, History: packed[cut:]}
			for _, e := range packed[:cut] {
				if len(request.List) < q.Map().MaxList {
					request.List = append(request.List, e.Item)
				}
			}
			want := q.Run(request)
			got, err := r.Recommend(t.Context(), edge.Request{History: events})
			if err != nil {
				t.Fatal(err)
			}
			if len(got.Items) != len(want.Hits) || got.ColdStart != (n == 0) {
				t.Fatalf("%d items (cold %v), want %d", len(got.Items), got.ColdStart, len(want.Hits))
			}
			for i, item := range got.Items {
				h := want.Hits[i]
				if item.Item != id(int(h.Item)) || math.Float32bits(item.Score) != math.Float32bits(h.Score) || item.Title == "" {
					t.Fatalf("item %d of %d events: %+v, want %+v", i, n, item, h)
				}
			}
			list := []string{id(rng.IntN(s.Items)), id(0)}
			scores, err := r.Score(t.Context(), edge.ScoreRequest{History: events, Items: list})
			if err != nil {
				t.Fatal(err)
			}
			all := make([]float32, s.Items)
			q.Scores(all, q.User(packed[cut:], nil))
			for i, name := range list {
				if want := all[slices.IndexFunc(a.Items, func(it artifact.Item) bool { return it.ID == name })]; math.Float32bits(scores[i].Value) != math.Float32bits(want) {
					t.Fatalf("score of %s: %v, want %v", name, scores[i], want)
				}
			}
		}
	}
}

// TestHammer answers from many goroutines at once while some give up.
func TestHammer(t *testing.T) {
	a, _ := build(t, mid)
	r := start(t, a, edge.Options{Sandboxes: 3})
	rng := rand.New(rand.NewPCG(3, 4))
	type job struct {
		events []edge.Event
		want   edge.Response
	}
	jobs := make([]job, 20)
	for i := range jobs {
		jobs[i].events, _ = randomHistory(rng, mid, i*2)
		var err error
		if jobs[i].want, err = r.Recommend(t.Context(), edge.Request{History: jobs[i].events}); err != nil {
			t.Fatal(err)
		}
	}
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 60 {
				j := jobs[(g*7+i)%len(jobs)]
				ctx, cancel := context.WithCancel(t.Context())
				if i%9 == g {
					cancel()
				}
				got, err := r.Recommend(ctx, edge.Request{History: j.events})
				cancel()
				switch {
				case errors.Is(err, context.Canceled) && i%9 == g:
				case err != nil:
					t.Error(err)
				case !reflect.DeepEqual(got.Items, j.want.Items):
					t.Errorf("another answer under load: %v, want %v", got.Items, j.want.Items)
				}
			}
		})
	}
	wg.Wait()
}

// TestChangedInstruction replaces one instruction of the kernel at a time, an
// integer addition by a minimum: no such kernel gets past the goldens of an artefact
// that uses it. Some instructions are for heads of some widths alone. A subtraction would
// not do: a bound that is too high makes no answer wrong, only late.
func TestChangedInstruction(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles hundreds of kernels, one after the other")
	}
	// Together they take every way through the kernel's inner loops.
	shapes := []layout.Shape{mid, mid, mid, mid, mid, mid, mid}
	shapes[0].Text = layouttest.TextShapes()[1].Text
	shapes[1].Dim, shapes[1].Heads, shapes[1].Items = 72, 2, 2000
	shapes[2].Dim, shapes[2].Heads = 64, 2
	shapes[3].Dim, shapes[3].FFN, shapes[3].Ratings = 72, 64, true
	shapes[4].Dim, shapes[4].Heads, shapes[4].Text = 64, 1, layouttest.TextShapes()[2].Text
	shapes[5].Dim, shapes[5].Heads, shapes[5].Items = 64, 2, 33_000 // tables of which four places are read in turn
	shapes[6].Dim, shapes[6].Heads, shapes[6].Items = 72, 2, 30_000
	artefacts := make([]*artifact.Artifact, len(shapes))
	for i, s := range shapes {
		p := layouttest.Params(s, 1)
		if i == 1 { // both parts of its bounds are sixteen columns and eight, of about the same weight, and close
			for j := range p.ItemRows {
				if j%s.Dim >= 44 {
					p.ItemRows[j] = int8(j % 2)
				}
			}
			rng := rand.New(rand.NewPCG(1, 0xb0))
			users := make([][]int16, 200)
			for j := range users {
				users[j] = make([]int16, s.Dim)
				for d := range users[j] {
					users[j][d] = int16(rng.IntN(4001) - 2000)
				}
			}
			if r, ok := quantize.SetBounds(&p, users, 24, 48); !ok || p.Shape.BoundFirst != 23 || p.Shape.BoundHead != 44 {
				t.Fatalf("%+v for the shape %+v", r, p.Shape)
			}
		}
		a, q := buildOf(t, p)
		// The users of a model by chance are alike, its items are not.
		rng := rand.New(rand.NewPCG(1, 0x5c))
		for range 64 {
			addGoldens(a, q, layout.Request{Kind: layout.KindSimilar, K: 20, History: []layout.Event{{Item: rng.Uint32N(uint32(s.Items))}}})
		}
		artefacts[i] = a
	}
	add, least := []byte{0xfd, 0xae, 0x01}, []byte{0xfd, 0xb6, 0x01} // i32x4.add, i32x4.min_s
	var places []int
	for at := 0; ; {
		i := bytes.Index(wasm.Kernel[at:], add)
		if i < 0 {
			break
		}
		at += i
		places = append(places, at)
		at++
	}
	if len(places) < 50 {
		t.Fatalf("only %d additions found", len(places))
	}
	for i := 0; i < len(places); i += 7 {
		kernel := slices.Clone(wasm.Kernel)
		copy(kernel[places[i]:], least)
		seen := slices.ContainsFunc(artefacts, func(a *artifact.Artifact) bool {
			changed := *a
			changed.Kernel = kernel
			_, err := edge.New(t.Context(), &changed, edge.Options{Sandboxes: 1, Timeout: time.Minute}) // on busy machines, too
			return errors.Is(err, edge.ErrGolden) && !errors.Is(err, edge.ErrTimeout)
		})
		if !seen {
			t.Errorf("the addition at byte %d became a minimum, and no golden request saw it", places[i])
		}
	}
}

// TestForeignKernels runs kernels that are not ours: they may be wrong, loop or
// trap, and nothing of it reaches a caller but an error.
func TestForeignKernels(t *testing.T) {
	a, _ := build(t, mid)
	fill := slices.Concat(word(0), word(0), word(1), []byte{0xfc, 11, 0}) // of memory
	for name, c := range map[string]struct {
		kernel []byte
		want   error
		text   string
	}{
		"not wasm":           {[]byte("kernel"), edge.ErrArtefact, "not a WebAssembly module"},
		"does nothing":       {module(2, 0x41, 0, end), edge.ErrGolden, "differs"},
		"traps":              {module(2, 0x00, end), edge.ErrGolden, "unreachable"},
		"loops":              {module(2, 0x03, 0x40, 0x0c, 0, end, 0x41, 0, end), edge.ErrGolden, "no answer within"},
		"always more":        {module(2, 0x41, 1, end), edge.ErrGolden, "no answer within"},
		"too much memory":    {module(100, 0x41, 0, end), edge.ErrArtefact, ""},
		"imports":            {[]byte{0, 'a', 's', 'm', 1, 0, 0, 0, 1, 4, 1, 0x60, 0, 0, 2, 7, 1, 1, 'e', 1, 'f', 0, 0}, edge.ErrArtefact, "imports e.f"},
		"no run":             {[]byte{0, 'a', 's', 'm', 1, 0, 0, 0, 5, 3, 1, 0, 2, 7, 10, 1, 6, 'm', 'e', 'm', 'o', 'r', 'y', 2, 0}, edge.ErrArtefact, "no function run"},
		"a large table":      {slices.Concat(module(2, 0x41, 0, end)[:23], []byte{4, 8, 1, 0x70, 1, 0, 0xff, 0xff, 0xff, 0x3f}, module(2, 0x41, 0, end)[23:]), edge.ErrArtefact, "a table of"},
		"a table that grows": {slices.Concat(module(2, 0x41, 0, end)[:23], []byte{4, 4, 1, 0x70, 0, 1}, module(2, 0x41, 0, end)[23:]), edge.ErrArtefact, "a table of"},
		"copies for hours":   {module(2, slices.Concat(slices.Repeat(fill, 200_000), []byte{0x41, 0, end})...), edge.ErrArtefact, "at a stretch"},
		"no memory at all":   {[]byte{0, 'a', 's', 'm', 1, 0, 0, 0}, edge.ErrArtefact, "memory"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			changed := *a
			changed.Kernel = c.kernel
			_, err := edge.New(t.Context(), &changed, edge.Options{Timeout: 50 * time.Millisecond})
			if !errors.Is(err, c.want) || !strings.Contains(fmt.Sprint(err), c.text) {
				t.Errorf("got %v, want %v with %q", err, c.want, c.text)
			}
		})
	}
}

func TestArtefactsThatDoNotFit(t *testing.T) {
	for name, breakIt := range map[string]func(a *artifact.Artifact){
		"abi":        func(a *artifact.Artifact) { a.Manifest.ABI = layout.ABI + 1 },
		"dimensions": func(a *artifact.Artifact) { a.Manifest.Model.FFN++ },
		"text": func(a *artifact.Artifact) {
			a.Manifest.Model.Text = artifact.TextInfo{Vocabulary: 9, Tokens: 9, Dim: 9, Layers: 9, Heads: 9, FFN: 9}
		},
		"limits":       func(a *artifact.Artifact) { a.Manifest.Limits.MaxHistory++ },
		"segment name": func(a *artifact.Artifact) { a.Segments[1].Name = "tower" },
		"segment gone": func(a *artifact.Artifact) { a.Segments = a.Segments[:2] },
		"segment bounds": func(a *artifact.Artifact) { // the same image, cut elsewhere
			all := bytes.Join([][]byte{a.Segments[0].Data, a.Segments[1].Data}, nil)
			a.Segments[0].Data, a.Segments[1].Data = all[:100], all[100:]
		},
		"image":          func(a *artifact.Artifact) { a.Segments[2].Data = a.Segments[2].Data[16:] },
		"golden request": func(a *artifact.Artifact) { a.Goldens[0].Request = []byte("not a request") },
	} {
		a, _ := build(t, mid)
		breakIt(a)
		if _, err := edge.New(t.Context(), a, edge.Options{}); !errors.Is(err, edge.ErrArtefact) && !errors.Is(err, artifact.ErrContent) && !errors.Is(err, artifact.ErrManifest) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	a, _ := build(t, mid)
	a.Goldens[7].Answer[len(a.Goldens[7].Answer)-1] ^= 1
	if _, err := edge.New(t.Context(), a, edge.Options{}); !errors.Is(err, edge.ErrGolden) {
		t.Errorf("a golden answer with a flipped bit: got %v, want ErrGolden", err)
	}
}

func TestBadRequests(t *testing.T) {
	a, _ := build(t, mid)
	r := start(t, a, edge.Options{})
	for name, q := range map[string]edge.Request{
		"negative time": {History: []edge.Event{{Item: id(1), Time: -1}}},
		"nan value":     {History: []edge.Event{{Item: id(1), Type: "rating", Value: float32(math.NaN())}}},
		"unknown type":  {History: []edge.Event{{Item: id(1), Type: "smell"}}},
		"negative k":    {K: -1},
	} {
		if _, err := r.Recommend(t.Context(), q); !errors.Is(err, edge.ErrRequest) {
			t.Errorf("%s: got %v, want ErrRequest", name, err)
		}
	}
	if _, err := r.Score(t.Context(), edge.ScoreRequest{Items: []string{"nobody"}}); !errors.Is(err, edge.ErrRequest) {
		t.Errorf("score of an unknown item: got %v, want ErrRequest", err)
	}
	if _, err := edge.New(t.Context(), a, edge.Options{Sandboxes: -1}); !errors.Is(err, edge.ErrOptions) {
		t.Errorf("negative sandboxes: got %v, want ErrOptions", err)
	}
}

// TestHistories covers what callers get wrong without harm: unknown items, the
// order of events, more of them than the model looks at, k beyond the catalogue.
func TestHistories(t *testing.T) {
	a, _ := build(t, mid)
	r := start(t, a, edge.Options{})
	ask := func(q edge.Request) edge.Response {
		t.Helper()
		response, err := r.Recommend(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		return response
	}
	cold := ask(edge.Request{})
	if !cold.ColdStart || len(cold.Items) != 10 {
		t.Errorf("no history: %+v", cold)
	}
	unknown := ask(edge.Request{History: []edge.Event{{Item: "nobody"}}})
	if !reflect.DeepEqual(unknown.Items, cold.Items) || !slices.Equal(unknown.Unknown, []string{"nobody"}) || !unknown.ColdStart {
		t.Errorf("only unknown items: %+v, want the cold-start list %+v", unknown, cold)
	}
	events := []edge.Event{{Item: id(3), Time: 100}, {Item: id(4), Time: 200}, {Item: id(5), Time: 300}}
	want := ask(edge.Request{History: events})
	shuffled := []edge.Event{events[2], {Item: "nobody", Time: 150}, events[0], events[1]}
	if got := ask(edge.Request{History: shuffled}); !reflect.DeepEqual(got.Items, want.Items) {
		t.Errorf("order of the history: %v, want %v", got.Items, want.Items)
	}
	all := ask(edge.Request{History: events, K: 1 << 30})
	if len(all.Items) != mid.Items-3 {
		t.Errorf("k beyond the catalogue: %d items, want %d", len(all.Items), mid.Items-3)
	}
	if seen := ask(edge.Request{History: events, K: 1 << 30, IncludeSeen: true, Exclude: []string{id(9), "nobody"}}); len(seen.Items) != mid.Items-1 {
		t.Errorf("seen items included, one excluded: %d items, want %d", len(seen.Items), mid.Items-1)
	}
	// Far more events than the model looks at: their items still stay out.
	rng := rand.New(rand.NewPCG(5, 6))
	long, _ := randomHistory(rng, mid, 400)
	seen := map[string]bool{}
	for _, e := range long {
		seen[e.Item] = true
	}
	answer := ask(edge.Request{History: long, K: 250})
	if len(answer.Items) != mid.Items-len(seen) {
		t.Errorf("%d items of %d, %d of them seen", len(answer.Items), mid.Items, len(seen))
	}
}

// TestExplain checks each reason against scores of the shortened histories; where
// every event is tried, none may be missing.
func TestExplain(t *testing.T) {
	a, _ := build(t, mid)
	r := start(t, a, edge.Options{})
	rng := rand.New(rand.NewPCG(7, 8))
	reasons, bestFound, explained := 0, 0, 0
	for _, n := range []int{0, 1, 2, 3, 4, 7, 16, 17, 18, 19, 40} {
		events, _ := randomHistory(rng, mid, n)
		got, err := r.Recommend(t.Context(), edge.Request{History: events, K: 5, Explain: true, Reasons: 5})
		if err != nil {
			t.Fatal(err)
		}
		for _, item := range got.Items {
			drops, speaks := make([]float32, n), 0
			for i := range events {
				scores, err := r.Score(t.Context(), edge.ScoreRequest{History: slices.Delete(slices.Clone(events), i, i+1), Items: []string{item.Item}})
				if err != nil {
					t.Fatal(err)
				}
				if drops[i] = item.Score - scores[0].Value; drops[i] > 0 {
					speaks++
				}
			}
			for i, reason := range item.Reasons {
				if reason.Drop != drops[reason.Event] || reason.Item != events[reason.Event].Item || i > 0 && reason.Drop > item.Reasons[i-1].Drop {
					t.Errorf("%d events: reason %d is %+v, without the event the score falls by %v", n, i, reason, drops[reason.Event])
				}
				reasons++
			}
			if speaks > 0 {
				explained++
				if len(item.Reasons) > 0 && item.Reasons[0].Drop == slices.Max(drops) {
					bestFound++
				}
			}
			if n <= 4 && len(item.Reasons) != speaks || len(item.Reasons) > 5 {
				t.Errorf("%d events: %d reasons, %d events speak for the item", n, len(item.Reasons), speaks)
			}
		}
	}
	if reasons < 50 || bestFound < explained/2 {
		t.Errorf("%d reasons in all, the strongest event found for %d of %d items", reasons, bestFound, explained)
	}
	if _, err := r.Recommend(t.Context(), edge.Request{Reasons: edge.MaxReasons + 1}); !errors.Is(err, edge.ErrRequest) {
		t.Errorf("too many reasons: %v", err)
	}
}

func TestContext(t *testing.T) {
	a, _ := build(t, mid)
	r := start(t, a, edge.Options{Sandboxes: 1})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.Recommend(ctx, edge.Request{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: got %v", err)
	}
	if _, err := r.Recommend(t.Context(), edge.Request{}); err != nil {
		t.Errorf("after a cancelled request: %v", err)
	}
	if err := r.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Recommend(t.Context(), edge.Request{}); !errors.Is(err, edge.ErrClosed) {
		t.Errorf("after Close: got %v, want ErrClosed", err)
	}
}

// TestCloseIdle closes a runtime that has nothing to wait for, so that a context
// without time left is no obstacle.
func TestCloseIdle(t *testing.T) {
	a, _ := build(t, mid)
	r := start(t, a, edge.Options{Sandboxes: 32})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.Close(ctx); err != nil {
		t.Error(err)
	}
}

func TestInterpreter(t *testing.T) {
	a, _ := build(t, mid)
	compiled, interpreted := start(t, a, edge.Options{}), start(t, a, edge.Options{Interpreter: true})
	events, _ := randomHistory(rand.New(rand.NewPCG(9, 9)), mid, 30)
	x, err := compiled.Recommend(t.Context(), edge.Request{History: events})
	if err != nil {
		t.Fatal(err)
	}
	y, err := interpreted.Recommend(t.Context(), edge.Request{History: events})
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(x.Items, y.Items) {
		t.Errorf("the interpreter answers %v, the compiler %v", y.Items, x.Items)
	}
}

// BenchmarkRecommend is a request of 50 events to a model of the size that
// ML-100K gets, ids and titles included.
func BenchmarkRecommend(b *testing.B) {
	s := layout.Shape{Items: 1682, Dim: 64, Layers: 2, Heads: 1, FFN: 64, Window: 50, EventTypes: 3, GapBuckets: 24}
	a, _ := build(b, s)
	r := start(b, a, edge.Options{Sandboxes: 1})
	events, _ := randomHistory(rand.New(rand.NewPCG(1, 1)), s, 50)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Recommend(b.Context(), edge.Request{History: events}); err != nil {
			b.Fatal(err)
		}
	}
}
