package hostgpu_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/wisp-project/wisp/hostgpu"
)

// checkGemm compares products of many shapes with a triple loop in float64.
func checkGemm(t *testing.T) {
	t.Helper()
	r := rand.New(rand.NewPCG(1, 0))
	for _, size := range [][3]int{{1, 1, 1}, {3, 5, 7}, {1, 40, 9}, {17, 16, 33}, {90, 70, 40}, {33, 300, 21}, {300, 33, 21}} {
		m, n, k := size[0], size[1], size[2]
		for _, ta := range []bool{false, true} {
			for _, tb := range []bool{false, true} {
				for _, beta := range []float32{0, 1, -0.5} {
					// Rows are longer than they need be: strides count.
					lda, ldb, ldc := k+3, n+2, n+1
					rowsA, rowsB := m, k
					if ta {
						lda, rowsA = m+3, k
					}
					if tb {
						ldb, rowsB = k+2, n
					}
					a, b, c := normal(r, rowsA*lda, 1), normal(r, rowsB*ldb, 1), normal(r, m*ldc, 1)
					was := slices.Clone(c)
					hostgpu.Gemm(ta, tb, m, n, k, 1.5, a, lda, b, ldb, beta, c, ldc)
					for i := range m {
						for j := range ldc {
							want := float64(was[i*ldc+j])
							if j < n {
								want *= float64(beta)
								for x := range k {
									want += 1.5 * at(a, lda, i, x, ta) * at(b, ldb, x, j, tb)
								}
							}
							if got := float64(c[i*ldc+j]); math.Abs(got-want) > 1e-4*(1+math.Abs(want)) {
								t.Fatalf("%v transposed %v %v, beta %v: C[%d][%d] = %v, want %v", size, ta, tb, beta, i, j, got, want)
							}
						}
					}
				}
			}
		}
	}
}

// at is op(A)[i][j].
func at(a []float32, ld, i, j int, transposed bool) float64 {
	if transposed {
		i, j = j, i
	}
	return float64(a[i*ld+j])
}

func TestGemm(t *testing.T) { checkGemm(t) }

func TestGemmWithoutOpenBLAS(t *testing.T) { hostgpu.WithoutOpenBLAS(func() { checkGemm(t) }) }

// The same product gives the same bits every time: a resumed run depends on it.
func TestGemmIsReproducible(t *testing.T) {
	const m, n, k = 211, 97, 64
	r := rand.New(rand.NewPCG(2, 0))
	a, b := normal(r, m*k, 1), normal(r, n*k, 1)
	product := func() []float32 {
		c := make([]float32, m*n)
		hostgpu.Gemm(false, true, m, n, k, 1, a, k, b, k, 0, c, n)
		return c
	}
	want := product()
	for range 20 {
		if !slices.Equal(product(), want) {
			t.Fatal("two products of the same matrices differ")
		}
	}
}

func TestBLASSaysWhatIsUsed(t *testing.T) {
	info := hostgpu.BLAS()
	if info.Name == "" || info.Detail == "" || info.Fast != (info.Name == "OpenBLAS") || info.Fast == (info.Hint != "") {
		t.Errorf("%+v", info)
	}
	hostgpu.WithoutOpenBLAS(func() {
		info := hostgpu.BLAS()
		if info.Name != "gonum" || info.Fast || !strings.Contains(info.Hint, "libopenblas") || !strings.Contains(info.Detail, "taken away") {
			t.Errorf("without the library: %+v", info)
		}
	})
}

func TestParallelCoversTheRange(t *testing.T) {
	for _, n := range []int{0, 1, 2, 3, 100, 101} {
		hits := make([]int, n)
		hostgpu.Parallel(n, func(_, lo, hi int) {
			for i := lo; i < hi; i++ {
				hits[i]++
			}
		})
		if slices.ContainsFunc(hits, func(h int) bool { return h != 1 }) {
			t.Errorf("%d: %v", n, hits)
		}
	}
}

func BenchmarkGemm(b *testing.B) {
	for _, size := range [][3]int{{2048, 256, 64}, {78, 1682, 64}, {128, 128, 32}} {
		m, n, k := size[0], size[1], size[2]
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			x, y, z := make([]float32, m*k), make([]float32, n*k), make([]float32, m*n)
			for b.Loop() {
				hostgpu.Gemm(false, true, m, n, k, 1, x, k, y, k, 0, z, n)
			}
			b.ReportMetric(2*float64(m*n*k)*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
		})
	}
}

func TestNewerCore(t *testing.T) {
	for _, c := range []struct {
		core         string
		avx2, avx512 bool
		want         string
	}{
		{"Prescott", true, true, "SkylakeX"},
		{"Prescott", true, false, "Haswell"},
		{"Nehalem", true, false, "Haswell"},
		{"Prescott", false, false, ""},
		{"Haswell", true, true, ""},
		{"SkylakeX", true, true, ""},
		{"Zen", true, true, ""},
		{"ARMV8", false, false, ""},
	} {
		if got := hostgpu.NewerCore(c.core, c.avx2, c.avx512); got != c.want {
			t.Errorf("kernels for %s, AVX2 %v, AVX-512 %v: %q, want %q", c.core, c.avx2, c.avx512, got, c.want)
		}
	}
}
