package retrain

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/wisp-project/wisp/internal/data"
)

// Feed is where new events come from: a folder to which files are added, each whole
// and never changed, or one file of JSON lines that grows.
type Feed struct {
	// Source says how the events are written. Its Events is the folder or the file;
	// Items and Users are not looked at.
	Source data.Source
}

// Cursor is how far a feed was read.
type Cursor struct {
	Files  []data.File `json:"files,omitempty"`  // of a folder, by name
	Offset int64       `json:"offset,omitempty"` // of a growing file, in bytes
	// Before is the SHA-256 of the last bytes before Offset, at most tailSize: a file
	// that was replaced is not taken for one that grew.
	Before string `json:"before,omitempty"`
}

const tailSize = 4096

// News is what a feed had beyond a cursor.
type News struct {
	Inputs []data.File // files of a folder, or what a growing file grew by
	Report data.Report
	After  Cursor
}

// Read calls visit for each event beyond the cursor, as data.ReadEvents does. work is
// the path of a file that it may write and removes. Of a growing file, a last line
// without an end waits until it has one.
//
// The error wraps ErrEvents where the events are not written as they should be, or
// where files that were read have changed since.
func (f Feed) Read(ctx context.Context, from Cursor, work string, visit func(data.Event) (reason string)) (*News, error) {
	info, err := os.Stat(f.Source.Events)
	if err != nil {
		return nil, fmt.Errorf("retrain: events: %w; check the path", err)
	}
	n := &News{After: Cursor{Files: slices.Clone(from.Files), Offset: from.Offset, Before: from.Before}}
	if info.IsDir() {
		if from.Offset > 0 {
			return nil, fmt.Errorf("%w: %s is a folder, and was a file when it was last read; begin a state of its own for it", ErrState, f.Source.Events)
		}
		return n, f.readFolder(ctx, n, visit)
	}
	if len(from.Files) > 0 {
		return nil, fmt.Errorf("%w: %s is a file, and was a folder when it was last read; begin a state of its own for it", ErrState, f.Source.Events)
	}
	return n, f.readGrowth(ctx, n, work, visit)
}

func (f Feed) readFolder(ctx context.Context, n *News, visit func(data.Event) string) error {
	names, err := f.names()
	if err != nil {
		return fmt.Errorf("retrain: events: %w", err)
	}
	for _, name := range names {
		path := filepath.Join(f.Source.Events, name)
		info, err := os.Stat(path)
		if err != nil {
			return fmt.Errorf("retrain: events: %w", err)
		}
		at, known := n.After.find(name)
		if known {
			if was := n.After.Files[at].Bytes; was != info.Size() {
				return fmt.Errorf("%w: %s has %d bytes and had %d when it was read; write what is new to a file of its own", ErrEvents, path, info.Size(), was)
			}
			continue
		}
		if info.Size() > 0 {
			if err := f.readFile(ctx, path, &n.Report, visit); err != nil {
				return err
			}
		}
		file, err := data.Describe(path)
		if err != nil {
			return fmt.Errorf("retrain: events: %w", err)
		}
		if file.Bytes != info.Size() {
			return fmt.Errorf("%w: %s grew while it was read; write it under a name that ends in .tmp and rename it when it is whole", ErrEvents, path)
		}
		n.Inputs = append(n.Inputs, file)
		n.After.Files = slices.Insert(n.After.Files, at, file)
	}
	return nil
}

func (f Feed) readFile(ctx context.Context, path string, sum *data.Report, visit func(data.Event) string) error {
	src := f.Source
	src.Events, src.Items, src.Users = path, "", ""
	rep, err := data.ReadEvents(ctx, src, visit)
	if err != nil {
		if ctx.Err() != nil {
			return err
		}
		return fmt.Errorf("%w: %w; has their schema changed?", ErrEvents, err)
	}
	sum.Rows += rep.Rows
	sum.Kept += rep.Kept
	for _, d := range rep.Dropped {
		at := slices.IndexFunc(sum.Dropped, func(s data.Drop) bool { return s.Reason == d.Reason })
		if at < 0 {
			sum.Dropped = append(sum.Dropped, d)
			continue
		}
		s := &sum.Dropped[at]
		s.Count += d.Count
		s.Examples = append(s.Examples, d.Examples...)
		s.Examples = s.Examples[:min(len(s.Examples), data.MaxExamples)]
	}
	return nil
}

