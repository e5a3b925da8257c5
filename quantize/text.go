package quantize

import (
	"fmt"
	"math"

	"github.com/wisp-project/wisp/internal/layout"
	"github.com/wisp-project/wisp/internal/tokenize"
	"github.com/wisp-project/wisp/model"
)

// Text is a text encoder with what leads from its vectors, (D), to the items and
// the users of a model. The maps and the vectors of the items are optional.
type Text struct {
	Encoder   *model.TextModel
	Tokenizer *tokenize.Tokenizer
	// Tokens is the length to which texts are cut, [CLS] and [SEP] included; 0
	// means the encoder's, or 256 where that is larger.
	Tokens    int
	ItemMap   *model.Tensor      // (M, D), e.g. the model's item.features.weight
	UserMap   *model.Tensor      // (M, D), e.g. the model's user.description.weight
	Classes   *model.TextClasses // what texts are sorted into, over the encoder's vectors
	ItemTexts *model.Tensor      // (N, D) the encoder's vectors of the items' texts; they make the items searchable
	// Descriptions are the encoder's vectors, (D), of what is known of the users
	// of the histories that calibrate. With nil, there is room for the longest
	// description that there could be.
	Descriptions [][]float32
}

// TextParams quantizes a text encoder: weights with one scale for each output
// channel, embeddings with one for each row. Activations need no calibration,
// the guest finds their steps for each token; and no smoothing of channels (Xiao
// et al. 2023), for those that meet weights have 12 bits. Errors wrap ErrModel.
func TextParams(t Text) (layout.TextShape, *layout.TextParams, error) {
	shape, err := t.shape()
	if err != nil {
		return layout.TextShape{}, nil, err
	}
	packed, err := tokenize.Pack(t.Tokenizer)
	if err != nil {
		return layout.TextShape{}, nil, fmt.Errorf("%w: %w", ErrModel, err)
	}
	shape.Tokenizer = len(packed)
	w, c := t.Encoder.Weights, t.Encoder.Config
	// A single text is of token type 0 throughout.
	position := model.NewTensor(shape.Tokens, c.Dim)
	for i := range shape.Tokens {
		for d, v := range w[model.TextPosition].Row(i) {
			position.Row(i)[d] = v + w[model.TextType].Row(0)[d]
		}
	}
	p := &layout.TextParams{
		Tokenizer: packed,
		Word:      rows(w[model.TextWord]), Position: rows(position),
		NormGain: clone(w[model.TextNormGain]), NormBias: clone(w[model.TextNormBias]),
		NormEpsilon: max(float32(c.NormEpsilon), 1e-12),
	}
	for l := range c.Layers {
		p.Blocks = append(p.Blocks, t.block(l))
	}
	if t.ItemMap != nil {
		p.ItemMap = unbiased(t.ItemMap)
	}
	if t.UserMap != nil {
		p.UserMap = unbiased(t.UserMap)
	}
	if t.Classes != nil {
		p.ClassMap = classes(t.Classes)
	}
	if t.ItemTexts != nil {
		p.ItemTexts = rows(t.ItemTexts)
		for i := range p.ItemTexts.Scale {
			p.ItemTexts.Scale[i] = layout.CosineScale(p.ItemTexts.W[i*c.Dim : (i+1)*c.Dim])
		}
	}
	return shape, p, nil
}

