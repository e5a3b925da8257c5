package baseline

import "gonum.org/v1/gonum/blas/blas32"

// NegateInverse is negateInverse of the n by n matrix a.
func NegateInverse(a []float32, n int) error {
	return negateInverse(blas32.General{Rows: n, Cols: n, Stride: n, Data: a})
}
