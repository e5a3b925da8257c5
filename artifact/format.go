package artifact

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
)

// FormatVersion is the version of the container that this package reads and
// writes.
const FormatVersion = 1

// magic opens every file. As in PNG, the bytes after the name are changed by
// the transfers that change text: a cleared top bit and converted line ends.
const magic = "WISP\x89\r\n\n"

// The fixed sizes of the format, in bytes.
const (
	headerSize = 256
	entrySize  = 96
	nameSize   = 16

	minAlign = 64
	maxAlign = 1 << 16
)

// HeadBytes returns the length of the header and the table of a file with the given
// number of sections: what an update fetches before it knows what else it needs.
func HeadBytes(sections int) int64 { return headerSize + entrySize*int64(sections) }

// Offsets in the header. The digest covers what lies before it and the table;
// the signature place lies after it, so that signing does not change it.
const (
	offVersion    = 8
	offCount      = 12
	offFileLen    = 16
	offTable      = 24
	offTableLen   = 32
	offReserved   = 40
	offDigest     = 64
	offAlgorithm  = 96 // the signature place begins
	offReserved1  = 100
	offKeyID      = 104
	offSignature  = 136
	offReserved2  = 200 // the signature place ends
	digestCovered = offDigest
)

// SectionType says what a section holds.
type SectionType uint32

// The section types, in the order in which they appear in a file.
const (
	SectionManifest SectionType = 1 // a Manifest as JSON
	SectionKernel   SectionType = 2 // a WebAssembly module
	SectionSegment  SectionType = 3 // a named part of the model's image
	SectionItems    SectionType = 4 // the catalogue as JSON
	SectionGolden   SectionType = 5 // requests and their exact answers
)

// String returns the name of t.
func (t SectionType) String() string {
	switch t {
	case SectionManifest:
		return "manifest"
	case SectionKernel:
		return "kernel"
	case SectionSegment:
		return "segment"
	case SectionItems:
		return "items"
	case SectionGolden:
		return "golden"
	default:
		return fmt.Sprintf("type %d", uint32(t))
	}
}

// Codec says how a section is stored.
type Codec uint32

// The codecs.
const (
	CodecRaw  Codec = 0 // as it is
	CodecZstd Codec = 1 // one zstd frame
)

// String returns the name of c.
func (c Codec) String() string {
	switch c {
	case CodecRaw:
		return "raw"
	case CodecZstd:
		return "zstd"
	default:
		return fmt.Sprintf("codec %d", uint32(c))
	}
}

// SectionInfo is an entry of the section table. Sizes and offsets are in bytes.
type SectionInfo struct {
	Type   SectionType
	Name   string // of a segment; empty for other types
	Codec  Codec
	Align  int64             // of Offset: a power of two
	Offset int64             // of the stored bytes, from the start of the file
	Stored int64             // length in the file
	Raw    int64             // length after decompression
	Digest [sha256.Size]byte // SHA-256 of the stored bytes
}

// label names s in messages.
func (s SectionInfo) label() string {
	if s.Type == SectionSegment {
		return fmt.Sprintf("segment %q at offset %d", s.Name, s.Offset)
	}
	return fmt.Sprintf("%v at offset %d", s.Type, s.Offset)
}

// Table is what the header and the section table of a file say.
type Table struct {
	Digest    [sha256.Size]byte // identifies the content: SHA-256 of header and table
	Signature Signature
	Size      int64         // length of the whole file in bytes
	Sections  []SectionInfo // in file order
}

func alignUp(n, align int64) int64 { return (n + align - 1) &^ (align - 1) }

func tableSize(sections int) int64 { return int64(sections) * entrySize }

// appendTo appends the header and the table to b and sets t.Digest.
func (t *Table) appendTo(b []byte) []byte {
	le := binary.LittleEndian
	h := make([]byte, headerSize, headerSize+tableSize(len(t.Sections)))
	copy(h, magic)
	le.PutUint32(h[offVersion:], FormatVersion)
	le.PutUint32(h[offCount:], uint32(len(t.Sections)))
	le.PutUint64(h[offFileLen:], uint64(t.Size))
	le.PutUint64(h[offTable:], headerSize)
	le.PutUint64(h[offTableLen:], uint64(tableSize(len(t.Sections))))
	for _, s := range t.Sections {
		h = s.appendTo(h)
	}
	t.Digest = tableDigest(h[:headerSize], h[headerSize:])
	copy(h[offDigest:], t.Digest[:])
	return append(b, h...)
}

