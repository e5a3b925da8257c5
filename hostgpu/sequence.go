package hostgpu

import (
	"context"
	"fmt"
	"sync"

	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/model"
)

// sequenceBlock is how many events of a history are scored by one pass of the tower.
const sequenceBlock = 128

// sequencer scores a history after each of its events: what Encoder does for the
// last one. Calls take turns.
type sequencer struct {
	mu sync.Mutex
	tw *tower
	bt *batch
}

// Sequence writes the scores of every item after each of the events lo to hi-1 of
// history to dst, (hi-lo, N): what Scores gives for history[:lo+1] and so on, by one
// pass over all of them. See eval.Sequencer.
func (s *Scorer) Sequence(ctx context.Context, dst []float32, user int32, history []data.Interaction, lo, hi int) error {
	n, d, v := s.enc.m.Config.Items, s.enc.m.Config.Dim, s.enc.m.ItemVectors.Data
	if len(dst) != (hi-lo)*n {
		return fmt.Errorf("hostgpu: score: %w: events %d to %d, with room for %d scores", model.ErrInput, lo, hi, len(dst))
	}
	return s.Users(ctx, user, history, lo, hi, func(u []float32) {
		t := len(u) / d
		gemm(false, true, t, n, d, 1, u, d, v, d, 0, dst, n)
		dst = dst[t*n:]
	})
}

// Users calls f with the user vectors after the events lo to hi-1 of history, (T, D), some
// at a time in their order; f must not keep them. See Sequence.
func (s *Scorer) Users(ctx context.Context, user int32, history []data.Interaction, lo, hi int, f func(u []float32)) error {
	m := s.enc.m
	c, v, d := m.Config, m.ItemVectors.Data, m.Config.Dim
	if lo < 0 || lo > hi || hi > len(history) {
		return fmt.Errorf("hostgpu: score: %w: events %d to %d of %d", model.ErrInput, lo, hi, len(history))
	}
	events := Events(history)
	for i, e := range events {
		if e.Item < 0 || int(e.Item) >= c.Items || int(e.Type) >= c.EventTypes {
			return fmt.Errorf("hostgpu: score: %w: item %d or type %d of event %d is outside the model", model.ErrInput, e.Item, e.Type, i)
		}
	}
	s.all.mu.Lock()
	defer s.all.mu.Unlock()
	if s.all.tw == nil {
		t := c.Reach() - 1 + sequenceBlock
		s.all.tw, s.all.bt = newTower(c, 1, t, 0, nil), newBatch(t)
	}
	for ; lo < hi; lo += sequenceBlock {
		if err := ctx.Err(); err != nil {
			return err
		}
		to := min(lo+sequenceBlock, hi)
		from := max(0, lo-(c.Reach()-1))
		_ = s.all.bt.fill(nil, nil, s.all.tw.t, c) // nothing is read
		for i := from; i < to; i++ {
			s.all.bt.put(i-from, events[i], 0, c)
		}
		u := s.all.tw.forward(m.Weights, v, s.all.bt)[(lo-from)*d : (to-from)*d]
		if s.descriptions != nil {
			for i := range to - lo {
				if err := s.describe(u[i*d:(i+1)*d], user); err != nil {
					return err
				}
			}
		}
		f(u)
	}
	return nil
}
