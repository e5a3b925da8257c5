package tokenize

import (
	_ "embed" // The committed tables.
	"encoding/binary"
	"fmt"
	"sync"
)

//go:generate go run ./gen tables.bin

//go:embed tables.bin
var tablesBin []byte

// Class is a set of properties of a code point.
type Class uint8

// The properties that WordPiece asks for. A code point may have several.
const (
	// Space is the Unicode property White_Space: it separates words.
	Space Class = 1 << iota
	// Control is dropped by cleaning: controls other than tab, line feed and
	// carriage return, format and private-use characters, NUL and U+FFFD.
	Control
	// Punctuation is a word of its own: ASCII punctuation and general category P.
	Punctuation
	// Chinese is an ideograph that becomes a word of its own.
	Chinese
	// Mark is a non-spacing mark (general category Mn), dropped when accents are.
	Mark
)

// Limits of the code space and of the algorithmic Hangul syllables.
const (
	codePoints = 0x110000
	pageBits   = 7
	pageSize   = 1 << pageBits

	// maxRun is the most code points that a mapping has.
	maxRun = 4

	hangulFirst = 0xAC00
	hangulCount = 11172
	hangulLead  = 0x1100
	hangulVowel = 0x1161
	hangulTail  = 0x11A7
	hangulTails = 28
	hangulBlock = 21 * hangulTails
)

// Tables holds every Unicode property that the tokenizer uses, as plain
// integers, so that other languages can read the same ones.
//
// The record of code point c is e = Entry[Page[c>>7]<<7 | c&127]. Class[e] and
// Combining[e] are its properties and its canonical combining class. Decomposed[e]
// and Lower[e] are offsets into Runes of its full canonical decomposition and of
// its lower case, each stored as a length, 1 to 4, and that many code points;
// offset 0, where the length is 0, means that the code point maps to itself. Hangul
// syllables, U+AC00 to U+D7A3, have no stored decomposition: it is computed as
// section 3.12 of the Unicode Standard says.
//
// Tables are read only once made: any number of goroutines may use them.
type Tables struct {
	Page       []uint16 // block of each 128 code points; length 8,704
	Entry      []uint16 // record of each code point of each block
	Class      []Class  // one a record
	Combining  []uint8  // one a record
	Decomposed []uint16 // one a record, offset into Runes
	Lower      []uint16 // one a record, offset into Runes
	Runes      []uint32 // lengths and code points; starts with a length of 0
}

// DefaultTables returns the tables that this package was built with. They are
// shared and must not be changed.
var DefaultTables = sync.OnceValue(func() *Tables {
	t, err := ParseTables(tablesBin)
	if err != nil {
		panic(err) // A broken build: a test parses the committed bytes.
	}
	return t
})

// entry returns the record of c, which must be a code point.
func (t *Tables) entry(c int32) int {
	return int(t.Entry[int(t.Page[c>>pageBits])<<pageBits|int(c&(pageSize-1))])
}

// Properties returns the class and the canonical combining class of c. Values
// that are no code points have neither.
func (t *Tables) Properties(c rune) (Class, uint8) {
	if uint32(c) >= codePoints {
		return 0, 0
	}
	e := t.entry(c)
	return t.Class[e], t.Combining[e]
}

// AppendDecomposed appends the full canonical decomposition (NFD) of c to dst.
func (t *Tables) AppendDecomposed(dst []rune, c rune) []rune {
	if s := c - hangulFirst; s >= 0 && s < hangulCount {
		dst = append(dst, hangulLead+s/hangulBlock, hangulVowel+s%hangulBlock/hangulTails)
		if tail := s % hangulTails; tail != 0 {
			dst = append(dst, hangulTail+tail)
		}
		return dst
	}
	if uint32(c) >= codePoints {
		return append(dst, c)
	}
	return t.appendRun(dst, c, t.Decomposed[t.entry(c)])
}

// AppendLower appends the lower case of c, without regard to context, to dst.
func (t *Tables) AppendLower(dst []rune, c rune) []rune {
	if uint32(c) >= codePoints {
		return append(dst, c)
	}
	return t.appendRun(dst, c, t.Lower[t.entry(c)])
}

// appendRun appends the code points stored at offset at, or c where there are none.
func (t *Tables) appendRun(dst []rune, c rune, at uint16) []rune {
	if at == 0 {
		return append(dst, c)
	}
	for _, r := range t.Runes[int(at)+1 : int(at)+1+int(t.Runes[at])] {
		dst = append(dst, rune(r))
	}
	return dst
}

// The binary encoding is little-endian: the magic number, the version, the
// lengths of Page, Entry, Class and Runes as uint32; then Page, Entry, Class,
// Combining, Decomposed, Lower and Runes, each padded with zeros to 4 bytes.
const (
	tablesMagic   = 0x42415457 // "WTAB"
	tablesVersion = 1
	tablesHeader  = 6 * 4
)

// pad4 returns n rounded up to a multiple of 4.
func pad4(n int) int { return (n + 3) &^ 3 }

