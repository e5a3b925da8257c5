package hostgpu

import (
	"errors"
	"math"
	"math/rand/v2"

	"gorgonia.org/gorgonia"

	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/model"
)

// Kernel gives tests the fused functions without a graph around them.
type Kernel struct{ k kernel }

// Arg is the value of an input: floats, or for an index input ints.
type Arg struct {
	Floats []float32
	Ints   []int
}

// The kernels under test; arguments are the fields of the kernels.
func NewItemVectors(n, d, f int, x []float32, drop *Dropout) Kernel {
	return Kernel{&itemVectors{n: n, d: d, f: f, x: x, drop: drop}}
}

func NewSelection(n, d int, rows []int) Kernel {
	return Kernel{&selection{n: n, d: d, rows: rows}}
}

func NewDescription(p, d, f int, given []float32, drop *Dropout) Kernel {
	return Kernel{&description{p: p, d: d, f: f, given: given, drop: drop}}
}

func NewEmbedding(p, n, types, gaps, d int, drop *Dropout) Kernel {
	return Kernel{&embedding{p: p, d: d, rows: [3]int{n, types, gaps}, scale: 1.7, drop: drop}}
}

func NewFeedForward(p, d, f int, drop *Dropout) Kernel {
	return Kernel{&feedForward{perceptron: perceptron{d: d, f: f}, p: p, drop: drop}}
}

func NewNormalisation(p, d int, drop *Dropout) Kernel {
	return Kernel{&normalisation{p: p, norm: layerNorm{d: d, eps: 1e-5}, drop: drop}}
}

func NewAttention(b, t, d, h, window int, drop *Dropout) Kernel {
	return Kernel{&attention{heads: heads{batchRows: batchRows{b: b, t: t}, d: d, h: h}, window: window, drop: drop}}
}

func NewFullSoftmax(p, n, d int, smoothing float32) Kernel {
	return Kernel{&fullSoftmax{p: p, n: n, d: d, smoothing: smoothing}}
}

func NewSampledSoftmax(p, n, d, s int, logq []float32) Kernel {
	return Kernel{&sampledSoftmax{p: p, n: n, d: d, s: s, logq: logq}}
}

// Dropout is the mask generator.
type Dropout = dropout

// NewDropout returns a dropout at the given step.
func NewDropout(share float32, seed, site, step uint64) *Dropout {
	return &dropout{share: share, site: site, state: &stepState{seed: seed, step: step}}
}

// Apply draws the mask and applies it.
func (d *dropout) Apply(x []float32) { d.apply(host, onHost(x)) }

// Backward applies the mask that was drawn to a gradient.
func (d *dropout) Backward(dx, dy []float32) { d.backward(host, onHost(dx), onHost(dy)) }

// SetStep moves on.
func (d *dropout) SetStep(step uint64) { d.state.step = step }

// Shapes returns the shapes of the inputs and which of them are indices.
func (k Kernel) Shapes() (shapes [][]int, index []bool) {
	for _, in := range k.k.inputs() {
		shapes = append(shapes, in.shape)
		index = append(index, in.index)
	}
	return shapes, index
}

// Size is the number of values of the result.
func (k Kernel) Size() int { return k.k.shape().TotalSize() }

func arguments32(in []Arg) []argument {
	args := make([]argument, len(in))
	for i, a := range in {
		args[i] = argument{floats: onHost(a.Floats), ints: index{host: a.Ints}}
	}
	return args
}

// Forward returns the result.
func (k Kernel) Forward(in []Arg) []float32 {
	out := make([]float32, k.Size())
	k.k.forward(host, onHost(out), arguments32(in))
	return out
}

// Backward returns the gradients of the inputs after a Forward that gave out.
// The buffers hold NaN before, as a kernel must overwrite all of them.
func (k Kernel) Backward(dout, out []float32, in []Arg) [][]float32 {
	grads, vectors := make([][]float32, len(in)), make([]vector, len(in))
	for i, a := range in {
		if a.Floats != nil {
			grads[i] = make([]float32, len(a.Floats))
			for j := range grads[i] {
				grads[i][j] = float32(math.NaN())
			}
			vectors[i] = onHost(grads[i])
		}
	}
	k.k.backward(host, vectors, onHost(dout), onHost(out), arguments32(in))
	return grads
}

