package artifact

import (
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"io"
	"os"

	"github.com/klauspost/compress/zstd"

	"github.com/wisp-project/wisp/internal/atomicfile"
)

// defaultLevel asks for the smallest file: it is written once and sent often.
const defaultLevel = 19

// WriteOptions says how an artefact is stored. The zero value gives the
// smallest file.
type WriteOptions struct {
	// Level is a zstd level, 1 (fast) to 22 (small), of which the encoder knows
	// four steps; 0 means 19.
	Level int
	// Raw stores every section as it is.
	Raw bool
	// Key signs the file; nil leaves it unsigned. See [SignFile].
	Key ed25519.PrivateKey
	// Limits are those of the readers the file is for; what they would refuse is
	// not written.
	Limits Limits
}

// Write writes a to w and returns the number of bytes written. The same a and
// opts give the same bytes on every machine. Each section is compressed only
// where that makes it smaller. Compressed sections are held in memory until the
// table that precedes them is written. Nothing is written when a is not valid.
func Write(w io.Writer, a *Artifact, opts WriteOptions) (int64, error) {
	header, sections, err := encode(a, opts)
	if err != nil {
		return 0, err
	}
	return write(w, header, sections)
}

func write(w io.Writer, header []byte, sections []section) (int64, error) {
	var written int64
	put := func(b []byte) error {
		n, err := w.Write(b)
		written += int64(n)
		if err != nil {
			return fmt.Errorf("artifact: write at offset %d: %w", written, err)
		}
		return nil
	}
	if err := put(header); err != nil {
		return written, err
	}
	for _, s := range sections {
		if err := put(make([]byte, s.info.Offset-written)); err != nil {
			return written, err
		}
		if err := put(s.stored); err != nil {
			return written, err
		}
	}
	return written, nil
}

// WriteFile writes a to the file at path. The file appears whole or not at
// all: what was at path before stays valid until then.
func WriteFile(path string, a *Artifact, opts WriteOptions) error {
	header, sections, err := encode(a, opts)
	if err != nil {
		return err
	}
	return atomicfile.Replace(path, 0o644, func(f *os.File) error {
		_, err := write(f, header, sections)
		return err
	})
}

// section is a section that is ready to be written.
type section struct {
	info   SectionInfo
	stored []byte
}

// encode returns header and table, and the sections that follow.
func encode(a *Artifact, opts WriteOptions) (header []byte, sections []section, err error) {
	if opts.Level < 0 || opts.Level > 22 {
		return nil, nil, fmt.Errorf("%w: level is %d, must lie between 1 and 22, or be 0 for %d", ErrOptions, opts.Level, defaultLevel)
	}
	if err := a.Validate(); err != nil {
		return nil, nil, err
	}
	if sections, err = payloads(a); err != nil {
		return nil, nil, err
	}
	limits := opts.Limits.withDefaults()
	level := opts.Level
	if level == 0 {
		level = defaultLevel
	}
	enc, err := newEncoder(level)
	if err != nil {
		return nil, nil, fmt.Errorf("artifact: %w", err)
	}
	defer enc.Close() //nolint:errcheck // EncodeAll leaves nothing to flush

	t := &Table{Sections: make([]SectionInfo, len(sections))}
	t.Size = headerSize + tableSize(len(sections))
	for i := range sections {
		s := &sections[i]
		s.compress(enc, opts.Raw)
		s.info.Align = minAlign
		s.info.Offset = alignUp(t.Size, minAlign)
		s.info.Digest = sha256.Sum256(s.stored)
		t.Size = s.info.Offset + s.info.Stored
		t.Sections[i] = s.info
	}
	if err := t.check(limits); err != nil {
		return nil, nil, err
	}
	header = t.appendTo(nil)
	if opts.Key != nil {
		if err := sign(header, opts.Key); err != nil {
			return nil, nil, err
		}
	}
	return header, sections, nil
}

// payloads returns the raw sections of a, in file order.
func payloads(a *Artifact) ([]section, error) {
	manifest, err := marshal(a.Manifest)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrManifest, err)
	}
	items, err := marshal(a.Items)
	if err != nil {
		return nil, fmt.Errorf("%w: items: %w", ErrContent, err)
	}
	goldens, err := encodeGoldens(a.Goldens)
	if err != nil {
		return nil, err
	}
	var sections []section
	add := func(t SectionType, name string, data []byte) {
		sections = append(sections, section{info: SectionInfo{Type: t, Name: name, Raw: int64(len(data))}, stored: data})
	}
	add(SectionManifest, "", manifest)
	add(SectionKernel, "", a.Kernel)
	for _, s := range a.Segments {
		add(SectionSegment, s.Name, s.Data)
	}
	add(SectionItems, "", items)
	add(SectionGolden, "", goldens)
	return sections, nil
}

// compress replaces the stored bytes of s by a zstd frame where that is
// smaller.
func (s *section) compress(enc *zstd.Encoder, raw bool) {
	s.info.Codec, s.info.Stored = CodecRaw, s.info.Raw
	if raw {
		return
	}
	if frame := enc.EncodeAll(s.stored, nil); len(frame) < len(s.stored) {
		s.stored = frame
		s.info.Codec, s.info.Stored = CodecZstd, int64(len(frame))
	}
}
