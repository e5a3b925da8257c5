package data_test

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/wisp-project/wisp/internal/data"
)

// client is a package client that leaves a file in the download folder.
func client(name string, content func(path string) error) data.Runner {
	return func(_ context.Context, _ string, args ...string) error {
		return content(filepath.Join(args[slices.Index(args, "-d")+1], name))
	}
}

func TestFetchFails(t *testing.T) {
	missing := fmt.Errorf("python3: %w", exec.ErrNotFound)
	tests := []struct {
		name  string
		run   data.Runner
		want  error
		words []string
	}{
		{"no client", func(context.Context, string, ...string) error { return missing }, data.ErrUnavailable, []string{"pip"}},
		{"no registry", func(context.Context, string, ...string) error { return errors.New("no route") }, data.ErrUnavailable, []string{"no route", "by hand"}},
		{"nothing downloaded", func(context.Context, string, ...string) error { return nil }, data.ErrUnavailable, nil},
		{"wrong contents", client("recbole-1.2.1-py3-none-any.whl", func(path string) error {
			f, err := os.Create(path)
			if err != nil {
				return err
			}
			return errors.Join(zip.NewWriter(f).Close(), f.Close())
		}), data.ErrChecksum, []string{"recbole-1.2.1", "SHA-256"}},
		{"too large", client("recbole-1.2.1-py3-none-any.whl", func(path string) error {
			return errors.Join(os.WriteFile(path, nil, 0o644), os.Truncate(path, 1<<25))
		}), data.ErrChecksum, []string{"bytes"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "ml")
			err := data.FetchML100K(t.Context(), dir, tt.run)
			wantError(t, err, tt.want, tt.words...)
			if errors.Is(err, data.ErrChecksum) && errors.Is(err, data.ErrUnavailable) {
				t.Error("a wrong hash passes for an absent registry")
			}
			if exists(dir) {
				t.Error("the folder is there")
			}
		})
	}
}

func TestFetchTriesBothClients(t *testing.T) {
	var tried []string
	err := data.FetchML100K(t.Context(), t.TempDir(), func(_ context.Context, name string, _ ...string) error {
		tried = append(tried, name)
		return fmt.Errorf("%s: %w", name, exec.ErrNotFound)
	})
	wantError(t, err, data.ErrUnavailable)
	if !slices.Equal(tried, []string{"python3", "pip"}) {
		t.Errorf("tried %q", tried)
	}
}

func TestFetchIsCancelled(t *testing.T) {
	err := data.FetchML100K(cancelled(t), t.TempDir(), func(ctx context.Context, _ string, _ ...string) error { return ctx.Err() })
	wantError(t, err, context.Canceled)
}

// A package with other files, and its hashes, stands in for the real one.
func TestFetchUnpacks(t *testing.T) {
	var wheel bytes.Buffer
	z := zip.NewWriter(&wheel)
	for _, name := range []string{"x/a.inter", "x/b.item", "other"} {
		w, err := z.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte("content of " + name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	hash := func(b []byte) string {
		sum := sha256.Sum256(b)
		return hex.EncodeToString(sum[:])
	}
	ex := data.Example{
		Package: "x==1", Hash: hash(wheel.Bytes()), Folder: "x/", Terms: "Be kind.\n",
		Files: map[string]string{"a.inter": hash([]byte("content of x/a.inter")), "b.item": hash([]byte("content of x/b.item"))},
	}
	runs := 0
	run := client("x-1.whl", func(path string) error {
		runs++
		return os.WriteFile(path, wheel.Bytes(), 0o644)
	})
	dir := filepath.Join(t.TempDir(), "deep", "ml")
	want := map[string]string{"a.inter": "content of x/a.inter", "b.item": "content of x/b.item", "TERMS.txt": "Be kind.\n"}
	for range 2 {
		if err := ex.Fetch(t.Context(), dir, run); err != nil {
			t.Fatal(err)
		}
		if got := snapshot(t, dir); !maps.Equal(got, want) {
			t.Errorf("files %q, want %q", got, want)
		}
	}
	if runs != 1 {
		t.Errorf("the client ran %d times, want once", runs)
	}
	if err := os.WriteFile(filepath.Join(dir, "a.inter"), []byte("cut"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := ex.Fetch(t.Context(), dir, run); err != nil || runs != 2 || !maps.Equal(snapshot(t, dir), want) {
		t.Errorf("a damaged file was not fetched again: %v", err)
	}
	ex.Files["a.inter"] = hash(nil)
	wantError(t, ex.Fetch(t.Context(), dir, run), data.ErrChecksum, "a.inter")
	ex.Files["missing"] = hash(nil)
	delete(ex.Files, "a.inter")
	wantError(t, ex.Fetch(t.Context(), dir, run), data.ErrChecksum, "missing")
}

func TestFetchFindsTheFiles(t *testing.T) {
	dir := filepath.Join("..", "..", "..", "shared", "data", "ml-100k")
	if !exists(dir) {
		t.Skip("MovieLens 100K is not there")
	}
	err := data.FetchML100K(t.Context(), dir, func(context.Context, string, ...string) error {
		t.Error("a client was started")
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
