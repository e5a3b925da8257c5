package eval

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"gonum.org/v1/gonum/stat"
	"gonum.org/v1/gonum/stat/distuv"
)

// Interval is an estimate with its 95 % confidence interval.
type Interval struct {
	Value float64 `json:"value"`
	Low   float64 `json:"low"`
	High  float64 `json:"high"`
}

// Difference is how far one scorer is ahead of another.
type Difference struct {
	Interval

	// P is the two-sided p-value of no difference. Its least possible value is
	// 2/(Resamples+1).
	P float64 `json:"p"`
}

// BootstrapOptions says how the bootstrap resamples. The zero value is ready to
// use; the same options give the same interval.
type BootstrapOptions struct {
	Resamples int // default 1000
	Seed      uint64
}

// DefaultResamples is what BootstrapOptions takes where Resamples is 0.
const DefaultResamples = 1000

// Bootstrap returns the mean of per-case values with its percentile bootstrap
// interval over cases, as for the values of Result.PerCase. The error is
// ErrInput where there are no values.
func Bootstrap(values []float64, opts BootstrapOptions) (Interval, error) {
	samples, err := resample(len(values), opts, func(sample []int) float64 { return meanOf(values, sample) })
	if err != nil {
		return Interval{}, err
	}
	return percentiles(stat.Mean(values, nil), samples), nil
}

// CoverageInterval returns the Coverage of r with a normal interval whose
// standard error is the bootstrap's over cases. The bootstrap's percentiles will
// not do: a resample repeats some cases and leaves out others, so it covers less
// than all cases do, and the interval would lie below the value.
func (r *Result) CoverageInterval(opts BootstrapOptions) (Interval, error) {
	seen := make([]int, r.Items) // the last resample that held the item, from 1
	round := 0
	samples, err := resample(len(r.Lists), opts, func(sample []int) float64 {
		round++
		covered := 0
		for _, i := range sample {
			for _, item := range r.Lists[i] {
				if seen[item] != round {
					seen[item] = round
					covered++
				}
			}
		}
		return float64(covered) / float64(r.Items)
	})
	if err != nil {
		return Interval{}, err
	}
	margin := distuv.UnitNormal.Quantile(0.975) * stat.StdDev(samples, nil)
	return Interval{Value: r.Coverage, Low: max(0, r.Coverage-margin), High: min(1, r.Coverage+margin)}, nil
}

// PairedBootstrap returns the mean of m under a less that under b, with the
// percentile bootstrap interval of the difference over cases. The error is
// ErrNotPaired unless both answer the same cases with the same cut.
func PairedBootstrap(a, b *Result, m Metric, opts BootstrapOptions) (Difference, error) {
	if err := paired(a, b); err != nil {
		return Difference{}, err
	}
	ahead, behind := a.PerCase(m), b.PerCase(m)
	for i := range ahead {
		ahead[i] -= behind[i]
	}
	samples, err := resample(len(ahead), opts, func(sample []int) float64 { return meanOf(ahead, sample) })
	if err != nil {
		return Difference{}, err
	}
	atMost, atLeast := 1, 1 // the observed sample counts too, so that p is never 0
	for _, d := range samples {
		if d <= 0 {
			atMost++
		}
		if d >= 0 {
			atLeast++
		}
	}
	p := 2 * float64(min(atMost, atLeast)) / float64(len(samples)+1)
	return Difference{Interval: percentiles(stat.Mean(ahead, nil), samples), P: min(p, 1)}, nil
}

// paired checks that two results are of the same cases with the same cut.
func paired(a, b *Result) error {
	if a.Items != b.Items || a.TopK != b.TopK || !slices.Equal(a.Users, b.Users) || !slices.Equal(a.Targets, b.Targets) {
		return fmt.Errorf("%w: %q has %d cases, %d items, top %d; %q has %d cases, %d items, top %d; run both with the same cases and options",
			ErrNotPaired, a.Scorer, len(a.Users), a.Items, a.TopK, b.Scorer, len(b.Users), b.Items, b.TopK)
	}
	return nil
}

// StudentT returns the mean of values with its interval by Student's t, as for
// the same figure measured with several seeds. It needs two values or more, else
// the error is ErrInput.
func StudentT(values []float64) (Interval, error) {
	n := float64(len(values))
	if n < 2 {
		return Interval{}, fmt.Errorf("%w: an interval over %d values; want at least 2", ErrInput, len(values))
	}
	mean, deviation := stat.MeanStdDev(values, nil)
	half := distuv.StudentsT{Sigma: 1, Nu: n - 1}.Quantile(0.975) * deviation / math.Sqrt(n)
	return Interval{Value: mean, Low: mean - half, High: mean + half}, nil
}

// resample draws n of n cases with replacement again and again and returns what
// statistic makes of each draw. statistic must not keep the slice.
func resample(n int, opts BootstrapOptions, statistic func(sample []int) float64) ([]float64, error) {
	if opts.Resamples == 0 {
		opts.Resamples = DefaultResamples
	}
	if n == 0 || opts.Resamples < 0 {
		return nil, fmt.Errorf("%w: bootstrap of %d cases with %d resamples; want at least 1 of each", ErrInput, n, opts.Resamples)
	}
	rng := rand.New(rand.NewPCG(opts.Seed, 0))
	sample := make([]int, n)
	values := make([]float64, opts.Resamples)
	for i := range values {
		for j := range sample {
			sample[j] = rng.IntN(n)
		}
		values[i] = statistic(sample)
	}
	return values, nil
}

func meanOf(values []float64, sample []int) float64 {
	sum := 0.0
	for _, i := range sample {
		sum += values[i]
	}
	return sum / float64(len(sample))
}

// percentiles makes the interval of value from its resamples, which it sorts.
func percentiles(value float64, samples []float64) Interval {
	slices.Sort(samples)
	return Interval{
		Value: value,
		Low:   stat.Quantile(0.025, stat.Empirical, samples, nil),
		High:  stat.Quantile(0.975, stat.Empirical, samples, nil),
	}
}
