package data

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
)

// replaceDir builds a folder beside out and puts it in the place of out when it
// is whole: whatever goes wrong, out is as it was. An out that ours does not
// recognise, or that holds another file than those named, is left alone.
func replaceDir(out string, ours func(dir string) bool, names []string, build func(dir string) error) (err error) {
	out = filepath.Clean(out)
	entries, err := os.ReadDir(out)
	exists := err == nil
	switch {
	case err != nil && !os.IsNotExist(err):
		return fmt.Errorf("%w: %w; name another folder", ErrExists, err)
	case len(entries) > 0 && !ours(out):
		return fmt.Errorf("%w: %s was not written by this command; name another folder or remove it", ErrExists, out)
	}
	for _, e := range entries {
		if !slices.Contains(names, e.Name()) {
			return fmt.Errorf("%w: %s was not written by this command; name another folder or remove it", ErrExists, filepath.Join(out, e.Name()))
		}
	}
	parent := filepath.Dir(out)
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return fmt.Errorf("data: output: %w; name another folder", err)
	}
	tmp, err := os.MkdirTemp(parent, "."+filepath.Base(out)+"-*.tmp")
	if err != nil {
		return fmt.Errorf("data: output: %w; name another folder", err)
	}
	defer os.RemoveAll(tmp) //nolint:errcheck // what is left over is only a temporary folder
	fresh, old := filepath.Join(tmp, "new"), filepath.Join(tmp, "old")
	if err := os.Mkdir(fresh, 0o755); err != nil {
		return fmt.Errorf("data: output: %w", err)
	}
	if err := build(fresh); err != nil {
		return err
	}
	if exists {
		if err := os.Rename(out, old); err != nil {
			return fmt.Errorf("data: output: %w", err)
		}
	}
	if err := os.Rename(fresh, out); err != nil {
		if exists {
			if back := os.Rename(old, out); back != nil {
				return fmt.Errorf("data: output: %w; the previous one is lost: %w", err, back)
			}
		}
		return fmt.Errorf("data: output: %w", err)
	}
	return nil
}

// File is a file as a manifest knows it.
type File struct {
	Name   string `json:"name"` // without folders
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"` // hexadecimal
}

func describe(path string) (File, error) {
	f, err := os.Open(path)
	if err != nil {
		return File{}, err
	}
	defer f.Close() //nolint:errcheck // only read from
	h := sha256.New()
	n, err := io.Copy(h, f)
	return File{Name: filepath.Base(path), Bytes: n, SHA256: hex.EncodeToString(h.Sum(nil))}, err
}

// writeFile creates a file, has it written and brings it to the disk.
func writeFile(path string, write func(io.Writer) error) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("data: output: %w", err)
	}
	defer func() { err = closeAfter(err, f) }()
	if err := write(f); err != nil {
		return fmt.Errorf("data: output: %s: %w", path, err)
	}
	return f.Sync()
}

func writeJSON(path string, v any) error {
	return writeFile(path, func(w io.Writer) error {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(v)
	})
}
