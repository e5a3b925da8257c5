package artifact

import (
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/klauspost/compress/zstd"
)

// ReadOptions says what a reader accepts. The zero value is the strict one: it
// accepts nothing.
type ReadOptions struct {
	Limits Limits
	// Keys are the public keys of those whose files are accepted, each signed
	// with any one of them. To rotate a key, list both until the last file of the
	// old one is gone; to revoke one, leave it out.
	Keys []ed25519.PublicKey
	// AllowUnsigned accepts files without a signature, and with one of a key that
	// is not among Keys. Their digests show damage but not who wrote them. A
	// signature of one of the Keys has to be right all the same.
	AllowUnsigned bool
}

// Open reads the file at path; see [Read].
func Open(path string, opts ReadOptions) (*Artifact, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("artifact: %w", err)
	}
	defer f.Close() //nolint:errcheck // nothing was written
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("artifact: %w", err)
	}
	a, err := Read(f, info.Size(), opts)
	if err != nil {
		return nil, fmt.Errorf("%w (in %s)", err, path)
	}
	return a, nil
}

// Read reads and checks a whole artefact of size bytes. The header, the table
// and the signature are checked first, then each section against its digest,
// and only then is it decompressed. What Read returns shares no memory with r.
func Read(r io.ReaderAt, size int64, opts ReadOptions) (*Artifact, error) {
	t, err := ReadTable(r, size, opts)
	if err != nil {
		return nil, err
	}
	dec, err := newDecoder()
	if err != nil {
		return nil, fmt.Errorf("artifact: %w", err)
	}
	defer dec.Close()

	a := &Artifact{Digest: t.Digest, Signature: t.Signature, Sections: t.Sections}
	end := headerSize + tableSize(len(t.Sections))
	for _, s := range t.Sections {
		raw, err := readSection(r, s, end, dec)
		if err != nil {
			return nil, err
		}
		end = s.Offset + s.Stored
		if err := a.add(s, raw); err != nil {
			return nil, err
		}
	}
	if err := a.Validate(); err != nil {
		return nil, err
	}
	return a, nil
}

// ReadTable reads and checks the header, the table and the signature of a file
// of size bytes and nothing else. An update compares the digests of its sections
// with those it holds and fetches only the others; whoever uses the sections has
// to [Read] them.
func ReadTable(r io.ReaderAt, size int64, opts ReadOptions) (*Table, error) {
	limits := opts.Limits.withDefaults()
	if size < headerSize {
		return nil, fmt.Errorf("%w: %d bytes are too few for the header of %d", ErrFormat, size, headerSize)
	}
	if size > limits.MaxFile {
		return nil, fmt.Errorf("%w: the file has %d bytes, at most %d are allowed", ErrLimit, size, limits.MaxFile)
	}
	header := make([]byte, headerSize)
	if err := readAt(r, header, 0); err != nil {
		return nil, err
	}
	count, digest, err := parseHeader(header, size, limits)
	if err != nil {
		return nil, err
	}
	if tableSize(count) > size-headerSize {
		return nil, fmt.Errorf("%w: the table of %d sections does not fit into %d bytes", ErrFormat, count, size)
	}
	table := make([]byte, tableSize(count))
	if err := readAt(r, table, headerSize); err != nil {
		return nil, err
	}
	if tableDigest(header, table) != digest {
		return nil, fmt.Errorf("%w: the header or the table of sections is damaged, fetch the file again", ErrDigest)
	}
	signature, err := verify(header, opts)
	if err != nil {
		return nil, err
	}
	t := &Table{Digest: digest, Signature: signature, Size: size, Sections: make([]SectionInfo, count)}
	for i := range t.Sections {
		if t.Sections[i], err = parseEntry(i, table[i*entrySize:][:entrySize]); err != nil {
			return nil, err
		}
	}
	if err := t.check(limits); err != nil {
		return nil, err
	}
	return t, nil
}

// readSection returns the raw bytes of s, after the padding that begins at end
// has been found to be zero.
func readSection(r io.ReaderAt, s SectionInfo, end int64, dec *zstd.Decoder) ([]byte, error) {
	padding := make([]byte, s.Offset-end)
	if err := readAt(r, padding, end); err != nil {
		return nil, err
	}
	if !isZero(padding) {
		return nil, fmt.Errorf("%w: the padding before %s is not zero", ErrFormat, s.label())
	}
	stored := make([]byte, s.Stored)
	if err := readAt(r, stored, s.Offset); err != nil {
		return nil, err
	}
	if sha256.Sum256(stored) != s.Digest {
		return nil, fmt.Errorf("%w: the %s is damaged, fetch the file again", ErrDigest, s.label())
	}
	if s.Codec == CodecRaw {
		return stored, nil
	}
	raw, err := decompress(dec, stored, s.Raw)
	if err != nil {
		return nil, fmt.Errorf("%w: the %s: %w", ErrFormat, s.label(), err)
	}
	return raw, nil
}

// add stores the content of section s. The manifest comes before the items.
func (a *Artifact) add(s SectionInfo, raw []byte) (err error) {
	switch s.Type {
	case SectionManifest:
		a.Manifest, err = decodeManifest(raw)
	case SectionKernel:
		a.Kernel = raw
	case SectionSegment:
		a.Segments = append(a.Segments, Segment{Name: s.Name, Data: raw})
	case SectionItems:
		a.Items, err = decodeItems(raw, a.Manifest.Model.Items)
	case SectionGolden:
		a.Goldens, err = decodeGoldens(raw)
	}
	return err
}

// readAt fills b from offset on.
func readAt(r io.ReaderAt, b []byte, offset int64) error {
	n, err := r.ReadAt(b, offset)
	if n == len(b) {
		return nil // a full read may come with io.EOF
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("artifact: read %d bytes at offset %d: %w", len(b), offset, err)
}
