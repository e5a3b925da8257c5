package tokenize

import (
	"math"
	"slices"
	"unicode/utf8"
)

// Encode appends the ids of text to dst: the class token, those of its words and
// the separator. More than limit ids are cut, at the end of the text; limit
// counts the two special tokens, so that less than 2 acts as 2, except that 0 or
// less means no limit. Bytes of text that are not UTF-8 count as U+FFFD.
//
// The time is linear in the length of the text that the ids need.
func (t *Tokenizer) Encode(dst []int32, text string, limit int) []int32 {
	dst = append(dst, t.special.Class)
	stop := math.MaxInt
	if limit > 0 {
		stop = len(dst) + max(limit-2, 0)
	}
	return append(t.encodeText(dst, text, stop), t.special.Separator)
}

// EncodePair appends the ids of two texts to dst, the class token, a, the
// separator, b and the separator, and their types to types: 0 up to the first
// separator, 1 after it. Where there are more than limit ids the longer text
// loses tokens until both are as long, then both do; limit counts the three
// special tokens, so that less than 3 acts as 3, except that 0 or less means no
// limit.
func (t *Tokenizer) EncodePair(dst, types []int32, a, b string, limit int) (ids, typeIDs []int32) {
	dst = append(dst, t.special.Class)
	start := len(dst)
	dst = t.encodeText(dst, a, math.MaxInt)
	middle := len(dst)
	// b is encoded after a place for the separator and moved down if a is cut.
	dst = t.encodeText(append(dst, t.special.Separator), b, math.MaxInt)
	na, nb := middle-start, len(dst)-middle-1
	ka, kb := na, nb
	if limit > 0 {
		ka, kb = truncatePair(na, nb, max(limit-3, 0))
	}
	dst[start+ka] = t.special.Separator
	copy(dst[start+ka+1:], dst[middle+1:middle+1+kb])
	dst = append(dst[:start+ka+1+kb], t.special.Separator)
	for range ka + 2 {
		types = append(types, 0)
	}
	for range kb + 1 {
		types = append(types, 1)
	}
	return dst, types
}

// truncatePair returns how many of na and nb tokens to keep so that they are at
// most room together. The second text has the odd token if it is the longer one
// or both are as long, as in the reference.
func truncatePair(na, nb, room int) (ka, kb int) {
	if na+nb <= room {
		return na, nb
	}
	short, long := min(na, nb), room/2+room%2
	if short <= room/2 {
		long = room - short
	} else {
		short = room / 2
	}
	if na > nb {
		return long, short
	}
	return short, long
}

// Tokens returns the tokens of text for people to read, without the special ones
// that Encode puts around them.
func (t *Tokenizer) Tokens(text string) []string {
	ids := t.encodeText(nil, text, math.MaxInt)
	tokens := make([]string, len(ids))
	for i, id := range ids {
		tokens[i] = t.vocab[id]
	}
	return tokens
}

// encodeText appends the ids of text to dst until dst has stop of them.
func (t *Tokenizer) encodeText(dst []int32, text string, stop int) []int32 {
	e := t.encoders.Get().(*encoder)
	e.dst = dst
	defer e.release()
	for i := 0; i < len(text) && len(e.dst) < stop; {
		if t.addedFirst[text[i]] {
			if n, size := longest(t.added, 0, text[i:]); size > 0 {
				e.endWord()
				e.dst = append(e.dst, t.addedIDs[n])
				i += size
				continue
			}
		}
		c, size := rune(text[i]), 1
		if c >= utf8.RuneSelf {
			c, size = utf8.DecodeRuneInString(text[i:])
		}
		i += size
		e.char(c)
	}
	if len(e.dst) < stop {
		e.endWord()
	}
	return e.dst[:min(len(e.dst), stop)]
}

