package hostgpu

import (
	"fmt"

	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/model"
)

// Lesson is a history on which a teacher has spoken.
type Lesson struct {
	User   int                // whose it is, or from whose it was made
	Events []data.Interaction // oldest first
	Next   []int32            // the item that came after each event, -1 where none is known
}

// Lessons are what the towers of a student learn from.
type Lessons struct {
	Lessons []Lesson
	Targets *SoftTargets // what the teacher expects after each event of each lesson, in order; nil without a teacher
	// Start are the weights that the student starts from, nil for those of chance.
	Start model.Weights
	// From is the model of older data that goes on in the place of Start, see
	// NewContinuation; nil for none.
	From *Ancestor
}

// check reports lessons that are not of the users and items of ds.
func (l *Lessons) check(ds *data.Dataset) error {
	for i, lesson := range l.Lessons {
		if len(lesson.Next) != len(lesson.Events) || lesson.User < 0 || lesson.User >= len(ds.Users) {
			return fmt.Errorf("%w: lesson %d has %d events, %d next items and user %d of %d", ErrData, i, len(lesson.Events), len(lesson.Next), lesson.User, len(ds.Users))
		}
	}
	return nil
}

// SoftTerm is how a student's loss reads a teacher's distributions. A zero field
// means its default.
type SoftTerm struct {
	// Temperature divides the student's scores where they are compared with the
	// teacher's distributions, which must have been softened by as much (1).
	Temperature float64 `json:"temperature"`
	// Weight is the share of the teacher in the loss of an event whose next item is
	// known; that item has the rest (0.9). Negative for none.
	Weight float64 `json:"weight"`
}

func (s SoftTerm) withDefaults() SoftTerm {
	if s.Temperature == 0 {
		s.Temperature = 1
	}
	if s.Weight == 0 {
		s.Weight = 0.9
	}
	s.Weight = max(s.Weight, 0)
	return s
}

// validate reports a term that no loss can have.
func (s SoftTerm) validate() error {
	if s.Temperature != 0 && !(s.Temperature >= 0.1 && s.Temperature <= 100) {
		return fmt.Errorf("%w: temperature %v; must lie between 0.1 and 100", ErrOptions, s.Temperature)
	}
	return nil
}

// NewDistiller prepares to train the towers of a student, as NewTrainer does, on what
// a teacher said of lessons (Hinton et al. 2015; Tang and Wang 2018 on rankings). The
// split has the training events of each item and the validation cases; Smoothing and
// Samples have no meaning here, the softmax is over all items. The error wraps
// ErrData where lessons and targets do not belong together.
func NewDistiller(ds *data.Dataset, split *data.Split, given Vectors, lessons Lessons, opts TrainOptions) (*Trainer, error) {
	if err := opts.Soft.validate(); err != nil {
		return nil, err
	}
	if err := lessons.check(ds); err != nil {
		return nil, err
	}
	if err := lessons.From.check(ds); err != nil {
		return nil, err
	}
	events := 0
	for _, l := range lessons.Lessons {
		events += len(l.Events)
	}
	if t := lessons.Targets; t == nil || t.Len() != events || t.Items() != len(ds.Items) {
		return nil, fmt.Errorf("%w: a teacher must say of each of %d events what it expects among %d items", ErrData, events, len(ds.Items))
	}
	c, err := inMemory(split, &lessons, len(ds.Items))
	if err != nil {
		return nil, err
	}
	return newTrainer(ds, c, given, &lessons, opts)
}

// soft returns the targets over the n ranked items, item i being at place[i] of them.
func (l *Lessons) soft(place []int32, n int) *softRows {
	rows := l.Targets.ranked(place, n)
	for _, lesson := range l.Lessons {
		first := int32(len(rows.events))
		for _, e := range lesson.Events {
			rows.events, rows.first = append(rows.events, place[e.Item]), append(rows.first, first)
		}
	}
	return rows
}
