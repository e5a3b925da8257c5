package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/wisp-project/wisp/internal/data"
)

const madeData = "../../testdata/made"

// outcome is what a user sees of one command.
type outcome struct {
	code           int
	stdout, stderr string
}

// wisp runs one command line.
func wisp(ctx context.Context, args ...string) outcome {
	var stdout, stderr bytes.Buffer
	code := run(ctx, args, &stdout, &stderr)
	return outcome{code, stdout.String(), stderr.String()}
}

// succeed runs a command line that must succeed and returns its output.
func succeed(t *testing.T, args ...string) string {
	t.Helper()
	o := wisp(t.Context(), args...)
	if o.code != 0 {
		t.Fatalf("wisp %s: exit %d: %s", strings.Join(args, " "), o.code, o.stderr)
	}
	return o.stdout
}

// fail runs a command line that must fail with code 1, print no result that
// could be taken for one, and say each of words on standard error.
func fail(t *testing.T, words []string, args ...string) {
	t.Helper()
	o := wisp(t.Context(), args...)
	command := "wisp " + strings.Join(args, " ")
	if o.code != exitError {
		t.Fatalf("%s: exit %d, want %d\n%s%s", command, o.code, exitError, o.stdout, o.stderr)
	}
	if o.stdout != "" {
		t.Errorf("%s failed and yet wrote %q", command, o.stdout)
	}
	lines := strings.Split(strings.TrimSpace(o.stderr), "\n")
	last := lines[len(lines)-1]
	if !strings.HasPrefix(last, "wisp: ") {
		t.Errorf("%s: the last line is no error of wisp: %q", command, last)
	}
	for _, w := range words {
		if !strings.Contains(last, w) {
			t.Errorf("%s: the error lacks %q: %s", command, w, last)
		}
	}
}

// chain is the output of the commands on the made data.
type chain struct{ prepared, model, artefact string }

// trainArgs train a small model to something useful within a second.
var trainArgs = []string{"--epochs", "20", "--patience", "20", "--dim", "32", "--layers", "1", "--window", "20", "--lr", "0.02", "--dropout", "0.1", "--features", "16"}

// reached is how the model of the chain did on validation, as train said.
var reached string

// made runs prepare, train and compress once for all tests. They must not write
// into the folders; see chain.copy.
var made = sync.OnceValues(func() (chain, error) {
	c := chain{filepath.Join(temporary, "prepared"), filepath.Join(temporary, "model"), filepath.Join(temporary, "made.wisp")}
	for _, args := range [][]string{
		prepareArgs(c.prepared),
		append([]string{"train", c.prepared, "--out", c.model}, trainArgs...),
		{"compress", c.model, "--data", c.prepared, "--out", c.artefact, "--created", "2024-05-01T00:00:00Z", "--licence", "data=CC0-1.0"},
	} {
		o := wisp(context.Background(), args...)
		if o.code != 0 {
			return c, fmt.Errorf("wisp %s: exit %d: %s", strings.Join(args, " "), o.code, o.stderr)
		}
		if args[0] == "train" {
			reached = o.stdout
		}
	}
	return c, nil
})

func prepareArgs(out string) []string {
	return []string{
		"prepare", "--format", "jsonl", "--events", filepath.Join(madeData, "events.jsonl"), "--items", filepath.Join(madeData, "items.jsonl"),
		"--users", filepath.Join(madeData, "users.jsonl"), "--name", "made", "--out", out,
	}
}

// temporary is a folder for what tests share.
var temporary string

// commandVariable makes of the test program the program itself, for tests that kill it.
const commandVariable = "WISP_TEST_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(commandVariable) != "" {
		os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
	}
	os.Exit(func() int {
		var err error
		if temporary, err = os.MkdirTemp("", "wisp-"); err != nil {
			panic(err)
		}
		defer os.RemoveAll(temporary) //nolint:errcheck // what is left over is only a temporary folder
		return m.Run()
	}())
}

func madeChain(t *testing.T) chain {
	t.Helper()
	c, err := made()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// copy returns a chain of its own for a test that writes or damages files.
func (c chain) copy(t *testing.T) chain {
	t.Helper()
	own := chain{filepath.Join(t.TempDir(), "prepared"), filepath.Join(t.TempDir(), "model"), filepath.Join(t.TempDir(), "made.wisp")}
	for from, to := range map[string]string{c.prepared: own.prepared, c.model: own.model} {
		if err := os.CopyFS(to, os.DirFS(from)); err != nil {
			t.Fatal(err)
		}
	}
	put(t, own.artefact, get(t, c.artefact))
	return own
}

func get(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// put writes a file and returns its path.
func put(t *testing.T, path string, content []byte) string {
	t.Helper()
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// snapshot is a digest of the names and contents of all files at or below paths;
// what does not exist counts too.
func snapshot(t *testing.T, paths ...string) string {
	t.Helper()
	h := sha256.New()
	for _, root := range paths {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				_, err = fmt.Fprintf(h, "%q missing\n", path)
				return err
			}
			if err != nil {
				return err
			}
			fmt.Fprintf(h, "%q\n", path)
			if d.IsDir() {
				return nil
			}
			f, err := os.Open(path)
			if err != nil {
				return err
			}
			defer f.Close() //nolint:errcheck // only read from
			_, err = io.Copy(h, f)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}

// history returns the item ids of a user of a prepared data set, oldest first.
func history(t *testing.T, prepared, user string) []string {
	t.Helper()
	ds, err := data.Load(prepared)
	if err != nil {
		t.Fatal(err)
	}
	for u := range ds.Users {
		if ds.Users[u].ID == user {
			var ids []string
			for _, e := range ds.Histories[u] {
				ids = append(ids, ds.Items[e.Item].ID)
			}
			return ids
		}
	}
	t.Fatalf("%s has no user %s", prepared, user)
	return nil
}

// interruption is a context that ends, as by Ctrl-C, when it is asked for the nth
// time whether it has ended: unlike a timer it always strikes at the same place.
type interruption struct {
	context.Context
	cancel context.CancelFunc
	left   atomic.Int64
}

func interruptAt(t *testing.T, nth int64) *interruption {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	i := &interruption{Context: ctx, cancel: cancel}
	i.left.Store(nth)
	return i
}

// Err is context.Context's.
func (i *interruption) Err() error {
	if i.left.Add(-1) == 0 {
		i.cancel()
	}
	return i.Context.Err()
}
