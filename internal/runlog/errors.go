package runlog

import "errors"

// Errors of this package; every error it returns wraps one of them or an error
// of the file system.
var (
	// ErrInput reports a name, step, shape or configuration that cannot be
	// recorded.
	ErrInput = errors.New("runlog: invalid input")
	// ErrFolder reports a folder that holds something else than a run, and is
	// therefore left alone, or a run that is damaged elsewhere than at its end.
	ErrFolder = errors.New("runlog: not a run folder")
	// ErrClosed reports a run that was used after Close.
	ErrClosed = errors.New("runlog: run is closed")
)
