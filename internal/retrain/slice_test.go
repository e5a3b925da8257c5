package retrain_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/internal/retrain"
)

// users with n events each, one a second from the given time on.
func histories(n int, from ...int64) [][]data.Interaction {
	var all [][]data.Interaction
	for u, start := range from {
		var h []data.Interaction
		for i := range n {
			h = append(h, data.Interaction{Item: int32(u*1000 + i), Time: start + int64(i)})
		}
		all = append(all, h)
	}
	return all
}

func TestCutAndSplit(t *testing.T) {
	d := &data.Dataset{Histories: histories(100, 0, 50)} // events at 0 to 149
	cut := retrain.Cut(d, 100, 0.2)                      // 50 events since 100: the last 10
	if cut != 140 {
		t.Errorf("cut at %d", cut)
	}
	s := retrain.Split(d, cut)
	if len(s.Train[0]) != 100 || len(s.Train[1]) != 90 || len(s.Valid) != 0 || len(s.Test) != 1 {
		t.Fatalf("train %d and %d, %d valid, %d test", len(s.Train[0]), len(s.Train[1]), len(s.Valid), len(s.Test))
	}
	if c := s.Test[0]; c.User != 1 || c.Target.Time != 140 || len(c.History) != 90 {
		t.Errorf("case %+v", c)
	}
	if cut := retrain.Cut(d, 1000, 0.2); cut != 1000 {
		t.Errorf("without new events cut at %d", cut)
	}
}

func TestHistories(t *testing.T) {
	h := histories(100, 0, 0, 0, 0, 0, 0, 0, 0, 40) // only the last has events from 100 on
	for name, test := range map[string]struct {
		rehearsal float64
		lessons   func(n int) bool
	}{
		"none":   {-1, func(n int) bool { return n == 1 }},
		"some":   {2, func(n int) bool { return n > 1 && n < 9 }},
		"a lot":  {1000, func(n int) bool { return n == 10 }}, // also the old part of the last
		"enough": {0.25, func(n int) bool { return n == 1 }},  // the context is old already
	} {
		t.Run(name, func(t *testing.T) {
			l := retrain.Histories(h, 100, 10, test.rehearsal, rand.New(rand.NewPCG(1, 1)))
			if !test.lessons(len(l)) {
				t.Fatalf("%d lessons", len(l))
			}
			fresh := l[0]
			if fresh.User != 8 || len(fresh.Events) != 49 || fresh.Events[0].Time != 90 || fresh.Next[48] != 8099 {
				t.Errorf("the new events: user %d, %d from %d, next %d", fresh.User, len(fresh.Events), fresh.Events[0].Time, fresh.Next[len(fresh.Next)-1])
			}
			for _, lesson := range l {
				if len(lesson.Events) != len(lesson.Next) {
					t.Fatal("events without a next item")
				}
				for i, next := range lesson.Next {
					if next != lesson.Events[i].Item+1 {
						t.Fatalf("%d follows %d", next, lesson.Events[i].Item)
					}
				}
			}
			for _, lesson := range l[1:] {
				if len(lesson.Events) > 20 || lesson.Events[len(lesson.Events)-1].Time >= 100 {
					t.Errorf("rehearsed: %d events to %d", len(lesson.Events), lesson.Events[len(lesson.Events)-1].Time)
				}
			}
			again := retrain.Histories(h, 100, 10, test.rehearsal, rand.New(rand.NewPCG(1, 1)))
			if len(again) != len(l) || again[len(l)-1].User != l[len(l)-1].User {
				t.Error("another time it is something else")
			}
		})
	}
}

func TestPlaces(t *testing.T) {
	d := &data.Dataset{Items: []data.Item{{ID: "b"}, {ID: "x"}, {ID: "a"}}}
	if got := retrain.Places(d, []string{"a", "b"}); !slices.Equal(got, []int32{1, -1, 0}) {
		t.Errorf("%v", got)
	}
}
