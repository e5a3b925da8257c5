package hostgpu

import (
	"fmt"
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

// term is a loss of a weighted sum. Its graph has run, and must not run again
// before the step is taken.
type term struct {
	g      *graph
	weight float64
}

// descend moves weights w against the gradient of the weighted sum of terms,
// which is scaled to a norm of at most clip where that is positive. A parameter
// need not be part of every graph. Graphs run one after the other and not as one:
// gorgonia would allocate each sum of two gradients anew.
func descend(adam *adamW, w model.Weights, rate, clip float64, terms ...term) error {
	s := gradientSum{dev: terms[0].g.dev, adam: adam, place: map[string]int{}}
	for _, t := range terms {
		s.add(t)
	}
	return s.descend(w, rate, clip, 1)
}

// gradientSum is the gradient of a weighted sum of losses.
type gradientSum struct {
	dev   device
	adam  *adamW
	all   []summand
	place map[string]int // in all, by parameter
	keeps bool           // own the first gradient of a parameter too, whose graph will run again
}

// summand is the gradient of a parameter.
type summand struct {
	name   string
	values vector
	owned  bool // a sum of ours, that more may be added to
	scale  float64
}

// add adds the gradients of a graph that has run.
func (s *gradientSum) add(t term) {
	for i, name := range t.g.names {
		at, known := s.place[name]
		if !known {
			s.place[name] = len(s.all)
			s.all = append(s.all, summand{name: name, values: t.g.gradient(i), scale: t.weight})
			if s.keeps {
				s.own(&s.all[len(s.all)-1])
			}
			continue
		}
		s.own(&s.all[at])
		s.dev.addScaled(s.all[at].values, t.g.gradient(i), float32(t.weight))
	}
}

// own makes a the sum of ours.
func (s *gradientSum) own(a *summand) {
	if a.owned {
		return
	}
	sum := s.dev.resize(s.adam.sums[a.name], a.values.n)
	s.adam.sums[a.name] = sum
	s.dev.scaled(sum, a.values, float32(a.scale))
	a.values, a.owned, a.scale = sum, true, 1
}

// descend moves weights w against the sum, times factor. Where it fails for want of
// memory, they are as they were.
func (s *gradientSum) descend(w model.Weights, rate, clip, factor float64) error {
	gradients := make([]vector, len(s.all))
	for i, a := range s.all {
		gradients[i] = a.values
		s.adam.moments(s.dev, a.name, w[a.name])
	}
	squares, err := s.dev.squaredNorms(gradients...)
	if err != nil {
		return err
	}
	var square float64
	for i, a := range s.all {
		f := a.scale * factor
		n := squares[i] * f * f
		if math.IsNaN(n) || math.IsInf(n, 0) {
			return fmt.Errorf("%w: the gradient of %q is not finite; try a lower learning rate", ErrDiverged, a.name)
		}
		square += n
	}
	scale := factor
	if norm := math.Sqrt(square); clip > 0 && norm > clip {
		scale *= clip / norm
	}
	s.adam.next()
	for _, a := range s.all {
		s.adam.update(s.dev, a.name, w[a.name], a.values, rate, scale*a.scale)
	}
	return s.dev.err()
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
