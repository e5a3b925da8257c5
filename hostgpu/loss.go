package hostgpu

import (
	"math"

	"gorgonia.org/tensor"
)

// logitsInCache is how many logits a processor works on at a time, 1 MB, unless
// that makes fewer than leastRows rows: a product of so few rows would take less time
// than the library needs to lay out the other matrix for it.
const (
	logitsInCache = 1 << 18
	leastRows     = 64
)

// overCatalogue makes the logits u_r·v_i of rows u, (P, D), and items v, (N, D), and the
// gradients of a loss of each row by them. Each processor takes a stretch of rows and
// makes their logits in chunks that stay in its cache, so that memory does not grow with
// the batch; the gradient is finished in forward, while a chunk's logits are at hand.
type overCatalogue struct {
	logits, dv [][]float32 // by part: (chunk, N), (N, D)
	du, losses []float32   // (P, D), (P)
}

// run calls row for each row's logits, (N), which become their gradient, and keeps the
// loss it returns. part is the processor's.
func (c *overCatalogue) run(u, v []float32, p, n, d int, row func(part, r int, z []float32) float32) {
	chunk := min(max(logitsInCache/n, leastRows), p)
	if c.logits == nil {
		c.logits, c.dv = make([][]float32, parts()), make([][]float32, parts())
	}
	c.du, c.losses = resize(c.du, len(u)), resize(c.losses, p)
	for part := range c.dv {
		clear(c.dv[part])
	}
	parallel(p, func(part, from, to int) {
		z, dv := resize(c.logits[part], chunk*n), resize(c.dv[part], len(v))
		c.logits[part], c.dv[part] = z, dv
		for lo := from; lo < to; lo += chunk {
			hi := min(lo+chunk, to)
			rows := u[lo*d : hi*d]
			gemmOne(false, true, hi-lo, n, d, 1, rows, d, v, d, 0, z, n)
			for r := lo; r < hi; r++ {
				c.losses[r] = row(part, r, z[(r-lo)*n:(r-lo+1)*n])
			}
			gemmOne(false, false, hi-lo, d, n, 1, z, n, v, d, 0, c.du[lo*d:], d)
			gemmOne(true, false, n, d, hi-lo, 1, z, n, rows, d, 1, dv, d)
		}
	})
}

// backward writes the gradients by u and v, times dout.
func (c *overCatalogue) backward(grads [][]float32, dout, _ []float32, _ []argument) {
	scaled(grads[0], c.du, dout[0])
	clear(grads[1])
	for _, dv := range c.dv {
		for i, x := range dv {
			grads[1][i] += x * dout[0]
		}
	}
}

// fullSoftmax is the mean cross-entropy of the next item over the whole
// catalogue: for row r with target i ≥ 0, -log softmax(u_r·Vᵀ)_i, with the
// target's mass smoothed over all items by smoothing (Szegedy et al. 2016). Rows
// with a negative target do not count.
type fullSoftmax struct {
	p, n, d   int
	smoothing float32
	overCatalogue
}

func (k *fullSoftmax) inputs() []input {
	return []input{{shape: tensor.Shape{k.p, k.d}}, {shape: tensor.Shape{k.n, k.d}}, {shape: tensor.Shape{k.p}, index: true}}
}
func (k *fullSoftmax) shape() tensor.Shape { return tensor.ScalarShape() }

func (k *fullSoftmax) forward(out []float32, in []argument) {
	u, v, targets := in[0].floats, in[1].floats, in[2].ints
	count := counted(targets)
	inv := 1 / float32(max(count, 1))
	k.run(u, v, k.p, k.n, k.d, func(_, r int, z []float32) float32 { return k.row(z, targets[r], inv) })
	out[0] = mean(k.losses, count)
}

// row turns the logits of a row into their gradient, times inv, and returns the
// row's loss.
func (k *fullSoftmax) row(z []float32, target int, inv float32) float32 {
	if target < 0 {
		clear(z)
		return 0
	}
	at, off := z[target], k.smoothing/float32(k.n)
	var total float32
	if k.smoothing > 0 {
		for _, x := range z {
			total += x
		}
	}
	loss := softmax(z, inv) - (1-k.smoothing)*at - off*total
	if k.smoothing > 0 {
		for i := range z {
			z[i] -= off * inv
		}
	}
	z[target] -= (1 - k.smoothing) * inv
	return loss
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
		{shape: tensor.Shape{k.p, k.d}},
		{shape: tensor.Shape{k.n, k.d}},
		{shape: tensor.Shape{k.p}, index: true},
		{shape: tensor.Shape{k.s}, index: true},
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
	chunk := min(512, k.p)
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
				k.losses[lo+r] = softmax(row, inv) - at
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
