package data

import (
	"math/rand/v2"
	"slices"
)

// ColdStart is a data set divided to see what becomes of items that come without
// events: some items are hidden, and no event on them is left in what trains.
type ColdStart struct {
	// Warm is the leave-one-out split of the events on all other items: what a
	// model is trained on, and the questions that hidden items are compared with.
	Warm *Split
	// Valid and Test are the hidden items; no item is in both.
	Valid, Test Hidden
	// Others are the items that could have been hidden and were not, in ascending
	// order.
	Others []int32
}

// Hidden are items that nothing was trained on, and questions about them.
type Hidden struct {
	Items []int32 // in ascending order
	// Cases asks for the last hidden item of each user. The history is what the
	// user did before, without any hidden item.
	Cases []Case
}

// HideItems hides the given share of the items with at least minEvents events for
// validation, and as many others for the test, both drawn with the seed. A user
// needs minEvents events, hidden ones aside, to be asked about warm items, and
// minEvents-1 before a hidden item to be asked about it, so that both kinds of
// question have histories of the same least length.
//
// Nothing that is trained on names a hidden item or the target of a warm question.
// As always where the last event of each user is held out, events of other users
// that happened later than a target are trained on; before a hidden target stands
// not always the user's last warm event, so that later ones of the same user may be
// too. ByTime is the split for who minds.
func HideItems(d *Dataset, share float64, minEvents int, seed uint64) *ColdStart {
	counts := make([]int, len(d.Items))
	for _, h := range d.Histories {
		for _, e := range h {
			counts[e.Item]++
		}
	}
	var known []int32
	for i, n := range counts {
		if n >= minEvents {
			known = append(known, int32(i))
		}
	}
	rand.New(rand.NewPCG(seed, 0xc01d)).Shuffle(len(known), func(i, j int) { known[i], known[j] = known[j], known[i] })
	n := min(int(share*float64(len(known))), len(known)/2)
	valid, test, others := known[:n], known[n:2*n], known[2*n:]
	for _, part := range [][]int32{valid, test, others} {
		slices.Sort(part)
	}

	hidden := make([]bool, len(d.Items))
	for _, i := range slices.Concat(valid, test) {
		hidden[i] = true
	}
	warm := *d
	warm.Histories = make([][]Interaction, len(d.Histories))
	for u, h := range d.Histories {
		warm.Histories[u] = slices.DeleteFunc(slices.Clone(h), func(e Interaction) bool { return hidden[e.Item] })
	}
	c := &ColdStart{
		Warm:  LeaveOneOut(&warm, minEvents),
		Valid: Hidden{valid, lastOn(d, valid, warm.Histories, hidden, minEvents-1)},
		Test:  Hidden{test, lastOn(d, test, warm.Histories, hidden, minEvents-1)},

		Others: others,
	}
	c.Warm.Protocol = "cold-start"
	return c
}

// lastOn returns the questions about the last event of each user on one of the
// items, which are hidden like others, where at least minHistory warm events stand
// before it.
func lastOn(d *Dataset, items []int32, warm [][]Interaction, hidden []bool, minHistory int) []Case {
	asked := make([]bool, len(d.Items))
	for _, i := range items {
		asked[i] = true
	}
	var cases []Case
	for u, h := range d.Histories {
		before := len(warm[u]) // warm events before h[t]
		for t := len(h) - 1; t >= 0 && before >= minHistory; t-- {
			if asked[h[t].Item] {
				cases = append(cases, Case{User: int32(u), History: warm[u][:before], Target: h[t]})
				break
			}
			if !hidden[h[t].Item] {
				before--
			}
		}
	}
	return cases
}
