//go:build !linux

package edge

import "github.com/wisp-project/wisp/internal/layout"

// sharedImage is the image of an artefact; each sandbox gets a copy of it.
type sharedImage struct{ bytes []byte }

// shareImage shares b, which must not change any more.
func shareImage(b []byte) (*sharedImage, error) { return &sharedImage{bytes: b}, nil }

func (im *sharedImage) close() {}

// newMemory makes a memory of size bytes, zero but for the image.
func (im *sharedImage) newMemory(size int) (*memory, error) {
	m := &memory{bytes: make([]byte, size), image: im}
	copy(m.bytes[layout.ImageBase:], im.bytes)
	return m, nil
}

// release leaves the memory to the garbage collector.
func (m *memory) release() { m.bytes = nil }

// zero clears the bytes from, to before until.
func (m *memory) zero(from, until uint32) { clear(m.bytes[from:until]) }
