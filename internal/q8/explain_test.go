package q8_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/tetratelabs/wazero"

	"github.com/wisp-project/wisp/internal/layout"
	"github.com/wisp-project/wisp/internal/layout/layouttest"
)

// TestExplain holds the guest to the definition of explanations, for histories of
// every length; and the definition to its promise: each loss is that of the score
// without the event, found by a request of its own.
func TestExplain(t *testing.T) {
	shapes := append(layouttest.Shapes(), layouttest.TextShapes()[1])
	for i, s := range shapes {
		t.Run(fmt.Sprintf("%dx%d", s.Items, s.Dim), func(t *testing.T) {
			t.Parallel()
			image, m := open(t, layouttest.Params(s, uint64(i)))
			g := newGuest(t, wazero.NewRuntimeConfigCompiler(), image)
			r := rand.New(rand.NewPCG(5, uint64(i)))
			lengths := []int{0, 1, 2, 3, 4, 5, 7, 9, s.Window - 1, s.Window, s.Window + 1, s.Window + 4, image.Map.MaxHistory, image.Map.MaxHistory + 1}
			reasons := 0
			for _, n := range lengths {
				if n < 0 || n > image.Map.MaxHistory+1 {
					continue
				}
				q := layout.Request{Kind: layout.KindScore, Reasons: uint32(1 + r.IntN(layout.MaxReasons))}
				for range n {
					q.History = append(q.History, layout.Event{Item: uint32(r.IntN(s.Items)), Type: uint32(r.IntN(s.EventTypes)), Gap: r.Uint32() >> r.IntN(32)})
				}
				if n > 0 && n <= image.Map.MaxHistory {
					q.History[0].Gap = 0
				}
				if s.Text.UserMap && n%2 == 1 {
					q.Text = layouttest.Text(r)
				}
				for range r.IntN(min(image.Map.MaxExplained, 12) + 1) {
					q.List = append(q.List, uint32(r.IntN(s.Items)))
				}
				if err := q.Check(s, image.Map); err != nil {
					t.Fatal(err)
				}
				same(t, g, m, []layout.Request{q})
				items, all, _ := q.Parts(m.Run(q).Hits)
				for g, item := range items {
					last := float32(0)
					group := all[g*int(q.Reasons):][:q.Reasons]
					for j, reason := range group {
						if reason.Item == layout.NoReason {
							continue
						}
						reasons++
						if j > 0 && reason.Score > last {
							t.Errorf("%d events: reasons do not fall: %v", n, group)
						}
						last = reason.Score
						without := layout.Without(q.History, int(reason.Item), n > image.Map.MaxHistory)
						again := m.Run(layout.Request{
							Kind: layout.KindScore, List: []uint32{item.Item}, Text: q.Text,
							History: without[max(0, len(without)-image.Map.MaxHistory):],
						}).Hits[0]
						if again.Acc != reason.Acc || item.Score-again.Score != reason.Score || reason.Score <= 0 {
							t.Errorf("%d events: event %d is said to bring %v (%d), without it the score is %v (%d) of %v",
								n, reason.Item, reason.Score, reason.Acc, again.Score, again.Acc, item.Score)
						}
					}
				}
			}
			if reasons < 10 && s.Dim > 1 {
				t.Errorf("%d reasons in all: the test sees nothing", reasons)
			}
		})
	}
}

