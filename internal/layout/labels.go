package layout

import (
	"encoding/binary"
	"fmt"
)

// Labels are what rules know of items: their categories and attributes, by
// number. An image holds them twice, of each item and for each label, in the
// manner of a search engine's forward index and postings.

// Limits on labels.
const (
	maxLabels       = 1 << 18
	maxLabelEntries = 1 << 26
	// MaxItemLabels bounds the labels of an inserted item.
	MaxItemLabels = 32
)

// LabelShape counts the labels of an image.
type LabelShape struct {
	Labels  int // V: different ones
	Entries int // E: labels of all items together
}

// Validate reports counts that no image can have.
func (s LabelShape) Validate() error {
	if s.Labels < 0 || s.Labels > maxLabels || s.Entries < s.Labels || s.Entries > maxLabelEntries || s.Labels == 0 && s.Entries > 0 {
		return fmt.Errorf("%w: %d labels of which there are %d in all; at most %d and %d are possible, and no label without an item",
			ErrShape, s.Labels, s.Entries, maxLabels, maxLabelEntries)
	}
	return nil
}

// Labels returns those of each item, (N), rising; nil where the image has none.
func (im *Image) Labels() [][]uint32 {
	labels, _ := unpackLabels(im.bytes, &im.h) // Open has seen them
	return labels
}

// firsts is the number of words of a table of places in a list of entries, one
// for each of n rows and one behind the last; none without labels.
func (s LabelShape) firsts(n int) int {
	if s.Labels == 0 {
		return 0
	}
	return n + 1
}

// LabelShapeOf counts the labels of items, given in rising order for each.
func LabelShapeOf(labels [][]uint32) LabelShape {
	var s LabelShape
	for _, of := range labels {
		s.Entries += len(of)
		for _, l := range of {
			s.Labels = max(s.Labels, int(l)+1)
		}
	}
	return s
}

// checkLabels checks those of each item, (N): rising, below V, none unused.
func (v *validator) checkLabels(labels [][]uint32, s Shape) {
	if s.Labels.Labels == 0 {
		v.check(labels == nil, "there are labels that the shape does not have")
		return
	}
	v.size("labels", len(labels), s.Items)
	used, entries := make([]bool, s.Labels.Labels), 0
	for i, of := range labels {
		if err := checkSet("label", of, s.Labels.Labels); err != nil {
			v.check(false, "labels of item %d: %v", i, err)
			return
		}
		entries += len(of)
		for _, l := range of {
			used[l] = true
		}
	}
	v.size("labels of all items", entries, s.Labels.Entries)
	for l, u := range used {
		v.check(u, "label %d is no item's", l)
	}
}

// packLabels writes both directions to the segment b: where each item's labels and
// each label's items begin, and all of them.
func packLabels(b []byte, h *header, labels [][]uint32) {
	if h[hLabels] == 0 {
		return
	}
	put := func(word int, i int, v uint32) { binary.LittleEndian.PutUint32(b[int(h[word]-h[hLabelFirst])+4*i:], v) }
	items := make([][]uint32, h[hLabels])
	n := 0
	for i, of := range labels {
		put(hLabelFirst, i, uint32(n))
		for _, l := range of {
			put(hLabelList, n, l)
			items[l] = append(items[l], uint32(i))
			n++
		}
	}
	put(hLabelFirst, len(labels), uint32(n))
	n = 0
	for l, of := range items {
		put(hPostingFirst, l, uint32(n))
		for _, i := range of {
			put(hPostingList, n, i)
			n++
		}
	}
	put(hPostingFirst, len(items), uint32(n))
}

// unpackLabels reads those of each item. It returns an error where they do not
// lie one behind the other; the rest is checkLabels' to say.
func unpackLabels(b []byte, h *header) ([][]uint32, error) {
	if h[hLabels] == 0 {
		return nil, nil
	}
	word := func(word int, i uint32) uint32 { return binary.LittleEndian.Uint32(b[h[word]+4*i:]) }
	labels := make([][]uint32, h[hItems])
	at := word(hLabelFirst, 0)
	for i := range labels {
		end := word(hLabelFirst, uint32(i)+1)
		if end < at || end > h[hLabelEntries] || i == 0 && at != 0 {
			return nil, fmt.Errorf("the labels of item %d go from %d to %d of %d", i, at, end, h[hLabelEntries])
		}
		for ; at < end; at++ {
			labels[i] = append(labels[i], word(hLabelList, at))
		}
	}
	return labels, nil
}
