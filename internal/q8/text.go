package q8

import (
	"math"

	"github.com/wisp-project/wisp/internal/layout"
)

// The text encoder has the arithmetic of the user tower but for two things. It
// normalises behind each half of a block, so that its activations differ from
// token to token by more than a fixed step could serve: the step of a linear
// map's input is found for each token (quantRow), and it has 12 bits, which the
// 16-bit lanes that meet the weights give away. And its activation is the
// Gaussian error linear unit.

// tinyRow is the largest magnitude that a row may have without being taken for
// zeros: any limit over it must be finite.
const tinyRow = 1.0 / (1 << 100)

// quantRow quantizes a row in steps of its own, the largest magnitude over limit,
// and returns the step. A row of next to nothing gives zeros and step 0.
func quantRow(dst []int16, x []float32, limit float32) float32 {
	var top float32
	for _, v := range x {
		top = max(top, v, -v)
	}
	if top < tinyRow {
		clear(dst)
		return 0
	}
	quant(dst, x, limit/top, limit)
	return top / limit
}

// stepLinear computes y = (float32(W·x)·scale)·step + bias.
func stepLinear(y []float32, l *layout.Linear, x []int16, step float32) {
	for r := range y {
		var acc int32
		for c, w := range l.W[r*l.Cols : (r+1)*l.Cols] {
			acc += int32(w) * int32(x[c])
		}
		y[r] = float32(float32(float32(acc)*l.Scale[r])*step) + l.Bias[r]
	}
}

// tokens returns the token ids of a text, cut to what the encoder takes.
func (q *Model) tokens(text string) []int32 {
	return q.tokenizer.Encode(nil, text, q.p.Shape.Text.Tokens)
}

// query returns the vector of a text as the items' texts meet it: of length 1,
// in steps of 1/QueryOne.
func (q *Model) query(text string) []int16 {
	y := q.TextVector(q.tokens(text))
	unit(y)
	u := make([]int16, len(y))
	quant(u, y, layout.QueryOne, layout.QueryOne)
	return u
}

// project applies a linear map to the vector of a text.
func project(l *layout.Linear, vector []float32) []float32 {
	in, y := make([]int16, l.Cols), make([]float32, l.Rows)
	stepLinear(y, l, in, quantRow(in, vector, layout.TokenMax))
	return y
}

// embed answers a request for a vector. The scale of an item row contains the
// user vector's step, as that of every item; its bounds keep it one that an
// image may hold.
func (q *Model) embed(r layout.Request) layout.Answer {
	a := layout.Answer{Vector: q.TextVector(q.tokens(r.Text))}
	if r.Flags&layout.FlagItemRow != 0 {
		row := make([]int16, q.p.Shape.Dim)
		step := quantRow(row, project(&q.p.Text.ItemMap, a.Vector), layout.WeightMax)
		a.Scale = min(step/max(q.p.UserInv, 1.0/layout.ItemScaleMax), layout.ItemScaleMax)
		for _, v := range row {
			a.Row = append(a.Row, int8(v))
		}
	}
	return a
}

// TextVector returns the embedding, (D of the encoder), of a text given as token
// ids: 1 to Shape.Text.Tokens of them, all in the vocabulary.
func (q *Model) TextVector(ids []int32) []float32 {
	p, s := q.p.Text, q.p.Shape.Text
	D := s.Dim
	x := make([][]float32, len(ids)) // (T, D)
	for t, id := range ids {
		x[t] = make([]float32, D)
		word, position := p.Word.W[int(id)*D:], p.Position.W[t*D:]
		wordScale, positionScale := p.Word.Scale[id], p.Position.Scale[t]
		for d := range x[t] {
			x[t][d] = float32(float32(word[d])*wordScale) + float32(float32(position[d])*positionScale)
		}
		norm(x[t], x[t], p.NormGain, p.NormBias, p.NormEpsilon)
	}
	for l := range p.Blocks {
		q.textBlock(&p.Blocks[l], x)
	}
	y := make([]float32, D)
	if s.CLS {
		copy(y, x[0])
	} else {
		for d := range y {
			var l [4]float32
			for t := range x {
				l[t%4] += x[t][d]
			}
			y[d] = ((l[0] + l[1]) + (l[2] + l[3])) / float32(len(x))
		}
	}
	if s.Normalise {
		unit(y)
	}
	return y
}

// unit scales y to length 1; the length counts for at least 1e-12.
func unit(y []float32) {
	var l [4]float32
	for d, v := range y {
		l[d%4] += float32(v * v)
	}
	length := max(float32(math.Sqrt(float64((l[0]+l[1])+(l[2]+l[3])))), 1e-12)
	for d := range y {
		y[d] /= length
	}
}

