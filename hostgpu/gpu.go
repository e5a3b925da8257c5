package hostgpu

import (
	"errors"
	"fmt"
	"math"
	"runtime"
	"sync"
	"unsafe"

	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// gpu is the device of one training on a GPU: memory of its own in a context that
// others may share. Calls are queued and return at once, so that what fails is told
// later, by err; after that they do nothing. It is not safe for concurrent use, but
// goroutines may take turns, as those of the tape machine do.
type gpu struct {
	c     *cuda
	mu    *sync.Mutex // of the context: cuBLAS takes calls one after the other
	first error

	blocks    map[address]int // what is allocated, in values
	mirrors   map[*float32]mirrored
	integers  map[*int]vector // copies of indices, as int32
	temporary map[temporary]vector
	staged    []int32
	functions map[string]uintptr

	sent, received int // bytes between host and GPU

	// Arguments of a launch. They are read through pointers to this memory, which does
	// not move.
	values [maxArguments]uint64
	places [maxArguments]unsafe.Pointer
}

// maxArguments is the most that a kernel has.
const maxArguments = 24

// mirrored is a slice and its copy.
type mirrored struct {
	host []float32
	copy vector
}

// temporary names memory that is free again when the function that asked for it ends:
// what is queued later comes later.
type temporary int

const (
	tempPartial temporary = iota
	tempHeads
	tempScores
	tempOrder
	tempSquares
	tempNorms
	tempLogits
	tempRows
)

func newGPU(c *cuda, mu *sync.Mutex) *gpu {
	g := &gpu{
		c: c, mu: mu, blocks: map[address]int{}, mirrors: map[*float32]mirrored{}, integers: map[*int]vector{},
		temporary: map[temporary]vector{}, functions: map[string]uintptr{},
	}
	for i := range g.values {
		g.places[i] = unsafe.Pointer(&g.values[i])
	}
	return g
}

// Results that say that memory is short.
const (
	cudaOutOfMemory  = 2 // CUDA_ERROR_OUT_OF_MEMORY
	cublasAllocation = 3 // CUBLAS_STATUS_ALLOC_FAILED
)

// do makes a call in the context, which belongs to a thread of the system.
//
//go:uintptrescapes
func (g *gpu) do(what string, function uintptr, args ...uintptr) bool {
	if g.first != nil {
		return false
	}
	g.mu.Lock()
	runtime.LockOSThread()
	r := call(g.c.cuCtxSetCurrent, g.c.context)
	if r == 0 {
		r = call(function, args...)
	}
	runtime.UnlockOSThread()
	g.mu.Unlock()
	switch {
	case r == 0:
		return true
	case function == g.c.cublasSgemm || function == g.c.cublasSgemmStridedBatched:
		g.first = fmt.Errorf("%w: %s: status %d of cuBLAS", ErrDeviceLost, what, r)
		if r == cublasAllocation {
			g.first = fmt.Errorf("%w: %s on %s", ErrDeviceMemory, what, g.c.name)
		}
	case r == cudaOutOfMemory:
		g.first = fmt.Errorf("%w: %s on %s, beside %.1f GB that this training has there; take a smaller batch, or the device cpu",
			ErrDeviceMemory, what, g.c.name, g.allocated()/1e9)
	default:
		g.first = fmt.Errorf("%w: %s: %s; go on from the last checkpoint, with the device cpu if it happens again", ErrDeviceLost, what, g.c.errorName(r))
	}
	return false
}

// allocated is the memory that the training has, in bytes.
func (g *gpu) allocated() float64 {
	n := 0.0
	for _, values := range g.blocks {
		n += 4 * float64(values)
	}
	return n
}

func (g *gpu) err() error { return g.first }

func (g *gpu) close() error {
	was := g.first
	g.first = nil // what is there is given back all the same
	for at := range g.blocks {
		g.do("giving memory back", g.c.cuMemFree, uintptr(at))
	}
	clear(g.blocks)
	if g.first != nil && was == nil { // otherwise it has been told
		return g.first
	}
	return nil
}

func (g *gpu) resize(v vector, n int) vector {
	if v.at != 0 && g.blocks[v.at] >= n {
		return vector{at: v.at, n: n}
	}
	if n > math.MaxInt32 {
		g.fail(fmt.Errorf("%w: a tensor of %d values is more than a kernel counts; take a smaller batch", ErrDeviceMemory, n))
		return vector{at: nowhere, n: n}
	}
	if _, ours := g.blocks[v.at]; ours {
		g.do("giving memory back", g.c.cuMemFree, uintptr(v.at))
		delete(g.blocks, v.at)
	}
	var at address
	if !g.do(fmt.Sprintf("%.1f MB", 4*float64(n)/1e6), g.c.cuMemAlloc, uintptr(unsafe.Pointer(&at)), uintptr(4*max(n, 1))) {
		return vector{at: nowhere, n: n}
	}
	g.blocks[at] = max(n, 1)
	return vector{at: at, n: n}
}

// forgive takes back that memory was short, which leaves what is there as it is, and
// reports whether that was all that was wrong.
func (g *gpu) forgive() bool {
	if errors.Is(g.first, ErrDeviceMemory) {
		g.first = nil
	}
	return g.first == nil
}

// nowhere is the address of memory that could not be had. Nothing is called with it,
// for there is an error then.
const nowhere address = 1

// fail keeps the first error.
func (g *gpu) fail(err error) {
	if g.first == nil {
		g.first = err
	}
}

// temp returns memory that is valid until it is asked for again.
func (g *gpu) temp(name temporary, n int) vector {
	v := g.resize(g.temporary[name], n)
	g.temporary[name] = v
	return v
}

func (g *gpu) mirror(x []float32) vector {
	if len(x) == 0 {
		return vector{}
	}
	m, ok := g.mirrors[&x[0]]
	if !ok || len(m.host) < len(x) {
		m = mirrored{x, g.resize(m.copy, len(x))}
		if g.first != nil {
			delete(g.mirrors, &x[0])
			return m.copy
		}
		g.mirrors[&x[0]] = m
		g.send(m.copy.at, unsafe.Pointer(&x[0]), 4*len(x))
	}
	return m.copy.slice(0, len(x))
}

func (g *gpu) pull(x ...[]float32) error {
	for _, host := range x {
		if len(host) == 0 {
			continue
		}
		if m, ok := g.mirrors[&host[0]]; ok {
			g.receive(unsafe.Pointer(&host[0]), m.copy.at, 4*min(len(host), len(m.host)))
		}
	}
	return g.first
}

func (g *gpu) push(x ...[]float32) error {
	for _, host := range x {
		if len(host) == 0 {
			continue
		}
		if m, ok := g.mirrors[&host[0]]; ok {
			g.send(m.copy.at, unsafe.Pointer(&host[0]), 4*min(len(host), len(m.host)))
		}
	}
	return g.first
}

// send copies bytes to the GPU. The driver has read them when it returns.
func (g *gpu) send(to address, from unsafe.Pointer, bytes int) {
	if g.do("a copy to the GPU", g.c.cuMemcpyHtoDAsync, uintptr(to), uintptr(from), uintptr(bytes), 0) {
		g.sent += bytes
	}
	runtime.KeepAlive(from)
}

// receive waits for all that is queued and copies bytes from the GPU.
func (g *gpu) receive(to unsafe.Pointer, from address, bytes int) {
	if g.do("a copy from the GPU", g.c.cuMemcpyDtoH, uintptr(to), uintptr(from), uintptr(bytes)) {
		g.received += bytes
	}
	runtime.KeepAlive(to)
}

func (g *gpu) indices(x []int) index {
	if len(x) == 0 {
		return index{host: x}
	}
	v := g.resize(g.integers[&x[0]], len(x))
	g.integers[&x[0]] = v
	g.sendIntegers(v, x)
	return index{host: x, at: v.at}
}

func (g *gpu) fixed(x []int) index {
	if len(x) > 0 {
		if v, ok := g.integers[&x[0]]; ok && v.n == len(x) {
			return index{host: x, at: v.at}
		}
	}
	return g.indices(x)
}

// sendIntegers copies x to v, as int32.
func (g *gpu) sendIntegers(v vector, x []int) {
	g.staged = resize(g.staged, len(x))
	for i, n := range x {
		g.staged[i] = int32(n)
	}
	g.send(v.at, unsafe.Pointer(&g.staged[0]), 4*len(x))
}

func (g *gpu) value(v vector, shape tensor.Shape) gorgonia.Value {
	return &deviceValue{argument: argument{floats: v}, shape: shape.Clone()}
}

func (g *gpu) scalar(v vector) (float32, error) {
	var x float32
	g.receive(unsafe.Pointer(&x), v.at, 4)
	return x, g.first
}

// threads is the size of a block: the most, or fewer where a row is narrower.
func threads(width int) int {
	n := 32
	for n < width && n < maxThreads {
		n *= 2
	}
	return n
}

// maxThreads is BLOCK of the kernels.
const maxThreads = 256

// launch runs a kernel. Arguments are vector, index or address, int for an int of C,
// uint64 and float32, in the order of its parameters.
func (g *gpu) launch(name string, blocks, threads int, args ...any) {
	if g.first != nil || blocks == 0 {
		return
	}
	f, ok := g.functions[name]
	if !ok {
		symbol := append([]byte(name), 0)
		if !g.do("the kernel "+name, g.c.cuModuleGetFunction, uintptr(unsafe.Pointer(&f)), g.c.module, uintptr(unsafe.Pointer(&symbol[0]))) {
			return
		}
		g.functions[name] = f
	}
	for i, a := range args {
		switch x := a.(type) {
		case vector:
			g.values[i] = uint64(x.at)
		case index:
			g.values[i] = uint64(x.at)
		case address:
			g.values[i] = uint64(x)
		case int:
			g.values[i] = uint64(uint32(int32(x)))
		case uint64:
			g.values[i] = x
		case float32:
			g.values[i] = uint64(math.Float32bits(x))
		default:
			panic(fmt.Sprintf("hostgpu: argument %d of kernel %s is a %T", i, name, a))
		}
	}
	g.do("kernel "+name, g.c.cuLaunchKernel, f, uintptr(blocks), 1, 1, uintptr(threads), 1, 1, 0, 0, uintptr(unsafe.Pointer(&g.places[0])), 0)
}

// each launches a kernel that goes over n elements.
func (g *gpu) each(name string, n int, args ...any) {
	const mostBlocks = 1 << 12
	g.launch(name, min((n+maxThreads-1)/maxThreads, mostBlocks), maxThreads, args...)
}

var _ device = (*gpu)(nil)
