package q8

import (
	"cmp"
	"math"
	"slices"

	"github.com/wisp-project/wisp/internal/layout"
)

// WithOverlay returns the model with what a host laid over its image: the rows
// of inserted items behind those of the table.
func (q *Model) WithOverlay(o layout.Overlay) *Model {
	with := *q
	with.m = q.m.With(&o)
	with.unavailable = o.Unavailable
	p := &with.p
	p.ItemRows, p.ItemScale, p.Labels = slices.Clone(p.ItemRows), slices.Clone(p.ItemScale), slices.Clone(p.Labels)
	if p.Labels == nil {
		p.Labels = make([][]uint32, p.Shape.Items)
	}
	if p.Text != nil {
		text := *p.Text
		text.ItemTexts.W, text.ItemTexts.Scale = slices.Clone(text.ItemTexts.W), slices.Clone(text.ItemTexts.Scale)
		p.Text = &text
	}
	for _, item := range o.Inserted {
		p.ItemRows, p.ItemScale = append(p.ItemRows, item.Row...), append(p.ItemScale, item.Scale)
		p.Labels = append(p.Labels, item.Labels)
		if p.Shape.Text.ItemTexts {
			p.Text.ItemTexts.W, p.Text.ItemTexts.Scale = append(p.Text.ItemTexts.W, item.Text...), append(p.Text.ItemTexts.Scale, item.TextScale)
		}
	}
	return &with
}

// ranking is a ranking in the making.
type ranking struct {
	q     *Model
	rules []layout.Rule
	table table
	hit   func(item int) layout.Hit // boosted
	out   []bool                    // items that the answer must not hold
	pins  []pin
	// chosen are the hits beside the pins, want how many there are to be.
	chosen []layout.Hit
	want   int
	counts map[uint32]uint32 // of the items pinned and chosen, by label
}

type pin struct {
	place uint32
	hit   layout.Hit
}

// rank returns the K best items of a table, as the rules of r want them:
//
//   - what the list, the history, a host or a rule leaves out cannot appear;
//   - boosts change the scores, in the order of the rules;
//   - pins take their places, whatever caps say, and count for caps;
//   - the other places are filled one after the other with the best item that no
//     cap keeps away, or with the one of the largest marginal relevance.
//
// So there are fewer than K items only where nothing is left that could be added.
func (q *Model) rank(r layout.Request, t table, hit func(item int) layout.Hit) []layout.Hit {
	k := &ranking{q: q, rules: r.Rules, table: t, out: q.leftOut(r), counts: map[uint32]uint32{}}
	k.hit = func(item int) layout.Hit { return k.boosted(hit(item)) }
	for _, rule := range r.Rules {
		if rule.Op == layout.RulePin && !k.out[rule.Args[1]] {
			k.pins = append(k.pins, pin{rule.Args[0], k.hit(int(rule.Args[1]))})
		}
	}
	for _, p := range k.pins {
		k.show(p.hit)
	}
	slices.SortFunc(k.pins, func(a, b pin) int { return cmp.Compare(a.place, b.place) })
	k.want = int(r.K) - len(k.pins)
	diversity := slices.IndexFunc(r.Rules, func(r layout.Rule) bool { return r.Op == layout.RuleDiversity })
	if diversity < 0 {
		for _, h := range k.candidates() {
			if len(k.chosen) < k.want && k.admits(h.Item) {
				k.choose(h)
			}
		}
		return k.placed()
	}
	rule := r.Rules[diversity]
	for len(k.chosen) < k.want {
		pool := k.candidates()
		if len(pool) == 0 {
			break
		}
		k.diversify(pool[:min(len(pool), int(rule.Args[1]))], rule.Float(0))
	}
	return k.placed()
}

// leftOut returns which items the answer to r must not hold.
func (q *Model) leftOut(r layout.Request) []bool {
	out := make([]bool, q.m.Items)
	for _, items := range [][]uint32{q.unavailable, r.List} {
		for _, i := range items {
			out[i] = true
		}
	}
	if r.Flags&layout.FlagExcludeHistory != 0 || r.Kind == layout.KindSimilar {
		for _, e := range r.History {
			out[e.Item] = true
		}
	}
	for _, rule := range r.Rules {
		for i := range out {
			switch rule.Op {
			case layout.RuleOnly:
				out[i] = out[i] || !contains(rule.Args, uint32(i))
			case layout.RuleAnyOf:
				out[i] = out[i] || !q.hasLabel(i, rule.Args)
			case layout.RuleNoneOf:
				out[i] = out[i] || q.hasLabel(i, rule.Args)
			}
		}
	}
	return out
}

