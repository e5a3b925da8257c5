package runlog

import "math"

// histogramBins is the number of buckets of equal width between the least and the
// largest value.
const histogramBins = 64

// histogram counts finite values. Bucket i ends at limits[i], where bucket i+1
// begins.
type histogram struct {
	count           int
	min, max        float64
	sum, sumSquares float64
	limits, buckets []float64
}

// newHistogram leaves out what is not finite.
func newHistogram(values []float32) histogram {
	h := histogram{min: math.Inf(1), max: math.Inf(-1)}
	for _, x := range values {
		v := float64(x)
		if !isFinite(v) {
			continue
		}
		h.count++
		h.min, h.max = min(h.min, v), max(h.max, v)
		h.sum += v
		h.sumSquares += v * v
	}
	if h.count == 0 {
		return h
	}
	if h.min == h.max {
		h.limits, h.buckets = []float64{h.max}, []float64{float64(h.count)}
		return h
	}
	h.limits, h.buckets = make([]float64, histogramBins), make([]float64, histogramBins)
	width := (h.max - h.min) / histogramBins
	for i := range h.limits {
		h.limits[i] = h.min + width*float64(i+1)
	}
	h.limits[histogramBins-1] = h.max // not off by rounding
	for _, x := range values {
		if v := float64(x); isFinite(v) {
			h.buckets[min(int((v-h.min)/width), histogramBins-1)]++
		}
	}
	return h
}

func isFinite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }
