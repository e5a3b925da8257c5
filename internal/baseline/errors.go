package baseline

import "errors"

var (
	// ErrInput means that histories name an item outside the catalogue, that the
	// catalogue is empty, or that the destination of scores has another length.
	ErrInput = errors.New("baseline: bad input")
	// ErrSingular means that the item matrix of EASE could not be inverted. A
	// larger Lambda helps.
	ErrSingular = errors.New("baseline: matrix is not positive definite")
)
