package eval_test

import (
	"context"
	"errors"
	"math"
	"slices"
	"testing"

	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/internal/eval"
)

// rated is a history of items with the given ratings, from item 0.
func rated(values ...float32) []data.Interaction {
	h := make([]data.Interaction, len(values))
	for i, v := range values {
		h[i] = data.Interaction{Item: int32(i), Value: v}
	}
	return h
}

// constant predicts itself.
type constant float64

func (c constant) Predict(int32, int32) float64 { return float64(c) }

func TestRatingsLeavesOutOtherKinds(t *testing.T) {
	types := data.EventTypes(1, 5)
	d := &data.Dataset{Types: types, Histories: [][]data.Interaction{
		{
			{Item: 0, Type: data.TypeOf(types, data.Click, 0)},
			{Item: 1, Type: data.TypeOf(types, data.Rating, 1), Value: 1},
			{Item: 2, Type: data.TypeOf(types, data.Browse, 0)},
			{Item: 3, Type: data.TypeOf(types, data.Rating, 5), Value: 5},
		},
		{{Item: 4, Type: data.TypeOf(types, data.Favourite, 0)}},
	}}
	got := eval.Ratings(d)
	if len(got) != 2 || len(got[0]) != 2 || got[0][0].Item != 1 || got[0][1].Item != 3 || len(got[1]) != 0 {
		t.Errorf("ratings are %v; want items 1 and 3 of user 0", got)
	}
}

func TestFolds(t *testing.T) {
	for _, c := range []struct{ n, k int }{{10, 5}, {11, 5}, {14, 5}, {2, 2}, {7, 7}} {
		folds, err := eval.Folds(c.n, c.k, 3)
		if err != nil {
			t.Fatal(err)
		}
		sizes := make([]int, c.k)
		for _, f := range folds {
			sizes[f]++
		}
		if len(folds) != c.n || slices.Max(sizes)-slices.Min(sizes) > 1 {
			t.Errorf("%d events in %d folds: sizes %v", c.n, c.k, sizes)
		}
	}
	a, _ := eval.Folds(100, 5, 1)
	b, _ := eval.Folds(100, 5, 1)
	c, _ := eval.Folds(100, 5, 2)
	if !slices.Equal(a, b) || slices.Equal(a, c) {
		t.Error("folds must depend on the seed and on nothing else")
	}
	for _, c := range []struct{ n, k int }{{10, 1}, {10, 0}, {10, -1}, {4, 5}, {0, 2}} {
		if _, err := eval.Folds(c.n, c.k, 0); !errors.Is(err, eval.ErrInput) {
			t.Errorf("%d events in %d folds: %v; want ErrInput", c.n, c.k, err)
		}
	}
}

func TestHoldOut(t *testing.T) {
	histories := [][]data.Interaction{rated(1, 2, 3), nil, rated(4, 5)}
	rest, held, err := eval.HoldOut(histories, []int{0, 1, 0, 1, 0}, 1)
	if err != nil {
		t.Fatal(err)
	}
	values := func(histories [][]data.Interaction) (v []float32) {
		for u, h := range histories {
			for _, e := range h {
				v = append(v, float32(u*10)+e.Value)
			}
		}
		return v
	}
	if got, want := values(rest), []float32{1, 3, 25}; !slices.Equal(got, want) {
		t.Errorf("rest %v; want %v", got, want)
	}
	if got, want := values(held), []float32{2, 24}; !slices.Equal(got, want) {
		t.Errorf("held %v; want %v", got, want)
	}
	if _, _, err := eval.HoldOut(histories, []int{0, 1}, 0); !errors.Is(err, eval.ErrInput) {
		t.Errorf("folds of 2 of 5 events: %v; want ErrInput", err)
	}
}

// TestCrossValidateRatings checks that every rating is predicted once, by a
// predictor that has not seen it, and the figures of one that is always off by
// a known amount.
func TestCrossValidateRatings(t *testing.T) {
	histories := [][]data.Interaction{rated(2, 2, 2, 2, 2, 2), nil, rated(4, 4, 4, 4)}
	trained := make([]map[[2]int32]bool, 5)
	seen := map[[2]int32]int{}
	predicted := 0
	c, err := eval.CrossValidateRatings(t.Context(), histories, 5, 1,
		func(_ context.Context, fold int, train [][]data.Interaction) (eval.RatingPredictor, error) {
			trained[fold] = map[[2]int32]bool{}
			for u, h := range train {
				for _, e := range h {
					trained[fold][[2]int32{int32(u), e.Item}] = true
					seen[[2]int32{int32(u), e.Item}]++
				}
			}
			return predictFunc(func(user, item int32) float64 {
				predicted++
				if trained[fold][[2]int32{user, item}] {
					t.Errorf("fold %d: user %d, item %d is both in training and test", fold, user, item)
				}
				return 3
			}), nil
		})
	if err != nil {
		t.Fatal(err)
	}
	for pair, n := range seen {
		if n != 4 {
			t.Errorf("%v trained %d times; want 4", pair, n)
		}
	}
	if len(seen) != 10 || predicted != 10 || len(c.Folds) != 5 {
		t.Errorf("%d pairs trained, %d predicted in %d folds; want 10, 10 and 5", len(seen), predicted, len(c.Folds))
	}
	want := eval.Interval{Value: 1, Low: 1, High: 1}
	if c.RMSE != want || c.MAE != want {
		t.Errorf("RMSE %v, MAE %v; want %v", c.RMSE, c.MAE, want)
	}
}

// predictFunc is a function as a RatingPredictor.
type predictFunc func(user, item int32) float64

func (f predictFunc) Predict(user, item int32) float64 { return f(user, item) }

func TestCrossValidateRatingsErrors(t *testing.T) {
	histories := [][]data.Interaction{rated(1, 2, 3, 4)}
	fine := func(context.Context, int, [][]data.Interaction) (eval.RatingPredictor, error) {
		return constant(1), nil
	}
	broken := errors.New("broken")
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		name string
		ctx  context.Context
		k    int
		fit  func(context.Context, int, [][]data.Interaction) (eval.RatingPredictor, error)
		want error
	}{
		{"too many folds", t.Context(), 5, fine, eval.ErrInput},
		{"cancelled", cancelled, 2, fine, context.Canceled},
		{"fit fails", t.Context(), 2, func(context.Context, int, [][]data.Interaction) (eval.RatingPredictor, error) { return nil, broken }, broken},
		{"not a number", t.Context(), 2, func(context.Context, int, [][]data.Interaction) (eval.RatingPredictor, error) {
			return constant(math.NaN()), nil
		}, eval.ErrNaN},
	} {
		if _, err := eval.CrossValidateRatings(c.ctx, histories, c.k, 1, c.fit); !errors.Is(err, c.want) {
			t.Errorf("%s: %v; want %v", c.name, err, c.want)
		}
	}
	if _, err := eval.MeasureRatings(constant(1), [][]data.Interaction{nil}); !errors.Is(err, eval.ErrInput) {
		t.Errorf("measuring without ratings: %v; want ErrInput", err)
	}
}
