package hostgpu

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"sync"
	"unsafe"

	"github.com/ebitengine/purego"
	"golang.org/x/sys/cpu"
	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/gonum"
)

// BLASInfo says which BLAS the process uses.
type BLASInfo struct {
	Name   string // "OpenBLAS" or "gonum"
	Detail string // the library's own description
	Fast   bool
	Hint   string // how to get the fast one; empty where it is in use
}

// openBLAS is the part of OpenBLAS that is used, opened at run time.
type openBLAS struct {
	sgemm      uintptr // the Fortran interface, which takes pointers only
	setThreads func(int32)
	config     func() string
	corename   func() string
}

var loadBLAS = sync.OnceValues(func() (*openBLAS, error) {
	name := "libopenblas.so.0"
	switch runtime.GOOS {
	case "darwin":
		name = "libopenblas.dylib"
	case "windows":
		name = "libopenblas.dll"
	}
	lib, err := openLibrary(name)
	if err != nil {
		return nil, err
	}
	if lib, err = withNewerKernels(lib, name); err != nil {
		return nil, err
	}
	b := &openBLAS{}
	for symbol, fn := range map[string]any{
		"openblas_set_num_threads": &b.setThreads,
		"openblas_get_config":      &b.config, "openblas_get_corename": &b.corename,
	} {
		p, err := librarySymbol(lib, symbol)
		if err != nil {
			return nil, err
		}
		purego.RegisterFunc(fn, p)
	}
	if b.sgemm, err = librarySymbol(lib, "sgemm_"); err != nil {
		return nil, err
	}
	// One thread inside the library: gemm cuts products up itself, which keeps
	// the cuts in one place and calls from several goroutines apart.
	b.setThreads(1)
	return b, nil
})

// coreVariable is how OpenBLAS is told which kernels to take. It is read as the
// library is opened.
const coreVariable = "OPENBLAS_CORETYPE"

// withNewerKernels opens the library again where it took kernels without AVX2 on a
// processor that has it: a release takes a processor that is newer than itself for
// one of 2004, and is then two to four times slower.
func withNewerKernels(lib uintptr, name string) (uintptr, error) {
	var core func() string
	p, err := librarySymbol(lib, "openblas_get_corename")
	if err != nil {
		return 0, err
	}
	purego.RegisterFunc(&core, p)
	_, told := os.LookupEnv(coreVariable)
	newer := newerCore(core(), cpu.X86.HasAVX2 && cpu.X86.HasFMA, cpu.X86.HasAVX512F && cpu.X86.HasAVX512DQ && cpu.X86.HasAVX512BW && cpu.X86.HasAVX512VL)
	if told || newer == "" {
		return lib, nil
	}
	if err := closeLibrary(lib); err != nil {
		return 0, err
	}
	if err := os.Setenv(coreVariable, newer); err != nil {
		return 0, err
	}
	return openLibrary(name)
}

// newerCore returns the kernels to ask for in the place of those called core on a
// processor with these instructions; "" to leave them.
func newerCore(core string, avx2, avx512 bool) string {
	if !slices.Contains([]string{"Katmai", "Coppermine", "Northwood", "Prescott", "Banias", "Core2", "Penryn", "Dunnington", "Nehalem", "Generic"}, core) {
		return ""
	}
	switch {
	case avx512:
		return "SkylakeX"
	case avx2:
		return "Haswell"
	}
	return ""
}

// BLAS reports which matrix library this process uses: OpenBLAS where the
// machine has it, gonum's pure-Go one otherwise.
func BLAS() BLASInfo {
	b, err := loadBLAS()
	if err != nil {
		return BLASInfo{
			Name: "gonum", Detail: fmt.Sprintf("pure Go (OpenBLAS not opened: %v)", err),
			Hint: "training is several times faster with OpenBLAS: apt-get install libopenblas0-pthread",
		}
	}
	return BLASInfo{Name: "OpenBLAS", Detail: fmt.Sprintf("%s, kernels for %s, %d threads", b.config(), b.corename(), parts()), Fast: true}
}

