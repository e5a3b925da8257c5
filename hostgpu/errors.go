package hostgpu

import "errors"

// Errors of this package; every error it returns wraps one of them, an error of
// the package it calls, or that of the context.
var (
	// ErrOptions reports training options that cannot be followed.
	ErrOptions = errors.New("hostgpu: invalid options")
	// ErrData reports a data set that nothing can be learnt from.
	ErrData = errors.New("hostgpu: nothing to train on")
	// ErrDiverged reports a loss or weights that are not finite.
	ErrDiverged = errors.New("hostgpu: training diverged")
	// ErrCheckpoint reports a checkpoint that does not fit the run.
	ErrCheckpoint = errors.New("hostgpu: checkpoint")
	// ErrDevice reports a GPU that is not there or cannot be used, or work that it
	// cannot do.
	ErrDevice = errors.New("hostgpu: GPU")
	// ErrDeviceMemory reports that a GPU has too little memory.
	ErrDeviceMemory = errors.New("hostgpu: GPU: out of memory")
	// ErrDeviceLost reports that a GPU failed while it was working. What it held is
	// gone; a checkpoint is not.
	ErrDeviceLost = errors.New("hostgpu: GPU: lost")
)
