package hostgpu

import (
	"math"

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
	tail []float32 // (P, D)
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

func (k *textAttention) forward(out []float32, in []argument) {
	x := in[attnX].floats
	k.heads.forward(out, x, in[attnHeads:textLengths], func(b, _ int, scores []float32) {
		n := in[textLengths].ints[b]
		_, t := k.at(b)
		for i := range n {
			row := scores[i*t : (i+1)*t]
			softmax(row[:n], 1)
			clear(row[n:])
		}
		clear(scores[n*t:])
	})
	k.drop.apply(out)
	addRows(out, x)
	k.norm.forward(out, out, in[attnGain].floats, in[attnBias].floats)
}

func (k *textAttention) backward(grads [][]float32, dout, _ []float32, in []argument) {
	k.tail = resize(k.tail, len(dout))
	clear(grads[attnX])
	k.norm.backward(grads[attnX], grads[attnGain], grads[attnBias], dout, in[attnGain].floats)
	k.drop.backward(k.tail, grads[attnX])
	k.heads.backward(k.tail, grads[attnHeads:textLengths], k.tail, in[attnX].floats, in[attnHeads:textLengths], func(_, b, _ int, ds, probs []float32) {
		n := in[textLengths].ints[b]
		_, t := k.at(b)
		for i := range n {
			row := ds[i*t : (i+1)*t]
			softmaxBackward(row[:n], probs[i*t:i*t+n])
			clear(row[n:])
		}
		clear(ds[n*t:])
	})
	addRows(grads[attnX], k.tail)
}

// textFeedForward is a text block's second half,
// y = norm(x + drop(down·gelu(up·x))). Its inputs are in the order of feedForward.
type textFeedForward struct {
	perceptron
	p    int
	norm layerNorm
	drop *dropout
	tail []float32 // (P, D)
}

func (k *textFeedForward) inputs() []input {
	v := tensor.Shape{k.d}
	return append([]input{{shape: k.shape()}, {shape: v}, {shape: v}}, k.perceptron.inputs()...)
}
func (k *textFeedForward) shape() tensor.Shape { return tensor.Shape{k.p, k.d} }

func (k *textFeedForward) forward(out []float32, in []argument) {
	x := in[ffnX].floats
	k.perceptron.forward(out, x, in[ffnPerceptron:])
	k.drop.apply(out)
	addRows(out, x)
	k.norm.forward(out, out, in[ffnGain].floats, in[ffnBias].floats)
}

func (k *textFeedForward) backward(grads [][]float32, dout, _ []float32, in []argument) {
	k.tail = resize(k.tail, len(dout))
	clear(grads[ffnX])
	k.norm.backward(grads[ffnX], grads[ffnGain], grads[ffnBias], dout, in[ffnGain].floats)
	k.drop.backward(k.tail, grads[ffnX])
	k.perceptron.backward(k.tail, grads[ffnPerceptron:], k.tail, in[ffnX].floats, in[ffnPerceptron:])
	addRows(grads[ffnX], k.tail)
}

// pooling makes one vector of those of a text's tokens, (B, D): their mean or the
// first, scaled to length 1 where unit is set.
type pooling struct {
	batchRows
	d     int
	kind  model.Pooling
	unit  bool
	scale []float32 // (B) one over the length before scaling, with unit
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

func (k *pooling) forward(out []float32, in []argument) {
	d, x := k.d, in[0].floats
	k.scale = resize(k.scale, k.rows())
	parallel(k.rows(), func(_, lo, hi int) {
		for b := lo; b < hi; b++ {
			y, n := out[b*d:(b+1)*d], k.counted(in[1].ints[b])
			from, _ := k.at(b)
			clear(y)
			for t := range n {
				add(y, x[(from+t)*d:][:d])
			}
			scaled(y, y, 1/float32(max(n, 1)))
			if k.unit {
				var square float64
				for _, v := range y {
					square += float64(v) * float64(v)
				}
				k.scale[b] = float32(1 / max(math.Sqrt(square), model.TextLengthFloor))
				scaled(y, y, k.scale[b])
			}
		}
	})
}

func (k *pooling) backward(grads [][]float32, dout, out []float32, in []argument) {
	d, dx := k.d, grads[0]
	parallel(k.rows(), func(_, lo, hi int) {
		for b := lo; b < hi; b++ {
			from, t := k.at(b)
			y, dy, rows := out[b*d:(b+1)*d], dout[b*d:(b+1)*d], dx[from*d:(from+t)*d]
			n := k.counted(in[1].ints[b])
			clear(rows[n*d:])
			if n == 0 {
				continue
			}
			// The first row is computed, the others are the same.
			first, share := rows[:d], 1/float32(n)
			if k.unit { // what is along y changes nothing
				var dot float32
				for i, v := range dy {
					dot += v * y[i]
				}
				for i, v := range dy {
					first[i] = (v - y[i]*dot) * share * k.scale[b]
				}
			} else {
				scaled(first, dy, share)
			}
			for t := 1; t < n; t++ {
				copy(rows[t*d:(t+1)*d], first)
			}
		}
	})
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
	dz, losses             []float32 // (n, n), (n) for n pairs
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

func (k *contrastive) forward(out []float32, in []argument) {
	d, n := k.d, k.pairs(in[1].ints)
	queries, items := in[0].floats[:n*d], in[0].floats[k.b*d:][:n*d]
	groups := in[2].ints[:n]
	k.dz, k.losses = resize(k.dz, n*n), resize(k.losses, n)
	gemm(false, true, n, n, d, 1/k.temperature, queries, d, items, d, 0, k.dz, n)
	inv := 1 / float32(max(n, 1))
	parallel(n, func(_, lo, hi int) {
		for i := lo; i < hi; i++ {
			row := k.dz[i*n : (i+1)*n]
			right := func(j int) bool { return groups[j] == groups[i] && j != i }
			var total, answers float32 // of the logits that count
			for j, z := range row {
				if right(j) {
					row[j] = float32(math.Inf(-1)) // whose share and gradient are 0
					continue
				}
				total += z
				answers++
			}
			at, off := row[i], k.smoothing/answers
			k.losses[i] = softmax(row, inv) - (1-k.smoothing)*at - off*total
			row[i] -= (1 - k.smoothing) * inv
			for j := range row {
				if !right(j) {
					row[j] -= off * inv
				}
			}
		}
	})
	out[0] = mean(k.losses, n)
}

func (k *contrastive) backward(grads [][]float32, dout, _ []float32, in []argument) {
	d, n := k.d, k.pairs(in[1].ints)
	clear(grads[0])
	queries, items := in[0].floats[:n*d], in[0].floats[k.b*d:][:n*d]
	scale := dout[0] / k.temperature
	gemm(false, false, n, d, n, scale, k.dz, n, items, d, 0, grads[0], d)
	gemm(true, false, n, d, n, scale, k.dz, n, queries, d, 0, grads[0][k.b*d:], d)
}
