package hostgpu

import (
	"math"

	"gorgonia.org/tensor"

	"github.com/wisp-project/wisp/model"
)

// Shapes in comments: B sequences of T events each, D model width, H heads, W
// window, N items, F features. P = B·T rows, one for each event.

// itemVectors computes V = E + X·Wᵀ, (N, D): learnt embeddings E plus the
// projection W, (D, F), of the given item vectors X, (N, F).
type itemVectors struct {
	n, d, f int
	x       []float32
}

func (k *itemVectors) inputs() []input {
	return []input{{shape: tensor.Shape{k.n, k.d}}, {shape: tensor.Shape{k.d, k.f}}}
}
func (k *itemVectors) shape() tensor.Shape { return tensor.Shape{k.n, k.d} }

func (k *itemVectors) forward(out []float32, in []argument) {
	copy(out, in[0].floats)
	gemm(false, true, k.n, k.d, k.f, 1, k.x, k.f, in[1].floats, k.f, 1, out, k.d)
}

func (k *itemVectors) backward(grads [][]float32, dout, _ []float32, _ []argument) {
	copy(grads[0], dout)
	gemm(true, false, k.d, k.f, k.n, 1, dout, k.d, k.x, k.f, 0, grads[1], k.f)
}

// events computes x = sqrt(D)·V[item] + type + gap, (P, D), with dropout.
type events struct {
	p, n, types, gaps, d int
	drop                 *dropout
}

func (k *events) inputs() []input {
	return []input{
		{shape: tensor.Shape{k.n, k.d}},
		{shape: tensor.Shape{k.types, k.d}},
		{shape: tensor.Shape{k.gaps, k.d}},
		{shape: tensor.Shape{k.p}, index: true},
		{shape: tensor.Shape{k.p}, index: true},
		{shape: tensor.Shape{k.p}, index: true},
	}
}
func (k *events) shape() tensor.Shape { return tensor.Shape{k.p, k.d} }

func (k *events) forward(out []float32, in []argument) {
	scale, d := float32(math.Sqrt(float64(k.d))), k.d
	parallel(k.p, func(_, lo, hi int) {
		for r := lo; r < hi; r++ {
			y := out[r*d : (r+1)*d]
			v := in[0].floats[in[3].ints[r]*d:][:d]
			t := in[1].floats[in[4].ints[r]*d:][:d]
			g := in[2].floats[in[5].ints[r]*d:][:d]
			for i := range y {
				y[i] = scale*v[i] + t[i] + g[i]
			}
		}
	})
	k.drop.apply(out)
}

func (k *events) backward(grads [][]float32, dout, _ []float32, in []argument) {
	// The gradient is not ours to change, so the mask is applied on the way.
	scale, d := float32(math.Sqrt(float64(k.d))), k.d
	for _, g := range grads[:3] {
		clear(g)
	}
	// Rows are scattered by parts of the width: no two goroutines meet in a row.
	parallel(d, func(_, lo, hi int) {
		masked := make([]float32, hi-lo)
		for r := range k.p {
			dy := dout[r*d+lo : r*d+hi]
			if m := k.drop.factors(r*d+lo, r*d+hi); m != nil {
				for i, f := range m {
					masked[i] = dy[i] * f
				}
				dy = masked
			}
			v := grads[0][in[3].ints[r]*d+lo:][:len(dy)]
			t := grads[1][in[4].ints[r]*d+lo:][:len(dy)]
			g := grads[2][in[5].ints[r]*d+lo:][:len(dy)]
			for i, x := range dy {
				v[i] += scale * x
				t[i] += x
				g[i] += x
			}
		}
	})
}

// layerNorm is normalisation of rows of width d with gain and bias. It is a part
// of other kernels, and keeps the normalised rows for the derivative.
type layerNorm struct {
	d          int
	xhat, rstd []float32 // (P, D), (P)
}

func (n *layerNorm) forward(out, x, gain, bias []float32) {
	d := n.d
	rows := len(x) / d
	n.xhat, n.rstd = resize(n.xhat, len(x)), resize(n.rstd, rows)
	parallel(rows, func(_, lo, hi int) {
		for r := lo; r < hi; r++ {
			xr, xh, y := x[r*d:(r+1)*d], n.xhat[r*d:(r+1)*d], out[r*d:(r+1)*d]
			var mean, variance float32
			for _, v := range xr {
				mean += v
			}
			mean /= float32(d)
			for i, v := range xr {
				v -= mean
				xh[i] = v
				variance += v * v
			}
			s := float32(1 / math.Sqrt(float64(variance/float32(d)+model.NormEpsilon)))
			n.rstd[r] = s
			for i, v := range xh {
				v *= s
				xh[i] = v
				y[i] = v*gain[i] + bias[i]
			}
		}
	})
}

