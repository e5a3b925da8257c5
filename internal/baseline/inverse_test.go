package baseline_test

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"gonum.org/v1/gonum/mat"

	"github.com/wisp-project/wisp/internal/baseline"
)

// TestNegateInverse compares with gonum's Cholesky in float64, at sizes on both
// sides of the block length.
func TestNegateInverse(t *testing.T) {
	for _, n := range []int{1, 2, 127, 128, 129, 300} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(1, uint64(n)))
			x := mat.NewDense(2*n, n, nil)
			for i := range x.RawMatrix().Data {
				x.RawMatrix().Data[i] = rng.NormFloat64()
			}
			gram := mat.NewSymDense(n, nil)
			gram.SymOuterK(1, x.T())
			a := make([]float32, n*n) // the lower triangle stays zero: it must not be read
			for i := range n {
				gram.SetSym(i, i, gram.At(i, i)+10)
				for j := i; j < n; j++ {
					a[i*n+j] = float32(gram.At(i, j))
				}
			}
			must(t, baseline.NegateInverse(a, n))
			var cholesky mat.Cholesky
			if !cholesky.Factorize(gram) {
				t.Fatal("the test matrix is not positive definite")
			}
			var want mat.SymDense
			must(t, cholesky.InverseTo(&want))
			largest := mat.Max(&want)
			for i := range n {
				for j := i; j < n; j++ {
					if diff := math.Abs(float64(a[i*n+j]) + want.At(i, j)); diff > 1e-5*largest {
						t.Fatalf("entry %d, %d is %g; want %g", i, j, a[i*n+j], -want.At(i, j))
					}
				}
			}
		})
	}
}

func TestNegateInverseRefusesIndefinite(t *testing.T) {
	if err := baseline.NegateInverse([]float32{1, 2, 0, 1}, 2); !errors.Is(err, baseline.ErrSingular) {
		t.Errorf("error %v; want %v", err, baseline.ErrSingular)
	}
}
