package quantize

import (
	"cmp"
	"context"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/internal/eval"
)

// nearest is how many items an item may be replaced by.
const nearest = 10

// made makes up a history from that of user u, which has events: see
// LessonOptions.Augment. It has at least one event, and only items with events.
func (a *asker) made(ctx context.Context, rng *rand.Rand, out eval.Sequencer, u int) ([]data.Interaction, error) {
	h := a.histories[u]
	hi := 1 + rng.IntN(len(h))
	lo := rng.IntN(hi)
	var made []data.Interaction
	for i := lo; i < hi; i++ {
		e := h[i]
		if rng.Float64() < a.o.Drop && (len(made) > 0 || i+1 < hi) {
			continue
		}
		if rng.Float64() < a.o.Swap {
			near, err := a.nearTo(ctx, e)
			if err != nil {
				return nil, err
			}
			if len(near) > 0 {
				e.Item = near[rng.IntN(len(near))]
			}
		}
		made = append(made, e)
	}
	scores, had := make([]float32, a.items), make([]bool, a.items)
	for range a.o.Continue {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := out.Scores(ctx, scores, int32(u), made); err != nil {
			return nil, err
		}
		for i, k := range a.known {
			had[i] = !k
		}
		for _, e := range made {
			had[e.Item] = true
		}
		if !slices.Contains(had, false) {
			break
		}
		// Kind and time are those of some event of the user.
		like := rng.IntN(len(h))
		e := h[like]
		e.Item = drawn(rng, without(scores, had), a.teacher.Temperature)
		e.Time = made[len(made)-1].Time
		if like > 0 {
			e.Time += h[like].Time - h[like-1].Time
		}
		made = append(made, e)
	}
	return made, nil
}

// drawn draws from softmax(scores/temperature).
func drawn(rng *rand.Rand, scores []float32, temperature float64) int32 {
	top := slices.Max(scores)
	var sum float64
	for _, s := range scores {
		sum += math.Exp(float64(s-top) / temperature)
	}
	x, last := rng.Float64()*sum, int32(0)
	for i, s := range scores {
		p := math.Exp(float64(s-top) / temperature)
		if p == 0 {
			continue
		}
		last = int32(i)
		if x -= p; x < 0 {
			break
		}
	}
	return last
}

// nearTo returns the items that the teacher expects most after event e alone.
func (a *asker) nearTo(ctx context.Context, e data.Interaction) ([]int32, error) {
	a.mu.Lock()
	near := a.near[e.Item]
	a.mu.Unlock()
	if near != nil {
		return near, nil
	}
	// Neither kind nor time of the event may depend on who asks first.
	e.Type, e.Time = a.usual, 0
	scores := make([]float32, a.items)
	if err := a.whole.Scores(ctx, scores, 0, []data.Interaction{e}); err != nil {
		return nil, err
	}
	near = make([]int32, 0, a.items)
	for i, k := range a.known {
		if k && int32(i) != e.Item {
			near = append(near, int32(i))
		}
	}
	slices.SortFunc(near, func(i, j int32) int { return cmp.Or(cmp.Compare(scores[j], scores[i]), cmp.Compare(i, j)) })
	near = slices.Clone(near[:min(nearest, len(near))])
	a.mu.Lock()
	a.near[e.Item] = near
	a.mu.Unlock()
	return near, nil
}
