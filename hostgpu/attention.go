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

	normed, tail, partial []float32 // (P, D), (P, D), by part: gradient of the distance bias
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

// band returns what event i of row b may see, as an interval of positions.
func (k *attention) band(in []argument, b, i int) (from, to int) {
	return max(in[attnStart].ints[b*k.t+i], i-k.window+1), i + 1
}

func (k *attention) forward(out []float32, in []argument) {
	t, w, x := k.t, k.window, in[attnX].floats
	k.norm.d, k.norm.eps = k.d, model.NormEpsilon
	k.normed = resize(k.normed, len(x))
	k.norm.forward(k.normed, x, in[attnGain].floats, in[attnBias].floats)
	k.heads.forward(out, k.normed, in[attnHeads:attnDistance], func(b, h int, scores []float32) {
		distance := in[attnDistance].floats[h*w : (h+1)*w]
		for i := range t {
			from, to := k.band(in, b, i)
			row := scores[i*t : (i+1)*t]
			band := row[from:to]
			for j := range band {
				band[j] += distance[i-from-j]
			}
			clear(row[:from])
			clear(row[to:])
			softmax(band, 1)
		}
	})
	k.drop.apply(out)
	addRows(out, x)
}

func (k *attention) backward(grads [][]float32, dout, _ []float32, in []argument) {
	t, w := k.t, k.window
	k.tail, k.partial = resize(k.tail, len(dout)), resize(k.partial, parts()*k.h*w)
	clear(k.partial)
	copy(grads[attnX], dout) // the residual path
	k.drop.backward(k.tail, dout)
	k.heads.backward(k.tail, grads[attnHeads:attnDistance], k.tail, k.normed, in[attnHeads:attnDistance], func(part, b, h int, ds, probs []float32) {
		distance := k.partial[(part*k.h+h)*w:][:w]
		for i := range t {
			from, to := k.band(in, b, i)
			row := ds[i*t : (i+1)*t]
			band := row[from:to]
			softmaxBackward(band, probs[i*t+from:i*t+to])
			for j, x := range band {
				distance[i-from-j] += x
			}
			clear(row[:from])
			clear(row[to:])
		}
	})
	clear(grads[attnDistance])
	for p := range parts() {
		add(grads[attnDistance], k.partial[p*k.h*w:][:k.h*w])
	}
	k.norm.backward(grads[attnX], grads[attnGain], grads[attnBias], k.tail, in[attnGain].floats)
}
