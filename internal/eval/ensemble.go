package eval

import (
	"context"
	"fmt"
	"math"

	"gonum.org/v1/gonum/stat"

	"github.com/wisp-project/wisp/internal/data"
)

// Ensemble adds up the scores of its members, each standardised over the
// catalogue (mean 0, deviation 1) and weighted. It is a Scorer.
type Ensemble struct {
	name    string
	members []Scorer
	weights []float64
}

// NewEnsemble returns the ensemble of members with the given weights, one for
// each.
func NewEnsemble(name string, members []Scorer, weights []float64) (*Ensemble, error) {
	if len(members) == 0 || len(members) != len(weights) {
		return nil, fmt.Errorf("%w: an ensemble of %d members with %d weights", ErrInput, len(members), len(weights))
	}
	return &Ensemble{name: name, members: members, weights: weights}, nil
}

// Name returns the name that the ensemble was given.
func (e *Ensemble) Name() string { return e.name }

// Weights returns the weight of each member; they belong to e.
func (e *Ensemble) Weights() []float64 { return e.weights }

// Scores writes the weighted sum of the members' standardised scores to dst.
func (e *Ensemble) Scores(ctx context.Context, dst []float32, user int32, history []data.Interaction) error {
	sum, scores := make([]float64, len(dst)), make([]float32, len(dst))
	for m, member := range e.members {
		if e.weights[m] == 0 {
			continue
		}
		if err := member.Scores(ctx, scores, user, history); err != nil {
			return fmt.Errorf("eval: ensemble %q: %s: %w", e.name, member.Name(), err)
		}
		Standardise(scores)
		for i, s := range scores {
			sum[i] += e.weights[m] * float64(s)
		}
	}
	for i, s := range sum {
		dst[i] = float32(s)
	}
	return nil
}

// Standardise brings scores to mean 0 and deviation 1; equal scores become 0.
func Standardise(scores []float32) {
	values := make([]float64, len(scores))
	for i, s := range scores {
		values[i] = float64(s)
	}
	mean, deviation := stat.PopMeanStdDev(values, nil)
	for i, v := range values {
		scores[i] = 0
		if deviation > 0 {
			scores[i] = float32((v - mean) / deviation)
		}
	}
}

// weightGrid are the weights that FitEnsemble tries for a member.
var weightGrid = []float64{0, 0.1, 0.2, 0.3, 0.45, 0.6, 0.8, 1, 1.3, 1.7, 2.2, 3}

// FitEnsemble chooses the members' weights for the highest NDCG at
// DefaultTopK over cases, which must be validation cases that no member was
// fitted on: the first member has weight 1, and the others take turns to try a
// grid from 0 to 3 until nothing improves. A weight changes only where that is
// better, so a member that does not help has weight 0. It keeps 4 bytes for each
// member, case and item.
func FitEnsemble(ctx context.Context, name string, members []Scorer, items int, cases []data.Case) (*Ensemble, error) {
	weights := make([]float64, len(members))
	e, err := NewEnsemble(name, members, weights)
	if err != nil {
		return nil, err
	}
	if err := check(items, cases, make([]int64, items), &Options{}); err != nil {
		return nil, err
	}
	scores := make([][]float32, len(members)) // (cases, items) of each
	for m, member := range members {
		scores[m] = make([]float32, len(cases)*items)
		for i, c := range cases {
			if err := ctx.Err(); err != nil {
				return nil, fmt.Errorf("eval: fit ensemble: %w", err)
			}
			row := scores[m][i*items : (i+1)*items]
			if err := member.Scores(ctx, row, c.User, c.History); err != nil {
				return nil, fmt.Errorf("eval: fit ensemble: %s: %w", member.Name(), err)
			}
			Standardise(row)
		}
	}
	k := newRanker(items, 1)
	measure := func() float64 {
		var sum float64
		for i := range cases {
			clear(k.scores)
			for m, w := range weights {
				if w == 0 {
					continue
				}
				for j, s := range scores[m][i*items : (i+1)*items] {
					k.scores[j] += float32(w) * s
				}
			}
			rank, _ := k.rank(&cases[i])
			sum += NDCG(rank, DefaultTopK)
		}
		return sum / float64(len(cases))
	}
	weights[0] = 1
	best := measure()
	for improved := true; improved; {
		improved = false
		for m := 1; m < len(members); m++ {
			kept := weights[m]
			for _, w := range weightGrid {
				weights[m] = w
				// Below this, a gain is noise of the summation.
				if got := measure(); got > best+1e-9 {
					best, kept, improved = got, w, true
				}
			}
			weights[m] = kept
		}
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("eval: fit ensemble: %w", err)
		}
	}
	if math.IsNaN(best) {
		return nil, fmt.Errorf("%w: in ensemble %q", ErrNaN, name)
	}
	return e, nil
}
