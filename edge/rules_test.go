package edge_test

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/wisp-project/wisp/artifact"
	"github.com/wisp-project/wisp/edge"
	"github.com/wisp-project/wisp/internal/layout/layouttest"
)

// randomRules returns rules of every kind over a catalogue, some of them about items
// and categories that it does not have.
func randomRules(r *rand.Rand, items []artifact.Item, labels []artifact.Label, k int) edge.Rules {
	item := func() string {
		if r.IntN(10) == 0 {
			return "nobody's"
		}
		return items[r.IntN(len(items))].ID
	}
	some := func(n int) (ids []string) {
		for range 1 + r.IntN(n) {
			ids = append(ids, item())
		}
		return ids
	}
	label := func() edge.Label {
		if len(labels) == 0 || r.IntN(10) == 0 {
			return edge.Label{Value: "none"}
		}
		l := labels[r.IntN(len(labels))]
		return edge.Label{Attribute: l.Name, Value: l.Value}
	}
	var q edge.Rules
	if r.IntN(4) == 0 {
		q.Only = some(len(items))
	}
	for range r.IntN(2) {
		q.Require = append(q.Require, []edge.Label{label(), label(), label()})
	}
	for range r.IntN(2) {
		q.Forbid = append(q.Forbid, label())
	}
	for range r.IntN(3) {
		b := edge.Boost{Items: some(10), Factor: float32(math.Exp(r.NormFloat64()))}
		if r.IntN(2) == 0 {
			b.Items, b.Labels, b.Add = nil, []edge.Label{label(), label()}, float32(r.NormFloat64())
		}
		q.Boosts = append(q.Boosts, b)
	}
	for range r.IntN(3) {
		l := label()
		c := edge.Cap{Attribute: l.Attribute, Value: l.Value, Most: r.IntN(3)}
		if r.IntN(2) == 0 {
			c.Value = ""
		}
		q.Caps = append(q.Caps, c)
	}
	for i := range r.IntN(3) {
		p := edge.Pin{Item: item(), Place: r.IntN(k)}
		if i == 0 || p.Item != q.Pins[0].Item && p.Place != q.Pins[0].Place {
			q.Pins = append(q.Pins, p)
		}
	}
	if r.IntN(3) == 0 {
		q.Diversity = &edge.Diversity{Lambda: r.Float32(), Pool: k + r.IntN(30)}
	}
	return q
}

// naive is what rules mean, in the words of the API, written without the kernel's
// bitmaps, numbers, heaps and passes. It says what an answer may hold.
type naive struct {
	rules    edge.Rules
	k        int
	items    map[string]artifact.Item
	excluded []string
}

func hasAny(it artifact.Item, labels []edge.Label) bool {
	return slices.ContainsFunc(labels, func(l edge.Label) bool {
		if l.Attribute == "" {
			return slices.Contains(it.Categories, l.Value)
		}
		return slices.Contains(it.Attributes, artifact.Attribute{Name: l.Attribute, Value: l.Value})
	})
}

// lets reports whether an item may appear at all.
func (n *naive) lets(id string) bool {
	it, ok := n.items[id]
	q := n.rules
	return ok && !slices.Contains(n.excluded, id) && (q.Only == nil || slices.Contains(q.Only, id)) && !hasAny(it, q.Forbid) &&
		!slices.ContainsFunc(q.Require, func(l []edge.Label) bool { return !hasAny(it, l) })
}

// room reports whether caps let an item stand beside others.
func (n *naive) room(id string, beside []string) bool {
	for _, c := range n.rules.Caps {
		for _, l := range labelsUnder(n.items[id], c) {
			count := 0
			for _, other := range beside {
				if hasAny(n.items[other], []edge.Label{l}) {
					count++
				}
			}
			if count >= c.Most {
				return false
			}
		}
	}
	return true
}

// labelsUnder returns the labels of an item that a cap is about.
func labelsUnder(it artifact.Item, c edge.Cap) []edge.Label {
	var labels []edge.Label
	for _, category := range it.Categories {
		if c.Attribute == "" && (c.Value == "" || c.Value == category) {
			labels = append(labels, edge.Label{Value: category})
		}
	}
	for _, a := range it.Attributes {
		if c.Attribute == a.Name && (c.Value == "" || c.Value == a.Value) {
			labels = append(labels, edge.Label{Attribute: a.Name, Value: a.Value})
		}
	}
	return labels
}

