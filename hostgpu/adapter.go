package hostgpu

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"

	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"github.com/wisp-project/wisp/model"
)

// lowRank is W + scale·B·A, (out, in): a given matrix W with a change of rank r,
// B being (out, r) and A (r, in).
type lowRank struct {
	out, in, r int
	scale      float32
	base       []float32 // W
}

func (k *lowRank) inputs() []input {
	return []input{{shape: tensor.Shape{k.r, k.in}}, {shape: tensor.Shape{k.out, k.r}}}
}
func (k *lowRank) shape() tensor.Shape { return tensor.Shape{k.out, k.in} }

func (k *lowRank) forward(dev device, out vector, in []argument) {
	dev.copy(out, dev.mirror(k.base))
	dev.gemm(false, false, k.out, k.in, k.r, k.scale, in[1].floats, k.r, in[0].floats, k.in, 1, out, k.in)
}

func (k *lowRank) backward(dev device, grads []vector, dout, _ vector, in []argument) {
	dev.gemm(true, false, k.r, k.in, k.out, k.scale, in[1].floats, k.r, dout, k.in, 0, grads[0], k.in)
	dev.gemm(false, true, k.out, k.r, k.in, k.scale, dout, k.in, in[0].floats, k.in, 0, grads[1], k.r)
}

// freshRows is a given table, (N, D), some rows of which are others, (n, D).
type freshRows struct {
	n, d int
	rows []int     // n of the table, none twice
	base []float32 // the table
}

func (k *freshRows) inputs() []input     { return []input{{shape: tensor.Shape{len(k.rows), k.d}}} }
func (k *freshRows) shape() tensor.Shape { return tensor.Shape{k.n, k.d} }

func (k *freshRows) forward(dev device, out vector, in []argument) {
	dev.copy(out, dev.mirror(k.base))
	dev.scatter(out, in[0].floats, dev.fixed(k.rows), k.d)
}

func (k *freshRows) backward(dev device, grads []vector, dout, _ vector, _ []argument) {
	dev.gather(grads[0], dout, dev.fixed(k.rows), k.d)
}

// adapters are trained in place of a part of a model, which is a text encoder's blocks
// that are not frozen, or towers: a change of low rank for each matrix that maps
// vectors to vectors (Hu et al. 2022), and of the embedding of items, rows that hold
// nothing yet. Other embeddings, biases, gains and the matrices themselves stay as
// they are. Gradients of whole matrices are still computed on the way; moments and
// checkpoints are small.
//
// Weights for which the text says adapted hold the sums W + scale·B·A under the
// names of the W, for whoever computes with them outside a graph.
type adapters struct {
	rank  int
	scale float32
	fresh []int         // rows of the embedding of items that are trained
	part  []model.Spec  // the tensors of the adapted part
	base  model.Weights // those of them that change, copied
}

// Names of an adapter's tensors are that of what it changes and one of these.
const (
	adapterA    = ".adapter.a"    // (r, in)
	adapterB    = ".adapter.b"    // (out, r)
	adapterRows = ".adapter.rows" // (n, D) the fresh rows
)

// newAdapters returns the adapters of a part with weights w, or nil for rank 0. A nil
// *adapters is none.
func newAdapters(part []model.Spec, w model.Weights, fresh []int, rank int, scale float64) *adapters {
	if rank == 0 {
		return nil
	}
	a := &adapters{rank: rank, scale: float32(scale), fresh: fresh, part: part, base: model.Weights{}}
	for _, s := range part {
		if isMap(s) || s.Name == model.ItemEmbedding && len(fresh) > 0 {
			a.base[s.Name] = w[s.Name]
		}
	}
	a.base = cloneWeights(a.base)
	return a
}

// isMap tells a matrix that maps vectors to vectors from a table that is looked up.
func isMap(s model.Spec) bool {
	switch s.Name {
	case model.ItemEmbedding, model.UserType, model.UserGap:
		return false
	}
	return len(s.Shape) == 2 && !isDistance(s.Name)
}

// Specs lists the tensors that are trained, in place of those of the part.
func (a *adapters) Specs() []model.Spec {
	var specs []model.Spec
	for _, s := range a.part {
		if a.base[s.Name] == nil {
			continue
		}
		k, names := a.change(s.Name)
		for i, in := range k.inputs() {
			specs = append(specs, model.Spec{Name: names[i], Shape: in.shape})
		}
	}
	return specs
}

