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

	rows                []int     // n places with a target
	x, hidden, slope, u []float32 // (n, D)
	logits, losses      []float32 // (chunk, V), (n)
	du, dword, dbias    []float32 // (n, D), (V, D), (V)
	dx, dhidden         []float32 // (n, D)
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

func (k *maskedLM) forward(out []float32, in []argument) {
	d, v, x, targets := k.d, k.v, in[mlmX].floats, in[mlmTargets].ints
	k.rows = k.rows[:0]
	for r, target := range targets {
		if target >= 0 {
			k.rows = append(k.rows, r)
		}
	}
	n := len(k.rows)
	for _, part := range []*[]float32{&k.x, &k.hidden, &k.slope, &k.u, &k.du, &k.dx, &k.dhidden} {
		*part = resize(*part, n*d)
	}
	for i, r := range k.rows {
		copy(k.x[i*d:(i+1)*d], x[r*d:])
	}
	linear(k.hidden, k.x, in[mlmWeight].floats, in[mlmOffset].floats, d, d)
	gelu(k.hidden, k.slope)
	k.norm.forward(k.u, k.hidden, in[mlmGain].floats, in[mlmShift].floats)

	word := k.word
	if word == nil {
		word = in[mlmWord].floats
		k.dword = resize(k.dword, v*d)
		clear(k.dword)
	}
	k.logits, k.losses, k.dbias = resize(k.logits, min(n, maskedChunk)*v), resize(k.losses, n), resize(k.dbias, v)
	clear(k.dbias)
	loss, inv := fullSoftmax{n: v}, 1/float32(max(n, 1))
	for lo := 0; lo < n; lo += maskedChunk {
		m := min(maskedChunk, n-lo)
		z, u := k.logits[:m*v], k.u[lo*d:(lo+m)*d]
		gemm(false, true, m, v, d, 1, u, d, word, d, 0, z, v)
		parallel(m, func(_, from, to int) {
			for r := from; r < to; r++ {
				row := z[r*v : (r+1)*v]
				add(row, in[mlmBias].floats)
				k.losses[lo+r] = loss.row(row, targets[k.rows[lo+r]], inv)
			}
		})
		gemm(false, false, m, d, v, 1, z, v, word, d, 0, k.du[lo*d:], d)
		if k.word == nil {
			gemm(true, false, v, d, m, 1, z, v, u, d, 1, k.dword, d)
		}
		parallel(v, func(_, from, to int) {
			for r := range m {
				add(k.dbias[from:to], z[r*v+from:r*v+to])
			}
		})
	}
	out[0] = mean(k.losses, n)
}

func (k *maskedLM) backward(grads [][]float32, dout, _ []float32, in []argument) {
	d, g := k.d, dout[0]
	if len(k.rows) == 0 {
		for _, x := range grads {
			clear(x)
		}
		return
	}
	scaled(k.dx, k.du, g)
	clear(k.dhidden)
	k.norm.backward(k.dhidden, grads[mlmGain], grads[mlmShift], k.dx, in[mlmGain].floats)
	for i, s := range k.slope {
		k.dhidden[i] *= s
	}
	linearBackward(k.dx, grads[mlmWeight], grads[mlmOffset], k.dhidden, k.x, in[mlmWeight].floats, d, d)
	clear(grads[mlmX])
	for i, r := range k.rows {
		copy(grads[mlmX][r*d:(r+1)*d], k.dx[i*d:])
	}
	scaled(grads[mlmBias], k.dbias, g)
	if k.word == nil {
		parallel(len(k.dword), func(_, lo, hi int) { scaled(grads[mlmWord][lo:hi], k.dword[lo:hi], g) })
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
func newMaskedGraph(tw *textTower, w model.Weights, frozen int, a *adapters) (*maskedGraph, error) {
	c := tw.cfg
	g := &maskedGraph{batch: newTextBatch(tw.batchRows), targets: make([]int, tw.places())}
	b := newTextGraphBuilder(c, w, frozen, a, c.MaskedSpecs()...)
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
