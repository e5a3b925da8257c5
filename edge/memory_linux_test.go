package edge_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/wisp-project/wisp/artifact"
	"github.com/wisp-project/wisp/edge"
)

// mapped returns the number of mappings of images that this process has.
func mapped(t *testing.T) int {
	t.Helper()
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Count(maps, []byte("wisp-image"))
}

// opened returns the number of files that this process has open.
func opened(t *testing.T) int {
	t.Helper()
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(files)
}

// TestNothingLeft looks at the mappings and files of the process while runtimes
// work and after they are closed.
func TestNothingLeft(t *testing.T) {
	a, _ := build(t, mid)
	before, files := mapped(t), opened(t)
	r, err := edge.New(t.Context(), a, edge.Options{Sandboxes: 3})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var gates []*gate
	for range 3 {
		g := newGate(t.Context())
		gates = append(gates, g)
		wg.Go(func() {
			if _, err := r.Recommend(g, edge.Request{}); err != nil {
				t.Error(err)
			}
		})
		<-g.entered
	}
	if got := mapped(t) - before; got != 3 {
		t.Errorf("three sandboxes have %d mappings of the image", got)
	}
	for _, g := range gates {
		close(g.open)
	}
	wg.Wait()
	if err := r.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := mapped(t); got != before {
		t.Errorf("%d mappings are left after Close", got-before)
	}
	// Sandboxes that were thrown away, and a runtime that never came to be.
	a.Kernel = module(2, unreachable, end)
	if _, err := edge.New(t.Context(), a, edge.Options{}); !errors.Is(err, edge.ErrGolden) {
		t.Errorf("got %v, want ErrGolden", err)
	}
	a.Kernel = module(2, loop, void, br, 0, end, 0x41, 0, end)
	if _, err := edge.New(t.Context(), a, edge.Options{Timeout: 1}); !errors.Is(err, edge.ErrTimeout) {
		t.Errorf("got %v, want ErrTimeout", err)
	}
	a.Kernel = moduleWithStart(2, []byte{unreachable, end}, 0x41, 0, end)
	if _, err := edge.New(t.Context(), a, edge.Options{}); !errors.Is(err, edge.ErrSandbox) {
		t.Errorf("got %v, want ErrSandbox", err)
	}
	if got := mapped(t); got != before {
		t.Errorf("%d mappings are left after failures", got-before)
	}
	if got := opened(t); got != files {
		t.Errorf("%d files are open, %d were before", got, files)
	}
}

// TestNothingLeftOfHosts looks again, after versions were replaced, refused and
// rolled back.
func TestNothingLeftOfHosts(t *testing.T) {
	before, files := mapped(t), opened(t)
	o := hosts(t.TempDir())
	o.Cache = filepath.Join(t.TempDir(), "cache")
	h, err := edge.NewHost(o)
	if err != nil {
		t.Fatal(err)
	}
	m := opens(t, h, "shop", release(t, 1, nil))
	opens(t, h, "other", release(t, 1, func(a *artifact.Artifact) { a.Manifest.Name = "other" }))
	for v := range uint64(3) {
		serving(t, m)
		if _, err := m.Replace(t.Context(), release(t, v+2, nil)); err != nil {
			t.Fatal(err)
		}
		if _, err := m.Replace(t.Context(), release(t, v+9, func(a *artifact.Artifact) { a.Goldens[0].Answer[0] ^= 1 })); !errors.Is(err, edge.ErrGolden) {
			t.Fatal(err)
		}
	}
	if err := m.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	serving(t, m)
	if got := mapped(t) - before; got != 2 {
		t.Errorf("two models have %d mappings of images", got)
	}
	var inner *edge.Runtime
	if err := m.Use(func(r *edge.Runtime) error { // a version that is held outlasts its replacement
		inner = r
		if _, err := m.Replace(t.Context(), release(t, 8, nil)); err != nil {
			return err
		}
		_, err := r.Recommend(t.Context(), edge.Request{})
		return err
	}); err != nil {
		t.Error(err)
	}
	if _, err := inner.Recommend(t.Context(), edge.Request{}); !errors.Is(err, edge.ErrClosed) {
		t.Errorf("a version that nobody holds: error %v, want ErrClosed", err)
	}
	if err := h.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Recommend(t.Context(), edge.Request{}); !errors.Is(err, edge.ErrClosed) {
		t.Errorf("after Close: error %v, want ErrClosed", err)
	}
	if got := mapped(t); got != before {
		t.Errorf("%d mappings are left", got-before)
	}
	if got := opened(t); got != files {
		t.Errorf("%d files are open, %d were before", got, files)
	}
}

