package eval_test

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/internal/eval"
)

// counting scores an item by how often it is in the history.
type counting struct{}

func (counting) Name() string { return "counting" }
func (counting) Scores(_ context.Context, dst []float32, _ int32, h []data.Interaction) error {
	clear(dst)
	for _, e := range h {
		dst[e.Item]++
	}
	return nil
}

// atOnce does the same for all prefixes.
type atOnce struct{ counting }

func (a atOnce) Sequence(ctx context.Context, dst []float32, user int32, h []data.Interaction, lo, hi int) error {
	n := len(dst) / (hi - lo)
	for i := lo; i < hi; i++ {
		if err := a.Scores(ctx, dst[(i-lo)*n:(i-lo+1)*n], user, h[:i+1]); err != nil {
			return err
		}
	}
	return nil
}

func TestEnsembleSequence(t *testing.T) {
	const items = 5
	e, err := eval.NewEnsemble("e", []eval.Scorer{counting{}, atOnce{}, table(1, 2, 3, 4, 9), counting{}}, []float64{1, 0.5, 2, 0})
	if err != nil {
		t.Fatal(err)
	}
	h := []data.Interaction{{Item: 1}, {Item: 4}, {Item: 1}, {Item: 0}}
	got, want := make([]float32, 3*items), make([]float32, items)
	if err := e.Sequence(t.Context(), got, 0, h, 1, 4); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		if err := e.Scores(t.Context(), want, 0, h[:i+2]); err != nil {
			t.Fatal(err)
		}
		for j, w := range want {
			if math.Abs(float64(got[i*items+j]-w)) > 1e-5 {
				t.Errorf("after event %d item %d scores %v, want %v", i+1, j, got[i*items+j], w)
			}
		}
	}
	for _, at := range [][2]int{{-1, 2}, {2, 5}, {2, 2}} {
		if err := e.Sequence(t.Context(), got, 0, h, at[0], at[1]); !errors.Is(err, eval.ErrInput) {
			t.Errorf("events %v: %v", at, err)
		}
	}
}

// Targets drawn from softmax(score/T) tell T.
func TestFitTemperature(t *testing.T) {
	const items = 12
	for _, want := range []float64{0.3, 1, 4} {
		r := rand.New(rand.NewPCG(4, uint64(want*10)))
		var cases []data.Case
		scores := make([][]float32, 3000)
		for u := range scores {
			scores[u] = make([]float32, items)
			had := int32(r.IntN(items))
			var sum float64
			for i := range scores[u] {
				scores[u][i] = float32(r.NormFloat64())
				if int32(i) != had {
					sum += math.Exp(float64(scores[u][i]) / want)
				}
			}
			x, target := r.Float64()*sum, had
			for i := range scores[u] {
				if int32(i) == had {
					continue
				}
				if target = int32(i); x < math.Exp(float64(scores[u][i])/want) {
					break
				}
				x -= math.Exp(float64(scores[u][i]) / want)
			}
			scores[u][had] = 100 // is left out
			cases = append(cases, data.Case{User: int32(u), History: []data.Interaction{{Item: had}}, Target: data.Interaction{Item: target}})
		}
		s := scorer(func(user int32, item int) (float32, error) { return scores[user][item], nil })
		got, err := eval.FitTemperature(t.Context(), s, items, cases)
		if err != nil {
			t.Fatal(err)
		}
		if math.Abs(math.Log(got/want)) > 0.2 {
			t.Errorf("temperature %v, want about %v", got, want)
		}
	}
	if _, err := eval.FitTemperature(t.Context(), table(1, 2), 2, nil); !errors.Is(err, eval.ErrInput) {
		t.Errorf("no cases: %v", err)
	}
	nan := scorer(func(int32, int) (float32, error) { return float32(math.NaN()), nil })
	if _, err := eval.FitTemperature(t.Context(), nan, 2, []data.Case{{Target: data.Interaction{Item: 1}}}); !errors.Is(err, eval.ErrNaN) {
		t.Errorf("no numbers: %v", err)
	}
}
