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

// term is a loss of a weighted sum. Its graph has run, and must not run again
// before the step is taken.
type term struct {
	g      *graph
	weight float64
}

// descend moves weights w against the gradient of the weighted sum of terms,
// which is scaled to a norm of at most clip where that is positive. A parameter
// need not be part of every graph. Graphs run one after the other and not as one:
// gorgonia would allocate each sum of two gradients anew.
func descend(adam *adamW, w model.Weights, rate, clip float64, terms ...term) error {
	s := gradientSum{dev: terms[0].g.dev, adam: adam, place: map[string]int{}}
	for _, t := range terms {
		s.add(t)
	}
	return s.descend(w, rate, clip, 1)
}

// gradientSum is the gradient of a weighted sum of losses.
type gradientSum struct {
	dev   device
	adam  *adamW
	all   []summand
	place map[string]int // in all, by parameter
	keeps bool           // own the first gradient of a parameter too, whose graph will run again
}

// summand is the gradient of a parameter.
type summand struct {
	name   string
	values vector
	owned  bool // a sum of ours, that more may be added to
	scale  float64
}

// add adds the gradients of a graph that has run.
func (s *gradientSum) add(t term) {
	for i, name := range t.g.names {
		at, known := s.place[name]
		if !known {
			s.place[name] = len(s.all)
			s.all = append(s.all, summand{name: name, values: t.g.gradient(i), scale: t.weight})
			if s.keeps {
				s.own(&s.all[len(s.all)-1])
			}
			continue
		}
		s.own(&s.all[at])
		s.dev.addScaled(s.all[at].values, t.g.gradient(i), float32(t.weight))
	}
}

// own makes a the sum of ours.
func (s *gradientSum) own(a *summand) {
	if a.owned {
		return
	}
	sum := s.dev.resize(s.adam.sums[a.name], a.values.n)
	s.adam.sums[a.name] = sum
	s.dev.scaled(sum, a.values, float32(a.scale))
	a.values, a.owned, a.scale = sum, true, 1
}

// descend moves weights w against the sum, times factor. Where it fails for want of
// memory, they are as they were.
func (s *gradientSum) descend(w model.Weights, rate, clip, factor float64) error {
	gradients := make([]vector, len(s.all))
	for i, a := range s.all {
		gradients[i] = a.values
		s.adam.moments(s.dev, a.name, w[a.name])
	}
	squares, err := s.dev.squaredNorms(gradients...)
	if err != nil {
		return err
	}
	var square float64
	for i, a := range s.all {
		f := a.scale * factor
		n := squares[i] * f * f
		if math.IsNaN(n) || math.IsInf(n, 0) {
			return fmt.Errorf("%w: the gradient of %q is not finite; try a lower learning rate", ErrDiverged, a.name)
		}
		square += n
	}
	scale := factor
	if norm := math.Sqrt(square); clip > 0 && norm > clip {
		scale *= clip / norm
	}
	s.adam.next()
	for _, a := range s.all {
		s.adam.update(s.dev, a.name, w[a.name], a.values, rate, scale*a.scale)
	}
	return s.dev.err()
}

func (g *graph) close() error { return g.vm.Close() }
