package hostgpu

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/wisp-project/wisp/internal/eval"
	"github.com/wisp-project/wisp/internal/vec"
	"github.com/wisp-project/wisp/model"
)

// DistilOptions say how a text encoder is distilled. A zero field means its
// default.
type DistilOptions struct {
	Losses      DistilLosses `json:"losses"`      // weights; all 0 for rank 1, cosine 60 and vector 20
	Temperature float64      `json:"temperature"` // by which the cosines of rank are divided (0.05)
	Batch       int          `json:"batch"`       // texts of a batch (192)
	Alike       float64      `json:"alike"`       // share of a batch that the teacher finds alike (0.5); negative for none
	Steps       int          `json:"steps"`       // batches of an epoch, after which it validates (500)
	// Train are the options of the run. Epochs is 20 by default, LearningRate 0.002,
	// and there is no dropout; losses and all that they need have no meaning.
	Train TextTrainOptions `json:"train"`
}

func (o DistilOptions) withDefaults() DistilOptions {
	if o.Losses == (DistilLosses{}) {
		o.Losses = DistilLosses{Rank: 1, Cosine: 60, Vector: 20}
	}
	o.Temperature = cmp.Or(o.Temperature, 0.05)
	o.Batch = cmp.Or(o.Batch, 192)
	o.Alike = max(cmp.Or(o.Alike, 0.5), 0)
	o.Steps = cmp.Or(o.Steps, 500)
	t := &o.Train
	t.Epochs = cmp.Or(t.Epochs, 20)
	t.LearningRate = cmp.Or(t.LearningRate, 2e-3)
	t.Dropout = cmp.Or(t.Dropout, -1)
	t.Warmup = cmp.Or(t.Warmup, 0.02)
	t.Patience = cmp.Or(t.Patience, 5)
	none := TextTrainOptions{}
	t.Losses, t.Special, t.Smoothing, t.Temperature, t.Pairs = none.Losses, none.Special, none.Smoothing, none.Temperature, none.Pairs
	t.FrozenLayers, t.AdapterRank, t.AdapterScale = none.FrozenLayers, none.AdapterRank, none.AdapterScale
	return o
}

// Validate reports the first option that no run can follow.
func (o DistilOptions) Validate() error {
	o = o.withDefaults()
	for _, f := range []struct {
		name    string
		v, last float64
	}{
		{"weight of the rank loss", o.Losses.Rank, 1e6},
		{"weight of the cosine loss", o.Losses.Cosine, 1e6},
		{"weight of the vector loss", o.Losses.Vector, 1e6},
		{"temperature", o.Temperature, 1e3},
		{"share of texts that are alike", o.Alike, 1},
		{"batch", float64(o.Batch), 1 << 12},
		{"steps", float64(o.Steps), 1 << 24},
	} {
		if !(f.v >= 0 && f.v <= f.last) {
			return fmt.Errorf("%w: %s is %v, must lie between 0 and %v", ErrOptions, f.name, f.v, f.last)
		}
	}
	if o.Batch < 2 || o.Temperature < 1e-3 {
		return fmt.Errorf("%w: batches of %d texts at temperature %v; want at least 2 and 0.001", ErrOptions, o.Batch, o.Temperature)
	}
	return o.Train.Validate()
}

// TextTargets are a teacher's embeddings of texts, each of length 1, in eight bits
// with a step for each row: what is rounded away is far less than a student misses.
type TextTargets struct {
	dim    int
	values []int8
	steps  []float32
}

// NewTextTargets returns an empty list of embeddings of the given width.
func NewTextTargets(dim int) *TextTargets { return &TextTargets{dim: dim} }

// Dim is the width of an embedding.
func (t *TextTargets) Dim() int { return t.dim }

// Len is the number of embeddings.
func (t *TextTargets) Len() int { return len(t.steps) }

// Add appends an embedding, (Dim).
func (t *TextTargets) Add(x []float32) {
	var top float32
	for _, v := range x {
		top = max(top, v, -v)
	}
	inv := float32(0)
	if top > 0 {
		inv = math.MaxInt8 / top
	}
	for _, v := range x {
		t.values = append(t.values, int8(math.RoundToEven(float64(v*inv))))
	}
	t.steps = append(t.steps, top/math.MaxInt8)
}

// AddPacked appends what Packed returned.
func (t *TextTargets) AddPacked(values []int8, step float32) {
	t.values, t.steps = append(t.values, values...), append(t.steps, step)
}

// Packed returns embedding i as it is kept: integers, (Dim), and their step.
func (t *TextTargets) Packed(i int) (values []int8, step float32) {
	return t.values[i*t.dim : (i+1)*t.dim], t.steps[i]
}

// row writes embedding i, scaled to length 1, to dst.
func (t *TextTargets) row(dst []float32, i int) {
	values, _ := t.Packed(i)
	var square float64
	for j, v := range values {
		dst[j] = float32(v)
		square += float64(v) * float64(v)
	}
	vec.Scale(dst, dst, float32(1/max(math.Sqrt(square), model.TextLengthFloor)))
}

