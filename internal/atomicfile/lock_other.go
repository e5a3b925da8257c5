//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package atomicfile

import (
	"context"
	"errors"
	"fmt"
)

// Lock has no way here to keep two processes apart.
func Lock(_ context.Context, path string) (unlock func(), err error) {
	return nil, fmt.Errorf("%s: %w; run without a state on this system", path, errors.ErrUnsupported)
}
