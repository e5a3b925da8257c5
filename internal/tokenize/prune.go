package tokenize

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/wisp-project/wisp/internal/atomicfile"
)

// Prune returns a tokenizer with at most size of the tokens, and for each of its
// ids the id that the token has in t. Special and added tokens come first, in the
// order that they had, then the others by falling count, which counts gives for
// each id of t; those never counted only come in where they are single
// characters. Those and their continuing forms are kept whatever their count, so
// that any text whose characters t knows still encodes, in smaller pieces. The
// error wraps ErrUnsupported where size is less than what must be kept.
func (t *Tokenizer) Prune(size int, counts []int) (*Tokenizer, []int32, error) {
	if len(counts) != len(t.vocab) {
		return nil, nil, fmt.Errorf("%w: counts of %d tokens for a vocabulary of %d", ErrUnsupported, len(counts), len(t.vocab))
	}
	var first, kept, rest []int32
	for i, token := range t.vocab {
		id := int32(i)
		switch {
		case slices.Contains(t.addedIDs, id) || id == t.special.Unknown || t.isSpecial(id):
			first = append(first, id)
		case utf8.RuneCountInString(strings.TrimPrefix(token, t.prefix)) == 1:
			kept = append(kept, id)
		case counts[i] > 0:
			rest = append(rest, id)
		}
	}
	if must := len(first) + len(kept); must > size {
		return nil, nil, fmt.Errorf("%w: %d tokens are too few: special tokens and single characters alone are %d", ErrUnsupported, size, must)
	}
	byCount := func(a, b int32) int { return counts[b] - counts[a] }
	slices.SortStableFunc(rest, byCount)
	kept = append(kept, rest[:min(len(rest), size-len(first)-len(kept))]...)
	slices.SortStableFunc(kept, byCount)
	from := append(first, kept...)
	vocab := make([]string, len(from))
	for i, id := range from {
		vocab[i] = t.vocab[id]
	}
	p, err := New(vocab, t.Options())
	return p, from, err
}

// Options returns those with which New makes this tokenizer of its vocabulary.
func (t *Tokenizer) Options() Options {
	o := Options{
		Cased: !t.lower, Accents: AccentsKeep, MaxWord: t.maxWord, Prefix: t.prefix, Added: []string{},
		KeepControls: t.keep&Control != 0, JoinChinese: t.keep&Chinese != 0,
	}
	if t.strip {
		o.Accents = AccentsStrip
	}
	for _, id := range t.addedIDs {
		o.Added = append(o.Added, t.vocab[id])
	}
	o.Special = t.names()
	return o
}

// names returns the names of the special tokens; that of Mask is BERT's where
// there is none.
func (t *Tokenizer) names() SpecialTokens {
	s := SpecialTokens{
		Unknown: t.vocab[t.special.Unknown], Class: t.vocab[t.special.Class],
		Separator: t.vocab[t.special.Separator], Pad: t.vocab[t.special.Pad],
	}
	if t.special.Mask >= 0 {
		s.Mask = t.vocab[t.special.Mask]
	}
	return s
}

// Save writes the tokenizer to the folder dir, which must be there, as vocab.txt
// and tokenizer_config.json, from which Load and transformers read it. The error
// wraps ErrUnsupported for a tokenizer that these cannot describe.
func (t *Tokenizer) Save(dir string) error {
	names := t.names()
	special := names.orBERT().list()
	odd := t.prefix != defaultPrefix || t.maxWord != defaultMaxWord || t.keep&Control != 0
	for _, id := range t.addedIDs {
		odd = odd || !slices.Contains(special[:], t.vocab[id])
	}
	for _, token := range t.vocab {
		odd = odd || strings.ContainsAny(token, "\r\n")
	}
	if odd {
		return fmt.Errorf("%w: a tokenizer with added tokens or another prefix, word length or cleaning than BERT's cannot be written as %s", ErrUnsupported, vocabFile)
	}
	c := map[string]any{
		"tokenizer_class": "BertTokenizer", "do_lower_case": t.lower, "strip_accents": t.strip, "tokenize_chinese_chars": t.keep&Chinese == 0,
		"unk_token": names.Unknown, "cls_token": names.Class, "sep_token": names.Separator, "pad_token": names.Pad,
	}
	if names.Mask != "" {
		c["mask_token"] = names.Mask
	}
	b, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return fmt.Errorf("tokenize: save: %w", err)
	}
	for name, content := range map[string][]byte{vocabFile: []byte(strings.Join(t.vocab, "\n") + "\n"), configFile: append(b, '\n')} {
		if err := atomicfile.Write(filepath.Join(dir, name), content); err != nil {
			return fmt.Errorf("tokenize: save: %w", err)
		}
	}
	return nil
}
