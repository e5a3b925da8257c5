//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package edge

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// private reports that somebody but the user of this process, and root, could have
// written a file or into a folder.
func private(info fs.FileInfo) error {
	if m := info.Mode().Perm(); m&0o022 != 0 {
		return fmt.Errorf("others may write to it (mode %v)", m)
	}
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return errors.New("whose it is cannot be told")
	}
	if s.Uid != 0 && int(s.Uid) != os.Geteuid() {
		return fmt.Errorf("it belongs to user %d, this process runs as user %d", s.Uid, os.Geteuid())
	}
	return nil
}
