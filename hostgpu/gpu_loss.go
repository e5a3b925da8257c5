package hostgpu

import (
	"math"
	"unsafe"
)

func (g *gpu) crossEntropy(z, bias vector, targets index, n int, smoothing, inv float32, losses vector) {
	g.launch("cross_entropy", losses.n, threads(n), z, bias, targets, n, smoothing, inv, losses)
}

// logitsOnGPU is how many logits are made at a time, 256 MB.
var logitsOnGPU = 1 << 26

func (g *gpu) catalogue(c *overCatalogue, loss catalogueLoss, u, v vector, p, n, d int) {
	chunk := min(max(logitsOnGPU/n, leastRows), p)
	z := g.temp(tempLogits, chunk*n)
	c.dv = g.resize(c.dv, v.n)
	for lo := 0; lo < p; lo += chunk {
		m := min(chunk, p-lo)
		rows, beta := u.from(lo*d), float32(1)
		if lo == 0 {
			beta = 0
		}
		g.gemm(false, true, m, n, d, 1, rows, d, v, d, 0, z, n)
		loss.rowsOn(g, z, lo, lo+m)
		g.gemm(false, false, m, d, n, 1, z, n, v, d, 0, c.du.from(lo*d), d)
		g.gemm(true, false, n, d, m, 1, z, n, rows, d, beta, c.dv, d)
	}
}

func (g *gpu) catalogueItems(c *overCatalogue, dv vector, scale float32) { g.scaled(dv, c.dv, scale) }

func (k *fullSoftmax) rowsOn(g *gpu, z vector, lo, hi int) {
	g.crossEntropy(z, vector{}, k.targets.part(lo, hi), k.n, k.smoothing, k.inv, k.losses.slice(lo, hi))
}

func (g *gpu) sampledRows(k *sampledSoftmax, z, u, v vector, lo, hi int, inv float32) {
	g.launch("sampled_rows", hi-lo, threads(k.s), z, u.from(lo*k.d), v, k.samples, g.mirror(k.logq), k.targets.part(lo, hi), k.d, k.s, inv,
		k.losses.slice(lo, hi), k.dtarget.slice(lo, hi))
}

func (g *gpu) contrast(k *contrastive, n int, groups index) {
	g.launch("contrast_rows", n, threads(n), k.dz, groups, n, k.smoothing, 1/float32(max(n, 1)), k.losses)
}

func (g *gpu) list(k *listwise, lengths index, inv float32) {
	g.launch("list_rows", k.b, threads(k.m), k.dz, lengths, k.m, inv, k.losses)
}

func (g *gpu) imitate(k *imitation, n int) {
	room := g.temp(tempRows, 2*n*n)
	g.launch("imitation_rows", n, threads(n), k.own, k.given, k.dy, g.mirror(k.teacher), room, room.from(n*n), n, k.e, k.temperature,
		float32(k.weights.Rank), float32(k.weights.Cosine), float32(k.weights.Vector), k.losses)
}

func (k *softSoftmax) rowsOn(g *gpu, z vector, lo, hi int) {
	s, room := k.soft, g.temp(tempRows, 2*z.n)
	g.launch("soft_rows", hi-lo, threads(k.n), z, room, room.from(z.n), k.targets.part(lo, hi), k.rows.part(lo, hi),
		g.mirrorIntegers(s.places), g.mirror(s.probs), g.mirror(s.rest), g.mirror(s.background), g.mirrorIntegers(s.events), g.mirrorIntegers(s.first),
		s.top, k.n, k.weight, k.t, k.inv, math.Float64bits(k.entropy), k.losses.slice(lo, hi))
}

// mirrorIntegers returns the GPU's copy of x, made when first asked for.
func (g *gpu) mirrorIntegers(x []int32) vector {
	if len(x) == 0 {
		return vector{}
	}
	return g.mirror(unsafe.Slice((*float32)(unsafe.Pointer(&x[0])), len(x))) // of the same size; nothing looks at the bits
}
