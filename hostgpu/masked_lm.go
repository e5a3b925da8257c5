package hostgpu

import (
	"math"
	"math/rand/v2"
	"slices"

	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"github.com/wisp-project/wisp/internal/tokenize"
	"github.com/wisp-project/wisp/model"
)

// maskedHead returns a copy of the head that m came with, or else one that hands on
// what it reads, but for activation and scale.
func maskedHead(m *model.TextModel) model.Weights {
	c, w := m.Config, model.Weights{}
	if m.Masked != nil {
		for name, t := range m.Masked {
			w[name] = &model.Tensor{Shape: t.Shape, Data: slices.Clone(t.Data)}
		}
		return w
	}
	for _, s := range c.MaskedSpecs() {
		w[s.Name] = model.NewTensor(s.Shape...)
	}
	for i := range c.Dim {
		w[model.MaskedWeight].Data[i*c.Dim+i] = 1
		w[model.MaskedNormGain].Data[i] = 1
	}
	return w
}

// masking hides tokens of texts for an encoder to guess, as BERT was trained
// (Devlin et al. 2019).
type masking struct {
	special    tokenize.SpecialIDs
	vocabulary int
}

// maskedShare is the share of a text's tokens that are to be guessed.
const maskedShare = 0.15

// candidates returns the places of the tokens of a text that may be hidden.
func (m masking) candidates(ids []int32) []int {
	var places []int
	for i, id := range ids {
		switch id {
		case m.special.Unknown, m.special.Class, m.special.Separator, m.special.Pad, m.special.Mask:
		default:
			places = append(places, i)
		}
	}
	return places
}

// hide draws the tokens of a text that are to be guessed, at least one where one
// can be. It writes them to their places in targets, and -1 to all others, and puts
// the blank in their stead in 8 of 10 cases, any token in one, and leaves them in
// one.
func (m masking) hide(ids []int32, targets []int, rng *rand.Rand) {
	for i := range targets {
		targets[i] = -1
	}
	places := m.candidates(ids)
	n := min(max(int(math.Round(maskedShare*float64(len(places)))), 1), len(places))
	for _, i := range rng.Perm(len(places))[:n] {
		at := places[i]
		targets[at] = int(ids[at])
		switch u := rng.IntN(10); {
		case u < 8:
			ids[at] = m.special.Mask
		case u < 9:
			ids[at] = int32(rng.IntN(m.vocabulary))
		}
	}
}

// maskedLM is the mean cross-entropy of the tokens that are to be guessed from
// the states of an encoder, (P, D): for row r with target i ≥ 0,
// -log softmax(u·Eᵀ + b)_i, where u = norm(gelu(W·x_r + c)) and E, (V, D), is the
// embedding of words. Rows with a negative target are not looked at. As V is
// large and the rows are few, logits are made for a chunk of rows at a time, and
// all processors share in each; the gradient is finished in forward, while a
// chunk's probabilities are at hand.
type maskedLM struct {
	p, d, v int
	norm    layerNorm
	word    []float32 // (V, D) of an encoder whose embeddings are not trained; nil: the last input

	rows, targets       []int  // n places with a target, and these
	at                  index  // the former
	x, hidden, slope, u vector // (n, D)
	logits, losses      vector // (chunk, V), (n)
	du, dword, dbias    vector // (n, D), (V, D), (V)
	dx, dhidden         vector // (n, D)
}

// maskedChunk is how many rows of logits are made at a time.
const maskedChunk = 64

// Positions of the inputs.
const (
	mlmX = iota
	mlmWeight
	mlmOffset
	mlmGain
	mlmShift
	mlmBias
	mlmTargets
	mlmWord
)

func (k *maskedLM) inputs() []input {
	v := tensor.Shape{k.d}
	in := []input{
		{shape: tensor.Shape{k.p, k.d}},
		{shape: tensor.Shape{k.d, k.d}},
		{shape: v},
		{shape: v},
		{shape: v},
		{shape: tensor.Shape{k.v}},
		{shape: tensor.Shape{k.p}, index: true},
	}
	if k.word == nil {
		in = append(in, input{shape: tensor.Shape{k.v, k.d}})
	}
	return in
}
func (k *maskedLM) shape() tensor.Shape { return tensor.ScalarShape() }