// check compares an answer with the scores that items have without rules.
func (n *naive) check(t *testing.T, got []edge.Recommendation, plain map[string]float32) {
	t.Helper()
	var ids, pinned, rest []string
	for _, item := range got {
		if slices.Contains(ids, item.Item) {
			t.Fatalf("%s appears twice", item.Item)
		}
		ids = append(ids, item.Item)
		if !n.lets(item.Item) {
			t.Errorf("%s may not appear", item.Item)
		}
		if want := n.boosted(item.Item, plain[item.Item]); item.Score != want {
			t.Errorf("%s has the score %v, want %v", item.Item, item.Score, want)
		}
	}
	for _, p := range n.rules.Pins {
		if !n.lets(p.Item) {
			continue
		}
		pinned = append(pinned, p.Item)
		if at := slices.Index(ids, p.Item); at < 0 || at != p.Place && at > p.Place || at < p.Place && len(got)-at > len(n.rules.Pins) {
			t.Errorf("%s stands at place %d of %d, pinned at %d", p.Item, at, len(got), p.Place)
		}
	}
	for _, id := range ids {
		if slices.Contains(pinned, id) {
			continue
		}
		if !n.room(id, append(slices.Clone(pinned), rest...)) {
			t.Errorf("%s is one too many for a cap", id)
		}
		rest = append(rest, id)
	}
	if len(ids) > n.k {
		t.Errorf("%d items, %d were asked for", len(ids), n.k)
	}
	// No rule starves the answer: nothing is left that could be added.
	for id := range n.items {
		if len(ids) < n.k && !slices.Contains(ids, id) && n.lets(id) && n.room(id, ids) {
			t.Errorf("%s could have been added to %d of %d items", id, len(ids), n.k)
		}
	}
	if n.rules.Diversity != nil {
		return
	}
	// Each item is the best of those that could stand there.
	for i, id := range rest {
		score := n.boosted(id, plain[id])
		before := append(slices.Clone(pinned), rest[:i]...)
		for other := range n.items {
			if n.boosted(other, plain[other]) > score && n.lets(other) && !slices.Contains(before, other) && n.room(other, before) {
				t.Errorf("%s (%v) stands before %s (%v)", id, score, other, n.boosted(other, plain[other]))
			}
		}
	}
}

func (n *naive) boosted(id string, score float32) float32 {
	for _, b := range n.rules.Boosts {
		if !slices.Contains(b.Items, id) && !hasAny(n.items[id], b.Labels) {
			continue
		}
		f := b.Factor
		if f == 0 {
			f = 1
		}
		if score < 0 {
			score /= f
		} else {
			score *= f
		}
		score += b.Add
	}
	return score
}

// TestRulesNeverStarve asks for rankings of every kind with random rules over random
// catalogues, inserted and unavailable items among them, and holds the answers to
// what the rules say.
func TestRulesNeverStarve(t *testing.T) {
	catalogues, requests := 6, 80
	if testing.Short() {
		catalogues, requests = 3, 20
	}
	full, short := 0, 0
	for c := range catalogues {
		rng := rand.New(rand.NewPCG(uint64(c), 0x57a7e))
		s := layouttest.TextShapes()[1]
		s.Items, s.Attributes = 5+rng.IntN(120), mid.Attributes
		s.Labels.Labels = 1 + rng.IntN(6)
		s.Labels.Entries = s.Labels.Labels + rng.IntN(s.Items*s.Labels.Labels/2+1)
		a, _ := build(t, s)
		r := start(t, a, edge.Options{Sandboxes: 1, AllowUnsigned: true})
		items := slices.Clone(a.Items)
		var gone []string
		for i := range rng.IntN(12) {
			item := edge.NewItem{ID: fmt.Sprintf("new%d", i), Title: layouttest.Text(rng), Categories: []string{category(rng.IntN(8)), "fresh"}}
			item.Title = fmt.Sprintf("%q", item.Title)
			if rng.IntN(2) == 0 {
				item.Attributes = []artifact.Attribute{{Name: "brand", Value: fmt.Sprint(i % 3)}}
			}
			if err := r.Insert(t.Context(), item); err != nil {
				t.Fatal(err)
			}
			items = append(items, artifact.Item{ID: item.ID, Title: item.Title, Categories: item.Categories, Attributes: item.Attributes})
		}
		for range rng.IntN(6) {
			gone = append(gone, items[rng.IntN(len(items))].ID)
		}
		if err := r.SetAvailable(false, gone...); err != nil {
			t.Fatal(err)
		}
		labels, _ := artifact.Labels(items)
		n := naive{items: map[string]artifact.Item{}}
		for _, it := range items {
			n.items[it.ID] = it
		}
		for i := range requests {
			n.k = 1 + rng.IntN(min(len(items), 25))
			n.rules = randomRules(rng, items, labels, n.k)
			n.excluded = append(slices.Clone(gone), items[rng.IntN(len(items))].ID)
			exclude := n.excluded[len(gone):]
			plain := map[string]float32{}
			var got edge.Response
			var err error
			switch i % 3 {
			case 0:
				history := []edge.Event{{Item: items[rng.IntN(len(items))].ID}, {Item: items[rng.IntN(len(items))].ID}}
				q := edge.Request{History: history, K: n.k, Exclude: exclude, Rules: n.rules, Description: "a bad face"}
				n.excluded = append(n.excluded, history[0].Item, history[1].Item)
				got, err = r.Recommend(t.Context(), q)
				var ids []string
				for _, it := range items {
					ids = append(ids, it.ID)
				}
				scores, err := r.Score(t.Context(), edge.ScoreRequest{History: history, Description: q.Description, Items: ids})
				if err != nil {
					t.Fatal(err)
				}
				for j, id := range ids {
					plain[id] = scores[j].Value
				}
			case 1:
				item := items[rng.IntN(len(items))].ID
				n.excluded = append(n.excluded, item)
				got, err = r.Similar(t.Context(), edge.SimilarRequest{Item: item, K: n.k, Exclude: exclude, Rules: n.rules})
				all, err := r.Similar(t.Context(), edge.SimilarRequest{Item: item, K: 1000})
				if err != nil {
					t.Fatal(err)
				}
				for _, it := range all.Items {
					plain[it.Item] = it.Score
				}
			case 2:
				got, err = r.Search(t.Context(), edge.SearchRequest{Text: "a cafe", K: n.k, Exclude: exclude, Rules: n.rules})
				all, err := r.Search(t.Context(), edge.SearchRequest{Text: "a cafe", K: 1000})
				if err != nil {
					t.Fatal(err)
				}
				for _, it := range all.Items {
					plain[it.Item] = it.Score
				}
			}
			if err != nil {
				t.Fatal(err)
			}
			if n.check(t, got.Items, plain); t.Failed() {
				t.Fatalf("catalogue %d, request %d: %+v for %d items gives %+v", c, i, n.rules, n.k, got.Items)
			}
			if len(got.Items) == n.k {
				full++
			} else {
				short++
			}
		}
	}
	if full < 20 || short < 5 {
		t.Errorf("%d answers were full and %d short: the test sees too little", full, short)
	}
}

