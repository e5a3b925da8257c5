// Package layouttest makes parameters for tests: random, valid, and in ranges
// that exercise rounding and saturation.
package layouttest

import (
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/wisp-project/wisp/internal/layout"
	"github.com/wisp-project/wisp/internal/tokenize"
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
	p.Labels = labels(s, rand.New(rand.NewPCG(seed, 0x1abe1)))
	if s.BoundHead > 0 {
		p.Bounds = bounds(&p)
	}
	if s.Attributes.Count > 0 {
		p.Attributes = attributes(s, r)
		p.Attributes.Rows = layout.Rows{W: weights(s.Attributes.Count * s.Dim), Scale: scales(s.Attributes.Count, 1.0/(127*500*16))}
	}
	if s.Ratings {
		p.Ratings = ratings(&p, r, linear(s.Dim, s.Dim))
	}
	t := s.Text
	if t.Dim == 0 {
		return p
	}
	// Inputs of the encoder's maps are about one in size, so that steps times
	// these scales give outputs of about the same.
	textLinear := func(rows, cols int) layout.Linear {
		return layout.Linear{
			Rows: rows, Cols: cols, W: weights(rows * cols),
			Scale: scales(rows, 1/(73*math.Sqrt(float64(cols)))), Bias: floats(rows, 0, 0.1),
		}
	}
	rows := func(n, cols int, mid float64) layout.Rows {
		return layout.Rows{W: weights(n * cols), Scale: scales(n, mid)}
	}
	p.Text = &layout.TextParams{
		Tokenizer: Tokenizer(),
		Word:      rows(t.Vocabulary, t.Dim, 0.01), Position: rows(t.Tokens, t.Dim, 0.005),
		NormGain: floats(t.Dim, 1, 0.2), NormBias: floats(t.Dim, 0, 0.2), NormEpsilon: 1e-12,
	}
	for range t.Layers {
		p.Text.Blocks = append(p.Text.Blocks, layout.TextBlock{
			QKV: textLinear(3*t.Dim, t.Dim), Out: textLinear(t.Dim, t.Dim), Up: textLinear(t.FFN, t.Dim), Down: textLinear(t.Dim, t.FFN),
			AttnNormGain: floats(t.Dim, 1, 0.2), AttnNormBias: floats(t.Dim, 0, 0.2),
			FFNNormGain: floats(t.Dim, 1, 0.2), FFNNormBias: floats(t.Dim, 0, 0.2),
		})
	}
	if t.ItemMap {
		p.Text.ItemMap = textLinear(s.Dim, t.Dim)
	}
	if t.UserMap {
		p.Text.UserMap = textLinear(s.Dim, t.Dim)
	}
	if t.Classes > 0 {
		p.Text.ClassMap = textLinear(t.Classes, t.Dim)
	}
	if t.ItemTexts {
		p.Text.ItemTexts = rows(s.Items, t.Dim, 1/(32767*73*math.Sqrt(float64(t.Dim))))
	}
	return p
}

// bounds makes bounds without turning anything: the first columns are kept, the
// others are bounded by their lengths.
func bounds(p *layout.Params) layout.Bounds {
	s := p.Shape
	cols := s.BoundHead + layout.BoundGroups
	b := layout.Bounds{Transform: make([]float32, s.Dim*s.Dim), Rows: make([]int8, s.Items*cols), Mix: [2]float32{0.5, 2}}
	b.Pivots = make([]int8, (s.Items+layout.BoundLeaf-1)/layout.BoundLeaf*s.BoundFirst)
	for i := range b.Pivots {
		b.Pivots[i] = int8(i*37%255 - 127)
	}
	value := func(item, d int) float64 { return float64(p.ItemRows[item*s.Dim+d]) * float64(p.ItemScale[item]) }
	for d := range s.Dim {
		b.Transform[d*s.Dim+d] = 1
		if d < s.BoundHead {
			var top float64
			for i := range s.Items {
				top = max(top, math.Abs(value(i, d)))
			}
			b.Steps = append(b.Steps, float32(top/layout.WeightMax))
		}
	}
	squares := make([][layout.BoundGroups]float64, s.Items)
	for i := range s.Items {
		b.Order = append(b.Order, uint32((i*7+3)%s.Items))
	}
	for r, item := range b.Order {
		var slack float64
		for d := range s.Dim {
			z := value(int(item), d)
			slack += math.Abs(z)
			if d >= s.BoundFirst {
				squares[r][0] += z * z
			}
			switch {
			case d < s.BoundHead:
				z /= float64(b.Steps[d])
				h := max(min(math.RoundToEven(z), layout.WeightMax), -layout.WeightMax)
				b.Rows[r*cols+d] = int8(h)
				squares[r][1] += (z - h) * (z - h) / float64(b.Mix[1])
				if d < s.BoundFirst {
					squares[r][0] += (z - h) * (z - h) / float64(b.Mix[0])
				}
			case d < s.BoundMiddle:
				squares[r][1] += z * z
			default:
				squares[r][2] += z * z
			}
		}
		b.Slack = max(b.Slack, float32(slack*1.001))
		for g, v := range squares[r] {
			b.Rho[g] = max(b.Rho[g], float32(math.Sqrt(v)*1.001/layout.WeightMax))
		}
	}
	for r := range squares {
		for g, v := range squares[r] {
			if v > 0 {
				b.Rows[r*cols+s.BoundHead+g] = int8(min(math.Ceil(1.0001*math.Sqrt(v)/float64(b.Rho[g])), layout.WeightMax))
			}
		}
	}
	return b
}

