// Package hostgpu trains models in full precision. gorgonia is the graph, the
// symbolic differentiation and the tape machine; the mathematics are fused
// kernels of ours in float32. They run on the processors, where matrix products go to
// OpenBLAS if the machine has it, or on an NVIDIA GPU (see Device).
package hostgpu

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/model"
)

// TrainOptions are the hyper-parameters of a run. A zero field means its
// default; the defaults were chosen on validation data.
type TrainOptions struct {
	Dim        int `json:"dim"`         // D (64)
	Layers     int `json:"layers"`      // (2)
	Heads      int `json:"heads"`       // (1)
	FFN        int `json:"ffn"`         // (Dim)
	Window     int `json:"window"`      // W (50)
	GapBuckets int `json:"gap_buckets"` // (24)

	Rows         int     `json:"rows"`          // B: rows of a batch (8)
	Length       int     `json:"length"`        // T: events of a row (128)
	Epochs       int     `json:"epochs"`        // at most (50)
	Patience     int     `json:"patience"`      // epochs without a better validation before stopping (8)
	LearningRate float64 `json:"learning_rate"` // after warm-up (0.002)
	Warmup       int     `json:"warmup"`        // steps of linear warm-up (100)
	WeightDecay  float64 `json:"weight_decay"`  // decoupled (0.01); negative for none
	ClipNorm     float64 `json:"clip_norm"`     // largest norm of the whole gradient (1)
	Dropout      float64 `json:"dropout"`       // share of activations (0.4); negative for none
	Smoothing    float64 `json:"smoothing"`     // label smoothing of the full softmax (0.1); negative for none
	Average      float64 `json:"average"`       // decay of the running average of the weights (0.998); negative for none
	Samples      int     `json:"samples"`       // negatives of the sampled softmax; 0: full softmax up to 20,000 items, else 4,096
	// IDDropout is the share of items that a step knows by their given vectors
	// alone, for the sake of items that will come without events (0: none).
	IDDropout float64 `json:"id_dropout"`
	// AdapterRank, where it is above 0, is the rank of the adapters that are trained in
	// place of the towers, of a model that goes on (Lessons.From): the matrices W of the
	// user tower's blocks and those that given vectors go through become
	// W + AdapterScale·B·A (Hu et al. 2022). Of the embedding of items, rows are trained
	// of which that model has learnt nothing; all else stays as it is.
	AdapterRank  int     `json:"adapter_rank,omitzero"`
	AdapterScale float64 `json:"adapter_scale,omitzero"` // also written alpha/rank (1)
	Seed         uint64  `json:"seed"`

	// Encoder are the options of a text encoder that is trained too, whose losses
	// are that of the next item alone unless they say otherwise. Of them Seed,
	// Epochs, Patience and Warmup have no meaning here.
	Encoder TextTrainOptions `json:"encoder,omitzero"`
	// EncoderEvery is after how many steps of the towers the encoder is trained (an
	// epoch).
	EncoderEvery int `json:"encoder_every,omitzero"`

	// Soft is how the distributions of a teacher count, where there is one.
	Soft SoftTerm `json:"soft,omitzero"`

	// Device is where it computes, an encoder too; nil for the processors. A run may go
	// on on another device, to a result that differs in its last bits.
	Device *Device `json:"-"`
}

// fullSoftmaxLimit is the catalogue size above which the loss is sampled.
const fullSoftmaxLimit = 20000

func (o TrainOptions) withDefaults(items int) TrainOptions {
	def := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	deff := func(v *float64, d float64) {
		if *v == 0 {
			*v = d
		}
		*v = max(*v, 0)
	}
	def(&o.Dim, 64)
	def(&o.Layers, 2)
	def(&o.Heads, 1)
	def(&o.FFN, o.Dim)
	def(&o.Window, 50)
	def(&o.GapBuckets, 24)
	def(&o.Rows, 8)
	def(&o.Length, 128)
	def(&o.Epochs, 50)
	def(&o.Patience, 8)
	def(&o.Warmup, 100)
	deff(&o.LearningRate, 0.002)
	deff(&o.WeightDecay, 0.01)
	deff(&o.ClipNorm, 1)
	deff(&o.Dropout, 0.4)
	deff(&o.Smoothing, 0.1)
	deff(&o.Average, 0.998)
	o.IDDropout = max(o.IDDropout, 0)
	if o.AdapterRank > 0 {
		deff(&o.AdapterScale, 1)
	}
	if o.Samples == 0 && items > fullSoftmaxLimit {
		o.Samples = 4096
	}
	return o
}

