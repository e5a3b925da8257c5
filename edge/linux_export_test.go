//go:build linux

package edge

import "os"

// SetMemfd replaces the system's memfd_create, and returns what puts it back.
func SetMemfd(create func(string, int) (int, error)) (restore func()) {
	before := createMemfd
	createMemfd = create
	return func() { createMemfd = before }
}

// ImageFile returns the file that holds the image of r.
func ImageFile(r *Runtime) *os.File { return r.image.shared.file }
