package main

import (
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/wisp-project/wisp/internal/data"
)

// madeTweets writes a folder like the shared one: users of two tastes, each with
// films of its own, of which the titles tell.
func madeTweets(t *testing.T) string {
	t.Helper()
	shared := t.TempDir()
	dir := filepath.Join(shared, "data", "movietweetings")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	const users, items, events = 40, 60, 10
	var ratings, movies string
	for i := range items {
		movies += fmt.Sprintf("%d::%s %d (2001)::Drama\n", i, []string{"Love", "War"}[i%2], i/2)
	}
	for u := range users {
		for i := range events {
			ratings += fmt.Sprintf("%d::%d::8::%d\n", u, (u+2*i*(1+u%3))%items, 1000*u+60*i)
		}
	}
	put(t, filepath.Join(dir, "ratings.dat"), []byte(ratings))
	put(t, filepath.Join(dir, "movies.dat"), []byte(movies))
	return shared
}

func TestColdTopic(t *testing.T) {
	b := bench{shared: madeTweets(t), work: t.TempDir(), seeds: 2, p: &progress{w: io.Discard}}
	topic, err := b.cold(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	values := valuesOf(t, topic.Records)
	get := func(name string) float64 {
		t.Helper()
		v, ok := values["quality.movietweetings."+name]
		if !ok || v < 0 {
			t.Errorf("%s: %v (there: %v)", name, v, ok)
		}
		return v
	}
	for _, kind := range []string{"", "among-hidden-", "boosted-"} {
		// Means of ratios are not ratios of means, but near enough.
		if got, want := get("cold."+kind+"ratio"), get("cold."+kind+"recall10")/get("warm."+kind+"recall10"); math.Abs(got-want) > 0.2*want+0.05 {
			t.Errorf("%sratio %v, recalls have %v", kind, got, want)
		}
	}
	for _, kind := range []string{"cold.", "warm."} {
		for _, s := range []string{"random", "popularity", "content"} {
			get(kind + s + ".recall10")
			get(kind + s + ".among-hidden-recall10")
		}
	}
	if got := get("cold.popularity.among-hidden-recall10"); math.Abs(got-get("cold.random.among-hidden-recall10")) > 1e-12 {
		t.Errorf("popularity knows something of items without events: %v", got)
	}
}

func TestColdCandidates(t *testing.T) {
	const users, items = 50, 100
	d := &data.Dataset{Items: make([]data.Item, items), Users: make([]data.User, users)}
	for u := range users {
		var h []data.Interaction
		for i := range 30 {
			h = append(h, data.Interaction{Item: int32((u*7 + i*(1+u%4)) % items), Time: int64(i)})
		}
		d.Histories = append(d.Histories, h)
	}
	c := data.HideItems(d, 0.2, minEvents, 1)
	q := newColdStart(d, c, c.Test, c.Warm.Test)
	had := func(user, item int32) bool {
		return slices.ContainsFunc(d.Histories[user], func(e data.Interaction) bool { return e.Item == item })
	}
	among, whole := q.amongHidden(), q.catalogue()
	sizes := map[int32]int{}
	for _, ask := range c.Test.Cases {
		got := among.cold(&ask)
		sizes[ask.User] = len(got) + 1 // with the target
		want := len(slices.DeleteFunc(slices.Clone(c.Test.Items), func(i int32) bool { return had(ask.User, i) }))
		if len(got) != want || slices.ContainsFunc(got, func(i int32) bool { return had(ask.User, i) }) {
			t.Errorf("user %d: candidates %v, want the %d hidden items not had", ask.User, got, want)
		}
	}
	for _, ask := range c.Warm.Test {
		got := among.warm(&ask)
		if want, asked := sizes[ask.User]; asked && len(got) != want {
			t.Errorf("user %d: %d warm candidates, want %d", ask.User, len(got), want)
		}
		for _, i := range got {
			if i != ask.Target.Item && (q.unseen[i] || slices.ContainsFunc(ask.History, func(e data.Interaction) bool { return e.Item == i })) {
				t.Errorf("user %d: candidate %d is hidden or was had", ask.User, i)
			}
		}
		slices.Sort(got)
		if len(slices.Compact(got)) != len(among.warm(&ask)) {
			t.Errorf("user %d: candidates %v twice", ask.User, got)
		}
		if all := whole.warm(&ask); slices.ContainsFunc(c.Valid.Items, func(i int32) bool { return slices.Contains(all, i) }) {
			t.Errorf("user %d: the catalogue of the test holds items that are hidden for validation", ask.User)
		}
	}
}
