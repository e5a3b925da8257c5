package hostgpu

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"sync"

	"gorgonia.org/tensor"

	"github.com/wisp-project/wisp/internal/eval"
	"github.com/wisp-project/wisp/internal/tokenize"
	"github.com/wisp-project/wisp/model"
)

// CrossWeight names the tensor of a cross-encoder's head, (1, D).
const CrossWeight = "cross.weight"

// DefaultPairTokens is the number of tokens that a pair of texts is cut to unless
// asked otherwise.
const DefaultPairTokens = 64

// crossScale multiplies what the head makes of a pair. The optimiser moves each
// weight by about the learning rate whatever its gradient; what is right for an
// encoder that others have trained is slow for a head that starts from zero.
const crossScale = 10

// CrossEncoder says how well two texts go together. It reads both at once, so
// that every token of one may look at every token of the other, and a linear
// layer on the pooled vectors of the tokens gives the score (Nogueira and Cho
// 2019). Scores of one query can be compared, others cannot. It costs a forward
// pass for each pair, so it is for the few items that a cheaper model proposes.
// It is safe for concurrent use; calls take turns.
type CrossEncoder struct {
	m       *model.TextModel
	weights model.Weights // those of m and the head's
	tok     *tokenize.Tokenizer
	tokens  int // of a pair at most

	mu        sync.Mutex
	tw        *textTower
	bt        *textBatch
	x, y      []float32 // (P, D)
	pooled, z []float32 // (B, D), (B)
}

// NewCrossEncoder returns a cross-encoder on top of m with tokenizer tok, whose
// head is the tensor CrossWeight, nil for one that is not trained yet and finds
// all pairs equally good. A pair is cut to so many tokens, the longer text
// first; 0 means DefaultPairTokens or what the encoder can see, if that is less.
// It reads m's weights at each call and keeps no copy.
func NewCrossEncoder(m *model.TextModel, tok *tokenize.Tokenizer, head *model.Tensor, tokens int) (*CrossEncoder, error) {
	if err := tok.CheckSize(m.Config.Vocabulary); err != nil {
		return nil, err
	}
	tokens = cmp.Or(tokens, min(DefaultPairTokens, m.Config.Positions))
	if tokens < 5 || tokens > m.Config.Positions {
		return nil, fmt.Errorf("%w: pairs cut to %d tokens, must lie between 5 and the %d of the encoder", ErrOptions, tokens, m.Config.Positions)
	}
	spec := crossSpec(m.Config)
	if head == nil {
		head = model.NewTensor(spec.Shape...)
	}
	if err := (model.Weights{CrossWeight: head}).Check(textSpecs{spec}); err != nil {
		return nil, fmt.Errorf("hostgpu: cross-encoder: %w", err)
	}
	e := &CrossEncoder{m: m, weights: maps.Clone(m.Weights), tok: tok, tokens: tokens, tw: newTextTower(m.Config, 0, nil), bt: &textBatch{}}
	e.weights[CrossWeight] = head
	e.tw.pool.unit = false
	return e, nil
}

// crossSpec describes the head.
func crossSpec(c model.TextConfig) model.Spec {
	return model.Spec{Name: CrossWeight, Shape: []int{1, c.Dim}}
}

// Model returns the encoder under the head.
func (e *CrossEncoder) Model() *model.TextModel { return e.m }

// Head returns the head, (1, D); it belongs to e.
func (e *CrossEncoder) Head() *model.Tensor { return e.weights[CrossWeight] }

// textPair is a pair of texts as an encoder reads it.
type textPair struct{ ids, types []int32 }

// pair encodes two texts.
func (e *CrossEncoder) pair(query, text string) textPair {
	var p textPair
	p.ids, p.types = e.tok.EncodePair(nil, nil, query, text, e.tokens)
	for i, t := range p.types { // some encoders have one type for all
		p.types[i] = min(t, int32(e.m.Config.Types-1))
	}
	return p
}

