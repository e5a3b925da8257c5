package layout

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Magic opens every image: "wisp" in the first four bytes.
const Magic = 0x70736977

// headerSize is the length of the header segment in bytes.
const headerSize = 512

// The words of the header. Everything the guest needs to find its way is here,
// so that it computes no offset itself: dimensions, padded dimensions, offsets
// into the image, offsets into a block, and addresses of the scratch area. All
// but the dimensions and the two floats follow from them; Open checks that they do.
const (
	hMagic = iota
	hABI
	hItems
	hDim
	hLayers
	hHeads
	hFFN
	hWindow
	hEventTypes
	hGapBuckets
	hInputScale // float32
	hUserInv    // float32

	hReach
	hDimK
	hFFNK
	hHeadDim
	hHeadPad
	hInner
	hInnerK
	hItemK

	// Offsets from the start of the image.
	hType     // (E, D) float32
	hGap      // (G, D) float32
	hNormGain // (D) float32
	hNormBias // (D) float32
	hCold     // (itemK) int16
	hBlocks   // L blocks, hBlockStride apart
	hBlockStride
	hItemRows // blocks of four rows: [itemK/8][4][8] int8, then four float32 scales

	// Offsets from the start of a block.
	hBlockScalars  // scalarCount float32
	hBlockAttnGain // (D) float32
	hBlockAttnBias // (D) float32
	hBlockDistance // (H, W) float32
	hBlockQKV      // packed (3·inner, dimK) int8
	hBlockQKVScale // (3·inner) float32
	hBlockQKVBias  // (3·inner) float32
	hBlockOut      // packed (D, innerK) int8
	hBlockOutScale
	hBlockOutBias
	hBlockFFNGain
	hBlockFFNBias
	hBlockUp // packed (FFN, dimK) int8
	hBlockUpScale
	hBlockUpBias
	hBlockDown // packed (D, ffnK) int8
	hBlockDownScale
	hBlockDownBias

	// Addresses in the guest's memory: the scratch area behind the image.
	hState
	hRequest
	hAnswer
	hX      // (reach+3, D) float32, the residual stream
	hNorm   // (D) float32, a normalised row
	hQ      // (4, inner) int16
	hK      // (reach+3, inner) int16
	hV      // (reach+3, inner) int16
	hAct    // packed (4, max K) int16, the input of a matrix product
	hAcc    // (4, max rows) int32, its output
	hScores // (W) float32
	hProbs  // (W) int32
	hUser   // (itemK) int16
	hHeap   // maxK hits
	hSeen   // (maxHistory + maxList) uint32
	hBits   // a bit for each item
	hEnd

	hMaxHistory
	hMaxK
	hMaxList
	headerWords
)

var headerNames = [headerWords]string{
	hMagic: "MAGIC", hABI: "ABI", hItems: "ITEMS", hDim: "DIM", hLayers: "LAYERS", hHeads: "HEADS", hFFN: "FFN",
	hWindow: "WINDOW", hEventTypes: "EVENT_TYPES", hGapBuckets: "GAP_BUCKETS", hInputScale: "INPUT_SCALE", hUserInv: "USER_INV",
	hReach: "REACH", hDimK: "DIM_K", hFFNK: "FFN_K", hHeadDim: "HEAD_DIM", hHeadPad: "HEAD_PAD", hInner: "INNER", hInnerK: "INNER_K", hItemK: "ITEM_K",
	hType: "TYPE", hGap: "GAP", hNormGain: "NORM_GAIN", hNormBias: "NORM_BIAS", hCold: "COLD", hBlocks: "BLOCKS", hBlockStride: "BLOCK_STRIDE", hItemRows: "ITEM_ROWS",
	hBlockScalars: "BLOCK_SCALARS", hBlockAttnGain: "BLOCK_ATTN_GAIN", hBlockAttnBias: "BLOCK_ATTN_BIAS", hBlockDistance: "BLOCK_DISTANCE",
	hBlockQKV: "BLOCK_QKV", hBlockQKVScale: "BLOCK_QKV_SCALE", hBlockQKVBias: "BLOCK_QKV_BIAS",
	hBlockOut: "BLOCK_OUT", hBlockOutScale: "BLOCK_OUT_SCALE", hBlockOutBias: "BLOCK_OUT_BIAS",
	hBlockFFNGain: "BLOCK_FFN_GAIN", hBlockFFNBias: "BLOCK_FFN_BIAS",
	hBlockUp: "BLOCK_UP", hBlockUpScale: "BLOCK_UP_SCALE", hBlockUpBias: "BLOCK_UP_BIAS",
	hBlockDown: "BLOCK_DOWN", hBlockDownScale: "BLOCK_DOWN_SCALE", hBlockDownBias: "BLOCK_DOWN_BIAS",
	hState: "STATE", hRequest: "REQUEST", hAnswer: "ANSWER", hX: "X", hNorm: "NORM", hQ: "Q", hK: "K", hV: "V", hAct: "ACT", hAcc: "ACC",
	hScores: "SCORES", hProbs: "PROBS", hUser: "USER", hHeap: "HEAP", hSeen: "SEEN", hBits: "BITS", hEnd: "END",
	hMaxHistory: "MAX_HISTORY", hMaxK: "MAX_K", hMaxList: "MAX_LIST",
}

