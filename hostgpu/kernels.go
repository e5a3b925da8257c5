package hostgpu

import (
	"math"

	"gorgonia.org/tensor"

	"github.com/wisp-project/wisp/model"
)

// Shapes in comments: B sequences of T events each, D model width, H heads, W
// window, N items, F features. P = B·T rows, one for each event.

// itemVectors computes V = E + X·Wᵀ, (N, D): learnt embeddings E plus the
// projection W, (D, F), of the given item vectors X, (N, F). Dropout leaves out
// whole rows of E, so that the rest has to do, as it must for a new item
// (DropoutNet, Volkovs et al. 2017). The rows that stay are not scaled: each item is
// then one that inference may meet, known or new.
type itemVectors struct {
	n, d, f int
	x       []float32
	drop    *dropout
	// dx, where it is not nil, gathers the gradient by the last columns of X over
	// the steps: (N, F') with F' ≤ F.
	dx   []float32
	ones []float32 // (N)
}

func (k *itemVectors) inputs() []input {
	return []input{{shape: tensor.Shape{k.n, k.d}}, {shape: tensor.Shape{k.d, k.f}}}
}
func (k *itemVectors) shape() tensor.Shape { return tensor.Shape{k.n, k.d} }

func (k *itemVectors) forward(out []float32, in []argument) {
	copy(out, in[0].floats)
	k.ones = resize(k.ones, k.n)
	for i := range k.ones {
		k.ones[i] = 1
	}
	k.drop.apply(k.ones)
	k.leaveOut(out)
	gemm(false, true, k.n, k.d, k.f, 1, k.x, k.f, in[1].floats, k.f, 1, out, k.d)
}

func (k *itemVectors) backward(grads [][]float32, dout, _ []float32, in []argument) {
	copy(grads[0], dout)
	k.leaveOut(grads[0])
	gemm(true, false, k.d, k.f, k.n, 1, dout, k.d, k.x, k.f, 0, grads[1], k.f)
	if w := len(k.dx) / k.n; w > 0 {
		gemm(false, false, k.n, w, k.d, 1, dout, k.d, in[1].floats[k.f-w:], k.f, 1, k.dx, w)
	}
}

// leaveOut clears the rows of e, (N, D), that the step does without.
func (k *itemVectors) leaveOut(e []float32) {
	for i, f := range k.drop.factors(0, k.n) {
		if f == 0 {
			clear(e[i*k.d : (i+1)*k.d])
		}
	}
}

// selection is the rows of V, (N, D), that the softmax ranks: (len(rows), D).
type selection struct {
	n, d int
	rows []int
}

func (k *selection) inputs() []input     { return []input{{shape: tensor.Shape{k.n, k.d}}} }
func (k *selection) shape() tensor.Shape { return tensor.Shape{len(k.rows), k.d} }

func (k *selection) forward(out []float32, in []argument) {
	for j, i := range k.rows {
		copy(out[j*k.d:(j+1)*k.d], in[0].floats[i*k.d:])
	}
}

func (k *selection) backward(grads [][]float32, dout, _ []float32, _ []argument) {
	clear(grads[0])
	for j, i := range k.rows {
		copy(grads[0][i*k.d:(i+1)*k.d], dout[j*k.d:])
	}
}

// embedding computes x_r = scale·A[i_r] + B[j_r] + C[k_r], (P, D), from three
// tables and three indices into them, with dropout: the sum of item, event type
// and time gap that the user tower reads, and that of word, position and token
// type that a text encoder does.
type embedding struct {
	p, d  int
	rows  [3]int // of the tables
	scale float32
	drop  *dropout
}

func (k *embedding) inputs() []input {
	return []input{
		{shape: tensor.Shape{k.rows[0], k.d}},
		{shape: tensor.Shape{k.rows[1], k.d}},
		{shape: tensor.Shape{k.rows[2], k.d}},
		{shape: tensor.Shape{k.p}, index: true},
		{shape: tensor.Shape{k.p}, index: true},
		{shape: tensor.Shape{k.p}, index: true},
	}
}
func (k *embedding) shape() tensor.Shape { return tensor.Shape{k.p, k.d} }

