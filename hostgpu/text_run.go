package hostgpu

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/wisp-project/wisp/model"
)

// recallAt is the number of best items among which validation looks for the
// target.
const recallAt = 10

// TextProgress is what a run of fine-tuning tells about itself: after each step;
// while it validates; and with Epoch finished (Done) the validation metric. The
// encoder as it came is epoch 0.
type TextProgress struct {
	Epoch, Epochs int // counted from 1
	Step, Steps   int // finished steps of the epoch, steps of an epoch
	Total         int // finished steps of the run
	Loss          float64
	Rate          float64 // learning rate of the step

	Read, Texts int // texts that validation has read, of so many; 0 outside a validation

	Done      bool    // the epoch is finished and was validated
	Recall    float64 // validation recall@10, with Done
	Best      float64
	BestEpoch int
}

// TextRun fine-tunes a text encoder on a task, epoch by epoch, and keeps the
// weights with the best recall@10 on validation: the share of cases whose target
// is among the ten items with the highest cosine, those that were seen left out.
// The encoder as it came takes part, so that what is kept is no worse than it.
// The learning rate follows a Schedule. It is not safe for concurrent use.
type TextRun struct {
	trainer *TextTrainer
	encoder *TextEncoder
	task    TextTask
	specs   textSpecs
	steps   int    // of an epoch
	data    string // fingerprint of encoder and task
	best    model.Weights
	run     textRunState
}

// textRunState is where a run stands; it is part of a checkpoint.
type textRunState struct {
	Started   bool    `json:"started"` // the encoder was validated as it came
	Epoch     int     `json:"epoch"`   // finished epochs
	Step      int     `json:"step"`    // finished steps of the current epoch
	Total     int     `json:"total"`   // finished steps in all
	LossSum   float64 `json:"loss_sum"`
	Before    float64 `json:"before"` // recall of the encoder as it came
	Best      float64 `json:"best"`
	BestEpoch int     `json:"best_epoch"`
}

// textSpecs are the tensors that a run trains.
type textSpecs []model.Spec

// Specs makes it a model.Shaped.
func (s textSpecs) Specs() []model.Spec { return s }

