// Package quantize turns a trained float32 model into the int8 image that the
// guest runs, measures what that costs layer by layer, and puts the image into
// an artefact.
//
// Weights are quantized symmetrically, with one scale for each output channel;
// item vectors with one scale for each row; activations with one scale for each
// site, calibrated on training histories (Jacob et al. 2018; Krishnamoorthi
// 2018). The arithmetic itself is defined in internal/q8.
package quantize

import (
	"fmt"
	"math"

	"github.com/wisp-project/wisp/internal/layout"
	"github.com/wisp-project/wisp/model"
)

const (
	weightLevels = 127  // int8, symmetric: -128 is not used
	userLevels   = 2047 // the user vector has 12 bits: it meets the items as int16
)

// Shape returns the shape of the image of a model with configuration c.
func Shape(c model.Config) layout.Shape {
	return layout.Shape{
		Items: c.Items, Dim: c.Dim, Layers: c.Layers, Heads: c.Heads, FFN: c.FFN,
		Window: c.Window, EventTypes: c.EventTypes, GapBuckets: c.GapBuckets,
	}
}

// Params quantizes m with the ranges in cal, and a text encoder where text is not
// nil. The result shares nothing with m.
func Params(m *model.Model, cal *Calibration, text *Text) (layout.Params, error) {
	c := m.Config
	if c.Descriptions > 0 && (text == nil || text.UserMap == nil) {
		return layout.Params{}, fmt.Errorf("%w: it reads the users' descriptions, which needs the text encoder that read them in training; "+
			"give it one, or train without them (wisp train without --descriptions)", ErrModel)
	}
	p := layout.Params{
		Shape:    Shape(c),
		Type:     clone(m.Weights[model.UserType]),
		Gap:      clone(m.Weights[model.UserGap]),
		NormGain: clone(m.Weights[model.UserNormGain]),
		NormBias: clone(m.Weights[model.UserNormBias]),
		Cold:     make([]int16, c.Dim),
	}

	if text != nil {
		var err error
		if p.Shape.Text, p.Text, err = TextParams(*text); err != nil {
			return layout.Params{}, err
		}
	}

	// The cold-start vector is no output of the normalisation, and may be longer
	// than any: it shares the user vector's scale all the same.
	userMax := cal.Max(model.SiteUserOut)
	for _, v := range m.Weights[model.UserCold].Data {
		userMax = max(userMax, math.Abs(float64(v)))
	}
	if text != nil && !cal.described {
		userMax += text.userMax()
	}
	if userMax == 0 {
		userMax = userLevels
	}
	userScale := float32(userMax / userLevels)
	p.UserInv = 1 / userScale
	for i, v := range m.Weights[model.UserCold].Data {
		p.Cold[i] = int16(round(v*p.UserInv, userLevels))
	}

	// An item's stored scale contains the user vector's, so that a score is one
	// product; the input side takes it out again.
	rows := matrix(m.ItemVectors)
	p.ItemRows, p.ItemScale = rows.W, rows.Scale
	for i := range p.ItemScale {
		p.ItemScale[i] *= userScale
	}
	p.InputScale = float32(math.Sqrt(float64(c.Dim))) / userScale

	for l := range c.Layers {
		b, err := block(m, cal, l)
		if err != nil {
			return layout.Params{}, err
		}
		p.Blocks = append(p.Blocks, b)
	}
	return p, nil
}

// block quantizes transformer block l.
func block(m *model.Model, cal *Calibration, l int) (layout.Block, error) {
	w := func(name string) *model.Tensor { return m.Weights[model.LayerName(l, name)] }
	var err error
	scale := func(site string) float32 {
		s, e := cal.Scale(model.LayerName(l, site), weightLevels)
		if e != nil {
			err = e
			return 1
		}
		return s
	}
	in, out, ffn, hidden := scale(model.SiteAttnIn), scale(model.SiteAttnOut), scale(model.SiteFFNIn), scale(model.SiteFFNHidden)
	q, k, v := scale(model.SiteAttnQ), scale(model.SiteAttnK), scale(model.SiteAttnV)
	if err != nil {
		return layout.Block{}, err
	}
	headDim := float64(m.Config.Dim / m.Config.Heads)
	return layout.Block{
		AttnNormGain: clone(w("attn.norm.weight")), AttnNormBias: clone(w("attn.norm.bias")),
		AttnInInv: 1 / in,
		QKV: concat(
			linear(w("attn.q.weight"), w("attn.q.bias"), in),
			linear(w("attn.k.weight"), w("attn.k.bias"), in),
			linear(w("attn.v.weight"), w("attn.v.bias"), in)),
		QInv: 1 / q, KInv: 1 / k, VInv: 1 / v,
		ScoreScale:   float32(float64(q) * float64(k) / math.Sqrt(headDim)),
		VScale:       v,
		DistanceBias: clone(w("attn.distance.bias")),
		OutInv:       1 / out,
		Out:          linear(w("attn.o.weight"), w("attn.o.bias"), out),
		FFNNormGain:  clone(w("ffn.norm.weight")), FFNNormBias: clone(w("ffn.norm.bias")),
		FFNInInv:  1 / ffn,
		Up:        linear(w("ffn.up.weight"), w("ffn.up.bias"), ffn),
		HiddenInv: 1 / hidden,
		Down:      linear(w("ffn.down.weight"), w("ffn.down.bias"), hidden),
	}, nil
}

