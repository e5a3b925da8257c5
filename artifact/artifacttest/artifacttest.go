// Package artifacttest makes hostile .wisp files: mutants of a file whose digests
// and signature are made right again, so that what lies behind them is reached. It
// knows the format from FORMAT.md alone and not from the package it tests.
package artifacttest

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"slices"
)

// The sizes and places of FORMAT.md, in bytes.
const (
	headerSize = 256
	entrySize  = 96
	digestAt   = 64
	placeAt    = 96 // of the signature
	placeEnd   = 200
	maxEntries = 64
)

var le = binary.LittleEndian

// entries returns the number of table entries of b, as far as they are there.
func entries(b []byte) int {
	if len(b) < headerSize {
		return 0
	}
	n := int(min(le.Uint32(b[12:]), maxEntries))
	return min(n, (len(b)-headerSize)/entrySize)
}

// Reseal sets the length and every digest of b right, as far as its table makes
// sense.
func Reseal(b []byte) {
	if len(b) < headerSize {
		return
	}
	le.PutUint64(b[16:], uint64(len(b)))
	for i := range entries(b) {
		e := b[headerSize+entrySize*i:][:entrySize]
		if off, n := le.Uint64(e[16:]), le.Uint64(e[24:]); off <= uint64(len(b)) && n <= uint64(len(b))-off {
			digest := sha256.Sum256(b[off : off+n])
			copy(e[56:88], digest[:])
		}
	}
	if n := le.Uint32(b[12:]); n <= maxEntries && int(n) == entries(b) {
		h := sha256.New()
		h.Write(b[:digestAt])
		h.Write(b[headerSize : headerSize+entrySize*int(n)])
		h.Sum(b[digestAt:digestAt])
	}
}

// Sign puts a right signature of key into b.
func Sign(b []byte, key ed25519.PrivateKey) {
	if len(b) < headerSize {
		return
	}
	place := b[placeAt:placeEnd]
	clear(place)
	le.PutUint32(place, 1)
	id := sha256.Sum256(key.Public().(ed25519.PublicKey))
	copy(place[8:40], id[:])
	copy(place[40:], ed25519.Sign(key, append([]byte("wisp artefact v1\x00"), b[digestAt:placeAt]...)))
}

// numbers are those that arithmetic goes wrong with.
var numbers = []uint64{0, 1, 2, 7, 63, 64, 65, 255, 256, 4095, 4096, 65535, 65536, 1 << 20, 1 << 24, math.MaxInt32, 1 << 31, math.MaxUint32, 1 << 32, 1 << 40, math.MaxInt64, 1 << 63, math.MaxUint64}

// words are what JSON goes wrong with.
var words = []string{
	"{", "}", "[", "]", ",", ":", `"`, `\`, `\u0000`, `\ud800`, "\xff", "\x00", "null", "true", "-", "-1", "0", "1e999", "1.5", "9007199254740993", "18446744073709551616",
	`"":`, `"a":`, `"id":`, `"name":`, `"version":`, `"items":`, "[[[[[[[[", `{"a":{"a":{"a":`, "\u2028", " ", "\n",
}

// Bytes changes b in a few places: bits, numbers of all widths, pieces that are
// doubled, removed or moved, and words of JSON.
func Bytes(rng *rand.Rand, b []byte) []byte {
	for range 1 + rng.IntN(4) {
		if len(b) == 0 {
			return append(b, words[rng.IntN(len(words))]...)
		}
		at := rng.IntN(len(b))
		end := at + 1 + rng.IntN(min(64, len(b)-at))
		switch rng.IntN(9) {
		case 0, 1:
			b[at] ^= 1 << rng.IntN(8)
		case 2:
			b[at] = byte(rng.Uint32())
		case 3, 4:
			var n [8]byte
			le.PutUint64(n[:], numbers[rng.IntN(len(numbers))]+uint64(rng.IntN(3))-1)
			at -= at % 4 // most numbers of the format lie so
			copy(b[at:], n[:1<<(1+rng.IntN(3))])
		case 5:
			b = slices.Delete(b, at, end)
		case 6:
			b = slices.Insert(b, at, slices.Clone(b[at:end])...)
		case 7:
			b = slices.Insert(b, at, []byte(words[rng.IntN(len(words))])...)
		case 8:
			copy(b[rng.IntN(len(b)):], b[at:end])
		}
	}
	return b
}

// File returns a mutant of base, a whole file: either the contents of some sections
// are changed and laid out anew, or its bytes are, wherever they lie. Digests are
// right again; the signature is not.
func File(rng *rand.Rand, base []byte) []byte {
	n := entries(base)
	if rng.IntN(3) == 0 || n == 0 {
		b := slices.Clone(base)
		switch at := rng.IntN(8); at {
		case 0: // its length
			b = b[:rng.IntN(len(b))]
		case 1, 2: // within the table
			table := b[headerSize : headerSize+entrySize*n]
			copy(table, Bytes(rng, slices.Clone(table)))
		case 3: // within the header
			copy(b[:headerSize], Bytes(rng, slices.Clone(b[:headerSize])))
		default:
			b = Bytes(rng, b)
		}
		Reseal(b)
		return b
	}
	chosen := rng.IntN(n)
	return relay(base, func(i int, stored []byte) []byte {
		if i == chosen || rng.IntN(8) == 0 {
			return Bytes(rng, stored)
		}
		return stored
	}, func() bool { return rng.IntN(4) == 0 })
}

// relay lays out base anew with sections that change has changed. The raw length of
// a compressed one changes with it where lie says so.
func relay(base []byte, change func(i int, stored []byte) []byte, lie func() bool) []byte {
	n := entries(base)
	b := slices.Clone(base[:headerSize+entrySize*n])
	for i := range n {
		e := b[headerSize+entrySize*i:][:entrySize]
		off, length := le.Uint64(e[16:]), le.Uint64(e[24:])
		stored := change(i, slices.Clone(base[off:off+length]))
		for align := int(max(1, min(le.Uint32(e[8:]), 1<<16))); len(b)%align != 0; {
			b = append(b, 0)
		}
		e = b[headerSize+entrySize*i:][:entrySize] // append may have moved it
		le.PutUint64(e[16:], uint64(len(b)))
		le.PutUint64(e[24:], uint64(len(stored)))
		if le.Uint32(e[4:]) == 0 || lie() { // stored as it is: both lengths
			le.PutUint64(e[32:], le.Uint64(e[32:])+uint64(len(stored))-length)
		}
		b = append(b, stored...)
	}
	Reseal(b)
	return b
}

// Section returns a mutant of base in which one section alone is changed and laid
// out anew.
func Section(rng *rand.Rand, base []byte, section int) []byte {
	return relay(base, func(i int, stored []byte) []byte {
		if i == section {
			return Bytes(rng, stored)
		}
		return stored
	}, func() bool { return false })
}

// Declared returns what a file says that it takes: its own length and that of its
// sections after decompression.
func Declared(b []byte) uint64 {
	sum := uint64(len(b))
	for i := range entries(b) {
		sum += le.Uint64(b[headerSize+entrySize*i+32:])
	}
	return sum
}
