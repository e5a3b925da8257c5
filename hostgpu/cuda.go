package hostgpu

import (
	_ "embed"
	"fmt"
	"runtime"
	"unsafe"

	"github.com/ebitengine/purego"
)

// ptx are the kernels of hostgpu/cuda, which the driver compiles for the GPU it finds.
//
//go:embed cuda/kernels.ptx
var ptx string

// Oldest driver, as the CUDA version that it supports, that reads the PTX, and oldest
// compute capability, times ten, that it is for.
const (
	oldestDriver     = 11080
	oldestCapability = 52
)

// cudaLibraries names the libraries of a GPU, those of cuBLAS in the order in which
// they are tried: a newer one may want a newer driver.
type cudaLibraries struct {
	driver string
	blas   []string
}

// systemCUDA are those of the machine.
var systemCUDA = func() cudaLibraries {
	if runtime.GOOS == "windows" {
		return cudaLibraries{"nvcuda.dll", []string{"cublas64_13.dll", "cublas64_12.dll", "cublas64_11.dll"}}
	}
	return cudaLibraries{"libcuda.so.1", []string{
		"libcublas.so.13", "libcublas.so.12", "libcublas.so.11",
		"/usr/local/cuda/lib64/libcublas.so.13", "/usr/local/cuda/lib64/libcublas.so.12", "/usr/local/cuda/lib64/libcublas.so.11",
	}}
}()

// cuda is a GPU: driver and cuBLAS, opened at run time, a context, and the kernels
// loaded into it. Functions are addresses in the libraries.
type cuda struct {
	name     string // of the GPU
	driver   int32  // the CUDA version that it supports, 1000·major + 10·minor
	blasName string
	blas     int32 // its version
	memory   uint64
	tf32     bool

	device  int32
	context uintptr
	module  uintptr
	handle  uintptr // of cuBLAS

	cuInit, cuDriverGetVersion, cuDeviceGetCount, cuDeviceGet, cuDeviceGetName, cuDeviceGetAttribute,
	cuDevicePrimaryCtxRetain, cuDevicePrimaryCtxRelease, cuCtxSetCurrent, cuMemGetInfo, cuMemAlloc, cuMemFree,
	cuMemcpyHtoDAsync, cuMemcpyDtoH, cuMemcpyDtoDAsync, cuMemsetD32Async, cuModuleLoadData, cuModuleGetFunction,
	cuLaunchKernel, cuGetErrorName uintptr
	cublasCreate, cublasDestroy, cublasGetVersion, cublasSetMathMode, cublasSgemm, cublasSgemmStridedBatched uintptr
}

// call calls a function of a library. The directive keeps what the arguments point at
// in place and alive, where they are written uintptr(unsafe.Pointer(&x)) in the call.
//
//go:uintptrescapes
//go:noinline
func call(function uintptr, args ...uintptr) int32 {
	r, _, _ := purego.SyscallN(function, args...)
	return int32(r)
}

