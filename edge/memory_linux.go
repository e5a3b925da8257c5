package edge

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/wisp-project/wisp/internal/layout"
)

// sharedImage holds the image of an artefact once, for all sandboxes of a runtime:
// in memory that nobody can change any more (a sealed memfd), or else in a file
// without a name. Sandboxes map it, and have pages of their own where they write.
type sharedImage struct {
	file    *os.File
	size    int      // whole pages of the system; zeros fill up the last one
	pagemap *os.File // says which pages of this process exist; nil where nothing does
}

// createMemfd is a variable so that a test can do without.
var createMemfd = unix.MemfdCreate

// shareImage copies the image b, which may then be forgotten.
func shareImage(b []byte) (*sharedImage, error) {
	page := os.Getpagesize()
	im := &sharedImage{size: (len(b) + page - 1) / page * page}
	err := im.fill(b)
	if err != nil {
		im.close()
		return nil, fmt.Errorf("%w: no place for an image of %d bytes: %w; give the process more memory, or room in %s", ErrSystem, len(b), err, os.TempDir())
	}
	im.pagemap, err = os.Open("/proc/self/pagemap")
	if err != nil {
		im.pagemap = nil // wiping then costs page faults, nothing else
	}
	return im, nil
}

func (im *sharedImage) fill(b []byte) error {
	fd, err := createMemfd("wisp-image", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return im.fillFile(b)
	}
	im.file = os.NewFile(uintptr(fd), "wisp-image")
	if _, err := im.file.Write(b); err != nil {
		return err
	}
	if err := im.file.Truncate(int64(im.size)); err != nil {
		return err
	}
	_, err = unix.FcntlInt(im.file.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_SEAL|unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_WRITE)
	return err
}

// fillFile is fill for systems without memfd.
func (im *sharedImage) fillFile(b []byte) error {
	w, err := os.CreateTemp("", "wisp-image-")
	if err != nil {
		return err
	}
	defer w.Close()           //nolint:errcheck // whoever maps it reads what was written
	defer os.Remove(w.Name()) //nolint:errcheck // the temporary folder is cleaned by others too
	if _, err := w.Write(b); err != nil {
		return err
	}
	if err := w.Truncate(int64(im.size)); err != nil {
		return err
	}
	im.file, err = os.Open(w.Name())
	return err
}

func (im *sharedImage) close() {
	for _, f := range []*os.File{im.file, im.pagemap} {
		if f != nil {
			_ = f.Close() // opened for reading, or nobody's any more
		}
	}
}

// newMemory reserves size bytes, zero but for the image, which is mapped. Pages come
// as they are touched: to fetch those of the image ahead takes longer than a request
// waits for the ones it needs.
func (im *sharedImage) newMemory(size int) (*memory, error) {
	const access, private = unix.PROT_READ | unix.PROT_WRITE, unix.MAP_PRIVATE | unix.MAP_NORESERVE
	p, err := unix.MmapPtr(-1, 0, nil, uintptr(size), access, private|unix.MAP_ANON)
	if err != nil {
		return nil, fmt.Errorf("%w: no address space for a sandbox of %d bytes: %w; allow fewer sandboxes", ErrSystem, size, err)
	}
	m := &memory{bytes: unsafe.Slice((*byte)(p), size), image: im}
	if _, err := unix.MmapPtr(int(im.file.Fd()), 0, unsafe.Add(p, layout.ImageBase), uintptr(im.size), access, private|unix.MAP_FIXED); err != nil {
		m.release()
		return nil, fmt.Errorf("%w: map the image: %w; allow fewer sandboxes, or more mappings (vm.max_map_count)", ErrSystem, err)
	}
	return m, nil
}

// release gives the memory back; nobody may use it any more.
func (m *memory) release() {
	if m.bytes != nil {
		_ = unix.MunmapPtr(unsafe.Pointer(unsafe.SliceData(m.bytes)), uintptr(len(m.bytes))) // it fails for arguments that mmap never returned
		m.bytes = nil
	}
}

// kept is the number of pages that stay with a sandbox over a wipe, in each part
// of its memory: a little more than a usual request touches.
const kept = 20

// zero clears the bytes from, to before until, which begin and end with pages and
// are not of the image. A page fault costs many times what it costs to clear a
// page; so the first pages in use are cleared and stay, and only what lies behind
// them goes back to the system.
func (m *memory) zero(from, until uint32) {
	const exists = 1<<63 | 1<<62 // in memory, or swapped out
	var entries [512]uint64
	part, size := m.bytes[from:until], os.Getpagesize()
	raw := unsafe.Slice((*byte)(unsafe.Pointer(&entries)), len(entries)*8)
	for cleared := 0; cleared < kept && len(part) > 0; {
		n := min(len(part)/size, len(entries))
		if m.image.pagemap == nil {
			break
		}
		at := int64(uintptr(unsafe.Pointer(unsafe.SliceData(part)))/uintptr(size)) * 8
		if got, err := m.image.pagemap.ReadAt(raw[:n*8], at); err != nil || got < n*8 {
			break
		}
		for _, e := range entries[:n] {
			if e&exists != 0 {
				if cleared == kept {
					break
				}
				clear(part[:size])
				cleared++
			}
			part = part[size:]
		}
	}
	if len(part) > 0 {
		// It fails only for memory that is not mapped, or locked by somebody.
		if err := unix.Madvise(part, unix.MADV_DONTNEED); err != nil {
			clear(part)
		}
	}
}
