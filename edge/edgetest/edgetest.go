// Package edgetest puts WebAssembly modules together, byte by byte: kernels that
// no compiler would make, to be hostile in tests and measurements.
package edgetest

import (
	"encoding/binary"
	"math"
	"slices"

	"github.com/wisp-project/wisp/internal/layout"
)

// Module assembles a WebAssembly module that exports a memory and a function run
// with the given body, which has two locals and one global, all of type i32.
func Module(pages byte, body ...byte) []byte { return ModuleWithStart(pages, nil, body...) }

// ModuleWithStart is module for one that has a start function, unless it is nil.
func ModuleWithStart(pages byte, start []byte, body ...byte) []byte {
	sized := func(b ...byte) []byte { return append(binary.AppendUvarint(nil, uint64(len(b))), b...) }
	section := func(id byte, content ...byte) []byte { return append([]byte{id}, sized(content...)...) }
	var starts []byte
	if start == nil {
		start = []byte{End}
	} else {
		starts = section(8, 1)
	}
	return slices.Concat(
		[]byte{0, 'a', 's', 'm', 1, 0, 0, 0},
		section(1, 2, 0x60, 0, 1, 0x7f, 0x60, 0, 0), // types: () -> i32, () -> ()
		section(3, 2, 0, 1),
		section(5, 1, 0, pages),
		section(6, 1, 0x7f, 1, 0x41, 0, End),
		section(7, append([]byte{2, 6}, append([]byte("memory"), 2, 0, 3, 'r', 'u', 'n', 0, 0)...)...),
		starts,
		section(10, slices.Concat([]byte{2}, sized(append([]byte{1, 2, 0x7f}, body...)...), sized(append([]byte{0}, start...)...))...),
	)
}

// Instructions.
const (
	Unreachable = 0x00
	Loop        = 0x03
	End         = 0x0b
	Br          = 0x0c
	BrIf        = 0x0d
	Call        = 0x10
	Drop        = 0x1a
	LocalGet    = 0x20
	LocalSet    = 0x21
	LocalTee    = 0x22
	GlobalGet   = 0x23
	GlobalSet   = 0x24
	I32Eq       = 0x46
	I32LtU      = 0x49
	I32Add      = 0x6a
	I32Shl      = 0x74
	F32FromI32  = 0xb2
	Void        = 0x40 // the type of a block
)

// MemorySize pushes the pages of the memory.
var MemorySize = []byte{0x3f, 0}

// MemoryGrow grows the memory by the pages on the stack.
var MemoryGrow = []byte{0x40, 0}

// Word pushes a constant.
func Word(v uint32) []byte {
	b := []byte{0x41}
	for n := int32(v); ; n >>= 7 {
		if n>>6 == 0 || n>>6 == -1 {
			return append(b, byte(n&0x7f))
		}
		b = append(b, byte(n&0x7f)|0x80)
	}
}

// Load pushes the word at an address.
func Load(addr uint32) []byte { return append(Word(addr), 0x28, 2, 0) }

// Store writes what value pushes to an address.
func Store(addr uint32, value ...byte) []byte {
	return slices.Concat(Word(addr), value, []byte{0x36, 2, 0})
}

// When runs code if two words are equal.
func When(a, b []byte, code ...byte) []byte {
	return slices.Concat(a, b, []byte{I32Eq, 0x04, Void}, code, []byte{End})
}

// Says answers with one hit.
func Says(m layout.Map, hits, item uint32, acc, score []byte) []byte {
	first := m.Answer + layout.AnswerHeaderLen
	answer := append(Store(m.Answer, Word(layout.StatusOK)...), Store(m.Answer+4, Word(hits)...)...)
	for at := uint32(8); at < layout.AnswerHeaderLen; at += 4 { // nothing else
		answer = append(answer, Store(m.Answer+at, Word(0)...)...)
	}
	return slices.Concat(answer, Store(first, Word(item)...), Store(first+4, acc...), Word(first+8), score, []byte{0x38, 2, 0})
}

// Float pushes a float constant.
func Float(v float32) []byte {
	return binary.LittleEndian.AppendUint32([]byte{0x43}, math.Float32bits(v))
}

// Asked pushes the K of the request.
func Asked(m layout.Map) []byte { return Load(m.Request + 12) }
