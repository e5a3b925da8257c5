package hostgpu

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/wisp-project/wisp/internal/tokenize"
	"github.com/wisp-project/wisp/model"
)

// TextTrainOptions are the hyper-parameters of fine-tuning a text encoder. A zero
// field means its default.
type TextTrainOptions struct {
	// FrozenLayers, where it is above 0, is the number of lowest blocks that are
	// not trained, and neither are the embeddings: they have no gradients and no
	// moments. At least one block is trained.
	FrozenLayers int `json:"frozen_layers"`
	// AdapterRank, where it is above 0, is the rank of the adapters that are trained
	// in place of the blocks: the matrices W of those that are not frozen become
	// W + AdapterScale·B·A (Hu et al. 2022), all else of the encoder stays as it is.
	// Adapters want a rate about ten times as high.
	AdapterRank  int     `json:"adapter_rank"`
	AdapterScale float64 `json:"adapter_scale"` // also written alpha/rank (1)

	// Losses are the weights of the losses that are summed; all 0 for the
	// contrastive one alone.
	Losses TextLosses `json:"losses"`
	// Special are the tokenizer's, which the masked-language loss asks for.
	Special tokenize.SpecialIDs `json:"special"`

	Pairs       int     `json:"pairs"`        // most pairs of a batch, or in pre-training most texts (32)
	Temperature float64 `json:"temperature"`  // by which cosines are divided (0.05)
	Smoothing   float64 `json:"smoothing"`    // label smoothing of the contrastive loss (none)
	WeightDecay float64 `json:"weight_decay"` // decoupled (0.01); negative for none
	ClipNorm    float64 `json:"clip_norm"`    // largest norm of the whole gradient (1); negative for none
	Dropout     float64 `json:"dropout"`      // share of activations, of trained blocks only (0.1); negative for none
	Seed        uint64  `json:"seed"`         // of dropout

	// Device is where it computes; nil for the processors. A run may go on on another
	// device, to a result that differs in its last bits.
	Device *Device `json:"-"`

	// Of TextRun only; whoever calls TextTrainer.Step says the rate of each step.
	Epochs       int     `json:"epochs"`        // at most (3)
	Patience     int     `json:"patience"`      // epochs without a better validation before stopping (2)
	LearningRate float64 `json:"learning_rate"` // the highest of the Schedule (0.00002)
	Warmup       float64 `json:"warmup"`        // share of all steps in which the rate rises (0.1); negative for none
}

// TextLosses are weights of the losses that a text encoder may be trained on.
type TextLosses struct {
	Contrastive float64 `json:"contrastive"` // each query must find its item among those of the batch
	MaskedLM    float64 `json:"masked_lm"`   // hidden tokens of all texts must be guessed
	// NextItem is the weight of the towers' own loss, of a Trainer that trains an
	// encoder too.
	NextItem float64 `json:"next_item,omitzero"`
}