// Validate reports the first option that no run can follow.
func (o TrainOptions) Validate() error {
	for _, f := range []struct {
		name string
		v    int
	}{{"rows", o.Rows}, {"length", o.Length}, {"epochs", o.Epochs}, {"patience", o.Patience}, {"warmup", o.Warmup}, {"samples", o.Samples}, {"encoder every", o.EncoderEvery}} {
		if f.v < 0 {
			return fmt.Errorf("%w: %s is %d, must not be negative", ErrOptions, f.name, f.v)
		}
	}
	for _, f := range []struct {
		name     string
		v, limit float64
	}{
		{"learning rate", o.LearningRate, 1},
		{"weight decay", o.WeightDecay, 10},
		{"clip norm", o.ClipNorm, math.MaxFloat64},
		{"dropout", o.Dropout, 0.95},
		{"smoothing", o.Smoothing, 0.95},
		{"average", o.Average, 0.9999999},
		{"id dropout", o.IDDropout, 0.95},
		{"weight of the teacher", o.Soft.Weight, 1},
	} {
		if math.IsNaN(f.v) || f.v > f.limit {
			return fmt.Errorf("%w: %s is %v, must not exceed %v", ErrOptions, f.name, f.v, f.limit)
		}
	}
	return validAdapters(o.AdapterRank, o.AdapterScale)
}

// Progress is what a run tells about itself: after each step; while a text encoder
// is trained between two steps; and with Epoch finished (Done) the validation
// metric.
type Progress struct {
	Epoch, Epochs int // counted from 1
	Step, Steps   int // within the epoch, counted from 1
	Total         int // finished steps of the run
	Loss          float64
	Parts         int     // in which a step is made, after one; above 1 where a GPU's memory is short
	Read, Texts   int     // texts that the encoder was trained on, of so many; 0 outside that
	Done          bool    // the epoch is finished and was validated
	NDCG          float64 // validation NDCG@10, with Done
	Best          float64
	BestEpoch     int
}

// Trainer trains the user tower and the item tower together to rank the next
// item.
type Trainer struct {
	*course
	opts   TrainOptions
	cfg    model.Config
	given  Vectors
	soft   *softRows // nil without a teacher
	ranked []int     // the items that the softmax ranks
	usual  []float32 // direction of the mean description, nil for none
	data   string    // fingerprint of all of these
	dev    device
	state  *stepState
	graph  *towerGraph
	spec   graphSpec
	parts  int    // in which a step is made
	joint  *joint // nil where no encoder is trained
	// weights are those of the model, and of adapters; with these the model's are what
	// they were in the beginning. average and best are those that are trained alone.
	weights  model.Weights
	adapters *adapters // nil without any
	adam     *adamW
	average  model.Weights
	best     model.Weights
	run      runState
	every    int // steps within an epoch after which Run saves too, 0 for none
}

// runState is where a run stands; it is part of a checkpoint.
type runState struct {
	Epoch     int     `json:"epoch"` // finished epochs
	Step      int     `json:"step"`  // finished steps of the current epoch
	Total     int     `json:"total"` // finished steps in all
	LossSum   float64 `json:"loss_sum"`
	BestNDCG  float64 `json:"best_ndcg"`
	BestEpoch int     `json:"best_epoch"`
}

// NewTrainer prepares a run. Validation cases are used for early stopping; without
// any, the run takes all its epochs and keeps the last weights.
//
// With given item vectors, an item that has one and no training event is known by
// it alone: the softmax leaves it out, and its learnt embedding stays zero.
//
// A given encoder is trained together with the towers, by gradients that gather
// for a while before it takes its steps. It and the vectors are copied.
func NewTrainer(ds *data.Dataset, split *data.Split, given Vectors, opts TrainOptions) (*Trainer, error) {
	c, err := inMemory(split, nil, len(ds.Items))
	if err != nil {
		return nil, err
	}
	return newTrainer(ds, c, given, nil, opts)
}

