package model

import (
	"fmt"
	"math"
)

// NormEpsilon is added to the variance in every layer normalisation of the user
// tower; a text encoder has one of its own.
const NormEpsilon = 1e-5

// Model is a configuration with its weights and the item vectors they give.
// It is safe for concurrent use as long as nobody writes to the weights.
type Model struct {
	Config  Config
	Weights Weights
	// ItemVectors is V, (N, D): v_i = e_i + W_feat·f_i.
	ItemVectors *Tensor
}

// New checks w against c and computes the item vectors. features holds the
// given item vectors f_i, (N, F); it is nil where c.Features is 0. An item
// without features has a row of zeros, an item that was never trained on a row
// of zeros in ItemEmbedding. The weights are kept, not copied.
func New(c Config, w Weights, features *Tensor) (*Model, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if err := w.Check(c); err != nil {
		return nil, err
	}
	m := &Model{Config: c, Weights: w, ItemVectors: NewTensor(c.Items, c.Dim)}
	copy(m.ItemVectors.Data, w[ItemEmbedding].Data)
	if c.Features == 0 {
		return m, nil
	}
	if features == nil || len(features.Shape) != 2 || features.Shape[0] != c.Items || features.Shape[1] != c.Features {
		return nil, fmt.Errorf("%w: item features must have shape [%d %d]", ErrInput, c.Items, c.Features)
	}
	for i := range c.Items {
		linear(m.ItemVectors.Row(i), w[ItemFeatures], nil, features.Row(i), true)
	}
	return m, nil
}

// Tap receives intermediate values of a forward pass: a site, the position of
// the event in the history, and the values, which it must not keep or change.
// Sites are named like the tensors they feed: see Sites.
type Tap func(site string, position int, x []float32)

// Sites of a forward pass, in the order of computation, for block l:
// "user.layer.l.attn.in" (D, input of q, k and v), ".attn.q", ".attn.k",
// ".attn.v" (D), ".attn.out" (D, input of o), ".ffn.in" (D), ".ffn.hidden" (FFN),
// ".out" (D, the residual stream after the block); at the end "user.out" (D).
const (
	SiteAttnIn    = "attn.in"
	SiteAttnQ     = "attn.q"
	SiteAttnK     = "attn.k"
	SiteAttnV     = "attn.v"
	SiteAttnOut   = "attn.out"
	SiteFFNIn     = "ffn.in"
	SiteFFNHidden = "ffn.hidden"
	SiteBlockOut  = "out"
	SiteUserOut   = "user.out"
)

// User returns u, (D), the vector of a user with the given history, oldest
// event first; an empty history gives the cold-start vector. Only the last
// Config.Reach events matter. tap may be nil. What is said of the user is not in
// it yet: see Describe.
//
// The tower is a causal pre-norm transformer (Vaswani et al. 2017; Xiong et al.
// 2020) with banded attention and a learned bias for each head and distance in
// the place of positions (in the manner of Raffel et al. 2020):
//
//	x_t = sqrt(D)·v_item + type + gap
//	x_t += O·attention(norm(x))_t      over positions t-W+1 … t
//	x_t += down·relu(up·norm(x_t))
//	u   = norm(x_T)
func (m *Model) User(history []Event, tap Tap) ([]float32, error) {
	states, err := m.States(history, tap)
	if err != nil {
		return nil, err
	}
	if len(states) == 0 {
		return append([]float32(nil), m.Weights[UserCold].Data...), nil
	}
	return states[len(states)-1], nil
}

// Describe adds W_desc·f to u, (D), the vector of a user with any history, f being
// the given vector of the user's description, (F_u). The description meets the
// events only here (late fusion): states of events that were computed before, and
// kept, hold for any description, and a user of whom nothing is said needs no call.
func (m *Model) Describe(u, description []float32) error {
	c := m.Config
	if c.Descriptions == 0 || len(description) != c.Descriptions || len(u) != c.Dim {
		return fmt.Errorf("%w: a description of width %d for a user of width %d, the model has %d and %d",
			ErrInput, len(description), len(u), c.Descriptions, c.Dim)
	}
	linear(u, m.Weights[UserDescription], nil, description, true)
	return nil
}

