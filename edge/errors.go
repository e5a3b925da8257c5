package edge

import "errors"

// Errors of this package; every error it returns wraps one of them, an error of
// package artifact, or the context's.
var (
	// ErrOptions reports options that have no meaning.
	ErrOptions = errors.New("edge: invalid options")
	// ErrArtefact reports an artefact whose parts do not fit together or that
	// this runtime cannot run.
	ErrArtefact = errors.New("edge: unusable artefact")
	// ErrGolden reports that this machine does not answer the artefact's golden
	// requests with the exact bits: the CPU, the engine, the memory or the kernel
	// is not what it should be.
	ErrGolden = errors.New("edge: golden request failed")
	// ErrRequest reports a request that cannot be answered as it stands.
	ErrRequest = errors.New("edge: invalid request")
	// ErrNoText reports a request with a text to an artefact that lacks what the
	// text is to go through: a text encoder, or what leads from it to items or
	// users.
	ErrNoText = errors.New("edge: the artefact does not read this text")
	// ErrSandbox reports a guest that trapped, ran too long or answered nonsense.
	// Its sandbox was thrown away; the next request gets a new one.
	ErrSandbox = errors.New("edge: sandbox failed")
	// ErrClosed reports the use of a runtime after Close.
	ErrClosed = errors.New("edge: runtime is closed")
)