// DistilTask is what a student learns from: texts, token ids of the student's
// vocabulary with [CLS] and [SEP], and what the teacher makes of them.
type DistilTask struct {
	Texts   [][]int32
	Targets *TextTargets // of Texts
	Held    [][]int32    // texts to validate on, not among Texts
	Given   []float32    // (len(Held), E) the teacher's embeddings of these
}

// validate reports what is wrong with the task for a student.
func (t *DistilTask) validate(c model.TextConfig) error {
	if t.Targets == nil || len(t.Texts) < 2 || t.Targets.Len() != len(t.Texts) || len(t.Given) != len(t.Held)*t.Targets.dim {
		return fmt.Errorf("%w: %d texts to learn from and %d held out, and not an embedding by the teacher for each; want at least two of the former", ErrData, len(t.Texts), len(t.Held))
	}
	if n := len(t.Held); n > 0 && n <= heldNeighbours {
		return fmt.Errorf("%w: %d texts held out; more than %d are needed to compare neighbours", ErrData, n, heldNeighbours)
	}
	for _, texts := range [][][]int32{t.Texts, t.Held} {
		for i, ids := range texts {
			if err := c.CheckTokens(ids); err != nil {
				return fmt.Errorf("hostgpu: distil: text %d: %w", i, err)
			}
		}
	}
	return nil
}

// heldNeighbours is how many neighbours of a text validation compares.
const heldNeighbours = 10

// DistilRun distils a text encoder, as TextRun fine-tunes one.
type DistilRun struct {
	*TextRun
	task *distillation
}

// NewDistilRun prepares to train student to place texts as its teacher does. Run
// changes the weights of student in place. The metric is the overlap of the ten
// nearest neighbours of each text held out with those that the teacher finds.
//
// Half of a batch (Alike) is drawn from texts that the teacher finds alike: those
// nearest to the same of some texts drawn at random. All texts of a batch have
// like lengths. The error wraps ErrOptions, ErrData, or model.ErrInput for a text
// that the student cannot read.
func NewDistilRun(student *model.TextModel, task DistilTask, opts DistilOptions) (*DistilRun, error) {
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	if err := task.validate(student.Config); err != nil {
		return nil, err
	}
	o := opts.withDefaults()
	t, err := NewTextTrainer(student, o.Train)
	if err != nil {
		return nil, err
	}
	d, e := student.Config.Dim, task.Targets.dim
	t.heads = imitationSpecs(d, e)
	for _, s := range t.heads {
		t.weights[s.Name] = model.NewTensor(s.Shape...)
	}
	r := &distillation{DistilTask: task, trainer: t, encoder: NewTextEncoder(student, 0), opts: o, tower: newTextTower(student.Config, 0, t.state)}
	r.tower.pool.unit = true
	r.loss = &imitation{b: o.Batch, d: d, e: e, weights: o.Losses, temperature: float32(o.Temperature), teacher: make([]float32, o.Batch*e)}
	r.group()
	run, err := newTextRun(t, r)
	if err != nil {
		return nil, err
	}
	return &DistilRun{TextRun: run, task: r}, nil
}

// Distil returns the options of the run with defaults filled in.
func (r *DistilRun) Distil() DistilOptions { return r.task.opts }

// Close frees the graphs.
func (r *DistilRun) Close() error {
	errs := []error{r.TextRun.Close()}
	for _, g := range r.task.graphs {
		errs = append(errs, g.close())
	}
	return errors.Join(errs...)
}

// distillation is a DistilTask as a run's objective.
type distillation struct {
	DistilTask
	trainer *TextTrainer
	encoder *TextEncoder // of the student, to validate it
	opts    DistilOptions
	groups  []lengthGroup
	epoch   int // that was begun last

	// The graphs of all lengths share their kernels, whose memory is then that of
	// the longest.
	tower  *textTower
	loss   *imitation
	graphs map[int]*imitationGraph // by length of the texts in tokens
}

// lengthGroup is the texts of one length, after padding.
type lengthGroup struct {
	texts   []int   // places in Texts
	alike   []int   // for each of them the place of its bucket in buckets
	buckets [][]int // texts that the teacher finds alike, as places in Texts
}

// bucketSize is about how many texts are taken to be alike: several times the
// number of neighbours that count.
const bucketSize = 128

// group sorts the texts by length, and those of a length into buckets.
func (r *distillation) group() {
	byLength := map[int][]int{}
	for i, ids := range r.Texts {
		n := paddedLength(r.trainer.m.Config, len(ids))
		byLength[n] = append(byLength[n], i)
	}
	var lengths []int
	for n := range byLength {
		lengths = append(lengths, n)
	}
	slices.Sort(lengths)
	rng := rand.New(rand.NewPCG(r.opts.Train.Seed, 1<<63)) // a step that no run has
	for _, n := range lengths {
		r.groups = append(r.groups, r.buckets(byLength[n], rng))
	}
	r.graphs = map[int]*imitationGraph{}
}