// backward adds the gradient of the input to dx and overwrites dgain and dbias.
func (n *layerNorm) backward(dx, dgain, dbias, dout, gain []float32) {
	d := n.d
	rows := len(dout) / d
	partial := make([]float32, parts()*2*d)
	parallel(rows, func(part, lo, hi int) {
		dg, db := partial[part*2*d:][:d], partial[part*2*d+d:][:d]
		for r := lo; r < hi; r++ {
			dy, xh, o := dout[r*d:(r+1)*d], n.xhat[r*d:(r+1)*d], dx[r*d:(r+1)*d]
			var mean, dot float32
			for i, v := range dy {
				dg[i] += v * xh[i]
				db[i] += v
				v *= gain[i]
				mean += v
				dot += v * xh[i]
			}
			mean /= float32(d)
			dot /= float32(d)
			s := n.rstd[r]
			for i, v := range dy {
				o[i] += s * (v*gain[i] - mean - xh[i]*dot)
			}
		}
	})
	clear(dgain)
	clear(dbias)
	for p := range parts() {
		add(dgain, partial[p*2*d:][:d])
		add(dbias, partial[p*2*d+d:][:d])
	}
}

// linear is y = x·Wᵀ + b on rows; W is (out, in). A part of other kernels.
func linear(y, x, w, b []float32, in, out int) {
	rows := len(x) / in
	for r := range rows {
		copy(y[r*out:(r+1)*out], b)
	}
	gemm(false, true, rows, out, in, 1, x, in, w, in, 1, y, out)
}

// linearBackward overwrites dx, dw and db.
func linearBackward(dx, dw, db, dy, x, w []float32, in, out int) {
	rows := len(dy) / out
	gemm(false, false, rows, in, out, 1, dy, out, w, in, 0, dx, in)
	gemm(true, false, out, in, rows, 1, dy, out, x, in, 0, dw, in)
	clear(db)
	columnSums(db, dy)
}

// feedForward is a block's second half: y = x + drop(down·relu(up·norm(x))).
type feedForward struct {
	p, d, f              int
	norm                 layerNorm
	drop                 *dropout
	normed, hidden, tail []float32 // (P, D), (P, F), (P, D)
	dhidden              []float32
}

func (k *feedForward) inputs() []input {
	return []input{
		{shape: tensor.Shape{k.p, k.d}},
		{shape: tensor.Shape{k.d}},
		{shape: tensor.Shape{k.d}},
		{shape: tensor.Shape{k.f, k.d}},
		{shape: tensor.Shape{k.f}},
		{shape: tensor.Shape{k.d, k.f}},
		{shape: tensor.Shape{k.d}},
	}
}
func (k *feedForward) shape() tensor.Shape { return tensor.Shape{k.p, k.d} }

func (k *feedForward) forward(out []float32, in []argument) {
	x, gain, bias := in[0].floats, in[1].floats, in[2].floats
	k.norm.d = k.d
	k.normed, k.hidden = resize(k.normed, len(x)), resize(k.hidden, len(x)/k.d*k.f)
	k.norm.forward(k.normed, x, gain, bias)
	linear(k.hidden, k.normed, in[3].floats, in[4].floats, k.d, k.f)
	parallel(len(k.hidden), func(_, lo, hi int) {
		h := k.hidden[lo:hi]
		for i, v := range h {
			h[i] = max(v, 0)
		}
	})
	linear(out, k.hidden, in[5].floats, in[6].floats, k.f, k.d)
	k.drop.apply(out)
	add(out, x)
}

func (k *feedForward) backward(grads [][]float32, dout, _ []float32, in []argument) {
	k.tail, k.dhidden = resize(k.tail, len(dout)), resize(k.dhidden, len(k.hidden))
	copy(grads[0], dout) // the residual path
	k.drop.backward(k.tail, dout)
	linearBackward(k.dhidden, grads[5], grads[6], k.tail, k.hidden, in[5].floats, k.f, k.d)
	parallel(len(k.hidden), func(_, lo, hi int) {
		d, h := k.dhidden[lo:hi], k.hidden[lo:hi]
		for i, v := range h {
			// All ones where v > 0 and none where it is 0, for v is never negative.
			open := uint32(-int32(math.Float32bits(v)) >> 31)
			d[i] = math.Float32frombits(math.Float32bits(d[i]) & open)
		}
	})
	linearBackward(k.tail, grads[3], grads[4], k.dhidden, k.normed, in[3].floats, k.d, k.f)
	k.norm.backward(grads[0], grads[1], grads[2], k.tail, in[1].floats)
}

// finalNorm is the normalisation that yields user vectors, (P, D).
type finalNorm struct {
	p, d int
	norm layerNorm
}

func (k *finalNorm) inputs() []input {
	return []input{{shape: tensor.Shape{k.p, k.d}}, {shape: tensor.Shape{k.d}}, {shape: tensor.Shape{k.d}}}
}
func (k *finalNorm) shape() tensor.Shape { return tensor.Shape{k.p, k.d} }

func (k *finalNorm) forward(out []float32, in []argument) {
	k.norm.d = k.d
	k.norm.forward(out, in[0].floats, in[1].floats, in[2].floats)
}

func (k *finalNorm) backward(grads [][]float32, dout, _ []float32, in []argument) {
	clear(grads[0])
	k.norm.backward(grads[0], grads[1], grads[2], dout, in[1].floats)
}

// resize returns a slice of length n, s itself where it is large enough.
func resize[E any](s []E, n int) []E {
	if cap(s) < n {
		return make([]E, n)
	}
	return s[:n]
}
