package quantize

import (
	"fmt"
	"math"

	"github.com/wisp-project/wisp/internal/layout"
	"github.com/wisp-project/wisp/model"
)

// Attributes say of what the vectors of a model's items are made, so that an
// artefact can name what of an item speaks for it: the vector of item i is Factor[i]
// times the sum of those of its attributes, and the rest is the item's own.
type Attributes struct {
	Names   []string
	Vectors *model.Tensor // (A, D), in the space of the model's item vectors
	Of      [][]layout.AttributeCount
	Factor  []float32
}

// params quantizes the attributes, each row with a scale of its own that contains
// the user vector's, as those of the items.
func (a *Attributes) params(c model.Config, userScale float32) (*layout.Attributes, error) {
	if len(a.Names) == 0 {
		return nil, fmt.Errorf("%w: there are no attributes", ErrModel)
	}
	if s := a.Vectors.Shape; len(s) != 2 || s[0] != len(a.Names) || s[1] != c.Dim || len(a.Of) != c.Items || len(a.Factor) != c.Items {
		return nil, fmt.Errorf("%w: %d attributes with vectors of shape %v, of %d items with %d factors; the model has %d items of width %d",
			ErrModel, len(a.Names), s, len(a.Of), len(a.Factor), c.Items, c.Dim)
	}
	for i, v := range a.Vectors.Data {
		if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
			return nil, fmt.Errorf("%w: the vector of attribute %q holds %v", ErrModel, a.Names[i/c.Dim], v)
		}
	}
	p := &layout.Attributes{Rows: rows(a.Vectors), Of: a.Of, Factor: a.Factor, Names: a.Names}
	for i := range p.Rows.Scale {
		p.Rows.Scale[i] *= userScale
	}
	return p, nil
}
