package hostgpu

import (
	"cmp"
	"errors"
	"fmt"
	"math"

	"github.com/wisp-project/wisp/model"
)

// TextTrainOptions are the hyper-parameters of fine-tuning a text encoder. A zero
// field means its default.
type TextTrainOptions struct {
	Pairs       int     `json:"pairs"`        // most pairs of a batch (32)
	Temperature float64 `json:"temperature"`  // by which cosines are divided (0.05)
	WeightDecay float64 `json:"weight_decay"` // decoupled (0.01); negative for none
	ClipNorm    float64 `json:"clip_norm"`    // largest norm of the whole gradient (1); negative for none
	Dropout     float64 `json:"dropout"`      // share of activations (0.1); negative for none
	Seed        uint64  `json:"seed"`         // of dropout
}

func (o TextTrainOptions) withDefaults() TextTrainOptions {
	o.Pairs = cmp.Or(o.Pairs, 32)
	o.Temperature = cmp.Or(o.Temperature, 0.05)
	o.WeightDecay = max(cmp.Or(o.WeightDecay, 0.01), 0)
	o.ClipNorm = max(cmp.Or(o.ClipNorm, 1), 0)
	o.Dropout = max(cmp.Or(o.Dropout, 0.1), 0)
	return o
}

// Validate reports the first option that no run can follow.
func (o TextTrainOptions) Validate() error {
	if o.Pairs < 0 || o.Pairs > 1<<12 {
		return fmt.Errorf("%w: pairs is %d, must lie between 1 and %d, or be 0 for the default", ErrOptions, o.Pairs, 1<<12)
	}
	if o.Temperature < 0 || math.IsNaN(o.Temperature) || math.IsInf(o.Temperature, 0) {
		return fmt.Errorf("%w: temperature is %v, must be positive, or 0 for the default", ErrOptions, o.Temperature)
	}
	for _, f := range []struct {
		name     string
		v, limit float64
	}{
		{"weight decay", o.WeightDecay, 10},
		{"clip norm", o.ClipNorm, math.MaxFloat64},
		{"dropout", o.Dropout, 0.95},
	} {
		if math.IsNaN(f.v) || f.v > f.limit {
			return fmt.Errorf("%w: %s is %v, must not exceed %v", ErrOptions, f.name, f.v, f.limit)
		}
	}
	return nil
}

// TextTrainer fine-tunes a text encoder on pairs of texts that belong together,
// such as a user's profile and an item. Of the texts of a batch, each query must
// find its own item among all of them (contrastive loss of cosines). It is not
// safe for concurrent use.
type TextTrainer struct {
	m      *model.TextModel
	opts   TextTrainOptions
	state  *stepState
	adam   *adamW
	graphs map[int]*textGraph // by length of the texts in tokens
}

// NewTextTrainer prepares to fine-tune m, whose weights Step changes in place.
func NewTextTrainer(m *model.TextModel, opts TextTrainOptions) (*TextTrainer, error) {
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	o := opts.withDefaults()
	return &TextTrainer{
		m: m, opts: o, state: &stepState{seed: o.Seed}, adam: newAdamW(o.WeightDecay), graphs: map[int]*textGraph{},
	}, nil
}

// Step takes one step of AdamW at the given learning rate on the pairs
// (queries[i], items[i]), of which there must be as many as Pairs at most, and
// returns the loss before it. Texts are token ids, [CLS] and [SEP] included. A
// loss or gradient that is not finite gives ErrDiverged and leaves the weights as
// they were.
//
// There is a graph for each power of two to which lengths are rounded up, built
// when first needed; its memory is kept.
func (t *TextTrainer) Step(queries, items [][]int32, rate float64) (float64, error) {
	g, err := t.fill(queries, items)
	if err != nil {
		return 0, err
	}
	loss, err := g.step(t.adam, t.m.Weights, rate, t.opts.ClipNorm)
	if err != nil {
		return 0, fmt.Errorf("%w (step %d)", err, t.state.step+1)
	}
	t.state.step++
	return loss, nil
}

// fill lays the pairs into the graph of their length.
func (t *TextTrainer) fill(queries, items [][]int32) (*textGraph, error) {
	b := t.opts.Pairs
	if len(queries) != len(items) || len(queries) == 0 || len(queries) > b {
		return nil, fmt.Errorf("hostgpu: step: %w: %d queries and %d items, want as many of each, 1 to %d", model.ErrInput, len(queries), len(items), b)
	}
	longest := 0
	for _, texts := range [][][]int32{queries, items} {
		for i, ids := range texts {
			if err := t.m.Config.CheckTokens(ids); err != nil {
				return nil, fmt.Errorf("hostgpu: text of pair %d: %w", i, err)
			}
			longest = max(longest, len(ids))
		}
	}
	length := lengthStep
	for length < longest {
		length *= 2
	}
	length = min(length, t.m.Config.Positions)
	g := t.graphs[length]
	if g == nil {
		var err error
		g, err = newTextGraph(t.m.Config, t.m.Weights, b, length, float32(t.opts.Temperature), float32(t.opts.Dropout), t.state)
		if err != nil {
			return nil, err
		}
		t.graphs[length] = g
	}
	for i := range b {
		var query, item []int32
		if i < len(queries) {
			query, item = queries[i], items[i]
		}
		g.batch.put(i, query)
		g.batch.put(b+i, item)
	}
	return g, nil
}

// Close frees the graphs.
func (t *TextTrainer) Close() error {
	var errs []error
	for _, g := range t.graphs {
		errs = append(errs, g.close())
	}
	return errors.Join(errs...)
}
