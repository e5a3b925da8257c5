package hostgpu

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"

	"gorgonia.org/tensor"

	"github.com/wisp-project/wisp/model"
)

// ItemEncoder is the text encoder that made vectors of items, where it is to be
// trained together with the towers.
type ItemEncoder struct {
	// Model made the last Config.Dim columns of Vectors.Items. It is not changed.
	Model *model.TextModel
	// Task has the texts of the items, nil for an item without one, whose vector
	// stays as it is given. The pairs are for the losses beside that of the next
	// item, and may be nil where there is none.
	Task TextTask
}

// joint trains a text encoder together with the towers. A step of the towers
// through all the texts of a catalogue would take a hundred times as long as one
// that takes the embeddings for given, so their gradients are delayed: each step
// adds the derivative of its loss by the embeddings, and now and then a pass over
// the texts trains the encoder by the sum. For a batch of texts with embeddings
// f_i and gradients g_i the loss is sum of g_i·f_i, whose gradient is the one
// that the towers' loss had. Then all items are embedded anew.
//
// The rate rises over the first pass and then stays, as that of the towers does:
// how long the run goes is not known before.
type joint struct {
	every    int           // steps between passes, 0 for those of an epoch
	given    *model.Tensor // (N, F), the memory that the towers' graph reads
	gradient *model.Tensor // (N, D) by the last D columns of given, summed over steps
	texts    [][]int32     // that items have, each once
	items    [][]int       // that have each of texts
	pairs    *retrieval    // for the other losses, nil without any

	trainer *TextTrainer
	frozen  *frozenText
	graphs  map[int]*innerGraph // by length of the texts in tokens
	state   jointState

	best      model.Weights // what is trained, of the best epoch
	bestItems *model.Tensor // given, then
}

// jointState is where the training of the encoder stands; it is part of a
// checkpoint.
type jointState struct {
	Steps  int    `json:"steps"`  // of the towers since the last pass
	Passes int    `json:"passes"` // finished
	Batch  int    `json:"batch"`  // finished batches of the pass that is under way
	Total  uint64 `json:"total"`  // finished steps of the encoder
}

// newJoint prepares to train e on vectors items, (N, F), of which it takes a
// copy.
func newJoint(e *ItemEncoder, items *model.Tensor, every int, opts TextTrainOptions) (*joint, error) {
	if opts.Losses == (TextLosses{}) {
		opts.Losses.NextItem = 1
	}
	c := e.Model.Config
	switch {
	case items == nil || items.Shape[1] < c.Dim:
		return nil, fmt.Errorf("%w: a text encoder of width %d, and no item vectors that it made", ErrData, c.Dim)
	case len(e.Task.Items) != items.Shape[0]:
		return nil, fmt.Errorf("%w: texts of %d items, vectors of %d", ErrData, len(e.Task.Items), items.Shape[0])
	}
	if err := e.Task.checkItems(c); err != nil {
		return nil, err
	}
	t, err := newTextTrainer(&model.TextModel{Config: c, Weights: cloneWeights(e.Model.Weights)}, opts)
	if err != nil {
		return nil, err
	}
	j := &joint{
		every: every, given: without(items, nil), gradient: model.NewTensor(items.Shape[0], c.Dim), trainer: t,
		frozen: newFrozenText(c, t.weights, t.opts.FrozenLayers, t.frozen != nil), graphs: map[int]*innerGraph{},
	}
	if l := t.opts.Losses; l.Contrastive > 0 || l.MaskedLM > 0 {
		if e.Task.Pairs == nil {
			return nil, fmt.Errorf("%w: losses %+v without pairs of texts; give pairs, or the next-item loss alone", ErrOptions, l)
		}
		j.pairs = &retrieval{TextTask: TextTask{Items: e.Task.Items, Pairs: e.Task.Pairs}, trainer: t}
		if _, err := j.pairs.begin(0); err != nil {
			return nil, err
		}
	}
	place := map[string]int{}
	for i, ids := range e.Task.Items {
		if ids == nil {
			continue
		}
		key := tokenKey(ids)
		k, known := place[key]
		if !known {
			k = len(j.texts)
			place[key], j.texts, j.items = k, append(j.texts, ids), append(j.items, nil)
		}
		j.items[k] = append(j.items[k], i)
	}
	if len(j.texts) == 0 {
		return nil, fmt.Errorf("%w: no item has a text for the encoder; prepare the data with titles or texts of items", ErrData)
	}
	j.keep()
	return j, nil
}

// fingerprint is a digest of the encoder as it came and of what it reads.
func (j *joint) fingerprint() []byte {
	d := &textDigest{h: sha256.New()}
	d.encoder(j.trainer.m)
	for k, ids := range j.texts {
		d.text(ids)
		for _, i := range j.items[k] {
			d.put(uint32(i))
		}
	}
	if j.pairs != nil {
		j.pairs.digest(d)
	}
	d.h.Write(d.b)
	return d.h.Sum(nil)
}

