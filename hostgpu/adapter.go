package hostgpu

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"

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

// adapters are trained in place of an encoder: a change of low rank for each
// matrix of the blocks that are not frozen (Hu et al. 2022). Embeddings, biases,
// gains and the matrices themselves stay as they are. Gradients of whole matrices
// are still computed on the way; moments and checkpoints are small.
//
// Weights for which the text says adapted hold the sums W + scale·B·A under the
// names of the W, for whoever computes with them outside a graph.
type adapters struct {
	rank   int
	scale  float32
	blocks []model.Spec  // the tensors of the adapted blocks
	base   model.Weights // the W, copied
}

// Names of an adapter's tensors are that of its matrix and one of these.
const (
	adapterA = ".adapter.a" // (r, in)
	adapterB = ".adapter.b" // (out, r)
)

// newAdapters returns the adapters of the blocks from frozen upwards of an
// encoder with weights w, or nil for rank 0. A nil *adapters is none.
func newAdapters(c model.TextConfig, w model.Weights, frozen, rank int, scale float64) *adapters {
	if rank == 0 {
		return nil
	}
	a := &adapters{rank: rank, scale: float32(scale), blocks: textBlockSpecs(c, frozen), base: model.Weights{}}
	for _, s := range a.blocks {
		if len(s.Shape) == 2 {
			a.base[s.Name] = w[s.Name]
		}
	}
	a.base = cloneWeights(a.base)
	return a
}

// specs lists the tensors that are trained.
func (a *adapters) specs() []model.Spec {
	var specs []model.Spec
	for _, s := range a.blocks {
		if a.base[s.Name] != nil {
			specs = append(specs,
				model.Spec{Name: s.Name + adapterA, Shape: []int{a.rank, s.Shape[1]}},
				model.Spec{Name: s.Name + adapterB, Shape: []int{s.Shape[0], a.rank}})
		}
	}
	return specs
}

// draw makes w adapted by fresh adapters, in place where it has them: as each B is
// zero, they change nothing yet.
func (a *adapters) draw(w model.Weights, seed uint64) {
	if a == nil {
		return
	}
	rng := rand.New(rand.NewPCG(seed, 1<<62)) // a stream that no epoch has
	for _, s := range a.specs() {
		if w[s.Name] == nil {
			w[s.Name] = model.NewTensor(s.Shape...)
		}
		x := w[s.Name].Data
		if strings.HasSuffix(s.Name, adapterB) {
			clear(x)
			continue
		}
		for i := range x {
			x[i] = float32(rng.NormFloat64() / math.Sqrt(float64(s.Shape[1])))
		}
	}
	a.merge(host, w, w)
}

// kernel returns the kernel of the named matrix.
func (a *adapters) kernel(name string) *lowRank {
	w := a.base[name]
	return &lowRank{out: w.Shape[0], in: w.Shape[1], r: a.rank, scale: a.scale, base: w.Data}
}

// merge makes to adapted by the adapters in from, in the memory of dev.
func (a *adapters) merge(dev device, to, from model.Weights) {
	if a == nil {
		return
	}
	for name := range a.base {
		a.kernel(name).forward(dev, dev.mirror(to[name].Data), []argument{
			{floats: dev.mirror(from[name+adapterA].Data)}, {floats: dev.mirror(from[name+adapterB].Data)},
		})
	}
}

// trainedSpecs lists what is trained of an encoder: adapters where there are any,
// otherwise its own tensors from block frozen upwards.
func trainedSpecs(c model.TextConfig, frozen int, a *adapters) []model.Spec {
	if a != nil {
		return a.specs()
	}
	return trainedTextSpecs(c, frozen)
}

// newTextGraphBuilder starts a graph with what is trained of an encoder and the
// parameters head. With adapters, the blocks read their sums in place of the
// matrices, and all else as constants.
func newTextGraphBuilder(dev device, c model.TextConfig, w model.Weights, frozen int, a *adapters, head ...model.Spec) *graphBuilder {
	b := newGraphBuilder(dev, append(trainedSpecs(c, frozen, a), head...), w)
	if a == nil {
		return b
	}
	for _, s := range a.blocks {
		if a.base[s.Name] == nil {
			b.nodes[s.Name] = b.input(s.Name, s.Shape, w[s.Name].Data)
			continue
		}
		b.nodes[s.Name] = b.add(s.Name, a.kernel(s.Name), b.nodes[s.Name+adapterA], b.nodes[s.Name+adapterB])
	}
	return b
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
