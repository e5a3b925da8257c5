package baseline_test

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/wisp-project/wisp/internal/baseline"
	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/internal/eval"
)

var (
	_ eval.RatingPredictor = (*baseline.RatingMean)(nil)
	_ eval.RatingPredictor = (*baseline.RatingBias)(nil)
	_ eval.RatingPredictor = (*baseline.RatingFactors)(nil)
)

func rate(item int32, value float32) data.Interaction {
	return data.Interaction{Item: item, Value: value}
}

func TestRatingMean(t *testing.T) {
	m, err := baseline.NewRatingMean([][]data.Interaction{{rate(0, 5), rate(1, 2)}, nil, {rate(0, 2)}})
	if err != nil {
		t.Fatal(err)
	}
	if got := m.Predict(7, -1); got != 3 {
		t.Errorf("mean %g; want 3", got)
	}
	for name, h := range map[string][][]data.Interaction{
		"none":         {nil},
		"not a number": {{rate(0, float32(math.NaN()))}},
		"infinite":     {{rate(0, float32(math.Inf(-1)))}},
	} {
		if _, err := baseline.NewRatingMean(h); !errors.Is(err, baseline.ErrInput) {
			t.Errorf("%s: %v; want ErrInput", name, err)
		}
	}
}

// TestRatingBias compares with biases worked by hand.
func TestRatingBias(t *testing.T) {
	// Mean 3; user 0 and item 0 are 1 above it, user 1 and item 1 below.
	additive := [][]data.Interaction{{rate(0, 5), rate(1, 3)}, {rate(0, 3), rate(1, 1)}, nil}
	// One rating 2 above the mean of 3, with weights 1 and 1: the least value of
	// (2-a-b)² + a² + b² is at a = b = 2/3; and the mirror image below.
	apart := [][]data.Interaction{{rate(0, 5)}, {rate(1, 1)}, nil}
	for _, c := range []struct {
		name       string
		histories  [][]data.Interaction
		opts       baseline.RatingBiasOptions
		user, item int32
		want       float64
	}{
		{"additive", additive, baseline.RatingBiasOptions{UserL2: -1, ItemL2: -1}, 0, 0, 5},
		{"additive", additive, baseline.RatingBiasOptions{UserL2: -1, ItemL2: -1}, 0, 1, 3},
		{"additive", additive, baseline.RatingBiasOptions{UserL2: -1, ItemL2: -1}, 1, 1, 1},
		{"user without ratings", additive, baseline.RatingBiasOptions{UserL2: -1, ItemL2: -1}, 2, 1, 2},
		{"item without ratings", additive, baseline.RatingBiasOptions{UserL2: -1, ItemL2: -1}, 0, 2, 4},
		{"unknown user", additive, baseline.RatingBiasOptions{UserL2: -1, ItemL2: -1}, 99, 0, 4},
		{"unknown item", additive, baseline.RatingBiasOptions{UserL2: -1, ItemL2: -1}, 1, -1, 2},
		{"unknown both", additive, baseline.RatingBiasOptions{}, -1, 99, 3},
		{"shrunk", apart, baseline.RatingBiasOptions{UserL2: 1, ItemL2: 1, Sweeps: 100}, 0, 0, 3 + 4.0/3},
		{"shrunk", apart, baseline.RatingBiasOptions{UserL2: 1, ItemL2: 1, Sweeps: 100}, 1, 1, 3 - 4.0/3},
		{"shrunk, user without ratings", apart, baseline.RatingBiasOptions{UserL2: 1, ItemL2: 1, Sweeps: 100}, 2, 1, 3 - 2.0/3},
		{"default weights", apart, baseline.RatingBiasOptions{Sweeps: 100}, 0, 0, 3 + 2*0.7/1.7}, // a/b = 2/5, b = 1/1.7
	} {
		b, err := baseline.NewRatingBias(c.histories, 3, c.opts)
		if err != nil {
			t.Fatal(err)
		}
		if got := b.Predict(c.user, c.item); math.Abs(got-c.want) > 1e-9 {
			t.Errorf("%s: user %d, item %d: %g; want %g", c.name, c.user, c.item, got, c.want)
		}
	}
}

func TestRatingBiasStaysInRange(t *testing.T) {
	b, err := baseline.NewRatingBias([][]data.Interaction{{rate(0, 5), rate(1, 5)}, {rate(1, 5), rate(2, 1)}, {rate(2, 1), rate(0, 4)}}, 3,
		baseline.RatingBiasOptions{UserL2: -1, ItemL2: -1})
	if err != nil {
		t.Fatal(err)
	}
	for u := range int32(3) {
		for i := range int32(3) {
			if r := b.Predict(u, i); r < 1 || r > 5 {
				t.Errorf("user %d, item %d: %g is out of the range of the ratings", u, i, r)
			}
		}
	}
}

