package layout

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
)

// Segments are the names of the parts of an image, in order. An artefact keeps
// them apart, so that an update of the items alone does not carry the tower.
var Segments = []string{"header", "user", "items"}

// Image is a validated image. It shares the bytes it was opened on.
type Image struct {
	Shape Shape
	Map   Map
	bytes []byte
	h     header
}

// Bytes returns the image as the guest reads it; callers must not write to it.
func (im *Image) Bytes() []byte { return im.bytes }

// Split cuts a valid image into its segments, in the order of Segments.
func (im *Image) Split() [][]byte {
	items := im.h[hItemRows]
	return [][]byte{im.bytes[:headerSize], im.bytes[headerSize:items], im.bytes[items:]}
}

// imageLen is the length that header h calls for.
func imageLen(h *header, s Shape) uint64 {
	return uint64(h[hItemRows]) + uint64(rowsPad(s.Items)/4)*uint64(itemBlock(s))
}

// Pack lays p out as the guest reads it. It returns an error that wraps
// ErrParams or ErrShape where p is not valid.
func Pack(p Params) ([]byte, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	s := p.Shape
	h, err := newHeader(s, p.InputScale, p.UserInv)
	if err != nil {
		return nil, err
	}
	b := make([]byte, imageLen(&h, s))
	h.encode(b)
	packTower(b, &h, &p)
	for i := range s.Items {
		block := b[int(h[hItemRows])+i/4*itemBlock(s):]
		for d := range s.Dim {
			block[itemByte(d, i%4)] = byte(p.ItemRows[i*s.Dim+d])
		}
		putFloat(block, 4*s.itemK()+4*(i%4), p.ItemScale[i])
	}
	return b, nil
}

// itemByte is the place of dimension d of row r within a block of four rows.
func itemByte(d, r int) int { return d/8*32 + r*8 + d%8 }

// weightByte is the place of weight (r, c) of a packed matrix with k columns:
// [rows/2][k/8][2][8].
func weightByte(r, c, k int) int { return r/2*2*k + c/8*16 + r%2*8 + c%8 }

// packTower writes everything between the header and the item rows.
func packTower(b []byte, h *header, p *Params) {
	s := p.Shape
	putFloats(b, h[hType], p.Type)
	putFloats(b, h[hGap], p.Gap)
	putFloats(b, h[hNormGain], p.NormGain)
	putFloats(b, h[hNormBias], p.NormBias)
	for i, v := range p.Cold {
		binary.LittleEndian.PutUint16(b[int(h[hCold])+2*i:], uint16(v))
	}
	for l := range p.Blocks {
		block, at := &p.Blocks[l], h[hBlocks]+uint32(l)*h[hBlockStride]
		putFloats(b, at+h[hBlockScalars], block.scalars())
		putFloats(b, at+h[hBlockAttnGain], block.AttnNormGain)
		putFloats(b, at+h[hBlockAttnBias], block.AttnNormBias)
		putFloats(b, at+h[hBlockDistance], block.DistanceBias)
		putFloats(b, at+h[hBlockFFNGain], block.FFNNormGain)
		putFloats(b, at+h[hBlockFFNBias], block.FFNNormBias)
		for _, m := range s.maps(block) {
			for r := range m.Rows {
				pr := m.row(r)
				for c := range m.Cols {
					b[int(at+h[m.word])+weightByte(pr, m.col(c), m.k)] = byte(m.W[r*m.Cols+c])
				}
				putFloat(b, int(at+h[m.word+1])+4*pr, m.Scale[r])
				putFloat(b, int(at+h[m.word+2])+4*pr, m.Bias[r])
			}
		}
	}
}

// packedLinear says where a linear map lies: its header word, its padded
// columns, and the packed place of each of its rows and columns. Heads are
// padded to whole vectors, in the rows of QKV and in the columns of Out.
type packedLinear struct {
	*Linear
	word, k  int
	row, col func(int) int
}

func (s Shape) maps(b *Block) [4]packedLinear {
	same := func(i int) int { return i }
	head := func(i int) int { return i/s.headDim()*s.headPad() + i%s.headDim() }
	return [4]packedLinear{
		{&b.QKV, hBlockQKV, s.dimK(), head, same}, // 3H heads of q, k and v one after the other
		{&b.Out, hBlockOut, s.innerK(), same, head},
		{&b.Up, hBlockUp, s.dimK(), same, same},
		{&b.Down, hBlockDown, s.ffnK(), same, same},
	}
}

// Open checks an image byte by byte: header, ranges of all values, padding. What
// it accepts is exactly what Pack writes, so that the guest need not check
// anything again. The image keeps b, which must not change any more.
func Open(b []byte) (*Image, error) {
	h, s, err := parseHeader(b)
	if err != nil {
		return nil, err
	}
	if n := imageLen(&h, s); uint64(len(b)) != n {
		return nil, fmt.Errorf("%w: it has %d bytes, its header calls for %d", ErrImage, len(b), n)
	}
	im := &Image{Shape: s, Map: h.memoryMap(), bytes: b, h: h}
	if err := im.checkItems(); err != nil {
		return nil, err
	}
	p := im.tower()
	v := validator{}
	p.checkTower(&v)
	if v.err != nil {
		return nil, fmt.Errorf("%w: %w", ErrImage, v.err)
	}
	// Padding is whatever packing the same values again does not write.
	again := make([]byte, h[hItemRows])
	h.encode(again)
	packTower(again, &h, &p)
	if !bytes.Equal(again, b[:len(again)]) {
		return nil, fmt.Errorf("%w: its padding is not zero", ErrImage)
	}
	return im, nil
}

