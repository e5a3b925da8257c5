// Package atomicfile replaces files whole: whoever reads sees the old content or
// the new one, and an interruption leaves the old.
package atomicfile

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Write puts content at path, readable by all, and owned as a new file is. It
// writes and syncs a file of another name in the same folder and renames it; on
// error, which names path, nothing of it stays.
func Write(path string, content []byte) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("write %s: %w", path, err)
		}
	}()
	// A name of its own: some programs read every file whose name looks like theirs.
	f, err := os.CreateTemp(filepath.Dir(path), ".wisp-*.tmp")
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	// CreateTemp lets nobody else read the file.
	if err = errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
