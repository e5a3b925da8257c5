package model

import "fmt"

// Pooling says how the vectors of a text's tokens become one.
type Pooling string

// The ways of pooling.
const (
	PoolMean Pooling = "mean" // the mean over all tokens
	PoolCLS  Pooling = "cls"  // the vector of the first token, [CLS]
)

// TextConfig fixes the shapes of a text encoder: a BERT-type transformer
// (Devlin et al. 2019) with learnt absolute positions, normalisation after each
// half of a block, and the exact GELU as activation.
type TextConfig struct {
	Vocabulary  int     `json:"vocabulary"`   // V: entries of the tokenizer's vocabulary
	Positions   int     `json:"positions"`    // longest text that has position vectors, in tokens
	MaxTokens   int     `json:"max_tokens"`   // length to which texts are cut, [CLS] and [SEP] included; at most Positions
	Types       int     `json:"types"`        // token types; a single text is all of type 0
	Dim         int     `json:"dim"`          // D: width of the residual stream and of the embedding
	Layers      int     `json:"layers"`       // transformer blocks
	Heads       int     `json:"heads"`        // H: attention heads; divides Dim
	FFN         int     `json:"ffn"`          // inner width of a block's feed-forward part
	NormEpsilon float64 `json:"norm_epsilon"` // added to the variance in every layer normalisation
	Pooling     Pooling `json:"pooling"`
	Normalise   bool    `json:"normalise"` // embeddings are scaled to length 1
}

// Validate reports the first field that no text encoder can have.
func (c TextConfig) Validate() error {
	for _, f := range []struct {
		name       string
		value, max int
	}{
		{"vocabulary", c.Vocabulary, 1 << 20},
		{"positions", c.Positions, 1 << 14},
		{"max_tokens", c.MaxTokens, c.Positions},
		{"types", c.Types, 256},
		{"dim", c.Dim, 1 << 13},
		{"layers", c.Layers, 128},
		{"heads", c.Heads, 256},
		{"ffn", c.FFN, 1 << 15},
	} {
		if f.value < 1 || f.value > f.max {
			return fmt.Errorf("%w: %s of the text encoder is %d, must lie between 1 and %d", ErrConfig, f.name, f.value, f.max)
		}
	}
	if c.Dim%c.Heads != 0 {
		return fmt.Errorf("%w: dim %d of the text encoder is not a multiple of heads %d", ErrConfig, c.Dim, c.Heads)
	}
	if !(c.NormEpsilon > 0 && c.NormEpsilon < 1) {
		return fmt.Errorf("%w: norm_epsilon of the text encoder is %v, must lie between 0 and 1", ErrConfig, c.NormEpsilon)
	}
	if c.Pooling != PoolMean && c.Pooling != PoolCLS {
		return fmt.Errorf("%w: pooling of the text encoder is %q, must be %q or %q", ErrConfig, c.Pooling, PoolMean, PoolCLS)
	}
	return nil
}

// Names of tensors of a text encoder that stand outside the blocks.
const (
	TextWord     = "text.embed.word.weight"     // (V, D)
	TextPosition = "text.embed.position.weight" // (Positions, D)
	TextType     = "text.embed.type.weight"     // (Types, D)
	TextNormGain = "text.embed.norm.weight"     // (D)
	TextNormBias = "text.embed.norm.bias"       // (D)
)

// TextLayerName returns the name of a tensor of block l of a text encoder, e.g.
// TextLayerName(0, "attn.q.weight").
func TextLayerName(l int, name string) string { return fmt.Sprintf("text.layer.%d.%s", l, name) }

// Specs lists the tensors of a text encoder with configuration c, in a fixed
// order.
func (c TextConfig) Specs() []Spec {
	D, F := c.Dim, c.FFN
	s := []Spec{
		{TextWord, []int{c.Vocabulary, D}},
		{TextPosition, []int{c.Positions, D}},
		{TextType, []int{c.Types, D}},
		{TextNormGain, []int{D}},
		{TextNormBias, []int{D}},
	}
	for l := range c.Layers {
		add := func(name string, shape ...int) { s = append(s, Spec{TextLayerName(l, name), shape}) }
		for _, p := range []string{"q", "k", "v", "o"} {
			add("attn."+p+".weight", D, D)
			add("attn."+p+".bias", D)
		}
		add("attn.norm.weight", D)
		add("attn.norm.bias", D)
		add("ffn.up.weight", F, D)
		add("ffn.up.bias", F)
		add("ffn.down.weight", D, F)
		add("ffn.down.bias", D)
		add("ffn.norm.weight", D)
		add("ffn.norm.bias", D)
	}
	return s
}
