package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// disk is a small file system of its own.
type disk struct{ dir string }

// newDisk mounts a disk of some megabytes, or skips the test where it may not.
func newDisk(t *testing.T, megabytes int) disk {
	t.Helper()
	d := disk{t.TempDir()}
	if err := syscall.Mount("tmpfs", d.dir, "tmpfs", 0, fmt.Sprintf("size=%dm", megabytes)); err != nil {
		t.Skipf("no disk of its own can be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(d.dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return d
}

func (d disk) path(name string) string { return filepath.Join(d.dir, name) }

// fill leaves no room but the given number of bytes.
func (d disk) fill(t *testing.T, but int64) {
	t.Helper()
	f, err := os.Create(d.path("filler"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // what counts is that it takes room
	n, err := io.Copy(f, zeros{})
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	if err := f.Truncate(max(n-but, 0)); err != nil {
		t.Fatal(err)
	}
}

func (d disk) free(t *testing.T) {
	t.Helper()
	if err := os.Remove(d.path("filler")); err != nil {
		t.Fatal(err)
	}
}

// files are the files and folders on the disk, without the one that fills it.
func (d disk) files(t *testing.T) []string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(d.dir, func(path string, _ os.DirEntry, err error) error {
		if path != d.dir && path != d.path("filler") {
			names = append(names, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

// TestFullDisk runs out of room at several moments of the commands that write
// all at once: what was there before stays, and nothing else.
func TestFullDisk(t *testing.T) {
	c := madeChain(t)
	d := newDisk(t, 4)
	out := d.path("out")
	for _, test := range []struct{ args, other []string }{
		{[]string{"simulate", "--out", out, "--users", "50", "--items", "40", "--events", "1000"}, []string{"--seed", "2"}},
		{prepareArgs(out), []string{"--core", "3"}},
		{[]string{"compress", c.model, "--data", c.prepared, "--out", out}, []string{"--name", "other"}},
	} {
		t.Run(test.args[0], func(t *testing.T) {
			says := []string{"the disk is full", d.dir, "no space left", "free some space there; then run the command again"}
			for _, room := range []int64{0, 8 << 10, 24 << 10} {
				d.fill(t, room)
				fail(t, says, test.args...)
				d.free(t)
				if left := d.files(t); len(left) > 0 {
					t.Errorf("with room for %d bytes it left %v", room, left)
				}
			}
			succeed(t, test.args...)
			before := snapshot(t, d.dir)
			d.fill(t, 8<<10)
			fail(t, says, append(test.args, test.other...)...)
			d.free(t)
			if snapshot(t, d.dir) != before {
				t.Error("what was there before is not what it was")
			}
			if err := os.RemoveAll(out); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestFullDiskKeepsTraining fills the disk after the first epoch of a training
// and expects the last good checkpoint, and from there the very bytes of an
// unbroken run.
func TestFullDiskKeepsTraining(t *testing.T) {
	c := madeChain(t)
	encoder := tinyEncoder(t, c.prepared)
	for name, test := range map[string]struct {
		args       func(out string, more ...string) []string
		checkpoint string
		result     []string
	}{
		"train": {func(out string, more ...string) []string { return quickTrain(c.prepared, out, more...) }, checkpointFile, []string{modelFile}},
		"finetune": {func(out string, more ...string) []string {
			return append([]string{"finetune"}, quickFinetune(c.prepared, encoder, out, append(more, "--frozen-layers", "1")...)...)
		}, "finetune.safetensors", []string{"model.safetensors", "finetune.json"}},
	} {
		t.Run(name, func(t *testing.T) {
			whole := filepath.Join(t.TempDir(), "whole")
			succeed(t, test.args(whole)...)
			d := newDisk(t, 8)
			out := d.path("out")
			checkpoint := filepath.Join(out, test.checkpoint)

			// Full before the first checkpoint: the same command goes again.
			d.fill(t, 0)
			fail(t, []string{"the disk is full", out, "free some space there; then run the command again"}, test.args(out)...)
			d.free(t)

			var kept string
			var stderr bytes.Buffer
			code := run(t.Context(), test.args(out), io.Discard, writerFunc(func(b []byte) {
				stderr.Write(b)
				if bytes.Contains(b, []byte("epoch   1 ")) {
					kept = snapshot(t, checkpoint)
					d.fill(t, 0)
				}
			}))
			lines := strings.Split(strings.TrimSpace(stderr.String()), "\n")
			last := lines[len(lines)-1]
			for _, want := range []string{"wisp: the disk is full: ", checkpoint, "no space left", "free some space", "--resume"} {
				if code != exitError || !strings.Contains(last, want) {
					t.Fatalf("exit %d, and it does not say %q: %s", code, want, &stderr)
				}
			}
			if snapshot(t, checkpoint) != kept {
				t.Error("the last good checkpoint is not what it was")
			}
			for _, path := range d.files(t) {
				if strings.HasPrefix(filepath.Base(path), ".") {
					t.Errorf("%s is left", path)
				}
			}

			// Ctrl-C that has room for the figures of the run but not for its
			// checkpoint is no interruption that kept the work.
			d.free(t)
			d.fill(t, 40<<10)
			fail(t, []string{"the disk is full", checkpoint, "--resume"}, test.args(out, "--resume")...)
			if o := wisp(interruptAt(t, 2), test.args(out, "--resume")...); o.code != exitError || !strings.Contains(o.stderr, "wisp: the disk is full: ") {
				t.Errorf("interrupted on a full disk: exit %d: %s", o.code, o.stderr)
			}
			if snapshot(t, checkpoint) != kept {
				t.Error("the last good checkpoint is not what it was")
			}

			d.free(t)
			succeed(t, test.args(out, "--resume")...)
			for _, file := range test.result {
				if !bytes.Equal(get(t, filepath.Join(out, file)), get(t, filepath.Join(whole, file))) {
					t.Errorf("%s of the resumed run is not that of the unbroken one", file)
				}
			}
		})
	}
}

// TestFullOutput writes results where none can be written.
func TestFullOutput(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skipf("there is no device that is always full: %v", err)
	}
	defer full.Close() //nolint:errcheck // nothing can be lost
	for _, args := range [][]string{{"--help"}, {"inspect", madeChain(t).artefact}} {
		var stderr bytes.Buffer
		code := run(t.Context(), args, full, &stderr)
		if code != exitError || !strings.Contains(stderr.String(), "wisp: the disk is full: write /dev/full: no space left") {
			t.Errorf("%v: exit %d: %s", args, code, &stderr)
		}
	}
}

// TestFullDiskRetrain runs out of room at several moments of a retraining: nothing is
// published, and with room again the same command goes on to what an unbroken run
// comes to.
func TestFullDiskRetrain(t *testing.T) {
	j := newJob(t)
	d := newDisk(t, 16)
	j.state, j.served, j.out = d.path("job"), d.path("served"), d.path("out.wisp")
	j.add("week-0.jsonl", j.weeks[0])
	const says = "the disk is full"
	for _, room := range []int64{0, 64 << 10, 1 << 20} {
		d.fill(t, room)
		fail(t, []string{says, "run the command again"}, j.args()...)
		d.free(t)
	}
	for _, stage := range []string{"training on", "epoch   1", "compressing", "comparing"} {
		var stderr bytes.Buffer
		code := run(t.Context(), j.args(), io.Discard, writerFunc(func(b []byte) {
			stderr.Write(b)
			if bytes.Contains(b, []byte(stage)) {
				d.fill(t, 0)
			}
		}))
		if code != exitError || !strings.Contains(stderr.String(), says) {
			t.Fatalf("full at %q: exit %d: %s", stage, code, &stderr)
		}
		if exists(j.out) || exists(filepath.Join(j.served, "shop.head")) {
			t.Fatalf("full at %q, and something was published", stage)
		}
		d.free(t)
	}
	j.publishes(2)
	manifest := filepath.Join(j.state, "runs", "000001", "manifest.json")
	if out := succeed(t, "retrain", "--replay", manifest, "--key", j.key); !strings.Contains(out, "the same bytes") {
		t.Error(out)
	}
}
