package main

import (
	"os/exec"
	"runtime"
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
