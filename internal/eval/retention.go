package eval

import "fmt"

// Retention returns what a student keeps of a teacher: the mean of m under the
// student over that under the teacher, with the percentile bootstrap interval over
// cases, both resampled together. Ties are counted against the student, by WorstRank,
// and for the teacher, by Rank. The error is ErrNotPaired as in PairedBootstrap, or
// ErrInput where the teacher's mean is 0.
func Retention(student, teacher *Result, m Metric, opts BootstrapOptions) (Interval, error) {
	if err := paired(student, teacher); err != nil {
		return Interval{}, err
	}
	kept, whole := make([]float64, len(student.WorstRank)), teacher.PerCase(m)
	for i, rank := range student.WorstRank {
		kept[i] = m(rank, student.TopK)
	}
	all := make([]int, len(whole))
	for i := range all {
		all[i] = i
	}
	if meanOf(whole, all) == 0 {
		return Interval{}, fmt.Errorf("%w: %q has a mean of 0, of which nothing can be kept", ErrInput, teacher.Scorer)
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
	return percentiles(meanOf(kept, all)/meanOf(whole, all), samples), nil
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
