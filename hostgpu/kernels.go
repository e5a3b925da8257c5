package hostgpu

import (
	"slices"

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
	ones vector // (N)
}

func (k *itemVectors) inputs() []input {
	return []input{{shape: tensor.Shape{k.n, k.d}}, {shape: tensor.Shape{k.d, k.f}}}
}
func (k *itemVectors) shape() tensor.Shape { return tensor.Shape{k.n, k.d} }

func (k *itemVectors) forward(dev device, out vector, in []argument) {
	dev.copy(out, in[0].floats)
	if k.drop.active() {
		k.ones = dev.resize(k.ones, k.n)
		dev.fill(k.ones, 1)
		k.drop.apply(dev, k.ones)
	}
	k.leaveOut(dev, out)
	dev.gemm(false, true, k.n, k.d, k.f, 1, dev.mirror(k.x), k.f, in[1].floats, k.f, 1, out, k.d)
}

func (k *itemVectors) backward(dev device, grads []vector, dout, _ vector, in []argument) {
	dev.copy(grads[0], dout)
	k.leaveOut(dev, grads[0])
	dev.gemm(true, false, k.d, k.f, k.n, 1, dout, k.d, dev.mirror(k.x), k.f, 0, grads[1], k.f)
	if w := len(k.dx) / k.n; w > 0 {
		dev.gemm(false, false, k.n, w, k.d, 1, dout, k.d, in[1].floats.from(k.f-w), k.f, 1, dev.mirror(k.dx), w)
	}
}

// leaveOut clears the rows of e, (N, D), that the step does without.
func (k *itemVectors) leaveOut(dev device, e vector) {
	if k.drop.active() {
		dev.clearRows(e, k.drop.mask, k.d)
	}
}

// selection is the rows of V, (N, D), that the softmax ranks: (len(rows), D).
type selection struct {
	n, d int
	rows []int
}

func (k *selection) inputs() []input     { return []input{{shape: tensor.Shape{k.n, k.d}}} }
func (k *selection) shape() tensor.Shape { return tensor.Shape{len(k.rows), k.d} }

func (k *selection) forward(dev device, out vector, in []argument) {
	dev.gather(out, in[0].floats, dev.fixed(k.rows), k.d)
}

func (k *selection) backward(dev device, grads []vector, dout, _ vector, _ []argument) {
	dev.fill(grads[0], 0)
	dev.scatter(grads[0], dout, dev.fixed(k.rows), k.d)
}

// rankedLoss is a loss by some rows of V, (N, D), its second input: a selection and the
// loss in one, so that it has another input that has a gradient.
type rankedLoss struct {
	kernel
	selection
	v, dv vector // of the rows
}

func (k *rankedLoss) inputs() []input {
	in := k.kernel.inputs()
	in[1] = k.selection.inputs()[0]
	return in
}
func (k *rankedLoss) shape() tensor.Shape { return k.kernel.shape() }

// of are the arguments of the loss.
func (k *rankedLoss) of(in []argument) []argument {
	in = slices.Clone(in)
	in[1].floats = k.v
	return in
}

func (k *rankedLoss) forward(dev device, out vector, in []argument) {
	n := len(k.rows) * k.d
	k.v, k.dv = dev.resize(k.v, n), dev.resize(k.dv, n)
	k.selection.forward(dev, k.v, in[1:2])
	k.kernel.forward(dev, out, k.of(in))
}