// header is the parsed form of the header segment.
type header [headerWords]uint32

// placer hands out aligned ranges one after the other.
type placer struct{ at uint64 }

func (p *placer) place(bytes, align int) uint32 {
	a := uint64(align)
	p.at = (p.at + a - 1) / a * a
	start := p.at
	p.at += uint64(bytes)
	return uint32(start)
}

// newHeader computes every word from the shape and the two scales. It fails
// where image and scratch area do not fit into 4 GiB.
func newHeader(s Shape, inputScale, userInv float32) (header, error) {
	var h header
	if err := s.Validate(); err != nil {
		return h, err
	}
	set := func(word, value int) { h[word] = uint32(value) }
	set(hMagic, Magic)
	set(hABI, ABI)
	set(hItems, s.Items)
	set(hDim, s.Dim)
	set(hLayers, s.Layers)
	set(hHeads, s.Heads)
	set(hFFN, s.FFN)
	set(hWindow, s.Window)
	set(hEventTypes, s.EventTypes)
	set(hGapBuckets, s.GapBuckets)
	h[hInputScale], h[hUserInv] = math.Float32bits(inputScale), math.Float32bits(userInv)
	set(hReach, s.Reach())
	set(hDimK, s.dimK())
	set(hFFNK, s.ffnK())
	set(hHeadDim, s.headDim())
	set(hHeadPad, s.headPad())
	set(hInner, s.inner())
	set(hInnerK, s.innerK())
	set(hItemK, s.itemK())

	const vector = 16 // bytes
	image := placer{at: headerSize}
	floats := func(p *placer, n int) uint32 { return p.place(4*n, vector) }
	h[hType] = floats(&image, s.EventTypes*s.Dim)
	h[hGap] = floats(&image, s.GapBuckets*s.Dim)
	h[hNormGain], h[hNormBias] = floats(&image, s.Dim), floats(&image, s.Dim)
	h[hCold] = image.place(2*s.itemK(), vector)

	var block placer
	h[hBlockScalars] = floats(&block, scalarCount)
	h[hBlockAttnGain], h[hBlockAttnBias] = floats(&block, s.Dim), floats(&block, s.Dim)
	h[hBlockDistance] = floats(&block, s.Heads*s.Window)
	linear := func(first, rows, k int) {
		h[first] = block.place(rowsPad(rows)*k, vector)
		h[first+1], h[first+2] = floats(&block, rowsPad(rows)), floats(&block, rowsPad(rows))
	}
	linear(hBlockQKV, 3*s.inner(), s.dimK())
	linear(hBlockOut, s.Dim, s.innerK())
	h[hBlockFFNGain], h[hBlockFFNBias] = floats(&block, s.Dim), floats(&block, s.Dim)
	linear(hBlockUp, s.FFN, s.dimK())
	linear(hBlockDown, s.Dim, s.ffnK())
	set(hBlockStride, roundUp(int(block.at), alignment))
	h[hBlocks] = image.place(s.Layers*int(h[hBlockStride]), alignment)
	h[hItemRows] = image.place(rowsPad(s.Items)/4*itemBlock(s), alignment)

	end := ImageBase + image.at
	scratch := placer{at: (end + pageSize - 1) / pageSize * pageSize}
	rows := s.Reach() + 3 // a block of four rows may start at the last one
	maxK, maxList := min(s.Items, maxAnswerItems), min(s.Items, maxListItems)
	h[hState] = scratch.place(4*stateWords, alignment)
	h[hRequest] = scratch.place(4*(requestWords+eventWords*s.Reach()+maxList), alignment)
	h[hAnswer] = scratch.place(4*(answerWords+hitWords*max(maxK, maxList)), alignment)
	h[hX] = scratch.place(4*rows*s.Dim, alignment)
	h[hNorm] = scratch.place(4*roundUp(s.Dim, 8), alignment)
	h[hQ] = scratch.place(2*4*s.inner(), alignment)
	h[hK] = scratch.place(2*rows*s.inner(), alignment)
	h[hV] = scratch.place(2*rows*s.inner(), alignment)
	h[hAct] = scratch.place(2*4*max(s.dimK(), s.innerK(), s.ffnK()), alignment)
	h[hAcc] = scratch.place(4*4*max(rowsPad(3*s.inner()), rowsPad(s.FFN), rowsPad(s.Dim)), alignment)
	h[hScores] = scratch.place(4*s.Window, alignment)
	h[hProbs] = scratch.place(4*s.Window, alignment)
	h[hUser] = scratch.place(2*s.itemK(), alignment)
	h[hHeap] = scratch.place(4*hitWords*maxK, alignment)
	h[hSeen] = scratch.place(4*(s.Reach()+maxList), alignment)
	h[hBits] = scratch.place(roundUp(s.Items, 32)/8, alignment)
	h[hEnd] = scratch.place(0, pageSize)
	if scratch.at > maxMemory {
		return header{}, fmt.Errorf("%w: image and scratch area need %d bytes, a guest may have %d: train with fewer items, dims or layers",
			ErrShape, scratch.at, uint64(maxMemory))
	}
	set(hMaxHistory, s.Reach())
	set(hMaxK, maxK)
	set(hMaxList, maxList)
	return h, nil
}

