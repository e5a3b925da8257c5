package hostgpu

import (
	"math/rand/v2"

	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/model"
)

// sequence is the training material of one user: events and, for each, the item
// that came next, which the trainer turns into its place in what the softmax ranks;
// -1 where none is known.
type sequence struct {
	user   int
	events []model.Event
	next   []int32
	soft   int // the soft target of the first event, the others follow it; -1 for none
}

// Events returns a history as the model reads it, with time gaps.
func Events(h []data.Interaction) []model.Event {
	gaps := data.Gaps(h)
	events := make([]model.Event, len(h))
	for i, e := range h {
		events[i] = model.Event{Item: e.Item, Type: e.Type, Gap: gaps[i]}
	}
	return events
}

// sequences makes training material of histories; those with fewer than two
// events have no next item and are left out.
func sequences(histories [][]data.Interaction) []sequence {
	var all []sequence
	for user, h := range histories {
		if len(h) < 2 {
			continue
		}
		s := sequence{user: user, events: Events(h)[:len(h)-1], soft: -1}
		for _, e := range h[1:] {
			s.next = append(s.next, e.Item)
		}
		all = append(all, s)
	}
	return all
}

// piece is a stretch of a sequence, at most a row long.
type piece struct{ seq, lo, hi int }

// pack lays out one epoch: sequences in random order, those longer than a row
// cut at random places, every event once, packed into rows of t events (first
// fit over the latest open rows). It returns the pieces of each row.
func pack(seqs []sequence, t int, rng *rand.Rand) [][]piece {
	var pieces []piece
	for _, s := range rng.Perm(len(seqs)) {
		n := len(seqs[s].next)
		lo := 0
		if n > t {
			// A first cut anywhere in the first row: over the epochs every event
			// stands behind every length of context.
			lo = 1 + rng.IntN(t)
			pieces = append(pieces, piece{s, 0, lo})
		}
		for ; lo < n; lo += t {
			pieces = append(pieces, piece{s, lo, min(lo+t, n)})
		}
	}
	rng.Shuffle(len(pieces), func(i, j int) { pieces[i], pieces[j] = pieces[j], pieces[i] })
	const open = 64
	var rows [][]piece
	var free []int
	for _, p := range pieces {
		n := p.hi - p.lo
		row := -1
		for r := max(0, len(rows)-open); r < len(rows); r++ {
			if free[r] >= n {
				row = r
				break
			}
		}
		if row < 0 {
			row = len(rows)
			rows, free = append(rows, nil), append(free, t)
		}
		rows[row] = append(rows[row], p)
		free[row] -= n
	}
	return rows
}

// fill writes rows, at most b of them, into a batch of b rows of t events.
func (bt *batch) fill(seqs []sequence, rows [][]piece, t int, c model.Config) {
	for i := range bt.targets {
		bt.items[i], bt.types[i], bt.gaps[i], bt.targets[i], bt.soft[i], bt.users[i] = 0, 0, 0, -1, -1, -1
		bt.starts[i] = i % t // padding attends to itself
	}
	for r, row := range rows {
		at := 0
		for _, p := range row {
			start := at
			for j := p.lo; j < p.hi; j++ {
				bt.put(r*t+at, seqs[p.seq].events[j], start, c)
				bt.targets[r*t+at], bt.users[r*t+at] = int(seqs[p.seq].next[j]), seqs[p.seq].user
				if s := seqs[p.seq].soft; s >= 0 {
					bt.soft[r*t+at] = s + j
				}
				at++
			}
		}
	}
}

func (bt *batch) put(i int, e model.Event, start int, c model.Config) {
	bt.items[i], bt.types[i], bt.gaps[i] = int(e.Item), int(e.Type), c.GapBucket(e.Gap)
	bt.starts[i] = start
}
