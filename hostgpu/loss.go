package hostgpu

import (
	"math"

	"gorgonia.org/tensor"
)

// overCatalogue makes the logits u_r·v_i of rows u, (P, D), and items v, (N, D), and the
// gradients of a loss of each row by them, chunk by chunk. The gradient is finished in
// forward, while a chunk's logits are at hand.
type overCatalogue struct {
	du, dv, losses vector // (P, D), (N, D) of a GPU, (P)

	logits, parts [][]float32 // of the host, by part: (chunk, N), (N, D)
}

// catalogueLoss is the loss of each row.
type catalogueLoss interface {
	// rowLoss turns the logits of row r, (N), into their gradient and returns the loss,
	// on the host; part is the processor's.
	rowLoss(part, r int, z []float32) float32
	// rowsOn does so for rows lo to hi-1 on a GPU; z are their logits alone.
	rowsOn(g *gpu, z vector, lo, hi int)
}

// run computes losses and gradients.
func (c *overCatalogue) run(dev device, loss catalogueLoss, u, v vector, p, n, d int) {
	c.du, c.losses = dev.resize(c.du, u.n), dev.resize(c.losses, p)
	dev.catalogue(c, loss, u, v, p, n, d)
}

// backward writes the gradients by u and v, times dout.
func (c *overCatalogue) backward(dev device, grads []vector, dout, _ vector, _ []argument) {
	dev.scaled(grads[0], c.du, dout.host[0])
	dev.catalogueItems(c, grads[1], dout.host[0])
}

// fullSoftmax is the mean cross-entropy of the next item over the whole
// catalogue: for row r with target i ≥ 0, -log softmax(u_r·Vᵀ)_i, with the
// target's mass smoothed over all items by smoothing (Szegedy et al. 2016). Rows
// with a negative target do not count.
type fullSoftmax struct {
	p, n, d   int
	smoothing float32
	targets   index
	inv       float32 // one over the rows that count
	overCatalogue
}

func (k *fullSoftmax) inputs() []input {
	return []input{{shape: tensor.Shape{k.p, k.d}}, {shape: tensor.Shape{k.n, k.d}}, {shape: tensor.Shape{k.p}, index: true}}
}
func (k *fullSoftmax) shape() tensor.Shape { return tensor.ScalarShape() }

func (k *fullSoftmax) forward(dev device, out vector, in []argument) {
	k.targets = in[2].ints
	count := counted(k.targets.host)
	k.inv = 1 / float32(max(count, 1))
	k.run(dev, k, in[0].floats, in[1].floats, k.p, k.n, k.d)
	dev.mean(out, k.losses, count)
}

func (k *fullSoftmax) rowLoss(_, r int, z []float32) float32 {
	return k.row(z, k.targets.host[r], k.inv)
}

// row turns the logits of a row into their gradient, times inv, and returns the
// row's loss.
func (k *fullSoftmax) row(z []float32, target int, inv float32) float32 {
	if target < 0 {
		clear(z)
		return 0
	}
	at, off := z[target], k.smoothing/float32(k.n)
	normaliser, total := shiftedSoftmax(z, inv, -off*inv)
	loss := normaliser - (1-k.smoothing)*at - off*total
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

	logits, rows, du, drows, dtarget, losses vector
	samples, targets                         index
	corrections                              []float32 // (S) of the host
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

func (k *sampledSoftmax) forward(dev device, out vector, in []argument) {
	u, v := in[0].floats, in[1].floats
	k.targets, k.samples = in[2].ints, in[3].ints
	d, s := k.d, k.s
	k.rows, k.corrections = dev.resize(k.rows, s*d), resize(k.corrections, s)
	dev.gather(k.rows, v, k.samples, d)
	logS := float32(math.Log(float64(s)))
	for j, i := range k.samples.host {
		k.corrections[j] = k.logq[i] + logS
	}
	k.du, k.drows, k.dtarget = dev.resize(k.du, u.n), dev.resize(k.drows, s*d), dev.resize(k.dtarget, k.p)
	dev.fill(k.drows, 0)
	k.losses = dev.resize(k.losses, k.p)
	chunk := min(512, k.p)
	width := s + 1 // the target's logit stands last
	k.logits = dev.resize(k.logits, chunk*width)
	count := counted(k.targets.host)
	inv := 1 / float32(max(count, 1))
	for lo := 0; lo < k.p; lo += chunk {
		hi := min(lo+chunk, k.p)
		z := k.logits.slice(0, (hi-lo)*width)
		dev.gemm(false, true, hi-lo, s, d, 1, u.from(lo*d), d, k.rows, d, 0, z, width)
		dev.sampledRows(k, z, u, v, lo, hi, inv)
		dev.gemm(false, false, hi-lo, d, s, 1, z, width, k.rows, d, 0, k.du.from(lo*d), d)
		dev.gemm(true, false, s, d, hi-lo, 1, z, width, u.from(lo*d), d, 1, k.drows, d)
	}
	dev.gatherAdd(k.du, v, k.targets, k.dtarget, d)
	dev.mean(out, k.losses, count)
}

func (k *sampledSoftmax) backward(dev device, grads []vector, dout, _ vector, in []argument) {
	g := dout.host[0]
	dev.scaled(grads[0], k.du, g)
	dev.fill(grads[1], 0)
	dev.scatterAdd(grads[1], k.drows, k.samples, vector{}, g, k.d)
	dev.scatterAdd(grads[1], in[0].floats, k.targets, k.dtarget, g, k.d)
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
