package results

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
)

// Machine describes the machine in words.
func Machine() string {
	cpu := runtime.GOARCH
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(b)) {
			if name, ok := strings.CutPrefix(line, "model name"); ok {
				cpu = strings.TrimSpace(strings.TrimLeft(name, "\t :"))
				break
			}
		}
	}
	return fmt.Sprintf("%d CPUs (%s), %s %s", runtime.NumCPU(), cpu, runtime.GOOS, runtime.Version())
}

// Commit names the source in the working folder, as git describes it.
func Commit(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, "git", "describe", "--always", "--abbrev=12").Output()
	commit := strings.TrimSpace(string(out))
	if err != nil || commit == "" {
		return "unknown"
	}
	// The figures that a run writes are no change to what makes them.
	changed, err := exec.CommandContext(ctx, "git", "status", "--porcelain", "--untracked-files=no", "--", ":(top)", ":(top,exclude)docs/results").Output()
	if err != nil || len(changed) > 0 {
		commit += "-dirty"
	}
	return commit
}
