package layout

import "errors"

// Errors of this package; every error it returns wraps one of them.
var (
	// ErrShape reports dimensions that no image can have.
	ErrShape = errors.New("layout: invalid shape")
	// ErrParams reports parameters that do not fit their shape or are out of range.
	ErrParams = errors.New("layout: invalid parameters")
	// ErrImage reports bytes that are not a valid image.
	ErrImage = errors.New("layout: invalid image")
	// ErrState reports bytes that are no state of a session with the image.
	ErrState = errors.New("layout: invalid state")
	// ErrRequest reports a request that does not fit the image's limits.
	ErrRequest = errors.New("layout: invalid request")
	// ErrAnswer reports bytes that are not a valid answer.
	ErrAnswer = errors.New("layout: invalid answer")
)