func (s SectionInfo) appendTo(b []byte) []byte {
	le := binary.LittleEndian
	b = le.AppendUint32(b, uint32(s.Type))
	b = le.AppendUint32(b, uint32(s.Codec))
	b = le.AppendUint32(b, uint32(s.Align))
	b = le.AppendUint32(b, 0) // flags
	b = le.AppendUint64(b, uint64(s.Offset))
	b = le.AppendUint64(b, uint64(s.Stored))
	b = le.AppendUint64(b, uint64(s.Raw))
	var name [nameSize]byte
	copy(name[:], s.Name)
	b = append(b, name[:]...)
	b = append(b, s.Digest[:]...)
	return le.AppendUint64(b, 0) // reserved
}

func tableDigest(header, table []byte) (d [sha256.Size]byte) {
	h := sha256.New()
	h.Write(header[:digestCovered])
	h.Write(table)
	h.Sum(d[:0])
	return d
}

// parseHeader returns the number of sections and the digest that a header
// declares. The digest is not checked yet: it covers the table too.
func parseHeader(h []byte, size int64, limits Limits) (count int, digest [sha256.Size]byte, err error) {
	le := binary.LittleEndian
	if string(h[:len(magic)]) != magic {
		if bytes.HasPrefix(h, []byte(magic[:4])) {
			return 0, digest, fmt.Errorf("%w: bytes 4 to 7 are %x, want %x: the file was changed by a transfer as text, copy it again as binary",
				ErrFormat, h[4:8], magic[4:])
		}
		return 0, digest, fmt.Errorf("%w: the file begins with %x, not with %q: it is not a .wisp file", ErrFormat, h[:4], magic[:4])
	}
	if v := le.Uint32(h[offVersion:]); v != FormatVersion {
		return 0, digest, fmt.Errorf("%w: the file has version %d, this program reads version %d", ErrVersion, v, FormatVersion)
	}
	if n := le.Uint64(h[offFileLen:]); n != uint64(size) {
		return 0, digest, fmt.Errorf("%w: the header declares %d bytes, the file has %d: it was cut off or appended to", ErrFormat, n, size)
	}
	n := le.Uint32(h[offCount:])
	if int64(n) > int64(limits.MaxSections) {
		return 0, digest, fmt.Errorf("%w: %d sections, at most %d are allowed", ErrLimit, n, limits.MaxSections)
	}
	count = int(n)
	if off, length := le.Uint64(h[offTable:]), le.Uint64(h[offTableLen:]); off != headerSize || length != uint64(tableSize(count)) {
		return 0, digest, fmt.Errorf("%w: a table of %d bytes at offset %d, want %d bytes at %d", ErrFormat, length, off, tableSize(count), headerSize)
	}
	if !isZero(h[offReserved:offDigest]) || !isZero(h[offReserved2:headerSize]) {
		return 0, digest, fmt.Errorf("%w: reserved bytes of the header are not zero", ErrFormat)
	}
	copy(digest[:], h[offDigest:])
	return count, digest, nil
}

// declared returns the number of sections and the length of the file that a header
// declares, once what is right in every header was found right in this one.
func declared(h []byte, limits Limits) (count int, size int64, err error) {
	n := binary.LittleEndian.Uint64(h[offFileLen:])
	if n > uint64(limits.MaxFile) && string(h[:len(magic)]) == magic {
		return 0, 0, fmt.Errorf("%w: the header declares %d bytes, at most %d are allowed", ErrLimit, n, limits.MaxFile)
	}
	count, _, err = parseHeader(h, int64(n), limits) // it checks the magic first
	return count, int64(n), err
}

// parseEntry reads the table entry e at position i.
func parseEntry(i int, e []byte) (SectionInfo, error) {
	le := binary.LittleEndian
	fail := func(format string, args ...any) (SectionInfo, error) {
		return SectionInfo{}, fmt.Errorf("%w: table entry %d: %s", ErrFormat, i, fmt.Sprintf(format, args...))
	}
	offset, stored, raw := le.Uint64(e[16:]), le.Uint64(e[24:]), le.Uint64(e[32:])
	if offset > math.MaxInt64 || stored > math.MaxInt64 || raw > math.MaxInt64 {
		return fail("offset %d or length %d or %d is beyond 2^63-1", offset, stored, raw)
	}
	if !isZero(e[12:16]) || !isZero(e[88:96]) {
		return fail("flags or reserved bytes are not zero")
	}
	name := bytes.TrimRight(e[40:40+nameSize], "\x00")
	s := SectionInfo{
		Type:   SectionType(le.Uint32(e)),
		Codec:  Codec(le.Uint32(e[4:])),
		Align:  int64(le.Uint32(e[8:])),
		Offset: int64(offset),
		Stored: int64(stored),
		Raw:    int64(raw),
		Name:   string(name),
	}
	copy(s.Digest[:], e[56:])
	return s, nil
}

