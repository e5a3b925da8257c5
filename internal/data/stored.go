package data

import (
	"bufio"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
)

// Histories are the events of users, wherever they are kept.
type Histories interface {
	// Users is their number.
	Users() int
	// Len is the number of events of a user.
	Len(user int) int
	// Read appends events lo to hi-1 of a user, in order of time, to dst.
	Read(dst []Interaction, user, lo, hi int) ([]Interaction, error)
}

// InMemory are histories that are held in memory.
type InMemory [][]Interaction

// Users implements Histories.
func (m InMemory) Users() int { return len(m) }

// Len implements Histories.
func (m InMemory) Len(user int) int { return len(m[user]) }

// Read implements Histories. It never fails.
func (m InMemory) Read(dst []Interaction, user, lo, hi int) ([]Interaction, error) {
	return append(dst, m[user][lo:hi]...), nil
}

// Stored are histories that stay on disk: it keeps eight bytes in memory for each user
// and none for an event. It is for one goroutine.
type Stored struct {
	file   *os.File
	starts []int64 // of each user, in events, and behind the last
	buffer []byte
	named  bool // the file has a name yet
}

const storedSize = 17 // bytes of an event

// Store reads the events of the prepared data set in dir, after checking them against
// the manifest, into a file of its own in the folder scratch, where any history can be
// read by itself. The file has no name, or loses it with Close. Errors of the data set
// wrap ErrPrepared.
func Store(dir, scratch string) (_ *Stored, err error) {
	m, err := ReadManifest(dir)
	if err != nil {
		return nil, err
	}
	f, err := os.CreateTemp(scratch, "events-")
	if err != nil {
		return nil, fmt.Errorf("data: a file for the events: %w", err)
	}
	s := &Stored{file: f, starts: make([]int64, 1, m.Users+1)}
	s.named = os.Remove(f.Name()) != nil // some systems do so only when it is closed
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	out := bufio.NewWriterSize(f, 1<<20)
	record := make([]byte, storedSize)
	last := int32(-1)
	var failed error
	if err := readEvents(dir, m, func(user int32, e Interaction) bool {
		if user != last && last >= 0 {
			s.starts = append(s.starts, s.starts[len(s.starts)-1])
		}
		if last < 0 {
			s.starts = append(s.starts, 0)
		}
		last = user
		s.starts[len(s.starts)-1]++
		put(record, e)
		_, failed = out.Write(record)
		return failed == nil
	}); err != nil {
		return nil, err
	}
	if err := cmp.Or(failed, out.Flush()); err != nil {
		return nil, fmt.Errorf("data: the events in %s: %w", scratch, err)
	}
	return s, nil
}

// Close lets go of the file.
func (s *Stored) Close() error {
	err := s.file.Close()
	if s.named {
		err = errors.Join(err, os.Remove(s.file.Name()))
	}
	return err
}

// Users implements Histories.
func (s *Stored) Users() int { return len(s.starts) - 1 }

// Len implements Histories.
func (s *Stored) Len(user int) int { return int(s.starts[user+1] - s.starts[user]) }

// Read implements Histories.
func (s *Stored) Read(dst []Interaction, user, lo, hi int) ([]Interaction, error) {
	if lo < 0 || lo > hi || hi > s.Len(user) {
		panic(fmt.Sprintf("data: events %d to %d of %d", lo, hi, s.Len(user)))
	}
	n := (hi - lo) * storedSize
	s.buffer = slices.Grow(s.buffer[:0], n)[:n]
	if _, err := s.file.ReadAt(s.buffer, (s.starts[user]+int64(lo))*storedSize); err != nil {
		return dst, fmt.Errorf("data: events of user %d: %w", user, err)
	}
	for b := s.buffer; len(b) > 0; b = b[storedSize:] {
		dst = append(dst, get(b))
	}
	return dst, nil
}

func put(b []byte, e Interaction) {
	le := binary.LittleEndian
	le.PutUint32(b, uint32(e.Item))
	le.PutUint32(b[4:], math.Float32bits(e.Value))
	le.PutUint64(b[8:], uint64(e.Time))
	b[16] = e.Type
}

func get(b []byte) Interaction {
	le := binary.LittleEndian
	return Interaction{
		Item: int32(le.Uint32(b)), Value: math.Float32frombits(le.Uint32(b[4:])), Time: int64(le.Uint64(b[8:])), Type: b[16],
	}
}

// each calls visit for the events of each user, which belong to s.
func (s *Stored) each(visit func(user int, events []Interaction)) error {
	var events []Interaction
	for u := range s.Users() {
		var err error
		if events, err = s.Read(events[:0], u, 0, s.Len(u)); err != nil {
			return err
		}
		visit(u, events)
	}
	return nil
}

// Quantile returns what Dataset.Quantile does.
func (s *Stored) Quantile(share float64) (int64, error) {
	all := s.starts[len(s.starts)-1]
	if all == 0 {
		return 0, nil
	}
	// The time of that rank, sixteen bits at a time, the highest first.
	rank, found := min(int64(share*float64(all)), all-1), int64(0)
	for shift := 48; shift >= 0; shift -= 16 {
		counts := make([]int64, 1<<16)
		if err := s.each(func(_ int, events []Interaction) {
			for _, e := range events {
				if e.Time>>shift>>16 == found>>shift>>16 {
					counts[e.Time>>shift&0xffff]++
				}
			}
		}); err != nil {
			return 0, err
		}
		digit := int64(0)
		for ; rank >= counts[digit]; digit++ {
			rank -= counts[digit]
		}
		found |= digit << shift
	}
	return found, nil
}

// StoredSplit is a Split of events that stay where they are.
type StoredSplit struct {
	Protocol  string
	Histories Histories
	Train     []int32    // how many events of each user train, its first ones
	Valid     []Question // in the order of the users
}

// Question is a Case: which event of User is that at place Target, given all before it?
type Question struct{ User, Target int32 }

// LeaveOneOut makes the same of s as the function of that name makes of a Dataset; with
// refit, what is fitted once validation has chosen: the validation events train, too.
func (s *Stored) LeaveOneOut(minEvents int, refit bool) *StoredSplit {
	minEvents = max(minEvents, 3)
	split := &StoredSplit{Protocol: "leave-one-out", Histories: s, Train: make([]int32, s.Users())}
	for u := range split.Train {
		n := int32(s.Len(u))
		switch {
		case int(n) < minEvents:
			split.Train[u] = n
		case refit:
			split.Train[u] = n - 1
		default:
			split.Train[u] = n - 2
			split.Valid = append(split.Valid, Question{int32(u), n - 2})
		}
	}
	return split
}

// ByTime makes the same of s as the function of that name makes of a Dataset; with refit
// what came before testFrom trains, and nothing is asked.
func (s *Stored) ByTime(validFrom, testFrom int64, refit bool) (*StoredSplit, error) {
	split := &StoredSplit{Protocol: "time", Histories: s, Train: make([]int32, s.Users())}
	first := func(h []Interaction, from int64) int32 {
		i, _ := slices.BinarySearchFunc(h, from, func(e Interaction, t int64) int { return cmp.Compare(e.Time, t) })
		return int32(i)
	}
	err := s.each(func(u int, h []Interaction) {
		v, t := first(h, validFrom), first(h, testFrom)
		if refit {
			v = t
		}
		split.Train[u] = v
		if v < t && v > 0 {
			split.Valid = append(split.Valid, Question{int32(u), v})
		}
	})
	return split, err
}
