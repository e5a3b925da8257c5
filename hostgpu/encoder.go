package hostgpu

import (
	"context"
	"fmt"
	"sync"

	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/model"
)

// Encoder computes user vectors in float32 for many histories at a time, with
// the kernels that train them. It is safe for concurrent use; calls take turns.
type Encoder struct {
	m    *model.Model
	rows int
	mu   sync.Mutex
	tw   *tower
	bt   *batch
}

// NewEncoder returns an encoder for m that works on batches of rows histories.
func NewEncoder(m *model.Model, rows int) *Encoder {
	t := m.Config.Reach()
	return &Encoder{m: m, rows: rows, tw: newTower(m.Config, rows, t, 0, nil), bt: newBatch(rows * t)}
}

// Users writes the user vector of each history to dst, (len(histories), D).
func (e *Encoder) Users(ctx context.Context, dst []float32, histories [][]model.Event) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	t, d, c := e.tw.t, e.m.Config.Dim, e.m.Config
	for lo := 0; lo < len(histories); lo += e.rows {
		if err := ctx.Err(); err != nil {
			return err
		}
		part := histories[lo:min(lo+e.rows, len(histories))]
		e.bt.fill(nil, nil, t, c)
		for r, h := range part {
			h = h[max(0, len(h)-t):]
			for i, ev := range h {
				if ev.Item < 0 || int(ev.Item) >= c.Items || int(ev.Type) >= c.EventTypes {
					return fmt.Errorf("hostgpu: encode: %w: item %d or type %d of event %d is outside the model", model.ErrInput, ev.Item, ev.Type, i)
				}
				e.bt.put(r*t+i, ev, 0, c)
			}
		}
		u := e.tw.forward(e.m.Weights, e.m.ItemVectors.Data, e.bt)
		for r, h := range part {
			n := min(len(h), t)
			if n == 0 {
				copy(dst[(lo+r)*d:], e.m.Weights[model.UserCold].Data)
				continue
			}
			copy(dst[(lo+r)*d:(lo+r+1)*d], u[(r*t+n-1)*d:])
		}
	}
	return nil
}

// Scorer answers evaluations with the float32 model.
type Scorer struct {
	name string
	enc  *Encoder
}

// NewScorer returns a scorer named name.
func NewScorer(name string, m *model.Model) *Scorer {
	return &Scorer{name: name, enc: NewEncoder(m, 1)}
}

// Name is the scorer's label.
func (s *Scorer) Name() string { return s.name }

// Scores writes u·v_i for every item to dst.
func (s *Scorer) Scores(ctx context.Context, dst []float32, _ int32, history []data.Interaction) error {
	u := make([]float32, s.enc.m.Config.Dim)
	if err := s.enc.Users(ctx, u, [][]model.Event{Events(history)}); err != nil {
		return err
	}
	v, d := s.enc.m.ItemVectors.Data, len(u)
	gemm(false, true, 1, len(dst), d, 1, u, d, v, d, 0, dst, len(dst))
	return nil
}
