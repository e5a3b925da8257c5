package q8_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/wisp-project/wisp/internal/layout"
	"github.com/wisp-project/wisp/internal/layout/layouttest"
	"github.com/wisp-project/wisp/internal/q8"
	"github.com/wisp-project/wisp/wasm"
)

// guest runs the kernel over an image, without anything of package edge.
type guest struct {
	memory api.Memory
	run    api.Function
	m      layout.Map
	slices int // calls of run that the last request took
}

func newGuest(t testing.TB, config wazero.RuntimeConfig, image *layout.Image) *guest {
	t.Helper()
	ctx := context.Background()
	r := wazero.NewRuntimeWithConfig(ctx, config)
	t.Cleanup(func() { _ = r.Close(ctx) })
	mod, err := r.Instantiate(ctx, wasm.Kernel)
	if err != nil {
		t.Fatal(err)
	}
	g := &guest{memory: mod.Memory(), run: mod.ExportedFunction("run"), m: image.Map}
	if _, ok := g.memory.Grow(image.Map.Pages - g.memory.Size()>>16); !ok {
		t.Fatalf("memory does not grow to %d pages", image.Map.Pages)
	}
	if !g.memory.Write(layout.ImageBase, image.Bytes()) {
		t.Fatal("image does not fit")
	}
	return g
}

// lay puts an overlay over the image.
func (g *guest) lay(t testing.TB, image *layout.Image, o layout.Overlay) {
	t.Helper()
	patches, err := image.Patches(&o)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range patches {
		if !g.memory.Write(p.At, p.Bytes) {
			t.Fatal("the overlay does not fit")
		}
	}
}

