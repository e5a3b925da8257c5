package main_test

import (
	"context"
	"errors"
	"flag"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/wisp-project/wisp/artifact"
	wispedge "github.com/wisp-project/wisp/cmd/wisp-edge"
	"github.com/wisp-project/wisp/edge"
)

// fails calls run with arguments that must end it at once, and returns its error
// and what it wrote.
func fails(t *testing.T, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var out output
	err := wispedge.Run(ctx, args, &out, nil)
	if ctx.Err() != nil {
		t.Fatalf("run %q served for %v", args, patience)
	}
	if err == nil {
		t.Fatalf("run %q returned nil\n%s", args, out.String())
	}
	return out.String(), err
}

// TestUnusableArtefacts has files that must not be served.
func TestUnusableArtefacts(t *testing.T) {
	good := write(t, build(t))
	content, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	file := func(b []byte) string {
		path := filepath.Join(t.TempDir(), "shop.wisp")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	damaged := append([]byte(nil), content...)
	damaged[len(damaged)/2] ^= 1
	wrong := build(t)
	wrong.Goldens[3].Answer[len(wrong.Goldens[3].Answer)-1] ^= 1

	for name, c := range map[string]struct {
		path string
		want error
		says string
	}{
		"missing":      {filepath.Join(t.TempDir(), "none.wisp"), fs.ErrNotExist, "none.wisp"},
		"empty":        {file(nil), artifact.ErrFormat, "shop.wisp"},
		"not wisp":     {file([]byte(strings.Repeat("history", 1000))), artifact.ErrFormat, "shop.wisp"},
		"damaged":      {file(damaged), artifact.ErrDigest, "fetch the file again"},
		"cut off":      {file(content[:len(content)-100]), artifact.ErrFormat, "shop.wisp"},
		"wrong golden": {write(t, wrong), edge.ErrGolden, "request 3"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := fails(t, "--addr", "127.0.0.1:0", "--allow-unsigned", c.path)
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want %v with %q", err, c.want, c.says)
			}
		})
	}
	t.Run("unsigned", func(t *testing.T) {
		_, err := fails(t, "--addr", "127.0.0.1:0", good)
		if !errors.Is(err, artifact.ErrUnsigned) || !strings.Contains(err.Error(), "--allow-unsigned") || !strings.Contains(err.Error(), good) {
			t.Errorf("got %v, want ErrUnsigned that names the file and --allow-unsigned", err)
		}
	})
}

func TestAddressInUse(t *testing.T) {
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() //nolint:errcheck // nothing was sent
	addr := l.Addr().String()
	_, err = fails(t, "--addr", addr, "--allow-unsigned", write(t, build(t)))
	if !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), addr) || !strings.Contains(err.Error(), "--addr") {
		t.Errorf("got %v, want an error that names %s and --addr", err, addr)
	}
}

func TestBadFlags(t *testing.T) {
	for name, c := range map[string]struct {
		args  []string
		says  string
		usage bool // it is printed, too
	}{
		"no artefact":     {nil, "one artefact, not 0", true},
		"two artefacts":   {[]string{"a.wisp", "b.wisp"}, "one artefact, not 2", true},
		"flag behind":     {[]string{"a.wisp", "--allow-unsigned"}, "one artefact, not 2", true},
		"unknown flag":    {[]string{"--port", "80", "a.wisp"}, "-port", true},
		"no duration":     {[]string{"--timeout", "soon", "a.wisp"}, "soon", true},
		"no number":       {[]string{"--sandboxes", "many", "a.wisp"}, "many", true},
		"no time":         {[]string{"--timeout", "0s", "a.wisp"}, "--timeout must be positive", false},
		"negative grace":  {[]string{"--grace", "-1s", "a.wisp"}, "--grace must not be negative", false},
		"form of the log": {[]string{"--log", "xml", "a.wisp"}, `--log is "xml"`, false},
		"address":         {[]string{"--addr", "nowhere", "a.wisp"}, "nowhere", false},
		"no key":          {[]string{"--trust", "none.pub", "a.wisp"}, "none.pub", true},
		"half a digest":   {[]string{"--trust-kernel", "00ff", "a.wisp"}, "64 characters", true},
		"port":            {[]string{"--addr", "127.0.0.1:99999", "a.wisp"}, "99999", false},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := fails(t, c.args...)
			if !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want an error with %q", err, c.says)
			}
			if got := strings.Contains(out, "usage: wisp-edge"); got != c.usage {
				t.Errorf("usage printed: %v, want %v\n%s", got, c.usage, out)
			}
		})
	}
	_, err := fails(t, "--addr", "127.0.0.1:0", "--sandboxes", "-1", "a.wisp")
	if !errors.Is(err, edge.ErrOptions) {
		t.Errorf("negative sandboxes: got %v, want ErrOptions", err)
	}
}

func TestHelp(t *testing.T) {
	for _, arg := range []string{"--help", "-h"} {
		out, err := fails(t, arg)
		if !errors.Is(err, flag.ErrHelp) {
			t.Errorf("%s: got %v, want ErrHelp", arg, err)
		}
		for _, want := range []string{
			"usage: wisp-edge [flags] FILE.wisp", "POST /v1/recommend", "Example:",
			"-addr", "-trust", "-trust-kernels", "-trust-kernel", "-allow-unsigned", "-state", "-force-version", "-sandboxes", "-interpreter", "-timeout", "-grace", "-log",
		} {
			if !strings.Contains(out, want) {
				t.Errorf("%s does not mention %q:\n%s", arg, want, out)
			}
		}
	}
}

// TestStopWhileStarting ends the gateway before its artefact is checked.
func TestStopWhileStarting(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var out output
	args := []string{"--addr", "127.0.0.1:0", "--allow-unsigned", write(t, build(t))}
	err := wispedge.Run(ctx, args, &out, func(net.Addr) { cancel() })
	if err != nil {
		t.Errorf("got %v, want nil: it did as it was told", err)
	}
	if got := out.String(); strings.Contains(got, `"ready"`) || !strings.Contains(got, "stopped before it was ready") {
		t.Errorf("the log is %s", got)
	}
}

// TestInterpreter serves without compiling, with a log in text form.
func TestInterpreter(t *testing.T) {
	path := write(t, build(t))
	p, compiled := serve(t, path, "--interpreter", "--log", "text"), serve(t, path)
	const body = `{"history":[{"item":"i5"},{"item":"i6"}],"explain":true}`
	got, want := p.post(t, body), compiled.post(t, body)
	if got.status != http.StatusOK || got.body != want.body {
		t.Errorf("the interpreter answers %d %s, the compiler %s", got.status, got.body, want.body)
	}
	p.stop()
	if err := p.wait(t); err != nil {
		t.Error(err)
	}
	for _, want := range []string{"msg=ready", "msg=request method=POST path=/v1/recommend status=200", "msg=stopped"} {
		if !strings.Contains(p.log.String(), want) {
			t.Errorf("the log lacks %q:\n%s", want, p.log.String())
		}
	}
}
