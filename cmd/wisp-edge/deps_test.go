package main_test

import (
	"bytes"
	"debug/elf"
	"errors"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// linked are the packages outside the standard library that the gateway may
// contain. Whoever adds one adds it to every edge, and to what has to be
// trusted there.
var linked = regexp.MustCompile(`^(github\.com/wisp-project/wisp/(artifact|edge|wasm|internal/(atomicfile|layout|tokenize)|cmd/wisp-edge)` +
	`|github\.com/(tetratelabs/wazero|klauspost/compress)(/.*)?` +
	`|golang\.org/x/sys/.*)$`)

// goTool returns the go command or skips the test.
func goTool(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("it runs the go command")
	}
	path, err := exec.LookPath("go")
	if err != nil {
		t.Skipf("no go command: %v", err)
	}
	return path
}

func TestDependencies(t *testing.T) {
	for _, cgo := range []string{"0", "1"} {
		cmd := exec.CommandContext(t.Context(), goTool(t), "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", ".")
		cmd.Env = append(cmd.Environ(), "CGO_ENABLED="+cgo)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v\n%s", err, stderr.String())
		}
		packages := strings.Fields(string(out))
		for _, p := range packages {
			if !linked.MatchString(p) {
				t.Errorf("with CGO_ENABLED=%s the gateway links %s", cgo, p)
			}
		}
		if !strings.Contains(string(out), "wazero") || !strings.Contains(string(out), "/cmd/wisp-edge") {
			t.Errorf("go list lacks packages that the gateway has: %q", packages)
		}
	}
}

// TestBinary builds the gateway as it is shipped, looks at how it is linked and
// ends it with a signal.
func TestBinary(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("it reads ELF files")
	}
	binary := filepath.Join(t.TempDir(), "wisp-edge")
	cmd := exec.CommandContext(t.Context(), goTool(t), "build", "-o", binary, ".")
	cmd.Env = append(cmd.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	f, err := elf.Open(binary)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // nothing was written
	for _, s := range f.Progs {
		if s.Type == elf.PT_INTERP || s.Type == elf.PT_DYNAMIC {
			t.Errorf("it has a segment %v, so it is linked dynamically", s.Type)
		}
	}

	if out, err := exec.CommandContext(t.Context(), binary, "--help").CombinedOutput(); err != nil || !strings.Contains(string(out), "usage:") {
		t.Errorf("--help: %v\n%s", err, out)
	}
	out, err := exec.CommandContext(t.Context(), binary, "--addr", "127.0.0.1:0", "none.wisp").CombinedOutput()
	if exit := new(exec.ExitError); !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(string(out), "wisp-edge: ") || !strings.Contains(string(out), "none.wisp") {
		t.Errorf("missing file: %v\n%s", err, out)
	}

	var log output
	served := exec.CommandContext(t.Context(), binary, "--addr", "127.0.0.1:0", "--allow-unsigned", write(t, build(t)))
	served.Stderr = &log
	if err := served.Start(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(patience); !strings.Contains(log.String(), `"ready"`) && time.Now().Before(deadline); {
		time.Sleep(5 * time.Millisecond)
	}
	if err := served.Process.Signal(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	if err := served.Wait(); err != nil || !strings.Contains(log.String(), `"stopped"`) {
		t.Errorf("after a signal: %v\n%s", err, log.String())
	}
}