func (o TextTrainOptions) withDefaults() TextTrainOptions {
	if o.Losses == (TextLosses{}) {
		o.Losses.Contrastive = 1
	}
	o.AdapterScale = cmp.Or(o.AdapterScale, 1)
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
	if err := validAdapters(o.AdapterRank, o.AdapterScale); err != nil {
		return err
	}
	for _, f := range []struct {
		name string
		v    float64
	}{
		{"contrastive", o.Losses.Contrastive},
		{"masked-language", o.Losses.MaskedLM},
		{"next-item", o.Losses.NextItem},
	} {
		if !(f.v >= 0 && f.v <= 1e6) {
			return fmt.Errorf("%w: weight of the %s loss is %v, must lie between 0 and 1e6", ErrOptions, f.name, f.v)
		}
	}
	if o.Losses.MaskedLM > 0 && (o.Special == (tokenize.SpecialIDs{}) || o.Special.Mask < 0) {
		return fmt.Errorf("%w: the masked-language loss needs the special tokens of the tokenizer, [MASK] among them; take an encoder whose vocabulary has it", ErrOptions)
	}
	if !(o.Smoothing >= 0 && o.Smoothing <= 0.95) {
		return fmt.Errorf("%w: smoothing is %v, must lie between 0 and 0.95", ErrOptions, o.Smoothing)
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
// answer. With a masked-language loss, hidden tokens of the same texts are to be
// guessed besides. A TextTrainer is not safe for concurrent use.
type TextTrainer struct {
	m        *model.TextModel
	opts     TextTrainOptions
	weights  model.Weights // those of m, of adapters, and of the heads that losses need
	adapters *adapters     // nil without any
	dev      device
	state    *stepState
	adam     *adamW
	graphs   map[batchRows]*textGraph
	masked   *maskedLoss  // nil without that loss
	heads    []model.Spec // of other heads that are trained

	// The frozen part runs outside the graphs.
	frozen *textTower // nil where nothing is frozen
	y      vector     // (P, D) memory for it
}

// NewTextTrainer prepares to fine-tune m, whose weights Step changes in place, those on
// a GPU when Pull is called.
func NewTextTrainer(m *model.TextModel, opts TextTrainOptions) (*TextTrainer, error) {
	if opts.Losses.NextItem != 0 {
		return nil, fmt.Errorf("%w: the next-item loss is that of towers, which a text encoder alone has none of; give the encoder to NewTrainer", ErrOptions)
	}
	return newTextTrainer(m, opts)
}

func newTextTrainer(m *model.TextModel, opts TextTrainOptions) (_ *TextTrainer, err error) {
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	o := opts.withDefaults()
	if o.FrozenLayers >= m.Config.Layers {
		return nil, fmt.Errorf("%w: frozen layers is %d, the encoder has %d, one of which must be trained", ErrOptions, o.FrozenLayers, m.Config.Layers)
	}
	t := &TextTrainer{
		m: m, opts: o, dev: o.Device.open(), weights: maps.Clone(m.Weights),
		adapters: newAdapters(textBlockSpecs(m.Config, o.FrozenLayers), m.Weights, nil, o.AdapterRank, o.AdapterScale),
		state:    &stepState{seed: o.Seed}, adam: newAdamW(o.WeightDecay), graphs: map[batchRows]*textGraph{},
	}
	t.adapters.draw(t.weights, o.Seed)
	if o.Losses.MaskedLM > 0 {
		if t.masked, err = newMaskedLoss(m.Config, o.Special, 2*o.Pairs); err != nil {
			return nil, err
		}
		maps.Copy(t.weights, maskedHead(m))
	}
	if o.FrozenLayers > 0 || t.adapters != nil {
		t.frozen = newTextTower(m.Config, 0, nil)
	}
	return t, nil
}

// specs lists the tensors that are trained.
func (t *TextTrainer) specs() []model.Spec {
	specs := trainedSpecs(trainedTextSpecs(t.m.Config, t.opts.FrozenLayers), t.adapters)
	if t.masked != nil {
		specs = append(specs, t.m.Config.MaskedSpecs()...)
	}
	return append(specs, t.heads...)
}

// trained returns a copy of the tensors that are trained, as they are now.
func (t *TextTrainer) trained() model.Weights {
	w := model.Weights{}
	for _, s := range t.specs() {
		w[s.Name] = t.weights[s.Name]
	}
	return cloneWeights(w)
}

// model returns the encoder with the weights that trained gave, adapters merged
// into the others; it shares nothing with the trainer.
func (t *TextTrainer) model(trained model.Weights) *model.TextModel {
	w := cloneWeights(t.m.Weights)
	for name, x := range w {
		if from := trained[name]; from != nil {
			copy(x.Data, from.Data)
		}
	}
	t.adapters.merge(host, w, trained)
	return &model.TextModel{Config: t.m.Config, Weights: w}
}

// Step takes one step of AdamW at the given learning rate on the pairs
// (queries[i], items[i]), of which there must be as many as Pairs at most, and
// returns the loss before it. Texts are token ids, [CLS] and [SEP] included. A
// loss or gradient that is not finite gives ErrDiverged and leaves the weights as
// they were.
//
// Lengths are rounded up to powers of two, those of queries and of items apart.
// There is a graph for each such shape, built when first needed; its memory is kept.
func (t *TextTrainer) Step(queries, items [][]int32, rate float64) (float64, error) {
	b := t.opts.Pairs
	if len(queries) != len(items) || len(queries) == 0 || len(queries) > b {
		return 0, fmt.Errorf("hostgpu: step: %w: %d queries and %d items, want as many of each, 1 to %d", model.ErrInput, len(queries), len(items), b)
	}
	loss, err := t.descend(queries, items, rate)
	if errors.Is(err, ErrDeviceMemory) && t.forget() {
		return t.descend(queries, items, rate)
	}
	return loss, err
}

func (t *TextTrainer) descend(queries, items [][]int32, rate float64) (float64, error) {
	terms, err := t.terms(queries, items)
	if err != nil {
		return 0, err
	}
	return t.step(rate, terms...)
}

// forget gives back the memory that a GPU has for batches of other shapes, and reports
// whether there was any. A smaller batch would be no way out: each text is compared
// with all others of it.
func (t *TextTrainer) forget() bool {
	g, ok := t.dev.(*gpu)
	shapes := len(t.graphs)
	if t.masked != nil {
		shapes += len(t.masked.graphs)
	}
	if !ok || shapes < 2 || !g.forgive() || t.pull() != nil || t.Close() != nil {
		return false
	}
	t.dev, t.y, t.adam.sums = t.opts.Device.open(), vector{}, map[string]vector{}
	clear(t.graphs)
	if t.masked != nil {
		clear(t.masked.graphs)
	}
	if t.frozen != nil {
		t.frozen = newTextTower(t.m.Config, 0, nil)
	}
	return true
}

// terms are the losses of pairs.
func (t *TextTrainer) terms(queries, items [][]int32) ([]term, error) {
	var terms []term
	if w := t.opts.Losses.Contrastive; w > 0 {
		g, err := t.fill(queries, items)
		if err != nil {
			return nil, err
		}
		terms = append(terms, term{g.graph, w})
	}
	if w := t.opts.Losses.MaskedLM; w > 0 {
		g, err := t.hide(slices.Concat(queries, items))
		if err != nil {
			return nil, err
		}
		terms = append(terms, term{g.graph, w})
	}
	return terms, nil
}

// step runs the graphs of terms and takes a step down the sum of their losses,
// which it returns.
func (t *TextTrainer) step(rate float64, terms ...term) (sum float64, err error) {
	for _, m := range terms {
		loss, err := m.g.evaluate()
		if err != nil {
			return 0, fmt.Errorf("%w (step %d)", err, t.state.step+1)
		}
		sum += m.weight * loss
	}
	if err := descend(t.adam, t.weights, rate, t.opts.ClipNorm, terms...); err != nil {
		return 0, fmt.Errorf("%w (step %d)", err, t.state.step+1)
	}
	t.adapters.merge(t.dev, t.weights, t.weights)
	t.state.step++
	return sum, nil
}

// padded checks texts and returns the length to which a graph pads them.
func (t *TextTrainer) padded(texts ...[]int32) (int, error) {
	length := lengthStep
	for i, ids := range texts {
		if err := t.m.Config.CheckTokens(ids); err != nil {
			return 0, fmt.Errorf("hostgpu: text %d of a batch: %w", i, err)
		}
		for length < len(ids) {
			length *= 2
		}
	}
	return min(length, t.m.Config.Positions), nil
}

// fill lays the pairs into the graph of their length.
func (t *TextTrainer) fill(queries, items [][]int32) (*textGraph, error) {
	b := t.opts.Pairs
	long, err := t.padded(queries...)
	if err != nil {
		return nil, fmt.Errorf("%w, of the queries", err)
	}
	short, err := t.padded(items...)
	if err != nil {
		return nil, fmt.Errorf("%w, of the items", err)
	}
	rows := batchRows{b: b, t: long, short: b, u: short}
	if short >= long {
		rows = batchRows{b: 2 * b, t: short}
	}
	g := t.graphs[rows]
	if g == nil {
		if g, err = newTextGraph(t.dev, t.m.Config, t.weights, t.adapters, t.opts, rows, t.state); err != nil {
			return nil, err
		}
		t.graphs[rows] = g
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
	t.freeze(g.states, g.batch)
	return g, nil
}

// freeze writes to states, (P, D), what the frozen part makes of bt, where there
// is one.
func (t *TextTrainer) freeze(states []float32, bt *textBatch) {
	if t.frozen == nil {
		return
	}
	t.frozen.reshape(bt.batchRows)
	t.y = t.dev.resize(t.y, len(states))
	x := t.dev.mirror(states)
	t.frozen.embedTokens(t.dev, x, t.y, t.weights, bt)
	t.frozen.blocks(t.dev, x, t.y, t.weights, bt.lengths, 0, t.opts.FrozenLayers)
}

// tokenKey returns a text's tokens as a string of bytes.
func tokenKey(ids []int32) string {
	key := make([]byte, 0, 4*len(ids))
	for _, id := range ids {
		key = binary.LittleEndian.AppendUint32(key, uint32(id))
	}
	return string(key)
}

// Pull brings the weights that Step has changed on a GPU to those of the encoder.
// Without one there is nothing to bring.
func (t *TextTrainer) Pull() error { return pullWeights(t.dev, t.weights) }

// pull brings all that a device has changed to the host.
func (t *TextTrainer) pull() error { return pullWeights(t.dev, t.weights, t.adam.m, t.adam.v) }

// Close frees the graphs, and the memory of a GPU.
func (t *TextTrainer) Close() error {
	errs := []error{t.dev.close()}
	for _, g := range t.graphs {
		errs = append(errs, g.close())
	}
	if t.masked != nil {
		for _, g := range t.masked.graphs {
			errs = append(errs, g.close())
		}
	}
	return errors.Join(errs...)
}
