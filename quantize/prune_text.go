package quantize

import (
	"cmp"
	"fmt"

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
	layers := make([]float64, was.Layers)
	for l := range layers {
		layers[l] = blockImportance(importance, textBlock(l))
	}
	kept := mostImportant(layers, c.Layers)
	dims := mostImportant(textDimensions(importance, was.Dim, kept), c.Dim)
	w := model.Weights{}
	w[model.TextWord] = cut(m.Weights[model.TextWord], tokens, dims)
	w[model.TextPosition] = cut(m.Weights[model.TextPosition], upTo(c.Positions), dims)
	w[model.TextType] = cut(m.Weights[model.TextType], nil, dims)
	for _, name := range []string{model.TextNormGain, model.TextNormBias} {
		w[name] = cut(m.Weights[name], dims, nil)
	}
	b := blockPruner{from: m.Weights, importance: importance, to: w, dims: dims, dimWas: was.Dim, dimNow: c.Dim, headsWas: was.Heads, headsNow: c.Heads, ffn: c.FFN}
	for to, from := range kept {
		b.prune(textBlock(from), textBlock(to))
	}
	return model.NewText(c, w)
}

// textBlock names the tensors of block l.
func textBlock(l int) blockNames {
	return func(name string) string { return model.TextLayerName(l, name) }
}

// textDimensions returns the importance of each of the dim dimensions of the residual
// stream, with the given blocks.
func textDimensions(importance model.Weights, dim int, layers []int) []float64 {
	sums := make([]float64, dim)
	for _, name := range []string{model.TextWord, model.TextPosition, model.TextType} {
		addTo(sums, byColumn(importance[name]))
	}
	for _, name := range []string{model.TextNormGain, model.TextNormBias} {
		addTo(sums, byRow(importance[name]))
	}
	for _, l := range layers {
		addStream(sums, importance, textBlock(l))
	}
	return sums
}
