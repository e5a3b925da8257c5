// Package tokenize turns text into the token ids of BERT-family models:
// WordPiece, with the cleaning, the accents and the word boundaries of Hugging
// Face's BertTokenizer.
//
// All knowledge of Unicode is in Tables, which the guest reads as well, so that
// both give the same ids whatever Unicode version their languages know.
package tokenize

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"
)

// Defaults of Options.
const (
	defaultMaxWord = 100
	defaultPrefix  = "##"
)

// Accents says what becomes of accents.
type Accents int

// The choices for accents.
const (
	// AccentsFollowCase strips accents where text becomes lower case.
	AccentsFollowCase Accents = iota
	// AccentsStrip decomposes text and drops its non-spacing marks.
	AccentsStrip
	// AccentsKeep leaves text as it is.
	AccentsKeep
)

// Options describe a WordPiece tokenizer. The zero value is that of BERT uncased.
type Options struct {
	// Cased keeps the case of text; otherwise it becomes lower case.
	Cased bool
	// Accents says whether accents are stripped; by default they are unless Cased.
	Accents Accents
	// JoinChinese leaves ideographs inside words; otherwise each is a word.
	JoinChinese bool
	// KeepControls leaves control characters in words; otherwise they, and
	// U+FFFD, are dropped.
	KeepControls bool
	// MaxWord is the length in characters beyond which a word is unknown: 100
	// if it is 0.
	MaxWord int
	// Prefix marks tokens that continue a word: "##" if it is empty.
	Prefix string
	// Special names the special tokens.
	Special SpecialTokens
	// Added are tokens that are recognised verbatim in text before anything
	// else is done to it, the longest first. Those that the vocabulary lacks
	// get the ids after it, in order. Nil means the special tokens.
	Added []string
}

// SpecialTokens are the names of the special tokens. Empty names mean BERT's.
type SpecialTokens struct {
	Unknown   string // "[UNK]", a word that has no tokens
	Class     string // "[CLS]", the start of every encoding
	Separator string // "[SEP]", the end of every text
	Pad       string // "[PAD]", which fills up batches
	Mask      string // "[MASK]", the blank of masked-language training; may be absent from the vocabulary
}

// SpecialIDs are the ids of the special tokens; Mask is -1 where there is none.
type SpecialIDs struct {
	Unknown   int32 `json:"unknown"`
	Class     int32 `json:"class"`
	Separator int32 `json:"separator"`
	Pad       int32 `json:"pad"`
	Mask      int32 `json:"mask"`
}

// Tokenizer turns text into token ids. Any number of goroutines may use one.
type Tokenizer struct {
	tables     *Tables
	vocab      []string
	ids        map[string]int32
	special    SpecialIDs
	prefix     string
	maxWord    int
	keep       Class // what New was told to leave alone: Control, Chinese
	strip      bool
	lower      bool
	pieces     *trie // the vocabulary without added tokens
	continuing int32 // node of pieces after prefix, or -1
	added      *trie
	addedIDs   []int32
	addedFirst [256]bool // whether an added token starts with the byte
	encoders   sync.Pool // of *encoder, for their buffers
}

// New returns a tokenizer for a vocabulary, whose ids are its indices. It keeps
// a copy. Errors wrap ErrVocab: duplicate tokens, tokens that are not UTF-8,
// special tokens that are missing; or ErrUnsupported: options out of range.
func New(vocab []string, o Options) (*Tokenizer, error) {
	return build("", vocab, o)
}

// build is New for a vocabulary from a place that starts its errors, such as
// "FILE: ".
func build(place string, vocab []string, o Options) (*Tokenizer, error) {
	t, err := compose(place, vocab, o)
	if err != nil {
		return nil, err
	}
	if err := t.setSpecial(place, o.Special.orBERT()); err != nil {
		return nil, err
	}
	return t, nil
}

// compose is build without the ids of the special tokens.
func compose(place string, vocab []string, o Options) (*Tokenizer, error) {
	if o.MaxWord < 0 {
		return nil, fmt.Errorf("%w: %swords of at most %d characters; want 1 or more", ErrUnsupported, place, o.MaxWord)
	}
	if o.Accents < AccentsFollowCase || o.Accents > AccentsKeep {
		return nil, fmt.Errorf("%w: %saccents option %d; want 0 to 2", ErrUnsupported, place, o.Accents)
	}
	t := &Tokenizer{
		tables:  DefaultTables(),
		vocab:   slices.Clone(vocab),
		ids:     make(map[string]int32, len(vocab)),
		prefix:  orDefault(o.Prefix, defaultPrefix),
		maxWord: o.MaxWord,
		lower:   !o.Cased,
		strip:   o.Accents == AccentsStrip || o.Accents == AccentsFollowCase && !o.Cased,
	}
	if t.maxWord == 0 {
		t.maxWord = defaultMaxWord
	}
	if o.KeepControls {
		t.keep |= Control
	}
	if o.JoinChinese {
		t.keep |= Chinese
	}
	for i, token := range vocab {
		if !utf8.ValidString(token) {
			return nil, fmt.Errorf("%w: %stoken %d, %q, is not UTF-8", ErrVocab, place, i, token)
		}
		if first, ok := t.ids[token]; ok {
			return nil, fmt.Errorf("%w: %s%q is token %d and token %d; remove one", ErrVocab, place, token, first, i)
		}
		t.ids[token] = int32(i)
	}
	t.encoders.New = func() any { return &encoder{t: t} }
	t.pieces = newTrie(vocab)
	t.continuing = t.pieces.walk(0, t.prefix)
	if err := t.add(place, o.Special.orBERT(), o.Added); err != nil {
		return nil, err
	}
	return t, nil
}

