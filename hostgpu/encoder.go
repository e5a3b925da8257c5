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
	mu   sync.Mutex
	tw   *tower
	bt   *batch
	last []int // for each history of the batch, the place of its last event; -1 for none
}

// NewEncoder returns an encoder for m that works on batches of rows times
// Config.Reach events; short histories share a row.
func NewEncoder(m *model.Model, rows int) *Encoder {
	t := m.Config.Reach()
	return &Encoder{m: m, tw: newTower(m.Config, rows, t, 0, nil), bt: newBatch(rows * t)}
}

// Users writes the user vector of each history to dst, (len(histories), D).
func (e *Encoder) Users(ctx context.Context, dst []float32, histories [][]model.Event) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	d := e.m.Config.Dim
	for len(histories) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := e.lay(histories); err != nil {
			return err
		}
		u := e.tw.forward(e.m.Weights, e.m.ItemVectors.Data, e.bt)
		for i, p := range e.last {
			from := e.m.Weights[model.UserCold].Data
			if p >= 0 {
				from = u[p*d : (p+1)*d]
			}
			copy(dst[i*d:(i+1)*d], from)
		}
		histories, dst = histories[len(e.last):], dst[len(e.last)*d:]
	}
	return nil
}

// Describe adds W_desc·f to user vectors, (n, D), f being the given vectors of their
// descriptions, (n, F_u): what model.Model.Describe does for one. It panics where
// the model has no descriptions.
func (e *Encoder) Describe(users, descriptions []float32) {
	d, f := e.m.Config.Dim, e.m.Config.Descriptions
	gemm(false, true, len(descriptions)/f, d, f, 1, descriptions, f, e.m.Weights[model.UserDescription].Data, f, 1, users, d)
}

// lay fills the batch with as many of the histories as fit, in order, one after
// the other in a row while there is room.
func (e *Encoder) lay(histories [][]model.Event) error {
	c, t := e.m.Config, e.tw.t
	_ = e.bt.fill(nil, nil, t, c) // nothing is read
	e.last = e.last[:0]
	row, at := 0, 0
	for _, h := range histories {
		h = h[max(0, len(h)-t):]
		if at+len(h) > t {
			row, at = row+1, 0
		}
		if row == e.tw.b {
			return nil
		}
		start := at
		for i, ev := range h {
			if ev.Item < 0 || int(ev.Item) >= c.Items || int(ev.Type) >= c.EventTypes {
				return fmt.Errorf("hostgpu: encode: %w: item %d or type %d of event %d is outside the model", model.ErrInput, ev.Item, ev.Type, i)
			}
			e.bt.put(row*t+at, ev, start, c)
			at++
		}
		if len(h) == 0 {
			e.last = append(e.last, -1)
		} else {
			e.last = append(e.last, row*t+at-1)
		}
	}
	return nil
}

// Scorer answers evaluations with the float32 model.
type Scorer struct {
	name         string
	enc          *Encoder
	descriptions *model.Tensor // (U, F_u), nil for none
	all          *sequencer
}

// NewScorer returns a scorer named name.
func NewScorer(name string, m *model.Model) *Scorer {
	return &Scorer{name: name, enc: NewEncoder(m, 1), all: &sequencer{}}
}

// WithDescriptions returns a scorer that knows the users' descriptions, by their
// given vectors, (U, F_u); nil for none.
func (s *Scorer) WithDescriptions(users *model.Tensor) *Scorer {
	return &Scorer{name: s.name, enc: s.enc, descriptions: users, all: s.all}
}

// Name is the scorer's label.
func (s *Scorer) Name() string { return s.name }

// Scores writes u·v_i for every item to dst.
func (s *Scorer) Scores(ctx context.Context, dst []float32, user int32, history []data.Interaction) error {
	u := make([]float32, s.enc.m.Config.Dim)
	if err := s.enc.Users(ctx, u, [][]model.Event{Events(history)}); err != nil {
		return err
	}
	if s.descriptions != nil {
		if err := s.describe(u, user); err != nil {
			return err
		}
	}
	v, d := s.enc.m.ItemVectors.Data, len(u)
	gemm(false, true, 1, len(dst), d, 1, u, d, v, d, 0, dst, len(dst))
	return nil
}

// describe adds to u what the description of a user says.
func (s *Scorer) describe(u []float32, user int32) error {
	f, fu := s.descriptions, s.enc.m.Config.Descriptions
	if len(f.Shape) != 2 || f.Shape[1] != fu || fu == 0 || user < 0 || int(user) >= f.Shape[0] {
		return fmt.Errorf("hostgpu: score: %w: no description of user %d in vectors of shape %v, of which the model reads a width of %d",
			model.ErrInput, user, f.Shape, fu)
	}
	s.enc.Describe(u, f.Row(int(user)))
	return nil
}
