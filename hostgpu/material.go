package hostgpu

import (
	"fmt"

	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/model"
)

// material is what a run learns from, wherever it is kept: sequences of events and, for
// each event, the item that came next. It is for one goroutine.
type material struct {
	seqs      []sequence
	histories data.Histories
	next      [][]int32 // of each history; nil: the item of the following event
	place     []int32   // of each item among those that the softmax ranks, -1 for none; nil: all are ranked

	buffer []data.Interaction
	events []model.Event
	target []int32
}

// sequence is the training material of one user: the first n events of a history.
type sequence struct {
	user, history, n int32
	soft             int32 // the soft target of the first event, the others follow it; -1 for none
}

// sequences makes training material of the first events of each history, as many as
// train says; those with fewer than two have no next item and are left out.
func sequences(histories data.Histories, train func(user int) int) *material {
	m := &material{histories: histories}
	for user := range histories.Users() {
		if n := train(user); n >= 2 {
			m.seqs = append(m.seqs, sequence{user: int32(user), history: int32(user), n: int32(n - 1), soft: -1})
		}
	}
	return m
}

// material returns what lessons teach.
func (l *Lessons) material() *material {
	histories := make(data.InMemory, 0, len(l.Lessons))
	m := &material{}
	at := 0
	for i, lesson := range l.Lessons {
		if len(lesson.Events) > 0 {
			soft := at
			if l.Targets == nil {
				soft = -1
			}
			m.seqs = append(m.seqs, sequence{user: int32(lesson.User), history: int32(i), n: int32(len(lesson.Events)), soft: int32(soft)})
		}
		histories, m.next = append(histories, lesson.Events), append(m.next, lesson.Next)
		at += len(lesson.Events)
	}
	m.histories = histories
	return m
}

// read returns the events of a piece and, for each, the place of the item that came next
// in what the softmax ranks, -1 where none is known. They belong to m until the next call.
func (m *material) read(p piece) (events []model.Event, next []int32, err error) {
	s := m.seqs[p.seq]
	h := int(s.history)
	// With the event before, for the gap, and the one behind, which comes next.
	from, to := max(0, p.lo-1), p.hi
	if m.next == nil {
		to++
	}
	if m.buffer, err = m.histories.Read(m.buffer[:0], h, from, to); err != nil {
		return nil, nil, fmt.Errorf("hostgpu: train: %w", err)
	}
	m.events, m.target = m.events[:0], m.target[:0]
	gaps := data.Gaps(m.buffer)
	for i := p.lo; i < p.hi; i++ {
		e := m.buffer[i-from]
		m.events = append(m.events, model.Event{Item: e.Item, Type: e.Type, Gap: gaps[i-from]})
		var item int32
		if m.next == nil {
			item = m.buffer[i-from+1].Item
		} else {
			item = m.next[h][i]
		}
		if item >= 0 && m.place != nil {
			item = m.place[item]
		}
		m.target = append(m.target, item)
	}
	return m.events, m.target, nil
}

// course is what a run learns from and is examined on.
type course struct {
	material *material
	counts   []float64 // training events of each item
	exam     exam
}

// exam are validation cases, wherever they are kept.
type exam interface {
	Len() int
	Case(i int) (data.Case, error)
}

// cases are an exam in memory.
type cases []data.Case

func (c cases) Len() int                      { return len(c) }
func (c cases) Case(i int) (data.Case, error) { return c[i], nil }

// questions are an exam whose histories are read when they are wanted.
type questions struct{ *data.StoredSplit }

func (q questions) Len() int { return len(q.Valid) }

func (q questions) Case(i int) (data.Case, error) {
	at := q.Valid[i]
	h, err := q.Histories.Read(nil, int(at.User), 0, int(at.Target)+1)
	if err != nil {
		return data.Case{}, fmt.Errorf("hostgpu: train: %w", err)
	}
	return data.Case{User: at.User, History: h[:at.Target], Target: h[at.Target]}, nil
}

// inMemory is a course on a split, or on lessons where there are any, about a catalogue
// of so many items.
func inMemory(split *data.Split, lessons *Lessons, items int) (*course, error) {
	c, err := newCourse(data.InMemory(split.Train), func(u int) int { return len(split.Train[u]) }, items)
	if err != nil {
		return nil, err
	}
	c.exam = cases(split.Valid)
	if lessons == nil {
		return c, c.material.check()
	}
	if c.material = lessons.material(); len(c.material.seqs) == 0 {
		return nil, fmt.Errorf("%w: there is no event in %d lessons", ErrData, len(lessons.Lessons))
	}
	return c, nil
}

// stored is a course on a split that stays where it is.
func stored(split *data.StoredSplit, items int) (*course, error) {
	c, err := newCourse(split.Histories, func(u int) int { return int(split.Train[u]) }, items)
	if err != nil {
		return nil, err
	}
	c.exam = questions{split}
	return c, c.material.check()
}

// newCourse is a course without an exam on the first events of histories, as many as
// train says, about a catalogue of so many items.
func newCourse(histories data.Histories, train func(user int) int, items int) (*course, error) {
	c := &course{material: sequences(histories, train), counts: make([]float64, items)}
	var events []data.Interaction
	for u := range histories.Users() {
		var err error
		if events, err = histories.Read(events[:0], u, 0, train(u)); err != nil {
			return nil, fmt.Errorf("hostgpu: train: %w", err)
		}
		for _, e := range events {
			if int(e.Item) >= items {
				return nil, fmt.Errorf("%w: user %d has item %d of a catalogue of %d", ErrData, u, e.Item, items)
			}
			c.counts[e.Item]++
		}
	}
	return c, nil
}

// check reports material that nothing can be learnt from.
func (m *material) check() error {
	if len(m.seqs) == 0 {
		return fmt.Errorf("%w: no user has two training events; a next item cannot be learnt from %d users", ErrData, m.histories.Users())
	}
	return nil
}
