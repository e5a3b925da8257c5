package main

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/wisp-project/wisp/artifact"
	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/internal/retrain"
	"github.com/wisp-project/wisp/quantize"
)

// serving is an artefact as an eval.Scorer over data that may have items it does not
// know: they are never recommended, and nothing is made of events with them.
type serving struct {
	*quantize.Scorer
	places []int32 // of each item of the data its place in the artefact, -1 for none
	items  int     // of the artefact
}

// newServing checks that events mean the same in the artefact and in ds.
func newServing(a *artifact.Artifact, ds *data.Dataset) (*serving, error) {
	var types []data.EventType
	for _, t := range a.Manifest.EventTypes {
		types = append(types, data.EventType{Name: t.Name, AtLeast: t.AtLeast})
	}
	if !slices.Equal(types, ds.Types) {
		return nil, fmt.Errorf("the artefact knows the event types %v and the data has %v: it was made from other data", types, ds.Types)
	}
	image, err := a.Image()
	if err != nil {
		return nil, err
	}
	name := fmt.Sprintf("version %d", a.Manifest.Version)
	plain, err := quantize.NewScorer(name, image.Bytes())
	if err != nil {
		return nil, err
	}
	ids := make([]string, len(a.Items))
	for i, item := range a.Items {
		ids[i] = item.ID
	}
	return &serving{Scorer: plain, places: retrain.Places(ds, ids), items: len(ids)}, nil
}

// Scores writes the score of every item to dst.
func (s *serving) Scores(ctx context.Context, dst []float32, user int32, history []data.Interaction) error {
	known := make([]data.Interaction, 0, len(history))
	for _, e := range history {
		if j := s.places[e.Item]; j >= 0 {
			e.Item = j
			known = append(known, e)
		}
	}
	scores := make([]float32, s.items)
	if err := s.Scorer.Scores(ctx, scores, user, known); err != nil {
		return err
	}
	for i, j := range s.places {
		dst[i] = float32(math.Inf(-1))
		if j >= 0 {
			dst[i] = scores[j]
		}
	}
	return nil
}
