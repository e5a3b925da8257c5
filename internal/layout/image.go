package layout

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
)

// Segments are the names of the parts of an image, in order. An artefact keeps
// them apart, so that an update of the items alone does not carry the towers.
// The tokenizer and the text encoder are empty where the image has none, and so
// are the vectors of the items' texts, the labels, the bounds, the attributes and the
// ratings.
var Segments = []string{"header", "tokenizer", "text", "user", "items", "texts", "labels", "bounds", "attributes", "ratings"}

// TextSegments are those that only requests with a text need.
var TextSegments = []string{"tokenizer", "text", "texts"}

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
	var parts [][]byte
	from := uint32(0)
	for _, to := range []uint32{headerSize, im.h[hWord], im.h[hUserStart], im.h[hItemRows], im.h[hTextRows], im.h[hLabelFirst], im.h[hBoundTransform], im.h[hAttributeRows], im.h[hRateMap], im.h[hImageEnd]} {
		parts = append(parts, im.bytes[from:to:to])
		from = to
	}
	return parts
}

// Pack lays p out as the guest reads it. It returns an error that wraps
// ErrParams or ErrShape where p is not valid.
func Pack(p Params) ([]byte, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	h, err := newHeader(p.Shape, p.headerFloats())
	if err != nil {
		return nil, err
	}
	b := make([]byte, h[hImageEnd])
	packTowers(b, &h, &p)
	for _, t := range p.tables(&h) {
		t.pack(b)
	}
	packLabels(b[h[hLabelFirst]:h[hBoundTransform]], &h, p.Labels)
	p.Bounds.pack(b, &h, p.Shape)
	packAttributes(b, &h, p.Attributes)
	p.Ratings.pack(b, &h, p.Shape)
	return b, nil
}

func (p *Params) headerFloats() headerFloats {
	f := headerFloats{inputScale: p.InputScale, userInv: p.UserInv}
	if p.Text != nil {
		f.textEpsilon = p.Text.NormEpsilon
	}
	return f
}

// table is a table of rows that the guest takes dot products with: blocks of
// four, each [k/2][4][2] int8 and then four scales.
type table struct {
	name        string
	at, n, cols int
	end         int     // of the place that it has, padding included
	largest     float32 // of the scales
	values      []int8
	scales      []float32
}

// tables returns those of an image of p: items, and their texts if it has them.
func (p *Params) tables(h *header) []table {
	s := p.Shape
	all := []table{{"item", int(h[hItemRows]), s.Items, s.Dim, int(h[hTextRows]), floatMax, p.ItemRows, p.ItemScale}}
	if s.Text.ItemTexts && p.Text != nil {
		all = append(all, table{"item text", int(h[hTextRows]), s.Items, s.Text.Dim, int(h[hLabelFirst]), 1, p.Text.ItemTexts.W, p.Text.ItemTexts.Scale})
	}
	if s.Attributes.Count > 0 && p.Attributes != nil {
		rows := p.Attributes.Rows
		all = append(all, table{"attribute", int(h[hAttributeRows]), s.Attributes.Count, s.Dim, int(h[hAttributeFirst]), floatMax, rows.W, rows.Scale})
	}
	return all
}

func (t *table) k() int { return roundUp(t.cols, 8) }

// block returns the bytes of row i's block of four in image b.
func (t *table) block(b []byte, i int) []byte {
	size := rowBlock(t.k())
	return b[t.at+i/4*size:][:size]
}

func (t *table) pack(b []byte) {
	for i := range t.n {
		block := t.block(b, i)
		for d := range t.cols {
			block[itemByte(d, i%4)] = byte(t.values[i*t.cols+d])
		}
		putFloat(block, 4*t.k()+4*(i%4), t.scales[i])
	}
}

func (t *table) unpack(b []byte) {
	for i := range t.n {
		block := t.block(b, i)
		for d := range t.cols {
			t.values[i*t.cols+d] = int8(block[itemByte(d, i%4)])
		}
		t.scales[i] = getFloat(block, 4*t.k()+4*(i%4))
	}
}

// check checks the table in image b, the padding included.
func (t *table) check(b []byte) error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: "+t.name+" "+format, append([]any{ErrImage}, args...)...)
	}
	for i := 0; i < t.n; i += 4 {
		block := t.block(b, i)
		for r := range 4 {
			scale := getFloat(block, 4*t.k()+4*r)
			if err := checkFloats("scale", []float32{scale}, false); err != nil {
				return bad("%d: %w", i+r, err)
			}
			if scale > t.largest {
				return bad("%d: scale %v is above %v", i+r, scale, t.largest)
			}
			for d := range t.k() {
				v := int8(block[itemByte(d, r)])
				if (i+r >= t.n || d >= t.cols) && v != 0 || v == -128 {
					return bad("%d holds %d at position %d", i+r, v, d)
				}
			}
			if i+r >= t.n && math.Float32bits(scale) != 0 {
				return bad("table: the padding behind the last row is not zero")
			}
		}
	}
	for _, c := range b[t.at+rowsPad(t.n)/4*rowBlock(t.k()) : t.end] {
		if c != 0 {
			return bad("table: the padding behind it is not zero")
		}
	}
	return nil
}

// itemByte is the place of dimension d of row r within a block of four rows.
func itemByte(d, r int) int { return d/2*8 + r*2 + d%2 }

// weightByte is the place of weight (r, c) of a packed matrix with k columns:
// [rows/8][k/2][8][2].
func weightByte(r, c, k int) int { return r/8*8*k + c/2*16 + r%8*2 + c%2 }

