package atomicfile_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/wisp-project/wisp/internal/atomicfile"
)

func TestWrite(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	for _, content := range []string{"first", "second and longer", ""} {
		if err := atomicfile.Write(path, []byte(content)); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != content {
			t.Errorf("read %q (%v), want %q", got, err, content)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("mode %v (%v)", info.Mode(), err)
	}
	// A folder cannot be replaced by a file: the error names it, and nothing of
	// the attempt stays.
	blocked := filepath.Join(dir, "folder")
	if err := os.MkdirAll(filepath.Join(blocked, "x"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := atomicfile.Write(blocked, []byte("no")); err == nil || !strings.Contains(err.Error(), blocked) {
		t.Errorf("a folder in the way: %v", err)
	}
	if err := atomicfile.Write(filepath.Join(dir, "absent", "f"), nil); err == nil {
		t.Error("a missing folder is no error")
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("%v is left (%v)", entries, err)
	}
}
