package retrain

import (
	"fmt"
	"math"

	"github.com/wisp-project/wisp/internal/data"
)

// Limits say which new events are taken for what people did. A zero field means its
// default; a negative share or factor switches its check off.
type Limits struct {
	MaxBroken  float64 `json:"max_broken"`  // share of rows that cannot be used (0.1)
	MaxUnknown float64 `json:"max_unknown"` // share of events with items that nobody has heard of (0.5)
	MaxBots    float64 `json:"max_bots"`    // share of events by users faster than a person (0.2)
	// MaxNewcomers is the share of events by users who had none before (0.6): accounts
	// are easily made.
	MaxNewcomers float64 `json:"max_newcomers"`
	// MaxBurst is how many times the events of the busiest day until now a new day may
	// have (4).
	MaxBurst float64 `json:"max_burst"`
	// Late is how many seconds before the last known event an event may still come in
	// (7 days), Early how many after the present (an hour).
	Late  int64 `json:"late"`
	Early int64 `json:"early"`
}

// WithDefaults returns the limits with defaults filled in.
func (l Limits) WithDefaults() Limits {
	for _, f := range []struct {
		v *float64
		d float64
	}{{&l.MaxBroken, 0.1}, {&l.MaxUnknown, 0.5}, {&l.MaxBots, 0.2}, {&l.MaxNewcomers, 0.6}, {&l.MaxBurst, 4}} {
		switch {
		case *f.v == 0:
			*f.v = f.d
		case *f.v < 0:
			*f.v = -1
		}
	}
	if l.Late == 0 {
		l.Late = 7 * 86400
	}
	if l.Early == 0 {
		l.Early = 3600
	}
	return l
}

// Validate reports the first limit that has no meaning.
func (l Limits) Validate() error {
	for _, f := range []struct {
		name    string
		v, most float64
	}{{"share of broken rows", l.MaxBroken, 1}, {"share of unknown items", l.MaxUnknown, 1}, {"share of bots", l.MaxBots, 1}, {"share of newcomers", l.MaxNewcomers, 1}, {"burst", l.MaxBurst, 1e9}} {
		if math.IsNaN(f.v) || f.v > f.most {
			return fmt.Errorf("%w: %s is %v, must not exceed %v", ErrOptions, f.name, f.v, f.most)
		}
	}
	if l.Late < 0 || l.Early < 0 {
		return fmt.Errorf("%w: %d seconds late and %d early; neither may be negative", ErrOptions, l.Late, l.Early)
	}
	return nil
}

// Reasons for which an event of a feed is left out.
const (
	reasonScale = "rating outside the scale of those known"
	reasonEarly = "later than the present"
	reasonLate  = "long before the last event known"
)

// Known is what new events are compared with.
type Known struct {
	Items              map[string]bool // ids
	Users              map[string]bool // ids of those with events
	RatingLo, RatingHi float32
	To                 int64         // time of the last event
	Now                int64         // the present
	Days               map[int64]int // events of each day, by Unix time over a day
}

// NewKnown knows nothing yet but the ends of the scale of ratings and the present.
func NewKnown(ratingLo, ratingHi float32, now int64) *Known {
	return &Known{Items: map[string]bool{}, Users: map[string]bool{}, RatingLo: ratingLo, RatingHi: ratingHi, Now: now, Days: map[int64]int{}}
}

// Add adds an event to what is known.
func (k *Known) Add(e data.Event) {
	k.Items[e.Item], k.Users[e.User] = true, true
	k.To = max(k.To, e.Time)
	k.Days[day(e.Time)]++
}

// day is the number of a day since 1970.
func day(t int64) int64 { return t / 86400 }

// Watch looks at new events one at a time.
type Watch struct {
	known   Known
	limits  Limits
	unknown int64 // events with unknown items
	newly   int64 // events by newcomers
	days    map[int64]int
}