// Gemm, Softmax and Parallel are the parts that kernels are made of.
var (
	Gemm      = gemm
	NewerCore = newerCore
	Softmax   = softmax
	Parallel  = parallel
)

// Graph is the training graph with the tower it was made of.
type Graph struct {
	*towerGraph
	tw  *tower
	cfg model.Config
}

// GraphSpec is what NewGraph builds; samples 0 asks for the full softmax.
type GraphSpec struct {
	Given            Vectors
	Rows, Length     int
	Samples          int
	LogQ             []float32
	Share, IDDropout float32
	AdapterRank      int
	Fresh            []int // items whose rows adapters have
}

// NewGraph builds the graph of a tower, and adds to w the adapters that are asked for.
func NewGraph(c model.Config, w model.Weights, s GraphSpec) (*Graph, error) {
	tw := newTower(c, s.Rows, s.Length, s.Share, &stepState{seed: 1, step: 1})
	a := newAdapters(towerSpecs(c), w, s.Fresh, s.AdapterRank, 0.7)
	a.draw(w, 1)
	g, err := newTowerGraph(host, w, tw, graphSpec{given: s.Given, idDropout: s.IDDropout, samples: s.Samples, logq: s.LogQ, adapters: a})
	if err != nil {
		return nil, err
	}
	return &Graph{g, tw, c}, nil
}

// Fill writes one piece of training material into the rows: histories[i] is
// one sequence, and rows lists which of them stand in each row.
func (g *Graph) Fill(histories [][]data.Interaction, rows [][]int) {
	m := sequences(data.InMemory(histories), func(u int) int { return len(histories[u]) })
	var pieces [][]piece
	for _, row := range rows {
		var ps []piece
		for _, s := range row {
			ps = append(ps, piece{s, 0, int(m.seqs[s].n)})
		}
		pieces = append(pieces, ps)
	}
	_ = g.batch.fill(m, pieces, g.tw.t, g.cfg) // nothing is read from disk
	for i := range g.samples {
		g.samples[i] = i % g.cfg.Items
	}
}

// Run computes loss and gradients.
func (g *Graph) Run() (float32, error) { return g.run() }

// Gradients returns the gradients by name.
func (g *Graph) Gradients() map[string][]float32 {
	all := map[string][]float32{}
	for i, name := range g.names {
		all[name] = g.gradient(i).host
	}
	return all
}

// Pack lays out an epoch of sequences with the given lengths: for each row the
// (sequence, from, to) of its pieces.
func Pack(lengths []int, t int, rng *rand.Rand) [][][3]int {
	seqs := make([]sequence, len(lengths))
	for i, n := range lengths {
		seqs[i] = sequence{n: int32(n)}
	}
	var rows [][][3]int
	for _, row := range pack(seqs, t, rng) {
		var ps [][3]int
		for _, p := range row {
			ps = append(ps, [3]int{p.seq, p.lo, p.hi})
		}
		rows = append(rows, ps)
	}
	return rows
}

// FitCold is the fit of the cold-start vector.
var FitCold = fitCold

// WithoutOpenBLAS runs f as on a machine that lacks the library.
func WithoutOpenBLAS(f func()) {
	was := loadBLAS
	defer func() { loadBLAS = was }()
	loadBLAS = func() (*openBLAS, error) { return nil, errors.New("taken away by a test") }
	f()
}

// BatchRows is how the rows of a batch lie.
type BatchRows batchRows

// NewBatchRows returns b rows of t tokens and, behind them, short of u.
func NewBatchRows(b, t, short, u int) BatchRows { return BatchRows{b, t, short, u} }