// packTowers writes everything before the item rows.
func packTowers(b []byte, h *header, p *Params) {
	s := p.Shape
	h.encode(b)
	if p.Text != nil {
		p.Text.pack(b, h, s)
	}
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
			m.pack(b, h, at)
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

// pack writes m, whose header words are offsets from at.
func (m *packedLinear) pack(b []byte, h *header, at uint32) {
	for r := range m.Rows {
		pr := m.row(r)
		for c := range m.Cols {
			b[int(at+h[m.word])+weightByte(pr, m.col(c), m.k)] = byte(m.W[r*m.Cols+c])
		}
		putFloat(b, int(at+h[m.word+1])+4*pr, m.Scale[r])
		putFloat(b, int(at+h[m.word+2])+4*pr, m.Bias[r])
	}
}

// unpack is the reverse of pack.
func (m *packedLinear) unpack(b []byte, h *header, at uint32) {
	for r := range m.Rows {
		pr := m.row(r)
		for c := range m.Cols {
			m.W[r*m.Cols+c] = int8(b[int(at+h[m.word])+weightByte(pr, m.col(c), m.k)])
		}
		m.Scale[r] = getFloat(b, int(at+h[m.word+1])+4*pr)
		m.Bias[r] = getFloat(b, int(at+h[m.word+2])+4*pr)
	}
}

func same(i int) int { return i }

// headPlace returns where the values of concatenated heads of a width lie when
// each is filled up to pad.
func headPlace(width, pad int) func(int) int {
	return func(i int) int { return i/width*pad + i%width }
}

func (s Shape) maps(b *Block) [4]packedLinear {
	head := headPlace(s.headDim(), s.headPad())
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
	if uint64(len(b)) != uint64(h[hImageEnd]) {
		return nil, fmt.Errorf("%w: it has %d bytes, its header calls for %d", ErrImage, len(b), h[hImageEnd])
	}
	im := &Image{Shape: s, Map: h.memoryMap(), bytes: b, h: h}
	p := im.towers()
	if p.Attributes, err = unpackAttributes(b, &h, s); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrImage, err)
	}
	for _, t := range p.tables(&h) {
		if err := t.check(b); err != nil {
			return nil, err
		}
	}
	v := validator{}
	p.checkTowers(&v)
	if p.Labels, err = unpackLabels(b, &h); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrImage, err)
	}
	v.checkLabels(p.Labels, s)
	p.Bounds = unpackBounds(b, &h, s)
	p.Bounds.check(&v, s)
	if p.Attributes != nil { // their rows were checked as a table
		p.Attributes.Rows = Rows{W: make([]int8, s.Attributes.Count*s.Dim), Scale: make([]float32, s.Attributes.Count)}
	}
	v.checkAttributes(p.Attributes, s)
	if p.Ratings, err = openRatings(b, &h, s); err != nil {
		return nil, err
	}
	v.checkRatings(p.Ratings, s)
	if v.err != nil {
		return nil, fmt.Errorf("%w: %w", ErrImage, v.err)
	}
	// Padding is whatever packing the same values again does not write.
	again := make([]byte, h[hItemRows])
	packTowers(again, &h, &p)
	if !bytes.Equal(again, b[:len(again)]) {
		return nil, fmt.Errorf("%w: its padding is not zero", ErrImage)
	}
	// The same goes for the labels: one direction follows from the other.
	again = make([]byte, h[hBoundTransform]-h[hLabelFirst])
	packLabels(again, &h, p.Labels)
	if !bytes.Equal(again, b[h[hLabelFirst]:h[hBoundTransform]]) {
		return nil, fmt.Errorf("%w: the items of its labels are not those with the labels, or the padding is not zero", ErrImage)
	}
	again = make([]byte, h[hImageEnd])
	if s.BoundHead > 0 {
		p.Bounds.pack(again, &h, s)
	}
	if from, to := h[hBoundTransform], h[hAttributeRows]; !bytes.Equal(again[from:to], b[from:to]) {
		return nil, fmt.Errorf("%w: the padding of its bounds is not zero", ErrImage)
	}
	packAttributes(again, &h, p.Attributes)
	if from, to := h[hAttributeFirst], h[hRateMap]; !bytes.Equal(again[from:to], b[from:to]) {
		return nil, fmt.Errorf("%w: the padding of its attributes is not zero", ErrImage)
	}
	return im, nil
}

// towers unpacks everything but the tables of items.
func (im *Image) towers() Params {
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
			m.unpack(b, h, at)
		}
	}
	if s.Text.Dim > 0 {
		p.Text = unpackText(b, h, s)
	}
	return p
}

// Params unpacks the image; the result shares nothing with it.
func (im *Image) Params() Params {
	s := im.Shape
	p := im.towers()
	p.ItemRows, p.ItemScale = make([]int8, s.Items*s.Dim), make([]float32, s.Items)
	if s.Text.ItemTexts {
		p.Text.ItemTexts = Rows{W: make([]int8, s.Items*s.Text.Dim), Scale: make([]float32, s.Items)}
	}
	if a, err := unpackAttributes(im.bytes, &im.h, s); err == nil && a != nil { // Open has seen them
		a.Rows = Rows{W: make([]int8, s.Attributes.Count*s.Dim), Scale: make([]float32, s.Attributes.Count)}
		p.Attributes = a
	}
	for _, t := range p.tables(&im.h) {
		t.unpack(im.bytes)
	}
	p.Labels = im.Labels()
	p.Bounds = unpackBounds(im.bytes, &im.h, s)
	p.Ratings = unpackRatings(im.bytes, &im.h, s)
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
