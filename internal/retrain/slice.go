package retrain

import (
	"math/rand/v2"
	"slices"

	"github.com/wisp-project/wisp/hostgpu"
	"github.com/wisp-project/wisp/internal/data"
)

// NewestSlice is the protocol of a split whose test cases are of the newest events.
const NewestSlice = "newest slice"

// Cut returns the moment from which on the given share of the events since horizon is
// held out.
func Cut(d *data.Dataset, horizon int64, share float64) int64 {
	var times []int64
	for _, h := range d.Histories {
		for _, e := range h {
			if e.Time >= horizon {
				times = append(times, e.Time)
			}
		}
	}
	if len(times) == 0 {
		return horizon
	}
	slices.Sort(times)
	return times[min(int((1-share)*float64(len(times))), len(times)-1)]
}

// Split holds out the events from the given moment on: of each user who did something
// before, the first of them is asked for.
func Split(d *data.Dataset, from int64) *data.Split {
	s := data.ByTime(d, from, from)
	s.Protocol = NewestSlice
	return s
}

// Histories returns what a model that has learnt everything before horizon learns from
// histories: their newer events, each after up to window of those before it; and, so
// that it does not forget, stretches of older ones, drawn from all users, until they
// have the given multiple of the newer events (experience replay, as in Rolnick et al.
// 2019).
func Histories(histories [][]data.Interaction, horizon int64, window int, rehearsal float64, rng *rand.Rand) []hostgpu.Lesson {
	var lessons []hostgpu.Lesson
	add := func(user int, h []data.Interaction) int {
		if len(h) < 2 {
			return 0
		}
		l := hostgpu.Lesson{User: user, Events: h[:len(h)-1]}
		for _, e := range h[1:] {
			l.Next = append(l.Next, e.Item)
		}
		lessons = append(lessons, l)
		return len(l.Next)
	}
	olds, fresh, again := make([]int, len(histories)), 0, 0
	for u, h := range histories {
		olds[u] = slices.IndexFunc(h, func(e data.Interaction) bool { return e.Time >= horizon })
		if olds[u] < 0 {
			olds[u] = len(h)
			continue
		}
		from := max(0, olds[u]-window)
		fresh += len(h) - olds[u]
		add(u, h[from:])
		again += olds[u] - from
	}
	wanted := int(rehearsal * float64(fresh))
	for _, u := range rng.Perm(len(histories)) {
		if again >= wanted {
			break
		}
		h := histories[u][:olds[u]]
		if most := 2 * window; len(h) > most {
			at := rng.IntN(len(h) - most + 1)
			h = h[at : at+most]
		}
		again += add(u, h)
	}
	return lessons
}

// Places returns of each item of d its place in ids, -1 where it is not among them.
func Places(d *data.Dataset, ids []string) []int32 {
	at := make(map[string]int32, len(ids))
	for i, id := range ids {
		at[id] = int32(i)
	}
	places := make([]int32, len(d.Items))
	for i := range d.Items {
		places[i] = -1
		if j, ok := at[d.Items[i].ID]; ok {
			places[i] = j
		}
	}
	return places
}
