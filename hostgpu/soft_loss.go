package hostgpu

import (
	"math"

	"gorgonia.org/tensor"

	"github.com/wisp-project/wisp/internal/vec"
)

// softSoftmax is the loss of a student that learns from a teacher's distributions
// p over the catalogue and from the item that came next (Hinton et al. 2015). For row
// r with logits z = V·u_r, soft target s and next item i it is
//
//	weight·T²·KL(p_s ‖ softmax(z/T)) + (1-weight)·(-log softmax(z)_i)
//
// where the divergence is over the items that the user has not had: to leave out the
// others is not the student's business, and would be most of what it is measured by. A row
// without an item has the first term whole, one without a soft target the second, and one
// without either does not count. It is computed as fullSoftmax is: chunk by chunk, with
// the gradient finished in forward.
type softSoftmax struct {
	p, n, d   int
	weight, t float32 // t is T, not 0
	soft      *softRows

	targets, rows index
	inv           float32     // one over the rows that count
	entropy       float64     // sum of b·log b over the background b
	hard          [][]float32 // of the host, by part: (N)
	apart         [][]bool    // by part: (N), all false between rows
	overCatalogue
}

func (k *softSoftmax) inputs() []input {
	return []input{
		{shape: tensor.Shape{k.p, k.d}},
		{shape: tensor.Shape{k.n, k.d}},
		{shape: tensor.Shape{k.p}, index: true},
		{shape: tensor.Shape{k.p}, index: true},
	}
}
func (k *softSoftmax) shape() tensor.Shape { return tensor.ScalarShape() }

func (k *softSoftmax) forward(dev device, out vector, in []argument) {
	k.targets, k.rows = in[2].ints, in[3].ints
	if k.hard == nil {
		k.hard, k.apart = make([][]float32, parts()), make([][]bool, parts())
		for part := range k.hard {
			k.hard[part], k.apart[part] = make([]float32, k.n), make([]bool, k.n)
		}
		for _, b := range k.soft.background {
			if b > 0 {
				k.entropy += float64(b) * math.Log(float64(b))
			}
		}
	}
	count := 0
	for r, target := range k.targets.host {
		if target >= 0 || k.rows.host[r] >= 0 {
			count++
		}
	}
	k.inv = 1 / float32(max(count, 1))
	k.run(dev, k, in[0].floats, in[1].floats, k.p, k.n, k.d)
	dev.mean(out, k.losses, count)
}

func (k *softSoftmax) rowLoss(part, r int, z []float32) float32 {
	return k.row(z, part, k.targets.host[r], k.rows.host[r], k.inv)
}

// row turns the logits of a row into their gradient, times inv, and returns the
// row's loss.
func (k *softSoftmax) row(z []float32, part, target, soft int, inv float32) float32 {
	weight, hard := k.weight, k.hard[part]
	switch {
	case target < 0 && soft < 0:
		clear(z)
		return 0
	case soft < 0:
		weight = 0
	case target < 0:
		weight = 1
	}
	var loss float32
	if weight < 1 {
		copy(hard, z)
		loss = (1 - weight) * (softmax(hard, (1-weight)*inv) - z[target])
		hard[target] -= (1 - weight) * inv
	}
	if weight > 0 {
		loss += weight * k.t * k.t * k.divergence(z, k.apart[part], soft, weight*k.t*inv)
	} else {
		clear(z)
	}
	if weight < 1 {
		vec.Add(z, hard)
	}
	return loss
}

// divergence returns KL(p ‖ softmax(z/T)) for soft target s and turns z into its
// gradient by z/T, times factor. apart is room for the items that the background does
// not speak for: those with a probability of their own, and those that the user has had.
func (k *softSoftmax) divergence(z []float32, apart []bool, s int, factor float32) float32 {
	places, probs := k.soft.places[s*k.soft.top:(s+1)*k.soft.top], k.soft.probs[s*k.soft.top:(s+1)*k.soft.top]
	had := k.soft.events[k.soft.first[s] : s+1]
	if k.t != 1 {
		vec.Scale(z, z, 1/k.t)
	}
	b := k.soft.background
	var own, ownEntropy, ownScore, agreed, entropy float64
	leave := func(i int32) {
		if i < 0 || apart[i] {
			return
		}
		apart[i] = true
		if v := float64(b[i]); v > 0 {
			own += v
			ownEntropy += v * math.Log(v)
			ownScore += v * float64(z[i])
		}
	}
	distinct := 0
	for _, i := range had {
		if i >= 0 && !apart[i] {
			apart[i] = true
			distinct++
		}
	}
	for _, i := range had {
		if i >= 0 {
			apart[i] = false
		}
	}
	if distinct == len(z) { // nothing is left to expect
		clear(z)
		return 0
	}
	for m, i := range places {
		if p := float64(probs[m]); i >= 0 && p > 0 {
			entropy += p * math.Log(p)
			agreed += p * float64(z[i])
		}
		leave(i)
	}
	for _, i := range had {
		leave(i)
	}
	var spread float32
	rest := float64(k.soft.rest[s])
	if left := 1 - own; rest > 0 && left > 1e-6 {
		spread = float32(rest / left)
		var score float32
		for i, v := range b {
			score += v * z[i]
		}
		agreed += float64(spread) * (float64(score) - ownScore)
		entropy += float64(spread) * (k.entropy - ownEntropy + left*math.Log(rest/left))
	}
	for _, i := range had {
		if i >= 0 {
			z[i] = float32(math.Inf(-1))
		}
	}
	normaliser := softmax(z, factor)
	if spread > 0 {
		f := factor * spread
		for i, v := range b {
			z[i] -= f * v
		}
	}
	for m, i := range places {
		if i >= 0 {
			z[i] -= factor * (probs[m] - spread*b[i])
			apart[i] = false
		}
	}
	for _, i := range had {
		if i >= 0 {
			z[i], apart[i] = 0, false
		}
	}
	return float32(float64(normaliser) - agreed + entropy)
}
