package edge_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/wisp-project/wisp/artifact"
	"github.com/wisp-project/wisp/edge"
	"github.com/wisp-project/wisp/internal/layout"
	"github.com/wisp-project/wisp/internal/layout/layouttest"
	"github.com/wisp-project/wisp/internal/q8"
)

// inserted returns what the definition makes of an item with a text.
func inserted(q *q8.Model, text string, labels ...uint32) layout.Inserted {
	a := q.Run(layout.Request{Kind: layout.KindEmbed, Flags: layout.FlagItemRow, Text: text})
	in := layout.Inserted{Row: a.Row, Scale: a.Scale, Labels: labels}
	in.Text, in.TextScale = layout.TextRow(a.Vector)
	return in
}

// TestInsert compares the answers of runtimes of every isolation with the definition:
// with items inserted, replaced, removed and unavailable.
func TestInsert(t *testing.T) {
	s := layouttest.TextShapes()[1]
	a, q := build(t, s)
	for _, isolation := range []edge.Isolation{edge.Shared, edge.Wiped, edge.Fresh} {
		t.Run(fmt.Sprint(isolation), func(t *testing.T) {
			r := start(t, a, edge.Options{Sandboxes: 2, Isolation: isolation, AllowUnsigned: true})
			insert := func(item edge.NewItem) {
				t.Helper()
				if err := r.Insert(t.Context(), item); err != nil {
					t.Fatal(err)
				}
			}
			n := uint32(s.Items)
			var o layout.Overlay
			compare := func(what string) {
				t.Helper()
				m := q.WithOverlay(o)
				for name := range map[string]int{"new": 1, id(2): 2} {
					number, ok := uint32(2), true
					if name == "new" {
						number, ok = n, len(o.Inserted) > 0 && !slices.Contains(o.Unavailable, n)
					}
					if !ok {
						continue
					}
					history := []layout.Event{{Item: number}}
					for range 3 { // every sandbox of the pool
						got, err := r.Recommend(t.Context(), edge.Request{History: []edge.Event{{Item: name}}, K: 1000})
						hits(t, what, got, err, m.Run(layout.Request{Kind: layout.KindRecommend, K: uint32(m.Map().MaxK), Flags: layout.FlagExcludeHistory, History: history}), r)
					}
					got, err := r.Similar(t.Context(), edge.SimilarRequest{Item: name, K: 7})
					hits(t, what, got, err, m.Run(layout.Request{Kind: layout.KindSimilar, K: 7, History: history}), r)
					scores, err := r.Score(t.Context(), edge.ScoreRequest{History: []edge.Event{{Item: name}}, Items: []string{name, id(0)}})
					want := m.Run(layout.Request{Kind: layout.KindScore, History: history, List: []uint32{number, 0}})
					if err != nil || scores[0].Integer != want.Hits[0].Acc || scores[1].Value != want.Hits[1].Score {
						t.Errorf("%s: scores %v (%v), want %v", what, scores, err, want.Hits)
					}
				}
				got, err := r.Search(t.Context(), edge.SearchRequest{Text: "cafe", K: 1000, Rules: edge.Rules{Forbid: []edge.Label{{Value: "fresh"}}}})
				fresh := uint32(s.Labels.Labels)
				hits(t, what, got, err, m.Run(layout.Request{Kind: layout.KindSearch, K: uint32(m.Map().MaxK), Text: "cafe", Rules: []layout.Rule{{Op: layout.RuleNoneOf, Args: []uint32{fresh}}}}), r)
			}
			compare("nothing inserted")
			insert(edge.NewItem{ID: "new", Title: "New", Text: "a bad face", Categories: []string{category(2)}})
			o.Inserted = append(o.Inserted, inserted(q, "a bad face", 2))
			compare("one")
			insert(edge.NewItem{ID: "newer", Title: "cafe", Categories: []string{"fresh", category(0)}})
			o.Inserted = append(o.Inserted, inserted(q, "cafe fresh "+category(0), 0, uint32(s.Labels.Labels)))
			compare("two")
			insert(edge.NewItem{ID: "new", Title: "New", Text: "fed ! fed"})
			o.Inserted[0] = inserted(q, "fed ! fed")
			compare("replaced")
			if err := r.SetAvailable(false, id(4), "newer"); err != nil {
				t.Fatal(err)
			}
			o.Unavailable = []uint32{4, n + 1}
			compare("unavailable")
			if err := r.SetAvailable(true, id(4)); err != nil {
				t.Fatal(err)
			}
			o.Unavailable = []uint32{n + 1}
			compare("available again")
			if err := r.Remove("newer"); err != nil {
				t.Fatal(err)
			}
			compare("removed")
			if got := r.Inserted(); len(got) != 1 || got[0].ID != "new" {
				t.Errorf("inserted: %+v", got)
			}
			if err := r.Remove("new"); err != nil {
				t.Fatal(err)
			}
			o.Unavailable = []uint32{n, n + 1}
			compare("all removed")
			got, err := r.Recommend(t.Context(), edge.Request{History: []edge.Event{{Item: "new"}}})
			if err != nil || !slices.Equal(got.Unknown, []string{"new"}) {
				t.Errorf("a removed item: %+v, %v", got, err)
			}
			if isolation != edge.Fresh && edge.Traces(r) > 0 && isolation == edge.Wiped {
				t.Error("a wiped sandbox holds something of a request")
			}
		})
	}
}