// NewTextRun prepares to fine-tune m, whose weights Run changes in place. The
// error wraps ErrOptions, ErrData for a task without pairs or with one that
// names no item, or model.ErrInput for a text that the encoder cannot read.
func NewTextRun(m *model.TextModel, task TextTask, opts TextTrainOptions) (*TextRun, error) {
	t, err := NewTextTrainer(m, opts)
	if err != nil {
		return nil, err
	}
	r := &TextRun{trainer: t, encoder: NewTextEncoder(m, 0), task: task, specs: trainedTextSpecs(m.Config, t.opts.FrozenLayers)}
	for i, ids := range task.Items {
		if ids == nil {
			continue
		}
		if err := m.Config.CheckTokens(ids); err != nil {
			return nil, fmt.Errorf("hostgpu: text of item %d: %w", i, err)
		}
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
	pairs, err := r.pairs(0)
	if err != nil {
		return nil, err
	}
	if len(pairs) < 2 {
		return nil, fmt.Errorf("%w: %d pairs of texts; at least two are needed for one to be told from the other", ErrData, len(pairs))
	}
	r.steps = (len(pairs) + t.opts.Pairs - 1) / t.opts.Pairs
	r.data = r.fingerprint(pairs)
	r.best = r.trained()
	return r, nil
}

// pairs returns the pairs of an epoch, checked.
func (r *TextRun) pairs(epoch int) ([]TextPair, error) {
	pairs, err := r.task.Pairs(epoch)
	if err != nil {
		return nil, err
	}
	if steps := (len(pairs) + r.trainer.opts.Pairs - 1) / r.trainer.opts.Pairs; r.steps > 0 && steps != r.steps {
		return nil, fmt.Errorf("%w: epoch %d has %d steps, the first had %d", ErrData, epoch+1, steps, r.steps)
	}
	for i, p := range pairs {
		if p.Item < 0 || int(p.Item) >= len(r.task.Items) || r.task.Items[p.Item] == nil {
			return nil, fmt.Errorf("%w: pair %d of epoch %d names item %d, which has no text", ErrData, i, epoch+1, p.Item)
		}
		if err := r.trainer.m.Config.CheckTokens(p.Query); err != nil {
			return nil, fmt.Errorf("hostgpu: query of pair %d of epoch %d: %w", i, epoch+1, err)
		}
	}
	return pairs, nil
}

// trained returns a copy of the tensors that are trained, as they are now.
func (r *TextRun) trained() model.Weights {
	w := model.Weights{}
	for _, s := range r.specs {
		w[s.Name] = r.trainer.m.Weights[s.Name]
	}
	return cloneWeights(w)
}

// Options returns the options of the run with defaults filled in.
func (r *TextRun) Options() TextTrainOptions { return r.trainer.opts }

// Steps returns the number of finished steps of the run.
func (r *TextRun) Steps() int { return r.run.Total }

// Best returns the recall@10 of the encoder as it came, the best so far, and the
// epoch of the best, 0 being the encoder as it came. All are 0 until Run has
// validated, and without validation cases but for the epoch, which is the last.
func (r *TextRun) Best() (before, best float64, epoch int) {
	return r.run.Before, r.run.Best, r.run.BestEpoch
}

// Model returns the encoder with the best validation so far; it shares nothing
// with the run.
func (r *TextRun) Model() *model.TextModel {
	w := cloneWeights(r.trainer.m.Weights)
	for name, t := range r.best {
		copy(w[name].Data, t.Data)
	}
	return &model.TextModel{Config: r.trainer.m.Config, Weights: w}
}

// Close frees the graphs.
func (r *TextRun) Close() error { return r.trainer.Close() }

// Run trains until validation no longer improves, the epochs are used up, or ctx
// ends. With a checkpoint path, the state is saved there after each epoch and
// when ctx ends, so that Resume goes on as if nothing had happened. A loss or
// gradient that is not finite ends the run with ErrDiverged and leaves the last
// checkpoint and Model as they were. progress may be nil.
func (r *TextRun) Run(ctx context.Context, checkpoint string, progress func(TextProgress)) error {
	if progress == nil {
		progress = func(TextProgress) {}
	}
	s, o := &r.run, r.trainer.opts
	save := func() error {
		if checkpoint == "" {
			return nil
		}
		return r.Save(checkpoint)
	}
	interrupted := func(cause error) error {
		if err := save(); err != nil {
			return errors.Join(cause, err)
		}
		return fmt.Errorf("hostgpu: fine-tune: stopped after step %d of epoch %d: %w", s.Step, s.Epoch+1, cause)
	}
	report := func(p TextProgress) {
		p.Epochs, p.Steps, p.Total, p.Best, p.BestEpoch = o.Epochs, r.steps, s.Total, s.Best, s.BestEpoch
		progress(p)
	}
	// validate measures, moves the state on with next, and saves it.
	validate := func(p TextProgress, next func(recall float64)) error {
		recall, err := r.validate(ctx, func(read, texts int) {
			q := p
			q.Read, q.Texts = read, texts
			report(q)
		})
		if ctx.Err() != nil {
			return interrupted(ctx.Err())
		}
		if err != nil {
			return err
		}
		next(recall)
		if err := save(); err != nil {
			return err
		}
		p.Done, p.Recall = true, recall
		report(p)
		return nil
	}
	if !s.Started {
		err := validate(TextProgress{}, func(recall float64) { s.Started, s.Before, s.Best = true, recall, recall })
		if err != nil {
			return err
		}
	}
	schedule := Schedule{Peak: o.LearningRate, Steps: o.Epochs * r.steps}
	schedule.Warmup = int(math.Round(o.Warmup * float64(schedule.Steps)))
	for s.Epoch < o.Epochs && (s.Epoch-s.BestEpoch < o.Patience || len(r.task.Valid) == 0) {
		pairs, err := r.pairs(s.Epoch)
		if err != nil {
			return err
		}
		for ; s.Step < r.steps; s.Step++ {
			if err := ctx.Err(); err != nil {
				return interrupted(err)
			}
			rate := schedule.Rate(s.Total)
			loss, err := r.step(pairs[s.Step*o.Pairs:min((s.Step+1)*o.Pairs, len(pairs))], rate)
			if err != nil {
				return err
			}
			s.Total++
			s.LossSum += loss
			report(TextProgress{Epoch: s.Epoch + 1, Step: s.Step + 1, Loss: s.LossSum / float64(s.Step+1), Rate: rate})
		}
		p := TextProgress{Epoch: s.Epoch + 1, Step: s.Step, Loss: s.LossSum / float64(r.steps)}
		err = validate(p, func(recall float64) {
			s.Epoch, s.Step, s.LossSum = s.Epoch+1, 0, 0
			if recall > s.Best || len(r.task.Valid) == 0 {
				s.Best, s.BestEpoch = recall, s.Epoch
				r.best = r.trained()
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// step trains on one batch.
func (r *TextRun) step(pairs []TextPair, rate float64) (float64, error) {
	queries, items := make([][]int32, len(pairs)), make([][]int32, len(pairs))
	for i, p := range pairs {
		queries[i], items[i] = p.Query, r.task.Items[p.Item]
	}
	return r.trainer.Step(queries, items, rate)
}

// validate returns recall@10 over the validation cases. An item that is as near
// as the target counts as nearer, so that an encoder which maps everything to
// one point finds nothing.
func (r *TextRun) validate(ctx context.Context, progress func(read, texts int)) (float64, error) {
	if len(r.task.Valid) == 0 {
		return 0, nil
	}
	var texts [][]int32
	row := make([]int, len(r.task.Items)) // of the item among those with a text, or -1
	for i, ids := range r.task.Items {
		row[i] = -1
		if ids != nil {
			row[i] = len(texts)
			texts = append(texts, ids)
		}
	}
	n, d := len(texts), r.encoder.Dim()
	for _, c := range r.task.Valid {
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
	for lo := 0; lo < len(r.task.Valid); lo += chunk {
		cases := r.task.Valid[lo:min(lo+chunk, len(r.task.Valid))]
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
	return float64(found) / float64(len(r.task.Valid)), nil
}

// unit scales x to length 1.
func unit(x []float32) {
	length := math.Sqrt(squaredNorm(x))
	scaled(x, x, float32(1/max(length, model.TextLengthFloor)))
}
