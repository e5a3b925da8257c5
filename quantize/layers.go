package quantize

import (
	"fmt"
	"math"

	"github.com/wisp-project/wisp/internal/layout"
	"github.com/wisp-project/wisp/internal/q8"
	"github.com/wisp-project/wisp/model"
)

// LayerError says how far the int8 model is from float32 at one site, over all
// events of all histories it was measured on.
type LayerError struct {
	Site     string  `json:"site"`
	Relative float64 `json:"relative"` // root of (sum of squared errors / sum of squares)
	Max      float64 `json:"max"`      // largest absolute error
	Cosine   float64 `json:"cosine"`   // mean cosine between the two vectors
	N        int     `json:"n"`        // vectors compared
}

// LayerErrors runs m and the image made of it over the same histories and
// compares them site by site, in the order of computation. The int8 model
// computes what the answer needs and no more, so later blocks are compared at
// fewer positions.
func LayerErrors(m *model.Model, image []byte, histories [][]model.Event) ([]LayerError, error) {
	q, err := q8.New(image)
	if err != nil {
		return nil, fmt.Errorf("quantize: layer errors: %w", err)
	}
	got, want := q.Shape(), Shape(m.Config)
	// The text encoder, what items are called and made of, the rating head and bounds on
	// scores are no part of the model.
	got.Text, got.Labels, got.Attributes = want.Text, want.Labels, want.Attributes
	got.Ratings, got.BoundFirst, got.BoundHead, got.BoundMiddle = want.Ratings, want.BoundFirst, want.BoundHead, want.BoundMiddle
	if got != want {
		return nil, fmt.Errorf("%w: it has the dimensions %+v, the model has %+v", ErrImage, got, want)
	}
	type sums struct {
		LayerError
		squaredError, squares float64
	}
	var order []string
	bySite := map[string]*sums{}
	type key struct {
		site     string
		position int
	}
	for i, h := range histories {
		h = h[max(0, len(h)-m.Config.Reach()):]
		reference := map[key][]float32{}
		if _, err := m.States(h, func(site string, position int, x []float32) {
			reference[key{site, position}] = append([]float32(nil), x...)
			if bySite[site] == nil {
				bySite[site] = &sums{LayerError: LayerError{Site: site}}
				order = append(order, site)
			}
		}); err != nil {
			return nil, fmt.Errorf("quantize: layer errors: history %d: %w", i, err)
		}
		q.User(LayoutEvents(h), func(site string, position int, x []float32) {
			want, s := reference[key{site, position}], bySite[site]
			if want == nil {
				return
			}
			var dot, a, b float64
			for j, v := range x {
				w := float64(want[j])
				e := math.Abs(float64(v) - w)
				s.squaredError += e * e
				s.Max = max(s.Max, e)
				dot += float64(v) * w
				a += float64(v) * float64(v)
				b += w * w
			}
			s.squares += b
			if a > 0 && b > 0 {
				s.Cosine += dot / math.Sqrt(a*b)
			} else if a == b {
				s.Cosine++
			}
			s.N++
		})
	}
	var table []LayerError
	for _, site := range order {
		s := bySite[site]
		if s.N == 0 {
			continue
		}
		if s.squares > 0 {
			s.Relative = math.Sqrt(s.squaredError / s.squares)
		}
		s.Cosine /= float64(s.N)
		table = append(table, s.LayerError)
	}
	return table, nil
}

// LayoutEvents returns a history as requests carry it.
func LayoutEvents(h []model.Event) []layout.Event {
	events := make([]layout.Event, len(h))
	for i, e := range h {
		events[i] = layout.Event{Item: uint32(e.Item), Type: uint32(e.Type), Gap: e.Gap}
	}
	return events
}
