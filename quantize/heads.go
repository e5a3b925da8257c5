package quantize

import (
	"fmt"
	"math"

	"github.com/wisp-project/wisp/artifact"
	"github.com/wisp-project/wisp/internal/layout"
	"github.com/wisp-project/wisp/model"
)

// ratings quantizes a rating head of m, the rest of whose image is p: the map with a
// scale for each row, levels and biases of items in 16 bits.
func ratings(h *model.RatingHead, m *model.Model, p *layout.Params) (*layout.Ratings, error) {
	if err := h.Validate(m.Config); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrModel, err)
	}
	var top float64
	for _, l := range h.Levels {
		if l == l { // not NaN
			top = max(top, math.Abs(float64(l-h.Mean)))
		}
	}
	for _, b := range h.Items {
		top = max(top, math.Abs(float64(b)))
	}
	r := &layout.Ratings{
		Low: h.Low, High: h.High, Mean: h.Mean, Step: float32(top / layout.LevelMax), Shrink: h.Shrink,
		Levels: make([]int16, len(h.Levels)), Items: make([]int16, len(h.Items)), Map: matrix(h.Map),
	}
	steps := func(v float32) int16 {
		if r.Step == 0 { // nothing is above or below the mean
			return 0
		}
		return int16(round(v/r.Step, layout.LevelMax))
	}
	for t, l := range h.Levels {
		if r.Levels[t] = layout.NoLevel; l == l {
			r.Levels[t] = steps(l - h.Mean)
		}
	}
	for i, b := range h.Items {
		r.Items[i] = steps(b)
	}
	// The user vector comes in steps of 1/UserInv, and the items' scales hold that step
	// too: between them, the map's own scales are right as they are.
	r.Map.Bias = append([]float32(nil), h.MapBias...)
	for d := range r.Map.Bias {
		r.Map.Bias[d] *= p.UserInv
	}
	return r, nil
}

// classes quantizes the head of a text encoder that sorts texts into classes.
func classes(h *model.TextClasses) layout.Linear {
	l := matrix(h.Weight)
	l.Bias = append([]float32(nil), h.Bias...)
	return l
}

// ClassesOf returns the classes of texts of an artefact, nil where it has none, with the
// weights that its eight bits stand for: for another artefact with the same text encoder.
func ClassesOf(a *artifact.Artifact) (*model.TextClasses, error) {
	if a.Manifest.Model.Text.Classes == 0 {
		return nil, nil
	}
	image, err := a.Image()
	if err != nil {
		return nil, err
	}
	l := image.Params().Text.ClassMap
	h := &model.TextClasses{Names: a.Manifest.Classes, Weight: model.NewTensor(l.Rows, l.Cols), Bias: l.Bias}
	for i, v := range l.W {
		h.Weight.Data[i] = float32(v) * l.Scale[i/l.Cols]
	}
	return h, nil
}
