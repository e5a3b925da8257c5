package data

import "errors"

// Errors of this package; every error about data wraps one of them.
var (
	// ErrSource reports a source that cannot be used: a file that is missing,
	// empty, of another format, or broken in most of its rows.
	ErrSource = errors.New("data: unusable source")
	// ErrOptions reports options that contradict themselves or the data.
	ErrOptions = errors.New("data: invalid options")
	// ErrEmpty reports that no event survived cleaning.
	ErrEmpty = errors.New("data: no events left")
	// ErrPrepared reports a prepared data set that is missing, damaged or of
	// another version.
	ErrPrepared = errors.New("data: invalid prepared data set")
	// ErrExists reports an output folder that holds something else than what
	// would be written, and is therefore left alone.
	ErrExists = errors.New("data: folder holds something else")
	// ErrUnavailable reports that a data set could not be fetched because the
	// package client is missing or no registry answered.
	ErrUnavailable = errors.New("data: download unavailable")
	// ErrChecksum reports a download with other contents than expected.
	ErrChecksum = errors.New("data: wrong checksum")
	// ErrUnknownUser reports a user that a simulator does not have.
	ErrUnknownUser = errors.New("data: unknown user")
)

// errNoRows reports a source file with a header at most.
var errNoRows = errors.New("has no rows")
