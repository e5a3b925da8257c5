package edge_test

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/wisp-project/wisp/artifact"
	"github.com/wisp-project/wisp/edge"
)

// release stores version v of an artefact, signed.
func release(t testing.TB, v uint64, change func(*artifact.Artifact)) string {
	t.Helper()
	a, _ := build(t, least)
	a.Manifest.Version = v
	if change != nil {
		change(a)
	}
	return save(t, a, key(1))
}

// remembers returns options with a state in dir.
func remembers(dir string) edge.Options {
	return edge.Options{Trust: edge.Trust{Keys: []ed25519.PublicKey{public(key(1))}}, State: dir}
}

func TestVersions(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state", "of", "wisp") // made when needed
	one, two := release(t, 1, nil), release(t, 2, nil)
	o, forced := remembers(dir), remembers(dir)
	forced.ForceVersion = true
	for i, c := range []struct {
		path string
		o    edge.Options
		want error // nil: accepted
		says string
	}{
		{path: one, o: o},
		{path: one, o: o}, // a restart
		{path: two, o: o},
		{path: one, o: o, want: edge.ErrRollback, says: "version 1 of \"test\", after version 2"},
		{path: two, o: o}, // a refusal changes nothing
		{path: release(t, 2, func(a *artifact.Artifact) { a.Items[0].Title = "other" }), o: o, want: edge.ErrRollback, says: "other content"},
		{path: release(t, 1, func(a *artifact.Artifact) { a.Manifest.Name = "other" }), o: o},
		{path: release(t, 1, func(a *artifact.Artifact) { a.Manifest.Tenant = "north" }), o: o},
		// Versions that do not run, or are not trusted, keep nobody out.
		{path: release(t, 1<<53-1, func(a *artifact.Artifact) { a.Goldens[0].Answer[0] ^= 1 }), o: o, want: edge.ErrGolden},
		{path: release(t, 1<<53-1, func(a *artifact.Artifact) { a.Kernel = []byte("no kernel") }), o: o, want: edge.ErrArtefact},
		{path: release(t, 3, nil), o: edge.Options{State: dir}, want: artifact.ErrUntrusted},
		{path: two, o: o},
		{path: one, o: forced}, // an operator goes back
		{path: one, o: o},
		{path: two, o: o},
		{path: one, o: edge.Options{Trust: o.Trust}}, // no state, no memory
	} {
		if _, err := tryOpen(t, c.path, c.o); !errors.Is(err, c.want) || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("step %d: error %v, want %v that says %q", i, err, c.want, c.says)
		}
	}

	// A new signature is no new version.
	if err := artifact.SignFile(two, key(2)); err != nil {
		t.Fatal(err)
	}
	o.Trust.Keys = append(o.Trust.Keys, public(key(2)))
	if _, err := tryOpen(t, two, o); err != nil {
		t.Errorf("signed with the next key: %v", err)
	}
}

