package hostgpu

import (
	"context"
	"errors"
	"fmt"

	"github.com/wisp-project/wisp/internal/eval"
	"github.com/wisp-project/wisp/model"
)

// CrossRun trains a cross-encoder to tell the next item of a user from others, as
// TextRun trains an encoder: the metric is NDCG@10 of the first stage's list in
// the order that the cross-encoder helps to give it. Before any training that is
// the order of the first stage.
type CrossRun struct {
	*TextRun
	task *ranking
}

// NewCrossRun prepares to train e, whose weights Run changes in place, on a task.
// A batch has as many lists as opts.Pairs pairs make. Of opts, Losses,
// Temperature, Smoothing and Special have no meaning here; the learning rate is
// 0.0001 by default. The error wraps ErrOptions, or ErrData for a task without
// lists or with one that cannot be.
func NewCrossRun(e *CrossEncoder, task CrossTask, opts TextTrainOptions) (*CrossRun, error) {
	none := TextTrainOptions{}
	opts.Losses, opts.Temperature, opts.Smoothing, opts.Special = none.Losses, none.Temperature, none.Smoothing, none.Special
	if opts.LearningRate == 0 {
		opts.LearningRate = 1e-4
	}
	t, err := NewTextTrainer(e.m, opts)
	if err != nil {
		return nil, err
	}
	if task.Negatives < 1 {
		return nil, fmt.Errorf("%w: lists with %d wrong answers; at least one is needed", ErrOptions, task.Negatives)
	}
	spec := crossSpec(e.m.Config)
	t.heads = []model.Spec{spec}
	t.weights[CrossWeight] = e.Head()
	m := 1 + task.Negatives
	r := &ranking{
		CrossTask: task, trainer: t, encoder: e, lists: max(t.opts.Pairs/m, 1), m: m,
		tower: newTextTower(e.m.Config, float32(t.opts.Dropout), t.state), graphs: map[int]*crossGraph{},
	}
	r.tower.pool.unit = false
	r.head = &listwise{
		b: r.lists, m: m, d: e.m.Config.Dim,
		drop: &dropout{share: float32(t.opts.Dropout), site: 1 << 16, state: t.state}, // a site that no block has
	}
	run, err := newTextRun(t, r)
	if err != nil {
		return nil, err
	}
	return &CrossRun{TextRun: run, task: r}, nil
}

// Encoder returns the cross-encoder with the best validation so far, and the
// weight that its scores should have beside those of the first stage. It shares
// nothing with the run.
func (r *CrossRun) Encoder() (*CrossEncoder, float64, error) {
	head := model.Weights{CrossWeight: r.best[CrossWeight]}
	e, err := NewCrossEncoder(r.Model(), r.task.encoder.tok, cloneWeights(head)[CrossWeight], r.task.encoder.tokens)
	return e, r.run.Mix, err
}

// Close frees the graphs.
func (r *CrossRun) Close() error {
	errs := []error{r.TextRun.Close()}
	for _, g := range r.task.graphs {
		errs = append(errs, g.close())
	}
	return errors.Join(errs...)
}

// ranking is a CrossTask as a run's objective.
type ranking struct {
	CrossTask
	trainer *TextTrainer
	encoder *CrossEncoder // with the trainer's weights
	lists   int           // of a batch
	m       int           // items of a list
	epoch   []CrossList   // lists of the epoch that was begun last, nil before any
	begun   int

	// The graphs of all lengths share their kernels, whose memory is then that of
	// the longest.
	tower  *textTower
	head   *listwise
	graphs map[int]*crossGraph // by length of the pairs in tokens

	mix float64 // that the last validation chose
}

// crossGraph is the training graph of a cross-encoder for one batch shape.
type crossGraph struct {
	*graph
	batch  *textBatch
	states []float32 // (P, D) what the frozen part made of the batch, nil where nothing is frozen
}

func (r *ranking) begin(epoch int) (int, error) {
	if r.epoch != nil && r.begun == epoch {
		return r.steps(), nil
	}
	lists, err := r.Lists(epoch)
	if err != nil {
		return 0, err
	}
	if len(lists) == 0 {
		return 0, fmt.Errorf("%w: epoch %d has no lists", ErrData, epoch+1)
	}
	for i, l := range lists {
		if len(l.Items) < 2 || len(l.Items) > r.m {
			return 0, fmt.Errorf("%w: list %d of epoch %d has %d items, want 2 to %d", ErrData, i, epoch+1, len(l.Items), r.m)
		}
		for _, item := range l.Items {
			if item < 0 || int(item) >= len(r.Texts) || r.Texts[item] == "" {
				return 0, fmt.Errorf("%w: list %d of epoch %d names item %d, which has no text", ErrData, i, epoch+1, item)
			}
		}
	}
	r.epoch, r.begun = lists, epoch
	return r.steps(), nil
}

