package eval

import (
	"fmt"

	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/stat"
)

// Retention returns what a student keeps of a teacher: the mean of m under the
// student over that under the teacher, with the percentile bootstrap interval over
// cases, both resampled together. Ties are counted against the student, by WorstRank,
// and for the teacher, by Rank. The error is ErrNotPaired as in PairedBootstrap, or
// ErrInput where the teacher's mean is 0.
func Retention(student, teacher *Result, m Metric, opts BootstrapOptions) (Interval, error) {
	return MeanRetention([]*Result{student}, []*Result{teacher}, m, opts)
}

// Overlap returns the mean over cases of the share of b's list that is in a's too.
// The error is ErrNotPaired as in PairedBootstrap.
func Overlap(a, b *Result) (float64, error) {
	if err := paired(a, b); err != nil {
		return 0, err
	}
	var sum float64
	for i, list := range b.Lists {
		sum += Recall(a.Lists[i], list)
	}
	return sum / float64(len(b.Lists)), nil
}

// MeanRetention is Retention over several seeds: student i learnt from teacher i, all
// were asked the same cases, and what is resampled are cases, of each the mean over the
// seeds.
func MeanRetention(students, teachers []*Result, m Metric, opts BootstrapOptions) (Interval, error) {
	if len(students) == 0 || len(students) != len(teachers) {
		return Interval{}, fmt.Errorf("%w: %d students of %d teachers; want as many, and at least one", ErrInput, len(students), len(teachers))
	}
	var kept, whole []float64
	for i, s := range students {
		t := teachers[i]
		for _, other := range []*Result{t, students[0]} {
			if err := paired(s, other); err != nil {
				return Interval{}, err
			}
		}
		if i == 0 {
			kept, whole = make([]float64, len(s.WorstRank)), make([]float64, len(s.WorstRank))
		}
		of := t.PerCase(m)
		for j, rank := range s.WorstRank {
			kept[j] += m(rank, s.TopK)
			whole[j] += of[j]
		}
	}
	i, err := Ratio(kept, whole, opts)
	if err != nil {
		return Interval{}, fmt.Errorf("%q: %w", teachers[0].Scorer, err)
	}
	return i, nil
}

// Ratio returns the mean of kept over that of whole, values of the same cases, with the
// percentile bootstrap interval over cases, both resampled together. The error is
// ErrInput where there are no cases, not as many of both, or the mean of whole is 0.
func Ratio(kept, whole []float64, opts BootstrapOptions) (Interval, error) {
	if len(kept) != len(whole) {
		return Interval{}, fmt.Errorf("%w: %d and %d values; want one of each case", ErrInput, len(kept), len(whole))
	}
	if floats.Sum(whole) == 0 {
		return Interval{}, fmt.Errorf("%w: a mean of 0, of which nothing can be kept", ErrInput)
	}
	samples, err := resample(len(kept), opts, func(sample []int) float64 {
		of := meanOf(whole, sample)
		if of == 0 { // nothing to keep: the sample does not tell them apart
			return 1
		}
		return meanOf(kept, sample) / of
	})
	if err != nil {
		return Interval{}, err
	}
	return percentiles(stat.Mean(kept, nil)/stat.Mean(whole, nil), samples), nil
}
