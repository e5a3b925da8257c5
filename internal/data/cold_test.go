package data_test

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/wisp-project/wisp/internal/data"
)

// wanderers is a data set of users who take items at random; items from rare on
// have an event or none.
func wanderers(users, items, rare int) *data.Dataset {
	r := rand.New(rand.NewPCG(4, 0))
	d := &data.Dataset{Name: "wanderers", Items: make([]data.Item, items), Users: make([]data.User, users)}
	for u := range users {
		h := make([]data.Interaction, 3+r.IntN(20))
		for i := range h {
			h[i] = data.Interaction{Item: int32(r.IntN(rare)), Time: int64(i)}
		}
		if u < (items-rare)/2 {
			h[0].Item = int32(rare + u)
		}
		d.Histories = append(d.Histories, h)
	}
	return d
}

func TestHideItems(t *testing.T) {
	const items, rare, minEvents = 60, 50, 5
	d := wanderers(200, items, rare)
	c := data.HideItems(d, 0.1, minEvents, 1)
	if len(c.Valid.Items) != rare/10 || len(c.Test.Items) != rare/10 {
		t.Fatalf("%d and %d hidden items, want %d of each", len(c.Valid.Items), len(c.Test.Items), rare/10)
	}
	hidden := map[int32]string{}
	for _, i := range c.Valid.Items {
		hidden[i] = "validation"
	}
	for _, i := range c.Test.Items {
		if hidden[i] != "" {
			t.Errorf("item %d is hidden for validation and for the test", i)
		}
		hidden[i] = "test"
	}
	for i := range hidden {
		if i >= rare {
			t.Errorf("item %d is hidden and has hardly any events", i)
		}
	}
	if len(c.Others) != rare-len(hidden) || c.Others[len(c.Others)-1] >= rare {
		t.Errorf("%d other items, %v", len(c.Others), c.Others)
	}
	for _, i := range c.Others {
		if hidden[i] != "" {
			t.Errorf("item %d is hidden and among the others", i)
		}
	}
	noneHidden := func(what string, h []data.Interaction) {
		t.Helper()
		if i := slices.IndexFunc(h, func(e data.Interaction) bool { return hidden[e.Item] != "" }); i >= 0 {
			t.Errorf("%s names hidden item %d", what, h[i].Item)
		}
	}
	for u, h := range c.Warm.Train {
		noneHidden(fmt.Sprintf("the training history of user %d", u), h)
	}
	for _, q := range slices.Concat(c.Warm.Valid, c.Warm.Test) {
		noneHidden(fmt.Sprintf("a warm question to user %d", q.User), append(slices.Clone(q.History), q.Target))
	}
	if len(c.Warm.Valid) != len(c.Warm.Test) || len(c.Warm.Test) < 100 {
		t.Errorf("%d and %d warm questions", len(c.Warm.Valid), len(c.Warm.Test))
	}
	for _, part := range []struct {
		name string
		data.Hidden
	}{{"validation", c.Valid}, {"test", c.Test}} {
		asked := map[int32]data.Case{}
		for _, q := range part.Cases {
			asked[q.User] = q
		}
		if len(asked) != len(part.Cases) {
			t.Errorf("%s: %d questions to %d users", part.name, len(part.Cases), len(asked))
		}
		for u, h := range d.Histories {
			// By the definition: the last one, and what stands before it.
			last := -1
			var before []data.Interaction
			for i, e := range h {
				if hidden[e.Item] == part.name {
					last = i
				}
			}
			for _, e := range h[:max(last, 0)] {
				if hidden[e.Item] == "" {
					before = append(before, e)
				}
			}
			q, ok := asked[int32(u)]
			if want := last >= 0 && len(before) >= minEvents-1; ok != want {
				t.Fatalf("%s: user %d with %d events before the last on a hidden item (%d) was asked: %v", part.name, u, len(before), last, ok)
			}
			if ok && (q.Target != h[last] || !slices.Equal(q.History, before)) {
				t.Errorf("%s: user %d is asked for %v after %v, want %v after %v", part.name, u, q.Target, q.History, h[last], before)
			}
		}
	}
	if !reflect.DeepEqual(c, data.HideItems(d, 0.1, minEvents, 1)) {
		t.Error("the same seed hides other items")
	}
	if slices.Equal(c.Test.Items, data.HideItems(d, 0.1, minEvents, 2).Test.Items) {
		t.Error("another seed hides the same items")
	}
}
