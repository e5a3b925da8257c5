package hostgpu

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/wisp-project/wisp/model"
)

// TextClassifyOptions are the hyper-parameters of a text classifier. A zero field
// means its default.
type TextClassifyOptions struct {
	// FrozenLayers, where it is above 0, is the number of lowest blocks that are
	// not trained, and neither are the embeddings. At the number of all blocks
	// only the head is trained.
	FrozenLayers int `json:"frozen_layers"`
	// AdapterRank and AdapterScale are those of TextTrainOptions.
	AdapterRank  int     `json:"adapter_rank"`
	AdapterScale float64 `json:"adapter_scale"`

	Epochs       int     `json:"epochs"`        // passes over the training texts (3)
	Batch        int     `json:"batch"`         // most texts of a batch (32)
	LearningRate float64 `json:"learning_rate"` // highest, after warm-up (0.0002)
	Warmup       float64 `json:"warmup"`        // share of the steps in which the rate rises, as Schedule says (0.1); negative for none
	WeightDecay  float64 `json:"weight_decay"`  // decoupled (0.01); negative for none
	ClipNorm     float64 `json:"clip_norm"`     // largest norm of the whole gradient (1); negative for none
	Dropout      float64 `json:"dropout"`       // share of activations (0.1); negative for none
	Smoothing    float64 `json:"smoothing"`     // label smoothing (0.1); negative for none
	Seed         uint64  `json:"seed"`          // of the order of the texts and of dropout

	// ConstantRate leaves out the Schedule: each step has the highest rate. It is
	// there to be compared with.
	ConstantRate bool `json:"constant_rate"`
}

func (o TextClassifyOptions) withDefaults() TextClassifyOptions {
	o.AdapterScale = cmp.Or(o.AdapterScale, 1)
	o.Epochs = cmp.Or(o.Epochs, 3)
	o.Batch = cmp.Or(o.Batch, 32)
	o.LearningRate = cmp.Or(o.LearningRate, 2e-4)
	o.Warmup = max(cmp.Or(o.Warmup, 0.1), 0)
	o.WeightDecay = max(cmp.Or(o.WeightDecay, 0.01), 0)
	o.ClipNorm = max(cmp.Or(o.ClipNorm, 1), 0)
	o.Dropout = max(cmp.Or(o.Dropout, 0.1), 0)
	o.Smoothing = max(cmp.Or(o.Smoothing, 0.1), 0)
	return o
}

// Validate reports the first option that no run can follow.
func (o TextClassifyOptions) Validate() error {
	for _, f := range []struct {
		name     string
		v, limit int
	}{
		{"frozen layers", o.FrozenLayers, 1 << 10},
		{"epochs", o.Epochs, 1 << 16},
		{"batch", o.Batch, 1 << 12},
	} {
		if f.v < 0 || f.v > f.limit {
			return fmt.Errorf("%w: text classifier: %s is %d, must lie between 0 and %d", ErrOptions, f.name, f.v, f.limit)
		}
	}
	if err := validAdapters(o.AdapterRank, o.AdapterScale); err != nil {
		return err
	}
	if !(o.LearningRate >= 0 && o.LearningRate <= 1) {
		return fmt.Errorf("%w: text classifier: learning rate is %v, must lie between 0 and 1", ErrOptions, o.LearningRate)
	}
	for _, f := range []struct {
		name     string
		v, limit float64
	}{
		{"warm-up", o.Warmup, 1},
		{"weight decay", o.WeightDecay, 10},
		{"clip norm", o.ClipNorm, math.MaxFloat64},
		{"dropout", o.Dropout, 0.95},
		{"smoothing", o.Smoothing, 0.95},
	} {
		if math.IsNaN(f.v) || f.v > f.limit {
			return fmt.Errorf("%w: text classifier: %s is %v, must not exceed %v", ErrOptions, f.name, f.v, f.limit)
		}
	}
	return nil
}

// TextClassifyProgress is what Train tells after each step.
type TextClassifyProgress struct {
	Step, Steps int     // finished steps, steps in all
	Loss        float64 // of the batch, before the step
	Rate        float64 // learning rate of the step
}

// TextClassifier tells which of some classes a text belongs to, such as the
// sentiment of a review: a linear layer on the pooled vectors of the tokens, and
// the upper blocks of a pretrained encoder, trained together. Embeddings are
// pooled as the encoder does it, and not scaled to length 1.
//
// What the frozen part makes of a text does not change, so Train computes it once
// for each text and keeps it, 4·D bytes for each token; training again, as in
// cross-validation, uses it. A TextClassifier is not safe for concurrent use.
type TextClassifier struct {
	m       *model.TextModel
	classes int
	opts    TextClassifyOptions

	specs    []model.Spec  // what is trained
	weights  model.Weights // those of m that stay, copies of the others, those of adapters, and the head's
	adapters *adapters     // nil without any
	frozen   *frozenText

	// The graphs of all lengths share their kernels, whose memory is then that of
	// the longest.
	state  *stepState
	tower  *textTower
	head   *classification
	graphs map[int]*textClassGraph // by length of the texts in tokens
}

