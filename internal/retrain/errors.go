package retrain

import "errors"

// Errors of this package; every error that it returns wraps one of them, an error of
// a package that it calls, or that of the context.
var (
	// ErrOptions reports options that contradict themselves.
	ErrOptions = errors.New("retrain: invalid options")
	// ErrEvents reports new events that nothing should be learnt from: of another
	// schema, with wrong times, or not of people.
	ErrEvents = errors.New("retrain: unusable events")
	// ErrLocked reports that another job is at work on the same state.
	ErrLocked = errors.New("retrain: another job is running")
	// ErrState reports a state or a manifest that is missing, damaged or of another
	// version, or that files do not agree with.
	ErrState = errors.New("retrain: invalid state")
)
