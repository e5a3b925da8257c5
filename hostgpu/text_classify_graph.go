package hostgpu

import (
	"fmt"

	"gorgonia.org/gorgonia"
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

	x, dz, tail, losses []float32 // (B, D), (B, C), (B, C), (B)
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

func (k *classification) forward(out []float32, in []argument) {
	k.x, k.dz, k.losses = resize(k.x, k.b*k.d), resize(k.dz, k.b*k.c), resize(k.losses, k.b)
	copy(k.x, in[0].floats)
	k.drop.apply(k.x)
	linear(k.dz, k.x, in[1].floats, in[2].floats, k.d, k.c)
	targets := in[3].ints
	n := counted(targets)
	// The full softmax over classes in place of items.
	loss := fullSoftmax{n: k.c, smoothing: k.smoothing}
	for r, target := range targets {
		k.losses[r] = loss.row(k.dz[r*k.c:(r+1)*k.c], target, 1/float32(max(n, 1)))
	}
	out[0] = mean(k.losses, n)
}

func (k *classification) backward(grads [][]float32, dout, _ []float32, in []argument) {
	k.tail = resize(k.tail, len(k.dz))
	scaled(k.tail, k.dz, dout[0])
	linearBackward(grads[0], grads[1], grads[2], k.tail, k.x, in[1].floats, k.d, k.c)
	k.drop.backward(grads[0], grads[0])
}

// textClassGraph is the training graph of a classifier for one batch shape.
type textClassGraph struct {
	*graph
	batch   *textBatch
	states  []float32 // (P, D) what the frozen blocks made of the batch, nil without any
	targets []int     // (B) class of each text, -1 for a text that is not there
}

// newTextClassGraph builds loss and gradients for the shape that tw and head
// have. They may be reshaped for another graph as long as they have this shape
// again when this one runs. The embeddings and the lowest frozen blocks are not
// part of the graph where frozen is above 0; their output is then an input.
func newTextClassGraph(w model.Weights, tw *textTower, head *classification, frozen int) (*textClassGraph, error) {
	c := tw.cfg
	g := &textClassGraph{batch: newTextBatch(tw.b, tw.t), targets: make([]int, tw.b)}
	b, bt := newGraphBuilder(textClassSpecs(c, head.c, frozen), w), g.batch
	lengths := b.index("lengths", bt.lengths)
	var x *gorgonia.Node
	if frozen > 0 {
		g.states = make([]float32, tw.b*tw.t*c.Dim)
		value := tensor.New(tensor.WithShape(tw.b*tw.t, c.Dim), tensor.WithBacking(g.states))
		x = gorgonia.NewTensor(b.eg, tensor.Float32, 2, gorgonia.WithShape(tw.b*tw.t, c.Dim), gorgonia.WithName("states"), gorgonia.WithValue(value))
	} else {
		x = b.add("embedding", tw.embed, b.nodes[model.TextWord], b.nodes[model.TextPosition], b.nodes[model.TextType],
			b.index("ids", bt.ids), b.index("positions", bt.positions), b.index("types", bt.types))
		x = b.add("norm", tw.norm, x, b.nodes[model.TextNormGain], b.nodes[model.TextNormBias])
	}
	for l := frozen; l < c.Layers; l++ {
		full := func(name string) string { return model.TextLayerName(l, name) }
		x = b.add(fmt.Sprintf("attention%d", l), tw.attn[l], append(b.block(x, textAttnTensors, full), lengths)...)
		x = b.add(fmt.Sprintf("feedforward%d", l), tw.ffn[l], b.block(x, textFFNTensors, full)...)
	}
	x = b.add("pooling", tw.pool, x, lengths)
	loss := b.add("classification", head, x, b.nodes[classifyWeight], b.nodes[classifyBias], b.index("targets", g.targets))
	var err error
	g.graph, err = b.build(loss)
	return g, err
}

// textClassSpecs lists what is trained: the head, the blocks from frozen upwards
// and, where frozen is 0, the embeddings.
func textClassSpecs(c model.TextConfig, classes, frozen int) []model.Spec {
	return append(trainedTextSpecs(c, frozen),
		model.Spec{Name: classifyWeight, Shape: []int{classes, c.Dim}}, model.Spec{Name: classifyBias, Shape: []int{classes}})
}

// embedTokens writes the embeddings of the tokens of bt to x, (P, D), outside
// any graph. y is memory for it, (P, D).
func (w *textTower) embedTokens(x, y []float32, weights model.Weights, bt *textBatch) {
	param := func(name string) argument { return floats(weights[name].Data) }
	w.embed.forward(y, []argument{
		param(model.TextWord), param(model.TextPosition), param(model.TextType),
		ints(bt.ids), ints(bt.positions), ints(bt.types),
	})
	w.norm.forward(x, []argument{floats(y), param(model.TextNormGain), param(model.TextNormBias)})
}

// blocks applies blocks from to to-1 to x, (P, D), in place, outside any graph. y
// is memory for it, (P, D).
func (w *textTower) blocks(x, y []float32, weights model.Weights, lengths []int, from, to int) {
	block := func(l int, x []float32, names []string) []argument {
		args := []argument{floats(x)}
		for _, n := range names {
			args = append(args, floats(weights[model.TextLayerName(l, n)].Data))
		}
		return args
	}
	for l := from; l < to; l++ {
		w.attn[l].forward(y, append(block(l, x, textAttnTensors), ints(lengths)))
		w.ffn[l].forward(x, block(l, y, textFFNTensors))
	}
}
