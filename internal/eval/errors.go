package eval

import "errors"

var (
	// ErrInput means that the arguments of a measurement do not fit together: no
	// cases, an item outside the catalogue, or slices of different lengths.
	ErrInput = errors.New("eval: bad input")
	// ErrNaN means that a Scorer gave a score that is not a number, which has no
	// place in a ranking.
	ErrNaN = errors.New("eval: score is not a number")
	// ErrNotPaired means that two Results do not answer the same cases.
	ErrNotPaired = errors.New("eval: results are not of the same cases")
)
