package hostgpu

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/wisp-project/wisp/model"
)

// TextTrainOptions are the hyper-parameters of fine-tuning a text encoder. A zero
// field means its default.
type TextTrainOptions struct {
	// FrozenLayers, where it is above 0, is the number of lowest blocks that are
	// not trained, and neither are the embeddings: they have no gradients and no
	// moments. At least one block is trained.
	FrozenLayers int `json:"frozen_layers"`

	Pairs       int     `json:"pairs"`        // most pairs of a batch (32)
	Temperature float64 `json:"temperature"`  // by which cosines are divided (0.05)
	WeightDecay float64 `json:"weight_decay"` // decoupled (0.01); negative for none
	ClipNorm    float64 `json:"clip_norm"`    // largest norm of the whole gradient (1); negative for none
	Dropout     float64 `json:"dropout"`      // share of activations, of trained blocks only (0.1); negative for none
	Seed        uint64  `json:"seed"`         // of dropout

	// Of TextRun only; whoever calls TextTrainer.Step says the rate of each step.
	Epochs       int     `json:"epochs"`        // at most (3)
	Patience     int     `json:"patience"`      // epochs without a better validation before stopping (2)
	LearningRate float64 `json:"learning_rate"` // the highest of the Schedule (0.00002)
	Warmup       float64 `json:"warmup"`        // share of all steps in which the rate rises (0.1); negative for none
}

func (o TextTrainOptions) withDefaults() TextTrainOptions {
	o.Pairs = cmp.Or(o.Pairs, 32)
	o.Temperature = cmp.Or(o.Temperature, 0.05)
	o.WeightDecay = max(cmp.Or(o.WeightDecay, 0.01), 0)
	o.ClipNorm = max(cmp.Or(o.ClipNorm, 1), 0)
	o.Dropout = max(cmp.Or(o.Dropout, 0.1), 0)
	o.Epochs = cmp.Or(o.Epochs, 3)
	o.Patience = cmp.Or(o.Patience, 2)
	o.LearningRate = cmp.Or(o.LearningRate, 2e-5)
	o.Warmup = max(cmp.Or(o.Warmup, 0.1), 0)
	return o
}

// Validate reports the first option that no run can follow.
func (o TextTrainOptions) Validate() error {
	for _, f := range []struct {
		name     string
		v, limit int
	}{
		{"frozen layers", o.FrozenLayers, 1 << 10},
		{"pairs", o.Pairs, 1 << 12},
		{"epochs", o.Epochs, 1 << 16},
		{"patience", o.Patience, 1 << 16},
	} {
		if f.v < 0 || f.v > f.limit {
			return fmt.Errorf("%w: %s is %d, must lie between 0 and %d", ErrOptions, f.name, f.v, f.limit)
		}
	}
	if o.Temperature < 0 || math.IsNaN(o.Temperature) || math.IsInf(o.Temperature, 0) {
		return fmt.Errorf("%w: temperature is %v, must be positive, or 0 for the default", ErrOptions, o.Temperature)
	}
	if !(o.LearningRate >= 0 && o.LearningRate <= 1) {
		return fmt.Errorf("%w: learning rate is %v, must lie between 0 and 1, 0 meaning the default", ErrOptions, o.LearningRate)
	}
	for _, f := range []struct {
		name     string
		v, limit float64
	}{
		{"weight decay", o.WeightDecay, 10},
		{"clip norm", o.ClipNorm, math.MaxFloat64},
		{"dropout", o.Dropout, 0.95},
		{"warm-up", o.Warmup, 1},
	} {
		if math.IsNaN(f.v) || f.v > f.limit {
			return fmt.Errorf("%w: %s is %v, must not exceed %v", ErrOptions, f.name, f.v, f.limit)
		}
	}
	return nil
}

// TextTrainer fine-tunes a text encoder on pairs of texts that belong together,
// such as a user's profile and an item. Of the texts of a batch, each query must
// find its own item among all of them (contrastive loss of cosines). Where
// another pair's item has the same text, it is masked: it would be no wrong
// answer. A TextTrainer is not safe for concurrent use.
type TextTrainer struct {
	m      *model.TextModel
	opts   TextTrainOptions
	state  *stepState
	adam   *adamW
	graphs map[int]*textGraph // by length of the texts in tokens

	// The frozen part runs outside the graphs.
	frozen *textTower // nil where nothing is frozen
	y      []float32  // (P, D) memory for it
}

// NewTextTrainer prepares to fine-tune m, whose weights Step changes in place.
func NewTextTrainer(m *model.TextModel, opts TextTrainOptions) (*TextTrainer, error) {
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	o := opts.withDefaults()
	if o.FrozenLayers >= m.Config.Layers {
		return nil, fmt.Errorf("%w: frozen layers is %d, the encoder has %d, one of which must be trained", ErrOptions, o.FrozenLayers, m.Config.Layers)
	}
	t := &TextTrainer{
		m: m, opts: o, state: &stepState{seed: o.Seed}, adam: newAdamW(o.WeightDecay), graphs: map[int]*textGraph{},
	}
	if o.FrozenLayers > 0 {
		t.frozen = newTextTower(m.Config, 0, nil)
	}
	return t, nil
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
		g, err = newTextGraph(t.m.Config, t.m.Weights, t.opts, length, t.state)
		if err != nil {
			return nil, err
		}
		t.graphs[length] = g
	}
	groups := map[string]int{} // by text: whoever reads it cannot tell two items with the same one apart
	for i := range b {
		var query, item []int32
		if i < len(queries) {
			query, item = queries[i], items[i]
			key := tokenKey(item)
			if _, ok := groups[key]; !ok {
				groups[key] = len(groups)
			}
			g.groups[i] = groups[key]
		}
		g.batch.put(i, query)
		g.batch.put(b+i, item)
	}
	if t.frozen != nil {
		t.frozen.reshape(2*b, length)
		t.y = resize(t.y, len(g.states))
		t.frozen.embedTokens(g.states, t.y, t.m.Weights, g.batch)
		t.frozen.blocks(g.states, t.y, t.m.Weights, g.batch.lengths, 0, t.opts.FrozenLayers)
	}
	return g, nil
}

// tokenKey returns a text's tokens as a string of bytes.
func tokenKey(ids []int32) string {
	key := make([]byte, 0, 4*len(ids))
	for _, id := range ids {
		key = binary.LittleEndian.AppendUint32(key, uint32(id))
	}
	return string(key)
}

// Close frees the graphs.
func (t *TextTrainer) Close() error {
	var errs []error
	for _, g := range t.graphs {
		errs = append(errs, g.close())
	}
	return errors.Join(errs...)
}
