// Package layouttest makes parameters for tests: random, valid, and in ranges
// that exercise rounding and saturation.
package layouttest

import (
	"math"
	"math/rand/v2"

	"github.com/wisp-project/wisp/internal/layout"
)

// Params returns random parameters of the given shape.
func Params(s layout.Shape, seed uint64) layout.Params {
	r := rand.New(rand.NewPCG(seed, 0xa11ce))
	floats := func(n int, mean, dev float64) []float32 {
		x := make([]float32, n)
		for i := range x {
			x[i] = float32(mean + dev*r.NormFloat64())
		}
		return x
	}
	scales := func(n int, mid float64) []float32 {
		x := make([]float32, n)
		for i := range x {
			x[i] = float32(mid * math.Exp(0.5*r.NormFloat64()))
		}
		return x
	}
	weights := func(n int) []int8 {
		w := make([]int8, n)
		for i := range w {
			w[i] = int8(r.IntN(255) - 127)
		}
		return w
	}
	linear := func(rows, cols int) layout.Linear {
		mid := 1 / (127 * 73 * math.Sqrt(float64(cols)))
		return layout.Linear{
			Rows: rows, Cols: cols, W: weights(rows * cols),
			Scale: scales(rows, 2*mid), Bias: floats(rows, 0, 0.1),
		}
	}
	scalar := func(mid float64) float32 { return scales(1, mid)[0] }
	p := layout.Params{
		Shape: s, InputScale: scalar(8 * 500), UserInv: scalar(500),
		Type: floats(s.EventTypes*s.Dim, 0, 0.3), Gap: floats(s.GapBuckets*s.Dim, 0, 0.3),
		NormGain: floats(s.Dim, 1, 0.2), NormBias: floats(s.Dim, 0, 0.2),
		Cold: make([]int16, s.Dim), ItemRows: weights(s.Items * s.Dim), ItemScale: scales(s.Items, 1.0/(127*500*8)),
	}
	for i := range p.Cold {
		p.Cold[i] = int16(r.IntN(2*layout.UserMax+1) - layout.UserMax)
	}
	for range s.Layers {
		p.Blocks = append(p.Blocks, layout.Block{
			AttnNormGain: floats(s.Dim, 1, 0.2), AttnNormBias: floats(s.Dim, 0, 0.2),
			FFNNormGain: floats(s.Dim, 1, 0.2), FFNNormBias: floats(s.Dim, 0, 0.2),
			AttnInInv: scalar(40), QInv: scalar(40), KInv: scalar(40), VInv: scalar(40),
			ScoreScale: scalar(1.0 / (40 * 40) / math.Sqrt(float64(s.Dim/s.Heads))), VScale: scalar(1.0 / 40),
			DistanceBias: floats(s.Heads*s.Window, 0, 0.5), OutInv: scalar(60), FFNInInv: scalar(40), HiddenInv: scalar(50),
			QKV: linear(3*s.Dim, s.Dim), Out: linear(s.Dim, s.Dim), Up: linear(s.FFN, s.Dim), Down: linear(s.Dim, s.FFN),
		})
	}
	return p
}

// Shapes are the dimensions that every implementation is compared on: lengths
// that are no multiples of any block, a single item, the largest window, and
// the shape of a real model.
func Shapes() []layout.Shape {
	return []layout.Shape{
		{Items: 1, Dim: 1, Layers: 1, Heads: 1, FFN: 1, Window: 1, EventTypes: 1, GapBuckets: 1},
		{Items: 5, Dim: 6, Layers: 1, Heads: 2, FFN: 5, Window: 3, EventTypes: 2, GapBuckets: 4},
		{Items: 33, Dim: 8, Layers: 3, Heads: 1, FFN: 16, Window: 5, EventTypes: 8, GapBuckets: 24},
		{Items: 250, Dim: 30, Layers: 2, Heads: 3, FFN: 37, Window: 9, EventTypes: 8, GapBuckets: 24},
		{Items: 400, Dim: 64, Layers: 2, Heads: 2, FFN: 128, Window: 50, EventTypes: 8, GapBuckets: 24},
		{Items: 97, Dim: 20, Layers: 1, Heads: 4, FFN: 24, Window: 256, EventTypes: 3, GapBuckets: 33},
		{Items: 1500, Dim: 72, Layers: 4, Heads: 4, FFN: 100, Window: 2, EventTypes: 256, GapBuckets: 1},
	}
}

// Requests returns n random requests that fit m, of both kinds, with histories
// of every length from none to the longest.
func Requests(s layout.Shape, m layout.Map, n int, seed uint64) []layout.Request {
	r := rand.New(rand.NewPCG(seed, 0xbeef))
	requests := make([]layout.Request, n)
	for i := range requests {
		q := layout.Request{Kind: layout.KindRecommend, K: uint32(1 + r.IntN(min(m.MaxK, 20)))}
		length := r.IntN(m.MaxHistory + 1)
		switch i % 8 {
		case 0:
			length = 0
		case 1:
			length = m.MaxHistory
		case 2:
			length = min(1, m.MaxHistory)
		}
		for range length {
			q.History = append(q.History, layout.Event{
				Item: uint32(r.IntN(s.Items)), Type: uint32(r.IntN(s.EventTypes)), Gap: uint32(r.Uint64() >> (32 + r.IntN(32))),
			})
		}
		for range r.IntN(min(m.MaxList, 40) + 1) {
			q.List = append(q.List, uint32(r.IntN(s.Items)))
		}
		switch {
		case i%5 == 4:
			q.Kind, q.K = layout.KindScore, 0
		case i%2 == 1:
			q.Flags = layout.FlagExcludeHistory
		}
		if i%16 == 3 && q.Kind == layout.KindRecommend {
			q.K = uint32(m.MaxK)
		}
		requests[i] = q
	}
	return requests
}
