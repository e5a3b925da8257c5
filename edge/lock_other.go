//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package edge

import (
	"errors"
	"fmt"
)

// lock has no way here to keep two processes apart.
func lock(path string) (unlock func(), err error) {
	return nil, fmt.Errorf("%s: %w; run without a state on this system", path, errors.ErrUnsupported)
}
