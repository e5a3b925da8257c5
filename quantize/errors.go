package quantize

import "errors"

// Errors of this package; every error it returns wraps one of them or an error
// of the package it calls.
var (
	// ErrCalibration reports histories that no scale can be read off.
	ErrCalibration = errors.New("quantize: calibration")
	// ErrModel reports a model that an artefact cannot hold.
	ErrModel = errors.New("quantize: model")
	// ErrImage reports an image that is not of the model it is used with, or a
	// history that an image has no place for.
	ErrImage = errors.New("quantize: image")
	// ErrGolden reports golden requests that the int8 model does not answer.
	ErrGolden = errors.New("quantize: golden requests")
	// ErrPrune reports a model that cannot be pruned as asked.
	ErrPrune = errors.New("quantize: cannot prune")
	// ErrLessons reports what no teacher can be asked.
	ErrLessons = errors.New("quantize: invalid lessons")
)
