package quantize_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/wisp-project/wisp/hostgpu"
	"github.com/wisp-project/wisp/internal/layout"
	"github.com/wisp-project/wisp/model"
	"github.com/wisp-project/wisp/quantize"
)

// counted is a forward pass that is written for nothing but to be counted: every
// value is asked for by what needs it and computed once, and each product that
// goes into a sum is counted where it is made.
type counted struct {
	m    *model.Model
	h    []model.Event
	n    int64 // so far
	out  map[[2]int][]float32
	qkvs map[[2]int][][]float32
}

func newCounted(m *model.Model, h []model.Event) *counted {
	return &counted{m: m, h: h[max(0, len(h)-m.Config.Reach()):], out: map[[2]int][]float32{}, qkvs: map[[2]int][][]float32{}}
}

func (c *counted) dot(a, b []float32) float32 {
	var s float32
	for i := range a {
		s += a[i] * b[i]
		c.n++
	}
	return s
}

func (c *counted) linear(w, b *model.Tensor, x []float32) []float32 {
	y := make([]float32, w.Shape[0])
	for i := range y {
		y[i] = c.dot(w.Row(i), x) + b.Data[i]
	}
	return y
}

func normalised(x, gain, bias []float32, epsilon float64) []float32 {
	var mean, variance float64
	for _, v := range x {
		mean += float64(v) / float64(len(x))
	}
	for _, v := range x {
		variance += (float64(v) - mean) * (float64(v) - mean) / float64(len(x))
	}
	y := make([]float32, len(x))
	for i, v := range x {
		y[i] = float32((float64(v)-mean)/math.Sqrt(variance+epsilon))*gain[i] + bias[i]
	}
	return y
}

// softmax changes scores in place.
func softmax(scores []float32) {
	best, sum := float32(math.Inf(-1)), 0.0
	for _, s := range scores {
		best = max(best, s)
	}
	for i, s := range scores {
		scores[i] = float32(math.Exp(float64(s - best)))
		sum += float64(scores[i])
	}
	for i := range scores {
		scores[i] /= float32(sum)
	}
}

// attend is one head; keys and values are counted as they are met.
func (c *counted) attend(query []float32, keys, values [][]float32, bias func(i int) float32) []float32 {
	scores := make([]float32, len(keys))
	for i, k := range keys {
		scores[i] = c.dot(query, k)/float32(math.Sqrt(float64(len(query)))) + bias(i)
	}
	softmax(scores)
	o := make([]float32, len(query))
	for i, v := range values {
		for j := range o {
			o[j] += scores[i] * v[j]
			c.n++
		}
	}
	return o
}

// state is what goes into block l at position t.
func (c *counted) state(l, t int) []float32 {
	if x, ok := c.out[[2]int{l, t}]; ok {
		return x
	}
	cfg, w := c.m.Config, c.m.Weights
	x := make([]float32, cfg.Dim)
	if l == 0 {
		e := c.h[t]
		for d := range x {
			x[d] = float32(math.Sqrt(float64(cfg.Dim)))*c.m.ItemVectors.Row(int(e.Item))[d] + w[model.UserType].Row(int(e.Type))[d] + w[model.UserGap].Row(cfg.GapBucket(e.Gap))[d]
		}
	} else {
		p := func(name string) *model.Tensor { return w[model.LayerName(l-1, name)] }
		copy(x, c.state(l-1, t))
		q, dh := c.qkv(l-1, t)[0], cfg.Dim/cfg.Heads
		o := make([]float32, 0, cfg.Dim)
		for a := range cfg.Heads {
			var keys, values [][]float32
			for d := range min(t+1, cfg.Window) {
				qkv := c.qkv(l-1, t-d)
				keys, values = append(keys, qkv[1][a*dh:(a+1)*dh]), append(values, qkv[2][a*dh:(a+1)*dh])
			}
			o = append(o, c.attend(q[a*dh:(a+1)*dh], keys, values, func(i int) float32 { return p("attn.distance.bias").Row(a)[i] })...)
		}
		for d, v := range c.linear(p("attn.o.weight"), p("attn.o.bias"), o) {
			x[d] += v
		}
		hidden := c.linear(p("ffn.up.weight"), p("ffn.up.bias"), normalised(x, p("ffn.norm.weight").Data, p("ffn.norm.bias").Data, model.NormEpsilon))
		for j := range hidden {
			hidden[j] = max(hidden[j], 0)
		}
		for d, v := range c.linear(p("ffn.down.weight"), p("ffn.down.bias"), hidden) {
			x[d] += v
		}
	}
	c.out[[2]int{l, t}] = x
	return x
}

// qkv is one linear map, as in an image.
func (c *counted) qkv(l, t int) [][]float32 {
	if x, ok := c.qkvs[[2]int{l, t}]; ok {
		return x
	}
	p := func(name string) *model.Tensor { return c.m.Weights[model.LayerName(l, name)] }
	h := normalised(c.state(l, t), p("attn.norm.weight").Data, p("attn.norm.bias").Data, model.NormEpsilon)
	var x [][]float32
	for _, name := range []string{"q", "k", "v"} {
		x = append(x, c.linear(p("attn."+name+".weight"), p("attn."+name+".bias"), h))
	}
	c.qkvs[[2]int{l, t}] = x
	return x
}