func TestBadRules(t *testing.T) {
	a, _ := build(t, mid)
	r := start(t, a, edge.Options{Sandboxes: 1})
	nan := float32(math.NaN())
	var many edge.Rules
	for range 300 {
		many.Forbid = append(many.Forbid, edge.Label{Value: category(1)})
		many.Boosts = append(many.Boosts, edge.Boost{Labels: many.Forbid[:1], Factor: 2})
	}
	for name, q := range map[string]edge.Rules{
		"NaN factor":      {Boosts: []edge.Boost{{Items: []string{id(1)}, Factor: nan}}},
		"infinite factor": {Boosts: []edge.Boost{{Items: []string{id(1)}, Factor: float32(math.Inf(1))}}},
		"negative factor": {Boosts: []edge.Boost{{Items: []string{id(1)}, Factor: -1}}},
		"NaN addend":      {Boosts: []edge.Boost{{Labels: []edge.Label{{Value: category(1)}}, Add: nan}}},
		"huge addend":     {Boosts: []edge.Boost{{Items: []string{id(1)}, Add: 1 << 21}}},
		"two kinds":       {Boosts: []edge.Boost{{Items: []string{id(1)}, Labels: []edge.Label{{Value: category(1)}}, Add: 1}}},
		"negative cap":    {Caps: []edge.Cap{{Most: -1}}},
		"place":           {Pins: []edge.Pin{{Item: id(1), Place: 5}}},
		"negative place":  {Pins: []edge.Pin{{Item: id(1), Place: -1}}},
		"same place":      {Pins: []edge.Pin{{Item: id(1), Place: 2}, {Item: id(2), Place: 2}}},
		"same item":       {Pins: []edge.Pin{{Item: id(1), Place: 2}, {Item: id(1), Place: 3}}},
		"NaN lambda":      {Diversity: &edge.Diversity{Lambda: nan}},
		"lambda":          {Diversity: &edge.Diversity{Lambda: 1.5}},
		"small pool":      {Diversity: &edge.Diversity{Lambda: 0.5, Pool: 4}},
		"too many":        many,
	} {
		if _, err := r.Recommend(t.Context(), edge.Request{K: 5, Rules: q}); !errors.Is(err, edge.ErrRequest) {
			t.Errorf("%s: Recommend: %v", name, err)
		}
		if _, err := r.Similar(t.Context(), edge.SimilarRequest{Item: id(3), K: 5, Rules: q}); !errors.Is(err, edge.ErrRequest) {
			t.Errorf("%s: Similar: %v", name, err)
		}
	}
	// What matches nothing is no mistake.
	for name, q := range map[string]edge.Rules{
		"only nothing":     {Only: []string{}},
		"only strangers":   {Only: []string{"nobody's"}},
		"strange category": {Require: [][]edge.Label{{{Value: "none"}}}},
		"no label":         {Require: [][]edge.Label{{}}},
	} {
		got, err := r.Recommend(t.Context(), edge.Request{Rules: q})
		if err != nil || len(got.Items) != 0 || got.Items == nil {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	if _, err := r.Similar(t.Context(), edge.SimilarRequest{Item: "nobody's"}); !errors.Is(err, edge.ErrRequest) {
		t.Errorf("similar to nothing: %v", err)
	}
	if got, err := r.Similar(t.Context(), edge.SimilarRequest{Item: id(3), K: 1 << 30}); err != nil || len(got.Items) != mid.Items-1 {
		t.Errorf("all that is similar: %d items, %v", len(got.Items), err)
	}
}