// Tokenizer returns the packed tokenizer of every text encoder of this package:
// a few letters, signs and words of them.
func Tokenizer() []byte { return tokenizer() }

var tokenizer = sync.OnceValue(func() []byte {
	vocab := []string{"[PAD]", "[UNK]", "[CLS]", "[SEP]"}
	for _, s := range strings.Fields("a b c d e f ab bad cafe face fed ! , . - # [ ] é й 中 ก 😀") {
		vocab = append(vocab, s, "##"+s)
	}
	t, err := tokenize.New(vocab, tokenize.Options{})
	if err != nil {
		panic(err)
	}
	b, err := tokenize.Pack(t)
	if err != nil {
		panic(err)
	}
	return b
})

// TextShapes are dimensions with text encoders: widths that are no multiples of
// any block, one head, one layer, texts of [CLS] and [SEP] alone and of the most
// tokens, both poolings, with and without length 1, with and without each of
// the optional parts, from two classes to the most.
func TextShapes() []layout.Shape {
	small := layout.Shape{Items: 33, Dim: 12, Layers: 2, Heads: 2, FFN: 17, Window: 5, EventTypes: 3, GapBuckets: 24}
	tokenizer, vocabulary := len(Tokenizer()), 60
	shapes := []layout.TextShape{
		{Tokens: 2, Dim: 1, Layers: 1, Heads: 1, FFN: 1, Normalise: true, ItemMap: true, UserMap: true, ItemTexts: true},
		{Tokens: 7, Dim: 15, Layers: 2, Heads: 3, FFN: 21, CLS: true, ItemMap: true, UserMap: true, ItemTexts: true},
		{Tokens: 33, Dim: 40, Layers: 3, Heads: 1, FFN: 70, Normalise: true, ItemMap: true, ItemTexts: true},
		{Tokens: 64, Dim: 36, Layers: 1, Heads: 4, FFN: 96, UserMap: true},
		{Tokens: 256, Dim: 64, Layers: 2, Heads: 4, FFN: 128, Normalise: true, ItemMap: true, UserMap: true, ItemTexts: true},
		{Tokens: 19, Dim: 24, Layers: 2, Heads: 12, FFN: 200, CLS: true, Normalise: true, ItemTexts: true},
		{Tokens: 128, Dim: 33, Layers: 4, Heads: 11, FFN: 5},
	}
	all := make([]layout.Shape, len(shapes))
	for i, t := range shapes {
		t.Tokenizer, t.Vocabulary = tokenizer, vocabulary
		all[i] = small
		all[i].Text = t
	}
	all[1] = WithAttributes(all[1], 9)
	all[4].Dim, all[4].Items = 30, 401
	all[4].Heads = 3
	all[0].Ratings, all[1].Ratings, all[4].Ratings = true, true, true
	for i, n := range []int{2, 3, 0, 256, 2, 0, 17} {
		all[i].Text.Classes = n
	}
	for _, i := range []int{1, 4, 5} {
		all[i].Labels = layout.LabelShape{Labels: 7, Entries: 2 * all[i].Items}
	}
	return all
}

// Shapes are the dimensions that every implementation is compared on: lengths
// that are no multiples of any block, a single item, the largest window, the
// shape of a real model, and bounds.
func Shapes() []layout.Shape {
	shapes := []layout.Shape{
		{Items: 1, Dim: 1, Layers: 1, Heads: 1, FFN: 1, Window: 1, EventTypes: 1, GapBuckets: 1},
		{Items: 5, Dim: 6, Layers: 1, Heads: 2, FFN: 5, Window: 3, EventTypes: 2, GapBuckets: 4},
		WithAttributes(layout.Shape{Items: 33, Dim: 8, Layers: 3, Heads: 1, FFN: 16, Window: 5, EventTypes: 8, GapBuckets: 24}, 17),
		{Items: 250, Dim: 30, Layers: 2, Heads: 3, FFN: 37, Window: 9, EventTypes: 8, GapBuckets: 24},
		WithAttributes(layout.Shape{Items: 400, Dim: 64, Layers: 2, Heads: 2, FFN: 128, Window: 50, EventTypes: 8, GapBuckets: 24}, 300),
		{Items: 97, Dim: 20, Layers: 1, Heads: 4, FFN: 24, Window: 256, EventTypes: 3, GapBuckets: 33},
		{Items: 1500, Dim: 72, Layers: 4, Heads: 4, FFN: 100, Window: 2, EventTypes: 256, GapBuckets: 1},
		{Items: 307, Dim: 12, Layers: 1, Heads: 2, FFN: 9, Window: 4, EventTypes: 2, GapBuckets: 3, BoundFirst: 4, BoundHead: 6, BoundMiddle: 9},
		{Items: 20, Dim: 1, Layers: 1, Heads: 1, FFN: 1, Window: 2, EventTypes: 1, GapBuckets: 1, BoundFirst: 1, BoundHead: 1, BoundMiddle: 1},
	}
	for i, n := range [][2]int{{1, 1}, {3, 5}, {}, {12, 600}, {1, 17}, {97, 300}, {40, 3001}} {
		shapes[i].Labels = layout.LabelShape{Labels: n[0], Entries: n[1]}
	}
	for _, i := range []int{0, 2, 3, 4, 6} {
		shapes[i].Ratings = true
	}
	return shapes
}