// check reports the first thing about t that the format does not allow or that
// is above limits. Writers and readers share it.
func (t *Table) check(limits Limits) error {
	if t.Size > limits.MaxFile {
		return fmt.Errorf("%w: the file has %d bytes, at most %d are allowed", ErrLimit, t.Size, limits.MaxFile)
	}
	if len(t.Sections) > limits.MaxSections {
		return fmt.Errorf("%w: %d sections, at most %d are allowed", ErrLimit, len(t.Sections), limits.MaxSections)
	}
	end := headerSize + tableSize(len(t.Sections))
	var count, total [SectionGolden + 1]int64
	names := make(map[string]bool, len(t.Sections))
	last := SectionManifest
	for i, s := range t.Sections {
		fail := func(sentinel error, format string, args ...any) error {
			return fmt.Errorf("%w: section %d (%s): %s", sentinel, i, s.label(), fmt.Sprintf(format, args...))
		}
		switch {
		case s.Type < SectionManifest || s.Type > SectionGolden:
			return fail(ErrFormat, "unknown section type")
		case s.Type < last:
			return fail(ErrFormat, "comes after a section of type %v, sections are ordered by type", last)
		case s.Type != SectionSegment && count[s.Type] > 0:
			return fail(ErrFormat, "a second section of this type")
		case s.Type != SectionSegment && s.Name != "":
			return fail(ErrFormat, "has the name %q, only segments are named", s.Name)
		case s.Type == SectionSegment && !validSegmentName(s.Name):
			return fail(ErrFormat, "the name is not 1 to %d of a-z, 0-9, _ and -", nameSize)
		case names[s.Name] && s.Type == SectionSegment:
			return fail(ErrFormat, "a second segment with this name")
		case s.Codec != CodecRaw && s.Codec != CodecZstd:
			return fail(ErrFormat, "unknown %v", s.Codec)
		case s.Align < minAlign || s.Align > maxAlign || bits.OnesCount64(uint64(s.Align)) != 1:
			return fail(ErrFormat, "alignment %d is not a power of two between %d and %d", s.Align, minAlign, maxAlign)
		case s.Offset != alignUp(end, s.Align):
			return fail(ErrFormat, "must lie at offset %d, directly after the section before it", alignUp(end, s.Align))
		case s.Raw < 1 || s.Stored < 1:
			return fail(ErrFormat, "is empty")
		case s.Codec == CodecRaw && s.Stored != s.Raw:
			return fail(ErrFormat, "stored as it is, but %d stored bytes stand for %d", s.Stored, s.Raw)
		case s.Codec == CodecZstd && s.Stored >= s.Raw:
			return fail(ErrFormat, "compressed, but %d stored bytes stand for %d", s.Stored, s.Raw)
		case s.Offset > t.Size || s.Stored > t.Size-s.Offset:
			return fail(ErrFormat, "ends after the file of %d bytes", t.Size)
		case s.Raw > limits.raw(s.Type)-total[s.Type]:
			return fail(ErrLimit, "%d bytes, after %d of its type; at most %d are allowed", s.Raw, total[s.Type], limits.raw(s.Type))
		case s.Raw > math.MaxInt:
			return fail(ErrLimit, "%d bytes are too many for a 32-bit program", s.Raw)
		}
		count[s.Type]++
		total[s.Type] += s.Raw
		names[s.Name] = true
		last = s.Type
		end = s.Offset + s.Stored
	}
	for typ := SectionManifest; typ <= SectionGolden; typ++ {
		if count[typ] == 0 {
			return fmt.Errorf("%w: there is no %v section", ErrFormat, typ)
		}
	}
	if end != t.Size {
		return fmt.Errorf("%w: the last section ends at offset %d, the file has %d bytes", ErrFormat, end, t.Size)
	}
	return nil
}

func validSegmentName(name string) bool {
	if name == "" || len(name) > nameSize {
		return false
	}
	for _, c := range []byte(name) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' && c != '-' {
			return false
		}
	}
	return true
}

func isZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
