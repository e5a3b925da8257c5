package eval_test

import (
	"errors"
	"math"
	"testing"

	"github.com/wisp-project/wisp/internal/eval"
)

func TestMetrics(t *testing.T) {
	for _, test := range []struct {
		name   string
		metric eval.Metric
		rank   int32
		want   float64
	}{
		{"NDCG", eval.NDCG, 0, 1},
		{"NDCG", eval.NDCG, 1, 1 / math.Log2(3)},
		{"NDCG", eval.NDCG, 2, 0.5},
		{"NDCG", eval.NDCG, 3, 0},
		{"HitRate", eval.HitRate, 0, 1},
		{"HitRate", eval.HitRate, 2, 1},
		{"HitRate", eval.HitRate, 3, 0},
		{"ReciprocalRank", eval.ReciprocalRank, 0, 1},
		{"ReciprocalRank", eval.ReciprocalRank, 3, 0.25},
	} {
		if got := test.metric(test.rank, 3); !near(got, test.want) {
			t.Errorf("%s at rank %d, cut 3: %g; want %g", test.name, test.rank, got, test.want)
		}
	}
	if got := eval.Metric(eval.NDCG).Mean([]int32{0, 2, 7}, 3); !near(got, 0.5) {
		t.Errorf("mean NDCG %g; want 0.5", got)
	}
	if got := eval.Metric(eval.NDCG).Mean(nil, 3); got != 0 {
		t.Errorf("mean of no ranks %g; want 0", got)
	}
}

func TestRecall(t *testing.T) {
	for _, test := range []struct {
		list, relevant []int32
		want           float64
	}{
		{[]int32{4, 2, 9}, []int32{2}, 1},
		{[]int32{4, 2, 9}, []int32{3}, 0},
		{[]int32{4, 2, 9}, []int32{2, 3, 4, 5}, 0.5},
		{[]int32{4, 2, 9}, []int32{2, 2, 3}, 0.5},
		{[]int32{2, 2}, []int32{2, 3}, 0.5},
		{[]int32{4}, nil, 0},
	} {
		if got := eval.Recall(test.list, test.relevant); !near(got, test.want) {
			t.Errorf("recall of %v by %v: %g; want %g", test.relevant, test.list, got, test.want)
		}
	}
}

func TestCatalogueMetrics(t *testing.T) {
	for _, test := range []struct {
		name           string
		lists          [][]int32
		popularity     []int64
		coverage, gini float64
		novelty        float64
	}{
		// Probabilities with one added to each: 1/2, 1/4, 1/8 and 1/8.
		{"alike", [][]int32{{0, 1}, {2, 3}}, []int64{3, 1, 0, 0}, 1, 0, (1 + 2 + 3 + 3) / 4.},
		{"one item", [][]int32{{0}, {0}, {0}}, []int64{3, 1, 0, 0}, 0.25, 0.75, 1},
		// Sorted counts 0, 0, 1, 3: (-3*0 - 1*0 + 1*1 + 3*3) / (4*4).
		{"uneven", [][]int32{{2, 0}, {2}, {2}}, []int64{3, 1, 0, 0}, 0.5, 0.625, (3*3 + 1) / 4.},
		{"nothing", nil, []int64{3, 1, 0, 0}, 0, 0, 0},
		{"no catalogue", nil, nil, 0, 0, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			counts := eval.Counts(test.lists, len(test.popularity))
			if got := eval.Coverage(counts); !near(got, test.coverage) {
				t.Errorf("coverage %g; want %g", got, test.coverage)
			}
			if got := eval.Gini(counts); !near(got, test.gini) {
				t.Errorf("Gini %g; want %g", got, test.gini)
			}
			if got := eval.Novelty(test.lists, test.popularity); !near(got, test.novelty) {
				t.Errorf("novelty %g; want %g", got, test.novelty)
			}
		})
	}
}

func TestRatingErrors(t *testing.T) {
	predicted, actual := []float32{1, 2, 5}, []float32{1, 4, 4}
	rmse, err := eval.RMSE(predicted, actual)
	if want := math.Sqrt(5. / 3); err != nil || !near(rmse, want) {
		t.Errorf("RMSE %g, %v; want %g", rmse, err, want)
	}
	mae, err := eval.MAE(predicted, actual)
	if err != nil || !near(mae, 1) {
		t.Errorf("MAE %g, %v; want 1", mae, err)
	}
	if _, err := eval.RMSE(predicted[1:], actual); !errors.Is(err, eval.ErrInput) {
		t.Errorf("RMSE of 2 predicted and 3 actual ratings: %v", err)
	}
	if _, err := eval.MAE([]float64{}, []float64{}); !errors.Is(err, eval.ErrInput) {
		t.Errorf("MAE of no ratings: %v", err)
	}
}

func near(a, b float64) bool { return math.Abs(a-b) < 1e-12 }
