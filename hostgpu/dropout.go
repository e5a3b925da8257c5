package hostgpu

import (
	"math"
	"math/rand/v2"
)

// dropout zeroes a share of values and scales the rest by 1/(1-share), so that
// sums keep their expectation (Srivastava et al. 2014). Its mask is a function
// of seed, site and step alone: a resumed run draws the same one. gorgonia's own
// operator has a wrong gradient for every share but a half.
type dropout struct {
	share float32 // 0 switches it off, as inference does
	site  uint64
	state *stepState
	mask  []float32 // what each value is multiplied with: 0 or the scale
}

// stepState is shared by all dropouts of a graph; the trainer moves it on.
type stepState struct {
	seed, step uint64
}

// apply draws a mask and applies it to x, in place.
func (d *dropout) apply(x []float32) {
	if d == nil || d.share == 0 {
		return
	}
	d.mask = resize(d.mask, len(x))
	threshold := int32(math.Round(float64(d.share) * (1 << 16)))
	scale := math.Float32bits(1 / (1 - d.share))
	const chunk = 1 << 14 // each chunk has a generator of its own: order does not matter
	parallel((len(x)+chunk-1)/chunk, func(_, lo, hi int) {
		for c := lo; c < hi; c++ {
			rng := rand.NewPCG(d.state.seed^d.site<<32, d.state.step<<20|uint64(c))
			m, v := d.mask[c*chunk:min((c+1)*chunk, len(x))], x[c*chunk:min((c+1)*chunk, len(x))]
			for i := 0; i < len(m); i += 4 {
				bits := rng.Uint64()
				for j := i; j < min(i+4, len(m)); j++ {
					// All ones where the draw reaches the threshold, without a branch
					// that no processor could predict.
					keep := ^uint32((int32(uint16(bits)) - threshold) >> 31)
					bits >>= 16
					m[j] = math.Float32frombits(scale & keep)
					v[j] *= m[j]
				}
			}
		}
	})
}

// factors returns what the values from lo to hi were multiplied with, or nil for
// all ones.
func (d *dropout) factors(lo, hi int) []float32 {
	if d == nil || d.share == 0 {
		return nil
	}
	return d.mask[lo:hi]
}

// backward writes the gradient before dropout to dx.
func (d *dropout) backward(dx, dy []float32) {
	if d == nil || d.share == 0 {
		copy(dx, dy)
		return
	}
	parallel(len(dy), func(_, lo, hi int) {
		x, y, m := dx[lo:hi], dy[lo:hi], d.mask[lo:hi]
		for i, f := range m {
			x[i] = y[i] * f
		}
	})
}
