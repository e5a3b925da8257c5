package data

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
)

// record is an event on its way through Prepare, its ids interned.
type record struct {
	user, item int32
	kind       Kind
	value      float32
	time       int64
	line       int64 // in the event file; orders ties
}

const recordSize = 29 // bytes on disk

func (r *record) put(b []byte) {
	le := binary.LittleEndian
	le.PutUint32(b, uint32(r.user))
	le.PutUint32(b[4:], uint32(r.item))
	le.PutUint32(b[8:], math.Float32bits(r.value))
	le.PutUint64(b[12:], uint64(r.time))
	le.PutUint64(b[20:], uint64(r.line))
	b[28] = byte(r.kind)
}

func (r *record) get(b []byte) {
	le := binary.LittleEndian
	*r = record{
		user: int32(le.Uint32(b)), item: int32(le.Uint32(b[4:])), kind: Kind(b[28]),
		value: math.Float32frombits(le.Uint32(b[8:])),
		time:  int64(le.Uint64(b[12:])), line: int64(le.Uint64(b[20:])),
	}
}

// spill keeps records in files, all of a user in the same one, so that only one
// part of them need be in memory at a time.
type spill struct {
	dir    string
	counts []int64 // records in each part
}

func newSpill(dir string, parts int) *spill {
	return &spill{dir: dir, counts: make([]int64, parts)}
}

func (s *spill) path(part int) string { return filepath.Join(s.dir, fmt.Sprintf("part-%04d", part)) }

// part returns where the records of a user are, by its first interned index.
func (s *spill) part(user int32) int { return int(user) % len(s.counts) }

// fill writes all records that each passes to add.
func (s *spill) fill(each func(add func(*record) error) error) (err error) {
	files, outs := make([]*os.File, len(s.counts)), make([]*bufio.Writer, len(s.counts))
	defer func() {
		for _, f := range files {
			if f != nil {
				err = closeAfter(err, f)
			}
		}
	}()
	for i := range files {
		if files[i], err = os.Create(s.path(i)); err != nil {
			return fmt.Errorf("data: temporary file: %w", err)
		}
		outs[i] = bufio.NewWriterSize(files[i], 1<<15)
	}
	var b [recordSize]byte
	err = each(func(r *record) error {
		p := s.part(r.user)
		s.counts[p]++
		r.put(b[:])
		_, err := outs[p].Write(b[:])
		return err
	})
	for _, out := range outs {
		if err == nil {
			err = out.Flush()
		}
	}
	return err
}

// load reads a whole part.
func (s *spill) load(part int) ([]record, error) {
	out := make([]record, 0, s.counts[part])
	err := s.scan(part, func(r *record) { out = append(out, *r) })
	return out, err
}

// store replaces a part.
func (s *spill) store(part int, records []record) (err error) {
	f, err := os.Create(s.path(part))
	if err != nil {
		return fmt.Errorf("data: temporary file: %w", err)
	}
	defer func() { err = closeAfter(err, f) }()
	out := bufio.NewWriterSize(f, 1<<16)
	var b [recordSize]byte
	for i := range records {
		records[i].put(b[:])
		if _, err := out.Write(b[:]); err != nil {
			return err
		}
	}
	s.counts[part] = int64(len(records))
	return out.Flush()
}

// scan calls visit for each record of a part in order.
func (s *spill) scan(part int, visit func(*record)) error {
	r, err := s.open(part)
	if err != nil {
		return err
	}
	defer r.file.Close() //nolint:errcheck // only read from
	var rec record
	for range s.counts[part] {
		if err := r.next(&rec); err != nil {
			return err
		}
		visit(&rec)
	}
	return nil
}

type spillReader struct {
	file *os.File
	in   *bufio.Reader
	b    [recordSize]byte
}

func (s *spill) open(part int) (*spillReader, error) {
	f, err := os.Open(s.path(part))
	if err != nil {
		return nil, fmt.Errorf("data: temporary file: %w", err)
	}
	return &spillReader{file: f, in: bufio.NewReaderSize(f, 1<<16)}, nil
}

func (r *spillReader) next(rec *record) error {
	if _, err := io.ReadFull(r.in, r.b[:]); err != nil {
		return fmt.Errorf("data: temporary file %s: %w", r.file.Name(), err)
	}
	rec.get(r.b[:])
	return nil
}