// itemBlock is the number of bytes of four item rows with their scales.
func itemBlock(s Shape) int { return 4*s.itemK() + 16 }

// encode writes the header segment.
func (h *header) encode(dst []byte) {
	for i, w := range h {
		binary.LittleEndian.PutUint32(dst[4*i:], w)
	}
}

// parseHeader reads a header segment and checks that every word is the one that
// its dimensions call for.
func parseHeader(b []byte) (header, Shape, error) {
	var h header
	if len(b) < headerSize {
		return h, Shape{}, fmt.Errorf("%w: %d bytes are too few for a header of %d", ErrImage, len(b), headerSize)
	}
	for i := range h {
		h[i] = binary.LittleEndian.Uint32(b[4*i:])
	}
	if h[hMagic] != Magic {
		return h, Shape{}, fmt.Errorf("%w: it does not start with the mark of an image", ErrImage)
	}
	if h[hABI] != ABI {
		return h, Shape{}, fmt.Errorf("%w: it has ABI %d, this program reads ABI %d", ErrImage, h[hABI], ABI)
	}
	for _, c := range b[4*headerWords : headerSize] {
		if c != 0 {
			return h, Shape{}, fmt.Errorf("%w: the padding of the header is not zero", ErrImage)
		}
	}
	s := Shape{
		Items: int(h[hItems]), Dim: int(h[hDim]), Layers: int(h[hLayers]), Heads: int(h[hHeads]), FFN: int(h[hFFN]),
		Window: int(h[hWindow]), EventTypes: int(h[hEventTypes]), GapBuckets: int(h[hGapBuckets]),
	}
	scales := []float32{math.Float32frombits(h[hInputScale]), math.Float32frombits(h[hUserInv])}
	if err := checkFloats("scale", scales, false); err != nil {
		return h, Shape{}, fmt.Errorf("%w: header: %w", ErrImage, err)
	}
	want, err := newHeader(s, scales[0], scales[1])
	if err != nil {
		return h, Shape{}, fmt.Errorf("%w: header: %w", ErrImage, err)
	}
	for i := range h {
		if h[i] != want[i] {
			return h, Shape{}, fmt.Errorf("%w: header word %s is %d, these dimensions call for %d", ErrImage, headerNames[i], h[i], want[i])
		}
	}
	return h, s, nil
}
