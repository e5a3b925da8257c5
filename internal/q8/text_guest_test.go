package q8_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/tetratelabs/wazero"

	"github.com/wisp-project/wisp/internal/layout"
	"github.com/wisp-project/wisp/internal/layout/layouttest"
)

// TestTextGuest holds the kernel to the definition, bit for bit, on every shape
// of a text encoder.
func TestTextGuest(t *testing.T) {
	n := 80
	if testing.Short() {
		n = 16
	}
	for _, e := range engines {
		for i, s := range layouttest.TextShapes() {
			t.Run(fmt.Sprintf("%s/%d", e.name, i), func(t *testing.T) {
				t.Parallel()
				image, m := open(t, layouttest.Params(s, uint64(i)))
				g := newGuest(t, e.config(), image)
				same(t, g, m, layouttest.TextRequests(s, image.Map, n/e.share, 2))
				same(t, g, m, layouttest.Requests(s, image.Map, 4, 3))
			})
		}
	}
}

// TestTextExtremes drives the encoder's scales, gains and biases to both ends of
// their ranges: rows of zeros, and values that a careless sum of squares would
// let overflow.
func TestTextExtremes(t *testing.T) {
	s := layouttest.TextShapes()[1]
	for _, c := range []struct{ scale, gain, bias float32 }{
		{0, 1, 0}, {0, 0, 0}, {1e-45, 1e-38, 1e-45}, {1, 1 << 10, -(1 << 10)}, {1, 1 << 10, 0}, {1, 0, 1 << 10},
	} {
		p := layouttest.Params(s, 5)
		for i := range p.Text.Blocks {
			b := &p.Text.Blocks[i]
			for _, l := range []*layout.Linear{&b.QKV, &b.Out, &b.Up, &b.Down} {
				fill(l.Scale, c.scale)
				fill(l.Bias, c.bias)
			}
			fill(b.AttnNormGain, c.gain)
			fill(b.FFNNormGain, c.gain)
			fill(b.FFNNormBias, c.bias)
		}
		fill(p.Text.Word.Scale, c.scale)
		fill(p.Text.Position.Scale, c.scale)
		p.UserInv = c.scale
		image, m := open(t, p)
		requests := layouttest.TextRequests(s, image.Map, 32, 6)
		same(t, newGuest(t, wazero.NewRuntimeConfigCompiler(), image), m, requests)
		for _, r := range requests {
			for _, v := range m.Run(r).Vector {
				if v != v || v-v != 0 {
					t.Fatalf("%+v: the vector holds %v", c, v)
				}
			}
		}
	}
}

func fill(x []float32, v float32) {
	for i := range x {
		x[i] = v
	}
}

// TestTextSlices sees that a text is encoded in slices, and that one that was
// abandoned leaves nothing behind.
func TestTextSlices(t *testing.T) {
	s := layouttest.TextShapes()[4]
	image, m := open(t, layouttest.Params(s, 7))
	g := newGuest(t, wazero.NewRuntimeConfigCompiler(), image)
	requests := layouttest.TextRequests(s, image.Map, 4, 8)
	r := rand.New(rand.NewPCG(1, 2))
	var text string
	for len(text) < 2000 {
		text += layouttest.Text(r) + " "
	}
	long := layout.Request{Kind: layout.KindSearch, K: 3, List: []uint32{1, 2}, Text: text[:2000]}
	same(t, g, m, []layout.Request{long})
	calls := g.slices
	if calls < 10 {
		t.Errorf("a text of %d bytes was encoded in %d calls", len(long.Text), calls)
	}
	for stop := 1; stop < calls; stop += 1 + calls/8 {
		g.memory.Write(g.m.Request, long.Append(nil))
		for range stop {
			if _, err := g.run.Call(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		same(t, g, m, requests)
	}
}

func TestBadTextRequests(t *testing.T) {
	whole, bare := layouttest.TextShapes()[1], layouttest.TextShapes()[6]
	none := whole
	none.Text = layout.TextShape{}
	long := string(make([]byte, layout.MaxText+1))
	for name, c := range map[string]struct {
		s    layout.Shape
		r    layout.Request
		want uint32
	}{
		"longest":           {whole, layout.Request{Kind: layout.KindEmbed, Text: long[1:]}, layout.StatusOK},
		"too long":          {whole, layout.Request{Kind: layout.KindEmbed, Text: long}, layout.StatusLong},
		"long description":  {whole, layout.Request{Kind: layout.KindScore, Text: long}, layout.StatusLong},
		"no encoder":        {none, layout.Request{Kind: layout.KindEmbed}, layout.StatusNoText},
		"no texts":          {bare, layout.Request{Kind: layout.KindSearch, K: 1}, layout.StatusNoText},
		"no user map":       {bare, layout.Request{Kind: layout.KindScore, Text: "a"}, layout.StatusNoText},
		"no item map":       {bare, layout.Request{Kind: layout.KindEmbed, Flags: layout.FlagItemRow}, layout.StatusNoText},
		"search without k":  {whole, layout.Request{Kind: layout.KindSearch}, layout.StatusRequest},
		"search, history":   {whole, layout.Request{Kind: layout.KindSearch, K: 1, History: make([]layout.Event, 1)}, layout.StatusRequest},
		"search, flags":     {whole, layout.Request{Kind: layout.KindSearch, K: 1, Flags: 1}, layout.StatusRequest},
		"embedding, k":      {whole, layout.Request{Kind: layout.KindEmbed, K: 1}, layout.StatusRequest},
		"embedding, list":   {whole, layout.Request{Kind: layout.KindEmbed, List: make([]uint32, 1)}, layout.StatusRequest},
		"embedding, flags":  {whole, layout.Request{Kind: layout.KindEmbed, Flags: 1}, layout.StatusRequest},
		"recommend, flags":  {whole, layout.Request{Kind: layout.KindRecommend, K: 1, Flags: 2}, layout.StatusRequest},
		"search, list item": {whole, layout.Request{Kind: layout.KindSearch, K: 1, List: []uint32{99}}, layout.StatusItem},
	} {
		t.Run(name, func(t *testing.T) {
			image, m := open(t, layouttest.Params(c.s, 9))
			if err := c.r.Check(c.s, image.Map); (err == nil) != (c.want == layout.StatusOK) {
				t.Errorf("Check says %v", err)
			}
			if got := m.Run(c.r); got.Status != c.want {
				t.Errorf("q8 gives status %d, want %d", got.Status, c.want)
			}
			g := newGuest(t, wazero.NewRuntimeConfigCompiler(), image)
			if c.want == layout.StatusLong {
				// The text itself has no place; its length says enough.
				head := c.r.Append(nil)[:4*9]
				if h := layout.ParseAnswerHeader(g.answer(t, head)); h.Status != c.want {
					t.Errorf("the guest gives status %d, want %d", h.Status, c.want)
				}
				return
			}
			same(t, g, m, []layout.Request{c.r})
		})
	}
}
