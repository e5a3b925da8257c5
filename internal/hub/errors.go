package hub

import "errors"

// Errors of this package; every error but those of a cancelled context and of
// the local disk wraps one of them.
var (
	// ErrOptions reports a hub address, a repository name or a token that cannot
	// be used.
	ErrOptions = errors.New("hub: invalid options")
	// ErrNotFound reports a required file, or a whole repository, that the hub
	// does not have.
	ErrNotFound = errors.New("hub: not found")
	// ErrDenied reports that the hub wants a token, or another one.
	ErrDenied = errors.New("hub: access denied")
	// ErrUnavailable reports a hub that did not answer, or broke off, more often
	// than is worth waiting for. What was fetched is kept.
	ErrUnavailable = errors.New("hub: unavailable")
	// ErrResponse reports an answer that is not what a hub sends: a web page in
	// place of a file, unsafe names, a redirect that leads nowhere safe.
	ErrResponse = errors.New("hub: unusable answer")
	// ErrChecksum reports a file with other contents than the hub states.
	ErrChecksum = errors.New("hub: wrong checksum")
	// ErrLimit reports a file or a repository that is larger than allowed.
	ErrLimit = errors.New("hub: too large")
	// ErrFolder reports an output folder that holds something else.
	ErrFolder = errors.New("hub: folder holds something else")
	// ErrArchive reports a wheel or zip file without a usable encoder in it.
	ErrArchive = errors.New("hub: unusable archive")
)
