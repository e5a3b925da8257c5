package layouttest

import (
	"math"
	"math/rand/v2"
	"slices"

	"github.com/wisp-project/wisp/internal/layout"
)

// labels returns random labels of the items of shape s, some with none and some
// with many.
func labels(s layout.Shape, r *rand.Rand) [][]uint32 {
	if s.Labels.Labels == 0 {
		return nil
	}
	all := make([][]uint32, s.Items)
	add := func(item, label int) bool {
		at, has := slices.BinarySearch(all[item], uint32(label))
		if !has {
			all[item] = slices.Insert(all[item], at, uint32(label))
		}
		return !has
	}
	for l := range s.Labels.Labels {
		add(r.IntN(s.Items), l)
	}
	for n := s.Labels.Labels; n < s.Labels.Entries; {
		// The first labels are the most usual.
		if add(r.IntN(s.Items), int(float64(s.Labels.Labels)*math.Pow(r.Float64(), 2))) {
			n++
		}
	}
	return all
}

// Overlay returns a random overlay of an image of shape s: n inserted items, if there
// is room for them, some of them and some of the others unavailable.
func Overlay(s layout.Shape, m layout.Map, n int, seed uint64) layout.Overlay {
	r := rand.New(rand.NewPCG(seed, 0x04e41a))
	var o layout.Overlay
	row := func(n int) []int8 {
		w := make([]int8, n)
		for i := range w {
			w[i] = int8(r.IntN(255) - 127)
		}
		return w
	}
	for range min(n, m.MaxInserted) {
		item := layout.Inserted{Row: row(s.Dim), Scale: float32(r.ExpFloat64() / (127 * 500 * 8)), Labels: Set(r, m.MaxLabels, 3)}
		if s.Text.ItemTexts {
			item.Text = row(s.Text.Dim)
			item.TextScale = layout.CosineScale(item.Text)
		}
		o.Inserted = append(o.Inserted, item)
	}
	for range r.IntN(1 + s.Items/4) {
		o.Unavailable = append(o.Unavailable, uint32(r.IntN(s.Items+len(o.Inserted))))
	}
	return o
}

// Set returns a rising set of at most most numbers below n.
func Set(r *rand.Rand, n, most int) []uint32 {
	if n == 0 {
		return nil
	}
	var set []uint32
	for range r.IntN(most + 1) {
		set = append(set, uint32(r.IntN(n)))
	}
	slices.Sort(set)
	return slices.Compact(set)
}

// Rules returns random rules for a ranking of k items that fits m, some of every kind.
func Rules(r *rand.Rand, m layout.Map, k uint32) []layout.Rule {
	var rules []layout.Rule
	factor := func() float32 { return float32(math.Exp(r.NormFloat64())) }
	addend := func() float32 {
		if r.IntN(2) == 0 {
			return 0
		}
		return float32(r.NormFloat64())
	}
	var places, items []uint32
	diverse := false
	for range r.IntN(6) {
		op := 1 + r.Uint32N(layout.RuleDiversity)
		switch op {
		case layout.RuleOnly:
			if r.IntN(3) == 0 {
				rules = append(rules, layout.Rule{Op: op, Args: Set(r, m.Items, min(m.Items, m.MaxRuleWords/16))})
			}
		case layout.RuleAnyOf, layout.RuleNoneOf:
			if m.MaxLabels > 0 {
				rules = append(rules, layout.Rule{Op: op, Args: Set(r, min(m.MaxLabels, 50), 8)})
			}
		case layout.RuleBoostItems:
			rules = append(rules, layout.BoostItems(factor(), addend(), Set(r, m.Items, 1+m.Items/3)...))
		case layout.RuleBoostLabels:
			rules = append(rules, layout.BoostLabels(factor(), addend(), Set(r, m.MaxLabels, 5)...))
		case layout.RuleCap:
			if m.MaxLabels > 0 {
				from := r.IntN(min(m.MaxLabels, 50))
				rules = append(rules, layout.Cap(r.Uint32N(4), uint32(from), uint32(from+1+r.IntN(m.MaxLabels-from))))
			}
		case layout.RulePin:
			place, item := r.Uint32N(k), r.Uint32N(uint32(m.Items))
			if !slices.Contains(places, place) && !slices.Contains(items, item) {
				places, items = append(places, place), append(items, item)
				rules = append(rules, layout.Pin(place, item))
			}
		case layout.RuleDiversity:
			if !diverse {
				lambda := []float32{0, 1, r.Float32()}[r.IntN(3)]
				rules = append(rules, layout.Diversity(lambda, k+r.Uint32N(min(uint32(m.MaxK)-k, 60)+1)))
			}
			diverse = true
		}
	}
	return rules
}

// RankRequests returns n random requests that fit m, with rules where their kind takes
// some, and requests for similar items among them.
func RankRequests(s layout.Shape, m layout.Map, n int, seed uint64) []layout.Request {
	r := rand.New(rand.NewPCG(seed, 0x4a4e))
	requests := Requests(s, m, n, seed)
	if s.Text.Dim > 0 {
		requests = TextRequests(s, m, n, seed)
	}
	for i := range requests {
		q := &requests[i]
		if i%4 == 1 {
			*q = layout.Request{
				Kind: layout.KindSimilar, K: 1 + r.Uint32N(uint32(min(m.MaxK, 30))), List: q.List,
				History: []layout.Event{{Item: r.Uint32N(uint32(m.Items)), Type: r.Uint32N(uint32(s.EventTypes))}},
			}
		}
		for e := range q.History {
			if r.IntN(8) == 0 {
				q.History[e].Item = r.Uint32N(uint32(m.Items))
			}
		}
		for e := range q.List {
			if r.IntN(8) == 0 {
				q.List[e] = r.Uint32N(uint32(m.Items))
			}
		}
		if q.K > 0 && i%8 != 0 {
			q.Rules = Rules(r, m, q.K)
		}
	}
	return requests
}