// States returns the user vector after each event of the history, as training
// sees them: row t depends on events up to t. Its length is
// min(len(history), Config.Reach()), the last row that of the last event.
func (m *Model) States(history []Event, tap Tap) ([][]float32, error) {
	c, w := m.Config, m.Weights
	if tap == nil {
		tap = func(string, int, []float32) {}
	}
	if r := c.Reach(); len(history) > r {
		history = history[len(history)-r:]
	}
	T, D := len(history), c.Dim
	x := make([][]float32, T) // (T, D)
	scale := float32(math.Sqrt(float64(D)))
	for t, e := range history {
		if e.Item < 0 || int(e.Item) >= c.Items || int(e.Type) >= c.EventTypes {
			return nil, fmt.Errorf("%w: event %d has item %d and type %d, the model has %d items and %d types",
				ErrInput, t, e.Item, e.Type, c.Items, c.EventTypes)
		}
		x[t] = make([]float32, D)
		v, et, eg := m.ItemVectors.Row(int(e.Item)), w[UserType].Row(int(e.Type)), w[UserGap].Row(c.GapBucket(e.Gap))
		for d := range x[t] {
			x[t][d] = scale*v[d] + et[d] + eg[d]
		}
	}
	for l := range c.Layers {
		m.block(l, x, tap)
	}
	for t := range x {
		u := make([]float32, D)
		norm(u, x[t], w[UserNormGain].Data, w[UserNormBias].Data, NormEpsilon)
		tap(SiteUserOut, t, u)
		x[t] = u
	}
	return x, nil
}

// block applies transformer block l to x, (T, D), in place.
func (m *Model) block(l int, x [][]float32, tap Tap) {
	c := m.Config
	p := func(name string) *Tensor { return m.Weights[LayerName(l, name)] }
	site := func(name string) string { return LayerName(l, name) }
	T, D, H := len(x), c.Dim, c.Heads
	dh := D / H
	q, k, v := make([][]float32, T), make([][]float32, T), make([][]float32, T)
	h := make([]float32, D)
	for t := range x {
		norm(h, x[t], p("attn.norm.weight").Data, p("attn.norm.bias").Data, NormEpsilon)
		tap(site(SiteAttnIn), t, h)
		q[t], k[t], v[t] = make([]float32, D), make([]float32, D), make([]float32, D)
		linear(q[t], p("attn.q.weight"), p("attn.q.bias"), h, false)
		linear(k[t], p("attn.k.weight"), p("attn.k.bias"), h, false)
		linear(v[t], p("attn.v.weight"), p("attn.v.bias"), h, false)
		tap(site(SiteAttnQ), t, q[t])
		tap(site(SiteAttnK), t, k[t])
		tap(site(SiteAttnV), t, v[t])
	}
	scale := float32(1 / math.Sqrt(float64(dh)))
	bias := p("attn.distance.bias") // (H, W)
	scores := make([]float32, c.Window)
	hidden := make([]float32, c.FFN)
	for t := range x {
		o := make([]float32, D)
		n := min(t+1, c.Window) // distances 0 … n-1
		for a := range H {
			lo, hi := a*dh, (a+1)*dh
			best := float32(math.Inf(-1))
			for d := range n {
				scores[d] = dot(q[t][lo:hi], k[t-d][lo:hi])*scale + bias.Row(a)[d]
				best = max(best, scores[d])
			}
			var sum float32
			for d := range n {
				scores[d] = float32(math.Exp(float64(scores[d] - best)))
				sum += scores[d]
			}
			for d := range n {
				s := scores[d] / sum
				for j := lo; j < hi; j++ {
					o[j] += s * v[t-d][j]
				}
			}
		}
		tap(site(SiteAttnOut), t, o)
		linear(x[t], p("attn.o.weight"), p("attn.o.bias"), o, true)
		norm(h, x[t], p("ffn.norm.weight").Data, p("ffn.norm.bias").Data, NormEpsilon)
		tap(site(SiteFFNIn), t, h)
		linear(hidden, p("ffn.up.weight"), p("ffn.up.bias"), h, false)
		for j := range hidden {
			hidden[j] = max(hidden[j], 0)
		}
		tap(site(SiteFFNHidden), t, hidden)
		linear(x[t], p("ffn.down.weight"), p("ffn.down.bias"), hidden, true)
		tap(site(SiteBlockOut), t, x[t])
	}
}

// Scores writes u·v_i for every item to dst, which has length N.
func (m *Model) Scores(dst, u []float32) {
	for i := range dst {
		dst[i] = dot(u, m.ItemVectors.Row(i))
	}
}

// linear computes y = W·x + b, or y += W·x + b; W is (len(y), len(x)), b may be nil.
func linear(y []float32, w, b *Tensor, x []float32, add bool) {
	for i := range y {
		s := dot(w.Row(i), x)
		if b != nil {
			s += b.Data[i]
		}
		if add {
			s += y[i]
		}
		y[i] = s
	}
}

// norm is layer normalisation (Ba et al. 2016): y = (x-mean)/sqrt(var+eps)·gain + bias.
// x and y may be the same.
func norm(y, x, gain, bias []float32, eps float32) {
	var mean, variance float32
	for _, v := range x {
		mean += v
	}
	mean /= float32(len(x))
	for _, v := range x {
		variance += (v - mean) * (v - mean)
	}
	r := float32(1 / math.Sqrt(float64(variance/float32(len(x))+eps)))
	for i, v := range x {
		y[i] = (v-mean)*r*gain[i] + bias[i]
	}
}

func dot(a, b []float32) float32 {
	var s float32
	for i, v := range a {
		s += v * b[i]
	}
	return s
}
