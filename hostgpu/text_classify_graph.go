package hostgpu

import (
	"gorgonia.org/tensor"

	"github.com/wisp-project/wisp/model"
)

// Names of the tensors of a classification head.
const (
	classifyWeight = "classify.weight" // (C, D)
	classifyBias   = "classify.bias"   // (C)
)

// classification is the mean cross-entropy of B vectors of width D in C classes
// whose logits are W·drop(x) + bias, with the target's mass smoothed over all
// classes (Szegedy et al. 2016). Rows with a negative target do not count. The
// gradient of the logits is finished in forward.
type classification struct {
	b, d, c   int
	smoothing float32
	drop      *dropout

	x, dz, tail, losses vector // (B, D), (B, C), (B, C), (B)
}

func (k *classification) inputs() []input {
	return []input{
		{shape: tensor.Shape{k.b, k.d}},
		{shape: tensor.Shape{k.c, k.d}},
		{shape: tensor.Shape{k.c}},
		{shape: tensor.Shape{k.b}, index: true},
	}
}
func (k *classification) shape() tensor.Shape { return tensor.ScalarShape() }

func (k *classification) forward(dev device, out vector, in []argument) {
	k.x, k.dz, k.losses = dev.resize(k.x, k.b*k.d), dev.resize(k.dz, k.b*k.c), dev.resize(k.losses, k.b)
	dev.copy(k.x, in[0].floats)
	k.drop.apply(dev, k.x)
	linear(dev, k.dz, k.x, in[1].floats, in[2].floats, k.d, k.c)
	n := counted(in[3].ints.host)
	dev.crossEntropy(k.dz, vector{}, in[3].ints, k.c, k.smoothing, 1/float32(max(n, 1)), k.losses)
	dev.mean(out, k.losses, n)
}

func (k *classification) backward(dev device, grads []vector, dout, _ vector, in []argument) {
	k.tail = dev.resize(k.tail, k.dz.n)
	dev.scaled(k.tail, k.dz, dout.host[0])
	linearBackward(dev, grads[0], grads[1], grads[2], k.tail, k.x, in[1].floats, k.d, k.c)
	k.drop.backward(dev, grads[0], grads[0])
}

// textClassGraph is the training graph of a classifier for one batch shape.
type textClassGraph struct {
	*graph
	batch   *textBatch
	states  []float32 // (P, D) what the frozen part made of the batch, nil without any
	targets []int     // (B) class of each text, -1 for a text that is not there
}

// newTextClassGraph builds loss and gradients for the shape that tw and head
// have. They may be reshaped for another graph as long as they have this shape
// again when this one runs.
func newTextClassGraph(w model.Weights, tw *textTower, head *classification, frozen int, a *adapters) (*textClassGraph, error) {
	g := &textClassGraph{batch: newTextBatch(tw.batchRows), targets: make([]int, tw.b)}
	b := newTextGraphBuilder(host, tw.cfg, w, frozen, a, head.specs()...)
	enc := b.encoder(tw, g.batch, frozen)
	g.states = enc.frozen
	x := b.add("pooling", tw.pool, enc.states, enc.lengths)
	loss := b.add("classification", head, x, b.nodes[classifyWeight], b.nodes[classifyBias], b.index("targets", g.targets))
	var err error
	g.graph, err = b.build(loss)
	return g, err
}

// specs lists the tensors of the head.
func (k *classification) specs() []model.Spec {
	return []model.Spec{{Name: classifyWeight, Shape: []int{k.c, k.d}}, {Name: classifyBias, Shape: []int{k.c}}}
}
