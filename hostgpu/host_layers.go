package hostgpu

import (
	"math"

	"github.com/wisp-project/wisp/internal/vec"
	"github.com/wisp-project/wisp/model"
)

func (hostDevice) normalise(n *layerNorm, out, x, gain, bias vector) {
	d := n.d
	parallel(x.n/d, func(_, lo, hi int) {
		g, b := gain.host, bias.host
		for r := lo; r < hi; r++ {
			xr, xh, y := x.host[r*d:(r+1)*d], n.xhat.host[r*d:(r+1)*d], out.host[r*d:(r+1)*d]
			sum, _ := vec.SumMax(xr)
			squares := vec.Centre(xh, xr, sum/float32(d))
			s := float32(1 / math.Sqrt(float64(squares/float32(d)+n.eps)))
			n.rstd.host[r] = s
			vec.Normalise(y, xh, g, b, s)
		}
	})
}

func (hostDevice) normaliseBackward(n *layerNorm, dx, dgain, dbias, dout, gain vector) {
	d := n.d
	n.partial = resize(n.partial, parts()*2*d)
	partial := n.partial
	clear(partial)
	parallel(dout.n/d, func(part, lo, hi int) {
		dg, db, gain := partial[part*2*d:][:d], partial[part*2*d+d:][:d], gain.host
		for r := lo; r < hi; r++ {
			dy, xh, o := dout.host[r*d:(r+1)*d], n.xhat.host[r*d:(r+1)*d], dx.host[r*d:(r+1)*d]
			sum, along := vec.NormaliseSums(dg, db, dy, xh, gain)
			vec.NormaliseBackward(o, dy, xh, gain, n.rstd.host[r], sum/float32(d), along/float32(d))
		}
	})
	clear(dgain.host)
	clear(dbias.host)
	for p := range parts() {
		vec.Add(dgain.host, partial[p*2*d:][:d])
		vec.Add(dbias.host, partial[p*2*d+d:][:d])
	}
}

func (hostDevice) embed(k *embedding, out vector, in []argument) {
	scale, d := k.scale, k.d
	parallel(k.p, func(_, lo, hi int) {
		for r := lo; r < hi; r++ {
			y := out.host[r*d : (r+1)*d]
			a := in[0].floats.host[in[3].ints.host[r]*d:][:d]
			b := in[1].floats.host[in[4].ints.host[r]*d:][:d]
			c := in[2].floats.host[in[5].ints.host[r]*d:][:d]
			for i := range y {
				y[i] = scale*a[i] + b[i] + c[i]
			}
		}
	})
}

func (h hostDevice) embedBackward(k *embedding, grads []vector, dout vector, in []argument) {
	scale, d := k.scale, k.d
	for _, g := range grads[:3] {
		h.fill(g, 0)
	}
	// Rows are scattered by parts of the width: no two goroutines meet in a row.
	parallel(d, func(_, lo, hi int) {
		// The gradient is not ours to change, so the mask is applied on the way.
		masked := make([]float32, hi-lo)
		for r := range k.p {
			dy := dout.host[r*d+lo : r*d+hi]
			if k.drop.active() {
				for i, f := range k.drop.mask.host[r*d+lo : r*d+hi] {
					masked[i] = dy[i] * f
				}
				dy = masked
			}
			a := grads[0].host[in[3].ints.host[r]*d+lo:][:len(dy)]
			b := grads[1].host[in[4].ints.host[r]*d+lo:][:len(dy)]
			c := grads[2].host[in[5].ints.host[r]*d+lo:][:len(dy)]
			for i, x := range dy {
				a[i] += scale * x
				b[i] += x
				c[i] += x
			}
		}
	})
}

func (hostDevice) pool(k *pooling, out vector, in []argument) {
	d, x := k.d, in[0].floats.host
	parallel(k.rows(), func(_, lo, hi int) {
		for b := lo; b < hi; b++ {
			y, n := out.host[b*d:(b+1)*d], k.counted(in[1].ints.host[b])
			from, _ := k.at(b)
			clear(y)
			for t := range n {
				vec.Add(y, x[(from+t)*d:][:d])
			}
			vec.Scale(y, y, 1/float32(max(n, 1)))
			if k.unit {
				var square float64
				for _, v := range y {
					square += float64(v) * float64(v)
				}
				k.scale.host[b] = float32(1 / max(math.Sqrt(square), model.TextLengthFloor))
				vec.Scale(y, y, k.scale.host[b])
			}
		}
	})
}

func (hostDevice) poolBackward(k *pooling, dx, dout, out vector, in []argument) {
	d := k.d
	parallel(k.rows(), func(_, lo, hi int) {
		for b := lo; b < hi; b++ {
			from, t := k.at(b)
			y, dy, rows := out.host[b*d:(b+1)*d], dout.host[b*d:(b+1)*d], dx.host[from*d:(from+t)*d]
			n := k.counted(in[1].ints.host[b])
			clear(rows[n*d:])
			if n == 0 {
				continue
			}
			// The first row is computed, the others are the same.
			first, share := rows[:d], 1/float32(n)
			if k.unit { // what is along y changes nothing
				var dot float32
				for i, v := range dy {
					dot += v * y[i]
				}
				for i, v := range dy {
					first[i] = (v - y[i]*dot) * share * k.scale.host[b]
				}
			} else {
				vec.Scale(first, dy, share)
			}
			for t := 1; t < n; t++ {
				copy(rows[t*d:(t+1)*d], first)
			}
		}
	})
}

func (hostDevice) adam(o *adamW, w, m1, m2, grad vector, rate, scale, keep float64) {
	m, v, x, g := m1.host, m2.host, w.host, grad.host
	b1, b2, c1, c2 := o.factors()
	step := vec.Adam{
		Scale: float32(scale), Beta1: b1, Beta2: b2, Rate: float32(rate) * c1, Correct2: c2, Epsilon: float32(o.epsilon), Keep: float32(keep),
	}
	parallel(len(x), func(_, lo, hi int) { step.Step(x[lo:hi], m[lo:hi], v[lo:hi], g[lo:hi]) })
}
