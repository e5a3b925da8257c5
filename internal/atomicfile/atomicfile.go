// Package atomicfile replaces files whole: whoever reads sees the old content or
// the new one, and an interruption leaves the old.
package atomicfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

// Write puts content at path, readable by all, and owned as a new file is; see
// [Replace].
func Write(path string, content []byte) error {
	return Replace(path, 0o644, func(f *os.File) error {
		_, err := f.Write(content)
		return err
	})
}

// Replace puts at path, with that mode, what write writes into the empty file
// that it is given. The file has another name in the same folder; it is synced
// and renamed, and the folder synced, so that what Replace has done outlasts a
// loss of power. On error, which names path, nothing of it stays.
func Replace(path string, mode fs.FileMode, write func(*os.File) error) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("write %s: %w", path, err)
		}
	}()
	// A name of its own: some programs read every file whose name looks like theirs.
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, ".wisp-*.tmp")
	if err != nil {
		return err
	}
	err = write(f)
	// CreateTemp lets nobody else read the file.
	if err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return syncDir(dir)
}

// syncDir makes a rename in dir last through a loss of power.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil // folders cannot be synced there
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
