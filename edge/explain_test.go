package edge_test

import (
	"math"
	"slices"
	"testing"

	"github.com/wisp-project/wisp/edge"
	"github.com/wisp-project/wisp/internal/layout"
	"github.com/wisp-project/wisp/internal/layout/layouttest"
)

// TestAttributes compares the attributes of recommended items with the definition,
// and sees that an artefact without them says so.
func TestAttributes(t *testing.T) {
	s := layouttest.Shapes()[2]
	a, q := build(t, s)
	r := start(t, a, edge.Options{AllowUnsigned: true})
	names := layouttest.Params(s, 1).Attributes.Names
	history := []edge.Event{{Item: id(1)}, {Item: id(2)}, {Item: id(30)}}
	request := layout.Request{
		Kind: layout.KindRecommend, K: 8, Reasons: 4, Flags: layout.FlagExcludeHistory | layout.FlagAttributes,
		History: []layout.Event{{Item: 1}, {Item: 2}, {Item: 30}},
	}
	_, _, want := request.Parts(q.Run(request).Hits)
	ask := edge.Request{History: history, K: 8, Explain: true, Reasons: 4}
	got, err := r.Recommend(t.Context(), ask)
	if err != nil {
		t.Fatal(err)
	}
	own, named := 0, 0
	for i, item := range got.Items {
		var attributes []edge.Attribute
		for _, hit := range want[4*i:][:4] {
			switch hit.Item {
			case layout.NoReason:
			case layout.OwnPart:
				attributes = append(attributes, edge.Attribute{Own: true, Gain: hit.Score})
				own++
			default:
				attributes = append(attributes, edge.Attribute{Name: names[hit.Item], Gain: hit.Score})
				named++
			}
		}
		if !slices.Equal(item.Attributes, attributes) {
			t.Errorf("item %d has the attributes %+v, want %+v", i, item.Attributes, attributes)
		}
	}
	if own == 0 || named == 0 || got.NoAttributes {
		t.Errorf("%d attributes and %d items' own parts, none: %v", named, own, got.NoAttributes)
	}
	session, err := r.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	again, err := session.Recommend(t.Context(), ask)
	if err != nil {
		t.Fatal(err)
	}
	for i, item := range again.Items {
		if !slices.Equal(item.Attributes, got.Items[i].Attributes) || !slices.Equal(item.Reasons, got.Items[i].Reasons) {
			t.Errorf("a session explains item %d by %+v, a request by %+v", i, item, got.Items[i])
		}
	}
	b, _ := build(t, mid)
	without := start(t, b, edge.Options{AllowUnsigned: true})
	none, err := without.Recommend(t.Context(), ask)
	if err != nil || !none.NoAttributes || none.Items[0].Attributes != nil {
		t.Errorf("an artefact without attributes answers %+v (%v)", none, err)
	}
}

// TestManyExplained asks for more reasons than one request of the guest gives.
func TestManyExplained(t *testing.T) {
	a, _ := build(t, mid)
	r := start(t, a, edge.Options{AllowUnsigned: true})
	history := []edge.Event{{Item: id(1)}, {Item: id(2)}, {Item: id(30)}}
	many, err := r.Recommend(t.Context(), edge.Request{History: history, K: 230, Explain: true})
	if err != nil {
		t.Fatal(err)
	}
	few, err := r.Recommend(t.Context(), edge.Request{History: history, K: 20, Explain: true})
	if err != nil {
		t.Fatal(err)
	}
	for i, item := range few.Items {
		if !slices.Equal(item.Reasons, many.Items[i].Reasons) || math.Float32bits(item.Score) != math.Float32bits(many.Items[i].Score) {
			t.Errorf("item %d of many: %+v, of few: %+v", i, many.Items[i], item)
		}
	}
	explained := 0
	for _, item := range many.Items {
		explained += min(1, len(item.Reasons))
	}
	if len(many.Items) != 230 || explained < 200 {
		t.Errorf("%d of %d items have reasons", explained, len(many.Items))
	}
}
