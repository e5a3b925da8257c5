package hostgpu

import (
	"gorgonia.org/tensor"

	"github.com/wisp-project/wisp/model"
)

// attention is a block's first half, y = x + drop(O·attend(norm(x))): causal
// attention over the last W events, with a learned bias for each head and
// distance. A row of T events may hold several sequences one after the other;
// an event attends to its own only.
type attention struct {
	heads
	window int
	norm   layerNorm
	drop   *dropout

	normed, tail vector // (P, D)
}

// Positions of the inputs.
const (
	attnX = iota
	attnGain
	attnBias
	attnHeads
	attnDistance = attnHeads + headTensors
	attnStart    = attnDistance + 1 // position in its row at which the sequence of an event starts
)

func (k *attention) inputs() []input {
	v := tensor.Shape{k.d}
	in := []input{{shape: k.shape()}, {shape: v}, {shape: v}}
	in = append(in, k.heads.inputs()...)
	return append(in, input{shape: tensor.Shape{k.h, k.window}}, input{shape: tensor.Shape{k.b * k.t}, index: true})
}
func (k *attention) shape() tensor.Shape { return tensor.Shape{k.b * k.t, k.d} }

// sight is what an event sees.
func (k *attention) sight(in []argument) sight {
	return sight{window: k.window, starts: in[attnStart].ints, distance: in[attnDistance].floats}
}

func (k *attention) forward(dev device, out vector, in []argument) {
	x := in[attnX].floats
	k.norm.d, k.norm.eps = k.d, model.NormEpsilon
	k.normed = dev.resize(k.normed, x.n)
	k.norm.forward(dev, k.normed, x, in[attnGain].floats, in[attnBias].floats)
	k.heads.forward(dev, out, k.normed, in[attnHeads:attnDistance], k.sight(in))
	k.drop.apply(dev, out)
	dev.add(out, x)
}

func (k *attention) backward(dev device, grads []vector, dout, _ vector, in []argument) {
	k.tail = dev.resize(k.tail, dout.n)
	dev.copy(grads[attnX], dout) // the residual path
	k.drop.backward(dev, k.tail, dout)
	k.heads.backward(dev, k.tail, grads[attnHeads:attnDistance], k.tail, k.normed, in[attnHeads:attnDistance], k.sight(in), grads[attnDistance])
	k.norm.backward(dev, grads[attnX], grads[attnGain], grads[attnBias], k.tail, in[attnGain].floats)
}
