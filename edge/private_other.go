//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package edge

import (
	"errors"
	"fmt"
	"io/fs"
)

// private has no way here to tell who may have written a file.
func private(fs.FileInfo) error {
	return fmt.Errorf("who may write to it cannot be told: %w; run without a cache on this system", errors.ErrUnsupported)
}
