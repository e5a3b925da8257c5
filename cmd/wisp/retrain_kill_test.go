//go:build unix

package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wisp-project/wisp/internal/retrain"
)

// process is the command in a process of its own.
func (j *job) process(more ...string) *exec.Cmd {
	j.t.Helper()
	exe, err := os.Executable()
	if err != nil {
		j.t.Fatal(err)
	}
	c := exec.CommandContext(j.t.Context(), exe, j.args(more...)...)
	c.Env = append(os.Environ(), commandVariable+"=1")
	return c
}

// child runs the command in a process of its own and kills it, as a machine that
// fails would, when a line of its standard error begins with the given words, or when
// the file at path has been replaced that many times. It reports whether the process
// was killed, and had not ended by itself.
func (j *job) child(line, path string, times int, more ...string) (killed bool, stderr string) {
	j.t.Helper()
	c := j.process(more...)
	pipe, err := c.StderrPipe()
	if err != nil {
		j.t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		j.t.Fatal(err)
	}
	ended := make(chan struct{})
	if path != "" {
		go func() {
			var last os.FileInfo
			for {
				select {
				case <-ended:
					return
				case <-time.After(200 * time.Microsecond):
				}
				info, err := os.Stat(path)
				if err != nil || last != nil && os.SameFile(info, last) && info.ModTime().Equal(last.ModTime()) {
					continue
				}
				last = info
				if times--; times == 0 {
					_ = c.Process.Kill() // it may have ended
					return
				}
			}
		}()
	}
	var b strings.Builder
	for s := bufio.NewScanner(io.TeeReader(pipe, &b)); s.Scan(); {
		if line != "" && strings.HasPrefix(s.Text(), line) {
			_ = c.Process.Kill() // it may have ended
		}
	}
	err = c.Wait()
	close(ended)
	return err != nil && c.ProcessState.ExitCode() == -1, b.String()
}

