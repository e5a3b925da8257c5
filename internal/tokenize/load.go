package tokenize

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// The files of a Hugging Face folder that describe its tokenizer.
const (
	tokenizerFile = "tokenizer.json"
	vocabFile     = "vocab.txt"
	configFile    = "tokenizer_config.json"
)

// Load reads the tokenizer of a Hugging Face folder: tokenizer.json, or
// vocab.txt where there is none; tokenizer_config.json, which may be absent,
// names the special tokens and describes what vocab.txt does not. Truncation and
// padding are the caller's, whatever the files say.
//
// Errors wrap ErrFormat, ErrVocab or, for tokenizers other than BERT's
// WordPiece, ErrUnsupported, or are those of the file system.
func Load(dir string) (*Tokenizer, error) {
	var c config
	if err := readJSON(filepath.Join(dir, configFile), &c); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	o := Options{Special: SpecialTokens{
		Unknown: string(c.Unknown), Class: string(c.Class), Separator: string(c.Separator), Pad: string(c.Pad), Mask: string(c.Mask),
	}}
	file := filepath.Join(dir, tokenizerFile)
	vocab, err := readTokenizer(file, &o)
	if errors.Is(err, fs.ErrNotExist) {
		if err := c.options(filepath.Join(dir, configFile), &o); err != nil {
			return nil, err
		}
		file = filepath.Join(dir, vocabFile)
		vocab, err = readVocab(file)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, missing(dir)
		}
	}
	if err != nil {
		return nil, err
	}
	return build(file+": ", vocab, o)
}

// missing says what tokenizer a folder has that has neither of BERT's.
func missing(dir string) error {
	for _, other := range []struct{ file, kind string }{
		{"merges.txt", "byte-level BPE"},
		{"sentencepiece.bpe.model", "SentencePiece"},
		{"tokenizer.model", "SentencePiece"},
		{"spiece.model", "SentencePiece"},
	} {
		if _, err := os.Stat(filepath.Join(dir, other.file)); err == nil {
			return fmt.Errorf("%w: %s has %s, a %s tokenizer; only BERT's WordPiece is implemented", ErrUnsupported, dir, other.file, other.kind)
		}
	}
	return fmt.Errorf("%w: %s has neither %s nor %s; name a folder with a model and its tokenizer", ErrFormat, dir, tokenizerFile, vocabFile)
}

// readVocab reads the lines of vocab.txt, one token each.
func readVocab(file string) ([]string, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("tokenize: %w", err)
	}
	vocab := strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
	seen := make(map[string]int, len(vocab))
	for i, token := range vocab {
		vocab[i] = strings.TrimSuffix(token, "\r")
		if first, ok := seen[vocab[i]]; ok {
			return nil, fmt.Errorf("%w: %s:%d: %q is on line %d already; remove one", ErrVocab, file, i+1, vocab[i], first)
		}
		seen[vocab[i]] = i + 1
	}
	return vocab, nil
}

// name is a token in tokenizer_config.json: a string, or an object with one.
type name string

// UnmarshalJSON implements [json.Unmarshaler].
func (n *name) UnmarshalJSON(b []byte) error {
	var token struct {
		Content string `json:"content"`
	}
	if len(b) > 0 && b[0] == '{' {
		if err := json.Unmarshal(b, &token); err != nil {
			return err
		}
		*n = name(token.Content)
		return nil
	}
	return json.Unmarshal(b, (*string)(n))
}

// config is tokenizer_config.json.
type config struct {
	Kind          string   `json:"tokenizer_class"`
	Lower         *bool    `json:"do_lower_case"`
	StripAccents  *bool    `json:"strip_accents"`
	Chinese       *bool    `json:"tokenize_chinese_chars"`
	Basic         *bool    `json:"do_basic_tokenize"`
	NeverSplit    []string `json:"never_split"`
	Unknown       name     `json:"unk_token"`
	Class         name     `json:"cls_token"`
	Separator     name     `json:"sep_token"`
	Pad           name     `json:"pad_token"`
	Mask          name     `json:"mask_token"`
	AddedByNumber map[string]struct {
		Content string `json:"content"`
	} `json:"added_tokens_decoder"`
}