func (im *Image) checkItems() error {
	s, k := im.Shape, im.Shape.itemK()
	for at, i := int(im.h[hItemRows]), 0; i < s.Items; at, i = at+itemBlock(s), i+4 {
		block := im.bytes[at : at+itemBlock(s)]
		for r := range 4 {
			scale := getFloat(block, 4*k+4*r)
			if err := checkFloats("item scale", []float32{scale}, false); err != nil {
				return fmt.Errorf("%w: item %d: %w", ErrImage, i+r, err)
			}
			for d := range k {
				v := int8(block[itemByte(d, r)])
				if (i+r >= s.Items || d >= s.Dim) && v != 0 || v == -128 {
					return fmt.Errorf("%w: item %d holds %d at position %d", ErrImage, i+r, v, d)
				}
			}
			if i+r >= s.Items && math.Float32bits(scale) != 0 {
				return fmt.Errorf("%w: the padding behind the last item is not zero", ErrImage)
			}
		}
	}
	return nil
}

// tower unpacks everything but the item rows.
func (im *Image) tower() Params {
	s, b, h := im.Shape, im.bytes, &im.h
	p := Params{
		Shape: s, InputScale: math.Float32frombits(h[hInputScale]), UserInv: math.Float32frombits(h[hUserInv]),
		Type: getFloats(b, h[hType], s.EventTypes*s.Dim), Gap: getFloats(b, h[hGap], s.GapBuckets*s.Dim),
		NormGain: getFloats(b, h[hNormGain], s.Dim), NormBias: getFloats(b, h[hNormBias], s.Dim),
		Cold: make([]int16, s.Dim), Blocks: make([]Block, s.Layers),
	}
	for i := range p.Cold {
		p.Cold[i] = int16(binary.LittleEndian.Uint16(b[int(h[hCold])+2*i:]))
	}
	for l := range p.Blocks {
		block, at := &p.Blocks[l], h[hBlocks]+uint32(l)*h[hBlockStride]
		block.setScalars(getFloats(b, at+h[hBlockScalars], scalarCount))
		block.AttnNormGain = getFloats(b, at+h[hBlockAttnGain], s.Dim)
		block.AttnNormBias = getFloats(b, at+h[hBlockAttnBias], s.Dim)
		block.DistanceBias = getFloats(b, at+h[hBlockDistance], s.Heads*s.Window)
		block.FFNNormGain = getFloats(b, at+h[hBlockFFNGain], s.Dim)
		block.FFNNormBias = getFloats(b, at+h[hBlockFFNBias], s.Dim)
		block.QKV, block.Out = newLinear(3*s.Dim, s.Dim), newLinear(s.Dim, s.Dim)
		block.Up, block.Down = newLinear(s.FFN, s.Dim), newLinear(s.Dim, s.FFN)
		for _, m := range s.maps(block) {
			for r := range m.Rows {
				pr := m.row(r)
				for c := range m.Cols {
					m.W[r*m.Cols+c] = int8(b[int(at+h[m.word])+weightByte(pr, m.col(c), m.k)])
				}
				m.Scale[r] = getFloat(b, int(at+h[m.word+1])+4*pr)
				m.Bias[r] = getFloat(b, int(at+h[m.word+2])+4*pr)
			}
		}
	}
	return p
}

// Params unpacks the image; the result shares nothing with it.
func (im *Image) Params() Params {
	s, k := im.Shape, im.Shape.itemK()
	p := im.tower()
	p.ItemRows, p.ItemScale = make([]int8, s.Items*s.Dim), make([]float32, s.Items)
	for i := range s.Items {
		block := im.bytes[int(im.h[hItemRows])+i/4*itemBlock(s):]
		for d := range s.Dim {
			p.ItemRows[i*s.Dim+d] = int8(block[itemByte(d, i%4)])
		}
		p.ItemScale[i] = getFloat(block, 4*k+4*(i%4))
	}
	return p
}

func newLinear(rows, cols int) Linear {
	return Linear{Rows: rows, Cols: cols, W: make([]int8, rows*cols), Scale: make([]float32, rows), Bias: make([]float32, rows)}
}

func putFloat(b []byte, at int, v float32) {
	binary.LittleEndian.PutUint32(b[at:], math.Float32bits(v))
}

func putFloats(b []byte, at uint32, values []float32) {
	for i, v := range values {
		putFloat(b, int(at)+4*i, v)
	}
}

func getFloat(b []byte, at int) float32 {
	return math.Float32frombits(binary.LittleEndian.Uint32(b[at:]))
}

func getFloats(b []byte, at uint32, n int) []float32 {
	values := make([]float32, n)
	for i := range values {
		values[i] = getFloat(b, int(at)+4*i)
	}
	return values
}
