package hostgpu

import (
	"context"
	"fmt"
	"math"

	"github.com/wisp-project/wisp/internal/vec"
	"github.com/wisp-project/wisp/model"
)

// recallAt is the number of best items among which validation looks for the
// target.
const recallAt = 10

// retrieval is a TextTask as a run's objective: recall@10 is the share of cases
// whose target is among the ten items with the highest cosine, those that were
// seen left out.
type retrieval struct {
	TextTask
	trainer *TextTrainer
	encoder *TextEncoder
	pairs   []TextPair // of the epoch
}

// NewTextRun prepares to fine-tune m, whose weights Run changes in place, on a
// task; the validation metric is recall@10. The error wraps ErrOptions, ErrData
// for a task without pairs or with one that names no item, or model.ErrInput for
// a text that the encoder cannot read.
func NewTextRun(m *model.TextModel, task TextTask, opts TextTrainOptions) (*TextRun, error) {
	t, err := NewTextTrainer(m, opts)
	if err != nil {
		return nil, err
	}
	if err := task.checkItems(m.Config); err != nil {
		return nil, err
	}
	for i, c := range task.Valid {
		if err := m.Config.CheckTokens(c.Query); err != nil {
			return nil, fmt.Errorf("hostgpu: text of validation case %d: %w", i, err)
		}
		for _, item := range append([]int32{c.Item}, c.Seen...) {
			if item < 0 || int(item) >= len(task.Items) {
				return nil, fmt.Errorf("%w: validation case %d names item %d of %d", ErrData, i, item, len(task.Items))
			}
		}
	}
	return newTextRun(t, &retrieval{TextTask: task, trainer: t, encoder: NewTextEncoder(m, 0)})
}

// checkItems reports the first item whose text an encoder with configuration c
// cannot read.
func (t TextTask) checkItems(c model.TextConfig) error {
	for i, ids := range t.Items {
		if ids == nil {
			continue
		}
		if err := c.CheckTokens(ids); err != nil {
			return fmt.Errorf("hostgpu: text of item %d: %w", i, err)
		}
	}
	return nil
}

func (r *retrieval) begin(epoch int) (int, error) {
	pairs, err := r.Pairs(epoch)
	if err != nil {
		return 0, err
	}
	if len(pairs) < 2 {
		return 0, fmt.Errorf("%w: %d pairs of texts; at least two are needed for one to be told from the other", ErrData, len(pairs))
	}
	for i, p := range pairs {
		if p.Item < 0 || int(p.Item) >= len(r.Items) || r.Items[p.Item] == nil {
			return 0, fmt.Errorf("%w: pair %d of epoch %d names item %d, which has no text", ErrData, i, epoch+1, p.Item)
		}
		if err := r.trainer.m.Config.CheckTokens(p.Query); err != nil {
			return 0, fmt.Errorf("hostgpu: query of pair %d of epoch %d: %w", i, epoch+1, err)
		}
	}
	r.pairs = pairs
	b := r.trainer.opts.Pairs
	return (len(pairs) + b - 1) / b, nil
}

func (r *retrieval) step(i int, rate float64) (float64, error) {
	queries, items := r.batch(i)
	return r.trainer.Step(queries, items, rate)
}

// batch returns the texts of batch i of the epoch.
func (r *retrieval) batch(i int) (queries, items [][]int32) {
	b := r.trainer.opts.Pairs
	for _, p := range r.pairs[i*b : min((i+1)*b, len(r.pairs))] {
		queries, items = append(queries, p.Query), append(items, r.Items[p.Item])
	}
	return queries, items
}

func (r *retrieval) validates() bool { return len(r.Valid) > 0 }

func (r *retrieval) better(a, b float64) bool { return a > b }

func (r *retrieval) digest(d *textDigest) {
	for _, ids := range r.Items {
		d.text(ids)
	}
	for _, p := range r.pairs {
		d.text(p.Query)
		d.put(uint32(p.Item))
	}
	for _, c := range r.Valid {
		d.text(c.Query)
		d.put(uint32(c.Item))
		d.text(c.Seen)
	}
}

// validate returns recall@10 over the validation cases. An item that is as near
// as the target counts as nearer, so that an encoder which maps everything to
// one point finds nothing.
func (r *retrieval) validate(ctx context.Context, progress func(read, texts int)) (float64, error) {
	if len(r.Valid) == 0 {
		return 0, nil
	}
	var texts [][]int32
	row := make([]int, len(r.Items)) // of the item among those with a text, or -1
	for i, ids := range r.Items {
		row[i] = -1
		if ids != nil {
			row[i] = len(texts)
			texts = append(texts, ids)
		}
	}
	r.encoder.on(r.trainer.dev)
	n, d := len(texts), r.encoder.Dim()
	for _, c := range r.Valid {
		texts = append(texts, c.Query)
	}
	x := make([]float32, len(texts)*d)
	const chunk = 256
	for lo := 0; lo < len(texts); lo += chunk {
		hi := min(lo+chunk, len(texts))
		if err := r.encoder.Embed(ctx, x[lo*d:hi*d], texts[lo:hi]); err != nil {
			return 0, err
		}
		progress(hi, len(texts))
	}
	for i := range texts {
		unit(x[i*d : (i+1)*d])
	}
	found, scores := 0, make([]float32, chunk*n)
	for lo := 0; lo < len(r.Valid); lo += chunk {
		cases := r.Valid[lo:min(lo+chunk, len(r.Valid))]
		gemm(false, true, len(cases), n, d, 1, x[(n+lo)*d:], d, x, d, 0, scores, n)
		for i, c := range cases {
			if row[c.Item] < 0 {
				continue
			}
			s := scores[i*n : (i+1)*n]
			target := s[row[c.Item]]
			for _, item := range c.Seen {
				if row[item] >= 0 {
					s[row[item]] = float32(math.Inf(-1))
				}
			}
			s[row[c.Item]] = float32(math.Inf(-1))
			ahead := 0
			for _, v := range s {
				if !(v < target) { // what is no number is ahead too
					ahead++
				}
			}
			if ahead < recallAt {
				found++
			}
		}
	}
	return float64(found) / float64(len(r.Valid)), nil
}

// unit scales x to length 1.
func unit(x []float32) {
	length := math.Sqrt(squaredNorm(x))
	vec.Scale(x, x, float32(1/max(length, model.TextLengthFloor)))
}