func (k *maskedLM) forward(dev device, out vector, in []argument) {
	d, v := k.d, k.v
	k.rows, k.targets = k.rows[:0], k.targets[:0]
	for r, target := range in[mlmTargets].ints.host {
		if target >= 0 {
			k.rows, k.targets = append(k.rows, r), append(k.targets, target)
		}
	}
	n := len(k.rows)
	for _, part := range []*vector{&k.x, &k.hidden, &k.slope, &k.u, &k.du, &k.dx, &k.dhidden} {
		*part = dev.resize(*part, n*d)
	}
	k.at = dev.indices(k.rows)
	dev.gather(k.x, in[mlmX].floats, k.at, d)
	linear(dev, k.hidden, k.x, in[mlmWeight].floats, in[mlmOffset].floats, d, d)
	dev.gelu(k.hidden, k.slope)
	k.norm.forward(dev, k.u, k.hidden, in[mlmGain].floats, in[mlmShift].floats)

	var word vector
	if k.word != nil {
		word = dev.mirror(k.word)
	} else {
		word = in[mlmWord].floats
		k.dword = dev.resize(k.dword, v*d)
		dev.fill(k.dword, 0)
	}
	k.logits, k.losses, k.dbias = dev.resize(k.logits, min(n, maskedChunk)*v), dev.resize(k.losses, n), dev.resize(k.dbias, v)
	dev.fill(k.dbias, 0)
	inv, targets := 1/float32(max(n, 1)), dev.indices(k.targets)
	for lo := 0; lo < n; lo += maskedChunk {
		m := min(maskedChunk, n-lo)
		z, u := k.logits.slice(0, m*v), k.u.slice(lo*d, (lo+m)*d)
		dev.gemm(false, true, m, v, d, 1, u, d, word, d, 0, z, v)
		dev.crossEntropy(z, in[mlmBias].floats, targets.part(lo, lo+m), v, 0, inv, k.losses.slice(lo, lo+m))
		dev.gemm(false, false, m, d, v, 1, z, v, word, d, 0, k.du.from(lo*d), d)
		if k.word == nil {
			dev.gemm(true, false, v, d, m, 1, z, v, u, d, 1, k.dword, d)
		}
		dev.addColumnSums(k.dbias, z)
	}
	dev.mean(out, k.losses, n)
}

func (k *maskedLM) backward(dev device, grads []vector, dout, _ vector, in []argument) {
	d, g := k.d, dout.host[0]
	if len(k.rows) == 0 {
		for i, a := range k.inputs() {
			if !a.index {
				dev.fill(grads[i], 0)
			}
		}
		return
	}
	dev.scaled(k.dx, k.du, g)
	dev.fill(k.dhidden, 0)
	k.norm.backward(dev, k.dhidden, grads[mlmGain], grads[mlmShift], k.dx, in[mlmGain].floats)
	dev.product(k.dhidden, k.dhidden, k.slope)
	linearBackward(dev, k.dx, grads[mlmWeight], grads[mlmOffset], k.dhidden, k.x, in[mlmWeight].floats, d, d)
	dev.fill(grads[mlmX], 0)
	dev.scatter(grads[mlmX], k.dx, k.at, d)
	dev.scaled(grads[mlmBias], k.dbias, g)
	if k.word == nil {
		dev.scaled(grads[mlmWord], k.dword, g)
	}
}

// maskedGraph is the training graph of the masked-language loss for one batch
// shape.
type maskedGraph struct {
	*graph
	batch   *textBatch
	states  []float32 // (P, D) what the frozen part made of the batch, nil where nothing is frozen
	targets []int     // (P) token to be guessed at each place, or -1
}

// newMaskedGraph builds loss and gradients for the shape that tw has and weights
// w, those of the encoder and of the head. Where the encoder is trained from its
// embeddings upwards, their gradient is the sum of both their uses.
func newMaskedGraph(dev device, tw *textTower, w model.Weights, frozen int, a *adapters) (*maskedGraph, error) {
	c := tw.cfg
	g := &maskedGraph{batch: newTextBatch(tw.batchRows), targets: make([]int, tw.places())}
	b := newTextGraphBuilder(dev, c, w, frozen, a, c.MaskedSpecs()...)
	enc := b.encoder(tw, g.batch, frozen)
	g.states = enc.frozen
	k := newMaskedLM(c, len(g.targets))
	args := []*gorgonia.Node{enc.states}
	for _, s := range c.MaskedSpecs() {
		args = append(args, b.nodes[s.Name])
	}
	args = append(args, b.index("targets", g.targets))
	if word := b.nodes[model.TextWord]; word != nil {
		args = append(args, word)
	} else {
		k.word = w[model.TextWord].Data
	}
	loss := b.add("masked-lm", k, args...)
	var err error
	g.graph, err = b.build(loss)
	return g, err
}

// newMaskedLM returns the kernel for p states.
func newMaskedLM(c model.TextConfig, p int) *maskedLM {
	return &maskedLM{p: p, d: c.Dim, v: c.Vocabulary, norm: layerNorm{d: c.Dim, eps: float32(c.NormEpsilon)}}
}
