package hostgpu

import (
	"fmt"
	"maps"
	"slices"
	"sync"

	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"github.com/wisp-project/wisp/model"
)

// Device is where training computes: the processors of the machine, which nil is too,
// or a GPU. It may serve several trainings at a time.
type Device struct {
	gpu *cuda // nil for the processors
	mu  sync.Mutex
	why error // no GPU, where one was looked for
}

// Names of devices.
const (
	DeviceAuto = "auto"      // a GPU where there is one that can be used, the processors otherwise
	DeviceCPU  = "cpu"       // the processors
	DeviceCUDA = "cuda"      // the first NVIDIA GPU, in float32
	DeviceTF32 = "cuda-tf32" // the same, with products of matrices in TF32: faster, with 10 bits of mantissa
)

// OpenDevice opens the device of that name, "" meaning DeviceAuto. The error wraps
// ErrOptions for a name that is none, or ErrDevice where a GPU was asked for and
// cannot be used, and says why.
func OpenDevice(name string) (*Device, error) { return openDevice(name, systemCUDA) }

func openDevice(name string, libraries cudaLibraries) (*Device, error) {
	switch name {
	case DeviceCPU:
		return &Device{}, nil
	case DeviceCUDA, DeviceTF32:
		c, err := openCUDA(libraries, name == DeviceTF32)
		if err != nil {
			return nil, err
		}
		return &Device{gpu: c}, nil
	case DeviceAuto, "":
		c, err := openCUDA(libraries, false)
		return &Device{gpu: c, why: err}, nil
	}
	return nil, fmt.Errorf("%w: device %q is none; choose among %s, %s, %s and %s", ErrOptions, name, DeviceAuto, DeviceCPU, DeviceCUDA, DeviceTF32)
}

// String says what the device is.
func (d *Device) String() string {
	if d.GPU() {
		return d.gpu.String()
	}
	return "CPU with " + BLAS().Name
}

// GPU says whether it is one.
func (d *Device) GPU() bool { return d != nil && d.gpu != nil }

// NoGPU is why the processors are used where a GPU would have been, nil otherwise.
func (d *Device) NoGPU() error {
	if d == nil {
		return nil
	}
	return d.why
}

// Close gives the GPU back. All trainings on it must be closed.
func (d *Device) Close() error {
	if d.GPU() {
		d.gpu.close()
		d.gpu = nil
	}
	return nil
}

// open returns the device of one training.
func (d *Device) open() device {
	if d.GPU() {
		return newGPU(d.gpu, &d.mu)
	}
	return host
}

// pullWeights brings what of weights a device has changed to the host.
func pullWeights(dev device, weights ...model.Weights) error {
	for _, w := range weights {
		for _, name := range slices.Sorted(maps.Keys(w)) {
			if err := dev.pull(w[name].Data); err != nil {
				return err
			}
		}
	}
	return nil
}

// pushWeights brings what was changed on the host to the device.
func pushWeights(dev device, weights model.Weights) error {
	for _, name := range slices.Sorted(maps.Keys(weights)) {
		if err := dev.push(weights[name].Data); err != nil {
			return err
		}
	}
	return nil
}

// vector is a run of float32 values where a device keeps them: a slice on the
// host, an address on a GPU.
type vector struct {
	host []float32 // nil on a GPU
	at   address   // 0 on the host
	n    int
}

// address is one of a GPU's memory, in bytes.
type address uintptr

// index is a run of indices, which the host always knows.
type index struct {
	host []int
	at   address // of the same as int32 on a GPU
}

// onHost is a slice as a vector.
func onHost(x []float32) vector { return vector{host: x, n: len(x)} }

// slice is the part of v from lo to hi.
func (v vector) slice(lo, hi int) vector {
	if v.at != 0 {
		return vector{at: v.at + address(4*lo), n: hi - lo}
	}
	return vector{host: v.host[lo:hi], n: hi - lo}
}

// from is the part of v from lo on.
func (v vector) from(lo int) vector { return v.slice(lo, v.n) }

