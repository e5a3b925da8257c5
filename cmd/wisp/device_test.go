package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/wisp-project/wisp/hostgpu"
)

// A device that is none is refused; a GPU that is not there is
// said to be, and where one is only looked for the processors are used.
func TestDevice(t *testing.T) {
	c, err := made()
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "model")
	fail(t, []string{"--device tpu", "auto, cpu, cuda and cuda-tf32"}, "train", c.prepared, "--out", out, "--device", "tpu")
	if d, err := hostgpu.OpenDevice(hostgpu.DeviceCUDA); err == nil {
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		t.Skip("this machine has a GPU")
	}
	fail(t, []string{"--device cuda", "GPU"}, "train", c.prepared, "--out", out, "--device", "cuda")
	args := []string{"train", c.prepared, "--out", out, "--epochs", "1", "--dim", "8", "--layers", "1"}
	if o := wisp(t.Context(), args...); o.code != 0 || strings.Count(o.stderr, "training on the CPU: ") != 1 {
		t.Errorf("exit %d, want one line that says why there is no GPU: %s", o.code, o.stderr)
	}
	if o := wisp(t.Context(), append(args, "--device", "cpu")...); o.code != 0 || strings.Contains(o.stderr, "GPU") {
		t.Errorf("exit %d, want nothing of a GPU: %s", o.code, o.stderr)
	}
}
