package quantize

import (
	"cmp"
	"fmt"
	"math"

	"github.com/wisp-project/wisp/model"
)

// TextPruneOptions are the sizes of a pruned text encoder; 0 keeps what there is.
type TextPruneOptions struct {
	Layers int `json:"layers"` // blocks
	Heads  int `json:"heads"`  // of attention, in each block
	FFN    int `json:"ffn"`    // inner width of a block
	Dim    int `json:"dim"`    // width of the embeddings, and of all heads of a block together
	// Positions is the longest text in tokens, of which the first stay.
	Positions int `json:"positions"`
	// Tokens are those of the vocabulary that stay, in their new order (see
	// tokenize.Tokenizer.Prune); nil for all.
	Tokens []int32 `json:"-"`
}

// PruneText returns what is left of a text encoder when the least important structures
// are taken away, smaller matrices and no masks: whole blocks; of each that stays
// attention heads, columns of its feed-forward part, and dimensions of the heads that
// stay; and dimensions of the residual stream, the same ones everywhere. Heads are as
// wide as Dim by Heads says, no wider than they were. importance has a number for each
// weight (see hostgpu.TextImportance); that of a structure is the sum over its weights.
//
// Queries are scaled by what the width of a head changed. What comes out still has to
// recover by training. Errors wrap ErrPrune.
func PruneText(m *model.TextModel, importance model.Weights, o TextPruneOptions) (*model.TextModel, error) {
	was := m.Config
	c := was
	c.Layers, c.Heads, c.FFN, c.Dim = cmp.Or(o.Layers, c.Layers), cmp.Or(o.Heads, c.Heads), cmp.Or(o.FFN, c.FFN), cmp.Or(o.Dim, c.Dim)
	c.Positions = cmp.Or(o.Positions, c.Positions)
	c.MaxTokens = min(c.MaxTokens, c.Positions)
	if o.Tokens != nil {
		c.Vocabulary = len(o.Tokens)
	}
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPrune, err)
	}
	if c.Layers > was.Layers || c.Heads > was.Heads || c.FFN > was.FFN || c.Dim > was.Dim || c.Dim/c.Heads > was.Dim/was.Heads || c.Positions > was.Positions {
		return nil, fmt.Errorf("%w: %d layers of %d heads, feed-forward width %d, width %d, %d for a head, %d positions of an encoder with %d of %d, %d, %d, %d and %d; pruning only takes away",
			ErrPrune, c.Layers, c.Heads, c.FFN, c.Dim, c.Dim/c.Heads, c.Positions, was.Layers, was.Heads, was.FFN, was.Dim, was.Dim/was.Heads, was.Positions)
	}
	var tokens []int
	for _, id := range o.Tokens {
		if id < 0 || int(id) >= was.Vocabulary {
			return nil, fmt.Errorf("%w: token %d of a vocabulary of %d", ErrPrune, id, was.Vocabulary)
		}
		tokens = append(tokens, int(id))
	}
	if err := importance.Check(was); err != nil {
		return nil, fmt.Errorf("%w: importance: %w", ErrPrune, err)
	}
	p := textPruner{from: m.Weights, importance: importance, was: was, now: c, w: model.Weights{}}
	layers := make([]float64, was.Layers)
	for l := range layers {
		for _, name := range textBlockTensors {
			layers[l] += total(importance[model.TextLayerName(l, name)].Data)
		}
	}
	kept := mostImportant(layers, c.Layers)
	p.dims = mostImportant(p.dimensions(kept), c.Dim)
	p.w[model.TextWord] = cut(m.Weights[model.TextWord], tokens, p.dims)
	p.w[model.TextPosition] = cut(m.Weights[model.TextPosition], upTo(c.Positions), p.dims)
	p.w[model.TextType] = cut(m.Weights[model.TextType], nil, p.dims)
	for _, name := range []string{model.TextNormGain, model.TextNormBias} {
		p.w[name] = cut(m.Weights[name], p.dims, nil)
	}
	for to, from := range kept {
		p.block(from, to)
	}
	return model.NewText(c, p.w)
}

