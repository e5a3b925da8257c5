package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"time"

	"github.com/wisp-project/wisp/internal/runlog"
)

// runMeasured runs a program to its end and returns the largest resident set it
// had, in bytes; 0 where the system does not tell (it is read from /proc). The
// kernel's own figure at the end will not do: it counts the memory of the process
// that started the program.
func runMeasured(cmd *exec.Cmd) (peak int64, err error) {
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	status := fmt.Sprintf("/proc/%d/status", cmd.Process.Pid)
	for {
		select {
		case err := <-ended:
			return peak, err
		case <-tick.C:
			if b, err := os.ReadFile(status); err == nil {
				peak = max(peak, highWater(b))
			}
		}
	}
}

// peakMemory is the largest resident set, in bytes, that this process has had; 0
// where the system does not tell.
func peakMemory() int64 {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	return highWater(b)
}

// memoryNote is the end of a line of results: the peak memory, where it is known.
func memoryNote() string {
	peak := peakMemory()
	if peak == 0 {
		return ""
	}
	return fmt.Sprintf("; at most %d MB of memory", (peak+999_999)/1_000_000)
}

// memoryFigure is the name of the peak memory among the figures of a training.
const memoryFigure = "peak_memory_bytes"

// recordMemory adds the peak memory after a step to the figures of a training.
func recordMemory(log *runlog.Run, step int64) {
	if peak := peakMemory(); peak > 0 {
		log.Scalar(step, memoryFigure, float64(peak), time.Now())
	}
}

// highWater reads the largest resident set, in bytes, out of a status file of
// /proc; 0 where it is not there.
func highWater(status []byte) int64 { return procBytes(status, "VmHWM:") }

// procBytes reads a size, in bytes, out of a file of /proc; 0 where it is not
// there.
func procBytes(file []byte, name string) int64 {
	for line := range bytes.Lines(file) {
		if rest, ok := bytes.CutPrefix(line, []byte(name)); ok {
			if f := bytes.Fields(rest); len(f) == 2 {
				kib, err := strconv.ParseInt(string(f[0]), 10, 64)
				if err == nil {
					return kib << 10
				}
			}
		}
	}
	return 0
}