func (k *embedding) forward(out []float32, in []argument) {
	scale, d := k.scale, k.d
	parallel(k.p, func(_, lo, hi int) {
		for r := lo; r < hi; r++ {
			y := out[r*d : (r+1)*d]
			a := in[0].floats[in[3].ints[r]*d:][:d]
			b := in[1].floats[in[4].ints[r]*d:][:d]
			c := in[2].floats[in[5].ints[r]*d:][:d]
			for i := range y {
				y[i] = scale*a[i] + b[i] + c[i]
			}
		}
	})
	k.drop.apply(out)
}

func (k *embedding) backward(grads [][]float32, dout, _ []float32, in []argument) {
	// The gradient is not ours to change, so the mask is applied on the way.
	scale, d := k.scale, k.d
	for _, g := range grads[:3] {
		parallel(len(g), func(_, lo, hi int) { clear(g[lo:hi]) })
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
			a := grads[0][in[3].ints[r]*d+lo:][:len(dy)]
			b := grads[1][in[4].ints[r]*d+lo:][:len(dy)]
			c := grads[2][in[5].ints[r]*d+lo:][:len(dy)]
			for i, x := range dy {
				a[i] += scale * x
				b[i] += x
				c[i] += x
			}
		}
	})
}

// layerNorm is normalisation of rows of width d with gain and bias. It is a part
// of other kernels, and keeps the normalised rows for the derivative.
type layerNorm struct {
	d          int
	eps        float32
	xhat, rstd []float32 // (P, D), (P)
	partial    []float32 // by part: gradients of gain and bias
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
			s := float32(1 / math.Sqrt(float64(variance/float32(d)+n.eps)))
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
	n.partial = resize(n.partial, parts()*2*d)
	partial := n.partial
	clear(partial)
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
	parallel(rows, func(_, lo, hi int) {
		for r := lo; r < hi; r++ {
			copy(y[r*out:(r+1)*out], b)
		}
	})
	gemm(false, true, rows, out, in, 1, x, in, w, in, 1, y, out)
}

// linearBackward overwrites dx, dw and db.
func linearBackward(dx, dw, db, dy, x, w []float32, in, out int) {
	rows := len(dy) / out
	gemm(false, false, rows, in, out, 1, dy, out, w, in, 0, dx, in)
	gemm(true, false, out, in, rows, 1, dy, out, x, in, 0, dw, in)
	columnSums(db, dy)
}

// perceptron is down·act(up·x), with the relu or the GELU. A part of other kernels.
type perceptron struct {
	d, f int
	gelu bool

	hidden, slope, dhidden []float32 // (P, F); slope with the GELU only
}

// inputs describes the tensors: weight and bias of up and down.
func (m *perceptron) inputs() []input {
	return []input{
		{shape: tensor.Shape{m.f, m.d}},
		{shape: tensor.Shape{m.f}},
		{shape: tensor.Shape{m.d, m.f}},
		{shape: tensor.Shape{m.d}},
	}
}

func (m *perceptron) forward(out, x []float32, in []argument) {
	m.hidden = resize(m.hidden, len(x)/m.d*m.f)
	linear(m.hidden, x, in[0].floats, in[1].floats, m.d, m.f)
	if m.gelu {
		m.slope = resize(m.slope, len(m.hidden))
	}
	parallel(len(m.hidden), func(_, lo, hi int) {
		if m.gelu {
			gelu(m.hidden[lo:hi], m.slope[lo:hi])
			return
		}
		h := m.hidden[lo:hi]
		for i, v := range h {
			h[i] = max(v, 0)
		}
	})
	linear(out, m.hidden, in[2].floats, in[3].floats, m.f, m.d)
}

