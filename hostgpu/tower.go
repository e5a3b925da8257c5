package hostgpu

import (
	"fmt"

	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"github.com/wisp-project/wisp/model"
)

// batch is what a step reads: B rows of T events. A row may hold several
// sequences one after the other, and ends in padding.
type batch struct {
	items, types, gaps []int // (P)
	starts             []int // (P) position in its row at which the sequence of an event starts
	targets            []int // (P) the next item, -1 for padding
}

func newBatch(p int) *batch {
	return &batch{
		items: make([]int, p), types: make([]int, p), gaps: make([]int, p),
		starts: make([]int, p), targets: make([]int, p),
	}
}

// tower is the composition of kernels that computes user vectors from events:
// the same list serves the training graph and inference.
type tower struct {
	cfg    model.Config
	b, t   int
	events *events
	attn   []*attention
	ffn    []*feedForward
	norm   *finalNorm
}

// newTower builds the kernels for B rows of T events; state is nil and share 0
// for inference.
func newTower(c model.Config, b, t int, share float32, state *stepState) *tower {
	site := uint64(0)
	drop := func() *dropout {
		site++
		return &dropout{share: share, site: site, state: state}
	}
	p := b * t
	w := &tower{cfg: c, b: b, t: t}
	w.events = &events{p: p, n: c.Items, types: c.EventTypes, gaps: c.GapBuckets, d: c.Dim, drop: drop()}
	for range c.Layers {
		w.attn = append(w.attn, &attention{b: b, t: t, d: c.Dim, heads: c.Heads, window: c.Window, drop: drop()})
		w.ffn = append(w.ffn, &feedForward{p: p, d: c.Dim, f: c.FFN, drop: drop()})
	}
	w.norm = &finalNorm{p: p, d: c.Dim}
	return w
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

// forward computes the user vectors of bt, (P, D), outside any graph. v holds the
// item vectors, (N, D).
func (w *tower) forward(weights model.Weights, v []float32, bt *batch) []float32 {
	p, d := w.b*w.t, w.cfg.Dim
	x, y := make([]float32, p*d), make([]float32, p*d)
	w.events.forward(x, []argument{
		floats(v), floats(weights[model.UserType].Data), floats(weights[model.UserGap].Data),
		ints(bt.items), ints(bt.types), ints(bt.gaps),
	})
	block := func(l int, names []string) []argument {
		args := []argument{floats(x)}
		for _, n := range names {
			args = append(args, floats(weights[model.LayerName(l, n)].Data))
		}
		return args
	}
	for l := range w.attn {
		w.attn[l].forward(y, append(block(l, attnTensors), ints(bt.starts)))
		x, y = y, x
		w.ffn[l].forward(y, block(l, ffnTensors))
		x, y = y, x
	}
	w.norm.forward(y, []argument{floats(x), floats(weights[model.UserNormGain].Data), floats(weights[model.UserNormBias].Data)})
	return y
}

// graph is the training graph of one batch shape over shared weights.
type graph struct {
	vm     gorgonia.VM
	params gorgonia.Nodes // in the order of names
	names  []string
	grads  gorgonia.Nodes
	loss   gorgonia.Value
	batch  *batch
	// samples is the input of the sampled loss, nil with the full one.
	samples []int
}

// lossSpec says which loss a graph ends in.
type lossSpec struct {
	smoothing float32
	samples   int       // 0: full softmax
	logq      []float32 // with samples
}

// newGraph builds loss and gradients for weights w; the nodes share w's memory,
// so a change to a weight is seen by the next step.
func newGraph(w model.Weights, tw *tower, features []float32, spec lossSpec) (*graph, error) {
	c, p := tw.cfg, tw.b*tw.t
	g := &graph{batch: newBatch(p)}
	eg := gorgonia.NewGraph()
	nodes := map[string]*gorgonia.Node{}
	for _, s := range c.Specs() {
		if s.Name == model.UserCold {
			continue // fitted when the item vectors are final
		}
		t := tensor.New(tensor.WithShape(s.Shape...), tensor.WithBacking(w[s.Name].Data))
		n := gorgonia.NewTensor(eg, tensor.Float32, len(s.Shape), gorgonia.WithShape(s.Shape...), gorgonia.WithName(s.Name), gorgonia.WithValue(t))
		nodes[s.Name] = n
		g.params, g.names = append(g.params, n), append(g.names, s.Name)
	}
	index := func(name string, values []int) *gorgonia.Node {
		t := tensor.New(tensor.WithShape(len(values)), tensor.WithBacking(values))
		return gorgonia.NewTensor(eg, tensor.Int, 1, gorgonia.WithShape(len(values)), gorgonia.WithName(name), gorgonia.WithValue(t))
	}
	var err error
	add := func(name string, k kernel, args ...*gorgonia.Node) *gorgonia.Node {
		if err != nil {
			return nil
		}
		var n *gorgonia.Node
		n, err = apply(name, k, args...)
		return n
	}
	block := func(x *gorgonia.Node, l int, names []string) []*gorgonia.Node {
		args := []*gorgonia.Node{x}
		for _, n := range names {
			args = append(args, nodes[model.LayerName(l, n)])
		}
		return args
	}

	v := nodes[model.ItemEmbedding]
	if c.Features > 0 {
		v = add("items", &itemVectors{n: c.Items, d: c.Dim, f: c.Features, x: features}, v, nodes[model.ItemFeatures])
	}
	bt := g.batch
	starts := index("starts", bt.starts)
	x := add("events", tw.events, v, nodes[model.UserType], nodes[model.UserGap],
		index("items", bt.items), index("types", bt.types), index("gaps", bt.gaps))
	for l := range c.Layers {
		x = add(fmt.Sprintf("attention%d", l), tw.attn[l], append(block(x, l, attnTensors), starts)...)
		x = add(fmt.Sprintf("feedforward%d", l), tw.ffn[l], block(x, l, ffnTensors)...)
	}
	u := add("norm", tw.norm, x, nodes[model.UserNormGain], nodes[model.UserNormBias])
	targets := index("targets", bt.targets)
	var loss *gorgonia.Node
	if spec.samples > 0 {
		g.samples = make([]int, spec.samples)
		k := &sampledSoftmax{p: p, n: c.Items, d: c.Dim, s: spec.samples, logq: spec.logq}
		loss = add("sampled-softmax", k, u, v, targets, index("samples", g.samples))
	} else {
		loss = add("softmax", &fullSoftmax{p: p, n: c.Items, d: c.Dim, smoothing: spec.smoothing}, u, v, targets)
	}
	if err != nil {
		return nil, err
	}
	gorgonia.Read(loss, &g.loss)
	if g.grads, err = gorgonia.Grad(loss, g.params...); err != nil {
		return nil, fmt.Errorf("hostgpu: graph: gradient: %w", err)
	}
	g.vm = gorgonia.NewTapeMachine(eg)
	return g, nil
}

// run computes the loss of the batch; gradients are then in gradient.
func (g *graph) run() (float32, error) {
	g.vm.Reset() // without it a second run does nothing
	if err := g.vm.RunAll(); err != nil {
		return 0, fmt.Errorf("hostgpu: graph: run: %w", err)
	}
	return float32(*g.loss.(*gorgonia.F32)), nil
}

// gradient returns the gradient of parameter i; it is valid until the next run.
func (g *graph) gradient(i int) []float32 {
	return g.grads[i].Value().Data().([]float32)
}

func (g *graph) close() error { return g.vm.Close() }
