package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/wisp-project/wisp/artifact"
)

// checkOutput says beforehand, not after minutes of work, that path cannot be
// written as a file.
func checkOutput(path string) error {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return fmt.Errorf("%s is a folder; name a file in it", path)
	}
	parent := filepath.Dir(path)
	if info, err := os.Stat(parent); err != nil || !info.IsDir() {
		return fmt.Errorf("%s cannot be written: there is no folder %s; make it or name another", path, parent)
	}
	return nil
}

// withRemedy adds to an error about an artefact what to do where the package
// that met it cannot know.
func withRemedy(err error) error {
	if errors.Is(err, artifact.ErrFormat) || errors.As(err, new(*fs.PathError)) {
		return fmt.Errorf("%w; check the path, or make the artefact anew with wisp compress", err)
	}
	return err
}

// output passes on what is written and remembers the first failure, so that a
// result that nobody can read is no success.
type output struct {
	w   io.Writer
	err error
}

// Write is io.Writer's.
func (o *output) Write(b []byte) (int, error) {
	n, err := o.w.Write(b)
	if o.err == nil {
		o.err = err
	}
	return n, err
}

// isFull says that a disk, or what a user may have of it, is full.
func isFull(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }
