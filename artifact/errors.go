package artifact

import "errors"

// Errors of this package; every error it returns wraps one of them or an error
// of the file system.
var (
	// ErrFormat reports bytes that are not a well-formed artefact.
	ErrFormat = errors.New("artifact: invalid format")
	// ErrVersion reports a format version that this package does not read.
	ErrVersion = errors.New("artifact: unsupported format version")
	// ErrDigest reports bytes that do not match their SHA-256.
	ErrDigest = errors.New("artifact: digest mismatch")
	// ErrLimit reports a declared size above the reader's limits.
	ErrLimit = errors.New("artifact: limit exceeded")
	// ErrUnsigned reports an artefact without a signature where one is required.
	ErrUnsigned = errors.New("artifact: not signed")
	// ErrUntrusted reports an artefact that is signed, but with none of the keys
	// that the reader trusts.
	ErrUntrusted = errors.New("artifact: signed with a key that is not trusted")
	// ErrSignature reports a signature that is not that of the key it names, or
	// of an unknown kind.
	ErrSignature = errors.New("artifact: invalid signature")
	// ErrManifest reports a manifest that is malformed or contradicts itself.
	ErrManifest = errors.New("artifact: invalid manifest")
	// ErrContent reports a kernel, segment, item or golden request that is
	// malformed or does not fit the manifest.
	ErrContent = errors.New("artifact: invalid content")
	// ErrKey reports bytes that are not a key of the kind that is wanted.
	ErrKey = errors.New("artifact: unusable key")
	// ErrOrigin reports a server that does not give what it was asked for.
	ErrOrigin = errors.New("artifact: unusable origin")
	// ErrOptions reports options that have no meaning.
	ErrOptions = errors.New("artifact: invalid options")
)