// answer returns the bytes of the answer to a request, as the guest wrote them.
func (g *guest) answer(t testing.TB, request []byte) []byte {
	t.Helper()
	if !g.memory.Write(g.m.Request, request) {
		t.Fatal("request does not fit")
	}
	for g.slices = 1; ; g.slices++ {
		status, err := g.run.Call(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if status[0] != layout.StatusMore {
			break
		}
	}
	head, _ := g.memory.Read(g.m.Answer, layout.AnswerHeaderLen)
	h := layout.ParseAnswerHeader(head)
	b, ok := g.memory.Read(g.m.Answer, uint32(h.Len()))
	if !ok {
		t.Fatalf("answer %+v lies outside the memory", h)
	}
	return bytes.Clone(b)
}

func open(t testing.TB, p layout.Params) (*layout.Image, *q8.Model) {
	t.Helper()
	b, err := layout.Pack(p)
	if err != nil {
		t.Fatal(err)
	}
	image, err := layout.Open(b)
	if err != nil {
		t.Fatal(err)
	}
	m, err := q8.New(b)
	if err != nil {
		t.Fatal(err)
	}
	return image, m
}

func same(t *testing.T, g *guest, m *q8.Model, requests []layout.Request) {
	t.Helper()
	for i, r := range requests {
		answer := m.Run(r)
		if got, want := g.answer(t, r.Append(nil)), answer.Append(nil); !bytes.Equal(got, want) {
			a, err := layout.ParseAnswer(got, layout.AnswerHeader{Hits: 1 << 20, Vector: 1 << 20, Row: 1 << 20, State: 1 << 30}, nil)
			t.Fatalf("request %d (kind %d, flags %d, %d events, k %d, %d listed, a state of %d bytes): the guest answers\n%.300v (%v)\nq8 answers\n%.300v",
				i, r.Kind, r.Flags, len(r.History), r.K, len(r.List), len(r.State), fmt.Sprint(a), err, fmt.Sprint(answer))
		}
	}
}

var engines = []struct {
	name   string
	config func() wazero.RuntimeConfig
	share  int // of the requests: one in share
}{
	{"compiler", wazero.NewRuntimeConfigCompiler, 1},
	{"interpreter", wazero.NewRuntimeConfigInterpreter, 8},
}

// TestGuest holds the kernel to the definition, bit for bit, on every shape.
func TestGuest(t *testing.T) {
	n := 160
	if testing.Short() {
		n = 24
	}
	for _, e := range engines {
		for _, s := range layouttest.Shapes() {
			t.Run(fmt.Sprintf("%s/%dx%d", e.name, s.Items, s.Dim), func(t *testing.T) {
				t.Parallel()
				image, m := open(t, layouttest.Params(s, 1))
				same(t, newGuest(t, e.config(), image), m, layouttest.Requests(s, image.Map, n/e.share, 2))
			})
		}
	}
}

// TestTies has items with equal rows: order is by index, and the heap must depend neither
// on when it was filled nor on where in the table a search goes first, which large
// tables are for.
func TestTies(t *testing.T) {
	for _, s := range []layout.Shape{{Items: 300, Dim: 8}, {Items: 35_003, Dim: 64}, {Items: 90_010, Dim: 24}} {
		t.Run(fmt.Sprintf("%dx%d", s.Items, s.Dim), func(t *testing.T) {
			t.Parallel()
			s.Layers, s.Heads, s.FFN, s.Window, s.EventTypes, s.GapBuckets = 1, 1, 8, 4, 1, 1
			n := min(64, 20_000/s.Items+8)
			p := layouttest.Params(s, 3)
			for i := range s.Items {
				copy(p.ItemRows[i*s.Dim:(i+1)*s.Dim], p.ItemRows[(i%7)*s.Dim:(i%7+1)*s.Dim])
				p.ItemScale[i] = p.ItemScale[i%7]
			}
			image, m := open(t, p)
			same(t, newGuest(t, wazero.NewRuntimeConfigCompiler(), image), m, layouttest.Requests(s, image.Map, n, 4))
			p.ItemScale = make([]float32, s.Items) // all scores are zero, of both signs
			image, m = open(t, p)
			same(t, newGuest(t, wazero.NewRuntimeConfigCompiler(), image), m, layouttest.Requests(s, image.Map, n/2, 4))
		})
	}
}

// TestExtremes drives every clamp: scales of zero, the largest and the smallest.
func TestExtremes(t *testing.T) {
	s := layout.Shape{Items: 40, Dim: 12, Layers: 2, Heads: 2, FFN: 20, Window: 6, EventTypes: 2, GapBuckets: 5}
	for _, scale := range []float32{0, 1e-45, 1e-38, 1 << 20} {
		p := layouttest.Params(s, 5)
		for i := range p.Blocks {
			b := &p.Blocks[i]
			for _, x := range [][]float32{b.QKV.Scale, b.Out.Scale, b.Up.Scale, b.Down.Scale, b.AttnNormGain} {
				for j := range x {
					x[j] = scale
				}
			}
			b.ScoreScale, b.QInv = scale, scale
		}
		p.UserInv, p.InputScale = scale, scale
		image, m := open(t, p)
		same(t, newGuest(t, wazero.NewRuntimeConfigCompiler(), image), m, layouttest.Requests(s, image.Map, 32, 6))
	}
}

// TestSlices sees that long work comes in slices, that an abandoned request
// leaves nothing behind, and that the guest refuses what it must.
func TestSlices(t *testing.T) {
	s := layout.Shape{Items: 40000, Dim: 64, Layers: 2, Heads: 2, FFN: 256, Window: 200, EventTypes: 2, GapBuckets: 5}
	if testing.Short() {
		s.Items = 4000
	}
	image, m := open(t, layouttest.Params(s, 7))
	g := newGuest(t, wazero.NewRuntimeConfigCompiler(), image)
	requests := layouttest.Requests(s, image.Map, 4, 8)
	same(t, g, m, requests)
	long := requests[1]
	want := g.answer(t, long.Append(nil))
	calls := g.slices
	if calls < 5 {
		t.Errorf("a history of %d events was encoded in %d calls", len(long.History), calls)
	}
	for stop := 1; stop < calls; stop += 3 {
		g.memory.Write(g.m.Request, long.Append(nil))
		for range stop {
			if _, err := g.run.Call(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		same(t, g, m, requests[2:3])
	}
	if got := g.answer(t, long.Append(nil)); !bytes.Equal(got, want) {
		t.Error("the answer changed after abandoned requests")
	}
}

func TestBadRequests(t *testing.T) {
	s := layouttest.Shapes()[1]
	image, m := open(t, layouttest.Params(s, 9))
	g := newGuest(t, wazero.NewRuntimeConfigCompiler(), image)
	event := layout.Event{}
	for name, c := range map[string]struct {
		r    layout.Request
		want uint32
	}{
		"kind":         {layout.Request{Kind: 8}, layout.StatusRequest},
		"flags":        {layout.Request{Kind: layout.KindRecommend, K: 1, Flags: 2}, layout.StatusRequest},
		"k zero":       {layout.Request{Kind: layout.KindRecommend}, layout.StatusRequest},
		"k too large":  {layout.Request{Kind: layout.KindRecommend, K: 6}, layout.StatusRequest},
		"k of scores":  {layout.Request{Kind: layout.KindScore, K: 1}, layout.StatusRequest},
		"history":      {layout.Request{Kind: layout.KindScore, History: []layout.Event{event, event, event, event}}, layout.StatusRequest},
		"list":         {layout.Request{Kind: layout.KindScore, List: make([]uint32, 6)}, layout.StatusRequest},
		"history item": {layout.Request{Kind: layout.KindScore, History: []layout.Event{{Item: 5}}}, layout.StatusItem},
		"huge item":    {layout.Request{Kind: layout.KindScore, History: []layout.Event{{Item: 1 << 31}}}, layout.StatusItem},
		"type":         {layout.Request{Kind: layout.KindScore, History: []layout.Event{{Type: 2}}}, layout.StatusType},
		"list item":    {layout.Request{Kind: layout.KindScore, List: []uint32{4, 5}}, layout.StatusItem},
	} {
		t.Run(name, func(t *testing.T) {
			if err := c.r.Check(s, image.Map); err == nil {
				t.Error("Check accepts it")
			}
			if got := m.Run(c.r); got.Status != c.want {
				t.Errorf("q8 gives status %d, want %d", got.Status, c.want)
			}
			same(t, g, m, []layout.Request{c.r})
		})
	}
	// Lengths beyond the message itself.
	for _, word := range []int{4, 5, 8} {
		b := (&layout.Request{Kind: layout.KindScore}).Append(nil)
		b[4*word+3] = 0xff
		if h := layout.ParseAnswerHeader(g.answer(t, b)); h.Status != layout.StatusRequest {
			t.Errorf("length word %d: status %d, want %d", word, h.Status, layout.StatusRequest)
		}
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s: got %q, want %q", path, got, want)
	}
}

// requestsOf returns n requests that fit an image of shape s, with texts where it
// has a text encoder.
func requestsOf(s layout.Shape, m layout.Map, n int, seed uint64) []layout.Request {
	if s.Text.Dim > 0 {
		return layouttest.TextRequests(s, m, n, seed)
	}
	return layouttest.Requests(s, m, n, seed)
}

// TestV8 runs the same requests in Node's engine.
func TestV8(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("node is not installed: the kernel was not run on V8")
	}
	for i, s := range append(layouttest.Shapes(), layouttest.TextShapes()...) {
		image, m := open(t, layouttest.Params(s, 1))
		var input, want []byte
		ask := func(m *q8.Model, r layout.Request) {
			input = appendWrite(input, image.Map.Request, r.Append(nil))
			a := m.Run(r)
			want = a.Append(want)
		}
		for _, r := range append(requestsOf(s, image.Map, 64, 12), layouttest.RankRequests(s, image.Map, 32, 13)...) {
			ask(m, r)
		}
		o := layouttest.Overlay(s, image.Map, 9, 14)
		patches, err := image.Patches(&o)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range patches {
			input = appendWrite(input, p.At, p.Bytes)
		}
		laid := m.WithOverlay(o)
		for _, r := range layouttest.RankRequests(s, image.Map.With(&o), 32, 15) {
			ask(laid, r)
		}
		got := runNode(t, node, image, input)
		if !bytes.Equal(got, want) {
			t.Errorf("shape %d: V8 gives %d bytes of answers that differ from the %d of q8", i, len(got), len(want))
		}
	}
}

func BenchmarkGuest(b *testing.B) {
	s := layout.Shape{Items: 1682, Dim: 64, Layers: 2, Heads: 1, FFN: 64, Window: 50, EventTypes: 8, GapBuckets: 24}
	image, _ := open(b, layouttest.Params(s, 1))
	g := newGuest(b, wazero.NewRuntimeConfigCompiler(), image)
	r := layout.Request{Kind: layout.KindRecommend, K: 10, Flags: layout.FlagExcludeHistory}
	for i := range 50 {
		r.History = append(r.History, layout.Event{Item: uint32(i * 31 % s.Items), Type: uint32(i % 8), Gap: uint32(i * 1000)})
	}
	request := r.Append(nil)
	for b.Loop() {
		g.answer(b, request)
	}
}
