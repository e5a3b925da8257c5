package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"
)

// quickTrain trains for three epochs of four or five steps.
func quickTrain(prepared, out string, more ...string) []string {
	return append([]string{
		"train", prepared, "--out", out, "--epochs", "3", "--dim", "16", "--layers", "1", "--window", "20", "--lr", "0.01", "--features", "8",
	}, more...)
}

// TestResume interrupts a training, resumes it, and expects the very bytes of an
// unbroken one.
func TestResume(t *testing.T) {
	c := madeChain(t)
	whole := filepath.Join(t.TempDir(), "whole")
	succeed(t, quickTrain(c.prepared, whole)...)
	want := get(t, filepath.Join(whole, modelFile))

	for _, test := range []struct {
		name string
		at   []int64 // the check for interruption that each run but the last ends with
	}{
		{"before the first step", []int64{1}},
		{"within an epoch", []int64{3}},
		{"twice", []int64{2, 7}},
	} {
		t.Run(test.name, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "model")
			args := quickTrain(c.prepared, out)
			if testing.Short() && len(test.at) > 1 {
				t.Skip("one interruption tells most")
			}
			for _, at := range test.at {
				o := wisp(interruptAt(t, at), args...)
				wantInterrupted(t, o, filepath.Join(out, checkpointFile), "--resume")
				// Until it is finished, the other commands say so.
				fail(t, []string{out, "wisp train --resume"}, "compress", out, "--data", c.prepared, "--out", filepath.Join(t.TempDir(), "x.wisp"))
				args = quickTrain(c.prepared, out, "--resume")
			}
			succeed(t, args...)
			if !bytes.Equal(get(t, filepath.Join(out, modelFile)), want) {
				t.Error("the resumed training ended with another model than the unbroken one")
			}
		})
	}
}

// TestResumeAfterEpoch interrupts when the first epoch is reported, as a user
// would.
func TestResumeAfterEpoch(t *testing.T) {
	if testing.Short() {
		t.Skip("trains twice; TestResume does the like")
	}
	c := madeChain(t)
	whole, out := filepath.Join(t.TempDir(), "whole"), filepath.Join(t.TempDir(), "model")
	succeed(t, quickTrain(c.prepared, whole)...)

	ctx, cancel := context.WithCancel(t.Context())
	var stderr bytes.Buffer
	code := run(ctx, quickTrain(c.prepared, out), io.Discard, writerFunc(func(b []byte) {
		stderr.Write(b)
		if bytes.HasPrefix(b, []byte("epoch   1 ")) {
			cancel()
		}
	}))
	wantInterrupted(t, outcome{code: code, stderr: stderr.String()}, filepath.Join(out, checkpointFile), "--resume")

	o := wisp(t.Context(), quickTrain(c.prepared, out, "--resume")...)
	if o.code != 0 || strings.Contains(o.stderr, "epoch   1 ") || !strings.Contains(o.stderr, "epoch   2 ") {
		t.Errorf("it does not go on with epoch 2: exit %d\n%s", o.code, o.stderr)
	}
	if !bytes.Equal(get(t, filepath.Join(out, modelFile)), get(t, filepath.Join(whole, modelFile))) {
		t.Error("the resumed training ended with another model than the unbroken one")
	}
}

type writerFunc func([]byte)

func (f writerFunc) Write(b []byte) (int, error) {
	f(b)
	return len(b), nil
}

// TestResumeRefuses has --resume meet what it cannot go on with.
func TestResumeRefuses(t *testing.T) {
	c := madeChain(t)
	out := filepath.Join(t.TempDir(), "model")
	wantInterrupted(t, wisp(interruptAt(t, 3), quickTrain(c.prepared, out)...), "--resume")
	checkpoint := filepath.Join(out, checkpointFile)
	sound := get(t, checkpoint)

	t.Run("other options", func(t *testing.T) {
		fail(t, []string{checkpoint, "without --resume"}, quickTrain(c.prepared, out, "--resume", "--dim", "24")...)
	})
	t.Run("other data", func(t *testing.T) {
		fail(t, []string{checkpoint, "without --resume"}, quickTrain(prepareRows(t, shopRows(9, 12)), out, "--resume")...)
	})
	t.Run("nothing to resume", func(t *testing.T) {
		empty := filepath.Join(t.TempDir(), "empty")
		fail(t, []string{filepath.Join(empty, checkpointFile), "without --resume"}, quickTrain(c.prepared, empty, "--resume")...)
	})
	t.Run("a truncated checkpoint", func(t *testing.T) {
		put(t, checkpoint, sound[:len(sound)/2])
		fail(t, []string{checkpoint, "without --resume"}, quickTrain(c.prepared, out, "--resume")...)
		put(t, checkpoint, sound)
	})
	succeed(t, quickTrain(c.prepared, out, "--resume")...) // the refusals took nothing away
}

// TestInterruptionKeepsOutput interrupts every command that writes, at each of
// the first moments that it can be, and expects what was there before.
func TestInterruptionKeepsOutput(t *testing.T) {
	c := madeChain(t).copy(t)
	simulated := filepath.Join(t.TempDir(), "raw")
	figures := put(t, filepath.Join(t.TempDir(), "figures.json"), []byte("[]\n"))
	simulate := []string{"simulate", "--out", simulated, "--users", "20", "--items", "40", "--events", "200"}
	succeed(t, simulate...)
	before := snapshot(t, filepath.Join(c.model, modelFile), c.prepared, c.artefact, simulated, figures)

	for _, args := range [][]string{
		append(simulate, "--seed", "2"),
		append(prepareArgs(c.prepared), "--core", "3"),
		{"compress", c.model, "--data", c.prepared, "--out", c.artefact, "--name", "other"},
		{"eval", "--data", c.prepared, "--artefact", c.artefact, "--json", figures},
		quickTrain(c.prepared, c.model, "--seed", "2"),
	} {
		moments := []int64{1, 2, 5}
		if args[0] == "simulate" {
			moments = moments[:1] // so few users are made in one go
		}
		for _, at := range moments {
			t.Run(fmt.Sprintf("%s/%d", args[0], at), func(t *testing.T) {
				o := wisp(interruptAt(t, at), args...)
				if args[0] == "train" {
					wantInterrupted(t, o, "--resume")
				} else {
					wantInterrupted(t, o, "what was there before is unchanged")
				}
				if after := snapshot(t, filepath.Join(c.model, modelFile), c.prepared, c.artefact, simulated, figures); after != before {
					t.Error("the previous output is not what it was")
				}
			})
		}
	}
	// The model that the interrupted training was to replace still works.
	succeed(t, "eval", "--data", c.prepared, "--model", c.model)
}

func wantInterrupted(t *testing.T, o outcome, words ...string) {
	t.Helper()
	if o.code != exitInterrupted {
		t.Fatalf("exit %d, want %d: %s", o.code, exitInterrupted, o.stderr)
	}
	for _, w := range append(words, "wisp: interrupted; ") {
		if !strings.Contains(o.stderr, w) {
			t.Errorf("standard error lacks %q: %s", w, o.stderr)
		}
	}
}
