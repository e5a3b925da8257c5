// Package eval measures recommenders: protocols, ranking and rating metrics,
// and intervals. Every stage of wisp and every baseline is a Scorer, so that
// all of them answer the same questions and stand in the same table.
package eval

import (
	"context"

	"github.com/wisp-project/wisp/internal/data"
)

// Scorer gives every item of the catalogue a score for a history.
type Scorer interface {
	// Name is the row label in tables and the STAGE of result names.
	Name() string
	// Scores writes the score of item i to dst[i]; higher ranks first. dst has
	// the length of the catalogue and belongs to the caller. Items of the
	// history are scored like any other: the protocol excludes them. Scores is
	// safe for concurrent use.
	Scores(ctx context.Context, dst []float32, user int32, history []data.Interaction) error
}

// Sequencer is a Scorer that scores a history after each of its events for less
// than that many calls of Scores cost.
type Sequencer interface {
	Scorer
	// Sequence writes the scores after each of the events lo to hi-1 of history to
	// dst, (hi-lo, N): those of history[:lo+1] first. It is safe for concurrent use.
	Sequence(ctx context.Context, dst []float32, user int32, history []data.Interaction, lo, hi int) error
}
