package artifact

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/wisp-project/wisp/internal/atomicfile"
)

// Origin is where an artefact can be had from, a part at a time. See [FileOrigin]
// and [HTTPOrigin]; both know folders made by [Store.Publish], too.
type Origin interface {
	// Head returns a reader of the file's first bytes, at least those of header and
	// table, and the length of the whole file, or -1 where that is not known.
	Head(ctx context.Context) (io.ReadCloser, int64, error)
	// Section returns a reader of the stored bytes of a section, without the first
	// from of them. It is called in the order of the sections.
	Section(ctx context.Context, s SectionInfo, from int64) (io.ReadCloser, error)
	// String says where it is, for messages.
	String() string
	// Close ends what was begun.
	Close() error
}

// FetchOptions say what is fetched.
type FetchOptions struct {
	ReadOptions
	// Accept, unless nil, is asked before anything but the manifest is fetched.
	Accept func(t *Table, m *Manifest) error
	// Fetched, unless nil, is told how many bytes of sections came from the origin.
	Fetched func(bytes int64)
}

// attempts is how often the origin is asked for a section that ends early, without
// a byte of progress in between.
const attempts = 4

// Fetch brings the artefact of an origin into the store: head and table first,
// whose signature is checked before anything else is asked for, then the manifest,
// then only the sections that the store lacks. What an interruption has left of a
// section is the beginning of the next attempt. Nothing is decompressed but the
// manifest; [Store.Read] checks the rest. src is closed.
func (s *Store) Fetch(ctx context.Context, src Origin, opts FetchOptions) (t *Table, err error) {
	defer func() {
		err = errors.Join(err, src.Close())
		if err != nil {
			err = fmt.Errorf("artifact: fetch %v: %w", src, err)
		}
	}()
	unlock, err := s.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	head, size, err := s.fetchHead(ctx, src, opts.Limits)
	if err != nil {
		return nil, err
	}
	if t, err = ReadTable(bytes.NewReader(head), size, opts.ReadOptions); err != nil {
		return nil, err
	}
	for i, info := range t.Sections {
		n, err := s.fetchSection(ctx, src, info)
		if opts.Fetched != nil {
			opts.Fetched(n)
		}
		if err != nil {
			return nil, fmt.Errorf("the %s: %w", info.label(), err)
		}
		if i == 0 && opts.Accept != nil {
			if err := s.accept(t, opts.Accept); err != nil {
				return nil, err
			}
		}
	}
	if err := atomicfile.Write(s.head(hex.EncodeToString(t.Digest[:])), head); err != nil {
		return nil, err
	}
	return t, nil
}

func (s *Store) fetchHead(ctx context.Context, src Origin, limits Limits) (head []byte, size int64, err error) {
	r, size, err := src.Head(ctx)
	if err != nil {
		return nil, 0, err
	}
	defer r.Close() //nolint:errcheck // only read from
	head, declared, err := readHead(r, limits)
	if err != nil {
		return nil, 0, err
	}
	if size >= 0 && size != declared {
		return nil, 0, fmt.Errorf("%w: the header declares %d bytes, there are %d: it was cut off or appended to", ErrFormat, declared, size)
	}
	return head, declared, nil
}

// accept reads the manifest, which is there.
func (s *Store) accept(t *Table, ask func(*Table, *Manifest) error) error {
	f, err := os.Open(s.section(t.Sections[0].Digest))
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // only read from
	dec, err := newDecoder()
	if err != nil {
		return err
	}
	defer dec.Close()
	info := t.Sections[0]
	info.Offset = 0
	raw, err := readSection(f, info, 0, dec)
	if err != nil {
		return err
	}
	m, err := decodeManifest(raw)
	if err != nil {
		return err
	}
	return ask(t, &m)
}

// fetchSection makes sure that the store has a section, and returns how many bytes
// came from the origin.
func (s *Store) fetchSection(ctx context.Context, src Origin, info SectionInfo) (fetched int64, err error) {
	path := s.section(info.Digest)
	switch held, err := fileDigest(path); {
	case err == nil && held == info.Digest:
		return 0, nil
	case err == nil: // a disk has forgotten something
		if err := os.Remove(path); err != nil {
			return 0, err
		}
	case !errors.Is(err, fs.ErrNotExist):
		return 0, err
	}
	part, err := os.OpenFile(path+partSuffix, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return 0, err
	}
	defer part.Close() //nolint:errcheck // closed before it is used
	has, err := part.Seek(0, io.SeekEnd)
	if err == nil && has > info.Stored {
		has, err = 0, part.Truncate(0)
	}
	if err != nil {
		return 0, err
	}
	resumed := has > 0
	for tries := 0; has < info.Stored; {
		n, err := s.append(ctx, part, src, info, has)
		has, fetched = has+n, fetched+n
		if err == nil {
			break
		}
		if tries++; n > 0 {
			tries = 0
		}
		if tries == attempts || !errors.Is(err, errCutOff) {
			return fetched, err
		}
		if err := pause(ctx, 50*time.Millisecond<<tries); err != nil {
			return fetched, err
		}
	}
	if err := errors.Join(part.Sync(), part.Close()); err != nil {
		return fetched, err
	}
	got, err := fileDigest(part.Name())
	if err != nil {
		return fetched, err
	}
	if got != info.Digest {
		if err := os.Remove(part.Name()); err != nil {
			return fetched, err
		}
		if resumed { // what was left there before may be to blame
			n, err := s.fetchSection(ctx, src, info)
			return fetched + n, err
		}
		return fetched, fmt.Errorf("%w: the origin gives other bytes; it may have changed meanwhile, fetch again", ErrDigest)
	}
	return fetched, os.Rename(part.Name(), path)
}

// errCutOff reports an origin that ended, or failed, within a section: asking again
// may help.
var errCutOff = errors.New("the origin ended early")

// append adds to the file what the origin has of a section behind the bytes that
// are there.
func (s *Store) append(ctx context.Context, part *os.File, src Origin, info SectionInfo, has int64) (int64, error) {
	r, err := src.Section(ctx, info, has)
	if err != nil {
		return 0, err
	}
	defer r.Close() //nolint:errcheck // only read from
	if _, err := part.Seek(has, io.SeekStart); err != nil {
		return 0, err
	}
	from := &failing{Reader: io.LimitReader(r, info.Stored-has)}
	n, err := io.Copy(part, from)
	switch {
	case ctx.Err() != nil:
		return n, ctx.Err()
	case from.err != nil:
		return n, fmt.Errorf("%w: after %d of %d bytes: %w", errCutOff, has+n, info.Stored, from.err)
	case err != nil:
		return n, err // of the file
	case has+n < info.Stored:
		return n, fmt.Errorf("%w: after %d of %d bytes: %w", errCutOff, has+n, info.Stored, io.ErrUnexpectedEOF)
	}
	return n, nil
}

// failing remembers the error of a reader, to tell it from a writer's.
type failing struct {
	io.Reader
	err error
}

func (f *failing) Read(b []byte) (int, error) {
	n, err := f.Reader.Read(b)
	if err != nil && !errors.Is(err, io.EOF) {
		f.err = err
	}
	return n, err
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func fileDigest(path string) (d [sha256.Size]byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return d, err
	}
	defer f.Close() //nolint:errcheck // only read from
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return d, err
	}
	h.Sum(d[:0])
	return d, nil
}
