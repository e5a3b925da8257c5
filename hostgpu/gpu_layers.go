package hostgpu

import (
	"math"

	"github.com/wisp-project/wisp/model"
)

func (g *gpu) drop(d *dropout, x vector) {
	const valuesEach = 64 // of a thread: DRAWS of four
	first, second := d.seeds()
	threshold, scale := d.threshold()
	g.each("drop", (x.n+valuesEach-1)/valuesEach, x, d.mask, first, second, int(threshold), scale, dropChunk, x.n)
}

func (g *gpu) normalise(n *layerNorm, out, x, gain, bias vector) {
	g.launch("normalise", x.n/n.d, threads(n.d), out, n.xhat, n.rstd, x, gain, bias, n.d, n.eps)
}

func (g *gpu) normaliseBackward(n *layerNorm, dx, dgain, dbias, dout, gain vector) {
	g.sumColumns(dgain, dout, n.xhat, 0)
	g.sumColumns(dbias, dout, vector{}, 0)
	g.launch("normalise_backward", dout.n/n.d, threads(n.d), dx, dout, n.xhat, n.rstd, gain, n.d)
}

func (g *gpu) embed(k *embedding, out vector, in []argument) {
	g.each("embed", out.n, out, in[0].floats, in[1].floats, in[2].floats, in[3].ints, in[4].ints, in[5].ints, k.scale, k.p, k.d)
}

func (g *gpu) embedBackward(k *embedding, grads []vector, dout vector, in []argument) {
	var mask vector
	if k.drop.active() {
		mask = k.drop.mask
	}
	for i, scale := range []float32{k.scale, 1, 1} {
		g.fill(grads[i], 0)
		g.addSegments(grads[i], dout, mask, vector{}, in[3+i].ints.host, scale, k.d)
	}
}

// flag is a bool of C.
func flag(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (g *gpu) pool(k *pooling, out vector, in []argument) {
	g.launch("pool", k.rows(), threads(k.d), out, k.scale, in[0].floats, in[1].ints, k.b, k.t, max(k.u, 1), k.d,
		flag(k.kind == model.PoolCLS), flag(k.unit), float32(model.TextLengthFloor))
}

func (g *gpu) poolBackward(k *pooling, dx, dout, out vector, in []argument) {
	g.launch("pool_backward", k.rows(), threads(k.d), dx, dout, out, k.scale, in[1].ints, k.b, k.t, max(k.u, 1), k.d,
		flag(k.kind == model.PoolCLS), flag(k.unit))
}

// group is rows of a batch that have the same length, from row first on.
type group struct{ first, rows, length, place int }

// groups are those of a batch.
func (r batchRows) groups() []group {
	return []group{{0, r.b, r.t, 0}, {r.b, r.short, r.u, r.b * r.t}}
}

// splitHeads writes packed, (P, n·D), to apart, and mergeHeads does the reverse.
func (g *gpu) splitHeads(a *heads, apart, packed vector, n int) {
	g.each("split_heads", packed.n, apart, packed, a.b, a.t, max(a.u, 1), a.places(), a.d, a.h, n)
}

func (g *gpu) mergeHeads(a *heads, packed, apart vector, n int) {
	g.each("merge_heads", packed.n, packed, apart, a.b, a.t, max(a.u, 1), a.places(), a.d, a.h, n)
}

// attend keeps queries, keys and values apart for the way back.
func (g *gpu) attend(a *heads, s sight) {
	n, hd := a.places()*a.d, a.d/a.h
	a.apart = g.resize(a.apart, 3*n)
	g.splitHeads(a, a.apart, a.qkv, 3)
	context := g.temp(tempHeads, n)
	scale := float32(1 / math.Sqrt(float64(hd)))
	for _, r := range a.groups() {
		if r.rows == 0 {
			continue
		}
		at, t, square := r.place*a.d, r.length, a.t*a.t
		q, k, v, p := a.apart.from(at), a.apart.from(n+at), a.apart.from(2*n+at), a.probs.from(r.first*a.h*square)
		g.gemms(r.rows*a.h, false, true, t, t, hd, scale, q, hd, t*hd, k, hd, t*hd, p, t, square)
		if s.window > 0 {
			g.launch("band_probabilities", r.rows*a.h*t, threads(t), a.probs, s.starts, s.distance, t, a.h, s.window)
		} else {
			g.launch("text_probabilities", r.rows*a.h*t, threads(t), a.probs, s.lengths, r.first, a.t, t, a.h)
		}
		g.gemms(r.rows*a.h, false, false, t, hd, t, 1, p, t, square, v, hd, t*hd, context.from(at), hd, t*hd)
	}
	g.mergeHeads(a, a.context, context, 1)
}

func (g *gpu) attendBackward(a *heads, s sight, ddistance vector) {
	n, hd := a.places()*a.d, a.d/a.h
	work := g.temp(tempHeads, 4*n) // the gradients of the context, and of queries, keys and values
	g.splitHeads(a, work, a.dcontext, 1)
	scores := g.temp(tempScores, a.probs.n)
	scale := float32(1 / math.Sqrt(float64(hd)))
	for _, r := range a.groups() {
		if r.rows == 0 {
			continue
		}
		at, t, square := r.place*a.d, r.length, a.t*a.t
		q, k, v, p := a.apart.from(at), a.apart.from(n+at), a.apart.from(2*n+at), a.probs.from(r.first*a.h*square)
		dc, dq, dk, dv, ds := work.from(at), work.from(n+at), work.from(2*n+at), work.from(3*n+at), scores.from(r.first*a.h*square)
		g.gemms(r.rows*a.h, true, false, t, hd, t, 1, p, t, square, dc, hd, t*hd, dv, hd, t*hd)
		g.gemms(r.rows*a.h, false, true, t, t, hd, 1, dc, hd, t*hd, v, hd, t*hd, ds, t, square)
		g.launch("softmax_backward", r.rows*a.h*t, threads(t), scores, a.probs, r.first, a.t, t, a.h)
		g.gemms(r.rows*a.h, false, false, t, hd, t, scale, ds, t, square, k, hd, t*hd, dq, hd, t*hd)
		g.gemms(r.rows*a.h, true, false, t, hd, t, scale, ds, t, square, q, hd, t*hd, dk, hd, t*hd)
	}
	g.mergeHeads(a, a.dqkv, work.from(n), 3)
	if s.window > 0 {
		g.launch("distance_backward", a.h*s.window, maxThreads, ddistance, scores, a.b, a.t, a.h, s.window)
	}
}
