package edge

import (
	"errors"
	"fmt"
)

// Errors of this package; every error it returns wraps one of them, an error of
// package artifact, or the context's. Any request may get ErrOverloaded or
// ErrSystem.
var (
	// ErrOptions reports options that have no meaning.
	ErrOptions = errors.New("edge: invalid options")
	// ErrArtefact reports an artefact whose parts do not fit together or that
	// this runtime cannot run.
	ErrArtefact = errors.New("edge: unusable artefact")
	// ErrLimit reports an artefact that needs more than its limits, or those of its
	// tenant, allow.
	ErrLimit = errors.New("edge: limit exceeded")
	// ErrModel reports a name that no model has, or that is none, and an artefact of
	// another model than the one that it was to replace.
	ErrModel = errors.New("edge: wrong model")
	// ErrRollback reports a version that is not above the last one accepted of the
	// same name and tenant.
	ErrRollback = errors.New("edge: version refused")
	// ErrState reports a folder of accepted versions that cannot be read or
	// written.
	ErrState = errors.New("edge: unusable state")
	// ErrCache reports a folder of machine code that cannot be used, or must not be,
	// as others could have written to it.
	ErrCache = errors.New("edge: unusable cache")
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
	// ErrNoHead reports a request to an artefact that was made without what answers
	// it: the head that predicts ratings, or the one that knows classes of texts.
	ErrNoHead = errors.New("edge: the artefact lacks a head")
	// ErrSandbox reports a guest that trapped, or one of the three below. Its
	// sandbox was thrown away; the next request gets a new one.
	ErrSandbox = errors.New("edge: sandbox failed")
	// ErrTimeout reports a guest that worked on a request for longer than
	// Options.Timeout. It wraps ErrSandbox.
	ErrTimeout = fmt.Errorf("%w: time limit", ErrSandbox)
	// ErrMemory reports a guest that wanted more memory than it may have, or does
	// not take what its image needs. It wraps ErrSandbox.
	ErrMemory = fmt.Errorf("%w: memory limit", ErrSandbox)
	// ErrAnswer reports a guest whose answer is larger than what was asked for or
	// makes no sense. It wraps ErrSandbox.
	ErrAnswer = fmt.Errorf("%w: bad answer", ErrSandbox)
	// ErrOverloaded reports a request that found all sandboxes busy and the queue
	// full. It may be sent again later, or elsewhere.
	ErrOverloaded = errors.New("edge: overloaded")
	// ErrSessions reports that as many sessions are open as Options.Sessions allows.
	ErrSessions = errors.New("edge: too many sessions")
	// ErrSession reports a session that this artefact cannot go on with.
	ErrSession = errors.New("edge: unusable session")
	// ErrItem reports an item that is not there, or that cannot be inserted.
	ErrItem = errors.New("edge: invalid item")
	// ErrFull reports that there is no room for another inserted item.
	ErrFull = errors.New("edge: no room for another item")
	// ErrSystem reports that the operating system lacks what a sandbox needs.
	ErrSystem = errors.New("edge: no resources for a sandbox")
	// ErrClosed reports the use of a runtime after Close.
	ErrClosed = errors.New("edge: runtime is closed")
)
