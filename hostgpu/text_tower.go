package hostgpu

import (
	"fmt"

	"gorgonia.org/gorgonia"

	"github.com/wisp-project/wisp/model"
)

// textBatch is what a text encoder reads: B texts, padded as batchRows says.
type textBatch struct {
	batchRows
	ids, positions, types []int // (P)
	lengths               []int // (B) tokens of each text, 0 for a text that is not there
}

func newTextBatch(rows batchRows) *textBatch {
	bt := &textBatch{}
	bt.reshape(rows)
	return bt
}

// reshape empties the batch and gives it another shape.
func (bt *textBatch) reshape(rows batchRows) {
	p := rows.places()
	bt.batchRows = rows
	bt.ids, bt.positions, bt.types = resize(bt.ids, p), resize(bt.positions, p), resize(bt.types, p)
	bt.lengths = resize(bt.lengths, rows.rows())
	clear(bt.ids)
	clear(bt.types) // a single text is all of type 0
	clear(bt.lengths)
	for b := range bt.lengths {
		from, t := rows.at(b)
		for i := range t {
			bt.positions[from+i] = i
		}
	}
}

// put makes ids text b.
func (bt *textBatch) put(b int, ids []int32) {
	bt.lengths[b] = len(ids)
	from, t := bt.at(b)
	row := bt.ids[from : from+t]
	clear(row)
	for i, id := range ids {
		row[i] = int(id)
	}
}

// textTower is the composition of kernels that computes embeddings from tokens:
// the same list serves the training graph and inference.
type textTower struct {
	batchRows
	cfg   model.TextConfig
	embed *embedding
	norm  *normalisation
	attn  []*textAttention
	ffn   []*textFeedForward
	pool  *pooling
}

// newTextTower builds the kernels; state is nil and share 0 for inference, where
// one kernel serves all blocks, as nothing is kept for a derivative.
func newTextTower(c model.TextConfig, share float32, state *stepState) *textTower {
	site := uint64(0)
	drop := func() *dropout {
		site++
		return &dropout{share: share, site: site, state: state}
	}
	norm := layerNorm{d: c.Dim, eps: float32(c.NormEpsilon)}
	w := &textTower{
		cfg:   c,
		embed: &embedding{d: c.Dim, rows: [3]int{c.Vocabulary, c.Positions, c.Types}, scale: 1},
		norm:  &normalisation{norm: norm, drop: drop()},
		pool:  &pooling{d: c.Dim, kind: c.Pooling, unit: c.Normalise},
	}
	for l := range c.Layers {
		if l > 0 && state == nil {
			w.attn, w.ffn = append(w.attn, w.attn[0]), append(w.ffn, w.ffn[0])
			continue
		}
		w.attn = append(w.attn, &textAttention{heads: heads{d: c.Dim, h: c.Heads}, norm: norm, drop: drop()})
		w.ffn = append(w.ffn, &textFeedForward{perceptron: perceptron{d: c.Dim, f: c.FFN, gelu: true}, norm: norm, drop: drop()})
	}
	return w
}

// reshape sets the shape of the batch. The kernels of a graph must keep theirs.
func (w *textTower) reshape(rows batchRows) {
	p := rows.places()
	w.batchRows, w.pool.batchRows = rows, rows
	w.embed.p, w.norm.p = p, p
	for l := range w.attn {
		w.attn[l].batchRows, w.ffn[l].p = rows, p
	}
}

// Names of the tensors of a text block, in the order of the kernels' inputs.
var (
	textAttnTensors = []string{
		"attn.norm.weight", "attn.norm.bias", "attn.q.weight", "attn.q.bias", "attn.k.weight", "attn.k.bias",
		"attn.v.weight", "attn.v.bias", "attn.o.weight", "attn.o.bias",
	}
	textFFNTensors = ffnTensors
)

// forward writes the embeddings of bt, (B, D), to out, outside any graph. x and y
// are memory for it, (P, D) each.
func (w *textTower) forward(dev device, out, x, y vector, weights model.Weights, bt *textBatch) {
	w.embedTokens(dev, x, y, weights, bt)
	w.blocks(dev, x, y, weights, bt.lengths, 0, w.cfg.Layers)
	w.pool.forward(dev, out, []argument{{floats: x}, {ints: dev.indices(bt.lengths)}})
}

// embedTokens writes the embeddings of the tokens of bt to x, (P, D), outside
// any graph. y is memory for it, (P, D).
func (w *textTower) embedTokens(dev device, x, y vector, weights model.Weights, bt *textBatch) {
	param := func(name string) argument { return argument{floats: dev.mirror(weights[name].Data)} }
	places := func(x []int) argument { return argument{ints: dev.indices(x)} }
	w.embed.forward(dev, y, []argument{
		param(model.TextWord), param(model.TextPosition), param(model.TextType),
		places(bt.ids), places(bt.positions), places(bt.types),
	})
	w.norm.forward(dev, x, []argument{{floats: y}, param(model.TextNormGain), param(model.TextNormBias)})
}

