package quantize

import (
	_ "embed" // the packed encoders
	"fmt"

	"github.com/wisp-project/wisp/internal/tokenize"
	"github.com/wisp-project/wisp/model"
)

// Names of the text encoders that wisp brings along, for whoever has no folder of a
// pretrained one.
const (
	BuiltinMicro = "built-in"      // the better one
	BuiltinNano  = "built-in-nano" // a third of its size
)

// What `make encoder` distilled from all-MiniLM-L6-v2, see NOTICE.
var (
	//go:embed builtin/encoder.bin
	builtinMicro []byte
	//go:embed builtin/encoder-nano.bin
	builtinNano []byte
)

// packedBuiltin returns the file that the encoder of that name is kept in, nil where
// there is none.
func packedBuiltin(name string) []byte {
	switch name {
	case BuiltinMicro:
		return builtinMicro
	case BuiltinNano:
		return builtinNano
	}
	return nil
}

// IsBuiltin says whether wisp brings a text encoder of that name along.
func IsBuiltin(name string) bool { return packedBuiltin(name) != nil }

// BuiltinBytes is the size of the file that a built-in encoder is kept in, 0 where
// there is none of that name.
func BuiltinBytes(name string) int { return len(packedBuiltin(name)) }

// Builtin returns a text encoder that wisp brings along, with its tokenizer. Both are
// the caller's own. The error wraps ErrModel, where there is none of that name or the
// build is broken.
func Builtin(name string) (*model.TextModel, *tokenize.Tokenizer, error) {
	packed := packedBuiltin(name)
	if packed == nil {
		return nil, nil, fmt.Errorf("%w: no built-in text encoder is called %q; there are %s and %s", ErrModel, name, BuiltinMicro, BuiltinNano)
	}
	return UnpackText(packed)
}