// TestShortHistoriesAreTriedWhole sees that an estimate leaves nothing out where
// there is time for every event.
func TestShortHistoriesAreTriedWhole(t *testing.T) {
	s := layouttest.Shapes()[3]
	_, m := open(t, layouttest.Params(s, 1))
	r := rand.New(rand.NewPCG(9, 9))
	for n := 1; n <= 4; n++ {
		q := layout.Request{Kind: layout.KindScore, Reasons: layout.MaxReasons, List: []uint32{3, 1, 4}}
		for i := range n {
			q.History = append(q.History, layout.Event{Item: uint32(r.IntN(s.Items)), Gap: uint32(i)})
		}
		items, all, _ := q.Parts(m.Run(q).Hits)
		for g, item := range items {
			for i := range q.History {
				again := m.Run(layout.Request{Kind: layout.KindScore, List: []uint32{item.Item}, History: layout.Without(q.History, i, false)}).Hits[0]
				found := slices.ContainsFunc(all[g*layout.MaxReasons:][:layout.MaxReasons], func(h layout.Hit) bool { return h.Item == uint32(i) })
				if found != (item.Score-again.Score > 0) {
					t.Errorf("%d events: event %d brings %v, found: %v", n, i, item.Score-again.Score, found)
				}
			}
		}
	}
}

// TestParts sees that attributes and the item's own part add up to the score, and
// that the guest finds the same.
func TestParts(t *testing.T) {
	s := layouttest.Shapes()[4]
	image, m := open(t, layouttest.Params(s, 3))
	g := newGuest(t, wazero.NewRuntimeConfigCompiler(), image)
	p := image.Params()
	named := 0
	for n := range 4 {
		q := layout.Request{Kind: layout.KindScore, Reasons: layout.MaxReasons, Flags: layout.FlagAttributes}
		for i := range n {
			q.History = append(q.History, layout.Event{Item: uint32(i * 17)})
		}
		for i := range 60 {
			q.List = append(q.List, uint32(i*5))
		}
		same(t, g, m, []layout.Request{q})
		items, _, all := q.Parts(m.Run(q).Hits)
		u := m.User(q.History, nil)
		for i, item := range items {
			want := map[uint32]float64{}
			rest := float64(item.Score)
			for _, e := range p.Attributes.Of[item.Item] {
				acc := 0
				for d, v := range p.Attributes.Rows.W[int(e.Attribute)*s.Dim:][:s.Dim] {
					acc += int(v) * int(u[d])
				}
				part := float64(acc) * float64(p.Attributes.Rows.Scale[e.Attribute]) * float64(e.Count) * float64(p.Attributes.Factor[item.Item])
				want[e.Attribute] = part
				rest -= part
			}
			want[layout.OwnPart] = rest
			above := 0
			for _, v := range want {
				if v > 1e-6 {
					above++
				}
			}
			found := 0
			for _, part := range all[i*layout.MaxReasons:][:layout.MaxReasons] {
				if part.Item == layout.NoReason {
					continue
				}
				found++
				if v, ok := want[part.Item]; !ok || float64(part.Score)-v > 1e-4*max(1, v) || v-float64(part.Score) > 1e-4*max(1, v) {
					t.Errorf("item %d: attribute %d brings %v, want %v", item.Item, part.Item, part.Score, v)
				}
			}
			if found < min(above, layout.MaxReasons) {
				t.Errorf("item %d: %d attributes are named of %d that speak for it", item.Item, found, above)
			}
			named += found
		}
	}
	if named < 100 {
		t.Errorf("%d attributes in all: the test sees nothing", named)
	}
}

// BenchmarkExplain is a recommendation of ten items by a history of 50 events, and
// the same with three reasons for each.
func BenchmarkExplain(b *testing.B) {
	for _, reasons := range []uint32{0, 3} {
		b.Run(fmt.Sprint(reasons), func(b *testing.B) {
			s := layout.Shape{Items: 10000, Dim: 64, Layers: 2, Heads: 1, FFN: 64, Window: 50, EventTypes: 8, GapBuckets: 24}
			image, _ := open(b, layouttest.Params(s, 1))
			g := newGuest(b, wazero.NewRuntimeConfigCompiler(), image)
			r := layout.Request{Kind: layout.KindRecommend, K: 10, Reasons: reasons}
			for i := range 50 {
				r.History = append(r.History, layout.Event{Item: uint32(i * 31 % s.Items), Type: uint32(i % 8), Gap: uint32(i * 1000)})
			}
			request := r.Append(nil)
			for b.Loop() {
				g.answer(b, request)
			}
		})
	}
}