// The kernels of text encoders under test.
func NewTextAttention(r BatchRows, d, h int, drop *Dropout) Kernel {
	return Kernel{&textAttention{heads: heads{batchRows: batchRows(r), d: d, h: h}, norm: layerNorm{d: d, eps: 1e-5}, drop: drop}}
}

func NewTextFeedForward(p, d, f int, drop *Dropout) Kernel {
	return Kernel{&textFeedForward{perceptron: perceptron{d: d, f: f, gelu: true}, p: p, norm: layerNorm{d: d, eps: 1e-5}, drop: drop}}
}

func NewPooling(r BatchRows, d int, kind model.Pooling, unit bool) Kernel {
	return Kernel{&pooling{batchRows: batchRows(r), d: d, kind: kind, unit: unit}}
}

func NewContrastive(b, d int, temperature, smoothing float32) Kernel {
	return Kernel{&contrastive{b: b, d: d, temperature: temperature, smoothing: smoothing}}
}

// Gradients computes the loss of pairs, its gradients by name, and the embeddings
// of all texts of a full batch, queries first, without a step.
func (t *TextTrainer) Gradients(queries, items [][]int32) (loss float32, grads map[string][]float32, embeddings []float32, err error) {
	g, err := t.fill(queries, items)
	if err != nil {
		return 0, nil, nil, err
	}
	loss, err = g.run()
	if err != nil {
		return 0, nil, nil, err
	}
	grads = map[string][]float32{}
	for i, name := range g.names {
		grads[name] = values(t.dev, g.gradient(i))
	}
	args, err := arguments([]gorgonia.Value{g.embeddings.Value()})
	return loss, grads, values(t.dev, args[0].floats), err
}

// FitFeatures is the regression of item vectors on given vectors.
var FitFeatures = fitFeatures

// ItemVectorsRefitted returns the item vectors of the trainer's best weights, before
// and after W_feat is fitted anew.
func ItemVectorsRefitted(t *Trainer) (before, after *model.Tensor, err error) {
	var m [2]*model.Model
	w := t.best
	for i := range m {
		if m[i], err = model.New(t.cfg, w, t.given.Items); err != nil {
			return nil, nil, err
		}
		if w, err = t.refitted(w); err != nil {
			return nil, nil, err
		}
	}
	return m[0].ItemVectors, m[1].ItemVectors, nil
}

// NewSoftSoftmax returns the loss by soft targets that were given as they are kept:
// over all n items, which are all ranked where place is nil.
// events are the items of one history at each of whose ends a target stands.
func NewSoftSoftmax(p, n, d int, term SoftTerm, t *SoftTargets, place []int32, events []int32) Kernel {
	if place == nil {
		for i := range t.Items() {
			place = append(place, int32(i))
		}
	}
	l := Lessons{Lessons: []Lesson{{}}, Targets: t}
	for _, i := range events {
		l.Lessons[0].Events = append(l.Lessons[0].Events, data.Interaction{Item: i})
	}
	return Kernel{&softSoftmax{p: p, n: n, d: d, weight: float32(term.Weight), t: float32(term.Temperature), soft: l.soft(place, n)}}
}

// Distribution returns entry i of t over its n ranked items, in full, with nothing for
// what a user has had.
func (t *SoftTargets) Distribution(i int, place []int32, n int, had []int32) []float64 {
	r := t.ranked(place, n)
	p := make([]float64, n)
	spoken := map[int32]bool{}
	for _, item := range had {
		spoken[place[item]] = true
	}
	for m := i * r.top; m < (i+1)*r.top; m++ {
		spoken[r.places[m]] = true
	}
	left := 0.0
	for j, b := range r.background {
		if !spoken[int32(j)] {
			left += float64(b)
		}
	}
	for j, b := range r.background {
		if !spoken[int32(j)] {
			p[j] = float64(r.rest[i]) / left * float64(b)
		}
	}
	for m := i * r.top; m < (i+1)*r.top; m++ {
		if at := r.places[m]; at >= 0 {
			p[at] = float64(r.probs[m])
		}
	}
	return p
}
