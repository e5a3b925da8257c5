package hostgpu

import (
	"math"
	"unsafe"
)

func (g *gpu) copy(dst, src vector) {
	if dst.at != src.at && dst.n > 0 {
		g.do("a copy on the GPU", g.c.cuMemcpyDtoDAsync, uintptr(dst.at), uintptr(src.at), uintptr(4*dst.n), 0)
	}
}

func (g *gpu) fill(x vector, value float32) {
	if x.n > 0 {
		g.do("filling memory", g.c.cuMemsetD32Async, uintptr(x.at), uintptr(math.Float32bits(value)), uintptr(x.n), 0)
	}
}

func (g *gpu) add(y, x vector)                       { g.each("add", y.n, y, x, y.n) }
func (g *gpu) addScaled(y, x vector, factor float32) { g.each("add_scaled", y.n, y, x, factor, y.n) }
func (g *gpu) scaled(y, x vector, factor float32)    { g.each("scaled", y.n, y, x, factor, y.n) }
func (g *gpu) product(out, x, y vector)              { g.each("product", out.n, out, x, y, out.n) }
func (g *gpu) lerp(y, x vector, keep float32)        { g.each("lerp", y.n, y, x, keep, y.n) }
func (g *gpu) relu(x vector)                         { g.each("relu", x.n, x, x.n) }
func (g *gpu) reluBackward(dx, y vector)             { g.each("relu_backward", dx.n, dx, y, dx.n) }
func (g *gpu) gelu(x, slope vector)                  { g.each("gelu", x.n, x, slope, x.n) }
func (g *gpu) dot(out, x, y vector)                  { g.launch("dot", 1, maxThreads, out, x, y, x.n) }

func (g *gpu) mean(out, x vector, count int) { g.launch("mean", 1, maxThreads, out, x, x.n, count) }

// squareBlocks is how many blocks add up the squares of a tensor.
const squareBlocks = 64

func (g *gpu) squaredNorms(x ...vector) ([]float64, error) {
	partial, total := g.temp(tempSquares, 2*len(x)*squareBlocks), g.temp(tempNorms, 2*len(x)) // in float64
	for i, v := range x {
		g.launch("square_partials", squareBlocks, maxThreads, partial.from(2*i*squareBlocks), v, v.n)
	}
	g.launch("square_totals", len(x), squareBlocks, total, partial, squareBlocks)
	norms := make([]float64, len(x))
	g.receive(unsafe.Pointer(&norms[0]), total.at, 8*len(norms))
	return norms, g.first
}

func (g *gpu) adam(o *adamW, x, m, v, grad vector, rate, scale, keep float64) {
	b1, b2, c1, c2 := o.factors()
	g.each("adam", x.n, x, m, v, grad, float32(rate), float32(scale), float32(keep), b1, b2, c1, c2, float32(o.epsilon), x.n)
}

// operation is CUBLAS_OP_T or CUBLAS_OP_N.
func operation(transposed bool) uintptr {
	if transposed {
		return 1
	}
	return 0
}

// gemm is the product of row-major matrices: cuBLAS stores them by columns, so that ours
// are the transposed ones to it, and Cᵀ = op(B)ᵀ·op(A)ᵀ.
func (g *gpu) gemm(ta, tb bool, m, n, k int, alpha float32, a vector, lda int, b vector, ldb int, beta float32, c vector, ldc int) {
	if m == 0 || n == 0 {
		return
	}
	g.do("a matrix product", g.c.cublasSgemm, g.c.handle, operation(tb), operation(ta), uintptr(n), uintptr(m), uintptr(k),
		uintptr(unsafe.Pointer(&alpha)), uintptr(b.at), uintptr(ldb), uintptr(a.at), uintptr(lda), uintptr(unsafe.Pointer(&beta)), uintptr(c.at), uintptr(ldc))
}

// gemms is gemm for count matrices each, which stand so many values apart.
func (g *gpu) gemms(count int, ta, tb bool, m, n, k int, alpha float32, a vector, lda, apartA int, b vector, ldb, apartB int, c vector, ldc, apartC int) {
	if count == 0 {
		return
	}
	var beta float32
	g.do("matrix products", g.c.cublasSgemmStridedBatched, g.c.handle, operation(tb), operation(ta), uintptr(n), uintptr(m), uintptr(k),
		uintptr(unsafe.Pointer(&alpha)), uintptr(b.at), uintptr(ldb), uintptr(apartB), uintptr(a.at), uintptr(lda), uintptr(apartA),
		uintptr(unsafe.Pointer(&beta)), uintptr(c.at), uintptr(ldc), uintptr(apartC), uintptr(count))
}

