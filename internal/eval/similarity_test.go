package eval_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/wisp-project/wisp/internal/eval"
)

func TestAlike(t *testing.T) {
	circle := func(degrees ...float64) eval.Vectors {
		v := eval.Vectors{Dim: 2}
		for _, d := range degrees {
			v.Data = append(v.Data, float32(3*math.Cos(d*math.Pi/180)), float32(3*math.Sin(d*math.Pi/180)))
		}
		return v
	}
	a := circle(0, 10, 30, 90, 175)
	for name, c := range map[string]struct {
		b        eval.Vectors
		overlap  []float64
		spearman float64
	}{
		"itself":        {a, []float64{1, 1, 1, 1, 1}, 1},
		"turned":        {circle(50, 60, 80, 140, 225), []float64{1, 1, 1, 1, 1}, 1},
		"first is last": {circle(176, 10, 30, 90, 175), []float64{0, 0.5, 0.5, 1, 0.5}, math.NaN()},
	} {
		got := eval.Alike(a, c.b, 2)
		if !slices.Equal(got.Overlap, c.overlap) {
			t.Errorf("%s: overlap %v, want %v", name, got.Overlap, c.overlap)
		}
		if !math.IsNaN(c.spearman) && math.Abs(got.Spearman-c.spearman) > 1e-9 {
			t.Errorf("%s: rank correlation %v, want %v", name, got.Spearman, c.spearman)
		}
	}
}

// The rank correlation of three pairs by hand, with a tie: cosines 1, 0, 0 have
// the ranks 2, 0.5, 0.5, and 0, 1, 0 have 0.5, 2, 0.5.
func TestAlikeTies(t *testing.T) {
	a := eval.Vectors{Dim: 2, Data: []float32{1, 0, 1, 0, 0, 1}}
	b := eval.Vectors{Dim: 2, Data: []float32{1, 0, 0, 1, 1, 0}}
	if got := eval.Alike(a, b, 1).Spearman; math.Abs(got+0.5) > 1e-9 {
		t.Errorf("rank correlation %v, want -0.5", got)
	}
	zero := eval.Vectors{Dim: 1, Data: make([]float32, 3)}
	if got := eval.Alike(a, zero, 1).Spearman; got != 0 {
		t.Errorf("rank correlation with nothing is %v, want 0", got)
	}
}

// Vectors that have nothing in common share neighbours by chance only.
func TestAlikeByChance(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	random := func() eval.Vectors {
		v := eval.Vectors{Dim: 16, Data: make([]float32, 200*16)}
		for i := range v.Data {
			v.Data[i] = float32(r.NormFloat64())
		}
		return v
	}
	l := eval.Alike(random(), random(), 10)
	var mean float64
	for _, o := range l.Overlap {
		mean += o / 200
	}
	if mean < 0.02 || mean > 0.1 || math.Abs(l.Spearman) > 0.05 {
		t.Errorf("overlap %v and rank correlation %v, want about 0.05 and 0", mean, l.Spearman)
	}
}
