package hostgpu

import (
	"math"

	"gorgonia.org/tensor"
)

// fullSoftmax is the mean cross-entropy of the next item over the whole
// catalogue: for row r with target i ≥ 0, -log softmax(u_r·Vᵀ)_i, with the
// target's mass smoothed over all items by smoothing (Szegedy et al. 2016). Rows
// with a negative target do not count. Logits are made in chunks of rows, so
// memory does not grow with the batch; the gradient is finished in forward,
// while a chunk's probabilities are at hand.
type fullSoftmax struct {
	p, n, d   int
	smoothing float32
	train     bool

	logits, du, dv, losses []float32
}

// lossChunk is the number of rows whose logits are in memory at a time.
const lossChunk = 512

func (k *fullSoftmax) inputs() []input {
	return []input{{shape: tensor.Shape{k.p, k.d}}, {shape: tensor.Shape{k.n, k.d}}, {shape: tensor.Shape{k.p}, index: true}}
}
func (k *fullSoftmax) shape() tensor.Shape { return tensor.ScalarShape() }

func (k *fullSoftmax) forward(out []float32, in []argument) {
	u, v, targets := in[0].floats, in[1].floats, in[2].ints
	k.logits, k.losses = resize(k.logits, min(lossChunk, k.p)*k.n), resize(k.losses, k.p)
	if k.train {
		k.du, k.dv = resize(k.du, len(u)), resize(k.dv, len(v))
		clear(k.dv)
	}
	count := counted(targets)
	inv := 1 / float32(max(count, 1))
	off := k.smoothing / float32(k.n)
	for lo := 0; lo < k.p; lo += lossChunk {
		hi := min(lo+lossChunk, k.p)
		z := k.logits[:(hi-lo)*k.n]
		gemm(false, true, hi-lo, k.n, k.d, 1, u[lo*k.d:], k.d, v, k.d, 0, z, k.n)
		parallel(hi-lo, func(_, a, b int) {
			for r := a; r < b; r++ {
				row, target := z[r*k.n:(r+1)*k.n], targets[lo+r]
				if target < 0 {
					clear(row)
					k.losses[lo+r] = 0
					continue
				}
				at := row[target]
				var mean float32
				if k.smoothing > 0 {
					for _, x := range row {
						mean += x
					}
					mean /= float32(k.n)
				}
				norm := softmax(row)
				k.losses[lo+r] = norm - (1-k.smoothing)*at - k.smoothing*mean
				if !k.train {
					continue
				}
				for i, x := range row {
					row[i] = (x - off) * inv
				}
				row[target] -= (1 - k.smoothing) * inv
			}
		})
		if k.train {
			gemm(false, false, hi-lo, k.d, k.n, 1, z, k.n, v, k.d, 0, k.du[lo*k.d:], k.d)
			gemm(true, false, k.n, k.d, hi-lo, 1, z, k.n, u[lo*k.d:], k.d, 1, k.dv, k.d)
		}
	}
	out[0] = mean(k.losses, count)
}

func (k *fullSoftmax) backward(grads [][]float32, dout, _ []float32, _ []argument) {
	scaled(grads[0], k.du, dout[0])
	scaled(grads[1], k.dv, dout[0])
}

// sampledSoftmax is the same loss over the target and s sampled items that all
// rows of the batch share. The logit of a sample i is corrected by -log(s·q_i),
// q_i being the probability with which it is drawn; a sample that is a row's
// target is left out of that row, and the target, which is there for certain, is
// not corrected. The sum of the exponentials is then an unbiased estimate of the
// full softmax's normaliser (Bengio and Senecal 2008; Khrylchenko et al. 2025 on
// why correcting the target too is wrong).
type sampledSoftmax struct {
	p, n, d, s int
	logq       []float32 // (N) log of the probability of each item to be drawn

	logits, rows, corrections, du, drows, dtarget, losses []float32
	samples, targets                                      []int
}