// textBlock applies a block of the text encoder to x, (T, D), in place.
func (q *Model) textBlock(b *layout.TextBlock, x [][]float32) {
	s, eps := q.p.Shape.Text, q.p.Text.NormEpsilon
	T, D := len(x), s.Dim
	dh := D / s.Heads
	qs, ks, vs := make([][]int16, T), make([][]int16, T), make([][]int16, T)
	qStep, kStep := make([][]float32, T), make([][]float32, T) // (T, H)
	in := make([]int16, D)
	qkv := make([][]float32, T)
	for t := range x {
		step := quantRow(in, x[t], layout.TokenMax)
		qkv[t] = make([]float32, 3*D)
		stepLinear(qkv[t], &b.QKV, in, step)
		qs[t], ks[t], vs[t] = make([]int16, D), make([]int16, D), make([]int16, D)
		qStep[t], kStep[t] = make([]float32, s.Heads), make([]float32, s.Heads)
		for h := range s.Heads {
			lo, hi := h*dh, (h+1)*dh
			qStep[t][h] = quantRow(qs[t][lo:hi], qkv[t][lo:hi], layout.WeightMax)
			kStep[t][h] = quantRow(ks[t][lo:hi], qkv[t][D+lo:D+hi], layout.WeightMax)
		}
	}
	vStep := make([]float32, s.Heads)
	for h := range s.Heads {
		vStep[h] = quantHead(vs, qkv, h*dh, 2*D+h*dh, dh)
	}
	o, y := make([]float32, D), make([]float32, D)
	hidden, act := make([]float32, s.FFN), make([]int16, s.FFN)
	for t := range x {
		for h := range s.Heads {
			lo, hi := h*dh, (h+1)*dh
			attendText(o[lo:hi], qs[t][lo:hi], qStep[t][h], vStep[h], T, func(i int) (k, v []int16, step float32) {
				return ks[i][lo:hi], vs[i][lo:hi], kStep[i][h]
			})
		}
		stepLinear(y, &b.Out, in, quantRow(in, o, layout.TokenMax))
		addNorm(x[t], y, b.AttnNormGain, b.AttnNormBias, eps)
		stepLinear(hidden, &b.Up, in, quantRow(in, x[t], layout.TokenMax))
		for j, v := range hidden {
			hidden[j] = gelu(v)
		}
		stepLinear(y, &b.Down, act, quantRow(act, hidden, layout.TokenMax))
		addNorm(x[t], y, b.FFNNormGain, b.FFNNormBias, eps)
	}
}

// addNorm sets x to norm(x+y).
func addNorm(x, y, gain, bias []float32, epsilon float32) {
	for d := range x {
		x[d] += y[d]
	}
	norm(x, x, gain, bias, epsilon)
}

// quantHead quantizes width values of each token, from the given place of a row
// of src on, in one step for all of them, to the place at of dst's rows.
func quantHead(dst [][]int16, src [][]float32, at, from, width int) float32 {
	flat, all := make([]int16, len(src)*width), make([]float32, 0, len(src)*width)
	for _, row := range src {
		all = append(all, row[from:from+width]...)
	}
	step := quantRow(flat, all, layout.WeightMax)
	for t := range dst {
		copy(dst[t][at:at+width], flat[t*width:])
	}
	return step
}

// attendText writes the attention of one head at one token to o: over all n
// tokens, with key, value and the key's step at(i).
func attendText(o []float32, query []int16, qStep, vStep float32, n int, at func(i int) (k, v []int16, step float32)) {
	scores := make([]float32, n)
	for i := range n {
		k, _, step := at(i)
		var acc int32
		for j, v := range query {
			acc += int32(v) * int32(k[j])
		}
		scores[i] = float32(float32(acc)*step) * qStep
	}
	weighted(o, scores, vStep, func(i int) []int16 { _, v, _ := at(i); return v })
}

// Coefficients of what gelu takes from max(x, 0), a/2·erfc(a/√2) with a = |x|, as
// a·(geluEnd - a)·(g0 + a·(g1 + …)) for a up to geluEnd: least absolute error, found by
// reweighted least squares.
const (
	geluEnd = 4.5
	g0      = 0.111075491
	g1      = -0.0638785511
	g2      = -0.0134261828
	g3      = 0.00809339248
	g4      = 0.00845703576
	g5      = -0.00664324546
	g6      = 0.00188637257
	g7      = -0.000250537094
	g8      = 1.30804719e-05
)

// gelu is the Gaussian error linear unit: x times the share of a standard normal
// distribution below x, as max(x, 0) - |x|/2·erfc(|x|/√2). Its error is at most
// 2e-5, a small part of the steps that its values are rounded to next.
func gelu(x float32) float32 {
	a := min(max(x, -x), geluEnd)
	p := float32(g8)
	for _, g := range [...]float32{g7, g6, g5, g4, g3, g2, g1, g0} {
		p = float32(p*a) + g
	}
	return max(x, 0) - float32(float32(p*a)*float32(geluEnd-a))
}