// buckets puts each text beside those that have the same nearest pivot, pivots
// being texts drawn at random.
func (r *distillation) buckets(texts []int, rng *rand.Rand) lengthGroup {
	e := r.Targets.dim
	pivots := make([]float32, 0, e*(len(texts)/bucketSize+1))
	for _, i := range rng.Perm(len(texts))[:len(texts)/bucketSize+1] {
		at := len(pivots)
		pivots = pivots[:at+e]
		r.Targets.row(pivots[at:], texts[i])
	}
	m := len(pivots) / e
	g := lengthGroup{texts: texts, alike: make([]int, len(texts)), buckets: make([][]int, m)}
	const chunk = 1024
	rows, cos := make([]float32, chunk*e), make([]float32, chunk*m)
	for lo := 0; lo < len(texts); lo += chunk {
		n := min(chunk, len(texts)-lo)
		for i := range n {
			r.Targets.row(rows[i*e:(i+1)*e], texts[lo+i])
		}
		gemm(false, true, n, m, e, 1, rows, e, pivots, e, 0, cos, m)
		for i := range n {
			row, best := cos[i*m:(i+1)*m], 0
			for j, c := range row {
				if c > row[best] {
					best = j
				}
			}
			g.alike[lo+i] = best
			g.buckets[best] = append(g.buckets[best], texts[lo+i])
		}
	}
	return g
}

func (r *distillation) begin(epoch int) (int, error) {
	r.epoch = epoch
	return r.opts.Steps, nil
}

// batch draws the texts of step i of the epoch, all different.
func (r *distillation) batch(i int) []int {
	rng := rand.New(rand.NewPCG(r.opts.Train.Seed, uint64(r.epoch*r.opts.Steps+i)))
	// A length as often as there are texts of it.
	at := rng.IntN(len(r.Texts))
	g := &r.groups[0]
	for j := range r.groups {
		if g = &r.groups[j]; at < len(g.texts) {
			break
		}
		at -= len(g.texts)
	}
	n := min(r.opts.Batch, len(g.texts))
	texts, drawn := make([]int, 0, n), make(map[int]bool, n)
	put := func(text int) {
		if !drawn[text] {
			drawn[text] = true
			texts = append(texts, text)
		}
	}
	for alike := int(r.opts.Alike * float64(n)); len(texts) < alike; {
		bucket := g.buckets[g.alike[rng.IntN(len(g.texts))]]
		for from, j := rng.IntN(len(bucket)), 0; j < len(bucket) && len(texts) < alike; j++ {
			put(bucket[(from+j)%len(bucket)])
		}
	}
	for len(texts) < n {
		put(g.texts[rng.IntN(len(g.texts))])
	}
	return texts
}

func (r *distillation) step(i int, rate float64) (float64, error) {
	texts := r.batch(i)
	length, e := 0, r.Targets.dim
	for _, j := range texts {
		length = max(length, paddedLength(r.trainer.m.Config, len(r.Texts[j])))
	}
	r.tower.reshape(batchRows{b: r.opts.Batch, t: length})
	g := r.graphs[length]
	if g == nil {
		var err error
		if g, err = newImitationGraph(r.tower, r.loss, r.trainer); err != nil {
			return 0, err
		}
		r.graphs[length] = g
	}
	for b := range r.opts.Batch {
		var ids []int32
		if b < len(texts) {
			ids = r.Texts[texts[b]]
			r.Targets.row(r.loss.teacher[b*e:(b+1)*e], texts[b])
		}
		g.batch.put(b, ids)
	}
	if err := r.trainer.dev.push(r.loss.teacher); err != nil {
		return 0, err
	}
	return r.trainer.step(rate, term{g.graph, 1})
}

func (r *distillation) validates() bool { return len(r.Held) > 0 }

func (r *distillation) better(a, b float64) bool { return a > b }

func (r *distillation) validate(ctx context.Context, progress func(read, texts int)) (float64, error) {
	n := len(r.Held)
	if n == 0 {
		return 0, nil
	}
	d := r.trainer.m.Config.Dim
	own := make([]float32, n*d)
	r.encoder.on(r.trainer.dev)
	if err := r.encoder.Embed(ctx, own, r.Held); err != nil {
		return 0, err
	}
	progress(n, n)
	l := eval.Alike(eval.Vectors{Dim: r.Targets.dim, Data: r.Given}, eval.Vectors{Dim: d, Data: own}, heldNeighbours)
	var sum float64
	for _, o := range l.Overlap {
		sum += o
	}
	return sum / float64(n), nil
}

func (r *distillation) digest(d *textDigest) {
	o := r.opts
	o.Train.Patience = 0 // which may change
	// Where it computes is no part of it.
	d.words(strings.Replace(fmt.Sprintf("%+v", o), fmt.Sprintf(" Device:%v", o.Train.Device), "", 1))
	for i, ids := range r.Texts {
		values, step := r.Targets.Packed(i)
		d.text(ids)
		d.values(values)
		d.put(math.Float32bits(step))
	}
	for _, ids := range r.Held {
		d.text(ids)
	}
}
