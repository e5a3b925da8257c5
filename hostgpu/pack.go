package hostgpu

import (
	"math/rand/v2"

	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/model"
)

// Events returns a history as the model reads it, with time gaps.
func Events(h []data.Interaction) []model.Event {
	gaps := data.Gaps(h)
	events := make([]model.Event, len(h))
	for i, e := range h {
		events[i] = model.Event{Item: e.Item, Type: e.Type, Gap: gaps[i]}
	}
	return events
}

// piece is a stretch of a sequence, at most a row long.
type piece struct{ seq, lo, hi int }

// pack lays out one epoch: sequences in random order, those longer than a row
// cut at random places, every event once, packed into rows of t events (first
// fit over the latest open rows). It returns the pieces of each row.
func pack(seqs []sequence, t int, rng *rand.Rand) [][]piece {
	var pieces []piece
	for _, s := range rng.Perm(len(seqs)) {
		n := int(seqs[s].n)
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

// fill writes rows, at most b of them, of what m holds into a batch of b rows of t
// events. The error is one of reading.
func (bt *batch) fill(m *material, rows [][]piece, t int, c model.Config) error {
	for i := range bt.targets {
		bt.items[i], bt.types[i], bt.gaps[i], bt.targets[i], bt.soft[i], bt.users[i] = 0, 0, 0, -1, -1, -1
		bt.starts[i] = i % t // padding attends to itself
	}
	for r, row := range rows {
		at := 0
		for _, p := range row {
			events, next, err := m.read(p)
			if err != nil {
				return err
			}
			s, start := m.seqs[p.seq], at
			for j, e := range events {
				bt.put(r*t+at, e, start, c)
				bt.targets[r*t+at], bt.users[r*t+at] = int(next[j]), int(s.user)
				if s.soft >= 0 {
					bt.soft[r*t+at] = int(s.soft) + p.lo + j
				}
				at++
			}
		}
	}
	return nil
}

func (bt *batch) put(i int, e model.Event, start int, c model.Config) {
	bt.items[i], bt.types[i], bt.gaps[i] = int(e.Item), int(e.Type), c.GapBucket(e.Gap)
	bt.starts[i] = start
}