// device is what kernels are made of: memory, and functions on vectors in it. Every
// kernel is defined once, by calls of these; where they compute is settled as the
// graph is built. The host is hostDevice, a GPU is gpu.
//
// Shapes in comments: matrices are row-major, w is the width of rows. A function
// overwrites its first vector unless it says that it adds. What fails on a GPU fails
// later: err says so.
type device interface {
	// resize returns memory for n values, v itself where it is large enough. Their
	// values are undefined.
	resize(v vector, n int) vector
	// mirror returns the device's copy of x, which lives as long as the device and is
	// made when first asked for. Whoever computes with x on the host pulls it before
	// and pushes it after.
	mirror(x []float32) vector
	pull(x ...[]float32) error
	push(x ...[]float32) error
	// indices returns x as it is now, fixed x as it was when first asked for.
	indices(x []int) index
	fixed(x []int) index
	// value is v for the tape machine.
	value(v vector, shape tensor.Shape) gorgonia.Value
	// scalar reads the only value of v.
	scalar(v vector) (float32, error)
	// err is the first failure.
	err() error
	// close gives all memory back.
	close() error

	copy(dst, src vector)
	fill(x vector, value float32)
	add(y, x vector)                             // y += x
	addScaled(y, x vector, factor float32)       // y += factor·x
	scaled(y, x vector, factor float32)          // y = factor·x
	product(out, x, y vector)                    // out = x·y
	lerp(y, x vector, keep float32)              // y = keep·y + (1-keep)·x
	dot(out, x, y vector)                        // the sum of x·y
	mean(out, x vector, count int)               // the sum of x over count, which may be 0
	squaredNorms(x ...vector) ([]float64, error) // the sums of squares

	// gemm is C = alpha·op(A)·op(B) + beta·C: op(A) is (m, k), op(B) is (k, n), C is
	// (m, n); ld* are the row strides of the arrays as stored.
	gemm(ta, tb bool, m, n, k int, alpha float32, a vector, lda int, b vector, ldb int, beta float32, c vector, ldc int)
	repeat(y, row vector)               // each row of y becomes row
	columnSums(sum, x vector)           // the sum of the rows of x
	addColumnSums(sum, x vector)        // adds it
	clearRows(x, factors vector, w int) // where the factor of the row is 0
	gather(y, x vector, rows index, w int)
	scatter(y, x vector, rows index, w int) // row i of x to row rows[i] of y, none twice
	// gatherAdd adds factors[i] times row rows[i] of x to row i of y, and scatterAdd
	// scale·factors[i] times row i of x to row rows[i] of y. Without factors they are
	// 1, and a negative row is none.
	gatherAdd(y, x vector, rows index, factors vector, w int)
	scatterAdd(y, x vector, rows index, factors vector, scale float32, w int)

	// Parts of kernels. Where a part is given, its fields say what is read besides and
	// kept for the way back; where arguments are, they are those of the kernel.
	relu(x vector)
	reluBackward(dx, y vector) // dx = 0 where y is
	gelu(x, slope vector)
	drop(d *dropout, x vector)
	normalise(n *layerNorm, out, x, gain, bias vector)
	// normaliseBackward adds to dx.
	normaliseBackward(n *layerNorm, dx, dgain, dbias, dout, gain vector)
	embed(k *embedding, out vector, in []argument)
	embedBackward(k *embedding, grads []vector, dout vector, in []argument)
	// attend goes from a.qkv to a.probs and a.context, attendBackward from a.dcontext to
	// a.dqkv and, with a window, to the gradient of the distance bias.
	attend(a *heads, s sight)
	attendBackward(a *heads, s sight, ddistance vector)
	pool(k *pooling, out vector, in []argument)
	poolBackward(k *pooling, dx, dout, out vector, in []argument)

	// crossEntropy adds bias, where there is one, to each row of logits z, (m, n), and
	// turns it into the gradient of the row's loss times inv; the losses go to losses.
	// The mass of a target is smoothed, a row whose target is negative has none.
	crossEntropy(z, bias vector, targets index, n int, smoothing, inv float32, losses vector)
	// catalogue computes c.losses, and what catalogueItems and c.du have of gradients:
	// those by v and by u.
	catalogue(c *overCatalogue, loss catalogueLoss, u, v vector, p, n, d int)
	catalogueItems(c *overCatalogue, dv vector, scale float32)
	// sampledRows, contrast, list and imitate turn logits into gradients of the losses of
	// their rows: z, of rows lo to hi-1, k.dz of n pairs or of lists, and k.own of n texts.
	sampledRows(k *sampledSoftmax, z, u, v vector, lo, hi int, inv float32)
	contrast(k *contrastive, n int, groups index)
	list(k *listwise, lengths index, inv float32)
	imitate(k *imitation, n int)
	// adam moves x and its moments against gradient g times scale; keep is what decay
	// leaves of x.
	adam(o *adamW, x, m, v, g vector, rate, scale, keep float64)
}

// argument is the value of an input: one of the two.
type argument struct {
	floats vector
	ints   index
}

func floats(x []float32) argument { return argument{floats: onHost(x)} }
func ints(x []int) argument       { return argument{ints: index{host: x}} }

// part is the indices from lo to hi.
func (x index) part(lo, hi int) index {
	y := index{host: x.host[lo:hi]}
	if x.at != 0 {
		y.at = x.at + address(4*lo)
	}
	return y
}

// resize returns a slice of length n, s itself where it is large enough.
func resize[E any](s []E, n int) []E {
	if cap(s) < n {
		return make([]E, n)
	}
	return s[:n]
}