// encoder holds the word that is being read. It is empty between texts.
type encoder struct {
	t    *Tokenizer
	dst  []int32
	word []uint32 // code points of the word, with combining classes in the top 8 bits
	run  int      // start of the marks at the end of word that are not yet in canonical order
	long int      // characters of the word beyond the longest allowed, which are not kept
	utf8 []byte   // the word as bytes
}

// release gives the encoder back without what it read and wrote.
func (e *encoder) release() {
	e.dst, e.word, e.run, e.long = nil, e.word[:0], 0, 0
	e.t.encoders.Put(e)
}

// char takes the next character of the text: cleaning and ideographs.
func (e *encoder) char(c rune) {
	tables := e.t.tables
	class := tables.Class[tables.entry(c)] &^ e.t.keep
	switch {
	case class&Control != 0:
	case class&Space != 0:
		e.endWord()
	case class&Chinese != 0:
		e.endWord()
		e.accents(c)
		e.endWord()
	default:
		e.accents(c)
	}
}

// accents decomposes a character and drops its non-spacing marks.
func (e *encoder) accents(c rune) {
	tables := e.t.tables
	if !e.t.strip {
		e.lower(c, 0)
		return
	}
	if c < utf8.RuneSelf { // Decomposition and marks begin beyond ASCII.
		e.order()
		e.lower(c, 0)
		return
	}
	var parts [maxRun]rune
	for _, d := range tables.AppendDecomposed(parts[:0], c) {
		at := tables.entry(d)
		combining := tables.Combining[at]
		if combining == 0 {
			e.order()
		}
		if tables.Class[at]&Mark == 0 {
			e.lower(d, combining)
		}
	}
}

// lower maps a character to lower case.
func (e *encoder) lower(c rune, combining uint8) {
	tables := e.t.tables
	if at := tables.entry(c); e.t.lower && tables.Lower[at] != 0 {
		var parts [maxRun]rune
		for _, l := range tables.AppendLower(parts[:0], c) {
			e.split(l, tables.Class[tables.entry(l)], combining)
		}
	} else {
		e.split(c, tables.Class[at], combining)
	}
}

// split adds a character to the word or ends the word.
func (e *encoder) split(c rune, class Class, combining uint8) {
	switch {
	case class&Space != 0:
		e.endWord()
	case class&Punctuation != 0:
		e.endWord()
		e.word = append(e.word, uint32(c))
		e.endWord()
	case len(e.word) == e.t.maxWord:
		e.long++
	default:
		e.word = append(e.word, uint32(combining)<<24|uint32(c))
		if combining == 0 {
			e.run = len(e.word)
		}
	}
}

// order puts the marks that end the word into canonical order. Nearly all marks
// were dropped: what is left are spacing marks with a combining class.
func (e *encoder) order() {
	if len(e.word)-e.run > 1 {
		slices.SortStableFunc(e.word[e.run:], func(a, b uint32) int { return int(a>>24) - int(b>>24) })
	}
	e.run = len(e.word)
}

// endWord appends the ids of the word, if there is one, and empties it.
func (e *encoder) endWord() {
	if len(e.word) == 0 {
		return
	}
	if e.long > 0 {
		e.dst = append(e.dst, e.t.special.Unknown)
	} else {
		e.order()
		e.utf8 = e.utf8[:0]
		for _, c := range e.word {
			e.utf8 = utf8.AppendRune(e.utf8, rune(c&0xFFFFFF))
		}
		e.dst = e.t.appendPieces(e.dst, e.utf8)
	}
	e.word, e.run, e.long = e.word[:0], 0, 0
}

// appendPieces appends the ids of the longest tokens that make up the word, one
// after the other, or the unknown token where they do not.
func (t *Tokenizer) appendPieces(dst []int32, word []byte) []int32 {
	start, node := len(dst), int32(0)
	for len(word) > 0 {
		id, size := longest(t.pieces, node, word)
		if size == 0 {
			return append(dst[:start], t.special.Unknown)
		}
		dst, word, node = append(dst, id), word[size:], t.continuing
	}
	return dst
}