// backward overwrites dx, which may be dout, and the gradients of the tensors.
func (m *perceptron) backward(dx []float32, grads [][]float32, dout, x []float32, in []argument) {
	m.dhidden = resize(m.dhidden, len(m.hidden))
	linearBackward(m.dhidden, grads[2], grads[3], dout, m.hidden, in[2].floats, m.f, m.d)
	parallel(len(m.hidden), func(_, lo, hi int) {
		d := m.dhidden[lo:hi]
		if m.gelu {
			for i, s := range m.slope[lo:hi] {
				d[i] *= s
			}
			return
		}
		for i, v := range m.hidden[lo:hi] {
			// All ones where v > 0 and none where it is 0, for v is never negative.
			open := uint32(-int32(math.Float32bits(v)) >> 31)
			d[i] = math.Float32frombits(math.Float32bits(d[i]) & open)
		}
	})
	linearBackward(dx, grads[0], grads[1], m.dhidden, x, in[0].floats, m.d, m.f)
}

// feedForward is a block's second half: y = x + drop(down·relu(up·norm(x))).
type feedForward struct {
	perceptron
	p            int
	norm         layerNorm
	drop         *dropout
	normed, tail []float32 // (P, D)
}

// Positions of the inputs.
const (
	ffnX = iota
	ffnGain
	ffnBias
	ffnPerceptron
)

func (k *feedForward) inputs() []input {
	v := tensor.Shape{k.d}
	return append([]input{{shape: k.shape()}, {shape: v}, {shape: v}}, k.perceptron.inputs()...)
}
func (k *feedForward) shape() tensor.Shape { return tensor.Shape{k.p, k.d} }

func (k *feedForward) forward(out []float32, in []argument) {
	x := in[ffnX].floats
	k.norm.d, k.norm.eps = k.d, model.NormEpsilon
	k.normed = resize(k.normed, len(x))
	k.norm.forward(k.normed, x, in[ffnGain].floats, in[ffnBias].floats)
	k.perceptron.forward(out, k.normed, in[ffnPerceptron:])
	k.drop.apply(out)
	addRows(out, x)
}

func (k *feedForward) backward(grads [][]float32, dout, _ []float32, in []argument) {
	k.tail = resize(k.tail, len(dout))
	copy(grads[ffnX], dout) // the residual path
	k.drop.backward(k.tail, dout)
	k.perceptron.backward(k.tail, grads[ffnPerceptron:], k.tail, k.normed, in[ffnPerceptron:])
	k.norm.backward(grads[ffnX], grads[ffnGain], grads[ffnBias], k.tail, in[ffnGain].floats)
}

// normalisation is the one that stands between blocks, with dropout, (P, D): after
// the last block of the user tower, and after the embedding of a text.
type normalisation struct {
	p    int
	norm layerNorm
	drop *dropout
	tail []float32 // (P, D)
}

func (k *normalisation) inputs() []input {
	d := k.norm.d
	return []input{{shape: tensor.Shape{k.p, d}}, {shape: tensor.Shape{d}}, {shape: tensor.Shape{d}}}
}
func (k *normalisation) shape() tensor.Shape { return tensor.Shape{k.p, k.norm.d} }

func (k *normalisation) forward(out []float32, in []argument) {
	k.norm.forward(out, in[0].floats, in[1].floats, in[2].floats)
	k.drop.apply(out)
}

func (k *normalisation) backward(grads [][]float32, dout, _ []float32, in []argument) {
	k.tail = resize(k.tail, len(dout))
	k.drop.backward(k.tail, dout)
	clear(grads[0])
	k.norm.backward(grads[0], grads[1], grads[2], k.tail, in[1].floats)
}

// resize returns a slice of length n, s itself where it is large enough.
func resize[E any](s []E, n int) []E {
	if cap(s) < n {
		return make([]E, n)
	}
	return s[:n]
}
