package hostgpu

import (
	"fmt"
	"math"
	"slices"

	"gorgonia.org/gorgonia"

	"github.com/wisp-project/wisp/model"
)

// batch is what a step reads: B rows of T events. A row may hold several
// sequences one after the other, and ends in padding.
type batch struct {
	items, types, gaps []int // (P)
	starts             []int // (P) position in its row at which the sequence of an event starts
	targets            []int // (P) the next item, as its place in what the softmax ranks; -1 for none and padding
	soft               []int // (P) the soft target, -1 for none and padding; read where there are any
	users              []int // (P) whose event it is, -1 for padding; read where users have descriptions
}

func newBatch(p int) *batch {
	return &batch{
		items: make([]int, p), types: make([]int, p), gaps: make([]int, p),
		starts: make([]int, p), targets: make([]int, p), soft: make([]int, p), users: make([]int, p),
	}
}

// counted is the number of events that have a loss.
func (bt *batch) counted(soft bool) int {
	n := 0
	for i, target := range bt.targets {
		if target >= 0 || soft && bt.soft[i] >= 0 {
			n++
		}
	}
	return n
}

// tower is the composition of kernels that computes user vectors from events:
// the same list serves the training graph and inference.
type tower struct {
	cfg    model.Config
	b, t   int
	share  float32 // of dropout
	sites  uint64  // dropouts handed out
	state  *stepState
	events *embedding
	attn   []*attention
	ffn    []*feedForward
	norm   *normalisation
}

// newTower builds the kernels for B rows of T events; state is nil and share 0
// for inference.
func newTower(c model.Config, b, t int, share float32, state *stepState) *tower {
	p := b * t
	w := &tower{cfg: c, b: b, t: t, share: share, state: state}
	w.events = &embedding{
		p: p, d: c.Dim, rows: [3]int{c.Items, c.EventTypes, c.GapBuckets},
		scale: float32(math.Sqrt(float64(c.Dim))), drop: w.drop(share),
	}
	for range c.Layers {
		w.attn = append(w.attn, &attention{heads: heads{batchRows: batchRows{b: b, t: t}, d: c.Dim, h: c.Heads}, window: c.Window, drop: w.drop(share)})
		w.ffn = append(w.ffn, &feedForward{perceptron: perceptron{d: c.Dim, f: c.FFN}, p: p, drop: w.drop(share)})
	}
	w.norm = &normalisation{p: p, norm: layerNorm{d: c.Dim, eps: model.NormEpsilon}}
	return w
}

// drop returns a dropout with a site of its own.
func (w *tower) drop(share float32) *dropout {
	w.sites++
	return &dropout{share: share, site: w.sites, state: w.state}
}

// Names of the tensors of a block, in the order of the kernels' inputs.
var (
	attnTensors = []string{
		"attn.norm.weight", "attn.norm.bias", "attn.q.weight", "attn.q.bias", "attn.k.weight", "attn.k.bias",
		"attn.v.weight", "attn.v.bias", "attn.o.weight", "attn.o.bias", "attn.distance.bias",
	}
	ffnTensors = []string{
		"ffn.norm.weight", "ffn.norm.bias", "ffn.up.weight", "ffn.up.bias", "ffn.down.weight", "ffn.down.bias",
	}
)

// forward computes the user vectors of bt, (P, D), on the host and outside any graph.
// v holds the item vectors, (N, D).
func (w *tower) forward(weights model.Weights, v []float32, bt *batch) []float32 {
	p, d := w.b*w.t, w.cfg.Dim
	x, y := onHost(make([]float32, p*d)), onHost(make([]float32, p*d))
	w.events.forward(host, x, []argument{
		floats(v), floats(weights[model.UserType].Data), floats(weights[model.UserGap].Data),
		ints(bt.items), ints(bt.types), ints(bt.gaps),
	})
	block := func(l int, names []string) []argument {
		args := []argument{{floats: x}}
		for _, n := range names {
			args = append(args, floats(weights[model.LayerName(l, n)].Data))
		}
		return args
	}
	for l := range w.attn {
		w.attn[l].forward(host, y, append(block(l, attnTensors), ints(bt.starts)))
		x, y = y, x
		w.ffn[l].forward(host, y, block(l, ffnTensors))
		x, y = y, x
	}
	w.norm.forward(host, y, []argument{{floats: x}, floats(weights[model.UserNormGain].Data), floats(weights[model.UserNormBias].Data)})
	return y.host
}