// user returns the vector of the user; with all, blocks are computed at every
// position, needed or not.
func (c *counted) user(all bool) []float32 {
	L, T := c.m.Config.Layers, len(c.h)
	if T == 0 {
		return c.m.Weights[model.UserCold].Data
	}
	if all {
		for t := range T {
			c.state(L, t)
		}
	}
	return normalised(c.state(L, T-1), c.m.Weights[model.UserNormGain].Data, c.m.Weights[model.UserNormBias].Data, model.NormEpsilon)
}

func near(t *testing.T, what string, got, want []float32) {
	t.Helper()
	for i := range want {
		if math.Abs(float64(got[i]-want[i])) > 1e-3*(1+math.Abs(float64(want[i]))) {
			t.Fatalf("%s: value %d is %v, the model gives %v", what, i, got[i], want[i])
		}
	}
}

// The counts are those of a forward pass that gives the model's own answer.
func TestRequestMACs(t *testing.T) {
	for name, s := range map[string]layout.Shape{
		"one layer":     {Items: 9, Dim: 8, Layers: 1, Heads: 2, FFN: 12, Window: 4, EventTypes: 3, GapBuckets: 5},
		"two layers":    {Items: 11, Dim: 12, Layers: 2, Heads: 3, FFN: 5, Window: 5, EventTypes: 2, GapBuckets: 4},
		"three, narrow": {Items: 5, Dim: 6, Layers: 3, Heads: 1, FFN: 7, Window: 2, EventTypes: 1, GapBuckets: 2},
		"window of one": {Items: 5, Dim: 4, Layers: 2, Heads: 2, FFN: 4, Window: 1, EventTypes: 1, GapBuckets: 1},
	} {
		t.Run(name, func(t *testing.T) {
			m := random(t, s, 3)
			rng := rand.New(rand.NewPCG(5, 6))
			for _, n := range []int{0, 1, 2, 3, s.Window, s.Window + 1, s.Reach() - 1, s.Reach(), s.Reach() + 7} {
				if n < 0 {
					continue
				}
				h := hostgpu.Events(randomHistory(rng, m.Config, n))
				want, err := m.User(h, nil)
				if err != nil {
					t.Fatal(err)
				}
				for _, all := range []bool{false, true} {
					c := newCounted(m, h)
					u := c.user(all)
					near(t, "user vector", u, want)
					for i := range s.Items {
						c.dot(u, m.ItemVectors.Row(i))
					}
					got := quantize.RequestMACs(s, n)
					if all {
						got = quantize.ModelMACs(m.Config, n)
					}
					if got.Total() != c.n {
						t.Errorf("%d events, all %v: %d MACs (%+v), a forward pass takes %d", n, all, got.Total(), got, c.n)
					}
				}
			}
		})
	}
}

func TestTextMACs(t *testing.T) {
	c := model.TextConfig{
		Vocabulary: 20, Positions: 10, MaxTokens: 10, Types: 1, Dim: 12, Layers: 2, Heads: 3, FFN: 10, NormEpsilon: 1e-12, Pooling: model.PoolMean,
	}
	w, rng := model.Weights{}, rand.New(rand.NewPCG(1, 2))
	for _, s := range c.Specs() {
		w[s.Name] = model.NewTensor(s.Shape...)
		for i := range w[s.Name].Data {
			w[s.Name].Data[i] = float32(rng.NormFloat64()) * 0.3
		}
	}
	m, err := model.NewText(c, w)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{1, 2, 7, 10} {
		ids := make([]int32, n)
		for i := range ids {
			ids[i] = int32(rng.IntN(c.Vocabulary))
		}
		want, err := m.Embed(ids)
		if err != nil {
			t.Fatal(err)
		}
		pass := &counted{}
		near(t, "embedding", pass.embed(m, ids), want)
		if got := quantize.TextMACs(c, n).Total(); got != pass.n {
			t.Errorf("%d tokens: %d MACs, a forward pass takes %d", n, got, pass.n)
		}
	}
	shape := layout.TextShape{Dim: c.Dim, Layers: c.Layers, FFN: c.FFN, Tokens: 7}
	if got, want := quantize.EncoderMACs(shape, 9), quantize.TextMACs(c, 7); got != want {
		t.Errorf("an image cuts texts to 7 tokens and counts %+v, want %+v", got, want)
	}
}

