package hostgpu

import "gorgonia.org/tensor"

// heads is multi-head self-attention between its projections, O·attend(Q·x, K·x,
// V·x), in rows of events or tokens. It is a part of other kernels, which say
// what may be seen.
type heads struct {
	batchRows
	d, h int

	w, bias, qkv vector // (3D, D), (3D), (P, 3D): rows q|k|v
	probs        vector // by row and head (T, T)
	context      vector // (P, D)

	dcontext, dqkv, dw, dbias vector

	ds, partial []float32 // of the host, by part: (T, T), gradient of the distance bias
	apart       vector    // of a GPU: q, k and v by row and head, (3, P·D)
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

// sight is what a place in a row sees. With a window, W, it is the events from start
// to its own, the last W at most, and each head adds a bias for the distance;
// without one it is all tokens of the text.
type sight struct {
	window   int
	starts   index  // (P) positions in the row
	distance vector // (H, W)
	lengths  index  // (B) of the texts
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

// forward writes the attention of the rows x, (P, D), to out.
func (a *heads) forward(dev device, out, x vector, in []argument, s sight) {
	d := a.d
	a.qkv, a.context = dev.resize(a.qkv, 3*x.n), dev.resize(a.context, x.n)
	a.w, a.bias = dev.resize(a.w, 3*d*d), dev.resize(a.bias, 3*d)
	for i := range 3 {
		dev.copy(a.w.slice(i*d*d, (i+1)*d*d), in[2*i].floats)
		dev.copy(a.bias.slice(i*d, (i+1)*d), in[2*i+1].floats)
	}
	a.probs = dev.resize(a.probs, a.rows()*a.h*a.t*a.t)
	linear(dev, a.qkv, x, a.w, a.bias, d, 3*d)
	dev.attend(a, s)
	linear(dev, out, a.context, in[6].floats, in[7].floats, d, d)
}

// backward overwrites dx, which may be dout, the gradients of the tensors and, with a
// window, that of the distance bias.
func (a *heads) backward(dev device, dx vector, grads []vector, dout, x vector, in []argument, s sight, ddistance vector) {
	d := a.d
	a.dcontext, a.dqkv = dev.resize(a.dcontext, dout.n), dev.resize(a.dqkv, 3*dout.n)
	a.dw, a.dbias = dev.resize(a.dw, 3*d*d), dev.resize(a.dbias, 3*d)
	linearBackward(dev, a.dcontext, grads[6], grads[7], dout, a.context, in[6].floats, d, d)
	dev.attendBackward(a, s, ddistance)
	linearBackward(dev, dx, a.dw, a.dbias, a.dqkv, x, a.w, d, 3*d)
	for i := range 3 {
		dev.copy(grads[2*i], a.dw.slice(i*d*d, (i+1)*d*d))
		dev.copy(grads[2*i+1], a.dbias.slice(i*d, (i+1)*d))
	}
}
