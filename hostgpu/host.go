package hostgpu

import (
	"math"

	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"github.com/wisp-project/wisp/internal/vec"
)

// hostDevice is the processors of the machine: device without a GPU. Vectors are
// slices, and a mirror is the slice itself.
type hostDevice struct{}

// host computes on the processors.
var host device = hostDevice{}

func (hostDevice) resize(v vector, n int) vector         { return onHost(resize(v.host, n)) }
func (hostDevice) mirror(x []float32) vector             { return onHost(x) }
func (hostDevice) pull(...[]float32) error               { return nil }
func (hostDevice) push(...[]float32) error               { return nil }
func (hostDevice) indices(x []int) index                 { return index{host: x} }
func (hostDevice) fixed(x []int) index                   { return index{host: x} }
func (hostDevice) scalar(v vector) (float32, error)      { return v.host[0], nil }
func (hostDevice) err() error                            { return nil }
func (hostDevice) close() error                          { return nil }
func (hostDevice) copy(dst, src vector)                  { copy(dst.host, src.host) }
func (hostDevice) add(y, x vector)                       { addRows(y.host, x.host) }
func (hostDevice) addScaled(y, x vector, factor float32) { addScaled(y.host, x.host, factor) }
func (hostDevice) scaled(y, x vector, factor float32)    { scaledRows(y.host, x.host, factor) }
func (hostDevice) mean(out, x vector, count int)         { out.host[0] = mean(x.host, count) }
func (hostDevice) columnSums(sum, x vector)              { columnSums(sum.host, x.host) }

func (hostDevice) gemm(ta, tb bool, m, n, k int, alpha float32, a vector, lda int, b vector, ldb int, beta float32, c vector, ldc int) {
	gemm(ta, tb, m, n, k, alpha, a.host, lda, b.host, ldb, beta, c.host, ldc)
}

func (hostDevice) value(v vector, shape tensor.Shape) gorgonia.Value {
	if shape.Dims() == 0 { // a scalar node needs a scalar value, not a tensor
		return gorgonia.NewF32(v.host[0])
	}
	return tensor.New(tensor.WithShape(shape...), tensor.WithBacking(v.host))
}

func (hostDevice) fill(x vector, value float32) {
	parallel(x.n, func(_, lo, hi int) {
		y := x.host[lo:hi]
		if value == 0 {
			clear(y)
			return
		}
		for i := range y {
			y[i] = value
		}
	})
}

func (hostDevice) product(out, x, y vector) {
	parallel(out.n, func(_, lo, hi int) {
		vec.Mul(out.host[lo:hi], x.host[lo:hi], y.host[lo:hi])
	})
}

func (hostDevice) lerp(y, x vector, keep float32) {
	parallel(y.n, func(_, lo, hi int) { vec.Lerp(y.host[lo:hi], x.host[lo:hi], keep) })
}

func (hostDevice) dot(out, x, y vector) {
	var sum float64
	for i, v := range x.host {
		sum += float64(v) * float64(y.host[i])
	}
	out.host[0] = float32(sum)
}

func (hostDevice) squaredNorms(x ...vector) ([]float64, error) {
	norms := make([]float64, len(x))
	for i, v := range x {
		norms[i] = squaredNorm(v.host)
	}
	return norms, nil
}

func (hostDevice) repeat(y, row vector) {
	w := row.n
	parallel(y.n/w, func(_, lo, hi int) {
		for r := lo; r < hi; r++ {
			copy(y.host[r*w:(r+1)*w], row.host)
		}
	})
}

func (hostDevice) addColumnSums(sum, x vector) {
	w := sum.n
	parallel(w, func(_, lo, hi int) {
		for r := 0; r < x.n; r += w {
			vec.Add(sum.host[lo:hi], x.host[r+lo:r+hi])
		}
	})
}

func (hostDevice) clearRows(x, factors vector, w int) {
	for i, f := range factors.host {
		if f == 0 {
			clear(x.host[i*w : (i+1)*w])
		}
	}
}

func (hostDevice) gather(y, x vector, rows index, w int) {
	for j, i := range rows.host {
		copy(y.host[j*w:(j+1)*w], x.host[i*w:])
	}
}

func (hostDevice) scatter(y, x vector, rows index, w int) {
	for j, i := range rows.host {
		copy(y.host[i*w:(i+1)*w], x.host[j*w:])
	}
}

func (hostDevice) gatherAdd(y, x vector, rows index, factors vector, w int) {
	for j, i := range rows.host {
		if i < 0 {
			continue
		}
		to, from := y.host[j*w:(j+1)*w], x.host[i*w:(i+1)*w]
		if factors.n == 0 {
			vec.Add(to, from)
			continue
		}
		vec.AddScaled(to, from, factors.host[j])
	}
}

func (hostDevice) scatterAdd(y, x vector, rows index, factors vector, scale float32, w int) {
	for j, i := range rows.host {
		if i < 0 {
			continue
		}
		f := scale
		if factors.n > 0 {
			f *= factors.host[j]
		}
		vec.AddScaled(y.host[i*w:(i+1)*w], x.host[j*w:(j+1)*w], f)
	}
}

func (hostDevice) relu(x vector) {
	parallel(x.n, func(_, lo, hi int) {
		h := x.host[lo:hi]
		for i, v := range h {
			h[i] = max(v, 0)
		}
	})
}

func (hostDevice) reluBackward(dx, y vector) {
	parallel(y.n, func(_, lo, hi int) {
		d := dx.host[lo:hi]
		for i, v := range y.host[lo:hi] {
			// All ones where v > 0 and none where it is 0, for v is never negative.
			open := uint32(-int32(math.Float32bits(v)) >> 31)
			d[i] = math.Float32frombits(math.Float32bits(d[i]) & open)
		}
	})
}

func (hostDevice) gelu(x, slope vector) {
	parallel(x.n, func(_, lo, hi int) { vec.GELU(x.host[lo:hi], slope.host[lo:hi]) })
}
