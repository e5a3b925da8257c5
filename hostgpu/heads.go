package hostgpu

import (
	"math"

	"gorgonia.org/tensor"
)

// heads is multi-head self-attention between its projections, O·attend(Q·x, K·x,
// V·x), in rows of events or tokens. It is a part of other kernels, which say
// what may be seen. Scores of a row and head are one matrix product; what must
// not be seen is computed and thrown away, which BLAS does faster than a loop
// over what may.
type heads struct {
	batchRows
	d, h int

	w, bias, qkv []float32 // (3D, D), (3D), (P, 3D): rows q|k|v
	probs        []float32 // by row and head (T, T)
	context      []float32 // (P, D)

	dcontext, dqkv, dw, dbias []float32
	ds                        []float32 // by part, (T, T)
}

// batchRows is how the rows of a batch lie one after the other: b of t events or
// tokens each and, behind them, short of u ≤ t each.
type batchRows struct{ b, t, short, u int }

// rows is the number of rows.
func (r batchRows) rows() int { return r.b + r.short }

// places is the number of events or tokens of all rows, P.
func (r batchRows) places() int { return r.b*r.t + r.short*r.u }

// at returns where row i starts and its length.
func (r batchRows) at(i int) (start, length int) {
	if i < r.b {
		return i * r.t, r.t
	}
	return r.b*r.t + (i-r.b)*r.u, r.u
}

// headTensors is the number of inputs of heads: weight and bias of q, k, v and o.
const headTensors = 8

// inputs describes the tensors.
func (a *heads) inputs() []input {
	var in []input
	for range headTensors / 2 {
		in = append(in, input{shape: tensor.Shape{a.d, a.d}}, input{shape: tensor.Shape{a.d}})
	}
	return in
}

// split returns the parts of a packed (P, 3D) array that belong to the row that
// begins at start and to head h: q, k and v rows, each with stride 3D.
func (a *heads) split(qkv []float32, start, h int) (q, k, v []float32) {
	base := start*3*a.d + h*(a.d/a.h)
	return qkv[base:], qkv[base+a.d:], qkv[base+2*a.d:]
}

// forward writes the attention of the rows x, (P, D), to out. probabilities turns
// the scores, (T, T), of head h in row b into probabilities, in place.
func (a *heads) forward(out, x []float32, in []argument, probabilities func(b, h int, scores []float32)) {
	d, hd := a.d, a.d/a.h
	a.qkv, a.context = resize(a.qkv, 3*len(x)), resize(a.context, len(x))
	a.w, a.bias = resize(a.w, 3*d*d), resize(a.bias, 3*d)
	for i := range 3 {
		copy(a.w[i*d*d:], in[2*i].floats)
		copy(a.bias[i*d:], in[2*i+1].floats)
	}
	a.probs = resize(a.probs, a.rows()*a.h*a.t*a.t)
	linear(a.qkv, x, a.w, a.bias, d, 3*d)
	scale := float32(1 / math.Sqrt(float64(hd)))
	parallel(a.rows()*a.h, func(_, lo, hi int) {
		for bh := lo; bh < hi; bh++ {
			b, h := bh/a.h, bh%a.h
			from, t := a.at(b)
			q, k, v := a.split(a.qkv, from, h)
			p := a.probs[bh*a.t*a.t:][:t*t]
			gemmOne(false, true, t, t, hd, scale, q, 3*d, k, 3*d, 0, p, t)
			probabilities(b, h, p)
			gemmOne(false, false, t, hd, t, 1, p, t, v, 3*d, 0, a.context[from*d+h*hd:], d)
		}
	})
	linear(out, a.context, in[6].floats, in[7].floats, d, d)
}

// backward overwrites dx, which may be dout, and the gradients of the tensors. scores turns the
// gradient of the probabilities into that of the scores, in place; part is the
// one of parallel that it runs in.
func (a *heads) backward(dx []float32, grads [][]float32, dout, x []float32, in []argument, scores func(part, b, h int, ds, probs []float32)) {
	d, hd := a.d, a.d/a.h
	a.dcontext, a.dqkv = resize(a.dcontext, len(dout)), resize(a.dqkv, 3*len(dout))
	a.dw, a.dbias, a.ds = resize(a.dw, 3*d*d), resize(a.dbias, 3*d), resize(a.ds, parts()*a.t*a.t)
	linearBackward(a.dcontext, grads[6], grads[7], dout, a.context, in[6].floats, d, d)
	scale := float32(1 / math.Sqrt(float64(hd)))
	parallel(a.rows()*a.h, func(part, lo, hi int) {
		for bh := lo; bh < hi; bh++ {
			b, h := bh/a.h, bh%a.h
			from, t := a.at(b)
			q, k, v := a.split(a.qkv, from, h)
			dq, dk, dv := a.split(a.dqkv, from, h)
			p, dc, ds := a.probs[bh*a.t*a.t:][:t*t], a.dcontext[from*d+h*hd:], a.ds[part*a.t*a.t:][:t*t]
			gemmOne(true, false, t, hd, t, 1, p, t, dc, d, 0, dv, 3*d)
			gemmOne(false, true, t, t, hd, 1, dc, d, v, 3*d, 0, ds, t)
			scores(part, b, h, ds, p)
			gemmOne(false, false, t, hd, t, scale, ds, t, k, 3*d, 0, dq, 3*d)
			gemmOne(true, false, t, hd, t, scale, ds, t, q, 3*d, 0, dk, 3*d)
		}
	})
	linearBackward(dx, a.dw, a.dbias, a.dqkv, x, a.w, d, 3*d)
	for i := range 3 {
		copy(grads[2*i], a.dw[i*d*d:])
		copy(grads[2*i+1], a.dbias[i*d:])
	}
}

// softmaxBackward turns the gradient of probabilities into that of their scores,
// in place.
func softmaxBackward(ds, probs []float32) {
	probs = probs[:len(ds)]
	var dot float32
	for j, x := range ds {
		dot += x * probs[j]
	}
	for j, x := range ds {
		ds[j] = probs[j] * (x - dot)
	}
}