// textBlockTensors are the tensors of a block: those with a row for each dimension of
// the residual stream, and those with a column for each.
var (
	textOutputs      = []string{"attn.norm.weight", "attn.norm.bias", "attn.o.weight", "attn.o.bias", "ffn.norm.weight", "ffn.norm.bias", "ffn.down.weight", "ffn.down.bias"}
	textInputs       = []string{"attn.q.weight", "attn.k.weight", "attn.v.weight", "ffn.up.weight"}
	textBlockTensors = append(append([]string{"attn.q.bias", "attn.k.bias", "attn.v.bias", "ffn.up.bias"}, textOutputs...), textInputs...)
)

// textPruner prunes one text encoder into w.
type textPruner struct {
	from, importance, w model.Weights
	was, now            model.TextConfig
	dims                []int // of the residual stream that stay
}

// dimensions returns the importance of each dimension of the residual stream, with the
// given blocks.
func (p *textPruner) dimensions(layers []int) []float64 {
	sums := make([]float64, p.was.Dim)
	for _, name := range []string{model.TextWord, model.TextPosition, model.TextType} {
		addTo(sums, byColumn(p.importance[name]))
	}
	for _, name := range []string{model.TextNormGain, model.TextNormBias} {
		addTo(sums, byRow(p.importance[name]))
	}
	for _, l := range layers {
		for _, name := range textOutputs {
			addTo(sums, byRow(p.importance[model.TextLayerName(l, name)]))
		}
		for _, name := range textInputs {
			addTo(sums, byColumn(p.importance[model.TextLayerName(l, name)]))
		}
	}
	return sums
}

// block prunes block from into block to.
func (p *textPruner) block(from, to int) {
	weighed := func(name string) *model.Tensor { return p.importance[model.TextLayerName(from, name)] }
	set := func(name string, rows, columns []int) *model.Tensor {
		t := cut(p.from[model.TextLayerName(from, name)], rows, columns)
		p.w[model.TextLayerName(to, name)] = t
		return t
	}
	for _, name := range []string{"attn.norm.weight", "attn.norm.bias", "attn.o.bias", "ffn.norm.weight", "ffn.norm.bias", "ffn.down.bias"} {
		set(name, p.dims, nil)
	}
	matched, passed := make([]float64, p.was.Dim), make([]float64, p.was.Dim)
	for _, name := range []string{"attn.q", "attn.k"} {
		addTo(matched, byRow(weighed(name+".weight")))
		addTo(matched, byRow(weighed(name+".bias")))
	}
	addTo(passed, byRow(weighed("attn.v.weight")))
	addTo(passed, byRow(weighed("attn.v.bias")))
	addTo(passed, byColumn(weighed("attn.o.weight")))

	widthWas, widthNow := p.was.Dim/p.was.Heads, p.now.Dim/p.now.Heads
	heads := make([]float64, p.was.Heads)
	for i := range p.was.Dim {
		heads[i/widthWas] += matched[i] + passed[i]
	}
	var in, out []int
	for _, h := range mostImportant(heads, p.now.Heads) {
		lo, hi := h*widthWas, (h+1)*widthWas
		for _, j := range mostImportant(matched[lo:hi], widthNow) {
			in = append(in, lo+j)
		}
		for _, j := range mostImportant(passed[lo:hi], widthNow) {
			out = append(out, lo+j)
		}
	}
	// Scores are divided by the root of a head's width.
	root := float32(math.Sqrt(float64(widthNow) / float64(widthWas)))
	scale(set("attn.q.weight", in, p.dims), root)
	scale(set("attn.q.bias", in, nil), root)
	set("attn.k.weight", in, p.dims)
	set("attn.k.bias", in, nil)
	set("attn.v.weight", out, p.dims)
	set("attn.v.bias", out, nil)
	set("attn.o.weight", p.dims, out)

	sums := make([]float64, p.was.FFN)
	addTo(sums, byRow(weighed("ffn.up.weight")))
	addTo(sums, byRow(weighed("ffn.up.bias")))
	addTo(sums, byColumn(weighed("ffn.down.weight")))
	hidden := mostImportant(sums, p.now.FFN)
	set("ffn.up.weight", hidden, p.dims)
	set("ffn.up.bias", hidden, nil)
	set("ffn.down.weight", p.dims, hidden)
}