// readGrowth copies what has been added to a file, as far as lines are whole, and
// reads the copy: the file may go on growing.
func (f Feed) readGrowth(ctx context.Context, n *News, work string, visit func(data.Event) string) (err error) {
	path := f.Source.Events
	if f.Source.Format != "jsonl" {
		return fmt.Errorf("%w: of the format %s only whole files can be read: name the folder that they come to, or write JSON lines", ErrOptions, f.Source.Format)
	}
	in, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("retrain: events: %w", err)
	}
	defer in.Close() //nolint:errcheck // only read from
	info, err := in.Stat()
	if err != nil {
		return fmt.Errorf("retrain: events: %w", err)
	}
	from := n.After.Offset
	if info.Size() < from {
		return fmt.Errorf("%w: %s has %d bytes and had at least %d: it was cut off or begun anew; where old lines have to go, use a folder and a new file each time", ErrEvents, path, info.Size(), from)
	}
	before, err := tail(in, from)
	if err != nil {
		return fmt.Errorf("retrain: events: %w", err)
	}
	if from > 0 && before != n.After.Before {
		return fmt.Errorf("%w: %s has other lines before byte %d than when it was read: it was replaced; where old lines have to go, use a folder and a new file each time", ErrEvents, path, from)
	}
	whole, err := lastLine(in, from, info.Size())
	if err != nil {
		return fmt.Errorf("retrain: events: %w", err)
	}
	if whole == from {
		return nil
	}
	out, err := os.Create(work)
	if err != nil {
		return fmt.Errorf("retrain: events: %w", err)
	}
	defer func() { err = cmp.Or(err, os.Remove(work)) }()
	_, err = io.Copy(out, io.NewSectionReader(in, from, whole-from))
	if err = cmp.Or(err, out.Close()); err != nil {
		return fmt.Errorf("retrain: events: %w", err)
	}
	if err := f.readFile(ctx, work, &n.Report, visit); err != nil {
		return fmt.Errorf("%w (%s from byte %d on)", err, path, from)
	}
	file, err := data.Describe(work)
	if err != nil {
		return fmt.Errorf("retrain: events: %w", err)
	}
	file.Name = fmt.Sprintf("%s from byte %d to %d", filepath.Base(path), from, whole)
	n.Inputs = append(n.Inputs, file)
	n.After.Offset = whole
	if n.After.Before, err = tail(in, whole); err != nil {
		return fmt.Errorf("retrain: events: %w", err)
	}
	return nil
}

// Skip returns the cursor beyond all that the feed has now, without reading events: they
// may be broken. Files of a folder that have changed are taken for what they are now.
func (f Feed) Skip(from Cursor) (Cursor, error) {
	fail := func(err error) (Cursor, error) { return from, fmt.Errorf("retrain: events: %w", err) }
	info, err := os.Stat(f.Source.Events)
	if err != nil {
		return fail(err)
	}
	if !info.IsDir() {
		in, err := os.Open(f.Source.Events)
		if err != nil {
			return fail(err)
		}
		defer in.Close() //nolint:errcheck // only read from
		var c Cursor
		if c.Offset, err = lastLine(in, 0, info.Size()); err != nil {
			return fail(err)
		}
		if c.Before, err = tail(in, c.Offset); err != nil {
			return fail(err)
		}
		return c, nil
	}
	c := Cursor{Files: slices.Clone(from.Files)}
	names, err := f.names()
	if err != nil {
		return fail(err)
	}
	for _, name := range names {
		file, err := data.Describe(filepath.Join(f.Source.Events, name))
		if err != nil {
			return fail(err)
		}
		at, known := c.find(name)
		if known {
			c.Files[at] = file
		} else {
			c.Files = slices.Insert(c.Files, at, file)
		}
	}
	return c, nil
}

// find returns where a file of that name is among those that were read, or would be.
func (c *Cursor) find(name string) (at int, known bool) {
	return slices.BinarySearchFunc(c.Files, name, func(f data.File, name string) int { return cmp.Compare(f.Name, name) })
}

// names returns the names of the files in the folder, in order, without those that are
// not there yet.
func (f Feed) names() ([]string, error) {
	entries, err := os.ReadDir(f.Source.Events)
	var names []string
	for _, e := range entries {
		name := e.Name()
		if !e.IsDir() && !strings.HasPrefix(name, ".") && !strings.HasSuffix(name, ".tmp") && !strings.HasSuffix(name, ".part") {
			names = append(names, name)
		}
	}
	return names, err
}

// tail returns the digest of the last bytes before the given place.
func tail(in io.ReaderAt, before int64) (string, error) {
	b := make([]byte, min(before, tailSize))
	if _, err := in.ReadAt(b, before-int64(len(b))); err != nil && len(b) > 0 {
		return "", err
	}
	d := sha256.Sum256(b)
	return hex.EncodeToString(d[:]), nil
}

// lastLine returns where the last line that is whole ends between two places of a
// file, the first of them where there is none.
func lastLine(in io.ReaderAt, from, to int64) (int64, error) {
	b := make([]byte, 1<<16)
	for to > from {
		part := b[:min(int64(len(b)), to-from)]
		if _, err := in.ReadAt(part, to-int64(len(part))); err != nil {
			return 0, err
		}
		if i := bytes.LastIndexByte(part, '\n'); i >= 0 {
			return to - int64(len(part)) + int64(i) + 1, nil
		}
		to -= int64(len(part))
	}
	return from, nil
}
