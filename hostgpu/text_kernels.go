package hostgpu

import (
	"gorgonia.org/tensor"

	"github.com/wisp-project/wisp/model"
)

// Shapes in comments: B texts, padded to T tokens each, or some of them to fewer (see
// batchRows); P tokens in all. The lengths of
// the texts are an input: what lies beyond is neither attended to nor pooled, so
// its gradients are zero. A text of length 0 is not there.

// textAttention is a text block's first half, y = norm(x + drop(O·attend(x))),
// each token attending to all of its text.
type textAttention struct {
	heads
	norm layerNorm
	drop *dropout
	tail vector // (P, D)
}

// textLengths is the position of the lengths among the inputs of textAttention,
// which are otherwise those of attention up to the heads.
const textLengths = attnHeads + headTensors

func (k *textAttention) inputs() []input {
	v := tensor.Shape{k.d}
	in := append([]input{{shape: k.shape()}, {shape: v}, {shape: v}}, k.heads.inputs()...)
	return append(in, input{shape: tensor.Shape{k.rows()}, index: true})
}
func (k *textAttention) shape() tensor.Shape { return tensor.Shape{k.places(), k.d} }

func (k *textAttention) forward(dev device, out vector, in []argument) {
	x := in[attnX].floats
	k.heads.forward(dev, out, x, in[attnHeads:textLengths], sight{lengths: in[textLengths].ints})
	k.drop.apply(dev, out)
	dev.add(out, x)
	k.norm.forward(dev, out, out, in[attnGain].floats, in[attnBias].floats)
}

func (k *textAttention) backward(dev device, grads []vector, dout, _ vector, in []argument) {
	k.tail = dev.resize(k.tail, dout.n)
	dev.fill(grads[attnX], 0)
	k.norm.backward(dev, grads[attnX], grads[attnGain], grads[attnBias], dout, in[attnGain].floats)
	k.drop.backward(dev, k.tail, grads[attnX])
	k.heads.backward(dev, k.tail, grads[attnHeads:textLengths], k.tail, in[attnX].floats, in[attnHeads:textLengths], sight{lengths: in[textLengths].ints}, vector{})
	dev.add(grads[attnX], k.tail)
}

// textFeedForward is a text block's second half,
// y = norm(x + drop(down·gelu(up·x))). Its inputs are in the order of feedForward.
type textFeedForward struct {
	perceptron
	p    int
	norm layerNorm
	drop *dropout
	tail vector // (P, D)
}

func (k *textFeedForward) inputs() []input {
	v := tensor.Shape{k.d}
	return append([]input{{shape: k.shape()}, {shape: v}, {shape: v}}, k.perceptron.inputs()...)
}
func (k *textFeedForward) shape() tensor.Shape { return tensor.Shape{k.p, k.d} }

func (k *textFeedForward) forward(dev device, out vector, in []argument) {
	x := in[ffnX].floats
	k.perceptron.forward(dev, out, x, in[ffnPerceptron:])
	k.drop.apply(dev, out)
	dev.add(out, x)
	k.norm.forward(dev, out, out, in[ffnGain].floats, in[ffnBias].floats)
}

func (k *textFeedForward) backward(dev device, grads []vector, dout, _ vector, in []argument) {
	k.tail = dev.resize(k.tail, dout.n)
	dev.fill(grads[ffnX], 0)
	k.norm.backward(dev, grads[ffnX], grads[ffnGain], grads[ffnBias], dout, in[ffnGain].floats)
	k.drop.backward(dev, k.tail, grads[ffnX])
	k.perceptron.backward(dev, k.tail, grads[ffnPerceptron:], k.tail, in[ffnX].floats, in[ffnPerceptron:])
	dev.add(grads[ffnX], k.tail)
}

// pooling makes one vector of those of a text's tokens, (B, D): their mean or the
// first, scaled to length 1 where unit is set.
type pooling struct {
	batchRows
	d     int
	kind  model.Pooling
	unit  bool
	scale vector // (B) one over the length before scaling, with unit
}

func (k *pooling) inputs() []input {
	return []input{{shape: tensor.Shape{k.places(), k.d}}, {shape: tensor.Shape{k.rows()}, index: true}}
}
func (k *pooling) shape() tensor.Shape { return tensor.Shape{k.rows(), k.d} }

// counted is the number of tokens that count of a text of n.
func (k *pooling) counted(n int) int {
	if k.kind == model.PoolCLS {
		return min(n, 1)
	}
	return n
}

func (k *pooling) forward(dev device, out vector, in []argument) {
	k.scale = dev.resize(k.scale, k.rows())
	dev.pool(k, out, in)
}

func (k *pooling) backward(dev device, grads []vector, dout, out vector, in []argument) {
	dev.poolBackward(k, grads[0], dout, out, in)
}

// contrastive is the mean cross-entropy of pairs against the other pairs of the
// batch (van den Oord et al. 2018): of 2B vectors, row i is a query and row B+i
// its item; the logit of query i and item j is their product over the
// temperature, and the target of query i is item i. Items of the same group are
// the same item: one that query i should find under another row is no wrong
// answer, and masked. The target's mass is smoothed by smoothing over it and all
// items that are wrong answers. Pairs that are not there must be the last. The
// gradient of the logits is finished in forward.
type contrastive struct {
	b, d                   int
	temperature, smoothing float32
	dz, losses             vector // (n, n), (n) for n pairs
}

func (k *contrastive) inputs() []input {
	return []input{
		{shape: tensor.Shape{2 * k.b, k.d}},
		{shape: tensor.Shape{2 * k.b}, index: true}, // lengths of the texts
		{shape: tensor.Shape{k.b}, index: true},     // groups of the items
	}
}
func (k *contrastive) shape() tensor.Shape { return tensor.ScalarShape() }

// pairs is the number of pairs that are there.
func (k *contrastive) pairs(lengths []int) int {
	n := 0
	for n < k.b && lengths[n] > 0 && lengths[k.b+n] > 0 {
		n++
	}
	return n
}

func (k *contrastive) forward(dev device, out vector, in []argument) {
	d, n := k.d, k.pairs(in[1].ints.host)
	k.dz, k.losses = dev.resize(k.dz, n*n), dev.resize(k.losses, n)
	dev.gemm(false, true, n, n, d, 1/k.temperature, in[0].floats, d, in[0].floats.from(k.b*d), d, 0, k.dz, n)
	dev.contrast(k, n, in[2].ints)
	dev.mean(out, k.losses, n)
}

func (k *contrastive) backward(dev device, grads []vector, dout, _ vector, in []argument) {
	d, n := k.d, k.pairs(in[1].ints.host)
	dev.fill(grads[0], 0)
	scale := dout.host[0] / k.temperature
	dev.gemm(false, false, n, d, n, scale, k.dz, n, in[0].floats.from(k.b*d), d, 0, grads[0], d)
	dev.gemm(true, false, n, d, n, scale, k.dz, n, in[0].floats, d, 0, grads[0].from(k.b*d), d)
}
