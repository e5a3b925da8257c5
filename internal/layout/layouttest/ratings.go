package layouttest

import (
	"math/rand/v2"

	"github.com/wisp-project/wisp/internal/layout"
)

// ratings returns those of an image with parameters p and the given map: a few types of
// events say nothing of a rating, some biases are as large as they can be.
func ratings(p *layout.Params, r *rand.Rand, m layout.Linear) *layout.Ratings {
	s := p.Shape
	for d := range m.Scale { // the step of the user vector, which the items' rows hold
		m.Scale[d] *= p.UserInv / 4
		m.Bias[d] *= p.UserInv / 4
	}
	h := &layout.Ratings{
		Low: 1, High: 5, Mean: 3.5, Step: 1.0 / 1024, Shrink: 3 * r.Float32(),
		Levels: make([]int16, s.EventTypes), Items: make([]int16, s.Items), Map: m,
	}
	for i := range h.Levels {
		h.Levels[i] = int16(r.IntN(4097) - 2048)
		if i > 0 && r.IntN(4) == 0 {
			h.Levels[i] = layout.NoLevel
		}
	}
	for i := range h.Items {
		h.Items[i] = int16(r.NormFloat64() * 600)
		if r.IntN(16) == 0 {
			h.Items[i] = layout.LevelMax * int16(1-2*r.IntN(2))
		}
	}
	return h
}
