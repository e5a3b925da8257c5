package edge

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/wisp-project/wisp/artifact"
	"github.com/wisp-project/wisp/internal/layout"
)

// Rules change a ranking inside the sandbox, before its best items are chosen; so no
// rule leaves an answer short while there are items that it lets in. Ids, categories
// and attributes that the catalogue does not have match nothing, and are no
// mistake: rules outlive catalogues.
//
// What is excluded, seen, unavailable, or not let in by Only, Require and Forbid never
// appears. Boosts change the scores of the rest, pins take their places, and the
// places left are filled one after the other with the best item that no cap keeps
// away; where Diversity is asked for, with the one that adds most.
type Rules struct {
	// Only names the items that may appear; nil means all, an empty list none.
	Only []string `json:"only,omitempty"`
	// Require holds sets of labels: an item must have at least one of each set.
	Require [][]Label `json:"require,omitempty"`
	// Forbid holds labels that no item may have.
	Forbid []Label `json:"forbid,omitempty"`
	// Boosts change scores, one after the other.
	Boosts []Boost `json:"boosts,omitempty"`
	// Caps bound how many items of a kind there are.
	Caps []Cap `json:"caps,omitempty"`
	// Pins put items at places.
	Pins []Pin `json:"pins,omitempty"`
	// Diversity makes the items differ; nil for none.
	Diversity *Diversity `json:"diversity,omitempty"`
}

// Label is a category of items, or an attribute with its value.
type Label struct {
	Attribute string `json:"attribute,omitempty"` // its name; empty for a category
	Value     string `json:"value"`
}

// Boost raises or lowers the scores of some items, or of those that have one of some
// labels; one with several of them is boosted once.
type Boost struct {
	Items  []string `json:"items,omitempty"`
	Labels []Label  `json:"labels,omitempty"` // without Items
	// Factor multiplies a score that is not negative and divides a negative one, so
	// that above 1 it raises any and below 1 it lowers any; 0 means 1. From 2^-20 to
	// 2^20.
	Factor float32 `json:"factor,omitempty"`
	// Add is added then; within ±2^20.
	Add float32 `json:"add,omitempty"`
}

// Cap allows at most Most items of one label, or of each value of an attribute: with
// no Value, at most Most of each category, or of each brand.
type Cap struct {
	Attribute string `json:"attribute,omitempty"` // its name; empty for categories
	Value     string `json:"value,omitempty"`     // empty for each that there is
	Most      int    `json:"most"`
}

// Pin puts an item at a place of the answer, counted from 0, or at the end of an answer
// that is shorter. An item that may not appear is not pinned.
type Pin struct {
	Item  string `json:"item"`
	Place int    `json:"place"`
}

// Diversity chooses by maximal marginal relevance (Carbonell and Goldstein 1998) among
// the best Pool items: again and again the one with the largest Lambda·relevance -
// (1-Lambda)·similarity. Relevance is the score, from 0 for the last of the pool to 1 for
// the first; similarity the largest cosine between the rows of the item and one that was
// taken before.
type Diversity struct {
	Lambda float32 `json:"lambda"` // 1: by score alone; 0: as different as can be
	// Pool is the number of items to choose from, at least K; 0 means 5 times K. At most
	// Limits.MaxK.
	Pool int `json:"pool,omitempty"`
}

// rules returns q in the form of requests for k items, of which asked were asked for.
func (v view) rules(q Rules, k uint32, asked int) ([]layout.Rule, error) {
	bad := func(format string, args ...any) ([]layout.Rule, error) {
		return nil, fmt.Errorf("%w: rules: "+format, append([]any{ErrRequest}, args...)...)
	}
	var rules []layout.Rule
	if q.Only != nil {
		rules = append(rules, layout.Rule{Op: layout.RuleOnly, Args: v.itemSet(q.Only)})
	}
	for _, labels := range q.Require {
		rules = append(rules, layout.Rule{Op: layout.RuleAnyOf, Args: v.labelSet(labels)})
	}
	if len(q.Forbid) > 0 {
		rules = append(rules, layout.Rule{Op: layout.RuleNoneOf, Args: v.labelSet(q.Forbid)})
	}
	for i, b := range q.Boosts {
		factor := cmp.Or(b.Factor, 1)
		if !(factor >= 1.0/layout.BoostMax && factor <= layout.BoostMax) || !(math.Abs(float64(b.Add)) <= layout.BoostMax) {
			return bad("boost %d has the factor %v and adds %v; want 2^-20 to 2^20, and -2^20 to 2^20", i, b.Factor, b.Add)
		}
		switch {
		case len(b.Items) > 0 && len(b.Labels) > 0:
			return bad("boost %d is for items and for labels; make two of it", i)
		case len(b.Items) > 0:
			rules = append(rules, layout.BoostItems(factor, b.Add, v.itemSet(b.Items)...))
		default:
			rules = append(rules, layout.BoostLabels(factor, b.Add, v.labelSet(b.Labels)...))
		}
	}
	for i, c := range q.Caps {
		if c.Most < 0 {
			return bad("cap %d allows %d items; want 0 or more", i, c.Most)
		}
		for _, r := range v.capped(c) {
			rules = append(rules, layout.Cap(uint32(min(c.Most, math.MaxInt32)), r[0], r[1]))
		}
	}
	pins, err := v.pinned(q.Pins, k, cmp.Or(asked, 10))
	if err != nil {
		return nil, err
	}
	rules = append(rules, pins...)
	if d := q.Diversity; d != nil {
		if !(d.Lambda >= 0 && d.Lambda <= 1) {
			return bad("diversity has lambda %v; want 0 to 1", d.Lambda)
		}
		if d.Pool < 0 || d.Pool > 0 && d.Pool < cmp.Or(asked, 10) {
			return bad("diversity has a pool of %d for %d items; want at least as many", d.Pool, cmp.Or(asked, 10))
		}
		pool := min(cmp.Or(d.Pool, 5*int(k)), v.m.MaxK)
		rules = append(rules, layout.Diversity(d.Lambda, uint32(max(pool, int(k)))))
	}
	words := 0
	for _, r := range rules {
		words += 2 + len(r.Args)
	}
	if len(rules) > layout.MaxRules || words > v.m.MaxRuleWords {
		return bad("they come to %d rules with %d items and labels; at most %d and %d are possible", len(rules), words-2*len(rules), layout.MaxRules, v.m.MaxRuleWords-2*layout.MaxRules)
	}
	return rules, nil
}

