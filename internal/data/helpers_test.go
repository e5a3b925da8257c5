package data_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/wisp-project/wisp/internal/data"
)

// put writes a file into a fresh folder and returns its path.
func put(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func prepare(t *testing.T, src data.Source, opts data.PrepareOptions) (*data.Manifest, *data.Dataset) {
	t.Helper()
	out := filepath.Join(t.TempDir(), "out")
	m, err := data.Prepare(t.Context(), src, opts, out, nil)
	if err != nil {
		t.Fatal(err)
	}
	d, err := data.Load(out)
	if err != nil {
		t.Fatal(err)
	}
	return m, d
}

// wantError checks that err wraps target and says each of the words.
func wantError(t *testing.T, err, target error, words ...string) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Fatalf("error %v, want %v", err, target)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error %q does not say %q", err, w)
		}
	}
}

// snapshot returns the contents of all files in dir.
func snapshot(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[e.Name()] = string(b)
	}
	return files
}

func cancelled(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}
