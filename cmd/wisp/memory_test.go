package main

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
)

func TestHighWater(t *testing.T) {
	if got := highWater([]byte("Name:\twisp\nVmHWM:\t    1234 kB\nVmRSS:\t 10 kB\n")); got != 1234<<10 {
		t.Errorf("got %d, want %d", got, 1234<<10)
	}
	if got := highWater([]byte("Name:\twisp\n")); got != 0 {
		t.Errorf("without the line: %d", got)
	}
}

// TestPeakMemory looks for the memory of a command in its line of results and in
// the figures beside the model.
func TestPeakMemory(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs /proc")
	}
	c := madeChain(t)
	if !regexp.MustCompile(`; at most [1-9][0-9]* MB of memory\n$`).MatchString(reached) {
		t.Errorf("train wrote %q", reached)
	}
	figures := string(get(t, filepath.Join(c.model, runFolder, "checkpoint", "metrics.jsonl")))
	if !strings.Contains(figures, `"name":"peak_memory_bytes"`) {
		t.Errorf("no peak memory among the figures of the run:\n%s", figures)
	}
	before := peakMemory()
	ballast := make([]byte, 64<<20+before)
	for i := 0; i < len(ballast); i += 4096 {
		ballast[i] = 1
	}
	if after := peakMemory(); after < before+64<<20 || after > 2*before+1<<30 {
		t.Errorf("%d bytes, after %d and %d bytes more", after, before, len(ballast))
	}
	runtime.KeepAlive(ballast)
}

// TestRunMeasured sees that the memory of this process does not count.
func TestRunMeasured(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs /proc")
	}
	ballast := make([]byte, 256<<20)
	for i := 0; i < len(ballast); i += 4096 {
		ballast[i] = 1
	}
	peak, err := runMeasured(exec.CommandContext(t.Context(), "sleep", "0.2"))
	if err != nil || peak == 0 || peak > 64<<20 {
		t.Errorf("sleep took %d bytes (%v)", peak, err)
	}
	runtime.KeepAlive(ballast)
	if _, err := runMeasured(exec.CommandContext(t.Context(), "false")); err == nil {
		t.Error("a program that fails is no error")
	}
}
