package layout

import (
	"fmt"
	"math"

	"github.com/wisp-project/wisp/internal/tokenize"
)

// TextShape holds the dimensions of a text encoder; see model.TextConfig for
// their meaning. The zero value stands for an image without one.
type TextShape struct {
	Vocabulary, Tokens          int // Tokens is the longest text, [CLS] and [SEP] included
	Dim, Layers, Heads, FFN     int
	CLS                         bool // the vector of a text is that of its first token, otherwise the mean
	Normalise                   bool // it is scaled to length 1
	Tokenizer                   int  // bytes of the packed tokenizer
	ItemMap, UserMap, ItemTexts bool // which of the optional parts of TextParams the image has
	Classes                     int  // C: that texts are sorted into, 0 for none
}

// Limits on the shapes of text encoders. With them every int32 sum is safe: the
// largest are the attention's, 32767·127·256 < 2^31, and those of the widest
// linear map, 2047·127·4096 < 2^31. A query has length 1, so that its products
// are bounded by the lengths of the two vectors, 32767·127·√1024.
const (
	maxVocabulary     = 1 << 20
	maxTextFFN        = 4096
	maxTokenizerBytes = 1 << 26
	tokenizerState    = 1 << 13 // bytes of the tokenizer's state in the guest
	// MaxTokens bounds TextShape.Tokens, MaxClasses TextShape.Classes: the weights of so
	// many classes add up to less than 2^24, which a float32 holds exactly.
	MaxTokens  = 256
	MaxClasses = 256
	// MaxText is the longest text of a request in bytes. A longer one is cut by
	// the host, before the first character that does not fit.
	MaxText = 1 << 14
)

// Rows is a quantized table: row r stands for W[r]·Scale[r].
type Rows struct {
	W     []int8    // (N, D) row-major, -127 … 127
	Scale []float32 // (N), not negative
}

// TextBlock holds the parameters of a block of the text encoder. Steps of
// activations are found for each token when a text is encoded.
type TextBlock struct {
	QKV                        Linear    // (3D, D): the rows of q over sqrt(D/H), then of k, then of v
	Out                        Linear    // (D, D)
	AttnNormGain, AttnNormBias []float32 // (D)
	Up                         Linear    // (FFN, D)
	Down                       Linear    // (D, FFN)
	FFNNormGain, FFNNormBias   []float32 // (D)
}

// TextParams are the contents of a text encoder before packing. Its shape is
// Params.Shape.Text; D is the width of the encoder, M that of the model.
type TextParams struct {
	Tokenizer          []byte    // made by tokenize.Pack
	Word               Rows      // (V, D)
	Position           Rows      // (Tokens, D), each with the vector of the token type in it
	NormGain, NormBias []float32 // (D)
	NormEpsilon        float32   // added to the variance in every normalisation
	Blocks             []TextBlock
	ItemMap            Linear // (M, D), item vector of a text; with Shape.Text.ItemMap
	UserMap            Linear // (M, D), what a description adds to the user vector; with Shape.Text.UserMap
	ClassMap           Linear // (C, D), the logit of each class of texts; with Shape.Text.Classes
	// ItemTexts holds the vector of each item's text, (N, D); with
	// Shape.Text.ItemTexts. Row·Scale is the unit vector over QueryOne, so that
	// a score is a cosine.
	ItemTexts Rows
}

const (
	// TokenMax is the largest magnitude of an activation of the text encoder
	// that meets weights; queries, keys and values end at WeightMax.
	TokenMax = 2047
	// QueryOne is the integer that stands for one in the vector of a query.
	QueryOne = 32767
	// textMax bounds every float32 parameter of the text encoder but the scales,
	// which are at most 1: its steps are products of activations, so that the
	// bounds of the user tower would let squares overflow.
	textMax = 1 << 10
)

