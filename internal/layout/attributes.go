package layout

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
)

// Attributes say of what the vectors of the items are made: words, categories and
// whatever else has a vector of its own, as far as the model adds it up. The vector
// of an item is Factor times the sum of those of its attributes, each as often as
// the item has it, and the rest is the item's own.
type Attributes struct {
	Rows Rows // (A, D), scaled as the rows of items are
	// Of are the attributes of each item, (N), rising by number, each with how often
	// the item has it.
	Of     [][]AttributeCount
	Factor []float32 // (N)
	Names  []string  // (A), without line feeds
}

// AttributeCount is an attribute of an item.
type AttributeCount struct {
	Attribute uint32
	Count     uint8 // at least 1
}

// AttributeShape holds the sizes of a table of attributes; all are 0 without one.
type AttributeShape struct {
	Count   int // A
	Entries int // of all items
	Names   int // bytes of the names, a line feed behind each
}

const (
	maxAttributes       = 1 << 24 // a number has 24 bits of an entry
	maxAttributeEntries = 1 << 28
	// OwnPart stands in the place of an attribute for the part of an item's vector
	// that is nobody else's.
	OwnPart = math.MaxUint32 - 1
)

// Validate reports sizes that no image can have.
func (s AttributeShape) Validate() error {
	if s == (AttributeShape{}) {
		return nil
	}
	if s.Count < 1 || s.Count > maxAttributes || s.Entries < 0 || s.Entries > maxAttributeEntries || s.Names < s.Count || s.Names > 1<<30 {
		return fmt.Errorf("%w: %d attributes with %d entries and names of %d bytes; between 1 and %d, up to %d, and a line for each are possible",
			ErrShape, s.Count, s.Entries, s.Names, maxAttributes, maxAttributeEntries)
	}
	return nil
}

// ShapeOf returns the sizes of a, zero for nil.
func (a *Attributes) ShapeOf() AttributeShape {
	if a == nil {
		return AttributeShape{}
	}
	s := AttributeShape{Count: len(a.Names)}
	for _, of := range a.Of {
		s.Entries += len(of)
	}
	for _, name := range a.Names {
		s.Names += len(name) + 1
	}
	return s
}

// firsts is the number of words of the table of where each item's entries begin.
func (s AttributeShape) firsts(items int) int {
	if s.Count == 0 {
		return 0
	}
	return items + 1
}

// checkAttributes reports what of a does not fit s.
func (v *validator) checkAttributes(a *Attributes, s Shape) {
	v.check((a != nil) == (s.Attributes.Count > 0), "the shape and the parameters do not agree on whether there are attributes")
	if a == nil || v.err != nil {
		return
	}
	v.check(a.ShapeOf() == s.Attributes, "the attributes have the sizes %+v, the shape says %+v", a.ShapeOf(), s.Attributes)
	v.int8s("attribute rows", a.Rows.W, s.Attributes.Count*s.Dim)
	v.scales("attribute scale", a.Rows.Scale, s.Attributes.Count)
	v.size("attributes of items", len(a.Of), s.Items)
	v.scales("attribute factor", a.Factor, s.Items)
	for i, of := range a.Of {
		for j, e := range of {
			v.check(int64(e.Attribute) < int64(s.Attributes.Count) && e.Count > 0 && (j == 0 || e.Attribute > of[j-1].Attribute),
				"attribute %d of item %d is %+v", j, i, e)
		}
	}
	for i, name := range a.Names {
		v.check(!bytes.ContainsRune([]byte(name), '\n'), "the name of attribute %d is more than a line", i)
	}
}

// packAttributes writes all but the rows, which are a table.
func packAttributes(b []byte, h *header, a *Attributes) {
	if a == nil {
		return
	}
	put := func(word, i int, v uint32) { binary.LittleEndian.PutUint32(b[int(h[word])+4*i:], v) }
	n := 0
	for i, of := range a.Of {
		put(hAttributeFirst, i, uint32(n))
		for _, e := range of {
			put(hAttributeList, n, e.Attribute|uint32(e.Count)<<24)
			n++
		}
	}
	put(hAttributeFirst, len(a.Of), uint32(n))
	putFloats(b, h[hAttributeFactor], a.Factor)
	at := b[h[hAttributeNames]:]
	for _, name := range a.Names {
		at = at[copy(at, name+"\n"):]
	}
}

// unpackAttributes is the reverse of packAttributes. It returns an error where the
// entries do not lie one behind the other or the names are not as many; the rest is
// checkAttributes' to say.
func unpackAttributes(b []byte, h *header, s Shape) (*Attributes, error) {
	if s.Attributes.Count == 0 {
		return nil, nil
	}
	a := &Attributes{Of: make([][]AttributeCount, s.Items), Factor: getFloats(b, h[hAttributeFactor], s.Items)}
	word := func(word, i int) uint32 { return binary.LittleEndian.Uint32(b[int(h[word])+4*i:]) }
	at := word(hAttributeFirst, 0)
	for i := range a.Of {
		end := word(hAttributeFirst, i+1)
		if end < at || int64(end) > int64(s.Attributes.Entries) || i == 0 && at != 0 {
			return nil, fmt.Errorf("the attributes of item %d go from %d to %d of %d", i, at, end, s.Attributes.Entries)
		}
		for ; at < end; at++ {
			e := word(hAttributeList, int(at))
			a.Of[i] = append(a.Of[i], AttributeCount{Attribute: e & (1<<24 - 1), Count: uint8(e >> 24)})
		}
	}
	names := bytes.SplitAfter(b[h[hAttributeNames]:][:s.Attributes.Names], []byte("\n"))
	if len(names) != s.Attributes.Count+1 || len(names[s.Attributes.Count]) > 0 {
		return nil, fmt.Errorf("there are %d names of %d attributes", len(names)-1, s.Attributes.Count)
	}
	for _, name := range names[:s.Attributes.Count] {
		a.Names = append(a.Names, string(name[:len(name)-1]))
	}
	return a, nil
}

// AttributeNames returns the names of the attributes, none where there are none.
func (im *Image) AttributeNames() []string {
	a, err := unpackAttributes(im.bytes, &im.h, im.Shape)
	if err != nil || a == nil { // Open has seen them
		return nil
	}
	return a.Names
}