func (k *rankedLoss) backward(dev device, grads []vector, dout, out vector, in []argument) {
	dv := grads[1]
	grads[1] = k.dv
	k.kernel.backward(dev, grads, dout, out, k.of(in))
	grads[1] = dv
	k.selection.backward(dev, grads[1:2], k.dv, k.v, in[1:2])
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

func (k *embedding) forward(dev device, out vector, in []argument) {
	dev.embed(k, out, in)
	k.drop.apply(dev, out)
}

func (k *embedding) backward(dev device, grads []vector, dout, _ vector, in []argument) {
	dev.embedBackward(k, grads, dout, in)
}

// layerNorm is normalisation of rows of width d with gain and bias. It is a part
// of other kernels, and keeps the normalised rows for the derivative.
type layerNorm struct {
	d          int
	eps        float32
	xhat, rstd vector    // (P, D), (P)
	partial    []float32 // of the host, by part: gradients of gain and bias
}

func (n *layerNorm) forward(dev device, out, x, gain, bias vector) {
	n.xhat, n.rstd = dev.resize(n.xhat, x.n), dev.resize(n.rstd, x.n/n.d)
	dev.normalise(n, out, x, gain, bias)
}

// backward adds the gradient of the input to dx and overwrites dgain and dbias.
func (n *layerNorm) backward(dev device, dx, dgain, dbias, dout, gain vector) {
	dev.normaliseBackward(n, dx, dgain, dbias, dout, gain)
}

// linear is y = x·Wᵀ + b on rows; W is (out, in). A part of other kernels.
func linear(dev device, y, x, w, b vector, in, out int) {
	dev.repeat(y, b)
	dev.gemm(false, true, x.n/in, out, in, 1, x, in, w, in, 1, y, out)
}

// linearBackward overwrites dx, dw and db.
func linearBackward(dev device, dx, dw, db, dy, x, w vector, in, out int) {
	rows := dy.n / out
	dev.gemm(false, false, rows, in, out, 1, dy, out, w, in, 0, dx, in)
	dev.gemm(true, false, out, in, rows, 1, dy, out, x, in, 0, dw, in)
	dev.columnSums(db, dy)
}

// perceptron is down·act(up·x), with the relu or the GELU. A part of other kernels.
type perceptron struct {
	d, f int
	gelu bool

	hidden, slope, dhidden vector // (P, F); slope with the GELU only
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

func (m *perceptron) forward(dev device, out, x vector, in []argument) {
	m.hidden = dev.resize(m.hidden, x.n/m.d*m.f)
	linear(dev, m.hidden, x, in[0].floats, in[1].floats, m.d, m.f)
	if m.gelu {
		m.slope = dev.resize(m.slope, m.hidden.n)
		dev.gelu(m.hidden, m.slope)
	} else {
		dev.relu(m.hidden)
	}
	linear(dev, out, m.hidden, in[2].floats, in[3].floats, m.f, m.d)
}

// backward overwrites dx, which may be dout, and the gradients of the tensors.
func (m *perceptron) backward(dev device, dx vector, grads []vector, dout, x vector, in []argument) {
	m.dhidden = dev.resize(m.dhidden, m.hidden.n)
	linearBackward(dev, m.dhidden, grads[2], grads[3], dout, m.hidden, in[2].floats, m.f, m.d)
	if m.gelu {
		dev.product(m.dhidden, m.dhidden, m.slope)
	} else {
		dev.reluBackward(m.dhidden, m.hidden)
	}
	linearBackward(dev, dx, grads[0], grads[1], m.dhidden, x, in[0].floats, m.d, m.f)
}

// feedForward is a block's second half: y = x + drop(down·relu(up·norm(x))).
type feedForward struct {
	perceptron
	p            int
	norm         layerNorm
	drop         *dropout
	normed, tail vector // (P, D)
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

func (k *feedForward) forward(dev device, out vector, in []argument) {
	x := in[ffnX].floats
	k.norm.d, k.norm.eps = k.d, model.NormEpsilon
	k.normed = dev.resize(k.normed, x.n)
	k.norm.forward(dev, k.normed, x, in[ffnGain].floats, in[ffnBias].floats)
	k.perceptron.forward(dev, out, k.normed, in[ffnPerceptron:])
	k.drop.apply(dev, out)
	dev.add(out, x)
}

func (k *feedForward) backward(dev device, grads []vector, dout, _ vector, in []argument) {
	k.tail = dev.resize(k.tail, dout.n)
	dev.copy(grads[ffnX], dout) // the residual path
	k.drop.backward(dev, k.tail, dout)
	k.perceptron.backward(dev, k.tail, grads[ffnPerceptron:], k.tail, k.normed, in[ffnPerceptron:])
	k.norm.backward(dev, grads[ffnX], grads[ffnGain], grads[ffnBias], k.tail, in[ffnGain].floats)
}

// normalisation is the one that stands between blocks, with dropout, (P, D): after
// the last block of the user tower, and after the embedding of a text.
type normalisation struct {
	p    int
	norm layerNorm
	drop *dropout
	tail vector // (P, D)
}

func (k *normalisation) inputs() []input {
	d := k.norm.d
	return []input{{shape: tensor.Shape{k.p, d}}, {shape: tensor.Shape{d}}, {shape: tensor.Shape{d}}}
}
func (k *normalisation) shape() tensor.Shape { return tensor.Shape{k.p, k.norm.d} }

func (k *normalisation) forward(dev device, out vector, in []argument) {
	k.norm.forward(dev, out, in[0].floats, in[1].floats, in[2].floats)
	k.drop.apply(dev, out)
}

func (k *normalisation) backward(dev device, grads []vector, dout, _ vector, in []argument) {
	k.tail = dev.resize(k.tail, dout.n)
	k.drop.backward(dev, k.tail, dout)
	dev.fill(grads[0], 0)
	k.norm.backward(dev, grads[0], grads[1], grads[2], k.tail, in[1].floats)
}
