package eval

import (
	"fmt"
	"math"
	"slices"
)

// Metric gives one case its value from the 0-based rank of its target and the
// cut k: the number of items that are shown. NDCG, HitRate and ReciprocalRank
// are Metrics.
type Metric func(rank int32, k int) float64

// NDCG returns the normalised discounted cumulative gain of a case with one
// target: 1/log2(rank+2) within the first k, else 0.
func NDCG(rank int32, k int) float64 {
	if int(rank) >= k {
		return 0
	}
	return 1 / math.Log2(float64(rank)+2)
}

// HitRate returns 1 if the target is within the first k, else 0.
func HitRate(rank int32, k int) float64 {
	if int(rank) >= k {
		return 0
	}
	return 1
}

// ReciprocalRank returns 1/(rank+1). It reads the whole ranking: the cut is
// there only to make it a Metric.
func ReciprocalRank(rank int32, _ int) float64 { return 1 / (float64(rank) + 1) }

// Recall returns the share of the distinct relevant items that list holds, or 0
// where nothing is relevant. With a single relevant item it equals HitRate.
func Recall(list, relevant []int32) float64 {
	wanted := make(map[int32]struct{}, len(relevant))
	for _, item := range relevant {
		wanted[item] = struct{}{}
	}
	all := len(wanted)
	if all == 0 {
		return 0
	}
	for _, item := range list {
		delete(wanted, item)
	}
	return float64(all-len(wanted)) / float64(all)
}

// Mean returns the mean of m over cases with the given ranks, or 0 of none.
func (m Metric) Mean(ranks []int32, k int) float64 {
	if len(ranks) == 0 {
		return 0
	}
	sum := 0.0
	for _, r := range ranks {
		sum += m(r, k)
	}
	return sum / float64(len(ranks))
}

// Counts returns how often each item of the catalogue is recommended in lists.
func Counts(lists [][]int32, items int) []int64 {
	counts := make([]int64, items)
	for _, list := range lists {
		for _, item := range list {
			counts[item]++
		}
	}
	return counts
}

// Coverage returns the share of the catalogue that is recommended at all, given
// how often each item is.
func Coverage(counts []int64) float64 {
	if len(counts) == 0 {
		return 0
	}
	n := 0
	for _, c := range counts {
		if c > 0 {
			n++
		}
	}
	return float64(n) / float64(len(counts))
}

// Gini returns the Gini index of how often each item is recommended: 0 where all
// items are recommended equally often or none is, and (n-1)/n where one of n
// items takes every place.
func Gini(counts []int64) float64 {
	sorted := slices.Sorted(slices.Values(counts))
	n := float64(len(sorted))
	sum, weighted := 0.0, 0.0
	for i, c := range sorted {
		sum += float64(c)
		weighted += (2*float64(i+1) - n - 1) * float64(c)
	}
	if sum == 0 {
		return 0
	}
	return weighted / (n * sum)
}

// Novelty returns the mean self-information -log2(p), in bits, of all
// recommended items, or 0 of none. popularity holds each item's training events;
// p is (popularity+1)/(sum+N), so that an item without events has a finite value.
func Novelty(lists [][]int32, popularity []int64) float64 {
	total := float64(len(popularity))
	for _, p := range popularity {
		total += float64(p)
	}
	sum, n := 0.0, 0
	for _, list := range lists {
		for _, item := range list {
			sum -= math.Log2(float64(popularity[item]+1) / total)
		}
		n += len(list)
	}
	if n == 0 {
		return 0
	}
	return sum / float64(n)
}

// RMSE returns the root of the mean squared error of predicted ratings. The
// slices must have the same length, at least 1, else the error is ErrInput.
func RMSE[F float32 | float64](predicted, actual []F) (float64, error) {
	mean, err := meanError(predicted, actual, func(d float64) float64 { return d * d })
	return math.Sqrt(mean), err
}

// MAE returns the mean absolute error of predicted ratings. The slices must have
// the same length, at least 1, else the error is ErrInput.
func MAE[F float32 | float64](predicted, actual []F) (float64, error) {
	return meanError(predicted, actual, math.Abs)
}

func meanError[F float32 | float64](predicted, actual []F, loss func(float64) float64) (float64, error) {
	if len(predicted) != len(actual) || len(actual) == 0 {
		return 0, fmt.Errorf("%w: %d predicted and %d actual ratings; want the same number, at least 1", ErrInput, len(predicted), len(actual))
	}
	sum := 0.0
	for i := range actual {
		sum += loss(float64(predicted[i]) - float64(actual[i]))
	}
	return sum / float64(len(actual)), nil
}