// options sets what tokenizer_config.json says of a tokenizer with a vocab.txt.
func (c *config) options(file string, o *Options) error {
	kinds := []string{"", "Bert", "DistilBert", "Electra", "MobileBert", "SqueezeBert", "ConvBert", "LayoutLM", "RetriBert", "Lxmert", "Funnel"}
	kind := strings.TrimSuffix(strings.TrimSuffix(c.Kind, "Fast"), "Tokenizer")
	switch {
	case !slices.Contains(kinds, kind):
		return fmt.Errorf("%w: %s: tokenizer_class %q; only BERT's WordPiece is implemented", ErrUnsupported, file, c.Kind)
	case c.Basic != nil && !*c.Basic:
		return fmt.Errorf("%w: %s: do_basic_tokenize is false; only true is implemented", ErrUnsupported, file)
	case len(c.NeverSplit) > 0:
		return fmt.Errorf("%w: %s: never_split has %d tokens; only none is implemented", ErrUnsupported, file, len(c.NeverSplit))
	}
	special := o.Special.orBERT().list()
	for _, token := range c.AddedByNumber {
		if !slices.Contains(special[:], token.Content) {
			return fmt.Errorf("%w: %s: added token %q; without %s only the special tokens are", ErrUnsupported, file, token.Content, tokenizerFile)
		}
	}
	o.Cased = c.Lower != nil && !*c.Lower
	o.Accents = accents(c.StripAccents)
	o.JoinChinese = c.Chinese != nil && !*c.Chinese
	return nil
}

// accents returns the choice that strip_accents makes.
func accents(strip *bool) Accents {
	switch {
	case strip == nil:
		return AccentsFollowCase
	case *strip:
		return AccentsStrip
	}
	return AccentsKeep
}

// typed is a part of tokenizer.json whose type is all that is asked.
type typed struct {
	Type string `json:"type"`
}

// kind returns the type, or "none" for null.
func (p *typed) kind() string {
	if p == nil {
		return "none"
	}
	return p.Type
}

// tokenizer is tokenizer.json.
type tokenizer struct {
	Added []struct {
		ID         int32  `json:"id"`
		Content    string `json:"content"`
		SingleWord bool   `json:"single_word"`
		Normalized bool   `json:"normalized"`
	} `json:"added_tokens"`
	Normalizer *struct {
		typed
		Clean        *bool `json:"clean_text"`
		Chinese      *bool `json:"handle_chinese_chars"`
		StripAccents *bool `json:"strip_accents"`
		Lower        *bool `json:"lowercase"`
	} `json:"normalizer"`
	PreTokenizer *typed     `json:"pre_tokenizer"`
	Decoder      *typed     `json:"decoder"`
	Post         *processor `json:"post_processor"`
	Padding      *struct {
		Token string `json:"pad_token"`
	} `json:"padding"`
	Model struct {
		typed
		Unknown string          `json:"unk_token"`
		Prefix  *string         `json:"continuing_subword_prefix"`
		MaxWord *int            `json:"max_input_chars_per_word"`
		Vocab   json.RawMessage `json:"vocab"`
		Merges  json.RawMessage `json:"merges"`
	} `json:"model"`
}

// modelKind returns the kind of the model for people. Old files leave it out.
func (t *tokenizer) modelKind() string {
	bpe := t.Model.Type == "BPE" || t.Model.Type == "" && t.Model.Merges != nil
	switch {
	case bpe && (t.PreTokenizer.kind() == "ByteLevel" || t.Decoder.kind() == "ByteLevel"):
		return "byte-level BPE"
	case bpe:
		return "BPE"
	case t.Model.Type != "":
		return t.Model.Type
	case bytes.HasPrefix(t.Model.Vocab, []byte("[")):
		return "Unigram"
	}
	return "WordPiece"
}

// readTokenizer reads tokenizer.json into options and returns the vocabulary.
func readTokenizer(file string, o *Options) ([]string, error) {
	var t tokenizer
	if err := readJSON(file, &t); err != nil {
		return nil, err
	}
	unsupported := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s: %s; only BERT's WordPiece is implemented", ErrUnsupported, file, fmt.Sprintf(format, args...))
	}
	if kind := t.modelKind(); kind != "WordPiece" {
		return nil, unsupported("a %s tokenizer", kind)
	}
	if t.Normalizer == nil || t.Normalizer.Type != "BertNormalizer" {
		var n *typed
		if t.Normalizer != nil {
			n = &t.Normalizer.typed
		}
		return nil, unsupported("normalizer %s", n.kind())
	}
	if kind := t.PreTokenizer.kind(); kind != "BertPreTokenizer" {
		return nil, unsupported("pre_tokenizer %s", kind)
	}
	class, separator, ok := t.Post.bert()
	if !ok {
		return nil, unsupported("a post_processor that does not make [CLS] A [SEP] and [CLS] A [SEP] B [SEP]")
	}
	n := t.Normalizer
	o.Cased = n.Lower != nil && !*n.Lower
	o.Accents = accents(n.StripAccents)
	o.JoinChinese = n.Chinese != nil && !*n.Chinese
	o.KeepControls = n.Clean != nil && !*n.Clean
	o.Special.Unknown, o.Special.Class, o.Special.Separator = t.Model.Unknown, class, separator
	if t.Padding != nil {
		o.Special.Pad = t.Padding.Token
	}
	if t.Model.Prefix != nil {
		if o.Prefix = *t.Model.Prefix; o.Prefix == "" {
			return nil, unsupported("an empty continuing_subword_prefix")
		}
	}
	if t.Model.MaxWord != nil {
		if o.MaxWord = *t.Model.MaxWord; o.MaxWord < 1 {
			return nil, fmt.Errorf("%w: %s: max_input_chars_per_word is %d; want 1 or more", ErrFormat, file, o.MaxWord)
		}
	}
	vocab, err := t.vocab(file)
	if err != nil {
		return nil, err
	}
	o.Added = []string{}
	size := len(vocab)
	for _, a := range t.Added {
		if a.SingleWord || a.Normalized {
			return nil, unsupported("added token %q is a single word or normalized", a.Content)
		}
		if a.ID < 0 || int(a.ID) > size || int(a.ID) < len(vocab) && vocab[a.ID] != a.Content || int(a.ID) >= len(vocab) && int(a.ID) != size {
			return nil, fmt.Errorf("%w: %s: added token %q has id %d, which is another token's or leaves a gap after %d tokens", ErrVocab, file, a.Content, a.ID, size)
		}
		if int(a.ID) == size {
			size++
		}
		o.Added = append(o.Added, a.Content)
	}
	return vocab, nil
}