// shape returns the encoder's dimensions, the tokenizer's size left out, or says
// what does not fit.
func (t *Text) shape() (layout.TextShape, error) {
	if t.Encoder == nil || t.Tokenizer == nil {
		return layout.TextShape{}, fmt.Errorf("%w: a text encoder needs weights and a tokenizer", ErrModel)
	}
	c := t.Encoder.Config
	if err := t.Tokenizer.CheckSize(c.Vocabulary); err != nil {
		return layout.TextShape{}, fmt.Errorf("%w: %w", ErrModel, err)
	}
	tokens := t.Tokens
	if tokens == 0 {
		tokens = min(c.MaxTokens, layout.MaxTokens)
	}
	if tokens < 2 || tokens > min(c.Positions, layout.MaxTokens) {
		return layout.TextShape{}, fmt.Errorf("%w: texts of %d tokens; this encoder can be given 2 to %d", ErrModel, tokens, min(c.Positions, layout.MaxTokens))
	}
	for name, w := range map[string]*model.Tensor{"item map": t.ItemMap, "user map": t.UserMap, "item texts": t.ItemTexts} {
		if w != nil && (len(w.Shape) != 2 || w.Shape[1] != c.Dim) {
			return layout.TextShape{}, fmt.Errorf("%w: the %s has shape %v, the vectors of the text encoder have %d values", ErrModel, name, w.Shape, c.Dim)
		}
	}
	sorts := 0
	if t.Classes != nil {
		if err := t.Classes.Validate(c.Dim); err != nil {
			return layout.TextShape{}, fmt.Errorf("%w: %w", ErrModel, err)
		}
		sorts = len(t.Classes.Names)
	}
	return layout.TextShape{
		Vocabulary: c.Vocabulary, Tokens: tokens, Dim: c.Dim, Layers: c.Layers, Heads: c.Heads, FFN: c.FFN,
		CLS: c.Pooling == model.PoolCLS, Normalise: c.Normalise,
		ItemMap: t.ItemMap != nil, UserMap: t.UserMap != nil, ItemTexts: t.ItemTexts != nil, Classes: sorts,
	}, nil
}

// userMax bounds what a description adds to a value of the user vector: the
// longest row of the map times the longest vector.
func (t *Text) userMax() float64 {
	if t.UserMap == nil {
		return 0
	}
	c, w := t.Encoder.Config, t.Encoder.Weights
	longest := 1.0
	if last := c.Layers - 1; !c.Normalise {
		gain, bias := w[model.TextLayerName(last, "ffn.norm.weight")].Data, w[model.TextLayerName(last, "ffn.norm.bias")].Data
		var top float64
		for _, g := range gain {
			top = max(top, math.Abs(float64(g)))
		}
		longest = math.Sqrt(float64(c.Dim))*top + length(bias)
	}
	var row float64
	for d := range t.UserMap.Shape[0] {
		row = max(row, length(t.UserMap.Row(d)))
	}
	return longest * row
}

func length(x []float32) float64 {
	var sum float64
	for _, v := range x {
		sum += float64(v) * float64(v)
	}
	return math.Sqrt(sum)
}

// block quantizes block l of the encoder.
func (t *Text) block(l int) layout.TextBlock {
	w := func(name string) *model.Tensor { return t.Encoder.Weights[model.TextLayerName(l, name)] }
	weights := func(name string) layout.Linear { return linear(w(name+".weight"), w(name+".bias"), 1) }
	q := weights("attn.q")
	root := float32(math.Sqrt(float64(t.Encoder.Config.Dim / t.Encoder.Config.Heads)))
	for r := range q.Scale {
		q.Scale[r] /= root
		q.Bias[r] /= root
	}
	return layout.TextBlock{
		QKV: concat(q, weights("attn.k"), weights("attn.v")), Out: weights("attn.o"),
		AttnNormGain: clone(w("attn.norm.weight")), AttnNormBias: clone(w("attn.norm.bias")),
		Up: weights("ffn.up"), Down: weights("ffn.down"),
		FFNNormGain: clone(w("ffn.norm.weight")), FFNNormBias: clone(w("ffn.norm.bias")),
	}
}

// unbiased quantizes y = W·x.
func unbiased(w *model.Tensor) layout.Linear { return linear(w, model.NewTensor(w.Shape[0]), 1) }

// rows quantizes a table with a scale for each row.
func rows(w *model.Tensor) layout.Rows {
	l := matrix(w)
	return layout.Rows{W: l.W, Scale: l.Scale}
}
