//go:build amd64 && goexperiment.simd

package vec

import "simd/archsimd"

// wide is whether the processor has the instructions below.
var wide = archsimd.X86.AVX2()

type vector = archsimd.Float32x8

func load(x []float32) vector       { return archsimd.LoadFloat32x8Slice(x) }
func all(x float32) vector          { return archsimd.BroadcastFloat32x8(x) }
func take(l *[lanes]float32) vector { return archsimd.LoadFloat32x8(l) }

// exponential is the constants of [Exp] in registers.
type exponential struct {
	floor, scale, bias, high, low, sixth, half, one, table vector
	bits, exponent                                         archsimd.Int32x8
}

func newExponential() exponential {
	return exponential{
		all(expFloor), all(expScale), all(roundBias), all(expHigh), all(expLow), all(1.0 / 6), all(0.5), all(1), take(&expTable),
		archsimd.BroadcastInt32x8(roundBits), archsimd.BroadcastInt32x8(127),
	}
}

// of is Exp of eight.
func (c *exponential) of(x vector) vector {
	n := x.Mul(c.scale).Add(c.bias)
	i := n.AsInt32x8().Sub(c.bits)
	n = n.Sub(c.bias)
	r := x.Sub(n.Mul(c.high)).Sub(n.Mul(c.low))
	p := r.Mul(c.sixth).Add(c.half)
	p = p.Mul(r).Add(c.one)
	p = p.Mul(r).Add(c.one)
	power := i.ShiftAllRight(3).Add(c.exponent).ShiftAllLeft(23).AsFloat32x8()
	e := c.table.Permute(i.AsUint32x8()).Mul(p).Mul(power)
	return e.AsInt32x8().AndNot(x.Less(c.floor).ToInt32x8()).AsFloat32x8()
}

func clearUpper() {
	if wide {
		archsimd.ClearAVXUpperBits()
	}
}

func expSum(x []float32, top float32, sum *[lanes]float32) (n int) {
	if !wide {
		return 0
	}
	c, t, s := newExponential(), all(top), take(sum)
	for ; n+lanes <= len(x); n += lanes {
		e := c.of(load(x[n:]).Sub(t))
		e.StoreSlice(x[n:])
		s = s.Add(e)
	}
	s.Store(sum)
	archsimd.ClearAVXUpperBits()
	return n
}

func sumMax(x []float32, sum, top *[lanes]float32) (n int) {
	if !wide {
		return 0
	}
	s, t := take(sum), take(top)
	for ; n+lanes <= len(x); n += lanes {
		v := load(x[n:])
		s, t = s.Add(v), t.Max(v)
	}
	s.Store(sum)
	t.Store(top)
	archsimd.ClearAVXUpperBits()
	return n
}

func affine(x []float32, factor, shift float32) (n int) {
	if !wide {
		return 0
	}
	f, s := all(factor), all(shift)
	for ; n+lanes <= len(x); n += lanes {
		load(x[n:]).Mul(f).Add(s).StoreSlice(x[n:])
	}
	archsimd.ClearAVXUpperBits()
	return n
}

func scale(y, x []float32, factor float32) (n int) {
	if !wide {
		return 0
	}
	f := all(factor)
	for ; n+lanes <= len(y); n += lanes {
		load(x[n:]).Mul(f).StoreSlice(y[n:])
	}
	archsimd.ClearAVXUpperBits()
	return n
}

func add(y, x []float32) (n int) {
	if !wide {
		return 0
	}
	for ; n+lanes <= len(y); n += lanes {
		load(y[n:]).Add(load(x[n:])).StoreSlice(y[n:])
	}
	archsimd.ClearAVXUpperBits()
	return n
}

func addScaled(y, x []float32, factor float32) (n int) {
	if !wide {
		return 0
	}
	f := all(factor)
	for ; n+lanes <= len(y); n += lanes {
		load(y[n:]).Add(load(x[n:]).Mul(f)).StoreSlice(y[n:])
	}
	archsimd.ClearAVXUpperBits()
	return n
}

func mul(z, x, y []float32) (n int) {
	if !wide {
		return 0
	}
	for ; n+lanes <= len(z); n += lanes {
		load(x[n:]).Mul(load(y[n:])).StoreSlice(z[n:])
	}
	archsimd.ClearAVXUpperBits()
	return n
}

func lerp(y, x []float32, keep, rest float32) (n int) {
	if !wide {
		return 0
	}
	k, r := all(keep), all(rest)
	for ; n+lanes <= len(y); n += lanes {
		load(y[n:]).Mul(k).Add(load(x[n:]).Mul(r)).StoreSlice(y[n:])
	}
	archsimd.ClearAVXUpperBits()
	return n
}

func dot(x, y []float32, sum *[lanes]float32) (n int) {
	if !wide {
		return 0
	}
	s := take(sum)
	for ; n+lanes <= len(x); n += lanes {
		s = s.Add(load(x[n:]).Mul(load(y[n:])))
	}
	s.Store(sum)
	archsimd.ClearAVXUpperBits()
	return n
}