// Validate reports the first dimension that no text encoder can have, of a
// model with items as wide as s says.
func (t TextShape) Validate() error {
	if t == (TextShape{}) {
		return nil
	}
	for _, f := range []struct {
		name   string
		v, max int
	}{
		{"vocabulary", t.Vocabulary, maxVocabulary},
		{"tokens", t.Tokens, MaxTokens},
		{"dim", t.Dim, maxDim},
		{"layers", t.Layers, maxLayers},
		{"heads", t.Heads, maxHeads},
		{"ffn", t.FFN, maxTextFFN},
		{"tokenizer bytes", t.Tokenizer, maxTokenizerBytes},
	} {
		if f.v < 1 || f.v > f.max {
			return fmt.Errorf("%w: %s of the text encoder is %d, must lie between 1 and %d", ErrShape, f.name, f.v, f.max)
		}
	}
	if t.Tokens < 2 {
		return fmt.Errorf("%w: tokens of the text encoder is %d, [CLS] and [SEP] alone are 2", ErrShape, t.Tokens)
	}
	if t.Dim%t.Heads != 0 {
		return fmt.Errorf("%w: dim %d of the text encoder is not a multiple of heads %d", ErrShape, t.Dim, t.Heads)
	}
	if t.Classes != 0 && (t.Classes < 2 || t.Classes > MaxClasses) {
		return fmt.Errorf("%w: the text encoder sorts texts into %d classes, must be none or 2 to %d", ErrShape, t.Classes, MaxClasses)
	}
	return nil
}

// Padded sizes, as those of Shape; rows of weights come in blocks of eight, so
// that the encoder's float vectors have no tails either.
func (t TextShape) dimK() int    { return roundUp(t.Dim, kUnroll) }
func (t TextShape) ffnK() int    { return roundUp(t.FFN, kUnroll) }
func (t TextShape) pad() int     { return roundUp(t.Dim, 8) }
func (t TextShape) headPad() int { return roundUp(t.Dim/max(t.Heads, 1), 8) }
func (t TextShape) inner() int   { return t.Heads * t.headPad() }
func (t TextShape) innerK() int  { return roundUp(t.inner(), kUnroll) }

// tokensPad is the most tokens as columns or rows of a product in attention.
func (t TextShape) tokensPad() int { return roundUp(t.Tokens, kUnroll) }

// mapRows is the number of rows of an optional linear map to the width of the model;
// textRows that of the table of the items' texts.
func (t TextShape) mapRows(has bool, dim int) int {
	if !has {
		return 0
	}
	return dim
}

func (t TextShape) textRows(items int) int {
	if !t.ItemTexts {
		return 0
	}
	return rowsPad(items)
}

// inserted is the number of items that texts can be inserted as, and of labels
// that these may bring along.
func (t TextShape) inserted() (items, labels int) {
	if !t.ItemMap {
		return 0, 0
	}
	return MaxInserted, maxNewLabels
}

// Bits of the header word of the flags.
const (
	textCLS = 1 << iota
	textNormalise
	textItemMap
	textUserMap
	textItemTexts
)

func (t *TextShape) flagFields() [5]*bool {
	return [5]*bool{&t.CLS, &t.Normalise, &t.ItemMap, &t.UserMap, &t.ItemTexts}
}

// flags returns the header word; setFlags reads it. Unknown bits are lost, so
// that the check of the header sees them.
func (t TextShape) flags() int {
	word := 0
	for i, f := range t.flagFields() {
		if *f {
			word |= 1 << i
		}
	}
	return word
}

func (t *TextShape) setFlags(word uint32) {
	for i, f := range t.flagFields() {
		*f = word>>i&1 != 0
	}
}

