package baseline

import (
	"fmt"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas32"
	"gonum.org/v1/gonum/mat"
)

// sweepBlock is the number of pivots taken at a time: wide enough for the matrix
// products to dominate.
const sweepBlock = 128

// negateInverse replaces the symmetric positive definite matrix in the upper
// triangle of a, which is square, by the negative of its inverse. The lower
// triangle is overwritten with no meaning. It works in place and in float32,
// where gonum's Cholesky would take three times N*N float64; the pivot blocks
// alone are inverted in float64. The error is ErrSingular.
//
// It is the sweep operator, by blocks: with the pivot block K,
//
//	A[I,J] -= A[I,K] * inv(A[K,K]) * A[K,J];  A[K,J] = inv(A[K,K]) * A[K,J];  A[K,K] = -inv(A[K,K])
//
// which leaves a symmetric matrix symmetric.
func negateInverse(a blas32.General) error {
	n := a.Rows
	panel := make([]float32, min(n, sweepBlock)*n)
	swept := make([]float32, len(panel))
	for lo := 0; lo < n; lo += sweepBlock {
		width := min(sweepBlock, n-lo)
		rows := blas32.General{Rows: width, Cols: n, Stride: n, Data: panel[:width*n]}
		product := blas32.General{Rows: width, Cols: n, Stride: n, Data: swept[:width*n]}
		gatherRows(rows, a, lo)
		pivot, err := invertPivot(rows, lo)
		if err != nil {
			return err
		}
		blas32.Gemm(blas.NoTrans, blas.NoTrans, 1, pivot, rows, 0, product)
		for i := 0; i < n; i += sweepBlock {
			if i != lo {
				height := min(sweepBlock, n-i)
				blas32.Gemm(blas.Trans, blas.NoTrans, -1, view(rows, 0, i, width, height), view(product, 0, i, width, n-i), 1, view(a, i, i, height, n-i))
			}
		}
		scatterRows(a, product, pivot, lo)
	}
	return nil
}

// gatherRows copies the rows of a from lo on to rows, taking what lies below the
// diagonal from the other side of it.
func gatherRows(rows, a blas32.General, lo int) {
	for r := range rows.Rows {
		i := lo + r
		row := rows.Data[r*rows.Stride:][:rows.Cols]
		for j := range i {
			row[j] = a.Data[j*a.Stride+i]
		}
		copy(row[i:], a.Data[i*a.Stride+i:][:a.Cols-i])
	}
}

// scatterRows writes the swept rows and the negative of the pivot's inverse to
// the upper triangle of a.
func scatterRows(a, product, pivot blas32.General, lo int) {
	for r := range product.Rows {
		i := lo + r
		row := product.Data[r*product.Stride:][:product.Cols]
		for c := range pivot.Cols {
			row[lo+c] = -pivot.Data[r*pivot.Stride+c]
		}
		for j := range lo {
			a.Data[j*a.Stride+i] = row[j]
		}
		copy(a.Data[i*a.Stride+i:][:a.Cols-i], row[i:])
	}
}

// invertPivot returns the inverse of the square block of rows at column lo.
func invertPivot(rows blas32.General, lo int) (blas32.General, error) {
	n := rows.Rows
	block := mat.NewSymDense(n, nil)
	for i := range n {
		for j := i; j < n; j++ {
			block.SetSym(i, j, float64(rows.Data[i*rows.Stride+lo+j]))
		}
	}
	var cholesky mat.Cholesky
	if !cholesky.Factorize(block) {
		return blas32.General{}, fmt.Errorf("%w: pivots %d to %d of %d", ErrSingular, lo, lo+n-1, rows.Cols)
	}
	if err := cholesky.InverseTo(block); err != nil {
		return blas32.General{}, fmt.Errorf("%w: pivots %d to %d of %d: %w", ErrSingular, lo, lo+n-1, rows.Cols, err)
	}
	inverse := blas32.General{Rows: n, Cols: n, Stride: n, Data: make([]float32, n*n)}
	for i := range n {
		for j := range n {
			inverse.Data[i*n+j] = float32(block.At(i, j))
		}
	}
	return inverse, nil
}

// view returns the block of a with the given corner and shape.
func view(a blas32.General, row, column, rows, columns int) blas32.General {
	return blas32.General{Rows: rows, Cols: columns, Stride: a.Stride, Data: a.Data[row*a.Stride+column:]}
}
