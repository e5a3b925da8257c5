// Package unidata makes the tables of package tokenize from those of Go and of
// golang.org/x/text. Programs do not import it: they read what it made.
package unidata

import (
	"fmt"
	"math"
	"unicode"

	"golang.org/x/text/cases"
	"golang.org/x/text/language"
	"golang.org/x/text/unicode/norm"
	"golang.org/x/text/unicode/rangetable"

	"github.com/wisp-project/wisp/internal/tokenize"
)

// Version is the Unicode version of the case mappings. Another version of Go may
// have another one and so make other tables. (The reference has those of the Rust
// that it was built with: some 50 letters more, in scripts that no vocabulary has.)
const Version = unicode.Version

// The Unicode versions of the reference implementation. To it, later characters
// are plain letters that do not decompose.
const (
	categoriesVersion     = "8.0.0"
	decompositionsVersion = "9.0.0"
)

// reclassified are the characters whose category has changed since
// categoriesVersion in a way that matters here, with their classes in it.
var reclassified = map[rune]tokenize.Class{
	0x166D:  tokenize.Punctuation, // Canadian syllabics chi sign, now a symbol
	0x1734:  tokenize.Mark,        // Hanunoo sign pamudpod, now a spacing mark
	0x1885:  0,                    // Mongolian letter baluda, now a mark
	0x1886:  0,                    // Mongolian letter three baluda, now a mark
	0xA9BD:  0,                    // Javanese consonant sign keret, now a non-spacing mark
	0x111C9: tokenize.Punctuation, // Sharada sandhi mark, now a mark
}

// chinese are the blocks whose characters are words of their own. CJK Extension E
// starts 256 characters late in the reference, and so it does here.
var chinese = &unicode.RangeTable{
	R16: []unicode.Range16{
		{Lo: 0x3400, Hi: 0x4DBF, Stride: 1},
		{Lo: 0x4E00, Hi: 0x9FFF, Stride: 1},
		{Lo: 0xF900, Hi: 0xFAFF, Stride: 1},
	},
	R32: []unicode.Range32{
		{Lo: 0x20000, Hi: 0x2A6DF, Stride: 1},
		{Lo: 0x2A700, Hi: 0x2B81F, Stride: 1},
		{Lo: 0x2B920, Hi: 0x2CEAF, Stride: 1},
		{Lo: 0x2F800, Hi: 0x2FA1F, Stride: 1},
	},
}

// Build makes the tables. It fails where they outgrow their 16-bit offsets.
func Build() (*tokenize.Tables, error) {
	categorised, decomposable := rangetable.Assigned(categoriesVersion), rangetable.Assigned(decompositionsVersion)
	if categorised == nil || decomposable == nil {
		return nil, fmt.Errorf("unidata: x/text does not know Unicode %s and %s", categoriesVersion, decompositionsVersion)
	}
	lower := cases.Lower(language.Und, cases.HandleFinalSigma(false))
	b := builder{
		tables:  &tokenize.Tables{Runes: []uint32{0}},
		runs:    map[string]uint16{"": 0},
		records: map[record]uint16{},
		blocks:  map[block]uint16{},
	}
	for first := rune(0); first <= unicode.MaxRune; first += blockSize {
		var page block
		for i := range page {
			c := first + rune(i)
			r := record{class: class(c, categorised)}
			s := string(c)
			if unicode.Is(decomposable, c) && !unicode.Is(hangul, c) {
				r.combining = norm.NFD.PropertiesString(s).CCC()
				if d := norm.NFD.String(s); d != s {
					r.decomposed = b.run(d)
				}
			}
			if l := lower.String(s); l != s {
				r.lower = b.run(l)
			}
			page[i] = b.record(r)
		}
		b.page(page)
	}
	if b.full {
		return nil, fmt.Errorf("unidata: more than %d records or mapped code points; the tables need wider offsets", math.MaxUint16)
	}
	return b.tables, nil
}

// class returns the properties of c, where categorised says which code points
// have a category.
func class(c rune, categorised *unicode.RangeTable) tokenize.Class {
	var k tokenize.Class
	if unicode.Is(unicode.White_Space, c) {
		k |= tokenize.Space
	}
	if unicode.Is(chinese, c) {
		k |= tokenize.Chinese
	}
	if c == unicode.ReplacementChar {
		k |= tokenize.Control
	}
	if c < unicode.MaxASCII && (unicode.IsPunct(c) || unicode.IsSymbol(c)) {
		return k | tokenize.Punctuation
	}
	if old, ok := reclassified[c]; ok {
		return k | old
	}
	switch {
	case !unicode.Is(categorised, c), c == '\t', c == '\n', c == '\r':
	case unicode.In(c, unicode.Cc, unicode.Cf, unicode.Co):
		k |= tokenize.Control
	case unicode.IsPunct(c):
		k |= tokenize.Punctuation
	case unicode.Is(unicode.Mn, c):
		k |= tokenize.Mark
	}
	return k
}

// blockSize is the number of code points that share a page.
const blockSize = 128

// hangul are the syllables that decompose by arithmetic.
var hangul = &unicode.RangeTable{R16: []unicode.Range16{{Lo: 0xAC00, Hi: 0xD7A3, Stride: 1}}}

// record is what the tables know of a code point.
type record struct {
	class             tokenize.Class
	combining         uint8
	decomposed, lower uint16
}

// block is the records of blockSize code points.
type block [blockSize]uint16

// builder shares equal runs, records and blocks.
type builder struct {
	tables  *tokenize.Tables
	runs    map[string]uint16
	records map[record]uint16
	blocks  map[block]uint16
	full    bool
}

// index returns n as an offset and notes where it is too large for one.
func (b *builder) index(n int) uint16 {
	b.full = b.full || n > math.MaxUint16
	return uint16(n)
}

// run returns the offset of the code points of s.
func (b *builder) run(s string) uint16 {
	at, ok := b.runs[s]
	if !ok {
		at = b.index(len(b.tables.Runes))
		b.runs[s] = at
		points := []rune(s)
		b.tables.Runes = append(b.tables.Runes, uint32(len(points)))
		for _, c := range points {
			b.tables.Runes = append(b.tables.Runes, uint32(c))
		}
	}
	return at
}

// record returns the index of r.
func (b *builder) record(r record) uint16 {
	at, ok := b.records[r]
	if !ok {
		t := b.tables
		at = b.index(len(t.Class))
		b.records[r] = at
		t.Class = append(t.Class, r.class)
		t.Combining = append(t.Combining, r.combining)
		t.Decomposed = append(t.Decomposed, r.decomposed)
		t.Lower = append(t.Lower, r.lower)
	}
	return at
}

// page adds the next page.
func (b *builder) page(p block) {
	at, ok := b.blocks[p]
	if !ok {
		at = b.index(len(b.tables.Entry) / blockSize)
		b.blocks[p] = at
		b.tables.Entry = append(b.tables.Entry, p[:]...)
	}
	b.tables.Page = append(b.tables.Page, at)
}
