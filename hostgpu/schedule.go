package hostgpu

import "math"

// Schedule is the learning rate over a run: a rise in a straight line from zero,
// then a fall to zero along half a cosine (Loshchilov and Hutter 2017).
type Schedule struct {
	Peak   float64 // the highest rate
	Warmup int     // steps of the rise, the last of which has the highest rate
	Steps  int     // steps in all; the step after the last would have the rate 0
}

// Rate returns the learning rate of a step, counted from 0. From Steps on it
// is 0.
func (s Schedule) Rate(step int) float64 {
	switch {
	case step >= s.Steps:
		return 0
	case step < s.Warmup:
		return s.Peak * float64(step+1) / float64(s.Warmup)
	}
	return s.Peak * (1 + math.Cos(math.Pi*float64(step-s.Warmup)/float64(s.Steps-s.Warmup))) / 2
}
