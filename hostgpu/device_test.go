package hostgpu_test

import (
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"github.com/wisp-project/wisp/hostgpu"
)

// realGPU is set by make test-gpu: the tests are to run on a GPU, and fail where there
// is none.
const realGPU = "WISP_TEST_GPU"

// buildStandIn compiles the device that plays a GPU.
var buildStandIn = sync.OnceValues(func() (*hostgpu.StandIn, string) {
	compiler := ""
	for _, name := range []string{"g++", "clang++"} {
		if path, err := exec.LookPath(name); err == nil {
			compiler = path
			break
		}
	}
	if compiler == "" || runtime.GOOS != "linux" {
		return nil, "no stand-in for a GPU: it needs Linux and g++ or clang++"
	}
	// Results of tests are kept until a file changes that the test itself has read.
	sources, _ := filepath.Glob("cuda/*")
	for _, path := range sources {
		_, _ = os.ReadFile(path)
	}
	dir, err := os.MkdirTemp("", "standin")
	if err != nil {
		return nil, err.Error()
	}
	defer func() { _ = os.RemoveAll(dir) }() // what is open stays
	path := filepath.Join(dir, "standin.so")
	out, err := exec.Command(compiler, "-std=c++17", "-O2", "-ftree-vectorize", "-U_FORTIFY_SOURCE", "-shared", "-fPIC", "-o", path, "cuda/standin.cc").CombinedOutput()
	if err != nil {
		return nil, "the stand-in for a GPU was not built: " + string(out)
	}
	s, err := hostgpu.OpenStandIn(path)
	if err != nil {
		return nil, err.Error()
	}
	// Nothing may keep the file from being opened again under its name.
	if _, err := s.Device(hostgpu.DeviceCUDA, -1, 1, 13000, -1); err != nil {
		return nil, err.Error()
	}
	return s, ""
})

// standIn returns the device that plays a GPU. What passes on it proves nothing about
// CUDA, but that we call it as we mean to.
func standIn(t testing.TB) *hostgpu.StandIn {
	t.Helper()
	s, why := buildStandIn()
	if s == nil {
		t.Skip(why)
	}
	return s
}

// gpu returns a GPU, or the device that plays one.
func gpu(t testing.TB) *hostgpu.Device {
	t.Helper()
	var d *hostgpu.Device
	var err error
	if os.Getenv(realGPU) != "" {
		d, err = hostgpu.OpenDevice(hostgpu.DeviceCUDA)
	} else {
		d, err = standIn(t).Device(hostgpu.DeviceCUDA, -1, 1, 13000, -1)
	}
	return opened(t, d, err)
}

// eachDevice runs a test on the host and on a GPU.
func eachDevice(t *testing.T, test func(t *testing.T, d *hostgpu.Device)) {
	t.Run("CPU", func(t *testing.T) { test(t, nil) })
	t.Run("GPU", func(t *testing.T) { test(t, gpu(t)) })
}

// sameOnDevice compares what a kernel makes on a GPU with what it made on the host.
// Sums are made in another order there, and the error function is another formula.
func sameOnDevice(t *testing.T, k hostgpu.Kernel, in []hostgpu.Arg, dout, out []float32, grads [][]float32) {
	t.Helper()
	if k.HostOnly() {
		return
	}
	t.Run("GPU", func(t *testing.T) {
		gotOut, gotGrads, err := k.On(gpu(t), in, dout)
		if err != nil {
			t.Fatal(err)
		}
		close32(t, "result", gotOut, out)
		for i := range grads {
			close32(t, "gradient of input "+string(rune('0'+i)), gotGrads[i], grads[i])
		}
	})
}

// Sums of many rows are made in stretches, catalogues in chunks of rows, and dropout
// has a generator for each 16,384 values: kernels with several of each.
func TestLargeOnDevice(t *testing.T) {
	r := rand.New(rand.NewPCG(31, 0))
	const p, d = 1100, 40
	check := func(name string, k hostgpu.Kernel, in []hostgpu.Arg) {
		t.Run(name, func(t *testing.T) {
			dout := normal(r, k.Size(), 1)
			out := k.Forward(in)
			sameOnDevice(t, k, in, dout, out, k.Backward(dout, out, in))
		})
	}
	check("normalisation", hostgpu.NewNormalisation(p, d, hostgpu.NewDropout(0.3, 7, 2, 5)), []hostgpu.Arg{
		{Floats: normal(r, p*d, 1)}, {Floats: normal(r, d, 1)}, {Floats: normal(r, d, 1)},
	})
	check("embedding", hostgpu.NewEmbedding(p, 300, 2, 5, d, hostgpu.NewDropout(0.3, 7, 1, 5)), []hostgpu.Arg{
		{Floats: normal(r, 300*d, 1)},
		{Floats: normal(r, 2*d, 1)},
		{Floats: normal(r, 5*d, 1)},
		{Ints: indices(r, p, 300)},
		{Ints: indices(r, p, 2)},
		{Ints: indices(r, p, 5)},
	})
	targets := indices(r, p, 30)
	targets[70] = -1
	hostgpu.WithLogitsOnGPU(1, func() {
		check("softmax", hostgpu.NewFullSoftmax(p, 30, 8, 0.1), []hostgpu.Arg{{Floats: normal(r, p*8, 1)}, {Floats: normal(r, 30*8, 1)}, {Ints: targets}})
	})
	check("sampled softmax", hostgpu.NewSampledSoftmax(p, 30, 8, 12, normal(r, 30, 1)), []hostgpu.Arg{
		{Floats: normal(r, p*8, 1)}, {Floats: normal(r, 30*8, 1)}, {Ints: targets}, {Ints: indices(r, 12, 30)},
	})
}

// close32 compares within what float32 allows for sums of a few hundred values.
func close32(t *testing.T, what string, got, want []float32) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d values, want %d", what, len(got), len(want))
	}
	largest := 0.0
	for _, v := range want {
		largest = max(largest, math.Abs(float64(v)))
	}
	for i, v := range want {
		if off := math.Abs(float64(got[i]) - float64(v)); !(off <= 2e-5*largest+2e-6) {
			t.Errorf("%s: value %d is %v, on the host %v; the largest is %.3g", what, i, got[i], v, largest)
			return
		}
	}
}
