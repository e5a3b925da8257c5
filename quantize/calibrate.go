package quantize

import (
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/wisp-project/wisp/model"
)

// bins is the resolution of the histogram that a clipping point is chosen on.
const bins = 4096

// minStep is the smallest step of an activation: an image holds its reciprocal,
// which layout bounds by 2^20. A site that calls for less is next to nothing
// beside normalised values.
const minStep = 1.0 / (1 << 20)

// siteRange is what calibration knows of one site: the largest magnitude seen
// and how magnitudes below it are distributed.
type siteRange struct {
	max  float64
	hist []int64 // bin b counts magnitudes in [b, b+1)·max/bins, zeros left out
}

// Calibration holds the ranges of a model's activations, by site (model.Tap).
type Calibration struct {
	sites     map[string]*siteRange
	described bool // descriptions are in the range of the user vector
}

// Calibrate runs m over the histories, oldest event first, and records how
// large each activation gets: once for the maxima, once for the histograms.
// The histories must come from training data, as must descriptions: for each
// history the given vector of its user's description, (F_u), or nil for all.
func Calibrate(m *model.Model, histories [][]model.Event, descriptions [][]float32) (*Calibration, error) {
	if !slices.ContainsFunc(histories, func(h []model.Event) bool { return len(h) > 0 }) {
		return nil, fmt.Errorf("%w: no event in %d histories: give at least one history that is not empty", ErrCalibration, len(histories))
	}
	if descriptions != nil && len(descriptions) != len(histories) {
		return nil, fmt.Errorf("%w: %d descriptions for %d histories: give one for each", ErrCalibration, len(descriptions), len(histories))
	}
	c := &Calibration{sites: map[string]*siteRange{}, described: descriptions != nil}
	pass := func(record func(s *siteRange, magnitude float64)) error {
		for i, h := range histories {
			tap := func(site string, _ int, x []float32) {
				s := c.sites[site]
				if s == nil {
					s = &siteRange{hist: make([]int64, bins)}
					c.sites[site] = s
				}
				for _, v := range x {
					record(s, math.Abs(float64(v)))
				}
			}
			states, err := m.States(h, tap)
			if err == nil && descriptions != nil {
				// It may be told after any event, and before the first.
				states = append(states, clone(m.Weights[model.UserCold]))
				err = describe(m, states, descriptions[i], tap)
			}
			if err != nil {
				return fmt.Errorf("%w: history %d: %w", ErrCalibration, i, err)
			}
		}
		return nil
	}
	if err := pass(func(s *siteRange, a float64) { s.max = max(s.max, a) }); err != nil {
		return nil, err
	}
	for _, site := range slices.Sorted(maps.Keys(c.sites)) {
		if m := c.sites[site].max; math.IsNaN(m) || math.IsInf(m, 0) {
			return nil, fmt.Errorf("%w: a magnitude at %q is %v: the weights are too large for float32", ErrCalibration, site, m)
		}
	}
	// A symmetric quantizer keeps zeros exactly, so they must not plead for a
	// finer step: behind a relu they are the majority.
	err := pass(func(s *siteRange, a float64) {
		if a > 0 {
			s.hist[min(int(a/s.max*bins), bins-1)]++
		}
	})
	return c, err
}

// describe taps user vectors with a description in them.
func describe(m *model.Model, users [][]float32, description []float32, tap model.Tap) error {
	for t, u := range users {
		if err := m.Describe(u, description); err != nil {
			return err
		}
		tap(model.SiteUserOut, t, u)
	}
	return nil
}

// Scale returns the step of a symmetric quantizer with the given number of
// levels on each side (127 for int8) for site: the clipping point is the one
// with the least mean squared error over the histogram, rounding and clipping
// together. A site that was zero throughout gets step 1; no step is below
// minStep.
func (c *Calibration) Scale(site string, levels int) (float32, error) {
	s := c.sites[site]
	if s == nil {
		return 0, fmt.Errorf("%w: nothing was recorded at %q", ErrCalibration, site)
	}
	if s.max == 0 {
		return 1, nil
	}
	best, bestError := s.max, math.Inf(1)
	// Below a quarter of the largest value clipping has never paid for itself.
	const steps = 96
	for i := range steps {
		clip := s.max * (1 - 0.75*float64(i)/steps)
		step := clip / float64(levels)
		rounding := step * step / 12
		var e float64
		for b, n := range s.hist {
			if n == 0 {
				continue
			}
			if a := (float64(b) + 0.5) * s.max / bins; a > clip {
				e += float64(n) * (a - clip) * (a - clip)
			} else {
				e += float64(n) * rounding
			}
		}
		if e < bestError {
			best, bestError = clip, e
		}
	}
	return max(float32(best/float64(levels)), minStep), nil
}

// Max returns the largest magnitude recorded at site, 0 where there was none.
func (c *Calibration) Max(site string) float64 {
	if s := c.sites[site]; s != nil {
		return s.max
	}
	return 0
}