// blocks applies blocks from to to-1 to x, (P, D), in place, outside any graph. y
// is memory for it, (P, D).
func (w *textTower) blocks(dev device, x, y vector, weights model.Weights, lengths []int, from, to int) {
	block := func(l int, x vector, names []string) []argument {
		args := []argument{{floats: x}}
		for _, n := range names {
			args = append(args, argument{floats: dev.mirror(weights[model.TextLayerName(l, n)].Data)})
		}
		return args
	}
	for l := from; l < to; l++ {
		w.attn[l].forward(dev, y, append(block(l, x, textAttnTensors), argument{ints: dev.indices(lengths)}))
		w.ffn[l].forward(dev, x, block(l, y, textFFNTensors))
	}
}

// trainedTextSpecs lists the tensors of an encoder of which the embeddings and
// the lowest frozen blocks are not trained; with frozen 0 it is all of them.
func trainedTextSpecs(c model.TextConfig, frozen int) []model.Spec {
	if frozen == 0 {
		return c.Specs()
	}
	return textBlockSpecs(c, frozen)
}

// textBlockSpecs lists the tensors of the blocks from from upwards.
func textBlockSpecs(c model.TextConfig, from int) []model.Spec {
	bottom := c
	bottom.Layers = from
	return c.Specs()[len(bottom.Specs()):] // specs are in the order of the blocks
}

// textGraph is the training graph of a text encoder for one batch shape: rows 0
// to B-1 of the batch are queries, rows B to 2B-1 their items.
type textGraph struct {
	*graph
	batch      *textBatch
	groups     []int          // (B) of the items, equal for the same item
	states     []float32      // (P, D) what the frozen part made of the batch, nil where nothing is frozen
	embeddings *gorgonia.Node // (2B, D)
}

// newTextGraph builds contrastive loss and gradients for pairs of texts that lie as
// rows says, and weights w, those of adapters too where a is not nil. Embeddings are
// scaled to length 1 whatever the configuration says: the loss is one of cosines.
func newTextGraph(dev device, c model.TextConfig, w model.Weights, a *adapters, o TextTrainOptions, rows batchRows, state *stepState) (*textGraph, error) {
	tw := newTextTower(c, float32(o.Dropout), state)
	tw.reshape(rows)
	tw.pool.unit = true
	g := &textGraph{batch: newTextBatch(rows), groups: make([]int, o.Pairs)}
	b := newTextGraphBuilder(dev, c, w, o.FrozenLayers, a)
	enc := b.encoder(tw, g.batch, o.FrozenLayers)
	g.states = enc.frozen
	g.embeddings = b.add("pooling", tw.pool, enc.states, enc.lengths)
	loss := b.add("contrastive", &contrastive{b: o.Pairs, d: c.Dim, temperature: float32(o.Temperature), smoothing: float32(o.Smoothing)},
		g.embeddings, enc.lengths, b.index("groups", g.groups))
	var err error
	g.graph, err = b.build(loss)
	return g, err
}

// encoderNodes are what an encoder adds to a graph.
type encoderNodes struct {
	states  *gorgonia.Node // (P, D) after the last block
	lengths *gorgonia.Node // (B)
	frozen  []float32      // (P, D) to be filled with what the frozen part makes of the batch, nil where nothing is frozen
}

// encoder adds embeddings and blocks of tw, which has the shape of bt. Where the
// embeddings are no parameters, they and the lowest frozen blocks are not part of
// the graph; their output is then an input.
func (b *graphBuilder) encoder(tw *textTower, bt *textBatch, frozen int) encoderNodes {
	n := encoderNodes{lengths: b.index("lengths", bt.lengths)}
	if b.nodes[model.TextWord] == nil {
		p, d := tw.places(), tw.cfg.Dim
		n.frozen = make([]float32, p*d)
		n.states = b.input("states", []int{p, d}, n.frozen)
	} else {
		n.states = b.add("embedding", tw.embed, b.nodes[model.TextWord], b.nodes[model.TextPosition], b.nodes[model.TextType],
			b.index("ids", bt.ids), b.index("positions", bt.positions), b.index("types", bt.types))
		n.states = b.add("norm", tw.norm, n.states, b.nodes[model.TextNormGain], b.nodes[model.TextNormBias])
	}
	for l := frozen; l < tw.cfg.Layers; l++ {
		full := func(name string) string { return model.TextLayerName(l, name) }
		n.states = b.add(fmt.Sprintf("attention%d", l), tw.attn[l], append(b.block(n.states, textAttnTensors, full), n.lengths)...)
		n.states = b.add(fmt.Sprintf("feedforward%d", l), tw.ffn[l], b.block(n.states, textFFNTensors, full)...)
	}
	return n
}
