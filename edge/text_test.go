package edge_test

import (
	"errors"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/wisp-project/wisp/artifact"
	"github.com/wisp-project/wisp/edge"
	"github.com/wisp-project/wisp/internal/layout"
	"github.com/wisp-project/wisp/internal/layout/layouttest"
)

// TestText compares the answers to texts with internal/q8.
func TestText(t *testing.T) {
	s := layouttest.TextShapes()[1]
	a, q := build(t, s)
	r := start(t, a, edge.Options{Sandboxes: 2, AllowUnsigned: true})
	for _, text := range []string{"", "a bad café, fed", "\xff\xfe", strings.Repeat("é", edge.MaxText)} {
		cut := text[:min(len(text), edge.MaxText)]
		want := q.Run(layout.Request{Kind: layout.KindSearch, K: 4, List: []uint32{3, 5}, Text: cut})
		got, err := r.Search(t.Context(), edge.SearchRequest{Text: text, K: 4, Exclude: []string{id(3), "none", id(5)}})
		if err != nil {
			t.Fatal(err)
		}
		for i, hit := range want.Hits {
			if item := got.Items[i]; item.Item != id(int(hit.Item)) || item.Score != hit.Score || item.Title == "" {
				t.Errorf("%.20q: hit %d is %+v, want %+v", text, i, item, hit)
			}
		}
		want = q.Run(layout.Request{Kind: layout.KindEmbed, Flags: layout.FlagItemRow, Text: cut})
		e, err := r.Embed(t.Context(), text)
		if err != nil || !slices.Equal(e.Vector, want.Vector) || !slices.Equal(e.Row, want.Row) || e.Scale != want.Scale {
			t.Errorf("%.20q: embedding %+v (%v), want %+v", text, e, err, want)
		}
		if len(text) == 0 {
			continue // no description
		}
		history := []edge.Event{{Item: id(1)}, {Item: id(2)}}
		want = q.Run(layout.Request{
			Kind: layout.KindRecommend, K: 5, Flags: layout.FlagExcludeHistory, Text: cut,
			History: []layout.Event{{Item: 1}, {Item: 2}},
		})
		got, err = r.Recommend(t.Context(), edge.Request{History: history, K: 5, Description: text, Explain: true})
		if err != nil {
			t.Fatal(err)
		}
		for i, hit := range want.Hits {
			if item := got.Items[i]; item.Item != id(int(hit.Item)) || item.Score != hit.Score {
				t.Errorf("%.20q: recommendation %d is %+v, want %+v", text, i, item, hit)
			}
			// Without an event the description still counts.
			for e := range history {
				less := q.Run(layout.Request{Kind: layout.KindScore, History: []layout.Event{{Item: uint32(2 - e)}}, List: []uint32{hit.Item}, Text: cut})
				if drop, reasons := hit.Score-less.Hits[0].Score, got.Items[i].Reasons; drop > 0 && (len(reasons) == 0 || reasons[0].Drop < drop) {
					t.Errorf("%.20q: recommendation %d has reason %+v, event %d lowers it by %v", text, i, reasons, e, drop)
				}
			}
		}
		want = q.Run(layout.Request{Kind: layout.KindScore, History: []layout.Event{{Item: 1}, {Item: 2}}, List: []uint32{4, 0}, Text: cut})
		scores, err := r.Score(t.Context(), edge.ScoreRequest{History: history, Description: text, Items: []string{id(4), id(0)}})
		if err != nil {
			t.Fatal(err)
		}
		for i, hit := range want.Hits {
			if scores[i] != (edge.Score{Value: hit.Score, Integer: hit.Acc}) {
				t.Errorf("%.20q: score %d is %+v, want %+v", text, i, scores[i], hit)
			}
		}
		if plain, err := r.Recommend(t.Context(), edge.Request{History: history, K: 5, Explain: true}); err != nil || reflect.DeepEqual(plain.Items, got.Items) {
			t.Errorf("%.20q: the description changes nothing (%v)", text, err)
		}
	}
}

// TestCut sees a long text end before the character that does not fit.
func TestCut(t *testing.T) {
	a, _ := build(t, layouttest.TextShapes()[1])
	r := start(t, a, edge.Options{Sandboxes: 1, AllowUnsigned: true})
	for name, long := range map[string]string{
		"letters":  strings.Repeat("a", edge.MaxText+1),
		"spaces":   strings.Repeat(" ", edge.MaxText-2) + "中 a", // 中 has three bytes: two would fit
		"no UTF-8": strings.Repeat("\x80", edge.MaxText+9),
	} {
		short := strings.TrimSuffix(long[:edge.MaxText], "\xe4\xb8")
		x, err := r.Embed(t.Context(), long)
		y, err2 := r.Embed(t.Context(), short)
		if err != nil || err2 != nil || !slices.Equal(x.Vector, y.Vector) {
			t.Errorf("%s: %v and %v, %v and %v", name, x.Vector, y.Vector, err, err2)
		}
	}
}

func TestNoText(t *testing.T) {
	plain, _ := build(t, mid)
	bare, _ := build(t, layouttest.TextShapes()[6]) // an encoder, and nothing that leads on
	for name, c := range map[string]struct {
		a      *artifact.Artifact
		embeds bool
	}{"no encoder": {plain, false}, "encoder alone": {bare, true}} {
		r := start(t, c.a, edge.Options{Sandboxes: 1, AllowUnsigned: true})
		if _, err := r.Search(t.Context(), edge.SearchRequest{Text: "a"}); !errors.Is(err, edge.ErrNoText) {
			t.Errorf("%s: Search: %v", name, err)
		}
		if _, err := r.Recommend(t.Context(), edge.Request{Description: "a"}); !errors.Is(err, edge.ErrNoText) {
			t.Errorf("%s: Recommend: %v", name, err)
		}
		if _, err := r.Score(t.Context(), edge.ScoreRequest{Description: "a"}); !errors.Is(err, edge.ErrNoText) {
			t.Errorf("%s: Score: %v", name, err)
		}
		e, err := r.Embed(t.Context(), "a")
		if c.embeds != (err == nil) || !c.embeds && !errors.Is(err, edge.ErrNoText) || len(e.Row) != 0 {
			t.Errorf("%s: Embed: %+v, %v", name, e, err)
		}
		var sum float64
		for _, v := range e.Vector {
			sum += math.Abs(float64(v))
		}
		if c.embeds && sum == 0 {
			t.Errorf("%s: the vector is zero", name)
		}
		if _, err := r.Search(t.Context(), edge.SearchRequest{K: -1}); !errors.Is(err, edge.ErrRequest) {
			t.Errorf("%s: k -1: %v", name, err)
		}
	}
}
