package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/wisp-project/wisp/internal/results"
)

const timesText = `
What a newcomer and continuous integration wait for: each command in a fresh clone of
the committed tree, with the shared data beside it, one after the other, without a
terminal. Modules, compiler caches and system packages were on the machine before.
`

// times measures the commands of the README and of continuous integration.
func (b *bench) times(ctx context.Context) (results.Topic, error) {
	t := results.Topic{Title: "Time of the main commands", Text: timesText}
	shared, err := filepath.Abs(b.shared)
	if err != nil {
		return t, err
	}
	dir, err := os.MkdirTemp("", "wisp-times-")
	if err != nil {
		return t, err
	}
	defer func() { _ = os.RemoveAll(dir) }() // a leftover in the temporary folder harms nobody
	if err := os.Symlink(shared, filepath.Join(dir, "shared")); err != nil {
		return t, err
	}
	for _, c := range []struct{ name, command string }{
		{"make-demo", "make demo"},
		{"make-test", "make test"},
		{"ci", ".ci/run"},
	} {
		clone := filepath.Join(dir, c.name)
		if out, err := exec.CommandContext(ctx, "git", "clone", "--quiet", ".", clone).CombinedOutput(); err != nil {
			return t, fmt.Errorf("git clone: %w: %s", err, out)
		}
		b.p.line("%s", c.command)
		cmd := exec.CommandContext(ctx, "sh", "-c", c.command)
		cmd.Dir, cmd.Env = clone, append(os.Environ(), "CI=true")
		begin := time.Now()
		out, err := cmd.CombinedOutput()
		if ctx.Err() != nil {
			return t, ctx.Err()
		}
		if err != nil {
			return t, fmt.Errorf("%s: %w: %s", c.command, err, out[max(0, len(out)-2000):])
		}
		t.Records = append(t.Records, results.Record{
			Name: "time." + c.name + ".seconds", Value: float64(time.Since(begin).Round(time.Second) / time.Second), Unit: "s", N: 1,
		})
	}
	return t, nil
}
