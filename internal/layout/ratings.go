package layout

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// Ratings say what rating a user would give an item:
//
//	r = Mean + Step·(b_user + b_item) + q·v_item,   q = Map·u
//
// u being the user vector and v_item the item's row. An item's b_item is how far its
// ratings lie above Mean; b_user is how far those of the history lie above what their
// items get, pulled to zero by Shrink: the sum of Levels - Items over the n events with
// a level, over n + Shrink. The answer is cut to Low … High.
type Ratings struct {
	Low, High, Mean float32
	Step            float32 // that Levels and Items are counted in
	Shrink          float32
	Levels          []int16 // (E) the rating that an event of each type stands for, less Mean; NoLevel for none
	Items           []int16 // (N) b_item; that of an inserted item is 0
	Map             Linear  // (D, D); its scales take the user vector's step out, as those of the items hold it
}

// NoLevel stands in Ratings.Levels for a type of event that says nothing of a rating.
const NoLevel = -1 << 15

// LevelMax is the largest magnitude of a level and of b_item. Sums of them over a
// history stay far below 2^31.
const LevelMax = 1<<15 - 1

// Order of the scalars of Ratings in the image.
const (
	rateLow = iota
	rateHigh
	rateMean
	rateStep
	rateShrink
	rateScalars
)

var rateNames = [rateScalars]string{rateLow: "LOW", rateHigh: "HIGH", rateMean: "MEAN", rateStep: "STEP", rateShrink: "SHRINK"}

func (r *Ratings) scalars() []float32 {
	return []float32{rateLow: r.Low, rateHigh: r.High, rateMean: r.Mean, rateStep: r.Step, rateShrink: r.Shrink}
}

// rated is n where the image has Ratings, and 0 otherwise.
func (s Shape) rated(n int) int {
	if s.Ratings {
		return n
	}
	return 0
}

// placeRatings lays Ratings out, which begin a segment.
func (h *header) placeRatings(image *placer, s Shape) {
	const vector = 16
	h[hRateMap] = image.place(s.rated(weightRows(s.Dim)*s.dimK()), alignment)
	h[hRateMapScale] = image.place(s.rated(4*weightRows(s.Dim)), vector)
	h[hRateMapBias] = image.place(s.rated(4*weightRows(s.Dim)), vector)
	h[hRateScalars] = image.place(s.rated(4*rateScalars), vector)
	h[hRateLevels] = image.place(s.rated(2*s.EventTypes), vector)
	h[hRateItems] = image.place(s.rated(2*s.Items), vector)
}

// checkRatings reports what of r does not fit s.
func (v *validator) checkRatings(r *Ratings, s Shape) {
	v.check((r != nil) == s.Ratings, "the shape and the parameters do not agree on whether there are ratings")
	if r == nil || v.err != nil {
		return
	}
	v.prefix = "ratings: "
	v.floats("low, high, mean", []float32{r.Low, r.High, r.Mean}, 3)
	v.scales("step, shrink", []float32{r.Step, r.Shrink}, 2)
	v.check(r.Low <= r.High, "low is %v, above high %v", r.Low, r.High)
	v.size("levels", len(r.Levels), s.EventTypes)
	v.size("items", len(r.Items), s.Items)
	for i, b := range r.Items {
		v.check(b != NoLevel, "items[%d] is %d, beyond ±%d", i, b, LevelMax)
	}
	v.linear("map", r.Map, s.Dim, s.Dim)
	v.prefix = ""
}

// packedMap is where the map lies.
func (r *Ratings) packedMap(s Shape) *packedLinear {
	return &packedLinear{&r.Map, hRateMap, s.dimK(), same, same}
}

func (r *Ratings) pack(b []byte, h *header, s Shape) {
	if r == nil {
		return
	}
	r.packedMap(s).pack(b, h, 0)
	putFloats(b, h[hRateScalars], r.scalars())
	for word, values := range map[int][]int16{hRateLevels: r.Levels, hRateItems: r.Items} {
		for i, v := range values {
			binary.LittleEndian.PutUint16(b[int(h[word])+2*i:], uint16(v))
		}
	}
}

// unpackRatings is the reverse of pack, nil where the image has none.
func unpackRatings(b []byte, h *header, s Shape) *Ratings {
	if !s.Ratings {
		return nil
	}
	x := getFloats(b, h[hRateScalars], rateScalars)
	r := &Ratings{
		Low: x[rateLow], High: x[rateHigh], Mean: x[rateMean], Step: x[rateStep], Shrink: x[rateShrink],
		Levels: make([]int16, s.EventTypes), Items: make([]int16, s.Items), Map: newLinear(s.Dim, s.Dim),
	}
	r.packedMap(s).unpack(b, h, 0)
	for word, values := range map[int][]int16{hRateLevels: r.Levels, hRateItems: r.Items} {
		for i := range values {
			values[i] = int16(binary.LittleEndian.Uint16(b[int(h[word])+2*i:]))
		}
	}
	return r
}

// openRatings unpacks the ratings of an image and checks their padding, which is
// whatever packing them again does not write.
func openRatings(b []byte, h *header, s Shape) (*Ratings, error) {
	r := unpackRatings(b, h, s)
	if r == nil {
		return nil, nil
	}
	again := make([]byte, h[hImageEnd])
	r.pack(again, h, s)
	if from := h[hRateMap]; !bytes.Equal(again[from:], b[from:]) {
		return nil, fmt.Errorf("%w: the padding of its ratings is not zero", ErrImage)
	}
	return r, nil
}