// Scores writes the score of query and texts[i] to dst[i].
func (e *CrossEncoder) Scores(ctx context.Context, dst []float32, query string, texts []string) error {
	clear(dst)
	head, c := e.Head().Data, e.m.Config
	if !slices.ContainsFunc(head, func(x float32) bool { return x != 0 }) {
		return nil
	}
	pairs, order := make([]textPair, len(texts)), make([]int, len(texts))
	for i, text := range texts {
		pairs[i], order[i] = e.pair(query, text), i
	}
	slices.SortStableFunc(order, func(a, b int) int { return len(pairs[b].ids) - len(pairs[a].ids) })
	e.mu.Lock()
	defer e.mu.Unlock()
	const tokens = 2048 // of a batch
	for len(order) > 0 {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("hostgpu: cross-encode: %w", err)
		}
		t := e.padded(len(pairs[order[0]].ids))
		b := min(max(tokens/t, 1), len(order))
		e.tw.reshape(batchRows{b: b, t: t})
		e.bt.reshape(batchRows{b: b, t: t})
		for row, i := range order[:b] {
			e.bt.putPair(row, pairs[i])
		}
		e.x, e.y = resize(e.x, b*t*c.Dim), resize(e.y, b*t*c.Dim)
		e.pooled, e.z = resize(e.pooled, b*c.Dim), resize(e.z, b)
		e.tw.forward(host, onHost(e.pooled), onHost(e.x), onHost(e.y), e.weights, e.bt)
		gemm(false, true, b, 1, c.Dim, crossScale, e.pooled, c.Dim, head, c.Dim, 0, e.z, 1)
		for row, i := range order[:b] {
			dst[i] = e.z[row]
		}
		order = order[b:]
	}
	return nil
}

// padded is the length to which a pair of n tokens is padded.
func (e *CrossEncoder) padded(n int) int {
	return min((n+lengthStep-1)/lengthStep*lengthStep, e.m.Config.Positions)
}

// among writes to dst[i] the score of query and the text of items[i], brought to
// mean 0 and deviation 1 over the items. One without a text has the mean.
func (e *CrossEncoder) among(ctx context.Context, dst []float32, query string, items []int32, texts []string) error {
	var known []string
	var places []int
	for i, item := range items {
		if texts[item] != "" {
			known, places = append(known, texts[item]), append(places, i)
		}
	}
	scores := make([]float32, len(known))
	if err := e.Scores(ctx, scores, query, known); err != nil {
		return err
	}
	eval.Standardise(scores)
	clear(dst)
	for k, i := range places {
		dst[i] = scores[k]
	}
	return nil
}

// putPair makes p text b.
func (bt *textBatch) putPair(b int, p textPair) {
	bt.put(b, p.ids)
	from, n := bt.at(b)
	row := bt.types[from : from+n]
	clear(row)
	for i, t := range p.types {
		row[i] = int(t)
	}
}

// listwise is the mean cross-entropy of B lists of up to M vectors of width D,
// the first of which is the right one: -log softmax(s·drop(x)·wᵀ)_0 over the
// list, s being crossScale (Cao et al. 2007, for one right answer). Vectors whose text has length 0 are
// not there, nor is a list without its first. The gradient of the scores is
// finished in forward.
type listwise struct {
	b, m, d int
	drop    *dropout

	x, dz, tail, losses vector // (B·M, D), (B·M), (B·M), (B)
}

func (k *listwise) inputs() []input {
	return []input{
		{shape: tensor.Shape{k.b * k.m, k.d}},
		{shape: tensor.Shape{1, k.d}},
		{shape: tensor.Shape{k.b * k.m}, index: true},
	}
}
func (k *listwise) shape() tensor.Shape { return tensor.ScalarShape() }

func (k *listwise) forward(dev device, out vector, in []argument) {
	n, d, lengths := k.b*k.m, k.d, in[2].ints
	k.x, k.dz, k.losses = dev.resize(k.x, n*d), dev.resize(k.dz, n), dev.resize(k.losses, k.b)
	dev.copy(k.x, in[0].floats)
	k.drop.apply(dev, k.x)
	dev.gemm(false, true, n, 1, d, crossScale, k.x, d, in[1].floats, d, 0, k.dz, 1)
	lists := 0
	for l := range k.b {
		if lengths.host[l*k.m] > 0 {
			lists++
		}
	}
	dev.list(k, lengths, 1/float32(max(lists, 1)))
	dev.mean(out, k.losses, lists)
}

func (hostDevice) list(k *listwise, lengths index, inv float32) {
	for l := range k.b {
		row := k.dz.host[l*k.m : (l+1)*k.m]
		k.losses.host[l] = 0
		if lengths.host[l*k.m] == 0 {
			clear(row)
			continue
		}
		for j := range row {
			if lengths.host[l*k.m+j] == 0 {
				row[j] = float32(math.Inf(-1)) // whose share and gradient are 0
			}
		}
		at := row[0]
		k.losses.host[l] = softmax(row, inv) - at
		row[0] -= inv
	}
}

func (k *listwise) backward(dev device, grads []vector, dout, _ vector, in []argument) {
	n, d := k.b*k.m, k.d
	k.tail = dev.resize(k.tail, n)
	dev.scaled(k.tail, k.dz, dout.host[0])
	dev.gemm(false, false, n, d, 1, crossScale, k.tail, 1, in[1].floats, d, 0, grads[0], d)
	dev.gemm(true, false, 1, d, n, crossScale, k.tail, 1, k.x, d, 0, grads[1], d)
	k.drop.backward(dev, grads[0], grads[0])
}
