package layout

import (
	"fmt"
	"math"
)

// Linear is a quantized linear map: y_r = float32(sum_c x_c·W[r][c])·Scale[r] + Bias[r].
type Linear struct {
	Rows, Cols  int
	W           []int8    // (Rows, Cols) row-major, -127 … 127
	Scale, Bias []float32 // (Rows); Scale is not negative
}

// Block holds the parameters of a transformer block. The *Inv fields are
// reciprocals of quantization steps; ScoreScale and VScale multiply int32 sums.
type Block struct {
	AttnNormGain, AttnNormBias []float32 // (D)
	AttnInInv                  float32
	QKV                        Linear // (3D, D): the rows of q, then of k, then of v
	QInv, KInv, VInv           float32
	ScoreScale, VScale         float32
	DistanceBias               []float32 // (H, W)
	OutInv                     float32
	Out                        Linear    // (D, D)
	FFNNormGain, FFNNormBias   []float32 // (D)
	FFNInInv                   float32
	Up                         Linear // (FFN, D)
	HiddenInv                  float32
	Down                       Linear // (D, FFN)
}

// Params are the contents of an image before packing.
type Params struct {
	Shape              Shape
	InputScale         float32   // sqrt(D) over the user vector's step
	Type               []float32 // (E, D)
	Gap                []float32 // (G, D)
	Blocks             []Block
	NormGain, NormBias []float32 // (D)
	UserInv            float32
	Cold               []int16     // (D) -2047 … 2047
	ItemRows           []int8      // (N, D) -127 … 127
	ItemScale          []float32   // (N), each with the user vector's step in it
	Text               *TextParams // nil where Shape.Text is zero
	Labels             [][]uint32  // (N) those of each item, rising; nil where Shape.Labels is zero
	Bounds             Bounds
	Attributes         *Attributes // nil where Shape.Attributes is zero
	Ratings            *Ratings    // nil without Shape.Ratings
}

const (
	// WeightMax is the largest magnitude of an int8 weight or activation: the
	// quantizer is symmetric, -128 does not occur.
	WeightMax = 127
	// UserMax is the largest magnitude of a value of the user vector.
	UserMax = 2047
	// ProbOne is the integer that stands for an attention weight of one before
	// normalisation.
	ProbOne = 32767
	// ItemScaleMax is the largest scale of an item row.
	ItemScaleMax = floatMax
	// floatMax bounds every float32 parameter. With it no sum or product of the
	// arithmetic overflows, so that no infinity and no NaN can arise.
	floatMax = 1 << 20
)

// checkFloats reports the first value that is not finite, too large or, where
// that is not allowed, negative.
func checkFloats(name string, values []float32, negative bool) error {
	for i, v := range values {
		if f := float64(v); math.IsNaN(f) || f > floatMax || f < -floatMax || (!negative && math.Signbit(f)) {
			return fmt.Errorf("%s[%d] is %v, must lie between %d and %d", name, i, v, lowest(negative), floatMax)
		}
	}
	return nil
}

func lowest(negative bool) int {
	if negative {
		return -floatMax
	}
	return 0
}

// Validate reports the first parameter that does not fit p.Shape or is out of
// range.
func (p *Params) Validate() error {
	if err := p.Shape.Validate(); err != nil {
		return err
	}
	v := validator{}
	p.checkTowers(&v)
	v.scales("item scale", p.ItemScale, p.Shape.Items)
	v.int8s("item rows", p.ItemRows, p.Shape.Items*p.Shape.Dim)
	if t := p.Text; t != nil && p.Shape.Text.ItemTexts {
		v.rows("item texts", t.ItemTexts, p.Shape.Items, p.Shape.Text.Dim)
	} else if t != nil {
		v.check(t.ItemTexts.W == nil && t.ItemTexts.Scale == nil, "there are item texts that the shape does not have")
	}
	v.checkLabels(p.Labels, p.Shape)
	p.Bounds.check(&v, p.Shape)
	v.checkAttributes(p.Attributes, p.Shape)
	v.checkRatings(p.Ratings, p.Shape)
	if v.err != nil {
		return fmt.Errorf("%w: %w", ErrParams, v.err)
	}
	return nil
}

