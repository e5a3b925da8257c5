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
	"path/filepath"
	"strings"
	"time"

	"github.com/wisp-project/wisp/internal/atomicfile"
)

// Store is a folder that holds artefacts in parts: of each the head, which is
// header and table, and the stored bytes of each section once, whichever artefacts
// have it. Processes may share it. FORMAT.md describes the folder; one that a web
// server shows is a [Origin] as well.
type Store struct{ dir string }

// The names in a store.
const (
	headSuffix  = ".head"
	partSuffix  = ".part"
	sectionsDir = "sections"
)

// OpenStore opens the store in the folder dir, which is made where there is none.
func OpenStore(dir string) (*Store, error) {
	if err := os.MkdirAll(filepath.Join(dir, sectionsDir), 0o755); err != nil {
		return nil, fmt.Errorf("artifact: store: %w", err)
	}
	return &Store{dir: dir}, nil
}

func (s *Store) head(name string) string { return filepath.Join(s.dir, name+headSuffix) }

func (s *Store) section(digest [sha256.Size]byte) string {
	return filepath.Join(s.dir, sectionsDir, hex.EncodeToString(digest[:]))
}

// Read reads the artefact with that digest, as [Read] does. One that the store
// does not hold is an error that wraps fs.ErrNotExist.
func (s *Store) Read(digest [sha256.Size]byte, opts ReadOptions) (*Artifact, error) {
	fail := func(err error) (*Artifact, error) {
		return nil, fmt.Errorf("artifact: store %s: %x: %w", s.dir, digest[:8], err)
	}
	f, err := os.Open(s.head(hex.EncodeToString(digest[:])))
	if err != nil {
		return fail(err)
	}
	defer f.Close() //nolint:errcheck // only read from
	head, size, err := readHead(f, opts.Limits)
	if err != nil {
		return fail(err)
	}
	t, err := ReadTable(bytes.NewReader(head), size, opts)
	if err != nil {
		return fail(err)
	}
	if t.Digest != digest {
		return fail(fmt.Errorf("%w: the head is that of %x", ErrDigest, t.Digest))
	}
	spread := &spreadFile{head: head, sections: t.Sections}
	defer spread.close()
	for _, info := range t.Sections {
		f, err := os.Open(s.section(info.Digest))
		if err != nil {
			return fail(err)
		}
		spread.files = append(spread.files, f)
	}
	a, err := Read(spread, size, opts)
	if err != nil {
		return fail(err)
	}
	return a, nil
}

// Publish puts the file at path into the store, under the name that others are to
// ask for, which may have been given to another version before: its head is
// replaced once all sections are there.
func (s *Store) Publish(ctx context.Context, path, name string) error {
	if name == "" || name != filepath.Base(name) || strings.HasPrefix(name, ".") {
		return fmt.Errorf("%w: %q is not the name of a file", ErrOptions, name)
	}
	t, err := s.Fetch(ctx, FileOrigin(path), FetchOptions{ReadOptions: ReadOptions{AllowUnsigned: true}})
	if err != nil {
		return err
	}
	head, err := os.ReadFile(s.head(hex.EncodeToString(t.Digest[:])))
	if err != nil {
		return fmt.Errorf("artifact: publish: %w", err)
	}
	if err := atomicfile.Write(s.head(name), head); err != nil {
		return fmt.Errorf("artifact: publish: %w", err)
	}
	return nil
}