// itemSet returns the numbers of items, rising; unknown ones are left out.
func (v view) itemSet(ids []string) []uint32 {
	set := make([]uint32, 0, len(ids))
	for _, id := range ids {
		if n, ok := v.find(id); ok {
			set = append(set, n)
		}
	}
	slices.Sort(set)
	return slices.Compact(set)
}

// label returns the number of a label.
func (v view) label(l Label) (uint32, bool) {
	return numberOf(v.Runtime.labels, v.newLabels(), artifact.Label{Name: l.Attribute, Value: l.Value})
}

// newLabels are those that inserted items brought along.
func (v view) newLabels() []artifact.Label {
	if v.overlay == nil {
		return nil
	}
	return v.overlay.labels
}

// labelSet returns the numbers of labels, rising; unknown ones are left out.
func (v view) labelSet(labels []Label) []uint32 {
	set := make([]uint32, 0, len(labels))
	for _, l := range labels {
		if n, ok := v.label(l); ok {
			set = append(set, n)
		}
	}
	slices.Sort(set)
	return slices.Compact(set)
}

// capped returns the ranges of labels that a cap is about.
func (v view) capped(c Cap) [][2]uint32 {
	if c.Value != "" {
		n, ok := v.label(Label{c.Attribute, c.Value})
		if !ok {
			return nil
		}
		return [][2]uint32{{n, n + 1}}
	}
	// Those of one name lie together, in the artefact and among the others.
	var ranges [][2]uint32
	from := 0
	for _, labels := range [][]artifact.Label{v.Runtime.labels, v.newLabels()} {
		first, _ := slices.BinarySearchFunc(labels, artifact.Label{Name: c.Attribute}, artifact.Label.Compare)
		last := first
		for last < len(labels) && labels[last].Name == c.Attribute {
			last++
		}
		if last > first {
			ranges = append(ranges, [2]uint32{uint32(from + first), uint32(from + last)})
		}
		from += len(labels)
	}
	return ranges
}

// pinned returns the rules of pins. asked is the number of items that was asked for;
// where the catalogue has no more than k, places behind them are the last ones.
func (v view) pinned(pins []Pin, k uint32, asked int) ([]layout.Rule, error) {
	sorted := slices.Clone(pins)
	slices.SortFunc(sorted, func(a, b Pin) int { return cmp.Compare(a.Place, b.Place) })
	items := map[string]bool{}
	for i, p := range sorted {
		switch {
		case p.Place < 0 || p.Place >= asked:
			return nil, fmt.Errorf("%w: rules: item %q is pinned at place %d; places go from 0 to %d", ErrRequest, p.Item, p.Place, asked-1)
		case i > 0 && p.Place == sorted[i-1].Place:
			return nil, fmt.Errorf("%w: rules: items %q and %q are pinned at place %d", ErrRequest, sorted[i-1].Item, p.Item, p.Place)
		case items[p.Item]:
			return nil, fmt.Errorf("%w: rules: item %q is pinned twice", ErrRequest, p.Item)
		}
		items[p.Item] = true
	}
	var rules []layout.Rule
	free := int(k) // places before those taken
	for _, p := range slices.Backward(sorted) {
		n, ok := v.find(p.Item)
		if !ok || free == 0 {
			continue
		}
		free = min(p.Place, free-1)
		rules = append(rules, layout.Pin(uint32(free), n))
	}
	return rules, nil
}
