package quantize

import (
	_ "embed" // the packed encoder

	"github.com/wisp-project/wisp/internal/tokenize"
	"github.com/wisp-project/wisp/model"
)

// builtin is what `make encoder` distilled from all-MiniLM-L6-v2, see NOTICE.
//
//go:embed builtin/encoder.bin
var builtin []byte

// BuiltinBytes is the size of the file that the built-in encoder is kept in.
var BuiltinBytes = len(builtin)

// Builtin returns the text encoder that wisp brings along, for whoever has no
// folder of a pretrained one, with its tokenizer. Both are the caller's own. The
// error wraps ErrModel, and comes of a broken build only.
func Builtin() (*model.TextModel, *tokenize.Tokenizer, error) { return UnpackText(builtin) }