func (r *ranking) steps() int { return (len(r.epoch) + r.lists - 1) / r.lists }

func (r *ranking) step(i int, rate float64) (float64, error) {
	g, err := r.fill(r.epoch[i*r.lists : min((i+1)*r.lists, len(r.epoch))])
	if err != nil {
		return 0, err
	}
	return r.trainer.step(rate, term{g.graph, 1})
}

// fill lays lists into the graph of the length of their pairs.
func (r *ranking) fill(lists []CrossList) (*crossGraph, error) {
	t, e := r.trainer, r.encoder
	length, pairs := 0, make([]textPair, r.lists*r.m) // without tokens where there is none
	for l, list := range lists {
		for j, item := range list.Items {
			p := e.pair(list.Query, r.Texts[item])
			pairs[l*r.m+j] = p
			length = max(length, e.padded(len(p.ids)))
		}
	}
	r.tower.reshape(batchRows{b: len(pairs), t: length})
	g := r.graphs[length]
	if g == nil {
		var err error
		if g, err = newCrossGraph(r.tower, r.head, t); err != nil {
			return nil, err
		}
		r.graphs[length] = g
	}
	for b, p := range pairs {
		g.batch.putPair(b, p)
	}
	t.freeze(g.states, g.batch)
	return g, nil
}

// newCrossGraph builds loss and gradients for the shape that tw and head have and
// the weights of t. They may be reshaped for another graph as long as they have
// this shape again when this one runs.
func newCrossGraph(tw *textTower, head *listwise, t *TextTrainer) (*crossGraph, error) {
	g := &crossGraph{batch: newTextBatch(tw.batchRows)}
	b := newTextGraphBuilder(t.dev, tw.cfg, t.weights, t.opts.FrozenLayers, t.adapters, t.heads...)
	enc := b.encoder(tw, g.batch, t.opts.FrozenLayers)
	g.states = enc.frozen
	x := b.add("pooling", tw.pool, enc.states, enc.lengths)
	loss := b.add("listwise", head, x, b.nodes[CrossWeight], enc.lengths)
	var err error
	g.graph, err = b.build(loss)
	return g, err
}

func (r *ranking) validates() bool { return len(r.Valid) > 0 }

func (r *ranking) better(a, b float64) bool { return a > b }

// mixes are the weights of the cross-encoder's score that validation tries; that
// of the first stage is 1.
var mixes = []float64{0, 0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5, 10}

// validate returns NDCG@10 with the weight for which it is highest, the lowest
// one of several.
func (r *ranking) validate(ctx context.Context, progress func(read, texts int)) (float64, error) {
	if len(r.Valid) == 0 {
		return 0, nil
	}
	scores := make([][]float32, len(r.Valid))
	for i, c := range r.Valid {
		scores[i] = make([]float32, len(c.Items))
		if c.Target >= 0 { // otherwise no order of the others changes its rank
			if err := r.encoder.among(ctx, scores[i], c.Query, c.Items, r.Texts); err != nil {
				return 0, err
			}
		}
		progress(i+1, len(r.Valid))
	}
	best := -1.0
	for _, mix := range mixes {
		var sum float64
		for i, c := range r.Valid {
			sum += eval.NDCG(c.rank(scores[i], mix), eval.DefaultTopK)
		}
		if ndcg := sum / float64(len(r.Valid)); ndcg > best {
			best, r.mix = ndcg, mix
		}
	}
	return best, nil
}

// rank returns the rank of the target, counted from 0, where the cross-encoder's
// scores have weight mix. A candidate that is as good as the target counts as
// better, and so does one whose score is no number.
func (c *CrossCase) rank(scores []float32, mix float64) int32 {
	if c.Target < 0 {
		return c.Rank
	}
	mixed := func(j int) float64 { return float64(c.First[j]) + mix*float64(scores[j]) }
	target, ahead := mixed(c.Target), int32(0)
	for j := range c.Items {
		if j != c.Target && !(mixed(j) < target) {
			ahead++
		}
	}
	return ahead
}

func (r *ranking) digest(d *textDigest) {
	for _, text := range r.Texts {
		d.words(text)
	}
	d.put(uint32(r.encoder.tokens))
	for _, v := range r.encoder.tok.Vocab() {
		d.words(v)
	}
	for _, l := range r.epoch {
		d.words(l.Query)
		d.text(l.Items)
	}
	for _, c := range r.Valid {
		d.words(c.Query)
		d.text(c.Items)
		d.put(uint32(c.Target))
		d.put(uint32(c.Rank))
	}
}
