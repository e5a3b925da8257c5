package q8

import (
	"fmt"
	"math/bits"

	"github.com/wisp-project/wisp/internal/layout"
)

// history is what a request says of a user's past: the state that earlier events
// left behind, and the events since then.
type history struct {
	state  layout.State
	events []layout.Event
}

// history returns that of a request that was checked.
func (q *Model) history(r layout.Request) history {
	h := history{events: r.History}
	if len(r.State) > 0 {
		var err error
		if h.state, err = layout.ParseState(r.State, q.p.Shape); err != nil {
			panic("q8: " + err.Error()) // check has seen it
		}
	}
	return h
}

// encode runs the events through the blocks and returns the state behind them.
// Without a state only what the answer depends on is computed: block l gives
// outputs at the last (L-1-l)(W-1)+1 positions.
func (q *Model) encode(h history, tap Tap) layout.State {
	p, s := &q.p, q.p.Shape
	if len(h.events) == 0 {
		state := q.grown(h.state)
		if state.Events == 0 {
			clear(state.Last)
		}
		return state
	}
	T := len(h.events)
	x := make([][]float32, T) // (T, D)
	for t, e := range h.events {
		x[t] = q.input(e)
	}
	after := q.grown(layout.State{Events: min(h.state.Events+T, s.Window)})
	before := q.grown(h.state)
	for l := range p.Blocks {
		after.Keys[l], after.Values[l] = q.block(l, x, before.Keys[l], before.Values[l], tap)
	}
	copy(after.Last, x[T-1])
	return after
}

// input returns the residual stream, (D), with which an event enters the blocks.
func (q *Model) input(e layout.Event) []float32 {
	p, s := &q.p, q.p.Shape
	D := s.Dim
	x := make([]float32, D)
	scale := p.ItemScale[e.Item] * p.InputScale
	row := p.ItemRows[int(e.Item)*D:]
	kind, gap := p.Type[int(e.Type)*D:], p.Gap[gapBucket(e.Gap, s.GapBuckets)*D:]
	for d := range x {
		x[d] = (float32(float32(row[d])*scale) + kind[d]) + gap[d]
	}
	return x
}

// grown returns a state with all its slices.
func (q *Model) grown(s layout.State) layout.State {
	if s.Last == nil {
		s.Last = make([]float32, q.p.Shape.Dim)
		s.Keys, s.Values = make([][][]int8, q.p.Shape.Layers), make([][][]int8, q.p.Shape.Layers)
	}
	return s
}

// block applies transformer block l to x, (T, D), in place. The keys and values
// of events before x are given; those that later events will attend to, of the
// last W-1 at most, are returned.
func (q *Model) block(l int, x [][]float32, keys, values [][]int8, tap Tap) (newKeys, newValues [][]int8) {
	s, b := q.p.Shape, &q.p.Blocks[l]
	site := func(t int, name string, v []float32) { tap(fmt.Sprintf("user.layer.%d.%s", l, name), t, v) }
	C, D, W := len(keys), s.Dim, s.Window
	T := C + len(x) // positions count the cached events, too
	headDim := D / s.Heads
	firstOut := max(C, T-((s.Layers-1-l)*(W-1)+1))
	firstIn := max(C, firstOut-(W-1))

	qs, ks, vs := make([][]int16, T), make([][]int16, T), make([][]int16, T) // (T, D) each
	for t := range C {
		ks[t], vs[t] = widen(keys[t]), widen(values[t])
	}
	for t := firstIn; t < T; t++ {
		at := func(name string, v []float32) { site(t, name, v) }
		qs[t], ks[t], vs[t] = q.project(b, x[t-C], t >= firstOut, at)
	}
	o := make([]float32, D)
	for t := firstOut; t < T; t++ {
		n := min(t+1, W) // distances 0 … n-1
		for a := range s.Heads {
			lo, hi := a*headDim, (a+1)*headDim
			attend(o[lo:hi], qs[t][lo:hi], n, func(d int) (k, v []int16) { return ks[t-d][lo:hi], vs[t-d][lo:hi] },
				b.ScoreScale, b.DistanceBias[a*W:], b.VScale)
		}
		q.finish(b, x[t-C], o, func(name string, v []float32) { site(t, name, v) })
	}
	for t := max(0, T-(W-1)); t < T; t++ {
		newKeys, newValues = append(newKeys, narrow(ks[t])), append(newValues, narrow(vs[t]))
	}
	return newKeys, newValues
}

// project returns query, key and value, (D) each, of an event with residual stream
// x. Without an output to compute, its query is nobody's.
func (q *Model) project(b *layout.Block, x []float32, output bool, site func(string, []float32)) (query, key, value []int16) {
	D := len(x)
	h, in, qkv := make([]float32, D), make([]int16, D), make([]float32, 3*D)
	norm(h, x, b.AttnNormGain, b.AttnNormBias, NormEpsilon)
	quant(in, h, b.AttnInInv, layout.WeightMax)
	site("attn.in", scaled(in, b.AttnInInv))
	linear(qkv, &b.QKV, in)
	query, key, value = make([]int16, D), make([]int16, D), make([]int16, D)
	quant(query, qkv[:D], b.QInv, layout.WeightMax)
	quant(key, qkv[D:2*D], b.KInv, layout.WeightMax)
	quant(value, qkv[2*D:], b.VInv, layout.WeightMax)
	if output {
		site("attn.q", scaled(query, b.QInv))
	}
	site("attn.k", scaled(key, b.KInv))
	site("attn.v", scaled(value, b.VInv))
	return query, key, value
}

// finish adds to x what the rest of a block makes of its attention o, (D).
func (q *Model) finish(b *layout.Block, x, o []float32, site func(string, []float32)) {
	D, F := len(x), q.p.Shape.FFN
	in, h, y := make([]int16, D), make([]float32, D), make([]float32, D)
	hidden, act := make([]float32, F), make([]int16, F)
	quant(in, o, b.OutInv, layout.WeightMax)
	site("attn.out", scaled(in, b.OutInv))
	linear(y, &b.Out, in)
	for d := range y {
		x[d] += y[d]
	}
	norm(h, x, b.FFNNormGain, b.FFNNormBias, NormEpsilon)
	quant(in, h, b.FFNInInv, layout.WeightMax)
	site("ffn.in", scaled(in, b.FFNInInv))
	linear(hidden, &b.Up, in)
	for j := range hidden {
		hidden[j] = max(hidden[j], 0)
	}
	quant(act, hidden, b.HiddenInv, layout.WeightMax)
	site("ffn.hidden", scaled(act, b.HiddenInv))
	linear(y, &b.Down, act)
	for d := range y {
		x[d] += y[d]
	}
	site("out", x)
}

func widen(x []int8) []int16 {
	y := make([]int16, len(x))
	for i, v := range x {
		y[i] = int16(v)
	}
	return y
}

func narrow(x []int16) []int8 {
	y := make([]int8, len(x))
	for i, v := range x {
		y[i] = int8(v)
	}
	return y
}

// gapBucket is model.Config.GapBucket: 0 for no gap, otherwise the bit length,
// the last bucket open ended.
func gapBucket(seconds uint32, buckets int) int { return min(bits.Len32(seconds), buckets-1) }
