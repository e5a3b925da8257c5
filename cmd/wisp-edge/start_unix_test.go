//go:build unix

package main_test

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/wisp-project/wisp/artifact"
)

// TestNotReady looks at a gateway whose artefact takes its time: it is a named
// pipe, and opening it waits for a writer.
func TestNotReady(t *testing.T) {
	path := filepath.Join(t.TempDir(), "shop.wisp")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Skipf("no named pipes here: %v", err)
	}
	p := launch(t, "--allow-unsigned", path)
	written := false
	write := func() {
		if written {
			return
		}
		written = true
		f, err := os.OpenFile(path, os.O_RDWR, 0) // does not wait for a reader
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Close() })
	}
	t.Cleanup(write)

	if got := p.get(t, "/healthz"); got.status != http.StatusOK {
		t.Errorf("/healthz: %d %q", got.status, got.body)
	}
	if got := p.get(t, "/readyz"); got.status != http.StatusServiceUnavailable {
		t.Errorf("/readyz: %d %q, want 503", got.status, got.body)
	}
	got := p.post(t, `{}`)
	if code, _ := got.failure(t); got.status != http.StatusServiceUnavailable || code != "not_ready" || got.header.Get("Retry-After") == "" {
		t.Errorf("%d %s, want 503 not_ready with Retry-After", got.status, got.body)
	}
	write()
	if err := p.wait(t); !errors.Is(err, artifact.ErrFormat) {
		t.Errorf("a pipe is no artefact: got %v, want ErrFormat", err)
	}
}
