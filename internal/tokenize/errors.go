package tokenize

import "errors"

// Errors of this package; every error it returns wraps one of them.
var (
	// ErrFormat reports files or bytes that are not what their name or header says.
	ErrFormat = errors.New("tokenize: malformed input")
	// ErrUnsupported reports a well-formed tokenizer of a kind that this
	// package does not implement; the message names the kind.
	ErrUnsupported = errors.New("tokenize: unsupported tokenizer")
	// ErrVocab reports a vocabulary that cannot be used: duplicate or missing
	// tokens, or more tokens than the model has embeddings for.
	ErrVocab = errors.New("tokenize: invalid vocabulary")
)