// planted draws ratings 3 + bias + bias + p·q of two factors with a little
// noise: a share of all pairs trains, and the same share of the rest is held out
// twice. The last user and the last item have no rating.
func planted(users, items int) (train, valid, test [][]data.Interaction) {
	rng := rand.New(rand.NewPCG(5, 0))
	normals := func(n int) []float64 {
		x := make([]float64, n)
		for i := range x {
			x[i] = rng.NormFloat64()
		}
		return x
	}
	bu, bi, p, q := normals(users), normals(items), normals(2*users), normals(2*items)
	train, valid, test = make([][]data.Interaction, users), make([][]data.Interaction, users), make([][]data.Interaction, users)
	for u := range users - 1 {
		for i := range items - 1 {
			r := 3 + 0.3*bu[u] + 0.3*bi[i] + p[2*u]*q[2*i] + p[2*u+1]*q[2*i+1] + 0.05*rng.NormFloat64()
			to := &train
			switch x := rng.Float64(); {
			case x < 0.2:
				to = &valid
			case x < 0.4:
				to = &test
			}
			(*to)[u] = append((*to)[u], rate(int32(i), float32(r)))
		}
	}
	return train, valid, test
}

func rmse(t *testing.T, p eval.RatingPredictor, histories [][]data.Interaction) float64 {
	t.Helper()
	e, err := eval.MeasureRatings(p, histories)
	if err != nil {
		t.Fatal(err)
	}
	return e.RMSE
}

