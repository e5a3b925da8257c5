package eval

import (
	"fmt"
	"math"

	"gonum.org/v1/gonum/stat/distuv"
)

// ClassAccuracy returns the share of cases whose predicted class is the actual one,
// with Wilson's interval (1927) over cases, which stays within 0 and 1. The
// slices must have the same length, at least 1, else the error is ErrInput.
func ClassAccuracy(predicted, actual []int) (Interval, error) {
	if len(predicted) != len(actual) || len(actual) == 0 {
		return Interval{}, fmt.Errorf("%w: %d predicted and %d actual classes; want the same number, at least 1", ErrInput, len(predicted), len(actual))
	}
	right := 0
	for i, class := range actual {
		if predicted[i] == class {
			right++
		}
	}
	n := float64(len(actual))
	p, z := float64(right)/n, distuv.UnitNormal.Quantile(0.975)
	middle := (p + z*z/(2*n)) / (1 + z*z/n)
	half := z / (1 + z*z/n) * math.Sqrt(p*(1-p)/n+z*z/(4*n*n))
	// With all or none right, an end is p itself but for rounding.
	return Interval{Value: p, Low: max(0, min(p, middle-half)), High: min(1, max(p, middle+half))}, nil
}
