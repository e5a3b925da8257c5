package hostgpu_test

import (
	"errors"
	"math"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"github.com/wisp-project/wisp/hostgpu"
	"github.com/wisp-project/wisp/model"
)

// What keeps a GPU from being used is said; where one is only looked for, the
// processors are used.
func TestNoGPU(t *testing.T) {
	s := standIn(t)
	for name, test := range map[string]struct {
		open func(name string) (*hostgpu.Device, error)
		says string
	}{
		"no driver": {func(name string) (*hostgpu.Device, error) { return hostgpu.DeviceWithout(name, "libabsent.so", "") }, "no NVIDIA driver"},
		"no device": {func(name string) (*hostgpu.Device, error) { return s.Device(name, -1, 0, 13000, -1) }, "CUDA_VISIBLE_DEVICES"},
		"old driver": {
			func(name string) (*hostgpu.Device, error) { return s.Device(name, -1, 1, 11040, -1) },
			"it supports CUDA 11.4; install one that supports 11.8 or later",
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, device := range []string{hostgpu.DeviceCUDA, hostgpu.DeviceTF32} {
				if _, err := test.open(device); !errors.Is(err, hostgpu.ErrDevice) || !strings.Contains(err.Error(), test.says) {
					t.Errorf("%s: error %v, want ErrDevice with %q", device, err, test.says)
				}
			}
			d, err := test.open(hostgpu.DeviceAuto)
			if opened(t, d, err); d.GPU() || !errors.Is(d.NoGPU(), hostgpu.ErrDevice) || !strings.Contains(d.String(), "CPU") {
				t.Errorf("%v, without a GPU because of %v", d, d.NoGPU())
			}
		})
	}
	if _, err := hostgpu.OpenDevice("tpu"); !errors.Is(err, hostgpu.ErrOptions) {
		t.Errorf("error %v, want ErrOptions", err)
	}
	d, err := s.Device(hostgpu.DeviceTF32, -1, 1, 13000, -1)
	if opened(t, d, err); !d.GPU() || d.NoGPU() != nil || !strings.Contains(d.String(), "TF32") {
		t.Errorf("%v, want one that says TF32", d)
	}
	d, err = hostgpu.OpenDevice(hostgpu.DeviceCPU)
	if opened(t, d, err); d.GPU() || d.NoGPU() != nil {
		t.Errorf("%v is asked for, %v", d, d.NoGPU())
	}
}

// Where memory is short, a step is made in parts, with the loss and the gradient that
// it has as a whole; and where it is too short for a row, that is said.
func TestGPUOutOfMemory(t *testing.T) {
	ds, split := chain(60, 40, 12)
	o := quick()
	o.Rows, o.Dropout, o.Epochs = 8, -1, 2
	was := finish(t, newTrainer(t, ds, split, hostgpu.Vectors{}, o), "")
	g, now, from := grown(ds, split)
	for name, begin := range map[string]func(t *testing.T, o hostgpu.TrainOptions) *hostgpu.Trainer{
		"whole": func(t *testing.T, o hostgpu.TrainOptions) *hostgpu.Trainer {
			return newTrainer(t, ds, split, hostgpu.Vectors{}, o)
		},
		"adapters": func(t *testing.T, o hostgpu.TrainOptions) *hostgpu.Trainer {
			l := nextItems(now.Train)
			l.From, o.AdapterRank = &hostgpu.Ancestor{Model: was, Items: from}, 2
			return newContinuation(t, g, now, hostgpu.Vectors{}, l, o)
		},
	} {
		t.Run(name, func(t *testing.T) { outOfMemory(t, o, begin) })
	}
}

