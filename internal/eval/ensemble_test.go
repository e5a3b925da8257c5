package eval_test

import (
	"errors"
	"math"
	"testing"

	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/internal/eval"
)

func TestEnsembleScores(t *testing.T) {
	// Standardised: (1, -1) and (-1, 1); a flat member adds nothing.
	e, err := eval.NewEnsemble("both", []eval.Scorer{table(3, 1), table(10, 30), table(5, 5)}, []float64{1, 0.25, 7})
	if err != nil {
		t.Fatal(err)
	}
	got := make([]float32, 2)
	if err := e.Scores(t.Context(), got, 0, nil); err != nil {
		t.Fatal(err)
	}
	if math.Abs(float64(got[0])-0.75) > 1e-6 || math.Abs(float64(got[1])+0.75) > 1e-6 {
		t.Errorf("scores %v, want [0.75 -0.75]", got)
	}
}

func TestFitEnsemble(t *testing.T) {
	// Users with even numbers follow the first member, odd ones the second; the
	// third is wrong for everybody.
	first := scorer(func(user int32, item int) (float32, error) {
		if user%2 == 0 && item == int(user)%7 {
			return 9, nil
		}
		return float32(item % 3), nil
	})
	second := scorer(func(user int32, item int) (float32, error) {
		if user%2 == 1 && item == int(user)%7 {
			return 9, nil
		}
		return float32(item % 2), nil
	})
	wrong := scorer(func(user int32, item int) (float32, error) {
		if item == int(user)%7 {
			return -9, nil
		}
		return float32(item), nil
	})
	var cases []data.Case
	for u := range int32(40) {
		cases = append(cases, question(u, u%7))
	}
	members := []eval.Scorer{first, second, wrong}
	e, err := eval.FitEnsemble(t.Context(), "fitted", members, 30, cases)
	if err != nil {
		t.Fatal(err)
	}
	if w := e.Weights(); w[0] != 1 || w[1] == 0 || w[2] != 0 {
		t.Errorf("weights %v, want the second member used and the third not", w)
	}
	ndcg := func(s eval.Scorer) float64 {
		r, err := eval.Run(t.Context(), s, 30, cases, make([]int64, 30), eval.Options{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return r.Accuracy.NDCG
	}
	if ndcg(e) <= ndcg(first) || ndcg(e) <= ndcg(second) {
		t.Errorf("the ensemble reaches %v, its members %v and %v", ndcg(e), ndcg(first), ndcg(second))
	}
}

func TestEnsembleRefuses(t *testing.T) {
	if _, err := eval.NewEnsemble("none", nil, nil); !errors.Is(err, eval.ErrInput) {
		t.Errorf("no members: %v", err)
	}
	if _, err := eval.FitEnsemble(t.Context(), "x", []eval.Scorer{table(1, 2)}, 2, nil); !errors.Is(err, eval.ErrInput) {
		t.Errorf("no cases: %v", err)
	}
	cases := []data.Case{question(0, 1)}
	if _, err := eval.FitEnsemble(t.Context(), "x", []eval.Scorer{table(1, 2), table(1, float32(math.NaN()))}, 2, cases); !errors.Is(err, eval.ErrNaN) {
		t.Errorf("a member without a number: %v", err)
	}
}
