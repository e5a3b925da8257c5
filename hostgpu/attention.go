package hostgpu

import (
	"math"

	"gorgonia.org/tensor"
)

// attention is a block's first half, y = x + drop(O·attend(norm(x))): causal
// attention over the last W events, with a learned bias for each head and
// distance. A row of T events may hold several sequences one after the other;
// an event attends to its own only. Scores of a row and head are one matrix
// product; what lies outside the band is computed and thrown away, which BLAS
// does faster than a loop over the band would be.
type attention struct {
	b, t, d, heads, window int
	norm                   layerNorm
	drop                   *dropout

	normed, w, bias, qkv []float32 // (P, D), (3D, D), (3D), (P, 3D): rows q|k|v
	probs                []float32 // (B, H, T, T)
	context              []float32 // (P, D)

	tail, dcontext, dqkv, dw, dbias []float32
}

// Positions of the inputs.
const (
	attnX = iota
	attnGain
	attnBias
	attnQ // weight, then bias, and so for k, v and o
	_
	attnK
	_
	attnV
	_
	attnO
	_
	attnDistance
	attnStart // position in its row at which the sequence of an event starts
)

func (k *attention) inputs() []input {
	p, m, v := tensor.Shape{k.b * k.t, k.d}, tensor.Shape{k.d, k.d}, tensor.Shape{k.d}
	return []input{
		{shape: p},
		{shape: v},
		{shape: v},
		{shape: m},
		{shape: v},
		{shape: m},
		{shape: v},
		{shape: m},
		{shape: v},
		{shape: m},
		{shape: v},
		{shape: tensor.Shape{k.heads, k.window}},
		{shape: tensor.Shape{k.b * k.t}, index: true},
	}
}
func (k *attention) shape() tensor.Shape { return tensor.Shape{k.b * k.t, k.d} }

// head returns the parts of a packed (P, 3D) array that belong to sequence b
// and head h: q, k and v rows, each with stride 3D.
func (k *attention) head(qkv []float32, b, h int) (q, kk, v []float32) {
	base := b*k.t*3*k.d + h*(k.d/k.heads)
	return qkv[base:], qkv[base+k.d:], qkv[base+2*k.d:]
}

func (k *attention) forward(out []float32, in []argument) {
	d, t, hd := k.d, k.t, k.d/k.heads
	x := in[attnX].floats
	k.norm.d = d
	k.normed, k.qkv, k.context = resize(k.normed, len(x)), resize(k.qkv, 3*len(x)), resize(k.context, len(x))
	k.w, k.bias = resize(k.w, 3*d*d), resize(k.bias, 3*d)
	for i, a := range []int{attnQ, attnK, attnV} {
		copy(k.w[i*d*d:], in[a].floats)
		copy(k.bias[i*d:], in[a+1].floats)
	}
	k.probs = resize(k.probs, k.b*k.heads*t*t)
	k.norm.forward(k.normed, x, in[attnGain].floats, in[attnBias].floats)
	linear(k.qkv, k.normed, k.w, k.bias, d, 3*d)
	scale := float32(1 / math.Sqrt(float64(hd)))
	parallel(k.b*k.heads, func(_, lo, hi int) {
		for bh := lo; bh < hi; bh++ {
			b, h := bh/k.heads, bh%k.heads
			q, kk, v := k.head(k.qkv, b, h)
			p := k.probs[bh*t*t : (bh+1)*t*t]
			gemmOne(false, true, t, t, hd, scale, q, 3*d, kk, 3*d, 0, p, t)
			distance := in[attnDistance].floats[h*k.window : (h+1)*k.window]
			start := in[attnStart].ints[b*t : (b+1)*t]
			for i := range t {
				first := max(start[i], i-k.window+1)
				row := p[i*t : (i+1)*t]
				band := row[first : i+1]
				for j := range band {
					band[j] += distance[i-first-j]
				}
				clear(row[:first])
				clear(row[i+1:])
				softmax(band, 1)
			}
			gemmOne(false, false, t, hd, t, 1, p, t, v, 3*d, 0, k.context[b*t*d+h*hd:], d)
		}
	})
	linear(out, k.context, in[attnO].floats, in[attnO+1].floats, d, d)
	k.drop.apply(out)
	add(out, x)
}

func (k *attention) backward(grads [][]float32, dout, _ []float32, in []argument) {
	d, t, hd, w := k.d, k.t, k.d/k.heads, k.window
	k.tail, k.dcontext, k.dqkv = resize(k.tail, len(dout)), resize(k.dcontext, len(dout)), resize(k.dqkv, 3*len(dout))
	k.dw, k.dbias = resize(k.dw, 3*d*d), resize(k.dbias, 3*d)
	copy(grads[attnX], dout) // the residual path
	k.drop.backward(k.tail, dout)
	linearBackward(k.dcontext, grads[attnO], grads[attnO+1], k.tail, k.context, in[attnO].floats, d, d)

	scale := float32(1 / math.Sqrt(float64(hd)))
	partial := make([]float32, parts()*k.heads*w)
	parallel(k.b*k.heads, func(part, lo, hi int) {
		ds := make([]float32, t*t)
		for bh := lo; bh < hi; bh++ {
			b, h := bh/k.heads, bh%k.heads
			q, kk, v := k.head(k.qkv, b, h)
			dq, dk, dv := k.head(k.dqkv, b, h)
			p, dc := k.probs[bh*t*t:(bh+1)*t*t], k.dcontext[b*t*d+h*hd:]
			gemmOne(true, false, t, hd, t, 1, p, t, dc, d, 0, dv, 3*d)
			gemmOne(false, true, t, t, hd, 1, dc, d, v, 3*d, 0, ds, t)
			distance := partial[(part*k.heads+h)*w:][:w]
			start := in[attnStart].ints[b*t : (b+1)*t]
			for i := range t {
				first := max(start[i], i-w+1)
				row := ds[i*t : (i+1)*t]
				band, prob := row[first:i+1], p[i*t+first:i*t+i+1]
				var dot float32
				for j, x := range band {
					dot += x * prob[j]
				}
				for j, x := range band {
					x = prob[j] * (x - dot)
					band[j] = x
					distance[i-first-j] += x
				}
				clear(row[:first])
				clear(row[i+1:])
			}
			gemmOne(false, false, t, hd, t, scale, ds, t, kk, 3*d, 0, dq, 3*d)
			gemmOne(true, false, t, hd, t, scale, ds, t, q, 3*d, 0, dk, 3*d)
		}
	})
	clear(grads[attnDistance])
	for p := range parts() {
		add(grads[attnDistance], partial[p*k.heads*w:][:k.heads*w])
	}

	linearBackward(k.tail, k.dw, k.dbias, k.dqkv, k.normed, k.w, d, 3*d)
	for i, a := range []int{attnQ, attnK, attnV} {
		copy(grads[a], k.dw[i*d*d:])
		copy(grads[a+1], k.dbias[i*d:])
	}
	k.norm.backward(grads[attnX], grads[attnGain], grads[attnBias], k.tail, in[attnGain].floats)
}
