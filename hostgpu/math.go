package hostgpu

import (
	"math"

	"github.com/wisp-project/wisp/internal/vec"
)

// softmax turns the scores in row into probabilities times factor, in place, and
// returns the logarithm of their normaliser: log sum exp(score).
func softmax(row []float32, factor float32) float32 {
	normaliser, _ := shiftedSoftmax(row, factor, 0)
	return normaliser
}

// shiftedSoftmax is softmax, with shift added to what it makes; it returns the sum of the
// scores too.
func shiftedSoftmax(row []float32, factor, shift float32) (normaliser, total float32) {
	total, top := vec.SumMax(row)
	sum := vec.ExpSum(row, top)
	vec.Affine(row, factor/sum, shift)
	return top + float32(math.Log(float64(sum))), total
}

// addRows adds x to y on all processors.
func addRows(y, x []float32) {
	parallel(len(y), func(_, lo, hi int) { vec.Add(y[lo:hi], x[lo:hi]) })
}

// scaledRows writes factor·x to y on all processors.
func scaledRows(y, x []float32, factor float32) {
	parallel(len(y), func(_, lo, hi int) { vec.Scale(y[lo:hi], x[lo:hi], factor) })
}

// addScaled adds factor·x to y on all processors.
func addScaled(y, x []float32, factor float32) {
	parallel(len(y), func(_, lo, hi int) {
		vec.AddScaled(y[lo:hi], x[lo:hi], factor)
	})
}

// columnSums writes the sum of the rows of x, (n, len(sum)), to sum.
func columnSums(sum, x []float32) {
	w := len(sum)
	parallel(w, func(_, lo, hi int) {
		clear(sum[lo:hi])
		for r := 0; r < len(x); r += w {
			vec.Add(sum[lo:hi], x[r+lo:r+hi])
		}
	})
}
