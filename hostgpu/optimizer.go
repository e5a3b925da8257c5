package hostgpu

import (
	"math"

	"github.com/wisp-project/wisp/model"
)

// adamW is Adam with decoupled weight decay (Loshchilov and Hutter 2019).
// gorgonia's solver of that name never changes the weights.
type adamW struct {
	beta1, beta2, epsilon float64
	decay                 float64
	step                  int
	m, v                  model.Weights     // first and second moments, by parameter
	sums                  map[string]vector // memory for gradients that are sums
}

func newAdamW(decay float64) *adamW {
	return &adamW{beta1: 0.9, beta2: 0.98, epsilon: 1e-8, decay: decay, m: model.Weights{}, v: model.Weights{}, sums: map[string]vector{}}
}

// next begins a step: all updates until the next call share its bias correction.
func (o *adamW) next() { o.step++ }

// factors are those of the moments, and their bias corrections.
func (o *adamW) factors() (b1, b2, c1, c2 float32) {
	c1 = float32(1 / (1 - math.Pow(o.beta1, float64(o.step))))
	c2 = float32(1 / (1 - math.Pow(o.beta2, float64(o.step))))
	return float32(o.beta1), float32(o.beta2), c1, c2
}

// moments returns those of parameter w, zero before its first step.
func (o *adamW) moments(dev device, name string, w *model.Tensor) (m, v vector) {
	if o.m[name] == nil {
		o.m[name], o.v[name] = model.NewTensor(w.Shape...), model.NewTensor(w.Shape...)
	}
	return dev.mirror(o.m[name].Data), dev.mirror(o.v[name].Data)
}

// update moves w against its gradient g; scale multiplies the gradient (clipping).
// Only matrices decay: gains and biases have a value to keep, not a size to shrink.
func (o *adamW) update(dev device, name string, w *model.Tensor, g vector, rate, scale float64) {
	m, v := o.moments(dev, name, w)
	keep := 1.0
	if len(w.Shape) > 1 {
		keep = 1 - rate*o.decay
	}
	dev.adam(o, dev.mirror(w.Data), m, v, g, rate, scale, keep)
}

// squaredNorm is the sum of squares of x.
func squaredNorm(x []float32) float64 {
	sums := make([]float64, parts())
	parallel(len(x), func(part, lo, hi int) {
		// Four sums at a time, so that an addition need not wait for the one before.
		var s [4]float64
		y := x[lo:hi]
		for ; len(y) >= 4; y = y[4:] {
			a, b, c, d := float64(y[0]), float64(y[1]), float64(y[2]), float64(y[3])
			s[0] += a * a
			s[1] += b * b
			s[2] += c * c
			s[3] += d * d
		}
		for _, v := range y {
			s[0] += float64(v) * float64(v)
		}
		sums[part] = s[0] + s[1] + s[2] + s[3]
	})
	var total float64
	for _, s := range sums {
		total += s
	}
	return total
}