func subMul(y, x []float32, shift float32) (n int) {
	if !wide {
		return 0
	}
	s := all(shift)
	for ; n+lanes <= len(y); n += lanes {
		load(x[n:]).Mul(load(y[n:]).Sub(s)).StoreSlice(y[n:])
	}
	archsimd.ClearAVXUpperBits()
	return n
}

func gelu(x, slope []float32) (n int) {
	if !wide {
		return 0
	}
	c, sign := newExponential(), archsimd.BroadcastInt32x8(-signBit)
	minusHalf, one, half := all(-0.5), all(1), all(0.5)
	for ; n+lanes <= len(x); n += lanes {
		v := load(x[n:])
		bits := v.AsInt32x8().And(sign)
		e := c.of(v.Mul(v).Mul(minusHalf))
		t := one.Div(v.AsInt32x8().Xor(bits).AsFloat32x8().Mul(all(tailScale)).Add(one))
		p := t.Mul(all(tail5)).Add(all(tail4))
		p = p.Mul(t).Add(all(tail3))
		p = p.Mul(t).Add(all(tail2))
		p = p.Mul(t).Add(all(tail1))
		p = p.Mul(t).Mul(e).Mul(half)
		cdf := half.Sub(p).AsInt32x8().Xor(bits).AsFloat32x8().Add(half)
		v.Mul(cdf).StoreSlice(x[n:])
		v.Mul(e).Mul(all(density)).Add(cdf).StoreSlice(slope[n:])
	}
	archsimd.ClearAVXUpperBits()
	return n
}

func centre(y, x []float32, mean float32, sum *[lanes]float32) (n int) {
	if !wide {
		return 0
	}
	m, s := all(mean), take(sum)
	for ; n+lanes <= len(x); n += lanes {
		v := load(x[n:]).Sub(m)
		v.StoreSlice(y[n:])
		s = s.Add(v.Mul(v))
	}
	s.Store(sum)
	archsimd.ClearAVXUpperBits()
	return n
}

func normalise(y, x, gain, bias []float32, factor float32) (n int) {
	if !wide {
		return 0
	}
	f := all(factor)
	for ; n+lanes <= len(x); n += lanes {
		v := load(x[n:]).Mul(f)
		v.StoreSlice(x[n:])
		v.Mul(load(gain[n:])).Add(load(bias[n:])).StoreSlice(y[n:])
	}
	archsimd.ClearAVXUpperBits()
	return n
}

func normaliseSums(dgain, dbias, dy, x, gain []float32, sum, along *[lanes]float32) (n int) {
	if !wide {
		return 0
	}
	s, a := take(sum), take(along)
	for ; n+lanes <= len(dy); n += lanes {
		v, xh := load(dy[n:]), load(x[n:])
		load(dgain[n:]).Add(v.Mul(xh)).StoreSlice(dgain[n:])
		load(dbias[n:]).Add(v).StoreSlice(dbias[n:])
		v = v.Mul(load(gain[n:]))
		s, a = s.Add(v), a.Add(v.Mul(xh))
	}
	s.Store(sum)
	a.Store(along)
	archsimd.ClearAVXUpperBits()
	return n
}

func normaliseBackward(dx, dy, x, gain []float32, factor, mean, along float32) (n int) {
	if !wide {
		return 0
	}
	f, m, a := all(factor), all(mean), all(along)
	for ; n+lanes <= len(dy); n += lanes {
		v := load(dy[n:]).Mul(load(gain[n:])).Sub(m).Sub(load(x[n:]).Mul(a))
		load(dx[n:]).Add(v.Mul(f)).StoreSlice(dx[n:])
	}
	archsimd.ClearAVXUpperBits()
	return n
}

func (a *Adam) step(w, m, v, g []float32) (n int) {
	if !wide {
		return 0
	}
	scale, b1, b2, c1, c2 := all(a.Scale), all(a.Beta1), all(a.Beta2), all(1-a.Beta1), all(1-a.Beta2)
	rate, correct, epsilon, keep := all(a.Rate), all(a.Correct2), all(a.Epsilon), all(a.Keep)
	for ; n+lanes <= len(g); n += lanes {
		d := load(g[n:]).Mul(scale)
		first := load(m[n:]).Mul(b1).Add(d.Mul(c1))
		second := load(v[n:]).Mul(b2).Add(d.Mul(d).Mul(c2))
		first.StoreSlice(m[n:])
		second.StoreSlice(v[n:])
		root := second.Mul(correct).Sqrt().Add(epsilon)
		load(w[n:]).Mul(keep).Sub(first.Mul(rate).Div(root)).StoreSlice(w[n:])
	}
	archsimd.ClearAVXUpperBits()
	return n
}
