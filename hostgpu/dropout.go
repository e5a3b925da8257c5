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
	mask  vector // what each value is multiplied with: 0 or the scale
}

// stepState is shared by all dropouts of a graph; the trainer moves it on.
type stepState struct {
	seed, step uint64
	part       uint64 // of a step that is made in parts
}

// dropChunk is how many values have a generator of their own: the order in which
// they are drawn does not matter.
const dropChunk = 1 << 14

// active says whether anything is dropped.
func (d *dropout) active() bool { return d != nil && d.share != 0 }

// threshold is what 16 random bits must reach for a value to stay, and scale what it
// is then multiplied with.
func (d *dropout) threshold() (threshold int32, scale float32) {
	return int32(math.Round(float64(d.share) * (1 << 16))), 1 / (1 - d.share)
}

// seeds are those of the generator of the first chunk; the second is one higher for
// each chunk that follows.
func (d *dropout) seeds() (uint64, uint64) {
	return d.state.seed ^ d.site<<32 ^ d.state.part<<56, d.state.step << 20
}

// apply draws a mask and applies it to x, in place.
func (d *dropout) apply(dev device, x vector) {
	if !d.active() {
		return
	}
	d.mask = dev.resize(d.mask, x.n)
	dev.drop(d, x)
}

// backward writes the gradient before dropout to dx, which may be dy.
func (d *dropout) backward(dev device, dx, dy vector) {
	if d.active() {
		dev.product(dx, dy, d.mask)
	} else {
		dev.copy(dx, dy)
	}
}

func (hostDevice) drop(d *dropout, values vector) {
	threshold, factor := d.threshold()
	first, second := d.seeds()
	scale, x, mask := math.Float32bits(factor), values.host, d.mask.host
	parallel((len(x)+dropChunk-1)/dropChunk, func(_, lo, hi int) {
		for c := lo; c < hi; c++ {
			rng := rand.NewPCG(first, second|uint64(c))
			m, v := mask[c*dropChunk:min((c+1)*dropChunk, len(x))], x[c*dropChunk:min((c+1)*dropChunk, len(x))]
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