// NewWatch compares events with what is known.
func NewWatch(known Known, limits Limits) *Watch {
	return &Watch{known: known, limits: limits.WithDefaults(), days: map[int64]int{}}
}

// See returns why an event must be left out, nothing where it is kept.
func (w *Watch) See(e data.Event) string {
	k := &w.known
	switch {
	case e.Kind == data.Rating && (e.Value < k.RatingLo || e.Value > k.RatingHi):
		return reasonScale
	case e.Time > k.Now+w.limits.Early:
		return reasonEarly
	case e.Time < k.To-w.limits.Late:
		return reasonLate
	}
	if !k.Items[e.Item] {
		w.unknown++
	}
	if !k.Users[e.User] {
		w.newly++
	}
	w.days[day(e.Time)]++
	return ""
}

// Judge says whether the events of a report, all of which See has seen, may be learnt
// from. The error wraps ErrEvents, and says what to do.
func (w *Watch) Judge(rep *data.Report) error {
	l := w.limits
	if share, limit := part(rep.Rows-rep.Kept, rep.Rows), l.MaxBroken; limit >= 0 && share > limit {
		worst := rep.Dropped[0]
		for _, d := range rep.Dropped {
			if d.Count > worst.Count {
				worst = d
			}
		}
		hint := "has their schema changed?"
		switch worst.Reason {
		case reasonEarly, reasonLate:
			hint = "does a clock go wrong, or are these old events? Then allow them with --late"
		case reasonScale:
			hint = "has their scale changed? Then begin a new state, or translate them"
		}
		example := ""
		if len(worst.Examples) > 0 {
			example = " (" + worst.Examples[0] + ")"
		}
		return fmt.Errorf("%w: %d of %d new events cannot be used, and at most %s may: %d are %s%s; %s",
			ErrEvents, rep.Rows-rep.Kept, rep.Rows, percent(limit), worst.Count, worst.Reason, example, hint)
	}
	if share := part(w.unknown, rep.Kept); l.MaxUnknown >= 0 && share > l.MaxUnknown {
		return fmt.Errorf("%w: %s of the new events are of items that nobody knows, at most %s may be: have the ids changed? If they are new, give them with --items",
			ErrEvents, percent(share), percent(l.MaxUnknown))
	}
	if share := part(w.newly, rep.Kept); l.MaxNewcomers >= 0 && share > l.MaxNewcomers {
		return fmt.Errorf("%w: %s of the new events are by users who had none before, at most %s may be: are they people? If so, allow more with --max-newcomers, else leave them out with --discard",
			ErrEvents, percent(share), percent(l.MaxNewcomers))
	}
	busiest, usual := busiestDay(w.days), busiestDay(w.known.Days)
	if l.MaxBurst >= 0 && usual > 0 && float64(busiest) > l.MaxBurst*float64(usual) {
		return fmt.Errorf("%w: a day with %d new events, where until now the busiest had %d: are they people's? If so, allow more with --max-burst, else leave them out with --discard",
			ErrEvents, busiest, usual)
	}
	return nil
}

// JudgeBots says whether so many events of bots, among the new ones, are too many to
// trust the others.
func (l Limits) JudgeBots(bots, events int64) error {
	l = l.WithDefaults()
	if share := part(bots, events); l.MaxBots >= 0 && share > l.MaxBots {
		return fmt.Errorf("%w: %s of the new events are by users faster than a person, at most %s may be: look at them, then leave them out with --discard or allow more with --max-bots",
			ErrEvents, percent(share), percent(l.MaxBots))
	}
	return nil
}

func busiestDay(days map[int64]int) int {
	most := 0
	for _, n := range days {
		most = max(most, n)
	}
	return most
}

func part(n, of int64) float64 {
	if of == 0 {
		return 0
	}
	return float64(n) / float64(of)
}

func percent(share float64) string { return fmt.Sprintf("%.3g %%", 100*share) }