// Keep removes all artefacts but those with the given digests, and the sections
// that none of these has. Heads that [Store.Publish] has named stay, and for a day what
// an interrupted fetch has got of a section.
func (s *Store) Keep(ctx context.Context, digests ...[sha256.Size]byte) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("artifact: store: %w", err)
		}
	}()
	unlock, err := s.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	keep := map[string]bool{}
	for _, d := range digests {
		keep[hex.EncodeToString(d[:])+headSuffix] = true
	}
	heads, err := filepath.Glob(filepath.Join(s.dir, "*"+headSuffix))
	if err != nil {
		return err
	}
	sections := map[string]bool{}
	for _, path := range heads {
		name := filepath.Base(path)
		if len(name) == 2*sha256.Size+len(headSuffix) && !keep[name] {
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			continue
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		head, size, err := readHead(f, Limits{})
		_ = f.Close() // it was read
		if err != nil {
			continue // it can be read by nobody
		}
		t, err := ReadTable(bytes.NewReader(head), size, ReadOptions{AllowUnsigned: true})
		if err != nil {
			continue
		}
		for _, info := range t.Sections {
			sections[hex.EncodeToString(info.Digest[:])] = true
		}
	}
	files, err := os.ReadDir(filepath.Join(s.dir, sectionsDir))
	if err != nil {
		return err
	}
	goesOn := lately(files)
	for _, f := range files {
		if !sections[f.Name()] && !goesOn[f.Name()] {
			if err := os.Remove(filepath.Join(s.dir, sectionsDir, f.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}

// partLife is how long what an interrupted fetch has got waits for being gone on with:
// so much older than the newest file may it be.
const partLife = 24 * time.Hour

// lately returns the names of files that are parts of sections whose fetch was
// interrupted lately, of another model perhaps.
func lately(files []fs.DirEntry) map[string]bool {
	changed := map[string]time.Time{}
	var newest time.Time
	for _, f := range files {
		if info, err := f.Info(); err == nil { // else it has gone
			changed[f.Name()] = info.ModTime()
			if info.ModTime().After(newest) {
				newest = info.ModTime()
			}
		}
	}
	parts := map[string]bool{}
	for name, at := range changed {
		parts[name] = strings.HasSuffix(name, partSuffix) && newest.Sub(at) < partLife
	}
	return parts
}

func (s *Store) lock(ctx context.Context) (unlock func(), err error) {
	return atomicfile.Lock(ctx, filepath.Join(s.dir, "lock"))
}

// readHead reads header and table, as far as the header can be believed, and
// returns the length that it declares for the whole file.
func readHead(r io.Reader, limits Limits) (head []byte, size int64, err error) {
	limits = limits.withDefaults()
	head = make([]byte, headerSize)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, 0, fmt.Errorf("%w: fewer bytes than the header's %d: %w", ErrFormat, headerSize, err)
	}
	count, size, err := declared(head, limits)
	if err != nil {
		return nil, 0, err
	}
	head = append(head, make([]byte, tableSize(count))...)
	if _, err := io.ReadFull(r, head[headerSize:]); err != nil {
		return nil, 0, fmt.Errorf("%w: fewer bytes than the table's %d: %w", ErrFormat, tableSize(count), err)
	}
	return head, size, nil
}

// spreadFile reads an artefact whose sections are files of their own as one file.
type spreadFile struct {
	head     []byte
	sections []SectionInfo
	files    []*os.File
}

func (f *spreadFile) close() {
	for _, file := range f.files {
		_ = file.Close() // only read from
	}
}

// ReadAt reads from the head, the sections, and the zeros between them.
func (f *spreadFile) ReadAt(b []byte, offset int64) (int, error) {
	done := 0
	for done < len(b) {
		n, err := f.readSome(b[done:], offset+int64(done))
		done += n
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

func (f *spreadFile) readSome(b []byte, offset int64) (int, error) {
	if offset < int64(len(f.head)) {
		return copy(b, f.head[offset:]), nil
	}
	for i, s := range f.sections {
		switch {
		case offset < s.Offset: // padding
			b = b[:min(int64(len(b)), s.Offset-offset)]
			clear(b)
			return len(b), nil
		case offset < s.Offset+s.Stored:
			b = b[:min(int64(len(b)), s.Offset+s.Stored-offset)]
			n, err := f.files[i].ReadAt(b, offset-s.Offset)
			if n == len(b) {
				err = nil
			}
			return n, err
		}
	}
	return 0, io.EOF
}