// labels returns those of an item.
func (q *Model) labels(item int) []uint32 {
	if q.p.Labels == nil {
		return nil
	}
	return q.p.Labels[item]
}

// hasLabel reports whether an item has one of the labels of a set.
func (q *Model) hasLabel(item int, set []uint32) bool {
	return slices.ContainsFunc(q.labels(item), func(l uint32) bool { return contains(set, l) })
}

// boosted applies the boosts to a hit.
func (k *ranking) boosted(h layout.Hit) layout.Hit {
	for _, r := range k.rules {
		switch {
		case r.Op == layout.RuleBoostItems && contains(r.Set(), h.Item):
		case r.Op == layout.RuleBoostLabels && k.q.hasLabel(int(h.Item), r.Set()):
		default:
			continue
		}
		factor, addend := r.Float(0), r.Float(1)
		if h.Score < 0 {
			h.Score /= factor
		} else {
			h.Score *= factor
		}
		h.Score = min(max(h.Score+addend, -layout.ScoreMax), layout.ScoreMax)
	}
	return h
}

// candidates returns what can still be chosen, the best first.
func (k *ranking) candidates() []layout.Hit {
	var hits []layout.Hit
	for i := range k.out {
		if !k.out[i] && k.admits(uint32(i)) {
			hits = append(hits, k.hit(i))
		}
	}
	slices.SortStableFunc(hits, func(a, b layout.Hit) int {
		switch {
		case a.Score > b.Score:
			return -1
		case a.Score < b.Score:
			return 1
		}
		return 0
	})
	return hits
}

// admits reports whether no cap keeps an item away from those pinned and chosen.
func (k *ranking) admits(item uint32) bool {
	for _, l := range k.q.labels(int(item)) {
		for _, r := range k.rules {
			if r.Op == layout.RuleCap && l >= r.Args[1] && l < r.Args[2] && k.counts[l] >= r.Args[0] {
				return false
			}
		}
	}
	return true
}

// choose takes a hit into the answer; show notes that an item stands there.
func (k *ranking) choose(h layout.Hit) {
	k.chosen = append(k.chosen, h)
	k.show(h)
}

func (k *ranking) show(h layout.Hit) {
	k.out[h.Item] = true
	for _, l := range k.q.labels(int(h.Item)) {
		k.counts[l]++
	}
}

// contains reports whether a rising set has a value.
func contains(set []uint32, v uint32) bool {
	_, ok := slices.BinarySearch(set, v)
	return ok
}

// shown returns the items pinned and chosen so far.
func (k *ranking) shown() []layout.Hit {
	var hits []layout.Hit
	for _, p := range k.pins {
		hits = append(hits, p.hit)
	}
	return append(hits, k.chosen...)
}

// diversify chooses from a pool by maximal marginal relevance (Carbonell and
// Goldstein 1998): again and again the item with the largest
//
//	lambda·relevance - (1-lambda)·(largest cosine to an item that is shown)
//
// until the answer is full or caps keep away what is left. Relevance is the score,
// from 0 for the last of the pool to 1 for the first; the cosine is that of the
// rows of the table that is ranked. Of equal items the better one is taken.
func (k *ranking) diversify(pool []layout.Hit, lambda float32) {
	lowest := pool[len(pool)-1].Score
	span := pool[0].Score - lowest
	nearest := make([]float32, len(pool)) // the largest cosine of each, 0 where nothing is shown
	for compared := 0; len(k.chosen) < k.want; {
		for shown := k.shown(); compared < len(shown); compared++ {
			for i, h := range pool {
				if c := cosine(k.table, int(h.Item), int(shown[compared].Item)); compared == 0 || c > nearest[i] {
					nearest[i] = c
				}
			}
		}
		best, largest := -1, float32(0)
		for i, h := range pool {
			if k.out[h.Item] || !k.admits(h.Item) {
				continue
			}
			relevance := float32(0)
			if span > 0 {
				relevance = (h.Score - lowest) / span
			}
			v := float32(lambda*relevance) - float32((1-lambda)*nearest[i])
			if best < 0 || v > largest {
				best, largest = i, v
			}
		}
		if best < 0 {
			return
		}
		k.choose(pool[best])
	}
}

