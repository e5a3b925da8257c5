package eval

import (
	"context"
	"fmt"
	"math"

	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/internal/vec"
)

// Sequence writes the scores after each of the events lo to hi-1 to dst. See
// Sequencer; a member that is none is asked about each prefix.
func (e *Ensemble) Sequence(ctx context.Context, dst []float32, user int32, history []data.Interaction, lo, hi int) error {
	if lo < 0 || lo >= hi || hi > len(history) || len(dst)%(hi-lo) != 0 {
		return fmt.Errorf("%w: ensemble %q: events %d to %d of %d, with room for %d scores", ErrInput, e.name, lo, hi, len(history), len(dst))
	}
	clear(dst)
	items := len(dst) / (hi - lo)
	scores := make([]float32, len(dst))
	for m, member := range e.members {
		if e.weights[m] == 0 {
			continue
		}
		var err error
		if s, ok := member.(Sequencer); ok {
			err = s.Sequence(ctx, scores, user, history, lo, hi)
		} else {
			for i := lo; i < hi && err == nil; i++ {
				if err = ctx.Err(); err == nil {
					err = member.Scores(ctx, scores[(i-lo)*items:][:items], user, history[:i+1])
				}
			}
		}
		if err != nil {
			return fmt.Errorf("eval: ensemble %q: %s: %w", e.name, member.Name(), err)
		}
		for i := range hi - lo {
			row := scores[i*items : (i+1)*items]
			Standardise(row)
			for j, s := range row {
				dst[i*items+j] += float32(e.weights[m]) * s
			}
		}
	}
	return nil
}

// FitTemperature returns the T for which softmax(score/T) over the items outside
// the history gives the targets of cases the highest likelihood (temperature
// scaling, Guo et al. 2017): the cases must be validation cases that s was not
// fitted on. It keeps 4 bytes for each case and item.
func FitTemperature(ctx context.Context, s Scorer, items int, cases []data.Case) (float64, error) {
	if err := check(items, cases, make([]int64, items), &Options{}); err != nil {
		return 0, err
	}
	scores := make([]float32, len(cases)*items)
	for i, c := range cases {
		if err := ctx.Err(); err != nil {
			return 0, fmt.Errorf("eval: fit temperature: %w", err)
		}
		row := scores[i*items : (i+1)*items]
		if err := s.Scores(ctx, row, c.User, c.History); err != nil {
			return 0, fmt.Errorf("eval: fit temperature: %s: %w", s.Name(), err)
		}
		target := row[c.Target.Item]
		for _, e := range c.History {
			row[e.Item] = float32(math.Inf(-1))
		}
		row[c.Target.Item] = target
	}
	// With b = 1/T the negative log-likelihood is convex, its slope the mean of
	// E[score] - score of the target: the root is found by halving.
	slope := func(b float64) float64 {
		var sum float64
		for i, c := range cases {
			row := scores[i*items : (i+1)*items]
			vec.ClearUpper()
			top := math.Inf(-1)
			for _, x := range row {
				top = max(top, float64(x))
			}
			var total, mean float64
			for _, x := range row {
				if p := math.Exp(b * (float64(x) - top)); p > 0 {
					total += p
					mean += p * float64(x)
				}
			}
			sum += mean/total - float64(row[c.Target.Item])
		}
		return sum
	}
	lo, hi := math.Log(1e-3), math.Log(1e3)
	for range 40 {
		if err := ctx.Err(); err != nil {
			return 0, fmt.Errorf("eval: fit temperature: %w", err)
		}
		mid := (lo + hi) / 2
		d := slope(math.Exp(mid))
		if math.IsNaN(d) {
			return 0, fmt.Errorf("%w: scorer %q", ErrNaN, s.Name())
		}
		if d < 0 {
			lo = mid
		} else {
			hi = mid
		}
	}
	return math.Exp(-(lo + hi) / 2), nil
}