// Append appends the binary encoding of the tables to dst. Starting at an
// address divisible by 4, every array in it is aligned to its element.
func (t *Tables) Append(dst []byte) []byte {
	le := binary.LittleEndian
	for _, n := range []int{tablesMagic, tablesVersion, len(t.Page), len(t.Entry), len(t.Class), len(t.Runes)} {
		dst = le.AppendUint32(dst, uint32(n))
	}
	halves := func(s []uint16) {
		for _, v := range s {
			dst = le.AppendUint16(dst, v)
		}
		dst = append(dst, make([]byte, pad4(2*len(s))-2*len(s))...)
	}
	halves(t.Page)
	halves(t.Entry)
	for _, c := range t.Class {
		dst = append(dst, byte(c))
	}
	dst = append(dst, make([]byte, pad4(len(t.Class))-len(t.Class))...)
	dst = append(dst, t.Combining...)
	dst = append(dst, make([]byte, pad4(len(t.Combining))-len(t.Combining))...)
	halves(t.Decomposed)
	halves(t.Lower)
	for _, v := range t.Runes {
		dst = le.AppendUint32(dst, v)
	}
	return dst
}

// ParseTables reads what Append wrote, all of b, and checks that no look-up can
// leave the tables. The result does not share memory with b. Errors wrap ErrFormat.
func ParseTables(b []byte) (*Tables, error) {
	le := binary.LittleEndian
	if len(b) < tablesHeader || le.Uint32(b) != tablesMagic {
		return nil, fmt.Errorf("%w: %d bytes that are not Unicode tables; run go generate", ErrFormat, len(b))
	}
	if v := le.Uint32(b[4:]); v != tablesVersion {
		return nil, fmt.Errorf("%w: Unicode tables of version %d, want %d; run go generate", ErrFormat, v, tablesVersion)
	}
	// Offsets into Entry and Runes are 16 bits wide, which bounds every length.
	var n [4]int
	for i, limit := range []uint32{codePoints / pageSize, codePoints, 1 << 16, 1 << 16} {
		v := le.Uint32(b[8+4*i:])
		if v > limit {
			return nil, fmt.Errorf("%w: Unicode tables: length %d in header field %d, at most %d", ErrFormat, v, 2+i, limit)
		}
		n[i] = int(v)
	}
	pages, entries, records, runes := n[0], n[1], n[2], n[3]
	want := tablesHeader + pad4(2*pages) + pad4(2*entries) + 2*pad4(records) + 2*pad4(2*records) + 4*runes
	if len(b) != want {
		return nil, fmt.Errorf("%w: Unicode tables of %d bytes, the header says %d", ErrFormat, len(b), want)
	}
	b = b[tablesHeader:]
	bytes := func(n int) []byte {
		s := b[:n]
		b = b[pad4(n):]
		return s
	}
	halves := func(n int) []uint16 {
		s := make([]uint16, n)
		for i, p := 0, bytes(2*n); i < n; i++ {
			s[i] = le.Uint16(p[2*i:])
		}
		return s
	}
	t := &Tables{Page: halves(pages), Entry: halves(entries), Class: make([]Class, records)}
	for i, c := range bytes(records) {
		t.Class[i] = Class(c)
	}
	t.Combining = append([]byte(nil), bytes(records)...)
	t.Decomposed, t.Lower = halves(records), halves(records)
	t.Runes = make([]uint32, runes)
	for i := range t.Runes {
		t.Runes[i] = le.Uint32(b[4*i:])
	}
	if err := t.validate(); err != nil {
		return nil, err
	}
	return t, nil
}

// validate checks that every look-up stays inside the tables.
func (t *Tables) validate() error {
	if len(t.Page) != codePoints/pageSize {
		return fmt.Errorf("%w: Unicode tables have %d pages, want %d", ErrFormat, len(t.Page), codePoints/pageSize)
	}
	for i, p := range t.Page {
		if (int(p)+1)*pageSize > len(t.Entry) {
			return fmt.Errorf("%w: Unicode tables: page %d names block %d of %d", ErrFormat, i, p, len(t.Entry)/pageSize)
		}
	}
	for i, e := range t.Entry {
		if int(e) >= len(t.Class) {
			return fmt.Errorf("%w: Unicode tables: entry %d names record %d of %d", ErrFormat, i, e, len(t.Class))
		}
	}
	for e := range t.Class {
		for _, at := range []int{int(t.Decomposed[e]), int(t.Lower[e])} {
			if at == 0 {
				continue
			}
			if at >= len(t.Runes) || t.Runes[at] == 0 || t.Runes[at] > maxRun || int(t.Runes[at]) >= len(t.Runes)-at {
				return fmt.Errorf("%w: Unicode tables: record %d maps to a run at %d that is not 1 to %d of %d code points", ErrFormat, e, at, maxRun, len(t.Runes))
			}
			for _, r := range t.Runes[at+1 : at+1+int(t.Runes[at])] {
				if r >= codePoints {
					return fmt.Errorf("%w: Unicode tables: record %d maps to %#x, which is no code point", ErrFormat, e, r)
				}
			}
		}
	}
	return nil
}
