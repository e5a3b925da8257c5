package hostgpu

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/wisp-project/wisp/model"
)

// heldShare is the share of texts that pre-training is validated on.
const heldShare = 0.05

// pretraining is the masked-language loss of texts as a run's objective. The
// metric is the loss, without dropout, of texts that are held out, with the same
// tokens hidden each time.
type pretraining struct {
	trainer     *TextTrainer
	texts, held [][]int32
	batches     [][]int // of the epoch: places in texts
}

// NewPretrainRun prepares to go on with the pre-training of m on texts of a
// domain, token ids with [CLS] and [SEP] included: some tokens are hidden, and
// the encoder guesses them with the head that it came with, or one that starts anew
// (Devlin et al. 2019; Gururangan et al. 2020 on why it pays), which is not kept. Run changes the weights of
// m in place. One text of twenty is held out for validation, whose metric is the
// loss of these. A text that is there twice counts once, and one without a token
// to hide not at all.
//
// Of opts, Losses, Temperature and Smoothing have no meaning here, and Special
// must be given. The error wraps ErrOptions, ErrData for less than two texts, or
// model.ErrInput for a text that the encoder cannot read.
func NewPretrainRun(m *model.TextModel, texts [][]int32, opts TextTrainOptions) (*TextRun, error) {
	opts.Losses, opts.Temperature, opts.Smoothing = TextLosses{MaskedLM: 1}, 0, 0
	t, err := NewTextTrainer(m, opts)
	if err != nil {
		return nil, err
	}
	t.masked.rows = t.opts.Pairs
	r := &pretraining{trainer: t}
	known := map[string]bool{}
	for i, ids := range texts {
		if err := m.Config.CheckTokens(ids); err != nil {
			return nil, fmt.Errorf("hostgpu: pre-training text %d: %w", i, err)
		}
		if key := tokenKey(ids); !known[key] && len(t.masked.candidates(ids)) > 0 {
			known[key] = true
			r.texts = append(r.texts, ids)
		}
	}
	if len(r.texts) < 2 {
		return nil, fmt.Errorf("%w: %d different texts with words in the encoder's vocabulary; at least two are needed, one of them for validation", ErrData, len(r.texts))
	}
	rng := rand.New(rand.NewPCG(opts.Seed, 1<<63)) // an epoch that no run has
	rng.Shuffle(len(r.texts), func(i, j int) { r.texts[i], r.texts[j] = r.texts[j], r.texts[i] })
	n := max(int(heldShare*float64(len(r.texts))), 1)
	r.held, r.texts = r.texts[:n], r.texts[n:]
	slices.SortStableFunc(r.held, func(a, b []int32) int { return len(a) - len(b) })
	return newTextRun(t, r)
}

func (r *pretraining) begin(epoch int) (int, error) {
	o := r.trainer.opts
	r.batches = batchesOfLikeLength(r.texts, o.Pairs, rand.New(rand.NewPCG(o.Seed, uint64(epoch))))
	return len(r.batches), nil
}

func (r *pretraining) step(i int, rate float64) (float64, error) {
	texts := make([][]int32, len(r.batches[i]))
	for b, place := range r.batches[i] {
		texts[b] = r.texts[place]
	}
	g, err := r.trainer.hide(texts)
	if err != nil {
		return 0, err
	}
	return r.trainer.step(rate, term{g.graph, 1})
}

func (r *pretraining) validates() bool { return true }

func (r *pretraining) better(a, b float64) bool { return a < b }

func (r *pretraining) digest(d *textDigest) {
	for _, texts := range [][][]int32{r.texts, r.held} {
		for _, ids := range texts {
			d.text(ids)
		}
	}
}

func (r *pretraining) validate(ctx context.Context, progress func(read, texts int)) (float64, error) {
	t := r.trainer
	c, w := t.m.Config, t.weights
	tw, bt, k := newTextTower(c, 0, nil), &textBatch{}, newMaskedLM(c, 0)
	k.word = w[model.TextWord].Data
	var head []argument
	for _, s := range c.MaskedSpecs() {
		head = append(head, floats(w[s.Name].Data))
	}
	var x, y []float32
	var targets []int
	var sum, count float64
	rng := rand.New(rand.NewPCG(t.opts.Seed, 1<<63)) // a step that no run has
	read := 0
	for texts := range slices.Chunk(r.held, t.opts.Pairs) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		length, err := t.padded(texts...)
		if err != nil {
			return 0, err
		}
		p := len(texts) * length
		tw.reshape(batchRows{b: len(texts), t: length})
		bt.reshape(batchRows{b: len(texts), t: length})
		targets = resize(targets, p)
		for b, ids := range texts {
			t.masked.put(bt, targets, b, ids, rng)
		}
		x, y = resize(x, p*c.Dim), resize(y, p*c.Dim)
		tw.embedTokens(host, onHost(x), onHost(y), w, bt)
		tw.blocks(host, onHost(x), onHost(y), w, bt.lengths, 0, c.Layers)
		var loss [1]float32
		k.forward(host, onHost(loss[:]), slices.Concat([]argument{floats(x)}, head, []argument{ints(targets)}))
		n := float64(counted(targets))
		sum, count = sum+n*float64(loss[0]), count+n
		read += len(texts)
		progress(read, len(r.held))
	}
	loss := sum / count
	if math.IsNaN(loss) || math.IsInf(loss, 0) {
		return 0, fmt.Errorf("%w: the loss of the texts held out is %v; try a lower learning rate", ErrDiverged, loss)
	}
	return loss, nil
}