// keep makes the encoder as it is the best so far.
func (j *joint) keep() {
	j.best, j.bestItems = j.trainer.trained(), without(j.given, nil)
}

// due says whether it is time for a pass before the given step of an epoch.
func (j *joint) due(step int) bool {
	if j.every == 0 {
		return j.state.Steps > 0 && step == 0
	}
	return j.state.Steps >= j.every
}

// rememberLimit is the most memory, in bytes, that what the frozen part makes of
// all texts may take to be kept.
const rememberLimit = 1 << 30

// pass trains the encoder by the gradients that there are and embeds all items
// anew. Where ctx ends it can be called again to go on.
func (j *joint) pass(ctx context.Context, progress func(read, texts int)) error {
	s, o := &j.state, j.trainer.opts
	tokens := 0
	for _, ids := range j.texts {
		tokens += len(ids)
	}
	if tokens*j.gradient.Shape[1]*4 <= rememberLimit {
		if err := j.frozen.remember(ctx, j.texts); err != nil {
			return err
		}
	}
	var texts [][]int32 // that have a gradient
	var places []int    // of these among all
	for k, ids := range j.texts {
		if slices.ContainsFunc(j.items[k], j.moves) {
			texts, places = append(texts, ids), append(places, k)
		}
	}
	rounds := 1
	if j.pairs != nil {
		var err error
		if rounds, err = j.pairs.begin(s.Passes); err != nil {
			return err
		}
	}
	batches := batchesOfLikeLength(texts, o.Pairs, rand.New(rand.NewPCG(o.Seed, uint64(s.Passes))))
	// The mean over the steps; a batch stands for all of them.
	scale := float32(len(batches)) / float32(s.Steps)
	for ; s.Batch < len(batches); s.Batch++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		rows := batches[s.Batch]
		for b, at := range rows {
			rows[b] = places[at]
		}
		if err := j.step(rows, scale, s.Batch%rounds); err != nil {
			return fmt.Errorf("text encoder, pass %d: %w", s.Passes+1, err)
		}
		progress(min((s.Batch+1)*o.Pairs, len(texts)), len(texts))
	}
	if err := j.trainer.pull(); err != nil {
		return err
	}
	if err := j.embed(ctx); err != nil {
		return err
	}
	clear(j.gradient.Data)
	s.Steps, s.Batch, s.Passes = 0, 0, s.Passes+1
	return nil
}

// moves says whether item i has a gradient.
func (j *joint) moves(i int) bool {
	return slices.ContainsFunc(j.gradient.Row(i), func(g float32) bool { return g != 0 })
}

// step takes one step of the encoder on the texts at places rows, and for the
// other losses on a batch of pairs.
func (j *joint) step(rows []int, scale float32, pairs int) error {
	t := j.trainer
	g, err := j.fill(rows, scale)
	if err != nil {
		return err
	}
	terms := []term{{g.graph, t.opts.Losses.NextItem}}
	if j.pairs != nil {
		more, err := t.terms(j.pairs.batch(pairs))
		if err != nil {
			return err
		}
		terms = append(terms, more...)
	}
	first := (len(j.texts) + t.opts.Pairs - 1) / t.opts.Pairs // steps of the first pass
	rate := t.opts.LearningRate * min(1, float64(t.state.step+1)/float64(first))
	if _, err := t.step(rate, terms...); err != nil {
		return err
	}
	j.state.Total = t.state.step
	return nil
}

// fill lays the texts at places rows and their gradients, scaled, into the graph
// of their length.
func (j *joint) fill(rows []int, scale float32) (*innerGraph, error) {
	t := j.trainer
	texts := make([][]int32, len(rows))
	for b, k := range rows {
		texts[b] = j.texts[k]
	}
	length, err := t.padded(texts...)
	if err != nil {
		return nil, err
	}
	g := j.graphs[length]
	if g == nil {
		if g, err = newInnerGraph(t.dev, t.m.Config, t.weights, t.adapters, t.opts, length, t.state); err != nil {
			return nil, err
		}
		j.graphs[length] = g
	}
	clear(g.given)
	for b := range t.opts.Pairs {
		if b >= len(rows) {
			g.batch.put(b, nil)
			continue
		}
		g.batch.put(b, texts[b])
		for _, i := range j.items[rows[b]] {
			addScaled(g.given[b*t.m.Config.Dim:][:t.m.Config.Dim], j.gradient.Row(i), scale)
		}
	}
	// A GPU makes states faster than they come from the host.
	if g.states != nil && (t.dev != host || !j.frozen.recall(g.states, texts, length)) {
		t.freeze(g.states, g.batch)
	}
	return g, t.dev.push(g.given)
}

// embed writes the embeddings of all texts to the items that have them.
func (j *joint) embed(ctx context.Context) error {
	d := j.gradient.Shape[1]
	return j.frozen.embed(ctx, j.texts, func(pooled []float32, rows []int) {
		for b, k := range rows {
			for _, i := range j.items[k] {
				row := j.given.Row(i)
				copy(row[len(row)-d:], pooled[b*d:(b+1)*d])
			}
		}
	})
}