// NewStoredTrainer does what NewTrainer does with events that stay on disk: its memory
// grows with items and users, not with events, and the weights are the same to the bit.
// Of ds the catalogue and the users count; split must not be read by others meanwhile.
func NewStoredTrainer(ds *data.Dataset, split *data.StoredSplit, given Vectors, opts TrainOptions) (*Trainer, error) {
	c, err := stored(split, len(ds.Items))
	if err != nil {
		return nil, err
	}
	return newTrainer(ds, c, given, nil, opts)
}

// newTrainer prepares a run on a course, which is that of lessons where there are any.
func newTrainer(ds *data.Dataset, on *course, given Vectors, lessons *Lessons, opts TrainOptions) (*Trainer, error) {
	if lessons == nil && opts.Soft != (SoftTerm{}) {
		return nil, fmt.Errorf("%w: the weight of a teacher without one", ErrOptions)
	}
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	if opts.AdapterRank > 0 && (lessons == nil || lessons.From == nil) {
		return nil, fmt.Errorf("%w: adapter rank %d without a model that goes on: nothing would have learnt what adapters leave as it is; name the model in Lessons.From, or train without adapters", ErrOptions, opts.AdapterRank)
	}
	o := opts.withDefaults(len(ds.Items))
	taught := lessons != nil && lessons.Targets != nil
	if taught {
		o.Soft = o.Soft.withDefaults()
		o.Smoothing, o.Samples = 0, 0 // the teacher says better where the rest belongs
	}
	c := model.Config{
		Items: len(ds.Items), Dim: o.Dim, Layers: o.Layers, Heads: o.Heads, FFN: o.FFN, Window: o.Window,
		EventTypes: len(ds.Types), GapBuckets: o.GapBuckets,
	}
	var err error
	if c.Features, c.Descriptions, err = given.widths(len(ds.Items), len(ds.Users)); err != nil {
		return nil, err
	}
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrOptions, err)
	}
	if o.IDDropout > 0 && c.Features == 0 {
		return nil, fmt.Errorf("%w: id dropout %v without item vectors: nothing would be left of an item; give vectors, or no id dropout", ErrOptions, o.IDDropout)
	}
	t := &Trainer{course: on, dev: o.Device.open(), cfg: c, given: given, state: &stepState{seed: o.Seed}}
	if given.Users != nil {
		t.usual = meanDirection(given.Users)
		t.given.Users = without(given.Users, t.usual)
	}
	if given.Encoder != nil {
		o.Encoder.Seed, o.Encoder.Device = o.Seed, o.Device
		if t.joint, err = newJoint(given.Encoder, given.Items, o.EncoderEvery, o.Encoder); err != nil {
			return nil, err
		}
		t.given.Items = t.joint.given
		o.Encoder = t.joint.trainer.opts
		o.Encoder.Epochs, o.Encoder.Patience, o.Encoder.Warmup = 0, 0, 0
	} else if o.Encoder != (TextTrainOptions{}) || o.EncoderEvery > 0 {
		return nil, fmt.Errorf("%w: options of an encoder without one; give the encoder that made the item vectors", ErrOptions)
	}
	t.weights = initial(c, o.Seed)
	if lessons != nil && lessons.Start != nil {
		if err := lessons.Start.Check(c); err != nil {
			return nil, fmt.Errorf("hostgpu: distil: the weights to start from: %w", err)
		}
		t.weights = cloneWeights(lessons.Start)
	}
	if lessons != nil && lessons.From != nil {
		if t.weights, err = t.inherit(lessons.From, o.Seed); err != nil {
			return nil, err
		}
	}
	place := t.rank()
	if o.AdapterRank > 0 {
		t.adapters = newAdapters(towerSpecs(c), t.weights, lessons.From.unlearnt(place), o.AdapterRank, o.AdapterScale)
		t.adapters.draw(t.weights, o.Seed)
	}
	if taught {
		t.soft = lessons.soft(place, len(t.ranked))
	}
	if o.Samples > 0 {
		o.Samples = min(o.Samples, len(t.ranked))
	}
	t.opts = o
	if t.data, err = t.fingerprint(); err != nil {
		return nil, err
	}
	t.adam = newAdamW(o.WeightDecay)
	t.average, t.best = cloneWeights(t.trained()), cloneWeights(t.trained())

	spec := graphSpec{
		given: t.given, idDropout: float32(o.IDDropout), smoothing: float32(o.Smoothing), samples: o.Samples, soft: t.soft, softTerm: o.Soft,
		adapters: t.adapters,
	}
	if t.joint != nil {
		spec.gradient = t.joint.gradient.Data
	}
	if len(t.ranked) < c.Items {
		spec.ranked = t.ranked
	}
	if o.Samples > 0 {
		spec.logq = t.sampling()
	}
	t.spec, t.parts = spec, 1
	if err := t.build(); err != nil {
		return nil, errors.Join(err, t.dev.close())
	}
	return t, nil
}

