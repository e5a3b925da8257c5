package runlog

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// replaceFile puts content at path; what was there stays whole until then.
func replaceFile(path string, content []byte) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("runlog: write %s: %w", path, err)
		}
	}()
	// Without the name of the file: TensorBoard reads all with "tfevents" in theirs.
	f, err := os.CreateTemp(filepath.Dir(path), ".runlog-*.tmp")
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

func removeAll(paths ...string) error {
	for _, path := range paths {
		if err := os.RemoveAll(path); err != nil {
			return fmt.Errorf("runlog: open: %w", err)
		}
	}
	return nil
}
