package edge

// memory is the linear memory of one sandbox: all that its guest may ever have,
// reserved when the sandbox is made. wazero gets as much of it as the guest has
// grown to. It outlives the module, for a module that wazero closes on its own (a
// timeout does that) must not take memory away that the host still looks at.
type memory struct {
	bytes   []byte
	image   *sharedImage
	refused bool // the guest wanted more
}

// Reallocate hands out the first size bytes, or nil where there are not as many.
func (m *memory) Reallocate(size uint64) []byte {
	if size > uint64(len(m.bytes)) {
		m.refused = true
		return nil
	}
	return m.bytes[:size]
}

// Free does nothing: the sandbox releases its memory.
func (m *memory) Free() {}
