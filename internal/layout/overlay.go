package layout

import (
	"encoding/binary"
	"fmt"
	"math"
)

// MaxInserted is the number of items that can be inserted at run time into an
// image that leads from texts to items.
const MaxInserted = 1024

// maxNewLabels is the number of labels that inserted items may bring along.
const maxNewLabels = MaxInserted

const overlayWords = 4 // inserted, unavailable, zero, zero

// Inserted is an item that an image does not have. Its number is that of the
// items of the image plus its place in the overlay.
type Inserted struct {
	Row       []int8 // (D), as KindEmbed gives it with FlagItemRow
	Scale     float32
	Text      []int8 // (D of the encoder) the text as a search meets it; see TextRow
	TextScale float32
	Labels    []uint32 // rising, at most MaxItemLabels; up to Map.MaxLabels
}

// Overlay is what a host lays over an image at run time. It lies between the image
// and the scratch area; the guest only reads it.
type Overlay struct {
	Inserted    []Inserted
	Unavailable []uint32 // items of both kinds that no ranking may hold, in any order
}

// Patch is something to write into a guest's memory.
type Patch struct {
	At    uint32
	Bytes []byte
}

// With returns the map that bounds requests to a guest with overlay o.
func (m Map) With(o *Overlay) Map {
	m.Items += len(o.Inserted)
	return m
}

// Patches returns what to write into a guest that has the image, whatever other
// overlay it had before. It returns an error that wraps ErrParams where o does not
// fit the image.
func (im *Image) Patches(o *Overlay) ([]Patch, error) { return im.Layout().Patches(o) }

// Layout is what of an image a host needs to lay something over it.
type Layout struct {
	Shape Shape
	h     header
}

// Layout returns what of the image is needed to lay something over it.
func (im *Image) Layout() Layout { return Layout{im.Shape, im.h} }

// Patches is Image.Patches.
func (im Layout) Patches(o *Overlay) ([]Patch, error) {
	s, h := im.Shape, &im.h
	if len(o.Inserted) > int(h[hMaxInserted]) {
		return nil, fmt.Errorf("%w: %d items inserted, the image has room for %d", ErrParams, len(o.Inserted), h[hMaxInserted])
	}
	head := make([]byte, 4*overlayWords)
	binary.LittleEndian.PutUint32(head, uint32(len(o.Inserted)))
	binary.LittleEndian.PutUint32(head[4:], uint32(len(o.Unavailable)))
	patches := []Patch{{h[hOverlay], head}}
	if len(o.Unavailable) > 0 {
		bits := make([]byte, roundUp(s.Items+int(h[hMaxInserted]), 32)/8)
		for _, i := range o.Unavailable {
			if int64(i) >= int64(s.Items+len(o.Inserted)) {
				return nil, fmt.Errorf("%w: item %d is unavailable, there are %d", ErrParams, i, s.Items+len(o.Inserted))
			}
			bits[i/8] |= 1 << (i % 8)
		}
		patches = append(patches, Patch{h[hUnavailable], bits})
	}
	n := len(o.Inserted)
	if n == 0 {
		return patches, nil
	}
	rows := table{name: "inserted item", n: n, cols: s.Dim}
	texts := table{name: "inserted text", n: n, cols: s.Text.Dim}
	labels := make([]byte, 4*MaxItemLabels*n)
	v := validator{}
	for i, item := range o.Inserted {
		v.prefix = fmt.Sprintf("inserted item %d: ", i)
		v.int8s("row", item.Row, s.Dim)
		v.scales("scale", []float32{item.Scale}, 1)
		rows.values, rows.scales = append(rows.values, item.Row...), append(rows.scales, item.Scale)
		if s.Text.ItemTexts {
			v.int8s("text", item.Text, s.Text.Dim)
			v.smallScales("text scale", []float32{item.TextScale}, 1)
			texts.values, texts.scales = append(texts.values, item.Text...), append(texts.scales, item.TextScale)
		}
		v.check(len(item.Labels) <= MaxItemLabels, "it has %d labels, at most %d are possible", len(item.Labels), MaxItemLabels)
		if err := checkSet("label", item.Labels, int(h[hMaxLabels])); err != nil {
			v.check(false, "%v", err)
		}
		if v.err != nil {
			return nil, fmt.Errorf("%w: %w", ErrParams, v.err)
		}
		for j := range MaxItemLabels {
			l := uint32(math.MaxUint32) // none
			if j < len(item.Labels) {
				l = item.Labels[j]
			}
			binary.LittleEndian.PutUint32(labels[4*(MaxItemLabels*i+j):], l)
		}
	}
	packed := func(t *table) []byte {
		b := make([]byte, rowsPad(n)/4*rowBlock(t.k()))
		t.pack(b)
		return b
	}
	patches = append(patches, Patch{h[hExtraRows], packed(&rows)}, Patch{h[hExtraLabels], labels})
	if s.Text.ItemTexts {
		patches = append(patches, Patch{h[hExtraTexts], packed(&texts)})
	}
	return patches, nil
}

// TextRow quantizes the vector of a text, (D), as the table of the items' texts
// holds it: the row times the scale is the unit vector over QueryOne. Every
// operation is rounded on its own, so that all machines agree.
func TextRow(vector []float32) (row []int8, scale float32) {
	row = make([]int8, len(vector))
	var top float32
	for _, v := range vector {
		top = max(top, v, -v)
	}
	step := top / WeightMax
	if step < 1e-30 {
		return row, 0
	}
	for i, v := range vector {
		row[i] = int8(min(max(math.RoundToEven(float64(v/step)), -WeightMax), WeightMax))
	}
	return row, CosineScale(row)
}

// CosineScale is the scale with which the product of a row and a query's integers
// is the cosine between them.
func CosineScale(row []int8) float32 {
	var sum int64
	for _, v := range row {
		sum += int64(v) * int64(v)
	}
	if sum == 0 {
		return 0
	}
	return float32(1 / (QueryOne * math.Sqrt(float64(sum))))
}
