package hostgpu

import (
	"fmt"
	"math"
	"unsafe"

	"github.com/ebitengine/purego"
)

// StandIn is a device that plays a GPU, from a library that a test has built.
type StandIn struct {
	set    func(bytes int64, devices, driver, lostAfter int32)
	used   func() int64
	broken func() int32
	path   string
}

// OpenStandIn opens the library at path.
func OpenStandIn(path string) (*StandIn, error) {
	lib, err := openLibrary(path)
	if err != nil {
		return nil, err
	}
	s := &StandIn{path: path}
	for name, fn := range map[string]any{"standin_set": &s.set, "standin_used": &s.used, "standin_broken": &s.broken} {
		p, err := librarySymbol(lib, name)
		if err != nil {
			return nil, err
		}
		purego.RegisterFunc(fn, p)
	}
	return s, nil
}

// Device opens the device of that name. Its memory is limited where bytes is not
// negative, and it is lost after so many calls where that is positive.
func (s *StandIn) Device(name string, bytes int64, devices, driver, lostAfter int) (*Device, error) {
	s.set(bytes, int32(devices), int32(driver), int32(lostAfter))
	return openDevice(name, cudaLibraries{s.path, []string{s.path}})
}

// Set changes what the stand-in has, as Device does.
func (s *StandIn) Set(bytes int64, lostAfter int) { s.set(bytes, 1, 13000, int32(lostAfter)) }

// Used is how much memory is allocated, and Broken how many bytes were written
// outside of any.
func (s *StandIn) Used() int64 { return s.used() }

// Broken is how many bytes behind pieces of memory were overwritten.
func (s *StandIn) Broken() int { return int(s.broken()) }

// DeviceWithout opens a device on a machine whose driver or cuBLAS has that name.
func DeviceWithout(name, driver, blas string) (*Device, error) {
	return openDevice(name, cudaLibraries{driver, []string{blas}})
}

// WithLogitsOnGPU runs f with so many logits made at a time.
func WithLogitsOnGPU(n int, f func()) {
	was := logitsOnGPU
	defer func() { logitsOnGPU = was }()
	logitsOnGPU = n
	f()
}

// HostOnly says whether the kernel is one for the host alone.
func (k Kernel) HostOnly() bool { _, only := k.k.(hostOnly); return only }

// On returns what Forward and Backward do, computed by d, and the bytes that went to
// it and came from it meanwhile. Buffers hold NaN before.
func (k Kernel) On(d *Device, in []Arg, dout []float32) (out []float32, grads [][]float32, err error) {
	dev := d.open()
	defer func() {
		if e := dev.close(); err == nil {
			err = e
		}
	}()
	args, vectors := make([]argument, len(in)), make([]vector, len(in))
	grads = make([][]float32, len(in))
	for i, a := range in {
		if a.Floats == nil {
			args[i].ints = dev.indices(a.Ints)
			continue
		}
		args[i].floats = dev.mirror(a.Floats)
		grads[i] = make([]float32, len(a.Floats))
		vectors[i] = dev.mirror(grads[i])
		dev.fill(vectors[i], float32(math.NaN()))
	}
	out = make([]float32, k.Size())
	y := dev.mirror(out)
	dev.fill(y, float32(math.NaN()))
	k.k.forward(dev, y, args)
	if err := dev.err(); err != nil {
		return nil, nil, fmt.Errorf("forward: %w", err)
	}
	dy := onHost(dout)
	if k.k.shape().Dims() > 0 {
		dy = dev.mirror(dout)
	}
	k.k.backward(dev, vectors, dy, y, args)
	return out, grads, dev.pull(append([][]float32{out}, grads...)...)
}

// Traffic returns the bytes that went to the GPU of a training and came from it, so
// far.
func (t *Trainer) Traffic() (sent, received int) { return traffic(t.dev) }

// Traffic is that of a text encoder's training.
func (t *TextTrainer) Traffic() (sent, received int) { return traffic(t.dev) }

func traffic(d device) (sent, received int) {
	if g, ok := d.(*gpu); ok {
		return g.sent, g.received
	}
	return 0, 0
}

// values are those of v, wherever they are.
func values(d device, v vector) []float32 {
	if v.at == 0 {
		return v.host
	}
	x := make([]float32, v.n)
	d.(*gpu).receive(unsafe.Pointer(&x[0]), v.at, 4*v.n)
	return x
}