// rank settles which items the softmax ranks: those with events, and those of
// which nothing is known at all. The others, known by their given vectors alone,
// would only be pushed down as negatives; their learnt embeddings are zero, and as
// no step meets them they stay so. It returns the place of each item among those that
// are ranked, -1 for the others.
func (t *Trainer) rank() []int32 {
	place := make([]int32, t.cfg.Items)
	for i := range place {
		if t.counts[i] == 0 && t.given.describes(i) {
			place[i] = -1
			clear(t.weights[model.ItemEmbedding].Row(i))
			continue
		}
		place[i] = int32(len(t.ranked))
		t.ranked = append(t.ranked, i)
	}
	t.material.place = place
	return place
}

// Config returns the shapes of the model that is trained.
func (t *Trainer) Config() model.Config { return t.cfg }

// Options returns the options of the run with defaults filled in.
func (t *Trainer) Options() TrainOptions { return t.opts }

// Best returns the best validation NDCG@10 so far and its epoch, from 1.
func (t *Trainer) Best() (float64, int) { return t.run.BestNDCG, t.run.BestEpoch }

// Steps returns the number of finished steps of the run.
func (t *Trainer) Steps() int { return t.run.Total }

// SaveEvery has Run save its state within epochs as well, after each so many steps;
// 0, the default, is only after epochs. What is trained does not depend on it.
func (t *Trainer) SaveEvery(steps int) { t.every = max(steps, 0) }

// Close frees the graphs, and the memory of a GPU.
func (t *Trainer) Close() error {
	err := errors.Join(t.graph.close(), t.dev.close())
	if t.joint != nil {
		err = errors.Join(err, t.joint.close())
	}
	return err
}

// initial draws the weights that training starts from: normal embeddings of
// deviation 0.02, Glorot-normal matrices (Glorot and Bengio 2010), unit gains.
func initial(c model.Config, seed uint64) model.Weights {
	rng := rand.New(rand.NewPCG(seed, 0x1717))
	w := model.Weights{}
	for _, s := range c.Specs() {
		t := model.NewTensor(s.Shape...)
		w[s.Name] = t
		switch {
		case s.Name == model.ItemEmbedding || s.Name == model.ItemFeatures || s.Name == model.UserDescription || s.Name == model.UserType || s.Name == model.UserGap:
			for i := range t.Data {
				t.Data[i] = float32(rng.NormFloat64() * 0.02)
			}
		case isGain(s.Name):
			for i := range t.Data {
				t.Data[i] = 1
			}
		case len(s.Shape) == 2 && !isDistance(s.Name):
			std := math.Sqrt(2 / float64(s.Shape[0]+s.Shape[1]))
			for i := range t.Data {
				t.Data[i] = float32(rng.NormFloat64() * std)
			}
		}
	}
	return w
}

func isGain(name string) bool     { return strings.HasSuffix(name, "norm.weight") }
func isDistance(name string) bool { return strings.HasSuffix(name, "distance.bias") }

