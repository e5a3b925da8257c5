package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/wisp-project/wisp/hostgpu"
)

// progress shows how far a long command is: a bar on a terminal, a line now and
// then elsewhere.
type progress struct {
	w        io.Writer
	terminal bool
	bar      *progressbar.ProgressBar
	label    string
	last     time.Time
}

func newProgress(cmd *cobra.Command) *progress {
	w := cmd.ErrOrStderr()
	f, ok := w.(*os.File)
	return &progress{w: w, terminal: ok && term.IsTerminal(int(f.Fd()))}
}

// stage reports that done of total units of a stage are done; total 0 means
// unknown. It has the form of data.Progress.
func (p *progress) stage(label string, done, total int64) {
	if !p.terminal {
		// One line for each stage, and one every ten seconds of it.
		if now := time.Now(); label != p.label || now.Sub(p.last) > 10*time.Second {
			if label == p.label || total == 0 {
				fmt.Fprintf(p.w, "%s: %d\n", label, done)
			} else {
				fmt.Fprintf(p.w, "%s\n", label)
			}
			p.label, p.last = label, now
		}
		return
	}
	if label != p.label || p.bar == nil {
		p.done()
		limit := total
		if limit == 0 {
			limit = -1 // a spinner
		}
		p.bar = progressbar.NewOptions64(limit, progressbar.OptionSetWriter(p.w), progressbar.OptionSetDescription(label),
			progressbar.OptionShowCount(), progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish())
		p.label = label
	}
	_ = p.bar.Set64(done) // a bar that cannot be drawn is no reason to stop
}

// describe changes the text beside the bar.
func (p *progress) describe(text string) {
	if p.bar != nil {
		p.bar.Describe(text)
	}
}

// line writes a line above the bar.
func (p *progress) line(format string, args ...any) {
	if p.bar != nil {
		_ = p.bar.Clear()
	}
	fmt.Fprintf(p.w, format+"\n", args...)
}

// done removes the bar; stage may start another.
func (p *progress) done() {
	if p.bar != nil {
		_ = p.bar.Clear()
		p.bar = nil
	}
	p.label = ""
}

// hinted is an error with a word on how to go on.
type hinted struct {
	error
	hint string
}

func (h hinted) Unwrap() error { return h.error }

// resumable adds to an error that ended a training how to go on from its
// checkpoint: an interruption writes one, after another failure there is one
// where kept says so.
func resumable(err error, checkpoint string, kept bool) error {
	if isInterrupted(err) || kept && (isFull(err) || errors.Is(err, hostgpu.ErrCheckpoint)) {
		return hinted{err, fmt.Sprintf("the training is kept in %s; go on with the same command and --resume", checkpoint)}
	}
	return err
}

// isInterrupted says that a command was stopped and nothing else went wrong: a
// training that could not be saved is no interruption that can be made good.
func isInterrupted(err error) bool {
	return errors.Is(err, context.Canceled) && !errors.Is(err, hostgpu.ErrCheckpoint)
}

// withHint is an error in one line, with its hint or else the given one.
func withHint(err error, hint string) string {
	if h := (hinted{}); errors.As(err, &h) {
		hint = h.hint
	}
	line := strings.ReplaceAll(err.Error(), "\n", "; ") // of joined errors
	if hint == "" {
		return line
	}
	return line + "; " + hint
}

// interruptedHint says what became of the work of an interrupted command.
func interruptedHint(err error) string {
	var h hinted
	if errors.As(err, &h) {
		return h.hint
	}
	if errors.Is(err, context.Canceled) {
		return "what was there before is unchanged"
	}
	return err.Error()
}
