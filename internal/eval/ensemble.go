package eval

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"

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
			if j := slices.IndexFunc(row, func(x float32) bool { return x != x }); j >= 0 {
				return nil, fmt.Errorf("%w: ensemble %q, member %q, user %d, item %d", ErrNaN, name, member.Name(), c.User, j)
			}
			Standardise(row)
		}
	}
	weights[0] = 1
	best := -1.0 // not known yet
	for improved := true; improved; {
		improved = false
		for m := 1; m < len(members); m++ {
			got := tryWeights(scores, weights, m, items, cases)
			if best < 0 {
				best = got[0] // the member has weight 0 as yet
			}
			for i, w := range weightGrid {
				// Below this, a gain is noise of the summation.
				if got[i] > best+1e-9 {
					best, weights[m], improved = got[i], w, true
				}
			}
			if err := ctx.Err(); err != nil {
				return nil, fmt.Errorf("eval: fit ensemble: %w", err)
			}
		}
	}
	return e, nil
}

// tryWeights returns the NDCG at DefaultTopK over cases with each weight of weightGrid
// for member m; scores, (cases, items), and weights of each member.
func tryWeights(scores [][]float32, weights []float64, m, items int, cases []data.Case) []float64 {
	gains := make([]float64, len(cases)*len(weightGrid))
	workers := min(runtime.GOMAXPROCS(0), len(cases))
	var wg sync.WaitGroup
	for worker := range workers {
		wg.Go(func() {
			others := make([]float32, items)
			for i := worker; i < len(cases); i += workers {
				c, own := &cases[i], scores[m][i*items:(i+1)*items]
				clear(others)
				for n, w := range weights {
					if n == m || w == 0 {
						continue
					}
					for j, s := range scores[n][i*items : (i+1)*items] {
						others[j] += float32(float32(w) * s)
					}
				}
				target := c.Target.Item
				wanted := others[target]
				for _, e := range c.History {
					others[e.Item] = float32(math.Inf(-1))
				}
				others[target] = wanted
				for g, w := range weightGrid {
					gains[i*len(weightGrid)+g] = NDCG(rankOf(others, own, float32(w), target), DefaultTopK)
				}
			}
		})
	}
	wg.Wait()
	means := make([]float64, len(weightGrid))
	for i, gain := range gains {
		means[i%len(means)] += gain / float64(len(cases))
	}
	return means
}

// rankOf returns how many items, up to DefaultTopK, have a higher a + w·b than the target.
func rankOf(a, b []float32, w float32, target int32) (rank int32) {
	wanted := a[target] + float32(w*b[target])
	for j, x := range a {
		if x+float32(w*b[j]) > wanted {
			if rank++; rank == DefaultTopK {
				return rank
			}
		}
	}
	return rank
}
