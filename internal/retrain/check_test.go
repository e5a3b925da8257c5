package retrain_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/internal/retrain"
)

// TestWatch has new events of many kinds judged; the known ones end at day 100.
func TestWatch(t *testing.T) {
	const dayLong, end = 86400, 100 * 86400
	known := *retrain.NewKnown(1, 5, end+7*dayLong)
	for i := range 101 { // at most ten a day
		known.Add(data.Event{User: fmt.Sprint("u", i), Item: "a", Time: end - int64((100-i)/10)*dayLong})
	}
	usual := func(n int) []data.Event {
		var all []data.Event
		for i := range n {
			all = append(all, data.Event{User: fmt.Sprint("u", i%100), Item: "a", Kind: data.Click, Time: end + int64(i%7)*dayLong})
		}
		return all
	}
	for name, test := range map[string]struct {
		events func() []data.Event
		limits retrain.Limits
		says   []string // nothing: they may be learnt from
	}{
		"usual":   {events: func() []data.Event { return usual(70) }},
		"none":    {events: func() []data.Event { return nil }},
		"few bad": {events: func() []data.Event { e := usual(70); e[3].Time = end + 99*dayLong; return e }},
		"a little late": {events: func() []data.Event {
			e := usual(70)
			for i := range 30 {
				e[i].Time = end - 6*dayLong + int64(i%5)*dayLong
			}
			return e
		}},
		"clock behind": {
			events: func() []data.Event {
				e := usual(70)
				for i := range 30 {
					e[i].Time = end - 90*dayLong
				}
				return e
			},
			says: []string{"30 of 70", "long before the last event known", "a clock", "--late"},
		},
		"old events allowed": {
			events: func() []data.Event {
				e := usual(70)
				for i := range e {
					e[i].Time -= 90 * dayLong
				}
				return e
			},
			limits: retrain.Limits{Late: 100 * dayLong},
		},
		"clock ahead": {
			events: func() []data.Event {
				e := usual(70)
				for i := range 8 {
					e[i].Time = known.Now + 2*3600
				}
				return e
			},
			says: []string{"8 of 70", "later than the present", "a clock"},
		},
		"another scale": {
			events: func() []data.Event {
				e := usual(70)
				for i := range 20 {
					e[i].Kind, e[i].Value = data.Rating, 10
				}
				return e
			},
			says: []string{"20 of 70", "outside the scale", "new state"},
		},
		"other ids": {
			events: func() []data.Event {
				e := usual(70)
				for i := range 40 {
					e[i].Item = fmt.Sprint("item-", e[i].Item)
				}
				return e
			},
			says: []string{"57.1 %", "items that nobody knows", "--items"},
		},
		"newcomers": {
			events: func() []data.Event {
				e := usual(70)
				for i := range 50 {
					e[i].User = "new-" + e[i].User
				}
				return e
			},
			says: []string{"71.4 %", "users who had none before", "--max-newcomers", "--discard"},
		},
		"newcomers allowed": {
			events: func() []data.Event {
				e := usual(70)
				for i := range e {
					e[i].User = "new-" + e[i].User
				}
				return e
			},
			limits: retrain.Limits{MaxNewcomers: -1},
		},
		"a burst": {
			events: func() []data.Event {
				e := usual(70)
				for range 40 {
					e = append(e, data.Event{User: "u1", Item: "a", Kind: data.Click, Time: end})
				}
				return e
			},
			says: []string{"50 new events", "busiest had 10", "--max-burst", "--discard"},
		},
		"a burst allowed": {events: func() []data.Event { return usual(700) }, limits: retrain.Limits{MaxBurst: 100}},
	} {
		t.Run(name, func(t *testing.T) {
			w, rep := retrain.NewWatch(known, test.limits), data.Report{}
			for _, e := range test.events() {
				rep.Rows++
				reason := w.See(e)
				if reason == "" {
					rep.Kept++
					continue
				}
				if len(rep.Dropped) == 0 {
					rep.Dropped = []data.Drop{{Reason: reason}}
				}
				rep.Dropped[0].Count++
			}
			err := w.Judge(&rep)
			if len(test.says) == 0 {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if !errors.Is(err, retrain.ErrEvents) {
				t.Fatalf("got %v", err)
			}
			for _, word := range test.says {
				if !strings.Contains(err.Error(), word) {
					t.Errorf("it does not say %q: %v", word, err)
				}
			}
		})
	}
}

func TestJudgeBots(t *testing.T) {
	if err := (retrain.Limits{}).JudgeBots(20, 100); err != nil {
		t.Error(err)
	}
	if err := (retrain.Limits{}).JudgeBots(21, 100); !errors.Is(err, retrain.ErrEvents) {
		t.Errorf("21 of 100: %v", err)
	}
	if err := (retrain.Limits{MaxBots: -1}).JudgeBots(100, 100); err != nil {
		t.Error(err)
	}
}

func TestOptionsValidate(t *testing.T) {
	if err := (retrain.Options{}).WithDefaults().Validate(); err != nil {
		t.Error(err)
	}
	for name, o := range map[string]retrain.Options{
		"epochs": {Epochs: -1}, "rate": {LearningRate: 2}, "holdout": {Holdout: 1}, "rehearsal": {Rehearsal: 1e6}, "steps": {SaveEvery: -1}, "bits": {ItemBits: 9}, "rank": {AdapterRank: 1 << 13},
		"margin": {Gate: retrain.Gate{Margin: -0.1}}, "cases": {Gate: retrain.Gate{MinCases: -1}}, "decay": {Gate: retrain.Gate{MaxDecay: 1.5}},
		"broken": {Limits: retrain.Limits{MaxBroken: 1.5}}, "late": {Limits: retrain.Limits{Late: -1}},
	} {
		if err := o.Validate(); !errors.Is(err, retrain.ErrOptions) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