// checkTowers checks everything but the tables of items.
func (p *Params) checkTowers(v *validator) {
	s := p.Shape
	v.floats("type", p.Type, s.EventTypes*s.Dim)
	v.floats("gap", p.Gap, s.GapBuckets*s.Dim)
	v.floats("norm gain", p.NormGain, s.Dim)
	v.floats("norm bias", p.NormBias, s.Dim)
	v.scales("input scale, user inverse", []float32{p.InputScale, p.UserInv}, 2)
	v.size("cold", len(p.Cold), s.Dim)
	for i, x := range p.Cold {
		v.check(x >= -UserMax && x <= UserMax, "cold[%d] is %d, beyond ±%d", i, x, UserMax)
	}
	v.size("blocks", len(p.Blocks), s.Layers)
	for l := range p.Blocks {
		b := &p.Blocks[l]
		v.prefix = fmt.Sprintf("block %d: ", l)
		v.floats("attention norm gain", b.AttnNormGain, s.Dim)
		v.floats("attention norm bias", b.AttnNormBias, s.Dim)
		v.floats("feed-forward norm gain", b.FFNNormGain, s.Dim)
		v.floats("feed-forward norm bias", b.FFNNormBias, s.Dim)
		v.floats("distance bias", b.DistanceBias, s.Heads*s.Window)
		v.scales("scalars", b.scalars(), scalarCount)
		v.linear("qkv", b.QKV, 3*s.Dim, s.Dim)
		v.linear("out", b.Out, s.Dim, s.Dim)
		v.linear("up", b.Up, s.FFN, s.Dim)
		v.linear("down", b.Down, s.Dim, s.FFN)
	}
	v.prefix = ""
	v.check((p.Text != nil) == (s.Text.Dim > 0), "the shape and the parameters do not agree on whether there is a text encoder")
	if p.Text != nil && v.err == nil {
		p.Text.check(v, s)
		v.prefix = ""
	}
}

// Order of a block's scalars in the image.
const (
	scalarAttnIn = iota
	scalarQ
	scalarK
	scalarV
	scalarScore
	scalarValue
	scalarOut
	scalarFFNIn
	scalarHidden
	scalarCount
)

var scalarNames = [scalarCount]string{
	scalarAttnIn: "ATTN_IN", scalarQ: "Q", scalarK: "K", scalarV: "V", scalarScore: "SCORE",
	scalarValue: "VALUE", scalarOut: "OUT", scalarFFNIn: "FFN_IN", scalarHidden: "HIDDEN",
}

func (b *Block) scalars() []float32 {
	return []float32{
		scalarAttnIn: b.AttnInInv, scalarQ: b.QInv, scalarK: b.KInv, scalarV: b.VInv, scalarScore: b.ScoreScale,
		scalarValue: b.VScale, scalarOut: b.OutInv, scalarFFNIn: b.FFNInInv, scalarHidden: b.HiddenInv,
	}
}

func (b *Block) setScalars(x []float32) {
	b.AttnInInv, b.QInv, b.KInv, b.VInv, b.ScoreScale = x[scalarAttnIn], x[scalarQ], x[scalarK], x[scalarV], x[scalarScore]
	b.VScale, b.OutInv, b.FFNInInv, b.HiddenInv = x[scalarValue], x[scalarOut], x[scalarFFNIn], x[scalarHidden]
}

// validator keeps the first complaint.
type validator struct {
	prefix string
	err    error
}

func (v *validator) check(ok bool, format string, args ...any) {
	if !ok && v.err == nil {
		v.err = fmt.Errorf(v.prefix+format, args...)
	}
}

func (v *validator) size(name string, got, want int) {
	v.check(got == want, "%s has %d values, want %d", name, got, want)
}

func (v *validator) floats(name string, x []float32, n int) {
	v.size(name, len(x), n)
	if err := checkFloats(name, x, true); err != nil {
		v.check(false, "%v", err)
	}
}

func (v *validator) scales(name string, x []float32, n int) {
	v.size(name, len(x), n)
	if err := checkFloats(name, x, false); err != nil {
		v.check(false, "%v", err)
	}
}

func (v *validator) int8s(name string, x []int8, n int) {
	v.size(name, len(x), n)
	for i, w := range x {
		if w == -128 {
			v.check(false, "%s[%d] is -128, beyond ±%d", name, i, WeightMax)
			return
		}
	}
}

func (v *validator) linear(name string, l Linear, rows, cols int) {
	v.check(l.Rows == rows && l.Cols == cols, "%s is %d x %d, want %d x %d", name, l.Rows, l.Cols, rows, cols)
	v.int8s(name+" weights", l.W, rows*cols)
	v.scales(name+" scale", l.Scale, rows)
	v.floats(name+" bias", l.Bias, rows)
}
