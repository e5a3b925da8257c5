package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestStreamTopic(t *testing.T) {
	if peakMemory() == 0 {
		t.Skip("this system does not tell how much memory a process has")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(commandVariable, "1") // the test's own binary is the program
	docs := t.TempDir()
	records, err := streamFigures(t.Context(), self, streamSizes{users: 100, items: 80, events: []int{1000, 10_000}}, t.TempDir(), docs, newProgress(newResults()))
	if err != nil {
		t.Fatal(err)
	}
	values := valuesOf(t, records)
	for _, name := range []string{"prepare-1000-events.peak-bytes", "train-10000-events.peak-bytes", "prepare.growth", "train.growth"} {
		if values["memory.simulated."+name] <= 0 {
			t.Errorf("%s: %v", name, values)
		}
	}
	if _, err := os.Stat(filepath.Join(docs, "stream.svg")); err != nil {
		t.Error(err)
	}
}

// TestTrainReadsFromDisk compares the command, whose events stay on disk, with a training
// on the same data in memory.
func TestTrainReadsFromDisk(t *testing.T) {
	c := madeChain(t)
	for _, protocol := range []string{leaveOneOut, byTime} {
		out, memory := filepath.Join(t.TempDir(), "disk"), filepath.Join(t.TempDir(), "memory")
		succeed(t, quickTrain(c.prepared, out, "--split", protocol, "--refit")...)
		disk, made, err := loadModel(out)
		if err != nil {
			t.Fatal(err)
		}
		ds, fingerprint, err := loadData(c.prepared)
		if err != nil {
			t.Fatal(err)
		}
		s, err := split(ds, protocol)
		if err != nil {
			t.Fatal(err)
		}
		r := trainRun{out: memory, vectors: made.Vectors, refit: true, options: made.Options}
		if _, err := r.runOn(t.Context(), ds, fingerprint, s, newProgress(newTrain())); err != nil {
			t.Fatal(err)
		}
		want, _, err := loadModel(memory)
		if err != nil {
			t.Fatal(err)
		}
		for name, w := range want.Weights {
			if !slices.Equal(disk.Weights[name].Data, w.Data) {
				t.Errorf("%s: %s is not what it is with the events in memory", protocol, name)
			}
		}
		if left, err := filepath.Glob(filepath.Join(out, "events-*")); err != nil || len(left) > 0 {
			t.Errorf("left behind: %v (%v)", left, err)
		}
	}
}