// gemm is C = alpha·op(A)·op(B) + beta·C on row-major matrices: op(A) is (m, k),
// op(B) is (k, n), C is (m, n); ld* are the row strides of the arrays as stored.
// Large products are cut over the processors along the longer side of C, so
// that each value is computed by one of them, in one order.
func gemm(ta, tb bool, m, n, k int, alpha float32, a []float32, lda int, b []float32, ldb int, beta float32, c []float32, ldc int) {
	const worthCutting = 1 << 17 // multiplications; fewer take less time than waking a goroutine saves
	if m*n*k < worthCutting {
		gemmOne(ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc)
		return
	}
	// Cuts fall on multiples of a register tile of the library's kernels.
	const tile = 16
	if m >= n {
		parallel((m+tile-1)/tile, func(_, lo, hi int) {
			lo, hi = lo*tile, min(hi*tile, m)
			gemmOne(ta, tb, hi-lo, n, k, alpha, a[start(lo, lda, !ta):], lda, b, ldb, beta, c[lo*ldc:], ldc)
		})
		return
	}
	parallel((n+tile-1)/tile, func(_, lo, hi int) {
		lo, hi = lo*tile, min(hi*tile, n)
		gemmOne(ta, tb, m, hi-lo, k, alpha, a, lda, b[start(lo, ldb, tb):], ldb, beta, c[lo:], ldc)
	})
}

// start is where row i of an array with row stride ld starts, or column i.
func start(i, ld int, row bool) int {
	if row {
		return i * ld
	}
	return i
}

// gemmOne is gemm on the calling goroutine alone.
func gemmOne(ta, tb bool, m, n, k int, alpha float32, a []float32, lda int, b []float32, ldb int, beta float32, c []float32, ldc int) {
	if m == 0 || n == 0 {
		return
	}
	lib, err := loadBLAS()
	if err != nil {
		gonum.Implementation{}.Sgemm(transpose(ta), transpose(tb), m, n, k, alpha, a, lda, b, ldb, beta, c, ldc)
		return
	}
	lib.gemm(ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc)
}

// gemmArguments are the arguments of sgemm_ that are not matrices.
type gemmArguments struct {
	m, n, k, lda, ldb, ldc int32
	alpha, beta            float32
	ta, tb                 byte
}

// gemmPool keeps the arguments of calls that have ended: attention makes
// thousands of small ones a step.
var gemmPool = sync.Pool{New: func() any { return new(gemmArguments) }}

// gemm calls the library. Fortran stores matrices by columns, so that ours are
// the transposed ones to it, and Cᵀ = op(B)ᵀ·op(A)ᵀ. Of purego's two ways to make
// a call, that for pointers alone is without reflection and allocates once, not
// a dozen times.
func (o *openBLAS) gemm(ta, tb bool, m, n, k int, alpha float32, a []float32, lda int, b []float32, ldb int, beta float32, c []float32, ldc int) {
	p := gemmPool.Get().(*gemmArguments)
	defer gemmPool.Put(p)
	*p = gemmArguments{int32(n), int32(m), int32(k), int32(ldb), int32(lda), int32(ldc), alpha, beta, letter(tb), letter(ta)}
	purego.SyscallN(o.sgemm,
		uintptr(unsafe.Pointer(&p.ta)), uintptr(unsafe.Pointer(&p.tb)),
		uintptr(unsafe.Pointer(&p.m)), uintptr(unsafe.Pointer(&p.n)), uintptr(unsafe.Pointer(&p.k)),
		uintptr(unsafe.Pointer(&p.alpha)), uintptr(unsafe.Pointer(&b[0])), uintptr(unsafe.Pointer(&p.lda)),
		uintptr(unsafe.Pointer(&a[0])), uintptr(unsafe.Pointer(&p.ldb)),
		uintptr(unsafe.Pointer(&p.beta)), uintptr(unsafe.Pointer(&c[0])), uintptr(unsafe.Pointer(&p.ldc)))
}

// letter is how Fortran is told of a transposition.
func letter(transposed bool) byte {
	if transposed {
		return 'T'
	}
	return 'N'
}

func transpose(t bool) blas.Transpose {
	if t {
		return blas.Trans
	}
	return blas.NoTrans
}

// parallel splits the range [0, n) over the processors and returns when all
// parts are done. Parts are cut at the same places for the same n and
// GOMAXPROCS, so that sums over parts are reproducible.
func parallel(n int, f func(part, lo, hi int)) {
	parts := min(parts(), n)
	if parts <= 1 {
		f(0, 0, n)
		return
	}
	var wg sync.WaitGroup
	for p := 1; p < parts; p++ {
		wg.Go(func() { f(p, n*p/parts, n*(p+1)/parts) })
	}
	f(0, 0, n/parts)
	wg.Wait()
}

// parts is the largest number of parts that parallel makes.
func parts() int { return runtime.GOMAXPROCS(0) }