// vocab returns the tokens of the model by id.
func (t *tokenizer) vocab(file string) ([]string, error) {
	var ids map[string]int64
	if err := json.Unmarshal(t.Model.Vocab, &ids); err != nil {
		return nil, fmt.Errorf("%w: %s: model.vocab: %w", ErrFormat, file, err)
	}
	vocab, used := make([]string, len(ids)), make([]bool, len(ids))
	for token, id := range ids {
		if id < 0 || id >= int64(len(vocab)) {
			return nil, fmt.Errorf("%w: %s: token %q has id %d, but there are %d tokens; ids must be 0 to %d", ErrVocab, file, token, id, len(vocab), len(vocab)-1)
		}
		if used[id] {
			return nil, fmt.Errorf("%w: %s: tokens %q and %q have id %d; remove one", ErrVocab, file, min(vocab[id], token), max(vocab[id], token), id)
		}
		vocab[id], used[id] = token, true
	}
	return vocab, nil
}

// processor is the post_processor of tokenizer.json.
type processor struct {
	typed
	Single []step `json:"single"`
	Pair   []step `json:"pair"`
	Class  [2]any `json:"cls"`
	Sep    [2]any `json:"sep"`
}

// step is a token or a text in a template, with its type id.
type step struct {
	Special  *place `json:"SpecialToken"`
	Sequence *place `json:"Sequence"`
}

// place is what a step puts where.
type place struct {
	ID   string `json:"id"`
	Type int    `json:"type_id"`
}

// bert returns the class and the separator token, and whether the processor puts
// them where BERT does.
func (p *processor) bert() (class, separator string, ok bool) {
	switch {
	case p == nil:
		return "", "", false
	case p.Type == "BertProcessing":
		class, ok = p.Class[0].(string)
		separator, _ = p.Sep[0].(string)
		return class, separator, ok && class != "" && separator != ""
	case p.Type != "TemplateProcessing" || len(p.Single) != 3 || p.Single[0].Special == nil || p.Single[2].Special == nil:
		return "", "", false
	}
	class, separator = p.Single[0].Special.ID, p.Single[2].Special.ID
	special := func(id string, kind int) step { return step{Special: &place{id, kind}} }
	text := func(id string, kind int) step { return step{Sequence: &place{id, kind}} }
	single := []step{special(class, 0), text("A", 0), special(separator, 0)}
	pair := append(slices.Clone(single), text("B", 1), special(separator, 1))
	return class, separator, slices.EqualFunc(p.Single, single, step.equal) && slices.EqualFunc(p.Pair, pair, step.equal)
}

// equal reports whether two steps put the same in the same place.
func (s step) equal(o step) bool {
	same := func(a, b *place) bool { return a == b || a != nil && b != nil && *a == *b }
	return same(s.Special, o.Special) && same(s.Sequence, o.Sequence)
}

// readJSON reads a file into v. Its errors name the line.
func readJSON(file string, v any) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("tokenize: %w", err)
	}
	err = json.Unmarshal(b, v)
	if err == nil {
		return nil
	}
	offset := int64(0)
	if e, ok := errors.AsType[*json.SyntaxError](err); ok {
		offset = e.Offset
	} else if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		offset = e.Offset
	}
	line := 1 + bytes.Count(b[:min(max(offset, 0), int64(len(b)))], []byte("\n"))
	return fmt.Errorf("%w: %s:%d: %w", ErrFormat, file, line, err)
}