// check reports what of p does not fit s.
func (p *TextParams) check(v *validator, s Shape) {
	t := s.Text
	v.prefix = "text: "
	v.size("tokenizer", len(p.Tokenizer), t.Tokenizer)
	if tok, err := tokenize.OpenPacked(p.Tokenizer); err != nil {
		v.check(false, "%v", err)
	} else {
		v.check(tok.Size() <= t.Vocabulary, "the tokenizer has %d tokens, the encoder embeds %d", tok.Size(), t.Vocabulary)
	}
	v.rows("word", p.Word, t.Vocabulary, t.Dim)
	v.rows("position", p.Position, t.Tokens, t.Dim)
	v.smallFloats("norm gain", p.NormGain, t.Dim)
	v.smallFloats("norm bias", p.NormBias, t.Dim)
	v.check(p.NormEpsilon >= 1e-12 && p.NormEpsilon <= 1, "norm epsilon is %v, must lie between 1e-12 and 1", p.NormEpsilon)
	v.size("blocks", len(p.Blocks), t.Layers)
	for l := range p.Blocks {
		b := &p.Blocks[l]
		v.prefix = fmt.Sprintf("text block %d: ", l)
		v.smallFloats("attention norm gain", b.AttnNormGain, t.Dim)
		v.smallFloats("attention norm bias", b.AttnNormBias, t.Dim)
		v.smallFloats("feed-forward norm gain", b.FFNNormGain, t.Dim)
		v.smallFloats("feed-forward norm bias", b.FFNNormBias, t.Dim)
		v.smallLinear("qkv", b.QKV, 3*t.Dim, t.Dim)
		v.smallLinear("out", b.Out, t.Dim, t.Dim)
		v.smallLinear("up", b.Up, t.FFN, t.Dim)
		v.smallLinear("down", b.Down, t.Dim, t.FFN)
	}
	v.prefix = "text: "
	optional := func(name string, rows int, l Linear) {
		if rows > 0 {
			v.smallLinear(name, l, rows, t.Dim)
		} else {
			v.check(l.W == nil && l.Scale == nil && l.Bias == nil, "there is %s that the shape does not have", name)
		}
	}
	optional("an item map", t.mapRows(t.ItemMap, s.Dim), p.ItemMap)
	optional("a user map", t.mapRows(t.UserMap, s.Dim), p.UserMap)
	optional("a class map", t.Classes, p.ClassMap)
}

// smallFloats is floats within the bounds of the text encoder.
func (v *validator) smallFloats(name string, x []float32, n int) {
	v.floats(name, x, n)
	for i, f := range x {
		v.check(f >= -textMax && f <= textMax, "%s[%d] is %v, must lie between %d and %d", name, i, f, -textMax, textMax)
	}
}

// smallScales is scales that are at most 1.
func (v *validator) smallScales(name string, x []float32, n int) {
	v.scales(name, x, n)
	for i, f := range x {
		v.check(f <= 1, "%s[%d] is %v, must not be above 1", name, i, f)
	}
}

func (v *validator) rows(name string, r Rows, rows, cols int) {
	v.int8s(name, r.W, rows*cols)
	v.smallScales(name+" scale", r.Scale, rows)
}

func (v *validator) smallLinear(name string, l Linear, rows, cols int) {
	v.linear(name, l, rows, cols)
	v.smallScales(name+" scale", l.Scale, rows)
	v.smallFloats(name+" bias", l.Bias, rows)
}

// maps are the linear maps of a block of the encoder.
func (t TextShape) maps(b *TextBlock) [4]packedLinear {
	head := headPlace(t.Dim/t.Heads, t.headPad())
	return [4]packedLinear{
		{&b.QKV, hTextQKV, t.dimK(), head, same},
		{&b.Out, hTextOut, t.innerK(), same, head},
		{&b.Up, hTextUp, t.dimK(), same, same},
		{&b.Down, hTextDown, t.ffnK(), same, same},
	}
}

