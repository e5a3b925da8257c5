package model

import "errors"

// Errors of this package; every error it returns wraps one of them.
var (
	// ErrConfig reports a configuration that no model can have.
	ErrConfig = errors.New("model: invalid config")
	// ErrWeights reports missing, superfluous, wrongly shaped or non-finite tensors.
	ErrWeights = errors.New("model: invalid weights")
	// ErrInput reports events or item vectors that the model cannot read.
	ErrInput = errors.New("model: invalid input")
	// ErrFormat reports a file that is not safetensors, is damaged, or holds
	// what wisp does not read.
	ErrFormat = errors.New("model: invalid safetensors file")
	// ErrUnsupported reports a text encoder of a kind that wisp does not compute.
	ErrUnsupported = errors.New("model: unsupported text encoder")
)