// NewTextClassifier returns a classifier of texts into the given number of
// classes on top of m, whose weights it reads and never changes. Until it is
// trained, all classes are equally probable.
func NewTextClassifier(m *model.TextModel, classes int, opts TextClassifyOptions) (*TextClassifier, error) {
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	o := opts.withDefaults()
	if o.FrozenLayers > m.Config.Layers {
		return nil, fmt.Errorf("%w: text classifier: frozen layers is %d, the encoder has %d", ErrOptions, o.FrozenLayers, m.Config.Layers)
	}
	if classes < 2 || classes > 1<<16 {
		return nil, fmt.Errorf("%w: text classifier: %d classes, must lie between 2 and %d", ErrOptions, classes, 1<<16)
	}
	c := &TextClassifier{
		m: m, classes: classes, opts: o,
		state: &stepState{seed: o.Seed}, graphs: map[int]*textClassGraph{},
	}
	c.tower = newTextTower(m.Config, float32(o.Dropout), c.state)
	c.head = &classification{
		b: o.Batch, d: m.Config.Dim, c: classes, smoothing: float32(o.Smoothing),
		drop: &dropout{share: float32(o.Dropout), site: 1 << 16, state: c.state}, // a site that no block has
	}
	c.weights = maps.Clone(m.Weights)
	c.adapters = newAdapters(textBlockSpecs(m.Config, o.FrozenLayers), m.Weights, nil, o.AdapterRank, o.AdapterScale)
	c.frozen = newFrozenText(m.Config, c.weights, o.FrozenLayers, o.FrozenLayers > 0 || c.adapters != nil)
	for _, tw := range []*textTower{c.tower, c.frozen.tower} {
		tw.pool.unit = false
	}
	c.specs = append(trainedSpecs(trainedTextSpecs(m.Config, o.FrozenLayers), c.adapters), c.head.specs()...)
	for _, s := range slices.Concat(c.specs, textBlockSpecs(m.Config, o.FrozenLayers)) {
		c.weights[s.Name] = model.NewTensor(s.Shape...)
	}
	c.reset()
	return c, nil
}

// Options returns the options with their defaults filled in.
func (c *TextClassifier) Options() TextClassifyOptions { return c.opts }

// With returns an untrained classifier with other options, of the same encoder
// and classes. Where as many blocks are frozen, both use what either keeps of
// texts; then they must not be used at the same time.
func (c *TextClassifier) With(opts TextClassifyOptions) (*TextClassifier, error) {
	other, err := NewTextClassifier(c.m, c.classes, opts)
	if err == nil && other.opts.FrozenLayers == c.opts.FrozenLayers && other.frozen.frozen == c.frozen.frozen {
		other.frozen.known = c.frozen.known
	}
	return other, err
}

// Parameters returns how many values are trained, those of the head among them,
// and how many the encoder has.
func (c *TextClassifier) Parameters() (trained, encoder int) {
	return parameters(c.specs), parameters(c.m.Config.Specs())
}

// reset brings the weights back to those of the encoder and of an empty head, in
// place, as the graphs share their memory.
func (c *TextClassifier) reset() {
	for name, w := range c.weights {
		if from := c.m.Weights[name]; from == nil {
			clear(w.Data)
		} else if from != w {
			copy(w.Data, from.Data)
		}
	}
	c.adapters.draw(c.weights, c.opts.Seed)
	c.state.step = 0
}

// Train fits the classifier to texts, token ids with [CLS] and [SEP] included,
// and their classes, counted from 0. It starts from the encoder's weights, not
// from those of an earlier call; the same arguments give the same classifier.
// progress, which may be nil, is called after each step, and may call Predict.
//
// The error wraps model.ErrInput for a text that the encoder cannot read,
// ErrData for classes that do not fit, ErrDiverged for a loss or gradient that
// is not finite, or is the context's. After an error the classifier is one that
// was trained for the steps before.
func (c *TextClassifier) Train(ctx context.Context, texts [][]int32, classes []int, progress func(TextClassifyProgress)) error {
	if len(texts) == 0 || len(texts) != len(classes) {
		return fmt.Errorf("%w: text classifier: %d texts and the classes of %d", ErrData, len(texts), len(classes))
	}
	for i, class := range classes {
		if class < 0 || class >= c.classes {
			return fmt.Errorf("%w: text classifier: class of text %d is %d, must lie between 0 and %d", ErrData, i, class, c.classes-1)
		}
	}
	if err := c.Remember(ctx, texts); err != nil {
		return err
	}
	c.reset()
	adam := newAdamW(c.opts.WeightDecay)
	p := TextClassifyProgress{Steps: c.opts.Epochs * ((len(texts) + c.opts.Batch - 1) / c.opts.Batch)}
	schedule := Schedule{Peak: c.opts.LearningRate, Warmup: int(math.Round(c.opts.Warmup * float64(p.Steps))), Steps: p.Steps}
	for epoch := range c.opts.Epochs {
		for _, rows := range c.batches(texts, epoch) {
			if err := ctx.Err(); err != nil {
				return err
			}
			g, err := c.fill(texts, classes, rows)
			if err != nil {
				return err
			}
			if p.Rate = schedule.Rate(p.Step); c.opts.ConstantRate {
				p.Rate = schedule.Peak
			}
			if p.Loss, err = g.step(adam, c.weights, p.Rate, c.opts.ClipNorm); err != nil {
				return fmt.Errorf("%w (step %d of %d)", err, p.Step+1, p.Steps)
			}
			c.adapters.merge(host, c.weights, c.weights)
			c.state.step++
			p.Step++
			if progress != nil {
				progress(p)
			}
		}
	}
	return nil
}