func TestRatingFactorsRecoverPlantedFactors(t *testing.T) {
	const users, items = 80, 60
	train, valid, test := planted(users, items)
	bias, err := baseline.NewRatingBias(train, items, baseline.RatingBiasOptions{})
	if err != nil {
		t.Fatal(err)
	}
	m, err := baseline.NewRatingFactors(t.Context(), train, valid, items,
		baseline.RatingFactorOptions{Factors: 4, FactorL2: 0.1, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	if got, before := rmse(t, m, test), rmse(t, bias, test); got > 0.2 || before < 1 {
		t.Errorf("RMSE %.3f with factors and %.3f with biases; want at most 0.2, and at least 1", got, before)
	}
	again, err := baseline.NewRatingFactors(t.Context(), train, valid, items,
		baseline.RatingFactorOptions{Factors: 4, FactorL2: 0.1, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	other, err := baseline.NewRatingFactors(t.Context(), train, valid, items,
		baseline.RatingFactorOptions{Factors: 4, FactorL2: 0.1, Seed: 2})
	if err != nil {
		t.Fatal(err)
	}
	if a, b, c := m.Predict(3, 4), again.Predict(3, 4), other.Predict(3, 4); a != b || a == c {
		t.Errorf("%v and %v with seed 1, %v with seed 2; want the same and another", a, b, c)
	}
}

// TestRatingFactorsWeights has two users far above and below the mean of 3, each
// with four ratings. Items have bias 0 by symmetry and factors hardly grow, so
// the bias b of user 0 is where 4·(2-b) = weight·√4·b.
func TestRatingFactorsWeights(t *testing.T) {
	histories := [][]data.Interaction{
		{rate(0, 5), rate(1, 5), rate(2, 5), rate(3, 5)},
		{rate(0, 1), rate(1, 1), rate(2, 1), rate(3, 1)},
	}
	m, err := baseline.NewRatingFactors(t.Context(), histories, nil, 4,
		baseline.RatingFactorOptions{Factors: 1, Epochs: 400, LearningRate: 0.05, FactorL2: 10, BiasL2: 1})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := m.Predict(0, -1), 3+4.0/3; math.Abs(got-want) > 0.01 {
		t.Errorf("mean and bias of user 0: %.4f; want %.4f", got, want)
	}
}

// TestRatingFactorsFallBack asks for users and items without ratings: mean and
// the bias of the other are what is known.
func TestRatingFactorsFallBack(t *testing.T) {
	const users, items = 30, 20
	train, _, _ := planted(users, items)
	m, err := baseline.NewRatingFactors(t.Context(), train, nil, items, baseline.RatingFactorOptions{Factors: 4, Epochs: 30})
	if err != nil {
		t.Fatal(err)
	}
	if m.Epochs() != 30 {
		t.Errorf("%d epochs without validation; want all 30", m.Epochs())
	}
	mean := m.Predict(-1, -1)
	for u := range int32(users - 1) {
		if a, b := m.Predict(u, items-1), m.Predict(u, items+5); a != b {
			t.Errorf("user %d: %g for an item without ratings, %g for one that does not exist", u, a, b)
		}
	}
	for i := range int32(items - 1) {
		if a, b := m.Predict(users-1, i), m.Predict(-1, i); a != b || a == mean {
			t.Errorf("item %d: %g for a user without ratings, %g for one that does not exist, mean %g", i, a, b, mean)
		}
	}
	if got := m.Predict(users-1, items-1); got != mean {
		t.Errorf("neither has ratings: %g; want the mean %g", got, mean)
	}
}

func TestRatingFactorsStopEarly(t *testing.T) {
	const users, items = 60, 40
	train, valid, _ := planted(users, items)
	// Without regularisation the noise is learnt by heart.
	opts := baseline.RatingFactorOptions{Factors: 20, FactorL2: -1, BiasL2: -1, LearningRate: 0.03, Decay: 1, Epochs: 300}
	stopped, err := baseline.NewRatingFactors(t.Context(), train, valid, items, opts)
	if err != nil {
		t.Fatal(err)
	}
	whole, err := baseline.NewRatingFactors(t.Context(), train, nil, items, opts)
	if err != nil {
		t.Fatal(err)
	}
	lo, hi := math.Inf(1), math.Inf(-1)
	for _, h := range train {
		for _, e := range h {
			lo, hi = min(lo, float64(e.Value)), max(hi, float64(e.Value))
		}
	}
	for u := range int32(users) {
		for i := range int32(items) {
			if r := whole.Predict(u, i); r < lo || r > hi {
				t.Errorf("user %d, item %d: %g is out of the range of the ratings", u, i, r)
			}
		}
	}
	if a, b := rmse(t, stopped, valid), rmse(t, whole, valid); stopped.Epochs() >= 300 || a >= b {
		t.Errorf("stopped after %d epochs at %.4f, not stopped %.4f; want fewer than 300 and a smaller error", stopped.Epochs(), a, b)
	}
	opts.Epochs = stopped.Epochs()
	again, err := baseline.NewRatingFactors(t.Context(), train, nil, items, opts)
	if err != nil {
		t.Fatal(err)
	}
	if a, b := stopped.Predict(1, 2), again.Predict(1, 2); a != b {
		t.Errorf("%g after stopping at epoch %d, %g after as many epochs", a, opts.Epochs, b)
	}
}

func TestRatingErrors(t *testing.T) {
	fine := [][]data.Interaction{{rate(0, 5), rate(1, 1)}}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	nan := math.NaN()
	for name, c := range map[string]struct {
		ctx   context.Context
		train [][]data.Interaction
		valid [][]data.Interaction
		items int
		opts  baseline.RatingFactorOptions
		want  error
	}{
		"item outside":            {t.Context(), [][]data.Interaction{{rate(2, 1)}}, nil, 2, baseline.RatingFactorOptions{}, baseline.ErrInput},
		"validation item outside": {t.Context(), fine, [][]data.Interaction{{rate(-1, 1)}}, 2, baseline.RatingFactorOptions{}, baseline.ErrInput},
		"validation not a number": {t.Context(), fine, [][]data.Interaction{{rate(0, float32(nan))}}, 2, baseline.RatingFactorOptions{}, baseline.ErrInput},
		"no items":                {t.Context(), fine, nil, 0, baseline.RatingFactorOptions{}, baseline.ErrInput},
		"no ratings":              {t.Context(), [][]data.Interaction{nil}, nil, 2, baseline.RatingFactorOptions{}, baseline.ErrInput},
		"rating not a number":     {t.Context(), [][]data.Interaction{{rate(0, float32(nan))}}, nil, 2, baseline.RatingFactorOptions{}, baseline.ErrInput},
		"negative factors":        {t.Context(), fine, nil, 2, baseline.RatingFactorOptions{Factors: -1}, baseline.ErrInput},
		"rate not a number":       {t.Context(), fine, nil, 2, baseline.RatingFactorOptions{LearningRate: nan}, baseline.ErrInput},
		"negative rate":           {t.Context(), fine, nil, 2, baseline.RatingFactorOptions{LearningRate: -1}, baseline.ErrInput},
		"diverges":                {t.Context(), fine, nil, 2, baseline.RatingFactorOptions{LearningRate: 1e6}, baseline.ErrInput},
		"cancelled":               {cancelled, fine, nil, 2, baseline.RatingFactorOptions{}, context.Canceled},
	} {
		if _, err := baseline.NewRatingFactors(c.ctx, c.train, c.valid, c.items, c.opts); !errors.Is(err, c.want) {
			t.Errorf("%s: %v; want %v", name, err, c.want)
		}
	}
	for name, o := range map[string]baseline.RatingBiasOptions{"weight": {UserL2: nan}, "sweeps": {Sweeps: -1}} {
		if _, err := baseline.NewRatingBias(fine, 2, o); !errors.Is(err, baseline.ErrInput) {
			t.Errorf("bias with bad %s: %v; want ErrInput", name, err)
		}
	}
}
