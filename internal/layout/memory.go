package layout

// The guest's memory, from address 0: stack, the kernel's own data, the image,
// the scratch area. The first two lie below ImageBase.
const (
	// ImageBase is the address of the image.
	ImageBase = 2 * pageSize
	// StackSize is the size of the guest's stack, at address 0, so that an
	// overflow traps.
	StackSize = pageSize

	pageSize  = 1 << 16
	maxMemory = 1<<32 - pageSize
	alignment = 64
	// maxListItems bounds the list of a request.
	maxListItems = 1 << 16
)

// Map says where things lie in the memory of a guest that runs an image.
type Map struct {
	Request, Answer  uint32 // addresses
	Overlay          uint32 // where the image ends, in whole pages; see Overlay
	Scratch, End     uint32 // everything the guest writes lies in [Scratch, End), its stack apart
	Pages            uint32 // of 64 KiB: the memory that the guest needs
	MaxHistory, MaxK int    // limits of a request
	MaxList          int
	MaxInserted      int // items of an Overlay
	MaxLabels        int // labels that rules may name, those of inserted items included
	MaxRuleWords     int
	Items            int // items that requests may name; see With
	MaxExplained     int
}

func (h *header) memoryMap() Map {
	return Map{
		Request: h[hRequest], Answer: h[hAnswer], Overlay: h[hOverlay], Scratch: h[hState], End: h[hEnd], Pages: h[hEnd] / pageSize,
		MaxHistory: int(h[hMaxHistory]), MaxK: int(h[hMaxK]), MaxList: int(h[hMaxList]), MaxInserted: int(h[hMaxInserted]),
		MaxLabels: int(h[hMaxLabels]), MaxRuleWords: int(h[hMaxRuleWords]), Items: int(h[hItems]),
		MaxExplained: int(h[hMaxExplained]),
	}
}