// linear quantizes y = W·x + b for inputs x in steps of inScale.
func linear(w, b *model.Tensor, inScale float32) layout.Linear {
	l := matrix(w)
	l.Bias = clone(b)
	for r := range l.Scale {
		l.Scale[r] *= inScale
	}
	return l
}

// matrix quantizes each row of w with a scale of its own; a row of zeros has
// scale 0.
func matrix(w *model.Tensor) layout.Linear { return matrixIn(w, weightLevels) }

// matrixIn is matrix with the given number of levels on each side of zero.
func matrixIn(w *model.Tensor, levels int) layout.Linear {
	rows, cols := w.Shape[0], w.Shape[1]
	l := layout.Linear{Rows: rows, Cols: cols, W: make([]int8, rows*cols), Scale: make([]float32, rows)}
	for r := range rows {
		row := w.Row(r)
		var top float32
		for _, v := range row {
			top = max(top, v, -v)
		}
		// A row so small that its scale is not a normal number is as good as zero.
		l.Scale[r] = top / float32(levels)
		if l.Scale[r] < 1e-30 {
			l.Scale[r] = 0
			continue
		}
		for i, v := range row {
			l.W[r*cols+i] = int8(round(v/l.Scale[r], levels))
		}
	}
	return l
}

// concat stacks linear maps of the same input.
func concat(parts ...layout.Linear) layout.Linear {
	all := layout.Linear{Cols: parts[0].Cols}
	for _, p := range parts {
		all.Rows += p.Rows
		all.W = append(all.W, p.W...)
		all.Scale = append(all.Scale, p.Scale...)
		all.Bias = append(all.Bias, p.Bias...)
	}
	return all
}

// round rounds to the nearest integer, ties to even, and saturates at ±levels.
func round(v float32, levels int) int {
	return min(max(int(math.RoundToEven(float64(v))), -levels), levels)
}

func clone(t *model.Tensor) []float32 { return append([]float32(nil), t.Data...) }

// Image quantizes m, and the text encoder where text is not nil, and packs them
// as the guest reads them. labels are the numbers of each item's categories and
// attributes, see artifact.Labels; nil for none.
func Image(m *model.Model, histories [][]model.Event, text *Text, labels [][]uint32) ([]byte, error) {
	return imageWith(m, histories, labels, BuildOptions{Text: text})
}

// imageWith is Image with all that o adds to it.
func imageWith(m *model.Model, histories [][]model.Event, labels [][]uint32, o BuildOptions) ([]byte, error) {
	text := o.Text
	if err := checkItemBits(o.ItemBits); err != nil {
		return nil, err
	}
	var descriptions [][]float32
	if text != nil {
		descriptions = text.Descriptions
	}
	cal, err := Calibrate(m, histories, descriptions)
	if err != nil {
		return nil, err
	}
	p, err := Params(m, cal, text)
	if err != nil {
		return nil, err
	}
	if o.ItemBits != 0 && o.ItemBits != maxItemBits {
		narrow(&p, m, text, o.ItemBits)
	}
	p.Shape.Labels, p.Labels = layout.LabelShapeOf(labels), labels
	if o.Attributes != nil {
		if p.Attributes, err = o.Attributes.params(m.Config, 1/p.UserInv); err != nil {
			return nil, err
		}
		p.Shape.Attributes = p.Attributes.ShapeOf()
	}
	if o.Ratings != nil {
		if p.Ratings, err = ratings(o.Ratings, m, &p); err != nil {
			return nil, err
		}
		p.Shape.Ratings = true
	}
	image, err := layout.Pack(p)
	if err != nil {
		return nil, fmt.Errorf("quantize: pack: %w", err)
	}
	users, err := userSample(image, histories)
	if err != nil {
		return nil, err
	}
	if AddBounds(&p, users).Columns == 0 {
		return image, nil
	}
	if image, err = layout.Pack(p); err != nil {
		return nil, fmt.Errorf("quantize: pack: %w", err)
	}
	return image, nil
}