// openCUDA opens the first GPU. The error wraps ErrDevice where there is none that can
// be used, and says why.
func openCUDA(libraries cudaLibraries, tf32 bool) (_ *cuda, err error) {
	c := &cuda{tf32: tf32}
	lib, err := openLibrary(libraries.driver)
	if err != nil {
		return nil, fmt.Errorf("%w: no NVIDIA driver: %w", ErrDevice, err)
	}
	err = symbols(lib, map[string]*uintptr{
		"cuInit": &c.cuInit, "cuDriverGetVersion": &c.cuDriverGetVersion, "cuDeviceGetCount": &c.cuDeviceGetCount, "cuDeviceGet": &c.cuDeviceGet,
		"cuDeviceGetName": &c.cuDeviceGetName, "cuDeviceGetAttribute": &c.cuDeviceGetAttribute,
		"cuDevicePrimaryCtxRetain": &c.cuDevicePrimaryCtxRetain, "cuDevicePrimaryCtxRelease_v2": &c.cuDevicePrimaryCtxRelease,
		"cuCtxSetCurrent": &c.cuCtxSetCurrent, "cuMemGetInfo_v2": &c.cuMemGetInfo, "cuMemAlloc_v2": &c.cuMemAlloc, "cuMemFree_v2": &c.cuMemFree,
		"cuMemcpyHtoDAsync_v2": &c.cuMemcpyHtoDAsync, "cuMemcpyDtoH_v2": &c.cuMemcpyDtoH, "cuMemcpyDtoDAsync_v2": &c.cuMemcpyDtoDAsync,
		"cuMemsetD32Async": &c.cuMemsetD32Async, "cuModuleLoadData": &c.cuModuleLoadData, "cuModuleGetFunction": &c.cuModuleGetFunction,
		"cuLaunchKernel": &c.cuLaunchKernel, "cuGetErrorName": &c.cuGetErrorName,
	})
	if err != nil {
		return nil, fmt.Errorf("%w: the NVIDIA driver is too old: %w; install one that supports CUDA %s or later", ErrDevice, err, version(oldestDriver))
	}
	runtime.LockOSThread() // a context belongs to a thread
	defer runtime.UnlockOSThread()
	if err := c.openDevice(); err != nil {
		return nil, err
	}
	if err := c.openBLAS(libraries.blas); err != nil {
		c.close()
		return nil, err
	}
	image := append([]byte(ptx), 0)
	if r := call(c.cuModuleLoadData, uintptr(unsafe.Pointer(&c.module)), uintptr(unsafe.Pointer(&image[0]))); r != 0 {
		c.close()
		return nil, fmt.Errorf("%w: %s does not take the kernels: %s", ErrDevice, c.name, c.errorName(r))
	}
	return c, nil
}

// symbols looks up functions of a library.
func symbols(lib uintptr, functions map[string]*uintptr) error {
	for name, f := range functions {
		p, err := librarySymbol(lib, name)
		if err != nil {
			return err
		}
		*f = p
	}
	return nil
}

// openDevice makes the context of the first GPU current.
func (c *cuda) openDevice() error {
	failed := func(what string, r int32) error {
		return fmt.Errorf("%w: %s: %s", ErrDevice, what, c.errorName(r))
	}
	if r := call(c.cuInit, 0); r != 0 {
		return failed("the driver does not start", r)
	}
	if r := call(c.cuDriverGetVersion, uintptr(unsafe.Pointer(&c.driver))); r != 0 {
		return failed("the driver's version", r)
	}
	if c.driver < oldestDriver {
		return fmt.Errorf("%w: the NVIDIA driver is too old: it supports CUDA %s; install one that supports %s or later", ErrDevice, version(c.driver), version(oldestDriver))
	}
	var count int32
	if r := call(c.cuDeviceGetCount, uintptr(unsafe.Pointer(&count))); r != 0 {
		return failed("counting GPUs", r)
	}
	if count == 0 {
		return fmt.Errorf("%w: the driver sees none; is CUDA_VISIBLE_DEVICES empty?", ErrDevice)
	}
	if r := call(c.cuDeviceGet, uintptr(unsafe.Pointer(&c.device)), 0); r != 0 {
		return failed("the first GPU", r)
	}
	name := make([]byte, 256)
	if r := call(c.cuDeviceGetName, uintptr(unsafe.Pointer(&name[0])), uintptr(len(name)-1), uintptr(c.device)); r != 0 {
		return failed("its name", r)
	}
	c.name = textOf(&name[0])
	const majorAttribute, minorAttribute = 75, 76
	var major, minor int32
	for a, v := range map[uintptr]*int32{majorAttribute: &major, minorAttribute: &minor} {
		if r := call(c.cuDeviceGetAttribute, uintptr(unsafe.Pointer(v)), a, uintptr(c.device)); r != 0 {
			return failed("its compute capability", r)
		}
	}
	if 10*major+minor < oldestCapability {
		return fmt.Errorf("%w: %s has compute capability %d.%d; %d.%d or later is needed", ErrDevice, c.name, major, minor, oldestCapability/10, oldestCapability%10)
	}
	if r := call(c.cuDevicePrimaryCtxRetain, uintptr(unsafe.Pointer(&c.context)), uintptr(c.device)); r != 0 {
		return failed("a context on "+c.name, r)
	}
	if r := call(c.cuCtxSetCurrent, c.context); r != 0 {
		return failed("the context of "+c.name, r)
	}
	var free uint64
	if r := call(c.cuMemGetInfo, uintptr(unsafe.Pointer(&free)), uintptr(unsafe.Pointer(&c.memory))); r != 0 {
		return failed("the memory of "+c.name, r)
	}
	return nil
}