// embed is a text encoder's forward pass, counted.
func (c *counted) embed(m *model.TextModel, ids []int32) []float32 {
	cfg, w := m.Config, m.Weights
	norm := func(x []float32, gain, bias string) []float32 {
		return normalised(x, w[gain].Data, w[bias].Data, cfg.NormEpsilon)
	}
	x := make([][]float32, len(ids))
	for t, id := range ids {
		x[t] = make([]float32, cfg.Dim)
		for d := range x[t] {
			x[t][d] = w[model.TextWord].Row(int(id))[d] + w[model.TextPosition].Row(t)[d] + w[model.TextType].Row(0)[d]
		}
		x[t] = norm(x[t], model.TextNormGain, model.TextNormBias)
	}
	for l := range cfg.Layers {
		p := func(name string) *model.Tensor { return w[model.TextLayerName(l, name)] }
		var q, k, v [][]float32
		for t := range x {
			q = append(q, c.linear(p("attn.q.weight"), p("attn.q.bias"), x[t]))
			k = append(k, c.linear(p("attn.k.weight"), p("attn.k.bias"), x[t]))
			v = append(v, c.linear(p("attn.v.weight"), p("attn.v.bias"), x[t]))
		}
		dh := cfg.Dim / cfg.Heads
		for t := range x {
			var o []float32
			for lo := 0; lo < cfg.Dim; lo += dh {
				var keys, values [][]float32
				for i := range x {
					keys, values = append(keys, k[i][lo:lo+dh]), append(values, v[i][lo:lo+dh])
				}
				o = append(o, c.attend(q[t][lo:lo+dh], keys, values, func(int) float32 { return 0 })...)
			}
			for d, y := range c.linear(p("attn.o.weight"), p("attn.o.bias"), o) {
				x[t][d] += y
			}
			x[t] = norm(x[t], model.TextLayerName(l, "attn.norm.weight"), model.TextLayerName(l, "attn.norm.bias"))
			hidden := c.linear(p("ffn.up.weight"), p("ffn.up.bias"), x[t])
			for j, h := range hidden {
				hidden[j] = h * float32(0.5*math.Erfc(-float64(h)/math.Sqrt2))
			}
			for d, y := range c.linear(p("ffn.down.weight"), p("ffn.down.bias"), hidden) {
				x[t][d] += y
			}
			x[t] = norm(x[t], model.TextLayerName(l, "ffn.norm.weight"), model.TextLayerName(l, "ffn.norm.bias"))
		}
	}
	y := make([]float32, cfg.Dim)
	for _, row := range x {
		for d, v := range row {
			y[d] += v / float32(len(x))
		}
	}
	return y
}

func TestParameters(t *testing.T) {
	count := func(c model.Shaped) (n int64) {
		for _, s := range c.Specs() {
			p := int64(1)
			for _, d := range s.Shape {
				p *= int64(d)
			}
			n += p
		}
		return n
	}
	c := model.Config{Items: 31, Dim: 12, Layers: 3, Heads: 2, FFN: 20, Window: 7, EventTypes: 5, GapBuckets: 6}
	s := quantize.Shape(c)
	if got, want := quantize.Parameters(s), count(c); got != want {
		t.Errorf("%d parameters, the model has %d", got, want)
	}
	x := model.TextConfig{Vocabulary: 40, Positions: 16, Types: 1, Dim: 8, Layers: 2, Heads: 2, FFN: 9}
	s.Text = layout.TextShape{Vocabulary: x.Vocabulary, Tokens: x.Positions, Dim: x.Dim, Layers: x.Layers, Heads: x.Heads, FFN: x.FFN, UserMap: true, ItemMap: true}
	// The vector of the token type is part of the positions.
	if got, want := quantize.Parameters(s), count(c)+count(x)-8+2*12*8; got != want {
		t.Errorf("%d parameters with an encoder, want %d", got, want)
	}
}

// A decoder of two layers, counted by hand: width 4, feed-forward 6, vocabulary 10.
func TestDecoder(t *testing.T) {
	d := quantize.Decoder{Layers: 2, Dim: 4, FFN: 6, Vocabulary: 10}
	const weights = 2 * (4*4*4 + 3*4*6) // 272
	if got := d.Parameters(); got != weights+2*40+5*4 {
		t.Errorf("%d parameters", got)
	}
	// Three tokens see 1, 2 and 3: six pairs, each 4 products for the score and 4 for the value, in two layers.
	if got := d.PromptMACs(3); got != 3*weights+2*6*8+40 {
		t.Errorf("a prompt of three takes %d", got)
	}
	if got := d.TokenMACs(4); got != weights+2*4*8+40 {
		t.Errorf("the fourth token takes %d", got)
	}
	// The first token after a prompt of n-1 sees as many as the last of a prompt of n.
	if d.PromptMACs(7)-d.PromptMACs(6) != d.TokenMACs(7)-40 {
		t.Error("reading and writing a token do not take the same in the blocks")
	}
	if got := d.StateBytes(); got != 2*2*2*4 {
		t.Errorf("a token leaves %d bytes", got)
	}
	seven := quantize.Decoder{Layers: 32, Dim: 4096, FFN: 11008, Vocabulary: 32000}
	if n := seven.Parameters(); n != 6738415616 {
		t.Errorf("the usual dimensions make %d parameters, want 6738415616", n)
	}
}
