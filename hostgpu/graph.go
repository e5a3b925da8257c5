package hostgpu

import (
	"fmt"
	"math"

	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"github.com/wisp-project/wisp/model"
)

// graph is the training graph of one batch shape over shared weights: a loss
// and the gradients of all parameters.
type graph struct {
	dev     device
	vm      gorgonia.VM
	params  gorgonia.Nodes // in the order of names
	names   []string
	grads   gorgonia.Nodes
	indices []*deviceValue // of a GPU, which reads them anew at each run
	loss    gorgonia.Value
}

// graphBuilder puts a graph together. Its first error stays, and later steps do
// nothing.
type graphBuilder struct {
	g     *graph
	eg    *gorgonia.ExprGraph
	nodes map[string]*gorgonia.Node // parameters by name
	uses  map[*gorgonia.Node]use    // the first of each node
	err   error
}

// newGraphBuilder starts a graph that dev computes, with the parameters specs; their
// nodes share w's memory, or that of its mirrors, so a change to a weight is seen by
// the next step.
func newGraphBuilder(dev device, specs []model.Spec, w model.Weights) *graphBuilder {
	b := &graphBuilder{g: &graph{dev: dev}, eg: gorgonia.NewGraph(), nodes: map[string]*gorgonia.Node{}, uses: map[*gorgonia.Node]use{}}
	for _, s := range specs {
		n := b.input(s.Name, s.Shape, w[s.Name].Data)
		b.nodes[s.Name] = n
		b.g.params, b.g.names = append(b.g.params, n), append(b.g.names, s.Name)
	}
	return b
}

// input adds an input that shares the memory of values, or of its mirror.
func (b *graphBuilder) input(name string, shape []int, values []float32) *gorgonia.Node {
	v := b.g.dev.value(b.g.dev.mirror(values), shape)
	return gorgonia.NewTensor(b.eg, tensor.Float32, len(shape), gorgonia.WithShape(shape...), gorgonia.WithName(name), gorgonia.WithValue(v))
}

// index adds an input of indices that shares the memory of values.
func (b *graphBuilder) index(name string, values []int) *gorgonia.Node {
	var v gorgonia.Value
	if b.g.dev == host {
		v = tensor.New(tensor.WithShape(len(values)), tensor.WithBacking(values))
	} else {
		d := &deviceValue{argument: ints(values), shape: tensor.Shape{len(values)}}
		b.g.indices = append(b.g.indices, d)
		v = d
	}
	return gorgonia.NewTensor(b.eg, tensor.Int, 1, gorgonia.WithShape(len(values)), gorgonia.WithName(name), gorgonia.WithValue(v))
}

// add adds kernel k.
func (b *graphBuilder) add(name string, k kernel, args ...*gorgonia.Node) *gorgonia.Node {
	if b.err != nil {
		return nil
	}
	n, o, err := apply(b.uses, b.g.dev, name, k, args...)
	if err != nil {
		b.err = err
		return nil
	}
	for i, a := range args {
		if _, used := b.uses[a]; !used {
			b.uses[a] = use{o, i}
		}
	}
	return n
}

// apply adds kernel k to the graph of its arguments, to be computed by dev. before says
// who used which node first. gorgonia would add the gradients of a node with two users
// by an operator of its own, which allocates, and on the host. So the later one hands
// its gradient to the first, whose derivative runs later where the later one depends
// on it. It needs another input that has a gradient.
func apply(before map[*gorgonia.Node]use, dev device, name string, k kernel, args ...*gorgonia.Node) (*gorgonia.Node, *fused, error) {
	if _, only := k.(hostOnly); only && dev != host {
		return nil, nil, fmt.Errorf("%w: %s has no kernel for a GPU yet; train with the device cpu", ErrDevice, name)
	}
	o := &fused{dev: dev, name: fmt.Sprintf("%s#%d", name, nodes.Add(1)), k: k, handed: map[int]*handed{}, taken: map[int][]*handed{}}
	for i, a := range k.inputs() {
		if first, used := before[args[i]]; used && !a.index {
			o.handed[i] = &handed{}
			first.by.taken[first.input] = append(first.by.taken[first.input], o.handed[i])
		}
	}
	n, err := gorgonia.ApplyOp(o, args...)
	if err != nil {
		return nil, nil, fmt.Errorf("hostgpu: graph: %s: %w", name, err)
	}
	return n, o, nil
}

// use is one of a node: as which input of which operator.
type use struct {
	by    *fused
	input int
}

// handed is the gradient of a node's later user on its way to the first.
type handed struct {
	gradient vector
	there    bool
}

// block returns the arguments of a kernel of a block: x, then the named
// parameters.
func (b *graphBuilder) block(x *gorgonia.Node, names []string, full func(name string) string) []*gorgonia.Node {
	args := []*gorgonia.Node{x}
	for _, n := range names {
		args = append(args, b.nodes[full(n)])
	}
	return args
}

// build ends the graph in the given loss.
func (b *graphBuilder) build(loss *gorgonia.Node) (*graph, error) {
	if b.err != nil {
		return nil, b.err
	}
	gorgonia.Read(loss, &b.g.loss)
	var err error
	if b.g.grads, err = gorgonia.Grad(loss, b.g.params...); err != nil {
		return nil, fmt.Errorf("hostgpu: graph: gradient: %w", err)
	}
	b.g.vm = gorgonia.NewTapeMachine(b.eg)
	return b.g, nil
}

// run computes the loss of the batch; gradients are then in gradient.
func (g *graph) run() (float32, error) {
	for _, v := range g.indices {
		v.ints = g.dev.indices(v.ints.host)
	}
	g.loss = nil // a GPU's is read where it lies, and not copied
	g.vm.Reset() // without it a second run does nothing
	if err := g.vm.RunAll(); err != nil {
		if lost := g.dev.err(); lost != nil { // which gorgonia's error says, and does not wrap
			return 0, lost
		}
		return 0, fmt.Errorf("hostgpu: graph: run: %w", err)
	}
	if loss, ok := g.loss.(*deviceValue); ok {
		return g.dev.scalar(loss.floats)
	}
	return float32(*g.loss.(*gorgonia.F32)), nil
}

// gradient returns the gradient of parameter i; it is valid until the next run.
func (g *graph) gradient(i int) vector {
	if v, ok := g.grads[i].Value().(*deviceValue); ok {
		return v.floats
	}
	return onHost(g.grads[i].Value().Data().([]float32))
}

// evaluate runs the graph and returns its loss, which is ErrDiverged's where it
// is no number.
func (g *graph) evaluate() (float64, error) {
	l, err := g.run()
	if err != nil {
		return 0, err
	}
	loss := float64(l)
	if math.IsNaN(loss) || math.IsInf(loss, 0) {
		return 0, fmt.Errorf("%w: the loss is %v; try a lower learning rate", ErrDiverged, loss)
	}
	return loss, nil
}

// step runs the graph and moves weights w against the gradient, which is scaled
// to a norm of at most clip where that is positive. It returns the loss before.
func (g *graph) step(adam *adamW, w model.Weights, rate, clip float64) (float64, error) {
	loss, err := g.evaluate()
	if err != nil {
		return 0, err
	}
	return loss, descend(adam, w, rate, clip, term{g, 1})
}

func (g *graph) close() error { return g.vm.Close() }