func (k *sampledSoftmax) inputs() []input {
	return []input{
		{shape: tensor.Shape{k.p, k.d}}, {shape: tensor.Shape{k.n, k.d}},
		{shape: tensor.Shape{k.p}, index: true}, {shape: tensor.Shape{k.s}, index: true},
	}
}
func (k *sampledSoftmax) shape() tensor.Shape { return tensor.ScalarShape() }

func (k *sampledSoftmax) forward(out []float32, in []argument) {
	u, v := in[0].floats, in[1].floats
	k.targets, k.samples = in[2].ints, in[3].ints
	d, s := k.d, k.s
	k.rows, k.corrections = resize(k.rows, s*d), resize(k.corrections, s)
	logS := float32(math.Log(float64(s)))
	for j, i := range k.samples {
		copy(k.rows[j*d:(j+1)*d], v[i*d:(i+1)*d])
		k.corrections[j] = k.logq[i] + logS
	}
	k.du, k.drows, k.dtarget = resize(k.du, len(u)), resize(k.drows, s*d), resize(k.dtarget, k.p)
	clear(k.drows)
	k.losses = resize(k.losses, k.p)
	chunk := min(lossChunk, k.p)
	width := s + 1 // the target's logit stands last
	k.logits = resize(k.logits, chunk*width)
	count := counted(k.targets)
	inv := 1 / float32(max(count, 1))
	for lo := 0; lo < k.p; lo += chunk {
		hi := min(lo+chunk, k.p)
		z := k.logits[:(hi-lo)*width]
		gemm(false, true, hi-lo, s, d, 1, u[lo*d:], d, k.rows, d, 0, z, width)
		parallel(hi-lo, func(_, a, b int) {
			for r := a; r < b; r++ {
				row, target := z[r*width:(r+1)*width], k.targets[lo+r]
				k.losses[lo+r], k.dtarget[lo+r] = 0, 0
				if target < 0 {
					clear(row)
					continue
				}
				for j := range s {
					row[j] -= k.corrections[j]
					if k.samples[j] == target {
						row[j] = float32(math.Inf(-1))
					}
				}
				ur, vt := u[(lo+r)*d:(lo+r+1)*d], v[target*d:(target+1)*d]
				var at float32
				for i, x := range ur {
					at += x * vt[i]
				}
				row[s] = at
				k.losses[lo+r] = softmax(row) - at
				for j := range row {
					row[j] *= inv
				}
				k.dtarget[lo+r] = row[s] - inv
			}
		})
		gemm(false, false, hi-lo, d, s, 1, z, width, k.rows, d, 0, k.du[lo*d:], d)
		gemm(true, false, s, d, hi-lo, 1, z, width, u[lo*d:], d, 1, k.drows, d)
	}
	for r, target := range k.targets {
		if target < 0 {
			continue
		}
		g, vt := k.dtarget[r], v[target*d:(target+1)*d]
		for i := range vt {
			k.du[r*d+i] += g * vt[i]
		}
	}
	out[0] = mean(k.losses, count)
}

func (k *sampledSoftmax) backward(grads [][]float32, dout, _ []float32, in []argument) {
	u, d, g := in[0].floats, k.d, dout[0]
	scaled(grads[0], k.du, g)
	dv := grads[1]
	clear(dv)
	for j, i := range k.samples {
		row := dv[i*d : (i+1)*d]
		for c, x := range k.drows[j*d : (j+1)*d] {
			row[c] += g * x
		}
	}
	for r, target := range k.targets {
		if target < 0 {
			continue
		}
		row := dv[target*d : (target+1)*d]
		for c, x := range u[r*d : (r+1)*d] {
			row[c] += g * k.dtarget[r] * x
		}
	}
}

// counted returns the number of rows that have a target.
func counted(targets []int) int {
	n := 0
	for _, t := range targets {
		if t >= 0 {
			n++
		}
	}
	return n
}

// mean sums in float64 and divides by count, which may be 0.
func mean(losses []float32, count int) float32 {
	var sum float64
	for _, l := range losses {
		sum += float64(l)
	}
	return float32(sum / float64(max(count, 1)))
}

func scaled(y, x []float32, factor float32) {
	for i, v := range x {
		y[i] = v * factor
	}
}