func TestBadState(t *testing.T) {
	path := release(t, 5, nil)
	t.Run("damaged", func(t *testing.T) {
		for _, content := range []string{"", "{", "null", `{"name":"another","version":9}`} {
			dir := t.TempDir()
			if _, err := tryOpen(t, path, remembers(dir)); err != nil {
				t.Fatal(err)
			}
			files, err := filepath.Glob(filepath.Join(dir, "*.json"))
			if err != nil || len(files) != 1 {
				t.Fatalf("the state is %v (error %v)", files, err)
			}
			if err := os.WriteFile(files[0], []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := tryOpen(t, path, remembers(dir)); !errors.Is(err, edge.ErrState) || !strings.Contains(err.Error(), files[0]) {
				t.Errorf("%q: error %v, want ErrState that names the file", content, err)
			}
			forced := remembers(dir)
			forced.ForceVersion = true
			for _, o := range []edge.Options{forced, remembers(dir)} {
				if _, err := tryOpen(t, path, o); err != nil {
					t.Errorf("%q, forced: %v", content, err)
				}
			}
		}
	})
	t.Run("a file in the way", func(t *testing.T) {
		if _, err := tryOpen(t, path, remembers(path)); !errors.Is(err, edge.ErrState) || !strings.Contains(err.Error(), path) {
			t.Errorf("error %v, want ErrState that names the file", err)
		}
	})
	t.Run("force without a state", func(t *testing.T) {
		if _, err := tryOpen(t, path, edge.Options{ForceVersion: true}); !errors.Is(err, edge.ErrOptions) {
			t.Errorf("error %v, want ErrOptions", err)
		}
	})
	t.Run("an artefact without a digest", func(t *testing.T) {
		a, _ := build(t, least)
		if _, err := edge.New(t.Context(), a, remembers(t.TempDir())); !errors.Is(err, edge.ErrOptions) {
			t.Errorf("error %v, want ErrOptions", err)
		}
	})
	t.Run("leftovers", func(t *testing.T) {
		dir := t.TempDir()
		left := filepath.Join(dir, ".wisp-1.tmp")
		if err := os.WriteFile(left, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := tryOpen(t, path, remembers(dir)); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(left); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("what a killed process left is still there (error %v)", err)
		}
	})
}

// numbered is an artefact as far as its version is concerned.
func numbered(v uint64, content byte) *artifact.Artifact {
	return &artifact.Artifact{
		Manifest: artifact.Manifest{Name: "shop", Version: v},
		Digest:   sha256.Sum256(append(binary.LittleEndian.AppendUint64(nil, v), content)),
	}
}

// TestConcurrentVersions accepts versions from many goroutines, each with its own
// lock, as processes have.
func TestConcurrentVersions(t *testing.T) {
	dir := t.TempDir()
	const most = 40
	var wg sync.WaitGroup
	for g := range uint64(6) {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(g, 1))
			var last uint64
			for range 20 {
				v := 1 + rng.Uint64N(most)
				switch err := edge.Accept(dir, numbered(v, 0)); {
				case err == nil && v < last:
					t.Errorf("version %d was accepted after %d", v, last)
				case err == nil:
					last = v
				case !errors.Is(err, edge.ErrRollback):
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()

	// Of different contents of one version exactly one is accepted.
	var accepted atomic.Int64
	for g := range byte(6) {
		wg.Go(func() {
			switch err := edge.Accept(dir, numbered(most+1, g)); {
			case err == nil:
				accepted.Add(1)
			case !errors.Is(err, edge.ErrRollback):
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := accepted.Load(); n != 1 {
		t.Errorf("%d contents of one version were accepted", n)
	}

	paths := []string{release(t, 1, nil), release(t, 2, nil), release(t, 3, nil)}
	for _, path := range paths {
		wg.Go(func() {
			if _, err := tryOpen(t, path, remembers(dir)); err != nil && !errors.Is(err, edge.ErrRollback) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if _, err := tryOpen(t, paths[1], remembers(dir)); !errors.Is(err, edge.ErrRollback) {
		t.Errorf("version 2 after 3 was opened beside it: error %v, want ErrRollback", err)
	}
}

// acceptForever names the folder of the process that TestKilled kills.
const acceptForever = "WISP_TEST_ACCEPT_FOREVER"

// TestAcceptForever is that process: it accepts one version after the other and
// says so after each.
func TestAcceptForever(t *testing.T) {
	dir, first, ok := strings.Cut(os.Getenv(acceptForever), "\n")
	if !ok {
		t.Skip("it is run by TestKilled")
	}
	v, err := strconv.ParseUint(first, 10, 64)
	for ; err == nil; v++ {
		if err = edge.Accept(dir, numbered(v, 0)); err == nil {
			_, err = fmt.Fprintf(os.Stdout, "accepted %d\n", v)
		}
	}
	t.Fatal(err)
}

// TestKilled ends a process with SIGKILL while it writes the state, again and
// again. What was accepted stays accepted, and no state is ever unreadable.
func TestKilled(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no state is kept there")
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	rng := rand.New(rand.NewPCG(5, 6))
	next := uint64(1)
	for range 12 {
		ctx, kill := context.WithCancel(t.Context())
		cmd := exec.CommandContext(ctx, exe, "-test.run", "^TestAcceptForever$")
		cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s\n%d", acceptForever, dir, next))
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		said := func() {
			if _, err := fmt.Sscanf(lines.Text(), "accepted %d", &next); err != nil {
				t.Errorf("the process says %q", lines.Text())
			}
		}
		for range 1 + rng.IntN(8) {
			if !lines.Scan() {
				t.Fatalf("the process ended: %v", lines.Err())
			}
			said()
		}
		// The moment of the kill within a write is left to the scheduler.
		for range rng.IntN(20_000) {
			_ = sha256.Sum256(nil)
		}
		kill() // SIGKILL
		for lines.Scan() {
			said()
		}
		_, _ = io.Copy(io.Discard, out)
		_ = cmd.Wait() // it was killed

		if next > 1 {
			if err := edge.Accept(dir, numbered(next-1, 0)); !errors.Is(err, edge.ErrRollback) {
				t.Fatalf("version %d after %d was accepted: %v", next-1, next, err)
			}
		}
		switch err := edge.Accept(dir, numbered(next, 0)); {
		case errors.Is(err, edge.ErrRollback): // killed between the next version and its line
			next++
			err = edge.Accept(dir, numbered(next, 0))
			fallthrough
		default:
			if err != nil {
				t.Fatalf("after a kill at version %d: %v", next, err)
			}
		}
		next++
	}
}
