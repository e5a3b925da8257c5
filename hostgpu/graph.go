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
	vm     gorgonia.VM
	params gorgonia.Nodes // in the order of names
	names  []string
	grads  gorgonia.Nodes
	loss   gorgonia.Value
}

// graphBuilder puts a graph together. Its first error stays, and later steps do
// nothing.
type graphBuilder struct {
	g     *graph
	eg    *gorgonia.ExprGraph
	nodes map[string]*gorgonia.Node // parameters by name
	err   error
}

// newGraphBuilder starts a graph with the parameters specs; their nodes share
// w's memory, so a change to a weight is seen by the next step.
func newGraphBuilder(specs []model.Spec, w model.Weights) *graphBuilder {
	b := &graphBuilder{g: &graph{}, eg: gorgonia.NewGraph(), nodes: map[string]*gorgonia.Node{}}
	for _, s := range specs {
		t := tensor.New(tensor.WithShape(s.Shape...), tensor.WithBacking(w[s.Name].Data))
		n := gorgonia.NewTensor(b.eg, tensor.Float32, len(s.Shape), gorgonia.WithShape(s.Shape...), gorgonia.WithName(s.Name), gorgonia.WithValue(t))
		b.nodes[s.Name] = n
		b.g.params, b.g.names = append(b.g.params, n), append(b.g.names, s.Name)
	}
	return b
}

// index adds an input of indices that shares the memory of values.
func (b *graphBuilder) index(name string, values []int) *gorgonia.Node {
	t := tensor.New(tensor.WithShape(len(values)), tensor.WithBacking(values))
	return gorgonia.NewTensor(b.eg, tensor.Int, 1, gorgonia.WithShape(len(values)), gorgonia.WithName(name), gorgonia.WithValue(t))
}

// add adds kernel k.
func (b *graphBuilder) add(name string, k kernel, args ...*gorgonia.Node) *gorgonia.Node {
	if b.err != nil {
		return nil
	}
	var n *gorgonia.Node
	n, b.err = apply(name, k, args...)
	return n
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

// step runs the graph and moves weights w against the gradient, which is scaled
// to a norm of at most clip where that is positive. It returns the loss before.
func (g *graph) step(adam *adamW, w model.Weights, rate, clip float64) (float64, error) {
	l, err := g.run()
	if err != nil {
		return 0, err
	}
	loss := float64(l)
	if math.IsNaN(loss) || math.IsInf(loss, 0) {
		return 0, fmt.Errorf("%w: the loss is %v; try a lower learning rate", ErrDiverged, loss)
	}
	var square float64
	for i, name := range g.names {
		s := squaredNorm(g.gradient(i))
		if math.IsNaN(s) || math.IsInf(s, 0) {
			return 0, fmt.Errorf("%w: the gradient of %q is not finite; try a lower learning rate", ErrDiverged, name)
		}
		square += s
	}
	scale := 1.0
	if norm := math.Sqrt(square); clip > 0 && norm > clip {
		scale = clip / norm
	}
	adam.next()
	for i, name := range g.names {
		adam.update(name, w[name], g.gradient(i), rate, scale)
	}
	return loss, nil
}

func (g *graph) close() error { return g.vm.Close() }