// add makes the added tokens known, by default the special ones that exist.
func (t *Tokenizer) add(place string, names SpecialTokens, added []string) error {
	if added == nil {
		for _, token := range names.list() {
			if _, ok := t.ids[token]; ok && !slices.Contains(added, token) {
				added = append(added, token)
			}
		}
	}
	for i, token := range added {
		if token == "" || !utf8.ValidString(token) {
			return fmt.Errorf("%w: %sadded token %d, %q, is empty or not UTF-8", ErrVocab, place, i, token)
		}
		if slices.Contains(added[:i], token) {
			return fmt.Errorf("%w: %s%q is added twice", ErrVocab, place, token)
		}
		if _, ok := t.ids[token]; !ok {
			t.ids[token] = int32(len(t.vocab))
			t.vocab = append(t.vocab, token)
		}
		t.addedIDs = append(t.addedIDs, t.ids[token])
		t.addedFirst[token[0]] = true
	}
	t.added = newTrie(added)
	return nil
}

// setSpecial looks the special tokens up.
func (t *Tokenizer) setSpecial(place string, names SpecialTokens) error {
	ids := t.special.list()
	for i, name := range names.list() {
		id, ok := t.ids[name]
		if !ok && ids[i] != &t.special.Mask {
			return fmt.Errorf("%w: %sno special token %q among %d tokens; add it or name another", ErrVocab, place, name, len(t.vocab))
		}
		if !ok {
			id = -1
		}
		*ids[i] = id
	}
	return nil
}

// orBERT returns the names with BERT's where they are empty.
func (s SpecialTokens) orBERT() SpecialTokens {
	return SpecialTokens{
		Unknown:   orDefault(s.Unknown, "[UNK]"),
		Class:     orDefault(s.Class, "[CLS]"),
		Separator: orDefault(s.Separator, "[SEP]"),
		Pad:       orDefault(s.Pad, "[PAD]"),
		Mask:      orDefault(s.Mask, "[MASK]"),
	}
}

// list returns the names in the order of the fields.
func (s SpecialTokens) list() [5]string {
	return [5]string{s.Unknown, s.Class, s.Separator, s.Pad, s.Mask}
}

// list returns the ids in the order of the fields.
func (s *SpecialIDs) list() [5]*int32 {
	return [5]*int32{&s.Unknown, &s.Class, &s.Separator, &s.Pad, &s.Mask}
}

// orDefault returns s, or def where s is empty.
func orDefault(s, def string) string {
	if s == "" {
		return def
	}
	return s
}

// Vocab returns a copy of the tokens, indexed by id.
func (t *Tokenizer) Vocab() []string { return slices.Clone(t.vocab) }

// Size returns the number of tokens; ids are below it.
func (t *Tokenizer) Size() int { return len(t.vocab) }

// Special returns the ids of the special tokens.
func (t *Tokenizer) Special() SpecialIDs { return t.special }

// ID returns the id of a token and whether the vocabulary has it.
func (t *Tokenizer) ID(token string) (int32, bool) {
	id, ok := t.ids[token]
	return id, ok
}

// CheckSize returns an error that wraps ErrVocab where a model with embeddings
// for size tokens lacks some of the tokenizer's.
func (t *Tokenizer) CheckSize(size int) error {
	if len(t.vocab) > size {
		return fmt.Errorf("%w: the tokenizer has %d tokens, the model embeds %d, so %q has no embedding; use the tokenizer that the model was trained with",
			ErrVocab, len(t.vocab), size, t.vocab[max(size, 0)])
	}
	return nil
}

// Decode returns text for people that the ids could come from: pieces joined to
// words, words by spaces, without special tokens and without spaces before
// closing punctuation. What encoding drops, such as case, does not come back.
// Ids outside of the vocabulary are skipped.
func (t *Tokenizer) Decode(ids []int32) string {
	var b strings.Builder
	for _, id := range ids {
		if id < 0 || int(id) >= len(t.vocab) || t.isSpecial(id) {
			continue
		}
		token := t.vocab[id]
		piece, continues := strings.CutPrefix(token, t.prefix)
		if b.Len() > 0 && !continues && !strings.Contains(".,!?", token) {
			b.WriteByte(' ')
		}
		if continues && b.Len() > 0 {
			token = piece
		}
		b.WriteString(token)
	}
	return b.String()
}

// isSpecial reports whether the id is that of a special token other than Unknown.
func (t *Tokenizer) isSpecial(id int32) bool {
	s := &t.special
	return id == s.Class || id == s.Separator || id == s.Pad || id == s.Mask
}
