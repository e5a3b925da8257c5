package hostgpu

import (
	"fmt"
	"math"
	"slices"

	"github.com/wisp-project/wisp/internal/vec"
)

// SoftTargets are distributions over the N items that a teacher gave, one for each
// place of some histories. Of each the largest M probabilities are kept, and what is
// left is spread over the other items in proportion to a background that all share,
// the mean of what was left: where the teacher expects little, only how much that is
// in all is particular to a place.
type SoftTargets struct {
	top        int       // M
	items      []int32   // (rows, M), in ascending order
	probs      []float32 // (rows, M)
	rest       []float32 // (rows) what the other items have in all
	background []float64 // (N) sums of what was left of each item
	order      []int32
}

// NewSoftTargets returns an empty list over the given number of items, of which
// each entry keeps the first top, or all where there are fewer.
func NewSoftTargets(items, top int) *SoftTargets {
	return &SoftTargets{top: min(top, items), background: make([]float64, items)}
}

// Len is the number of distributions.
func (t *SoftTargets) Len() int { return len(t.rest) }

// Items is N.
func (t *SoftTargets) Items() int { return len(t.background) }

// Add appends softmax(scores/temperature), (N); items whose score is -Inf have
// probability 0. scores are overwritten.
func (t *SoftTargets) Add(scores []float32, temperature float64) error {
	if len(scores) != len(t.background) {
		return fmt.Errorf("%w: %d scores for %d items", ErrData, len(scores), len(t.background))
	}
	top := float32(math.Inf(-1))
	for _, s := range scores {
		top = max(top, s)
	}
	vec.ClearUpper()
	var sum float64
	for i, s := range scores {
		e := math.Exp(float64(s-top) / temperature)
		scores[i] = float32(e)
		sum += e
	}
	if !(sum > 0) || math.IsInf(sum, 0) {
		return fmt.Errorf("%w: the teacher's scores of place %d make no distribution at temperature %v", ErrData, t.Len(), temperature)
	}
	if t.order == nil {
		t.order = make([]int32, len(scores))
	}
	for i := range t.order {
		t.order[i] = int32(i)
		scores[i] /= float32(sum)
	}
	best := t.largest(scores)
	slices.Sort(best)
	rest := 0.0
	j := 0
	for i, p := range scores {
		if j < len(best) && best[j] == int32(i) {
			t.items, t.probs = append(t.items, int32(i)), append(t.probs, p)
			j++
			continue
		}
		rest += float64(p)
		t.background[i] += float64(p)
	}
	t.rest = append(t.rest, float32(rest))
	return nil
}

// largest returns the items with the top probabilities, in any order; of equal ones
// those that come first.
func (t *SoftTargets) largest(p []float32) []int32 {
	order, k := t.order, t.top
	before := func(a, b int32) bool { return p[a] > p[b] || p[a] == p[b] && a < b }
	// Quickselect (Hoare 1961) with the middle as the pivot.
	for lo, hi := 0, len(order)-1; lo < hi; {
		pivot := order[(lo+hi)/2]
		i, j := lo, hi
		for i <= j {
			for before(order[i], pivot) {
				i++
			}
			for before(pivot, order[j]) {
				j--
			}
			if i <= j {
				order[i], order[j] = order[j], order[i]
				i, j = i+1, j-1
			}
		}
		switch {
		case k-1 <= j:
			hi = j
		case k-1 >= i:
			lo = i
		default:
			return order[:k]
		}
	}
	return order[:k]
}

// Kept returns the items of entry i that have a probability of their own, in
// ascending order, and these probabilities; they belong to t.
func (t *SoftTargets) Kept(i int) (items []int32, probs []float32) {
	return t.items[i*t.top : (i+1)*t.top], t.probs[i*t.top : (i+1)*t.top]
}

// Append appends what another list over the same items has.
func (t *SoftTargets) Append(o *SoftTargets) error {
	if t.top != o.top || len(t.background) != len(o.background) {
		return fmt.Errorf("%w: distributions over %d items of which %d are kept, and over %d of which %d are", ErrData, len(t.background), t.top, len(o.background), o.top)
	}
	t.items, t.probs, t.rest = append(t.items, o.items...), append(t.probs, o.probs...), append(t.rest, o.rest...)
	for i, b := range o.background {
		t.background[i] += b
	}
	return nil
}

// Arrange returns the distributions in another order: place i of the result is
// place from[i] of t. The background stays.
func (t *SoftTargets) Arrange(from []int) *SoftTargets {
	a := &SoftTargets{top: t.top, background: t.background}
	for _, i := range from {
		a.items = append(a.items, t.items[i*t.top:(i+1)*t.top]...)
		a.probs = append(a.probs, t.probs[i*t.top:(i+1)*t.top]...)
		a.rest = append(a.rest, t.rest[i])
	}
	return a
}

// ranked returns the distributions over the n ranked items alone, item i being at
// place[i] among them, negative for none: the others' probability goes to the rest
// in proportion.
func (t *SoftTargets) ranked(place []int32, n int) *softRows {
	r := &softRows{top: t.top, places: make([]int32, len(t.items)), probs: make([]float32, len(t.probs)), rest: make([]float32, len(t.rest)), background: make([]float32, n)}
	var total, kept float64
	for i, b := range t.background {
		total += b
		if place[i] >= 0 {
			kept += b
		}
	}
	for i, b := range t.background {
		if place[i] < 0 {
			continue
		}
		// Where nothing was ever left, whatever is left is spread evenly.
		r.background[place[i]] = 1 / float32(n)
		if kept > 0 {
			r.background[place[i]] = float32(b / kept)
		}
	}
	share := 1.0 // of the rest that ranked items have
	if total > 0 {
		share = kept / total
	}
	for j := range t.rest {
		sum := share * float64(t.rest[j])
		for m := j * t.top; m < (j+1)*t.top; m++ {
			if r.places[m] = place[t.items[m]]; r.places[m] >= 0 {
				sum += float64(t.probs[m])
			}
		}
		scale := 1 / max(sum, math.SmallestNonzeroFloat32)
		r.rest[j] = float32(share * float64(t.rest[j]) * scale)
		for m := j * t.top; m < (j+1)*t.top; m++ {
			r.probs[m] = float32(float64(t.probs[m]) * scale)
		}
	}
	return r
}

// softRows are soft targets over ranked items.
type softRows struct {
	top        int
	places     []int32 // negative for an item that is not ranked
	probs      []float32
	rest       []float32
	background []float32
	// What a user has had by a row is events[first[row]:row+1], places like the others.
	events, first []int32
}