// hits compares a response with an answer.
func hits(t *testing.T, what string, got edge.Response, err error, want layout.Answer, r *edge.Runtime) {
	t.Helper()
	if err != nil || len(got.Items) != len(want.Hits) {
		t.Fatalf("%s: %d items (%v), want %d (status %d)", what, len(got.Items), err, len(want.Hits), want.Status)
	}
	own := uint32(len(r.Items()))
	for i, hit := range want.Hits {
		if got.Items[i].Score != hit.Score || hit.Item < own && got.Items[i].Item != id(int(hit.Item)) || hit.Item >= own && !strings.HasPrefix(got.Items[i].Item, "new") {
			t.Fatalf("%s: item %d is %+v, want %+v", what, i, got.Items[i], hit)
		}
	}
}

func TestInsertRefuses(t *testing.T) {
	s := layouttest.TextShapes()[1]
	a, _ := build(t, s)
	r := start(t, a, edge.Options{Sandboxes: 1, AllowUnsigned: true})
	var many []string
	for i := range 33 {
		many = append(many, fmt.Sprint(i))
	}
	for name, c := range map[string]struct {
		item edge.NewItem
		want error
	}{
		"no id":             {edge.NewItem{Title: "a"}, edge.ErrItem},
		"bad id":            {edge.NewItem{ID: "a\n"}, edge.ErrItem},
		"of the catalogue":  {edge.NewItem{ID: id(3)}, edge.ErrItem},
		"title":             {edge.NewItem{ID: "x", Title: "\xff"}, edge.ErrItem},
		"empty category":    {edge.NewItem{ID: "x", Categories: []string{""}}, edge.ErrItem},
		"many categories":   {edge.NewItem{ID: "x", Categories: many}, edge.ErrItem},
		"nameless":          {edge.NewItem{ID: "x", Attributes: []artifact.Attribute{{Value: "v"}}}, edge.ErrItem},
		"a megabyte":        {edge.NewItem{ID: "big", Text: strings.Repeat("bad ", 1<<18)}, nil},
		"a text of no text": {edge.NewItem{ID: "odd", Text: "\xff\xfe"}, nil},
	} {
		if err := r.Insert(t.Context(), c.item); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
	}
	if err := r.Remove(id(3)); !errors.Is(err, edge.ErrItem) {
		t.Errorf("remove an item of the catalogue: %v", err)
	}
	if err := r.SetAvailable(false, id(1), "none"); !errors.Is(err, edge.ErrItem) {
		t.Errorf("an unknown item unavailable: %v", err)
	}
	if got, err := r.Recommend(t.Context(), edge.Request{K: 1000}); err != nil || len(got.Items) != s.Items+2 {
		t.Errorf("a change that failed left something: %d items, %v", len(got.Items), err)
	}
	plain, _ := build(t, mid)
	if err := start(t, plain, edge.Options{Sandboxes: 1, AllowUnsigned: true}).Insert(t.Context(), edge.NewItem{ID: "x"}); !errors.Is(err, edge.ErrNoText) {
		t.Errorf("an artefact without an encoder: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.Insert(ended, edge.NewItem{ID: "late"}); !errors.Is(err, context.Canceled) {
		t.Errorf("a context that ended: %v", err)
	}
}

// TestInsertFull fills a runtime, and makes room again.
func TestInsertFull(t *testing.T) {
	s := layouttest.TextShapes()[0]
	a, _ := build(t, s)
	r := start(t, a, edge.Options{Sandboxes: 1, AllowUnsigned: true})
	for i := range edge.MaxInserted {
		if err := r.Insert(t.Context(), edge.NewItem{ID: fmt.Sprintf("new%d", i), Categories: []string{fmt.Sprint(i)}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Insert(t.Context(), edge.NewItem{ID: "more"}); !errors.Is(err, edge.ErrFull) {
		t.Errorf("one more: %v", err)
	}
	if err := r.Insert(t.Context(), edge.NewItem{ID: "new7", Title: "again"}); err != nil {
		t.Errorf("the same again: %v", err)
	}
	if got, err := r.Recommend(t.Context(), edge.Request{K: 1000, Rules: edge.Rules{Caps: []edge.Cap{{Most: 1}}}}); err != nil || len(got.Items) != 1000 {
		t.Errorf("%d items, %v", len(got.Items), err)
	}
	if err := r.Remove("new9"); err != nil {
		t.Fatal(err)
	}
	if err := r.Insert(t.Context(), edge.NewItem{ID: "more", Categories: []string{"two", "new ones", "7"}}); !errors.Is(err, edge.ErrFull) {
		t.Errorf("a category too many: %v", err)
	}
	if err := r.Insert(t.Context(), edge.NewItem{ID: "more", Categories: []string{"one", "7"}}); err != nil {
		t.Errorf("in the place of another: %v", err)
	}
	if got := r.Inserted(); len(got) != edge.MaxInserted {
		t.Errorf("%d items inserted", len(got))
	}
}

// TestInsertConcurrent inserts and removes items while others ask. An item is there
// from the moment Insert returned, and gone from the moment Remove did.
func TestInsertConcurrent(t *testing.T) {
	s := layouttest.TextShapes()[0]
	a, _ := build(t, s)
	for _, isolation := range []edge.Isolation{edge.Shared, edge.Wiped, edge.Fresh} {
		r := start(t, a, edge.Options{Sandboxes: 3, Isolation: isolation, AllowUnsigned: true})
		var wg sync.WaitGroup
		for w := range 4 {
			wg.Go(func() {
				for i := range 12 {
					name := fmt.Sprintf("new%d-%d", w, i)
					if err := r.Insert(t.Context(), edge.NewItem{ID: name, Categories: []string{name}}); err != nil {
						t.Error(err)
					}
					only := edge.Rules{Require: [][]edge.Label{{{Value: name}}}}
					if got, err := r.Search(t.Context(), edge.SearchRequest{Text: "a", Rules: only}); err != nil || len(got.Items) != 1 || got.Items[0].Item != name {
						t.Errorf("after Insert of %s: %+v, %v", name, got.Items, err)
					}
					if i%2 == 0 {
						continue
					}
					if err := r.Remove(name); err != nil {
						t.Error(err)
					}
					if got, err := r.Search(t.Context(), edge.SearchRequest{Text: "a", Rules: only}); err != nil || len(got.Items) != 0 {
						t.Errorf("after Remove of %s: %+v, %v", name, got.Items, err)
					}
				}
			})
		}
		wg.Wait()
		if got := len(r.Inserted()); got != 24 {
			t.Errorf("%v: %d items are left, want 24", isolation, got)
		}
	}
}

// TestInsertSession has an inserted item in the history of a session, over a save.
func TestInsertSession(t *testing.T) {
	s := layouttest.TextShapes()[1]
	a, _ := build(t, s)
	r := start(t, a, edge.Options{Sandboxes: 1, AllowUnsigned: true})
	if err := r.Insert(t.Context(), edge.NewItem{ID: "new", Title: "a bad cafe"}); err != nil {
		t.Fatal(err)
	}
	history := []edge.Event{{Item: id(1)}, {Item: "new"}, {Item: id(3)}}
	rules := edge.Rules{Boosts: []edge.Boost{{Items: []string{id(5)}, Add: 3}}}
	want, err := r.Recommend(t.Context(), edge.Request{History: history, K: 9, Rules: rules})
	if err != nil {
		t.Fatal(err)
	}
	first, err := r.Recommend(t.Context(), edge.Request{History: history[:2], KeepSession: true})
	if err != nil {
		t.Fatal(err)
	}
	got, err := r.Recommend(t.Context(), edge.Request{History: history[2:], Session: first.Session, K: 9, Rules: rules})
	if err != nil || !reflect.DeepEqual(got.Items, want.Items) {
		t.Errorf("a session gives %+v (%v), want %+v", got.Items, err, want.Items)
	}
	other := start(t, a, edge.Options{Sandboxes: 1, AllowUnsigned: true})
	if _, err := other.Recommend(t.Context(), edge.Request{Session: got.Session}); !errors.Is(err, edge.ErrSession) {
		t.Errorf("a runtime without the item: %v", err)
	}
}