// TestFullMemory has a system without room for the image.
func TestFullMemory(t *testing.T) {
	a, _ := build(t, mid)
	before, files := mapped(t), opened(t)
	restore := edge.SetMemfd(func(string, int) (int, error) { return syscall.Open("/dev/full", syscall.O_RDWR, 0) })
	defer restore()
	if _, err := edge.New(t.Context(), a, edge.Options{}); !errors.Is(err, edge.ErrSystem) || !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "give the process more memory") {
		t.Errorf("got %v, want ErrSystem that says what to do", err)
	}
	if mapped(t) != before || opened(t) != files {
		t.Errorf("%d mappings and %d files are left", mapped(t)-before, opened(t)-files)
	}
}

// noCode is set in the process of TestNoMachineCode.
const noCode = "WISP_TEST_NO_CODE"

// TestNoMachineCode runs where a process may not turn memory into code, as hardened
// services may not: in a process of its own, as that cannot be taken back. The
// interpreter answers there, and whoever asked for a cache learns of it.
func TestNoMachineCode(t *testing.T) {
	if os.Getenv(noCode) == "" {
		exe, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), exe, "-test.run", "^TestNoMachineCode$", "-test.v")
		cmd.Env = append(os.Environ(), noCode+"=1")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		if bytes.Contains(out, []byte("--- SKIP")) {
			t.Skipf("%s", out)
		}
		return
	}
	const setMDWE, refuseExecGain = 65, 1
	if err := unix.Prctl(setMDWE, refuseExecGain, 0, 0, 0); err != nil {
		t.Skipf("this system does not know it: %v", err)
	}
	a, _ := build(t, least)
	r := start(t, a, edge.Options{Cache: filepath.Join(t.TempDir(), "cache")})
	if _, err := r.Recommend(t.Context(), edge.Request{}); err != nil {
		t.Error(err)
	}
	if cached, err := r.Cached(); cached || !errors.Is(err, edge.ErrCache) || !strings.Contains(err.Error(), "interpreter") {
		t.Errorf("cached %v, error %v; want ErrCache that names the interpreter", cached, err)
	}
}

// TestSealed tries to change the image that all sandboxes share.
func TestSealed(t *testing.T) {
	a, _ := build(t, mid)
	r := start(t, a, edge.Options{Sandboxes: 1})
	f := edge.ImageFile(r)
	if _, err := f.WriteAt([]byte{1}, 0); !errors.Is(err, syscall.EPERM) {
		t.Errorf("write: got %v, want EPERM", err)
	}
	if err := f.Truncate(0); !errors.Is(err, syscall.EPERM) {
		t.Errorf("truncate: got %v, want EPERM", err)
	}
}

// TestWithoutMemfd runs where the system has no memfd, and where there is no
// place for a file either.
func TestWithoutMemfd(t *testing.T) {
	a, _ := build(t, mid)
	events, _ := randomHistory(rand.New(rand.NewPCG(13, 14)), mid, 30)
	want, err := start(t, a, edge.Options{}).Recommend(t.Context(), edge.Request{History: events})
	if err != nil {
		t.Fatal(err)
	}
	defer edge.SetMemfd(func(string, int) (int, error) { return -1, syscall.ENOSYS })()
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	got, err := start(t, a, edge.Options{Isolation: edge.Wiped}).Recommend(t.Context(), edge.Request{History: events})
	if err != nil || !reflect.DeepEqual(got.Items, want.Items) {
		t.Errorf("from a file: %v (%v), want %v", got.Items, err, want.Items)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(left) > 0 {
		t.Errorf("%q are left in the temporary folder (%v)", left, err)
	}
	t.Setenv("TMPDIR", filepath.Join(dir, "none"))
	if _, err := edge.New(t.Context(), a, edge.Options{}); !errors.Is(err, edge.ErrSystem) {
		t.Errorf("no temporary folder: got %v, want ErrSystem", err)
	}
}
