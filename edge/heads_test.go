package edge_test

import (
	"errors"
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/wisp-project/wisp/edge"
	"github.com/wisp-project/wisp/internal/layout"
	"github.com/wisp-project/wisp/internal/layout/layouttest"
)

// TestRate compares predicted ratings with internal/q8, at once and in a session.
func TestRate(t *testing.T) {
	s := layouttest.TextShapes()[1]
	a, q := build(t, s)
	r := start(t, a, edge.Options{})
	rng := rand.New(rand.NewPCG(8, 9))
	for turn := range 30 {
		n := rng.IntN(2 * q.Map().MaxHistory)
		events, packed := randomHistory(rng, s, n)
		text := []string{"", "a bad cafe", "\xff", strings.Repeat("é", edge.MaxText)}[turn%4]
		list := []uint32{uint32(rng.IntN(s.Items)), 0, uint32(s.Items - 1), 0}
		names := []string{id(int(list[0])), id(0), id(s.Items - 1), id(0)}
		want := q.Run(layout.Request{Kind: layout.KindRate, List: list, History: packed[max(0, n-q.Map().MaxHistory):], Text: text[:min(len(text), edge.MaxText)]})
		got, err := r.Rate(t.Context(), edge.RateRequest{History: append([]edge.Event{{Item: "none"}}, events...), Description: text, Items: names})
		if err != nil {
			t.Fatal(err)
		}
		if len(got.Items) != len(list) || got.ColdStart != (n == 0) || len(got.Unknown) != 1 {
			t.Fatalf("%+v", got)
		}
		for i, hit := range want.Hits {
			if x := got.Items[i]; x.Item != names[i] || x.Title == "" || math.Float32bits(x.Rating) != math.Float32bits(hit.Score) {
				t.Errorf("turn %d: rating %d is %+v, want %+v", turn, i, x, hit)
			}
		}
		session, err := r.NewSession()
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			if _, err := session.Append(e); err != nil {
				t.Fatal(err)
			}
		}
		live, err := session.Rate(t.Context(), edge.RateRequest{Description: text, Items: names})
		if err != nil || !reflect.DeepEqual(live.Items, got.Items) {
			t.Errorf("turn %d: a session answers %+v (%v), want %+v", turn, live, err, got)
		}
		session.Close()
	}
	// More items than fit a request.
	many := make([]string, 3*q.Map().MaxList+1)
	for i := range many {
		many[i] = id(i % s.Items)
	}
	got, err := r.Rate(t.Context(), edge.RateRequest{Items: many})
	if err != nil || len(got.Items) != len(many) {
		t.Fatalf("%d ratings of %d (%v)", len(got.Items), len(many), err)
	}
	for i, x := range got.Items {
		if x != got.Items[i%s.Items] {
			t.Errorf("rating %d is %+v, as an earlier one %+v", i, x, got.Items[i%s.Items])
		}
	}
	if got, err := r.Rate(t.Context(), edge.RateRequest{}); err != nil || len(got.Items) != 0 || got.Items == nil {
		t.Errorf("no items: %+v, %v", got, err)
	}
	for name, q := range map[string]edge.RateRequest{
		"unknown item":  {Items: []string{id(0), "none"}},
		"empty id":      {Items: []string{""}},
		"not a number":  {History: []edge.Event{{Item: id(0), Type: "rating", Value: float32(math.NaN())}}, Items: []string{id(0)}},
		"infinite":      {History: []edge.Event{{Item: id(0), Type: "rating", Value: float32(math.Inf(1))}}},
		"unknown type":  {History: []edge.Event{{Item: id(0), Type: "dance"}}},
		"negative time": {History: []edge.Event{{Item: id(0), Time: -1}}},
	} {
		if got, err := r.Rate(t.Context(), q); !errors.Is(err, edge.ErrRequest) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

// TestClassify compares classes of texts with internal/q8.
func TestClassify(t *testing.T) {
	a, q := build(t, layouttest.TextShapes()[1])
	r := start(t, a, edge.Options{})
	for _, text := range []string{"", "a bad café, fed", "\xff\xfe", strings.Repeat("bad ", 1<<18)} {
		want := q.Run(layout.Request{Kind: layout.KindClassify, Text: text[:min(len(text), edge.MaxText)]})
		got, err := r.Classify(t.Context(), edge.ClassifyRequest{Text: text})
		if err != nil || len(got.Classes) != len(want.Hits) {
			t.Fatalf("%.20q: %+v, %v", text, got, err)
		}
		var top float32
		for i, hit := range want.Hits {
			if c := got.Classes[i]; c.Name != a.Manifest.Classes[i] || math.Float32bits(c.Probability) != math.Float32bits(hit.Score) {
				t.Errorf("%.20q: class %d is %+v, want %+v", text, i, c, hit)
			}
			top = max(top, hit.Score)
		}
		for _, c := range got.Classes {
			if c.Probability == top {
				if c.Name != got.Best {
					t.Errorf("%.20q: best is %q, %q has %v", text, got.Best, c.Name, top)
				}
				break
			}
		}
	}
}

func TestNoHead(t *testing.T) {
	a, _ := build(t, layouttest.TextShapes()[5]) // a text encoder, and neither head
	r := start(t, a, edge.Options{})
	if _, err := r.Rate(t.Context(), edge.RateRequest{Items: []string{id(0)}}); !errors.Is(err, edge.ErrNoHead) || !strings.Contains(err.Error(), "wisp fit-ratings") {
		t.Errorf("ratings: %v", err)
	}
	if _, err := r.Classify(t.Context(), edge.ClassifyRequest{Text: "a"}); !errors.Is(err, edge.ErrNoHead) || !strings.Contains(err.Error(), "wisp fit-classes") {
		t.Errorf("classes: %v", err)
	}
}