// optional are the linear maps that p has from the encoder's space.
func (p *TextParams) optional(t TextShape) []packedLinear {
	var maps []packedLinear
	if t.ItemMap {
		maps = append(maps, packedLinear{&p.ItemMap, hItemMap, t.dimK(), same, same})
	}
	if t.UserMap {
		maps = append(maps, packedLinear{&p.UserMap, hUserMap, t.dimK(), same, same})
	}
	if t.Classes > 0 {
		maps = append(maps, packedLinear{&p.ClassMap, hClassMap, t.dimK(), same, same})
	}
	return maps
}

// floats are the vectors of a block with the words of their offsets.
func (b *TextBlock) floats() map[int]*[]float32 {
	return map[int]*[]float32{
		hTextAttnGain: &b.AttnNormGain, hTextAttnBias: &b.AttnNormBias, hTextFFNGain: &b.FFNNormGain, hTextFFNBias: &b.FFNNormBias,
	}
}

// pack writes the tokenizer and the encoder; the items' texts are a table.
func (p *TextParams) pack(b []byte, h *header, s Shape) {
	t := s.Text
	copy(b[h[hTokenizer]:h[hWord]], p.Tokenizer)
	p.Word.pack(b, h[hWord], h[hWordScale])
	p.Position.pack(b, h[hPosition], h[hPositionScale])
	putFloats(b, h[hTextNormGain], p.NormGain)
	putFloats(b, h[hTextNormBias], p.NormBias)
	for _, m := range p.optional(t) {
		m.pack(b, h, 0)
	}
	for l := range p.Blocks {
		block, at := &p.Blocks[l], h[hTextBlocks]+uint32(l)*h[hTextBlockStride]
		for word, x := range block.floats() {
			putFloats(b, at+h[word], *x)
		}
		for _, m := range t.maps(block) {
			m.pack(b, h, at)
		}
	}
}

// unpackText is the reverse of pack.
func unpackText(b []byte, h *header, s Shape) *TextParams {
	t := s.Text
	p := &TextParams{
		Tokenizer: append([]byte(nil), b[h[hTokenizer]:][:t.Tokenizer]...),
		Word:      unpackRows(b, h[hWord], h[hWordScale], t.Vocabulary, t.Dim),
		Position:  unpackRows(b, h[hPosition], h[hPositionScale], t.Tokens, t.Dim),
		NormGain:  getFloats(b, h[hTextNormGain], t.Dim), NormBias: getFloats(b, h[hTextNormBias], t.Dim),
		NormEpsilon: math.Float32frombits(h[hTextEpsilon]),
		Blocks:      make([]TextBlock, t.Layers),
	}
	if t.ItemMap {
		p.ItemMap = newLinear(s.Dim, t.Dim)
	}
	if t.UserMap {
		p.UserMap = newLinear(s.Dim, t.Dim)
	}
	if t.Classes > 0 {
		p.ClassMap = newLinear(t.Classes, t.Dim)
	}
	for _, m := range p.optional(t) {
		m.unpack(b, h, 0)
	}
	for l := range p.Blocks {
		block, at := &p.Blocks[l], h[hTextBlocks]+uint32(l)*h[hTextBlockStride]
		for word, x := range block.floats() {
			*x = getFloats(b, at+h[word], t.Dim)
		}
		block.QKV, block.Out = newLinear(3*t.Dim, t.Dim), newLinear(t.Dim, t.Dim)
		block.Up, block.Down = newLinear(t.FFN, t.Dim), newLinear(t.Dim, t.FFN)
		for _, m := range t.maps(block) {
			m.unpack(b, h, at)
		}
	}
	return p
}

func (r *Rows) pack(b []byte, at, scale uint32) {
	for i, w := range r.W {
		b[int(at)+i] = byte(w)
	}
	putFloats(b, scale, r.Scale)
}

func unpackRows(b []byte, at, scale uint32, rows, cols int) Rows {
	r := Rows{W: make([]int8, rows*cols), Scale: getFloats(b, scale, rows)}
	for i := range r.W {
		r.W[i] = int8(b[int(at)+i])
	}
	return r
}