// State returns a random state of an image of shape s, with values that no history
// leads to; every third one is of a history with fewer events than the window.
func State(s layout.Shape, r *rand.Rand) []byte {
	st := layout.State{Events: s.Window, Last: make([]float32, s.Dim)}
	if r.IntN(3) == 0 {
		st.Events = r.IntN(s.Window + 1)
	}
	for d := range st.Last {
		st.Last[d] = float32(r.NormFloat64() * math.Exp(4*r.NormFloat64()))
	}
	rows := func() [][]int8 {
		rows := make([][]int8, min(st.Events, s.Window-1))
		for i := range rows {
			rows[i] = make([]int8, s.Dim)
			for d := range rows[i] {
				rows[i][d] = int8(r.IntN(256) - 128)
			}
		}
		return rows
	}
	for range s.Layers {
		st.Keys, st.Values = append(st.Keys, rows()), append(st.Values, rows())
	}
	return st.Append(nil, s)
}

// Requests returns n random requests that fit m, of every kind without a text, with histories
// of every length from none to the longest, some behind a state.
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
		if i%3 == 0 {
			q.Flags |= layout.FlagState
		}
		if i%7 >= 4 {
			q.State = State(s, r)
		}
		if i%16 == 3 && q.Kind == layout.KindRecommend {
			q.K = uint32(m.MaxK)
		}
		if i%10 == 8 {
			q.Reasons, q.Flags, q.State = uint32(1+r.IntN(layout.MaxReasons)), q.Flags&layout.FlagExcludeHistory, nil
			q.K = min(q.K, uint32(m.MaxExplained))
			if i%20 == 8 {
				q.Kind, q.K, q.Flags, q.List = layout.KindScore, 0, 0, q.List[:min(len(q.List), m.MaxExplained)]
			}
			if s.Attributes.Count > 0 && i%3 > 0 {
				q.Flags |= layout.FlagAttributes
			}
			if len(q.History) == m.MaxHistory { // one more, as without one of them the answer depends on it
				q.History = append(q.History, layout.Event{Item: uint32(r.IntN(s.Items)), Gap: r.Uint32() >> r.IntN(32)})
			}
		}
		if i%5 == 2 && s.Ratings {
			q = layout.Request{Kind: layout.KindRate, List: q.List, History: q.History[:min(len(q.History), m.MaxHistory)]}
		}
		requests[i] = q
	}
	return requests
}

// TextRequests returns n random requests that fit m, with texts that go through
// every part of the encoder that s has.
func TextRequests(s layout.Shape, m layout.Map, n int, seed uint64) []layout.Request {
	r := rand.New(rand.NewPCG(seed, 0x7e87))
	requests := Requests(s, m, n, seed)
	for i := range requests {
		q := &requests[i]
		kind := r.IntN(4)
		switch {
		case i%7 == 3 && s.Text.Classes > 0:
			*q = layout.Request{Kind: layout.KindClassify, Text: Text(r)}
		case kind == 0 && s.Text.ItemTexts:
			*q = layout.Request{Kind: layout.KindSearch, K: uint32(1 + r.IntN(m.MaxK)), List: q.List, Text: Text(r)}
		case kind <= 1 || !s.Text.UserMap:
			*q = layout.Request{Kind: layout.KindEmbed, Text: Text(r)}
			if s.Text.ItemMap && i%2 == 0 {
				q.Flags = layout.FlagItemRow
			}
		default:
			q.Text = Text(r)
		}
	}
	return requests
}

// Text returns a text that a tokenizer may stumble over: from none to some
// hundred words, of letters, marks, signs of all planes and bytes that are not
// UTF-8.
func Text(r *rand.Rand) string {
	var b []byte
	for range r.IntN(1 << r.IntN(9)) {
		switch r.IntN(12) {
		case 0:
			b = utf8.AppendRune(b, rune(r.IntN(utf8.MaxRune+1)))
		case 1:
			b = append(b, byte(r.IntN(256)))
		case 2, 3:
			b = append(b, ' ')
		case 4:
			b = utf8.AppendRune(b, rune(0x300+r.IntN(0x70)))
		case 5:
			b = append(b, "!,.-#[]"[r.IntN(7)])
		default:
			b = append(b, byte('a'+r.IntN(6)))
		}
	}
	return string(b)
}
