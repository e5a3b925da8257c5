package hostgpu

import (
	"fmt"
	"hash"
	"hash/fnv"
	"sync/atomic"

	"github.com/chewxy/hm"
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// kernel is a fused function with a hand-written derivative. The same kernel
// can run without a graph (inference), or as one node of a gorgonia graph
// (training), on any device. It is built for fixed shapes, may keep what its
// derivative needs from forward to backward, and serves one node of one device only.
type kernel interface {
	// inputs describes the arguments, in order.
	inputs() []input
	// shape is the shape of the result; a scalar has none.
	shape() tensor.Shape
	// forward writes the result to out.
	forward(dev device, out vector, in []argument)
	// backward writes the derivative of the loss with respect to each
	// differentiable input i to grads[i], given that with respect to the result,
	// which the host knows where it is a scalar. It may read in, and out as forward
	// left it. grads[i] is empty for the others.
	backward(dev device, grads []vector, dout, out vector, in []argument)
}

// hostOnly is a kernel that reads its vectors as slices.
type hostOnly interface{ hostOnly() }

// input describes one argument of a kernel.
type input struct {
	shape tensor.Shape
	index bool // []int, not differentiable
}

// nodes counts the fused nodes of the process. gorgonia merges nodes whose
// 32-bit hashes are equal; a number of its own keeps each apart.
var nodes atomic.Uint64

// opBase holds the methods that are the same for all our operators: none
// returns a pointer to its input, calls into C, or overwrites an argument.
type opBase struct{}

func (opBase) ReturnsPtr() bool     { return false }
func (opBase) CallsExtern() bool    { return false }
func (opBase) OverwritesInput() int { return -1 }

func hashOf(name string) uint32 {
	h := fnv.New32a()
	h.Write([]byte(name))
	return h.Sum32()
}

func typeOf(s tensor.Shape, dt tensor.Dtype) hm.Type {
	if s.Dims() == 0 {
		return dt
	}
	return gorgonia.TensorType{Dims: s.Dims(), Of: dt}
}

// fused is a kernel as a gorgonia operator.
type fused struct {
	opBase
	dev   device
	name  string
	k     kernel
	out   vector
	value gorgonia.Value // of out; kept: the tape machine drops its registers at each Reset

	handed map[int]*handed   // inputs whose gradients go to another operator
	taken  map[int][]*handed // gradients that come from others
}

func (o *fused) Arity() int            { return len(o.k.inputs()) }
func (o *fused) String() string        { return o.name }
func (o *fused) WriteHash(h hash.Hash) { fmt.Fprint(h, o.name) }
func (o *fused) Hashcode() uint32      { return hashOf(o.name) }

func (o *fused) argumentTypes() []hm.Type {
	var types []hm.Type
	for _, in := range o.k.inputs() {
		dt := tensor.Float32
		if in.index {
			dt = tensor.Int
		}
		types = append(types, typeOf(in.shape, dt))
	}
	return types
}

func (o *fused) Type() hm.Type {
	return hm.NewFnType(append(o.argumentTypes(), typeOf(o.k.shape(), tensor.Float32))...)
}

func (o *fused) InferShape(ds ...gorgonia.DimSizer) (tensor.Shape, error) {
	shapes, err := gorgonia.DimSizersToShapes(ds)
	if err != nil {
		return nil, err
	}
	for i, in := range o.k.inputs() {
		if !in.shape.Eq(shapes[i]) {
			return nil, fmt.Errorf("argument %d has shape %v, want %v", i, shapes[i], in.shape)
		}
	}
	return o.k.shape().Clone(), nil
}

// arguments unpacks values of the tape machine.
func arguments(values []gorgonia.Value) ([]argument, error) {
	args := make([]argument, len(values))
	for i, v := range values {
		switch x := v.(type) {
		case *gorgonia.F32:
			args[i] = floats([]float32{float32(*x)})
		case *deviceValue:
			args[i] = x.argument
		case *tensor.Dense:
			if x.RequiresIterator() {
				return nil, fmt.Errorf("hostgpu: argument %d is a strided view", i)
			}
			switch d := x.Data().(type) {
			case []float32:
				args[i] = floats(d)
			case []int:
				args[i] = ints(d)
			default:
				return nil, fmt.Errorf("hostgpu: argument %d holds %T", i, d)
			}
		default:
			return nil, fmt.Errorf("hostgpu: argument %d is a %T", i, v)
		}
	}
	return args, nil
}

func (o *fused) Do(values ...gorgonia.Value) (gorgonia.Value, error) {
	args, err := arguments(values)
	if err != nil {
		return nil, err
	}
	shape := o.k.shape()
	o.out = o.dev.resize(o.out, shape.TotalSize())
	if err := o.dev.err(); err != nil {
		return nil, err
	}
	o.k.forward(o.dev, o.out, args)
	if o.value == nil || shape.Dims() == 0 {
		o.value = o.dev.value(o.out, shape)
	}
	return o.value, o.dev.err()
}

func (o *fused) DiffWRT(int) []bool {
	var wrt []bool
	for i, in := range o.k.inputs() {
		wrt = append(wrt, !in.index && o.handed[i] == nil)
	}
	return wrt
}

// SymDiff adds the derivative to the graph: one node that fills a packed buffer
// with the gradients of all inputs, for an operator has one result only, and
// for each input a node that is a view of its part.
func (o *fused) SymDiff(in gorgonia.Nodes, out, grad *gorgonia.Node) (gorgonia.Nodes, error) {
	d := &derivative{f: o, name: "grad-" + o.name, offsets: []int{0}}
	for i, a := range o.k.inputs() {
		n := a.shape.TotalSize()
		if a.index || o.handed[i] != nil {
			n = 0
		}
		d.offsets = append(d.offsets, d.offsets[len(d.offsets)-1]+n)
	}
	// The inputs and the result are children of the derivative's node: that edge
	// keeps their registers from being reused before it has run.
	packed, err := gorgonia.ApplyOp(d, append(append(gorgonia.Nodes{}, in...), out, grad)...)
	if err != nil {
		return nil, err
	}
	grads := make(gorgonia.Nodes, len(in))
	for i, a := range o.k.inputs() {
		if a.index || o.handed[i] != nil {
			continue
		}
		grads[i], err = gorgonia.ApplyOp(&part{name: fmt.Sprintf("part%d-%s", i, d.name), d: d, i: i, shape: a.shape}, packed)
		if err != nil {
			return nil, err
		}
	}
	return grads, nil
}

// derivative computes the gradients of a fused operator into one buffer.
type derivative struct {
	opBase
	f       *fused
	name    string
	offsets []int // of the parts in buf; one more than inputs
	buf     vector
	value   gorgonia.Value // of buf
}

func (d *derivative) Arity() int            { return d.f.Arity() + 2 }
func (d *derivative) String() string        { return d.name }
func (d *derivative) WriteHash(h hash.Hash) { fmt.Fprint(h, d.name) }
func (d *derivative) Hashcode() uint32      { return hashOf(d.name) }
func (d *derivative) size() int             { return d.offsets[len(d.offsets)-1] }

func (d *derivative) Type() hm.Type {
	out := typeOf(d.f.k.shape(), tensor.Float32)
	return hm.NewFnType(append(d.f.argumentTypes(), out, out, typeOf(tensor.Shape{d.size()}, tensor.Float32))...)
}

func (d *derivative) InferShape(...gorgonia.DimSizer) (tensor.Shape, error) {
	return tensor.Shape{d.size()}, nil
}

func (d *derivative) Do(values ...gorgonia.Value) (gorgonia.Value, error) {
	args, err := arguments(values)
	if err != nil {
		return nil, err
	}
	if d.value == nil {
		d.buf = d.f.dev.resize(d.buf, d.size())
		if err := d.f.dev.err(); err != nil {
			return nil, err
		}
		d.value = d.f.dev.value(d.buf, tensor.Shape{d.size()})
	}
	n := d.f.Arity()
	grads := make([]vector, n)
	for i := range grads {
		if d.offsets[i] < d.offsets[i+1] {
			grads[i] = d.buf.slice(d.offsets[i], d.offsets[i+1])
		}
	}
	for i, h := range d.f.handed {
		h.gradient, h.there = d.f.dev.resize(h.gradient, args[i].floats.n), true
		grads[i] = h.gradient
	}
	if err := d.f.dev.err(); err != nil {
		return nil, err
	}
	d.f.k.backward(d.f.dev, grads, args[n+1].floats, args[n].floats, args[:n])
	for i, from := range d.f.taken {
		for _, h := range from {
			if !h.there {
				return nil, fmt.Errorf("hostgpu: graph: %s: a gradient that it is to add has not been computed", d.name)
			}
			d.f.dev.add(grads[i], h.gradient)
			h.there = false
		}
	}
	return d.value, d.f.dev.err()
}

// part is the gradient of one input: a view of the packed buffer.
type part struct {
	opBase
	name  string
	d     *derivative
	i     int
	shape tensor.Shape
	view  gorgonia.Value
}

func (p *part) Arity() int            { return 1 }
func (p *part) String() string        { return p.name }
func (p *part) WriteHash(h hash.Hash) { fmt.Fprint(h, p.name) }
func (p *part) Hashcode() uint32      { return hashOf(p.name) }

func (p *part) Type() hm.Type {
	return hm.NewFnType(typeOf(tensor.Shape{p.d.size()}, tensor.Float32), typeOf(p.shape, tensor.Float32))
}

func (p *part) InferShape(...gorgonia.DimSizer) (tensor.Shape, error) { return p.shape.Clone(), nil }

func (p *part) Do(values ...gorgonia.Value) (gorgonia.Value, error) {
	if p.view == nil {
		args, err := arguments(values)
		if err != nil {
			return nil, err
		}
		p.view = p.d.f.dev.value(args[0].floats.slice(p.d.offsets[p.i], p.d.offsets[p.i+1]), p.shape)
	}
	return p.view, nil
}

var _ gorgonia.SDOp = (*fused)(nil)