// Prefixes of the tensors of a joint training in a checkpoint.
const (
	jointWeights = "encoder/"
	jointBest    = "encoder.best/"
	jointM       = "encoder.adam.m/"
	jointV       = "encoder.adam.v/"
	jointItems   = "encoder.items/"
)

// groups are the sets of tensors in a checkpoint, by prefix.
func (j *joint) groups() map[string]model.Weights {
	weights := model.Weights{}
	for _, s := range j.trainer.specs() {
		weights[s.Name] = j.trainer.weights[s.Name]
	}
	return map[string]model.Weights{
		jointWeights: weights, jointBest: j.best, jointM: j.trainer.adam.m, jointV: j.trainer.adam.v,
		jointItems: {"vectors": j.given, "best": j.bestItems, "gradient": j.gradient},
	}
}

// check reports what of groups, read from a checkpoint together with s, cannot
// be taken over.
func (j *joint) check(s jointState, groups map[string]model.Weights) error {
	if min(s.Steps, s.Passes, s.Batch) < 0 {
		return fmt.Errorf("the encoder stands at batch %d after %d passes and %d steps, which cannot be", s.Batch, s.Passes, s.Steps)
	}
	for _, prefix := range []string{jointWeights, jointBest, jointM, jointV} {
		if s.Total == 0 && (prefix == jointM || prefix == jointV) {
			continue // the moments come with the first step
		}
		if err := groups[prefix].Check(textSpecs(j.trainer.specs())); err != nil {
			return fmt.Errorf("%s: %w", prefix, err)
		}
	}
	items := textSpecs{{Name: "vectors", Shape: j.given.Shape}, {Name: "best", Shape: j.given.Shape}, {Name: "gradient", Shape: j.gradient.Shape}}
	if err := groups[jointItems].Check(items); err != nil {
		return fmt.Errorf("%s: %w", jointItems, err)
	}
	return nil
}

// restore takes over what check has found sound.
func (j *joint) restore(s jointState, groups map[string]model.Weights) error {
	t := j.trainer
	for name, x := range groups[jointWeights] { // in place: the graphs' nodes share this memory
		copy(t.weights[name].Data, x.Data)
	}
	t.adapters.merge(host, t.weights, t.weights)
	copy(j.given.Data, groups[jointItems]["vectors"].Data)
	copy(j.gradient.Data, groups[jointItems]["gradient"].Data)
	j.best, j.bestItems = groups[jointBest], groups[jointItems]["best"]
	t.adam.m, t.adam.v, t.adam.step, t.state.step = groups[jointM], groups[jointV], int(s.Total), s.Total
	j.state = s
	return pushWeights(t.dev, t.weights)
}

func (j *joint) close() error {
	errs := []error{j.trainer.Close()}
	for _, g := range j.graphs {
		errs = append(errs, g.close())
	}
	return errors.Join(errs...)
}

// inner is the inner product of vectors, (B, D), with given ones: by the chain
// rule, a loss whose gradient was computed before.
type inner struct {
	b, d  int
	given []float32 // (B, D)
}

func (k *inner) inputs() []input     { return []input{{shape: tensor.Shape{k.b, k.d}}} }
func (k *inner) shape() tensor.Shape { return tensor.ScalarShape() }

func (k *inner) forward(dev device, out vector, in []argument) {
	dev.dot(out, dev.mirror(k.given), in[0].floats)
}

func (k *inner) backward(dev device, grads []vector, dout, _ vector, _ []argument) {
	dev.scaled(grads[0], dev.mirror(k.given), dout.host[0])
}

// innerGraph is the training graph of an encoder whose embeddings have known
// gradients, for one batch shape.
type innerGraph struct {
	*graph
	batch  *textBatch
	states []float32 // (P, D) what the frozen part made of the batch, nil where nothing is frozen
	given  []float32 // (B, D) gradients of the embeddings
}

// newInnerGraph builds loss and gradients for texts of t tokens and weights w,
// those of adapters too where a is not nil.
func newInnerGraph(dev device, c model.TextConfig, w model.Weights, a *adapters, o TextTrainOptions, t int, state *stepState) (*innerGraph, error) {
	tw := newTextTower(c, float32(o.Dropout), state)
	tw.reshape(batchRows{b: o.Pairs, t: t})
	g := &innerGraph{batch: newTextBatch(tw.batchRows), given: make([]float32, o.Pairs*c.Dim)}
	b := newTextGraphBuilder(dev, c, w, o.FrozenLayers, a)
	enc := b.encoder(tw, g.batch, o.FrozenLayers)
	g.states = enc.frozen
	x := b.add("pooling", tw.pool, enc.states, enc.lengths)
	loss := b.add("inner", &inner{b: o.Pairs, d: c.Dim, given: g.given}, x)
	var err error
	g.graph, err = b.build(loss)
	return g, err
}