func cloneWeights(w model.Weights) model.Weights {
	c := make(model.Weights, len(w))
	for name, t := range w {
		c[name] = &model.Tensor{Shape: t.Shape, Data: append([]float32(nil), t.Data...)}
	}
	return c
}

// sampling returns the log probability of each ranked item to be drawn as a negative:
// proportional to its count, smoothed by the power 3/4 (Mikolov et al. 2013), so
// that rare items are drawn too.
func (t *Trainer) sampling() []float32 {
	q := make([]float64, len(t.ranked))
	var sum float64
	for j, i := range t.ranked {
		q[j] = math.Pow(t.counts[i]+1, 0.75)
		sum += q[j]
	}
	logq := make([]float32, len(q))
	for i := range q {
		logq[i] = float32(math.Log(q[i] / sum))
	}
	return logq
}

// draw fills dst with items drawn with the probabilities exp(logq).
func draw(dst []int, cumulative []float64, rng *rand.Rand) {
	total := cumulative[len(cumulative)-1]
	for i := range dst {
		x := rng.Float64() * total
		lo, hi := 0, len(cumulative)-1
		for lo < hi {
			if mid := (lo + hi) / 2; cumulative[mid] <= x {
				lo = mid + 1
			} else {
				hi = mid
			}
		}
		dst[i] = lo
	}
}

// Run trains until validation no longer improves, the epochs are used up, or ctx
// ends. With a checkpoint path, the state is saved there after each epoch and
// when ctx ends, so that Resume goes on as if nothing had happened. progress may
// be nil. The model with the best validation is then in Model.
func (t *Trainer) Run(ctx context.Context, checkpoint string, progress func(Progress)) error {
	if progress == nil {
		progress = func(Progress) {}
	}
	save := func() error {
		if checkpoint == "" {
			return nil
		}
		return t.Save(checkpoint)
	}
	interrupted := func(cause error) error {
		if err := save(); err != nil {
			return errors.Join(cause, err)
		}
		return fmt.Errorf("hostgpu: train: stopped after step %d of epoch %d: %w", t.run.Step, t.run.Epoch+1, cause)
	}
	var cumulative []float64
	if t.opts.Samples > 0 {
		var sum float64
		for _, l := range t.sampling() {
			sum += math.Exp(float64(l))
			cumulative = append(cumulative, sum)
		}
	}
	o, r := t.opts, &t.run
	for r.Epoch < o.Epochs && (r.Epoch-r.BestEpoch < o.Patience || t.exam.Len() == 0) {
		rows := pack(t.material.seqs, o.Length, rand.New(rand.NewPCG(o.Seed, uint64(r.Epoch)+1)))
		steps := (len(rows) + o.Rows - 1) / o.Rows
		for from := r.Step; r.Step < steps; r.Step++ {
			if err := ctx.Err(); err != nil {
				return interrupted(err)
			}
			if t.every > 0 && r.Step > from && r.Step%t.every == 0 {
				if err := save(); err != nil {
					return err
				}
			}
			if t.joint != nil && t.joint.due(r.Step) {
				err := t.pass(ctx, func(read, texts int) {
					progress(Progress{
						Epoch: r.Epoch + 1, Epochs: o.Epochs, Step: r.Step, Steps: steps, Total: r.Total,
						Read: read, Texts: texts, Best: r.BestNDCG, BestEpoch: r.BestEpoch,
					})
				})
				if ctx.Err() != nil {
					return interrupted(ctx.Err())
				}
				if err != nil {
					return err // and keep the last good checkpoint
				}
			}
			t.state.step = uint64(r.Total)
			lo := r.Step * o.Rows
			if cumulative != nil {
				draw(t.graph.samples, cumulative, rand.New(rand.NewPCG(o.Seed^0x5a5a, uint64(r.Total))))
			}
			loss, err := t.step(rows[lo:min(lo+o.Rows, len(rows))])
			if err != nil {
				return err
			}
			r.LossSum += loss
			progress(Progress{
				Epoch: r.Epoch + 1, Epochs: o.Epochs, Step: r.Step + 1, Steps: steps, Total: r.Total,
				Loss: r.LossSum / float64(r.Step+1), Best: r.BestNDCG, BestEpoch: r.BestEpoch, Parts: t.parts,
			})
		}
		loss := r.LossSum / float64(steps)
		if err := pullWeights(t.dev, t.current()); err != nil {
			return err // and keep the last good checkpoint
		}
		ndcg, err := t.validate(ctx)
		if ctx.Err() != nil {
			return interrupted(ctx.Err())
		}
		if err != nil {
			return err // and keep the last good checkpoint
		}
		r.Epoch, r.Step, r.LossSum = r.Epoch+1, 0, 0
		if ndcg > r.BestNDCG || r.BestEpoch == 0 || t.exam.Len() == 0 {
			r.BestNDCG, r.BestEpoch = ndcg, r.Epoch
			t.best = cloneWeights(t.current())
			if t.joint != nil {
				t.joint.keep()
			}
		}
		if err := save(); err != nil {
			return err
		}
		progress(Progress{
			Epoch: r.Epoch, Epochs: o.Epochs, Step: steps, Steps: steps, Total: r.Total, Loss: loss, Done: true,
			NDCG: ndcg, Best: r.BestNDCG, BestEpoch: r.BestEpoch,
		})
	}
	return nil
}