// TestRetrainKilled kills runs at many moments. The next one, with the same command,
// comes to the very bytes of the same run unbroken, and does not begin anew.
func TestRetrainKilled(t *testing.T) {
	options := []string{"--epochs", "4", "--rehearsal", "3", "--margin", "0.5", "--save-every", "1"} // two steps an epoch, saved twice
	for _, test := range []struct {
		name    string
		line    string // kill when it says so, or
		file    string // when this file of the run was replaced
		times   int    // so many times
		goes    string // what the next run says first
		without string // and does not say, as it is done
	}{
		{name: "while it begins", file: "../../base/events.jsonl", times: 1},
		{name: "while it takes the events", file: retrain.ItemsFile, times: 1},
		{name: "while it prepares", line: "clean", goes: "run 1 was cut off: going on with it"},
		{name: "before training", line: "training on", goes: "run 1 was cut off: going on with it", without: "clean"},
		{name: "within the first epoch", file: "model/checkpoint.safetensors", times: 1, goes: "run 1 was cut off: going on with it", without: "clean"},
		{name: "after an epoch", line: "epoch   2", goes: "run 1 was cut off: going on with it", without: "epoch   1"},
		{name: "within the last epoch", file: "model/checkpoint.safetensors", times: 7, goes: "run 1 was cut off: going on with it", without: "epoch   1"},
		{name: "after training", line: "compressing", goes: "run 1 was cut off: going on with it", without: "epoch"},
		{name: "while it signs", file: retrain.ArtefactFile, times: 1, goes: "run 1 was cut off: going on with it", without: "epoch"},
		{name: "while it compares", line: "comparing", goes: "run 1 was cut off: going on with it", without: "epoch"},
		{name: "while it publishes", file: "manifest.json", times: 2, goes: "run 1 was cut off while it published", without: "comparing"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if testing.Short() && !strings.Contains(test.name, "within") {
				t.Skip("two moments tell most")
			}
			j := newJob(t)
			j.add("week-0.jsonl", j.weeks[0])
			folder, path := retrain.Folder(j.state), ""
			if test.file != "" {
				path = folder.Path(folder.Run(1), test.file)
			}
			killed, said := j.child(test.line, path, test.times, options...)
			if !killed {
				t.Fatalf("it ended before it was killed:\n%s", said)
			}
			if exists(j.out) && test.name != "while it publishes" {
				t.Fatal("it has published")
			}
			o := wisp(t.Context(), j.args(options...)...)
			if o.code != 0 || !strings.Contains(o.stdout, "version 2 published") {
				t.Fatalf("the next run: exit %d: %s%s", o.code, o.stdout, o.stderr)
			}
			if !strings.HasPrefix(o.stderr, test.goes) || test.without != "" && strings.Contains(o.stderr, "\n"+test.without) {
				t.Errorf("it does not go on: want %q and not %q:\n%s", test.goes, test.without, o.stderr)
			}
			// An unbroken run of the same manifest comes to the same bytes, signature
			// included.
			out := succeed(t, "retrain", "--replay", folder.Manifest(1), "--key", j.key)
			if !strings.Contains(out, "run 1 came to the same bytes") {
				t.Error(out)
			}
			if runs, err := folder.Runs(); err != nil || !slices.Equal(runs, []int{1}) {
				t.Errorf("runs %v (%v)", runs, err)
			}
			// Nothing half written is left, and the events count once.
			err := filepath.WalkDir(j.state, func(path string, d os.DirEntry, err error) error {
				if strings.HasSuffix(path, ".tmp") {
					t.Errorf("%s is left", path)
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			s, err := folder.Load()
			if err != nil || len(s.Ledger) != 2 || s.Accepted.Run != 1 {
				t.Errorf("the state is %+v (%v)", s, err)
			}
			if out := succeed(t, j.args(options...)...); !strings.Contains(out, "no new events since run 1") {
				t.Error(out)
			}
		})
	}
}

// TestRetrainKilledAnywhere kills a run again and again, after times that have nothing
// to do with what it does, until it has come to its end.
func TestRetrainKilledAnywhere(t *testing.T) {
	if testing.Short() {
		t.Skip("takes as long as it takes")
	}
	j := newJob(t)
	j.add("week-0.jsonl", j.weeks[0])
	options := []string{"--epochs", "4", "--rehearsal", "3", "--margin", "0.5"}
	kills := 0
	for wait := 150 * time.Millisecond; ; wait += 40 * time.Millisecond {
		if kills > 60 {
			t.Fatal("it comes to no end")
		}
		killed, said := j.childFor(wait, options...)
		if !killed {
			// The one before may have been killed when there was nothing left to do.
			if !strings.Contains(said, "comparing") && !strings.Contains(said, "published") && !strings.Contains(said, "no new events since run 1") {
				t.Fatalf("it ended early: %s", said)
			}
			break
		}
		kills++
	}
	t.Logf("killed %d times", kills)
	if out := succeed(t, "retrain", "--replay", retrain.Folder(j.state).Manifest(1), "--key", j.key); !strings.Contains(out, "run 1 came to the same bytes") {
		t.Error(out)
	}
}

// childFor runs the command in a process of its own and kills it after a while; said is
// what it wrote until then.
func (j *job) childFor(wait time.Duration, more ...string) (killed bool, said string) {
	j.t.Helper()
	c := j.process(more...)
	var b strings.Builder
	c.Stdout, c.Stderr = &b, &b
	if err := c.Start(); err != nil {
		j.t.Fatal(err)
	}
	timer := time.AfterFunc(wait, func() { _ = c.Process.Kill() }) // it may have ended
	err := c.Wait()
	timer.Stop()
	if err != nil && c.ProcessState.ExitCode() != -1 {
		j.t.Fatal(fmt.Errorf("%w: %s", err, &b))
	}
	return err != nil, b.String()
}
