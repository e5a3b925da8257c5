package eval

import (
	"math"
	"slices"
)

// Vectors are rows of equal width whose directions are compared.
type Vectors struct {
	Dim  int
	Data []float32 // (N, Dim)
}

// cosines returns the cosine of every two rows, (N, N) without a diagonal: of row
// i with row j at place i·N+j. A row of zeros has cosine 0 with all.
func (v Vectors) cosines() (cos []float32, n int) {
	n, d := len(v.Data)/v.Dim, v.Dim
	unit := make([]float32, len(v.Data))
	for i := range n {
		row := v.Data[i*d : (i+1)*d]
		var square float64
		for _, x := range row {
			square += float64(x) * float64(x)
		}
		if square == 0 {
			continue
		}
		for j, x := range row {
			unit[i*d+j] = float32(float64(x) / math.Sqrt(square))
		}
	}
	cos = make([]float32, n*n)
	for i := range n {
		for j := range i {
			var dot float32
			for k, x := range unit[i*d : (i+1)*d] {
				dot += x * unit[j*d+k]
			}
			cos[i*n+j], cos[j*n+i] = dot, dot
		}
	}
	return cos, n
}

// Likeness says how far the vectors that two encoders make of the same texts put
// the texts into the same order.
type Likeness struct {
	// Overlap is for each text the share of its k nearest others under one
	// encoder that are among its k nearest under the other. Of others that are
	// equally near, those that stand first in the list count as nearer.
	Overlap []float64
	// Spearman is the rank correlation of the cosines of all pairs of texts;
	// equal cosines share the mean of their ranks.
	Spearman float64
}

// Alike compares vectors of the same N texts, N > k ≥ 1.
func Alike(a, b Vectors, k int) Likeness {
	x, n := a.cosines()
	y, _ := b.cosines()
	l := Likeness{Overlap: make([]float64, n)}
	for i := range n {
		near := nearest(x[i*n:(i+1)*n], i, k)
		for _, j := range nearest(y[i*n:(i+1)*n], i, k) {
			if slices.Contains(near, j) {
				l.Overlap[i] += 1 / float64(k)
			}
		}
	}
	l.Spearman = pearson(ranks(pairs(x, n)), ranks(pairs(y, n)))
	return l
}

// nearest returns the k places of the highest values but that of place self.
func nearest(values []float32, self, k int) []int {
	var best []int
	for j, v := range values {
		if j == self || len(best) == k && !(v > values[best[k-1]]) {
			continue
		}
		at := len(best)
		for at > 0 && v > values[best[at-1]] {
			at--
		}
		best = slices.Insert(best, at, j)
		best = best[:min(len(best), k)]
	}
	return best
}

// pairs lists the values below the diagonal of an (n, n) matrix.
func pairs(matrix []float32, n int) []float32 {
	flat := make([]float32, 0, n*(n-1)/2)
	for i := range n {
		flat = append(flat, matrix[i*n:i*n+i]...)
	}
	return flat
}

// ranks returns the rank of each value, the mean of them for equal values.
func ranks(values []float32) []float64 {
	order := make([]int32, len(values))
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortFunc(order, func(a, b int32) int {
		switch {
		case values[a] < values[b]:
			return -1
		case values[a] > values[b]:
			return 1
		}
		return 0
	})
	r := make([]float64, len(values))
	for lo := 0; lo < len(order); {
		hi := lo
		for hi < len(order) && values[order[hi]] == values[order[lo]] {
			hi++
		}
		for _, i := range order[lo:hi] {
			r[i] = float64(lo+hi-1) / 2
		}
		lo = hi
	}
	return r
}

// pearson is the correlation of x and y, 0 where one of them does not vary.
func pearson(x, y []float64) float64 {
	var mx, my float64
	for i := range x {
		mx += x[i] / float64(len(x))
		my += y[i] / float64(len(y))
	}
	var xx, yy, xy float64
	for i := range x {
		dx, dy := x[i]-mx, y[i]-my
		xx, yy, xy = xx+dx*dx, yy+dy*dy, xy+dx*dy
	}
	if xx == 0 || yy == 0 {
		return 0
	}
	return xy / math.Sqrt(xx*yy)
}