// pass has the encoder trained, which reads and writes on the host what the towers'
// graph reads and writes on the device.
func (t *Trainer) pass(ctx context.Context, progress func(read, texts int)) error {
	j := t.joint
	if err := t.dev.pull(j.gradient.Data); err != nil {
		return err
	}
	if err := j.pass(ctx, progress); err != nil {
		return err
	}
	return t.dev.push(j.gradient.Data, j.given.Data)
}

// step moves the weights by a batch of rows, and returns its loss before.
func (t *Trainer) step(rows [][]piece) (float64, error) {
	r := &t.run
	rate := t.opts.LearningRate * min(1, float64(r.Total+1)/float64(max(t.opts.Warmup, 1)))
	loss, err := t.descend(rows, rate)
	for errors.Is(err, ErrDeviceMemory) && t.halve() {
		loss, err = t.descend(rows, rate)
	}
	if err != nil {
		return 0, fmt.Errorf("%w (step %d of epoch %d)", err, r.Step+1, r.Epoch+1)
	}
	r.Total++
	if t.joint != nil {
		t.joint.state.Steps++
	}
	if t.opts.Average > 0 {
		// The average of the first steps would be that of the initial weights; a
		// decay that grows with the steps forgets them.
		decay := float32(min(t.opts.Average, float64(t.run.Total)/float64(t.run.Total+10)))
		for _, name := range t.graph.names {
			t.dev.lerp(t.dev.mirror(t.average[name].Data), t.dev.mirror(t.weights[name].Data), decay)
		}
	}
	return loss, nil
}

// current returns the weights that are validated: the running average, where
// there is one.
func (t *Trainer) current() model.Weights {
	if t.opts.Average > 0 {
		return t.average
	}
	return t.trained()
}

// trained returns the weights that steps move: of adapters where there are any,
// otherwise the model's.
func (t *Trainer) trained() model.Weights {
	if t.adapters == nil {
		return t.weights
	}
	w := model.Weights{}
	for _, s := range t.adapters.Specs() {
		w[s.Name] = t.weights[s.Name]
	}
	return w
}

// merged returns the model's weights that the trained weights w come to. They share
// memory with w or the trainer.
func (t *Trainer) merged(w model.Weights) model.Weights {
	if t.adapters == nil {
		return w
	}
	m := model.Weights{}
	for _, s := range t.cfg.Specs() {
		m[s.Name] = t.weights[s.Name]
		if t.adapters.base[s.Name] != nil {
			m[s.Name] = model.NewTensor(s.Shape...)
		}
	}
	t.adapters.merge(host, m, w)
	return m
}

// examined is a validation case: the items of its history, and the one that came next.
type examined struct {
	user, target int32
	seen         []int32
}