// openBLAS opens the first cuBLAS that works with the driver.
func (c *cuda) openBLAS(names []string) error {
	why := fmt.Errorf("none of %v is there", names)
	for _, name := range names {
		lib, err := openLibrary(name)
		if err != nil {
			continue
		}
		err = symbols(lib, map[string]*uintptr{
			"cublasCreate_v2": &c.cublasCreate, "cublasDestroy_v2": &c.cublasDestroy, "cublasGetVersion_v2": &c.cublasGetVersion,
			"cublasSetMathMode": &c.cublasSetMathMode, "cublasSgemm_v2": &c.cublasSgemm, "cublasSgemmStridedBatched": &c.cublasSgemmStridedBatched,
		})
		if err != nil {
			why = err
			continue
		}
		if r := call(c.cublasCreate, uintptr(unsafe.Pointer(&c.handle))); r != 0 {
			c.handle, why = 0, fmt.Errorf("%s does not start: status %d", name, r)
			continue
		}
		const tf32Mode = 3 // CUBLAS_TF32_TENSOR_OP_MATH
		if c.tf32 {
			if r := call(c.cublasSetMathMode, c.handle, tf32Mode); r != 0 {
				return fmt.Errorf("%w: %s does not compute in TF32: status %d", ErrDevice, c.name, r)
			}
		}
		c.blasName = name
		if r := call(c.cublasGetVersion, c.handle, uintptr(unsafe.Pointer(&c.blas))); r != 0 {
			return fmt.Errorf("%w: cuBLAS does not tell its version: status %d", ErrDevice, r)
		}
		return nil
	}
	return fmt.Errorf("%w: %s has no usable cuBLAS: %w; install that of CUDA 11, 12 or 13, or name its folder in LD_LIBRARY_PATH", ErrDevice, c.name, why)
}

// close gives the context back. Nothing of it may be in use.
func (c *cuda) close() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	call(c.cuCtxSetCurrent, c.context)
	if c.handle != 0 {
		call(c.cublasDestroy, c.handle)
	}
	call(c.cuDevicePrimaryCtxRelease, uintptr(c.device))
}

// String says what the GPU is and how it computes.
func (c *cuda) String() string {
	precision := "float32"
	if c.tf32 {
		precision = "products in TF32, the rest in float32"
	}
	return fmt.Sprintf("%s, %.0f GB (CUDA %s, cuBLAS %d, %s)", c.name, float64(c.memory)/1e9, version(c.driver), c.blas, precision)
}

// errorName is what the driver calls an error.
func (c *cuda) errorName(r int32) string {
	var name *byte
	if call(c.cuGetErrorName, uintptr(r), uintptr(unsafe.Pointer(&name))) != 0 || name == nil {
		return fmt.Sprintf("error %d", r)
	}
	return fmt.Sprintf("%s (error %d)", textOf(name), r)
}

// version writes a version of CUDA.
func version(v int32) string { return fmt.Sprintf("%d.%d", v/1000, v%1000/10) }

// textOf is a text in C, up to its zero.
func textOf(p *byte) string {
	n := 0
	for *(*byte)(unsafe.Add(unsafe.Pointer(p), n)) != 0 {
		n++
	}
	return string(unsafe.Slice(p, n))
}
