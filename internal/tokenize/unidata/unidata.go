// Package unidata makes the tables of package tokenize from those of Go and of
// golang.org/x/text. Programs do not import it: they read what it made.
package unidata

import (
	"fmt"
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
	return tokenize.NewTables(func(c rune) tokenize.Record {
		r := tokenize.Record{Class: class(c, categorised)}
		s := string(c)
		if unicode.Is(decomposable, c) && !unicode.Is(hangul, c) {
			r.Combining = norm.NFD.PropertiesString(s).CCC()
			if d := norm.NFD.String(s); d != s {
				r.Decomposed = d
			}
		}
		if l := lower.String(s); l != s {
			r.Lower = l
		}
		return r
	})
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

// hangul are the syllables that decompose by arithmetic.
var hangul = &unicode.RangeTable{R16: []unicode.Range16{{Lo: 0xAC00, Hi: 0xD7A3, Stride: 1}}}