func outOfMemory(t *testing.T, o hostgpu.TrainOptions, begin func(t *testing.T, o hostgpu.TrainOptions) *hostgpu.Trainer) {
	s := standIn(t)
	open := func(bytes int64) *hostgpu.Trainer {
		d, err := s.Device(hostgpu.DeviceCUDA, bytes, 1, 13000, -1)
		o := o
		o.Device = opened(t, d, err)
		return begin(t, o)
	}
	before := s.Used()
	whole := open(-1)
	want, _, _ := lossesOf(t, whole, "")
	all := s.Used() - before
	if err := whole.Close(); err != nil || s.Used() != before || s.Broken() != 0 {
		t.Fatalf("%d bytes are left and %d were overwritten: %v", s.Used()-before, s.Broken(), err)
	}
	tr, parts := open(before+all*3/4), 0
	var got []float64
	if err := tr.Run(t.Context(), "", func(p hostgpu.Progress) {
		parts = max(parts, p.Parts)
		if p.Done {
			got = append(got, p.Loss)
		}
	}); err != nil {
		t.Fatal(err)
	}
	if parts < 2 {
		t.Errorf("steps were made in %d parts", parts)
	}
	for i, w := range want {
		if math.Abs(got[i]-w) > 1e-3*w {
			t.Errorf("epoch %d: loss %v, in one part %v", i+1, got[i], w)
		}
	}
	err := open(before+all/16).Run(t.Context(), "", nil)
	if !errors.Is(err, hostgpu.ErrDeviceMemory) || !strings.Contains(err.Error(), "smaller batch") {
		t.Errorf("error %v, want ErrDeviceMemory", err)
	}
}

// A text encoder's batches cannot be cut, but memory for those of other shapes can be
// given back.
func TestGPUOutOfMemoryForTexts(t *testing.T) {
	s := standIn(t)
	m := tinyTextModel(t, 3)
	r := rand.New(rand.NewPCG(4, 0))
	batch := func(longest int) (q, i [][]int32) {
		q, i = randomTexts(r, m.Config, 4, 3), randomTexts(r, m.Config, 4, 3)
		q[0], i[0] = make([]int32, longest), make([]int32, longest)
		return q, i
	}
	d, err := s.Device(hostgpu.DeviceCUDA, -1, 1, 13000, -1)
	tr := newTextTrainer(t, m, hostgpu.TextTrainOptions{Pairs: 4, Device: opened(t, d, err)})
	step := func(longest int) error {
		q, i := batch(longest)
		_, err := tr.Step(q, i, 1e-3)
		return err
	}
	before := s.Used()
	for _, longest := range []int{12, 8} {
		if err := step(longest); err != nil {
			t.Fatal(err)
		}
	}
	s.Set(s.Used()+1000, -1)
	if err := step(3); err != nil {
		t.Errorf("the third shape, with memory of the others to give back: %v", err)
	}
	s.Set(before+10_000, -1)
	if err := step(12); !errors.Is(err, hostgpu.ErrDeviceMemory) {
		t.Errorf("error %v, want ErrDeviceMemory", err)
	}
}

// A GPU that is lost ends the run with an error that says so; the checkpoint of before
// is good.
func TestGPULost(t *testing.T) {
	s := standIn(t)
	ds, split := chain(60, 40, 12)
	path := filepath.Join(t.TempDir(), "checkpoint")
	d, err := s.Device(hostgpu.DeviceCUDA, -1, 1, 13000, -1)
	o := quick()
	o.Device = opened(t, d, err)
	err = newTrainer(t, ds, split, hostgpu.Vectors{}, o).Run(t.Context(), path, func(p hostgpu.Progress) {
		if p.Epoch == 2 && p.Step == 1 {
			s.Set(-1, 20)
		}
	})
	s.Set(-1, -1)
	if !errors.Is(err, hostgpu.ErrDeviceLost) || !strings.Contains(err.Error(), "checkpoint") {
		t.Errorf("error %v, want ErrDeviceLost", err)
	}
	o.Device = nil
	again := newTrainer(t, ds, split, hostgpu.Vectors{}, o)
	if err := again.Resume(path); err != nil {
		t.Fatal(err)
	}
	if m := finish(t, again, path); m.Config.Items != 40 {
		t.Error("no model")
	}
}

// A loss that is no number is found on a GPU as on the host.
func TestGPUDiverges(t *testing.T) {
	ds, split := chain(60, 40, 10)
	features := &model.Tensor{Shape: []int{40, 3}, Data: make([]float32, 120)}
	features.Data[7] = float32(math.Inf(1))
	o := quick()
	o.Device = gpu(t)
	err := newTrainer(t, ds, split, hostgpu.Vectors{Items: features}, o).Run(t.Context(), "", nil)
	if !errors.Is(err, hostgpu.ErrDiverged) {
		t.Errorf("error %v, want ErrDiverged", err)
	}
}
