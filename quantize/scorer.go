package quantize

import (
	"context"
	"fmt"

	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/internal/layout"
	"github.com/wisp-project/wisp/internal/q8"
)

// Scorer is an int8 model in plain Go as an eval.Scorer.
type Scorer struct {
	name         string
	model        *q8.Model
	descriptions []string // of the users, nil for none
}

// NewScorer returns a scorer for an image.
func NewScorer(name string, image []byte) (*Scorer, error) {
	m, err := q8.New(image)
	if err != nil {
		return nil, fmt.Errorf("quantize: scorer: %w", err)
	}
	return &Scorer{name: name, model: m}, nil
}

// WithDescriptions returns a scorer that knows the users' descriptions, nil for
// none; the image must have a user map. It reads a description anew for each
// request, as the guest does.
func (s *Scorer) WithDescriptions(users []string) *Scorer {
	return &Scorer{name: s.name, model: s.model, descriptions: users}
}

// Name returns the name that NewScorer was given.
func (s *Scorer) Name() string { return s.name }

// Scores writes the score of each item to dst, (N). Only the latest events that
// an answer can depend on are looked at.
func (s *Scorer) Scores(_ context.Context, dst []float32, user int32, history []data.Interaction) error {
	if n := s.model.Shape().Items; len(dst) != n {
		return fmt.Errorf("%w: room for %d scores, it has %d items", ErrImage, len(dst), n)
	}
	u, err := s.vector(user, history)
	if err != nil {
		return err
	}
	s.model.Scores(dst, u)
	return nil
}

// Exact returns the score of each item with its integer, in the order of the
// item table.
func (s *Scorer) Exact(user int32, history []data.Interaction) ([]layout.Hit, error) {
	u, err := s.vector(user, history)
	if err != nil {
		return nil, err
	}
	return s.model.Hits(u), nil
}

// vector returns the vector of a user with a history that fits the model.
func (s *Scorer) vector(user int32, history []data.Interaction) ([]int16, error) {
	shape, events := s.model.Shape(), HistoryEvents(history)
	events = events[max(0, len(events)-shape.Reach()):]
	request := layout.Request{Kind: layout.KindScore, History: events}
	if s.descriptions != nil {
		if user < 0 || int(user) >= len(s.descriptions) {
			return nil, fmt.Errorf("%w: user %d, descriptions are known of %d", ErrImage, user, len(s.descriptions))
		}
		request.Text = layout.CutText(s.descriptions[user])
	}
	if err := request.Check(shape, s.model.Map()); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrImage, err)
	}
	return s.model.DescribedUser(events, request.Text), nil
}

// HistoryEvents returns a history as requests carry it.
func HistoryEvents(h []data.Interaction) []layout.Event {
	events, gaps := make([]layout.Event, len(h)), data.Gaps(h)
	for i, e := range h {
		events[i] = layout.Event{Item: uint32(e.Item), Type: uint32(e.Type), Gap: gaps[i]}
	}
	return events
}