// towerGraph is the training graph of the user tower for one batch shape.
type towerGraph struct {
	*graph
	batch *batch
	// samples is the input of the sampled loss, nil with the full one.
	samples []int
}

// graphSpec says what a graph is given beside the tower, and which loss it ends in.
type graphSpec struct {
	given     Vectors
	gradient  []float32 // where the gradient by the last columns of given.Items gathers, nil for nowhere
	idDropout float32
	ranked    []int // the items that the softmax ranks, nil for all
	smoothing float32
	samples   int       // 0: full softmax
	logq      []float32 // with samples, of the ranked items
	soft      *softRows // a teacher's distributions over the ranked items, nil for none
	softTerm  SoftTerm
	adapters  *adapters // nil for none
}

// towerSpecs lists what a graph trains where there are no adapters: the cold-start
// vector is fitted when the item vectors are final.
func towerSpecs(c model.Config) []model.Spec {
	return slices.DeleteFunc(c.Specs(), func(s model.Spec) bool { return s.Name == model.UserCold })
}

// newTowerGraph builds loss and gradients for weights w, those of adapters too where
// there are any.
func newTowerGraph(dev device, w model.Weights, tw *tower, spec graphSpec) (*towerGraph, error) {
	c, p := tw.cfg, tw.b*tw.t
	g := &towerGraph{batch: newBatch(p)}
	b := newAdaptedGraphBuilder(dev, towerSpecs(c), w, spec.adapters)
	v := b.nodes[model.ItemEmbedding]
	if c.Features > 0 {
		k := &itemVectors{n: c.Items, d: c.Dim, f: c.Features, x: spec.given.Items.Data, dx: spec.gradient, drop: tw.drop(spec.idDropout)}
		v = b.add("items", k, v, b.nodes[model.ItemFeatures])
	}
	bt := g.batch
	starts := b.index("starts", bt.starts)
	x := b.add("events", tw.events, v, b.nodes[model.UserType], b.nodes[model.UserGap],
		b.index("items", bt.items), b.index("types", bt.types), b.index("gaps", bt.gaps))
	for l := range c.Layers {
		full := func(name string) string { return model.LayerName(l, name) }
		x = b.add(fmt.Sprintf("attention%d", l), tw.attn[l], append(b.block(x, attnTensors, full), starts)...)
		x = b.add(fmt.Sprintf("feedforward%d", l), tw.ffn[l], b.block(x, ffnTensors, full)...)
	}
	u := b.add("norm", tw.norm, x, b.nodes[model.UserNormGain], b.nodes[model.UserNormBias])
	if c.Descriptions > 0 {
		k := &description{p: p, d: c.Dim, f: c.Descriptions, given: spec.given.Users.Data, drop: tw.drop(tw.share)}
		u = b.add("description", k, u, b.nodes[model.UserDescription], b.index("users", bt.users))
	}
	n := c.Items
	if spec.ranked != nil {
		n = len(spec.ranked)
	}
	args := []*gorgonia.Node{u, v, b.index("targets", bt.targets)}
	var k kernel
	switch {
	case spec.soft != nil:
		k = &softSoftmax{p: p, n: n, d: c.Dim, weight: float32(spec.softTerm.Weight), t: float32(spec.softTerm.Temperature), soft: spec.soft}
		args = append(args, b.index("soft", bt.soft))
	case spec.samples > 0:
		g.samples = make([]int, spec.samples)
		k = &sampledSoftmax{p: p, n: n, d: c.Dim, s: spec.samples, logq: spec.logq}
		args = append(args, b.index("samples", g.samples))
	default:
		k = &fullSoftmax{p: p, n: n, d: c.Dim, smoothing: spec.smoothing}
	}
	if spec.ranked != nil {
		k = &rankedLoss{kernel: k, selection: selection{n: c.Items, d: c.Dim, rows: spec.ranked}}
	}
	loss := b.add("softmax", k, args...)
	var err error
	g.graph, err = b.build(loss)
	return g, err
}
