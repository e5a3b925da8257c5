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
	name  string
	model *q8.Model
}

// NewScorer returns a scorer for an image.
func NewScorer(name string, image []byte) (*Scorer, error) {
	m, err := q8.New(image)
	if err != nil {
		return nil, fmt.Errorf("quantize: scorer: %w", err)
	}
	return &Scorer{name: name, model: m}, nil
}

// Name returns the name that NewScorer was given.
func (s *Scorer) Name() string { return s.name }

// Scores writes the score of each item to dst, (N). Only the latest events that
// an answer can depend on are looked at.
func (s *Scorer) Scores(_ context.Context, dst []float32, _ int32, history []data.Interaction) error {
	shape := s.model.Shape()
	if len(dst) != shape.Items {
		return fmt.Errorf("%w: room for %d scores, it has %d items", ErrImage, len(dst), shape.Items)
	}
	events := HistoryEvents(history)
	events = events[max(0, len(events)-shape.Reach()):]
	request := layout.Request{Kind: layout.KindScore, History: events}
	if err := request.Check(shape, s.model.Map()); err != nil {
		return fmt.Errorf("%w: %w", ErrImage, err)
	}
	s.model.Scores(dst, s.model.User(events, nil))
	return nil
}

// HistoryEvents returns a history as requests carry it.
func HistoryEvents(h []data.Interaction) []layout.Event {
	events, gaps := make([]layout.Event, len(h)), data.Gaps(h)
	for i, e := range h {
		events[i] = layout.Event{Item: uint32(e.Item), Type: uint32(e.Type), Gap: gaps[i]}
	}
	return events
}

// Exact returns the score of each item with its integer, in the order of the
// item table.
func (s *Scorer) Exact(history []data.Interaction) []layout.Hit {
	shape := s.model.Shape()
	list := make([]uint32, shape.Items)
	for i := range list {
		list[i] = uint32(i)
	}
	events := HistoryEvents(history)
	hits := make([]layout.Hit, 0, shape.Items)
	for len(list) > 0 { // a request's list is bounded
		part := list[:min(len(list), s.model.Map().MaxList)]
		list = list[len(part):]
		a := s.model.Run(layout.Request{Kind: layout.KindScore, History: events[max(0, len(events)-shape.Reach()):], List: part})
		hits = append(hits, a.Hits...)
	}
	return hits
}
