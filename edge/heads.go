package edge

import (
	"context"
	"fmt"

	"github.com/wisp-project/wisp/internal/layout"
)

// RateRequest asks what ratings a user would give.
type RateRequest struct {
	// History is as in Request. Events that are ratings, by Type and Value, say how high
	// the user rates; a Value counts as the mean of its level, see Manifest.EventTypes.
	History     []Event  `json:"history"`
	Description string   `json:"description,omitempty"` // as in Request
	Items       []string `json:"items"`                 // ids
}

// Rating is what a user is expected to rate an item.
type Rating struct {
	Item   string  `json:"item"`
	Title  string  `json:"title,omitempty"`
	Rating float32 `json:"rating"` // in the data set's own scale
}

// Ratings is the answer to a RateRequest.
type Ratings struct {
	Items []Rating `json:"items"` // in the order of the request
	// Unknown and ColdStart are as in Response.
	Unknown   []string `json:"unknown,omitempty"`
	ColdStart bool     `json:"cold_start,omitempty"`
}

// Rate returns the ratings that a user would give to the named items, none where none
// are named. How high the user rates is seen from the last events of the history, as
// many as the model looks at; users without ratings are taken for average ones. An
// unknown item is an error that wraps ErrRequest; an artefact without a rating head
// gives ErrNoHead; other errors are those of Recommend.
func (r *Runtime) Rate(ctx context.Context, q RateRequest) (Ratings, error) {
	v := r.view()
	list, err := v.rated(q)
	if err != nil {
		return Ratings{}, err
	}
	h, err := v.history(q.History)
	if err != nil {
		return Ratings{}, err
	}
	return r.rate(ctx, v, list, h, q.Description)
}

// Rate adds the events of q to the history and returns the ratings of its items, as
// Runtime.Rate does. It costs as much as the whole history.
func (s *Session) Rate(ctx context.Context, q RateRequest) (Ratings, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.r.view()
	list, err := v.rated(q)
	if err != nil {
		return Ratings{}, err
	}
	unknown, err := s.append(q.History)
	if err != nil {
		return Ratings{}, err
	}
	h := s.kept
	h.unknown = unknown
	return s.r.rate(ctx, v, list, h, q.Description)
}

// rated checks a request for ratings and returns its items.
func (r view) rated(q RateRequest) ([]uint32, error) {
	if !r.image.Shape.Ratings {
		return nil, fmt.Errorf("%w: it predicts no ratings; fit them with wisp fit-ratings and make it again with wisp compress", ErrNoHead)
	}
	return r.scored(ScoreRequest{Description: q.Description, Items: q.Items})
}

// rate asks for the ratings of a list.
func (r *Runtime) rate(ctx context.Context, v view, list []uint32, h history, description string) (Ratings, error) {
	answer := Ratings{Items: make([]Rating, 0, len(list)), Unknown: h.unknown, ColdStart: len(h.events) == 0}
	if len(list) == 0 {
		return answer, nil
	}
	err := r.with(ctx, func(ctx context.Context, s *sandbox) error {
		hits, err := v.listed(layout.KindRate, list, func(q *layout.Request) (layout.Answer, error) {
			q.History, q.Text = h.last(r.image.Map.MaxHistory), layout.CutText(description)
			return s.do(ctx, v, q)
		})
		for _, hit := range hits {
			item := v.item(hit.Item)
			answer.Items = append(answer.Items, Rating{Item: item.ID, Title: item.Title, Rating: hit.Score})
		}
		return err
	})
	if err != nil {
		return Ratings{}, err
	}
	return answer, nil
}

// ClassifyRequest asks which class a text belongs to.
type ClassifyRequest struct {
	// Text is what is sorted; bytes that are not UTF-8 count as U+FFFD, and no more
	// than MaxText bytes are looked at.
	Text string `json:"text"`
}

// Class is how likely a text is of a class.
type Class struct {
	Name        string  `json:"name"` // one of Manifest().Classes
	Probability float32 `json:"probability"`
}

// Classification is the answer to a ClassifyRequest.
type Classification struct {
	Best string `json:"best"` // the most probable class, the first of equals
	// Classes are all of them, in the order of Manifest().Classes. The probabilities
	// add up to one.
	Classes []Class `json:"classes"`
}

// Classify returns how likely a text is of each class that the artefact knows, such as
// positive and negative: its sentiment. An artefact without classes gives ErrNoHead;
// other errors wrap ErrSandbox or ErrClosed, or are the context's.
func (r *Runtime) Classify(ctx context.Context, q ClassifyRequest) (Classification, error) {
	v, names := r.view(), r.manifest.Classes
	if len(names) == 0 {
		return Classification{}, fmt.Errorf("%w: it knows no classes of texts; learn some with wisp fit-classes and make it again with wisp compress --classes", ErrNoHead)
	}
	var c Classification
	err := r.with(ctx, func(ctx context.Context, s *sandbox) error {
		a, err := s.do(ctx, v, &layout.Request{Kind: layout.KindClassify, Text: layout.CutText(q.Text)})
		if err != nil {
			return err
		}
		best := 0
		for i, hit := range a.Hits {
			if c.Classes = append(c.Classes, Class{Name: names[i], Probability: hit.Score}); hit.Score > a.Hits[best].Score {
				best = i
			}
		}
		c.Best = names[best]
		return nil
	})
	if err != nil {
		return Classification{}, err
	}
	return c, nil
}
