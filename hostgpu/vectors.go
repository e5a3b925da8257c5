package hostgpu

import (
	"fmt"
	"math"
	"slices"

	"github.com/wisp-project/wisp/internal/vec"
	"github.com/wisp-project/wisp/model"
)

// Vectors are what a model is given of items and users beside ids and events, nil
// for nothing. A row of zeros says nothing of its item or user.
type Vectors struct {
	Items *model.Tensor // f_i, (N, F)
	Users *model.Tensor // of the users' descriptions, (U, F_u)
	// Encoder, where it is not nil, is trained together with the towers.
	Encoder *ItemEncoder
}

// widths returns F and F_u.
func (v Vectors) widths(items, users int) (f, fu int, err error) {
	if f, err = width(v.Items, items, "items"); err != nil {
		return 0, 0, err
	}
	fu, err = width(v.Users, users, "users")
	return f, fu, err
}

func width(x *model.Tensor, n int, of string) (int, error) {
	if x == nil {
		return 0, nil
	}
	if len(x.Shape) != 2 || x.Shape[0] != n {
		return 0, fmt.Errorf("%w: vectors of shape %v for %d %s; want a row for each", ErrData, x.Shape, n, of)
	}
	return x.Shape[1], nil
}

// describes reports whether the vectors say anything of item i.
func (v Vectors) describes(i int) bool {
	return v.Items != nil && slices.ContainsFunc(v.Items.Row(i), func(x float32) bool { return x != 0 })
}

// meanDirection returns the mean of the rows of x scaled to length 1, nil where
// it is zero.
func meanDirection(x *model.Tensor) []float32 {
	unit := make([]float32, x.Shape[1])
	columnSums(unit, x.Data)
	norm := math.Sqrt(squaredNorm(unit))
	if norm == 0 {
		return nil
	}
	vec.Scale(unit, unit, float32(1/norm))
	return unit
}

// without returns x with what its rows have along unit taken away; nil takes
// nothing.
func without(x *model.Tensor, unit []float32) *model.Tensor {
	y := model.NewTensor(x.Shape...)
	copy(y.Data, x.Data)
	for i := range x.Shape[0] {
		row := y.Row(i)
		var along float32
		for j, v := range unit {
			along += v * row[j]
		}
		for j, v := range unit {
			row[j] -= along * v
		}
	}
	return y
}
