package hostgpu

import (
	"gorgonia.org/tensor"

	"github.com/wisp-project/wisp/internal/vec"
	"github.com/wisp-project/wisp/model"
)

// Names of the tensors that lead from a student's embeddings to its teacher's.
const (
	imitationWeight = "distil.projection.weight" // (E, D)
	imitationOffset = "distil.projection.bias"   // (E)
)

// imitationSpecs lists the tensors of the way from a student's embeddings of
// width d to a teacher's of width e.
func imitationSpecs(d, e int) []model.Spec {
	return []model.Spec{{Name: imitationWeight, Shape: []int{e, d}}, {Name: imitationOffset, Shape: []int{e}}}
}

// imitation is the loss of a student whose embeddings of the texts of a batch,
// unit vectors s_i, (B, D), are to stand to each other as the teacher's, unit
// vectors t_i, (B, E), do. It is the weighted sum of three:
//
//   - rank: the mean over i of KL(p_i ‖ q_i) between the distributions over the
//     others j ≠ i that softmax(t_i·t_j/τ) and softmax(s_i·s_j/τ) are (Tung and Mori
//     2019), where those near i count most;
//   - cosine: the mean of (s_i·s_j - t_i·t_j)² over i ≠ j, which keeps the order of
//     those far away;
//   - vector: the mean of |W·s_i + b - t_i|², whose map is thrown away, and which
//     ties the batches together.
//
// Texts that are not there must be the last. Gradients of cosines are finished in
// forward.
type imitation struct {
	b, d, e     int
	weights     DistilLosses
	temperature float32
	teacher     []float32 // (B, E)

	own, given vector // (n, n) cosines; own becomes its gradient
	losses     vector // (n)
	dy         vector // (n, E) gradient of the mapped embeddings
}

// DistilLosses are the weights of the losses of a student that has another
// encoder for a teacher.
type DistilLosses struct {
	Rank   float64 `json:"rank"`   // distributions over the texts of a batch
	Cosine float64 `json:"cosine"` // squared error of cosines
	Vector float64 `json:"vector"` // squared error of the teacher's vectors, through a linear map
}

// Positions of the inputs.
const (
	imitationX = iota
	imitationLengths
	imitationW
	imitationB
)

func (k *imitation) inputs() []input {
	return []input{
		{shape: tensor.Shape{k.b, k.d}},
		{shape: tensor.Shape{k.b}, index: true},
		{shape: tensor.Shape{k.e, k.d}},
		{shape: tensor.Shape{k.e}},
	}
}
func (k *imitation) shape() tensor.Shape { return tensor.ScalarShape() }

// texts is the number of texts that are there.
func (k *imitation) texts(lengths []int) int {
	n := 0
	for n < k.b && lengths[n] > 0 {
		n++
	}
	return n
}

func (k *imitation) forward(dev device, out vector, in []argument) {
	d, e, n := k.d, k.e, k.texts(in[imitationLengths].ints.host)
	s, t := in[imitationX].floats.slice(0, n*d), dev.mirror(k.teacher)
	k.own, k.given, k.losses, k.dy = dev.resize(k.own, n*n), dev.resize(k.given, n*n), dev.resize(k.losses, n), dev.resize(k.dy, n*e)
	dev.gemm(false, true, n, n, d, 1, s, d, s, d, 0, k.own, n)
	dev.gemm(false, true, n, n, e, 1, t, e, t, e, 0, k.given, n)
	linear(dev, k.dy, s, in[imitationW].floats, in[imitationB].floats, d, e)
	dev.imitate(k, n)
	dev.mean(out, k.losses, n)
}

func (hostDevice) imitate(k *imitation, n int) {
	e, t := k.e, k.teacher
	rows, others := float32(max(n, 1)), float32(max(n-1, 1))
	rank, cosine, vector := float32(k.weights.Rank), float32(k.weights.Cosine), float32(k.weights.Vector)
	parallel(n, func(_, lo, hi int) {
		p, q := make([]float32, max(n-1, 0)), make([]float32, max(n-1, 0))
		for i := lo; i < hi; i++ {
			own, given := k.own.host[i*n:(i+1)*n], k.given.host[i*n:(i+1)*n]
			var loss float32
			if n > 1 {
				scaledOthers(p, given, i, 1/k.temperature)
				scaledOthers(q, own, i, 1/k.temperature)
				loss = rank * divergence(p, q)
			}
			own[i] = given[i]
			for j, c := range own {
				off := c - given[j]
				loss += cosine * off * off / others
				own[j] = 2 * cosine * off / (others * rows)
			}
			for j := range p {
				at := j
				if j >= i {
					at++
				}
				own[at] += rank * (q[j] - p[j]) / (k.temperature * rows)
			}
			dy := k.dy.host[i*e : (i+1)*e]
			for j, v := range t[i*e : (i+1)*e] {
				off := dy[j] - v
				loss += vector * off * off
				dy[j] = 2 * vector * off / rows
			}
			k.losses.host[i] = loss
		}
	})
}

// scaledOthers writes factor·row without place i to dst.
func scaledOthers(dst, row []float32, i int, factor float32) {
	vec.Scale(dst[:i], row[:i], factor)
	vec.Scale(dst[i:], row[i+1:], factor)
}

// divergence turns logits p and q into probabilities and returns KL(p ‖ q).
func divergence(p, q []float32) float32 {
	// log p - log q = (logit p - logit q) - (log of p's normaliser - that of q's).
	diff := make([]float32, len(p))
	for j := range diff {
		diff[j] = p[j] - q[j]
	}
	shift := softmax(p, 1) - softmax(q, 1)
	var sum float64
	for j, v := range diff {
		sum += float64(p[j]) * float64(v-shift)
	}
	return float32(sum)
}

func (k *imitation) backward(dev device, grads []vector, dout, _ vector, in []argument) {
	d, e, g := k.d, k.e, dout.host[0]
	n := k.texts(in[imitationLengths].ints.host)
	s, dx := in[imitationX].floats, grads[imitationX]
	dev.fill(dx, 0)
	// linearBackward overwrites, so that the cosines' gradients come after it.
	linearBackward(dev, dx.slice(0, n*d), grads[imitationW], grads[imitationB], k.dy, s.slice(0, n*d), in[imitationW].floats, d, e)
	for _, x := range []vector{dx, grads[imitationW], grads[imitationB]} {
		dev.scaled(x, x, g)
	}
	// A cosine is of both its texts.
	dev.gemm(false, false, n, d, n, g, k.own, n, s, d, 1, dx, d)
	dev.gemm(true, false, n, d, n, g, k.own, n, s, d, 1, dx, d)
}

// imitationGraph is the training graph of a student for one length of texts.
type imitationGraph struct {
	*graph
	batch *textBatch
}

// newImitationGraph builds loss and gradients for the shape that tw has. Kernels
// may be reshaped for another graph as long as they have this shape again when
// this one runs.
func newImitationGraph(tw *textTower, k *imitation, t *TextTrainer) (*imitationGraph, error) {
	g := &imitationGraph{batch: newTextBatch(tw.batchRows)}
	b := newTextGraphBuilder(t.dev, tw.cfg, t.weights, 0, nil, t.heads...)
	enc := b.encoder(tw, g.batch, 0)
	x := b.add("pooling", tw.pool, enc.states, enc.lengths)
	loss := b.add("imitation", k, x, enc.lengths, b.nodes[imitationWeight], b.nodes[imitationOffset])
	var err error
	g.graph, err = b.build(loss)
	return g, err
}