// draw makes w adapted by fresh adapters, in place where it has them: as each B is
// zero and rows are those that are there, they change nothing yet.
func (a *adapters) draw(w model.Weights, seed uint64) {
	if a == nil {
		return
	}
	rng := rand.New(rand.NewPCG(seed, 1<<62)) // a stream that no epoch has
	for _, s := range a.Specs() {
		if w[s.Name] == nil {
			w[s.Name] = model.NewTensor(s.Shape...)
		}
		x := w[s.Name]
		switch {
		case strings.HasSuffix(s.Name, adapterB):
			clear(x.Data)
		case strings.HasSuffix(s.Name, adapterRows):
			for i, row := range a.fresh {
				copy(x.Row(i), a.base[model.ItemEmbedding].Row(row))
			}
		default:
			for i := range x.Data {
				x.Data[i] = float32(rng.NormFloat64() / math.Sqrt(float64(s.Shape[1])))
			}
		}
	}
	a.merge(host, w, w)
}

// change returns the kernel of the named tensor, which is one that changes, and the
// names of the tensors that it is made of.
func (a *adapters) change(name string) (kernel, []string) {
	w := a.base[name]
	if name == model.ItemEmbedding {
		return &freshRows{n: w.Shape[0], d: w.Shape[1], rows: a.fresh, base: w.Data}, []string{name + adapterRows}
	}
	return &lowRank{out: w.Shape[0], in: w.Shape[1], r: a.rank, scale: a.scale, base: w.Data}, []string{name + adapterA, name + adapterB}
}

// merge makes to adapted by the adapters in from, in the memory of dev.
func (a *adapters) merge(dev device, to, from model.Weights) {
	if a == nil {
		return
	}
	for name := range a.base {
		k, names := a.change(name)
		in := make([]argument, len(names))
		for i, n := range names {
			in[i].floats = dev.mirror(from[n].Data)
		}
		k.forward(dev, dev.mirror(to[name].Data), in)
	}
}

// trainedSpecs lists what is trained of a part: adapters where there are any,
// otherwise its own tensors.
func trainedSpecs(part []model.Spec, a *adapters) []model.Spec {
	if a != nil {
		return a.Specs()
	}
	return part
}

// newAdaptedGraphBuilder starts a graph with what is trained of a part and the
// parameters head. With adapters, it reads the sums in place of what changes, and all
// else of the part as constants.
func newAdaptedGraphBuilder(dev device, part []model.Spec, w model.Weights, a *adapters, head ...model.Spec) *graphBuilder {
	b := newGraphBuilder(dev, append(trainedSpecs(part, a), head...), w)
	if a == nil {
		return b
	}
	for _, s := range a.part {
		if a.base[s.Name] == nil {
			b.nodes[s.Name] = b.input(s.Name, s.Shape, w[s.Name].Data)
			continue
		}
		k, names := a.change(s.Name)
		args := make([]*gorgonia.Node, len(names))
		for i, n := range names {
			args[i] = b.nodes[n]
		}
		b.nodes[s.Name] = b.add(s.Name, k, args...)
	}
	return b
}

// newTextGraphBuilder does so for an encoder's blocks from frozen upwards, and what is
// trained below them.
func newTextGraphBuilder(dev device, c model.TextConfig, w model.Weights, frozen int, a *adapters, head ...model.Spec) *graphBuilder {
	return newAdaptedGraphBuilder(dev, trainedTextSpecs(c, frozen), w, a, head...)
}

// validAdapters reports options that no adapters can have.
func validAdapters(rank int, scale float64) error {
	if rank < 0 || rank > 1<<12 {
		return fmt.Errorf("%w: adapter rank is %d, must lie between 0 and %d", ErrOptions, rank, 1<<12)
	}
	if !(scale >= 0 && scale <= 1e3) {
		return fmt.Errorf("%w: adapter scale is %v, must lie between 0 and 1000, 0 meaning the default", ErrOptions, scale)
	}
	return nil
}

// parameters is the number of values of tensors.
func parameters(specs []model.Spec) int {
	n := 0
	for _, s := range specs {
		n += tensor.Shape(s.Shape).TotalSize()
	}
	return n
}
