package layouttest

import (
	"fmt"
	"math/rand/v2"

	"github.com/wisp-project/wisp/internal/layout"
)

// WithAttributes returns s with the given number of attributes, of which an item has
// none, some or all.
func WithAttributes(s layout.Shape, count int) layout.Shape {
	s.Attributes.Count = count
	a := attributes(s, rand.New(rand.NewPCG(1, 1)))
	s.Attributes = a.ShapeOf()
	return s
}

// attributes returns those of shape s without their rows. How many an item has does
// not depend on r.
func attributes(s layout.Shape, r *rand.Rand) *layout.Attributes {
	a := &layout.Attributes{Of: make([][]layout.AttributeCount, s.Items), Factor: make([]float32, s.Items)}
	for i := range a.Of {
		n := min(i*7%11, s.Attributes.Count)
		if i%13 == 12 {
			n = s.Attributes.Count
		}
		for k := range s.Attributes.Count { // n of them, by lot
			if left := s.Attributes.Count - k; r.IntN(left) < n-len(a.Of[i]) {
				a.Of[i] = append(a.Of[i], layout.AttributeCount{Attribute: uint32(k), Count: uint8(1 + r.IntN(3)*r.IntN(128))})
			}
		}
		a.Factor[i] = r.Float32()
	}
	for i := range s.Attributes.Count {
		a.Names = append(a.Names, fmt.Sprintf("word %d", i))
	}
	return a
}