func (c *TextClassifier) check(texts [][]int32) error {
	for i, ids := range texts {
		if err := c.m.Config.CheckTokens(ids); err != nil {
			return fmt.Errorf("hostgpu: classify text %d: %w", i, err)
		}
	}
	return nil
}

// batches deals the texts of an epoch to batches of like length, drawn anew in
// each epoch, and puts the batches in random order.
func (c *TextClassifier) batches(texts [][]int32, epoch int) [][]int {
	return batchesOfLikeLength(texts, c.opts.Batch, rand.New(rand.NewPCG(c.opts.Seed, uint64(epoch))))
}

// batchesOfLikeLength draws batches of at most size texts, given by their places,
// that are about as long as each other, in random order.
func batchesOfLikeLength(texts [][]int32, size int, rng *rand.Rand) [][]int {
	order := rng.Perm(len(texts))
	steps := func(i int) int { return (len(texts[i]) + lengthStep - 1) / lengthStep }
	slices.SortStableFunc(order, func(a, b int) int { return steps(a) - steps(b) })
	batches := slices.Collect(slices.Chunk(order, size))
	rng.Shuffle(len(batches), func(i, j int) { batches[i], batches[j] = batches[j], batches[i] })
	return batches
}

// fill lays the given texts into the graph of their length.
func (c *TextClassifier) fill(texts [][]int32, classes, rows []int) (*textClassGraph, error) {
	length := 0
	for _, i := range rows {
		length = max(length, paddedLength(c.m.Config, len(texts[i])))
	}
	c.tower.reshape(batchRows{b: c.opts.Batch, t: length})
	g := c.graphs[length]
	if g == nil {
		var err error
		if g, err = newTextClassGraph(c.weights, c.tower, c.head, c.opts.FrozenLayers, c.adapters); err != nil {
			return nil, err
		}
		c.graphs[length] = g
	}
	read := make([][]int32, 0, len(rows))
	for b := range g.targets {
		if b >= len(rows) {
			g.batch.put(b, nil)
			g.targets[b] = -1
			continue
		}
		ids := texts[rows[b]]
		g.batch.put(b, ids)
		g.targets[b] = classes[rows[b]]
		read = append(read, ids)
	}
	if g.states != nil {
		c.frozen.recall(g.states, read, length) // of what Train remembered
	}
	return g, nil
}

// Predict returns the probability of each class for each text, (len(texts),
// classes). The error wraps model.ErrInput for a text that the encoder cannot
// read, or is the context's.
func (c *TextClassifier) Predict(ctx context.Context, texts [][]int32) ([]float32, error) {
	if err := c.check(texts); err != nil {
		return nil, err
	}
	d, probabilities := c.m.Config.Dim, make([]float32, len(texts)*c.classes)
	var logits []float32
	err := c.frozen.embed(ctx, texts, func(pooled []float32, rows []int) {
		logits = resize(logits, len(rows)*c.classes)
		linear(host, onHost(logits), onHost(pooled), onHost(c.weights[classifyWeight].Data), onHost(c.weights[classifyBias].Data), d, c.classes)
		for b, i := range rows {
			row := logits[b*c.classes : (b+1)*c.classes]
			softmax(row, 1)
			copy(probabilities[i*c.classes:], row)
		}
	})
	return probabilities, err
}

// Remember keeps what the frozen part makes of texts, as Train does, for Predict
// to use. The error is like that of Predict.
func (c *TextClassifier) Remember(ctx context.Context, texts [][]int32) error {
	if err := c.check(texts); err != nil {
		return err
	}
	return c.frozen.remember(ctx, texts)
}

// Close frees the graphs. The classifier still predicts.
func (c *TextClassifier) Close() error {
	var errs []error
	for length, g := range c.graphs {
		errs = append(errs, g.close())
		delete(c.graphs, length)
	}
	return errors.Join(errs...)
}