func (g *gpu) repeat(y, row vector) { g.each("repeat", y.n, y, row, y.n/row.n, row.n) }

func (g *gpu) columnSums(sum, x vector)    { g.sumColumns(sum, x, vector{}, 0) }
func (g *gpu) addColumnSums(sum, x vector) { g.sumColumns(sum, x, vector{}, 1) }

// sumColumns sums the rows of x, or of x·y where there is a y, in two steps.
func (g *gpu) sumColumns(sum, x, y vector, keep int) {
	const mostStretches, leastRowsEach = 64, 16
	w := sum.n
	n := x.n / w
	per := max((n+mostStretches-1)/mostStretches, leastRowsEach)
	stretches := (n + per - 1) / per
	partial, block := g.temp(tempPartial, stretches*w), threads(min(w, maxThreads/2))
	blocks := (w + block - 1) / block
	g.launch("column_partials", stretches*blocks, block, partial, x, y, n, w, per, blocks)
	g.each("column_totals", w, sum, partial, stretches, w, keep)
}

func (g *gpu) clearRows(x, factors vector, w int) {
	g.each("clear_rows", x.n, x, factors, x.n/w, w)
}

func (g *gpu) gather(y, x vector, rows index, w int) {
	g.each("gather", len(rows.host)*w, y, x, rows, len(rows.host), w)
}

func (g *gpu) scatter(y, x vector, rows index, w int) {
	g.each("scatter", len(rows.host)*w, y, x, rows, len(rows.host), w)
}

func (g *gpu) gatherAdd(y, x vector, rows index, factors vector, w int) {
	g.each("gather_add", len(rows.host)*w, y, x, rows, factors, len(rows.host), w)
}

func (g *gpu) scatterAdd(y, x vector, rows index, factors vector, scale float32, w int) {
	g.addSegments(y, x, vector{}, factors, rows.host, scale, w)
}

// segmentRows is the most rows that one block adds up.
const segmentRows = 64

// addSegments adds scale times row i of x, times its factor and the mask of x where
// there are any, to row rows[i] of y, for all rows that are not negative. What goes to the
// same row is added in the order of i, stretch by stretch.
func (g *gpu) addSegments(y, x, mask, factors vector, rows []int, scale float32, w int) {
	s := newSegments(rows, y.n/w)
	if len(s.rows) == 0 {
		return
	}
	all := g.temp(tempOrder, len(s.order)+len(s.from)+len(s.rows)+len(s.first))
	g.staged = g.staged[:0]
	for _, part := range [][]int32{s.order, s.from, s.rows, s.first} {
		g.staged = append(g.staged, part...)
	}
	g.send(all.at, unsafe.Pointer(&g.staged[0]), 4*len(g.staged))
	order := all.at
	from := order + address(4*len(s.order))
	to := from + address(4*len(s.from))
	first := to + address(4*len(s.rows))
	stretches := len(s.from) - 1
	partial := g.temp(tempPartial, stretches*w)
	g.launch("segment_partials", stretches, threads(w), partial, x, mask, factors, order, from, scale, w)
	g.launch("segment_totals", len(s.rows), threads(w), y, partial, to, first, w)
}

// segments are the places of a list of rows, row by row.
type segments struct {
	order []int32 // places, by row and then in order
	from  []int32 // where the stretches of order begin, each of one row; and the end
	rows  []int32 // that are there, each once
	first []int32 // the first stretch of each of rows, and the end
}

// newSegments sorts rows, below n, leaving out those that are negative.
func newSegments(rows []int, n int) segments {
	count := make([]int32, n+1)
	for _, r := range rows {
		if r >= 0 {
			count[r+1]++
		}
	}
	for r := range n {
		count[r+1] += count[r]
	}
	s := segments{order: make([]int32, count[n])}
	next := append([]int32(nil), count[:n]...)
	for i, r := range rows {
		if r >= 0 {
			s.order[next[r]] = int32(i)
			next[r]++
		}
	}
	for r := range n {
		lo, hi := count[r], count[r+1]
		if lo == hi {
			continue
		}
		s.rows, s.first = append(s.rows, int32(r)), append(s.first, int32(len(s.from)))
		for ; lo < hi; lo += segmentRows {
			s.from = append(s.from, lo)
		}
	}
	s.first, s.from = append(s.first, int32(len(s.from))), append(s.from, count[n])
	return s
}
