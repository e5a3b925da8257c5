package data

import (
	"fmt"
	"math/rand/v2"

	"gonum.org/v1/gonum/blas/blas64"
	"gonum.org/v1/gonum/lapack/lapack64"
	"gonum.org/v1/gonum/mat"
)

// Parameters of the randomised decomposition. Halko, Martinsson and Tropp
// advise an oversampling of 5 to 10 and one or two power iterations; but the
// spectrum of texts falls off slowly, and the directions that are hard to tell
// apart take more.
const (
	svdOversampling = 10
	svdIterations   = 8
)

// ItemVectors returns the texts of items as dense vectors, row-major with the
// shape (len(items), dim): TF-IDF with the default options, reduced by a
// truncated singular value decomposition. Inner products of rows are those of
// the TF-IDF rows as well as dim columns can give them, times one factor that
// makes the mean length of the rows that are not zero 1.
//
// Items without text have zero rows, and columns beyond the rank of the texts
// are zero. The same seed gives the same vectors. The error is ErrOptions if dim
// is less than 1; others mean that the decomposition did not converge.
func ItemVectors(items []Item, dim int, seed uint64) ([]float32, error) {
	if dim < 1 {
		return nil, fmt.Errorf("%w: item vectors with %d columns; want at least 1", ErrOptions, dim)
	}
	reduced, err := truncatedSVD(FitTFIDF(items, TFIDFOptions{}), dim, rand.New(rand.NewPCG(seed, 0)))
	if err != nil {
		return nil, err
	}
	vectors := make([]float32, len(items)*dim)
	if reduced == nil {
		return vectors, nil
	}
	_, kept := reduced.Dims()
	total, rows := 0.0, 0
	for i := range items {
		if norm := mat.Norm(reduced.RowView(i), 2); norm > 0 {
			total += norm
			rows++
		}
	}
	scale := float64(rows) / total
	for i := range items {
		for j := range kept {
			vectors[i*dim+j] = float32(reduced.At(i, j) * scale)
		}
	}
	return vectors, nil
}

// truncatedSVD returns U*S of the best approximation of t of rank dim: one row
// for each item and as many columns as t has singular values that matter, at
// most dim, the largest first; nil if there are none. It follows Halko,
// Martinsson and Tropp, "Finding structure with randomness", 2011, algorithms
// 4.4 and 5.1.
func truncatedSVD(t *TFIDF, dim int, rng *rand.Rand) (*mat.Dense, error) {
	n, m := t.Dims()
	width := min(dim+svdOversampling, n, m)
	if width == 0 {
		return nil, nil
	}
	draw := mat.NewDense(m, width, nil)
	for i := range draw.RawMatrix().Data {
		draw.RawMatrix().Data[i] = rng.NormFloat64()
	}
	// Each step orthonormalises, or the small directions drown in the large.
	rows := t.times(draw)
	orthonormalise(rows)
	for range svdIterations {
		columns := t.transposedTimes(rows)
		orthonormalise(columns)
		rows = t.times(columns)
		orthonormalise(rows)
	}
	// With Q = rows, t is about Q*(Q'*t). transposedTimes gives (Q'*t)' = W*S*Z',
	// so U*S = Q*Z*S.
	var svd mat.SVD
	if !svd.Factorize(t.transposedTimes(rows), mat.SVDThinV) {
		return nil, fmt.Errorf("data: singular value decomposition of %d items by %d terms did not converge", n, m)
	}
	values := svd.Values(nil)
	kept := 0
	for kept < min(dim, width) && values[kept] > values[0]*1e-10 {
		kept++
	}
	if kept == 0 {
		return nil, nil
	}
	var z, reduced mat.Dense
	svd.VTo(&z)
	reduced.Mul(rows, z.Slice(0, width, 0, kept))
	for j := range kept {
		scaleColumn(&reduced, j, values[j])
	}
	clearEmpty(&reduced, t)
	return &reduced, nil
}

// scaleColumn multiplies column j by factor and makes its largest entry
// positive: the decomposition leaves the sign open.
func scaleColumn(a *mat.Dense, j int, factor float64) {
	column := blas64.Vector{N: a.RawMatrix().Rows, Data: a.RawMatrix().Data[j:], Inc: a.RawMatrix().Stride}
	if largest := blas64.Iamax(column); column.Data[largest*column.Inc] < 0 {
		factor = -factor
	}
	blas64.Scal(factor, column)
}

// clearEmpty zeroes the rows of items without text, which hold only the rounding
// errors of the decomposition.
func clearEmpty(a *mat.Dense, t *TFIDF) {
	n, _ := t.Dims()
	for i := range n {
		if columns, _ := t.Row(i); len(columns) == 0 {
			clear(a.RawRowView(i))
		}
	}
}

// orthonormalise replaces the columns of a, which has at least as many rows, by
// an orthonormal basis that contains their span. mat.QR would form the whole
// square factor, which is as large as the number of items squared.
func orthonormalise(a *mat.Dense) {
	raw := a.RawMatrix()
	tau := make([]float64, raw.Cols)
	size := make([]float64, 1)
	lapack64.Geqrf(raw, tau, size, -1)
	work := make([]float64, max(int(size[0]), raw.Cols))
	lapack64.Geqrf(raw, tau, work, len(work))
	lapack64.Orgqr(raw, tau, size, -1)
	if need := int(size[0]); need > len(work) {
		work = make([]float64, need)
	}
	lapack64.Orgqr(raw, tau, work, len(work))
}

// times returns t*b.
func (t *TFIDF) times(b *mat.Dense) *mat.Dense {
	n, _ := t.Dims()
	_, width := b.Dims()
	product := mat.NewDense(n, width, nil)
	for i := range n {
		columns, weights := t.Row(i)
		row := blas64.Vector{N: width, Data: product.RawRowView(i), Inc: 1}
		for k, j := range columns {
			blas64.Axpy(float64(weights[k]), blas64.Vector{N: width, Data: b.RawRowView(int(j)), Inc: 1}, row)
		}
	}
	return product
}

// transposedTimes returns t'*b.
func (t *TFIDF) transposedTimes(b *mat.Dense) *mat.Dense {
	n, m := t.Dims()
	_, width := b.Dims()
	product := mat.NewDense(m, width, nil)
	for i := range n {
		columns, weights := t.Row(i)
		row := blas64.Vector{N: width, Data: b.RawRowView(i), Inc: 1}
		for k, j := range columns {
			blas64.Axpy(float64(weights[k]), row, blas64.Vector{N: width, Data: product.RawRowView(int(j)), Inc: 1})
		}
	}
	return product
}