// placed returns the answer: pins at their places, the others between them.
func (k *ranking) placed() []layout.Hit {
	var hits []layout.Hit
	pins, chosen := k.pins, k.chosen
	for len(pins)+len(chosen) > 0 {
		if len(pins) > 0 && (int(pins[0].place) <= len(hits) || len(chosen) == 0) {
			hits = append(hits, pins[0].hit)
			pins = pins[1:]
			continue
		}
		hits = append(hits, chosen[0])
		chosen = chosen[1:]
	}
	return hits
}

// cosine returns that between two rows of a table.
func cosine(t table, a, b int) float32 {
	x, y := t.row(a), t.row(b)
	return float32(float32(dot(x, y))*overLength(x)) * overLength(y)
}

// similarity returns what scores items by the cosine of their rows to that of one.
func similarity(t table, to int) func(item int) layout.Hit {
	return func(item int) layout.Hit {
		return layout.Hit{Item: uint32(item), Acc: dot(t.row(item), t.row(to)), Score: cosine(t, item, to)}
	}
}

// overLength is one over the length of a row, 0 for a row of zeros. The sum of the
// squares is below 2^24, so that no float32 rounds it.
func overLength(row []int8) float32 {
	sum := dot(row, row)
	if sum == 0 {
		return 0
	}
	return 1 / float32(math.Sqrt(float64(float32(sum))))
}

func dot(x, y []int8) int32 {
	var acc int32
	for d, v := range x {
		acc += int32(v) * int32(y[d])
	}
	return acc
}

// ruleWords is the number of words that rules take in a request.
func ruleWords(rules []layout.Rule) int {
	n := 0
	for _, r := range rules {
		n += 2 + len(r.Args)
	}
	return n
}

// checkRules reports whether every rule is valid.
func (q *Model) checkRules(r layout.Request) bool {
	rises := func(set []uint32, n int) bool {
		for i, v := range set {
			if int64(v) >= int64(n) || i > 0 && v <= set[i-1] {
				return false
			}
		}
		return true
	}
	valid := func(rule layout.Rule) bool {
		n, items, labels := len(rule.Args), q.m.Items, q.m.MaxLabels
		switch rule.Op {
		case layout.RuleOnly:
			return rises(rule.Args, items)
		case layout.RuleAnyOf, layout.RuleNoneOf:
			return rises(rule.Args, labels)
		case layout.RuleBoostItems, layout.RuleBoostLabels:
			if rule.Op == layout.RuleBoostItems {
				labels = items
			}
			return n >= 2 && rule.Float(0) >= 1.0/layout.BoostMax && rule.Float(0) <= layout.BoostMax &&
				rule.Float(1) >= -layout.BoostMax && rule.Float(1) <= layout.BoostMax && rises(rule.Args[2:], labels)
		case layout.RuleCap:
			return n == 3 && rule.Args[1] < rule.Args[2] && int64(rule.Args[2]) <= int64(labels)
		case layout.RulePin:
			return n == 2 && rule.Args[0] < r.K && int64(rule.Args[1]) < int64(items)
		case layout.RuleDiversity:
			return n == 2 && rule.Float(0) >= 0 && rule.Float(0) <= 1 && rule.Args[1] >= r.K && int64(rule.Args[1]) <= int64(q.m.MaxK)
		}
		return false
	}
	for i, rule := range r.Rules {
		if i == layout.MaxRules || !valid(rule) {
			return false
		}
		for _, o := range r.Rules[:i] {
			if o.Op == rule.Op && (rule.Op == layout.RuleDiversity || rule.Op == layout.RulePin && (rule.Args[0] == o.Args[0] || rule.Args[1] == o.Args[1])) {
				return false
			}
		}
	}
	return true
}
