package tokenize

import (
	"fmt"
	"math"
)

// Record is what the tables know of a code point.
type Record struct {
	Class             Class
	Combining         uint8
	Decomposed, Lower string // full mappings; empty where the code point maps to itself
}

// NewTables makes the tables from the record of every code point. Errors wrap
// ErrUnsupported: more of them than 16-bit offsets can name.
func NewTables(record func(c rune) Record) (*Tables, error) {
	b := newBuilder()
	for first := rune(0); first < codePoints; first += pageSize {
		b.tables.Page = append(b.tables.Page, b.block(first, record))
	}
	return b.done()
}

// block is the records of the code points of a page.
type block [pageSize]uint16

// builder makes tables in which equal runs, records and blocks are stored once.
type builder struct {
	tables  *Tables
	runs    map[string]uint16
	records map[Record]uint16
	blocks  map[block]uint16
	full    bool
}

func newBuilder() *builder {
	return &builder{
		tables:  &Tables{Runes: []uint32{0}},
		runs:    map[string]uint16{"": 0},
		records: map[Record]uint16{},
		blocks:  map[block]uint16{},
	}
}

// done returns the tables, once every page has its block.
func (b *builder) done() (*Tables, error) {
	if b.full {
		return nil, fmt.Errorf("%w: Unicode tables of more than %d records or mapped code points; they need wider offsets", ErrUnsupported, math.MaxUint16)
	}
	return b.tables, nil
}

// index returns n as an offset and notes where it is too large for one.
func (b *builder) index(n int) uint16 {
	b.full = b.full || n > math.MaxUint16
	return uint16(n)
}

// block returns the index of the block of the page that starts with first.
func (b *builder) block(first rune, record func(c rune) Record) uint16 {
	var p block
	for i := range p {
		p[i] = b.record(record(first + rune(i)))
	}
	at, ok := b.blocks[p]
	if !ok {
		at = b.index(len(b.tables.Entry) / pageSize)
		b.blocks[p] = at
		b.tables.Entry = append(b.tables.Entry, p[:]...)
	}
	return at
}

// record returns the index of r.
func (b *builder) record(r Record) uint16 {
	at, ok := b.records[r]
	if !ok {
		t := b.tables
		at = b.index(len(t.Class))
		b.records[r] = at
		t.Class = append(t.Class, r.Class)
		t.Combining = append(t.Combining, r.Combining)
		t.Decomposed = append(t.Decomposed, b.run(r.Decomposed))
		t.Lower = append(t.Lower, b.run(r.Lower))
	}
	return at
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