// validate returns NDCG@10 over the validation cases: whole catalogue, items of
// the history excluded, rank by the number of items that score strictly higher.
func (t *Trainer) validate(ctx context.Context) (float64, error) {
	if t.exam.Len() == 0 {
		return 0, nil
	}
	m, err := model.New(t.cfg, t.merged(t.current()), t.given.Items)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", ErrDiverged, err)
	}
	const chunk = 256
	enc := NewEncoder(m, max(1, 4096/t.cfg.Reach())) // some 4,096 events at a time
	users, scores := make([]float32, chunk*t.cfg.Dim), make([]float32, chunk*t.cfg.Items)
	var descriptions []float32
	var sum float64
	for lo := 0; lo < t.exam.Len(); lo += chunk {
		// Of whole histories, which may be long, only what is needed is kept.
		cases := make([]examined, min(chunk, t.exam.Len()-lo))
		histories := make([][]model.Event, len(cases))
		for i := range cases {
			c, err := t.exam.Case(lo + i)
			if err != nil {
				return 0, err
			}
			events := Events(c.History)
			histories[i] = slices.Clone(events[max(0, len(events)-t.cfg.Reach()):])
			cases[i] = examined{c.User, c.Target.Item, make([]int32, len(events))}
			for j, e := range events {
				cases[i].seen[j] = e.Item
			}
		}
		if err := enc.Users(ctx, users, histories); err != nil {
			return 0, err
		}
		if t.given.Users != nil {
			descriptions = descriptions[:0]
			for _, c := range cases {
				descriptions = append(descriptions, t.given.Users.Row(int(c.user))...)
			}
			enc.Describe(users, descriptions)
		}
		n, d := t.cfg.Items, t.cfg.Dim
		gemm(false, true, len(cases), n, d, 1, users, d, m.ItemVectors.Data, d, 0, scores, n)
		for i, c := range cases {
			row := scores[i*n : (i+1)*n]
			target := row[c.target]
			for _, item := range c.seen {
				if item != c.target {
					row[item] = float32(math.Inf(-1))
				}
			}
			rank := 0
			for _, s := range row {
				if s > target {
					rank++
				}
			}
			if rank < 10 {
				sum += 1 / math.Log2(float64(rank)+2)
			}
		}
	}
	return sum / float64(t.exam.Len()), nil
}

// Model returns the model with the best validation so far, with its cold-start
// vector and W_feat fitted (see fitFeatures); it shares nothing with the trainer. The mean of the descriptions
// changes nothing in it: the user of whom nothing is said is the usual one. With adapters, W_feat is as it was
// fitted in the beginning, plus what was learnt: embeddings that stay as they are cannot take up a difference.
func (t *Trainer) Model() (*model.Model, error) {
	w := t.merged(t.best)
	if t.adapters == nil {
		var err error
		if w, err = t.refitted(w); err != nil {
			return nil, err
		}
	}
	w = cloneWeights(w)
	if t.cfg.Descriptions > 0 {
		w[model.UserDescription] = without(w[model.UserDescription], t.usual)
	}
	m, err := model.New(t.cfg, w, t.ItemVectors())
	if err != nil {
		return nil, err
	}
	cold, err := fitCold(m.ItemVectors, t.counts)
	if err != nil {
		return nil, err
	}
	copy(w[model.UserCold].Data, cold)
	return m, nil
}

// ItemVectors returns the given vectors of items that Model reads, nil for none:
// those of Encoder where there is one.
func (t *Trainer) ItemVectors() *model.Tensor {
	if t.joint != nil {
		return t.joint.bestItems
	}
	return t.given.Items
}

// Encoder returns the text encoder of the epoch with the best validation so far,
// nil where none is trained; it shares nothing with the trainer.
func (t *Trainer) Encoder() *model.TextModel {
	if t.joint == nil {
		return nil
	}
	return t.joint.trainer.model(t.joint.best)
}

// Resume takes up the run that was saved at path. The options and the data must
// be those it was started with.
func (t *Trainer) Resume(path string) error {
	if err := t.load(path); err != nil {
		return fmt.Errorf("%w: %w; train without --resume to start anew", ErrCheckpoint, err)
	}
	return nil
}
