package hostgpu

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/wisp-project/wisp/model"
)

// TextProgress is what the training of a text encoder tells about itself: after
// each step; while it validates; and with Epoch finished (Done) the validation
// metric. The encoder as it came is epoch 0.
type TextProgress struct {
	Epoch, Epochs int // counted from 1
	Step, Steps   int // finished steps of the epoch, steps of an epoch
	Total         int // finished steps of the run
	Loss          float64
	Rate          float64 // learning rate of the step

	Read, Texts int // texts that validation has read, of so many; 0 outside a validation

	Done      bool    // the epoch is finished and was validated
	Valid     float64 // validation metric, with Done
	Best      float64
	BestEpoch int
}

// TextRun trains a text encoder epoch by epoch, on the task of NewTextRun or that
// of NewPretrainRun, and keeps the weights with the best validation. The encoder
// as it came takes part, so that what is kept is no worse than it. The learning
// rate follows a Schedule. It is not safe for concurrent use.
type TextRun struct {
	trainer *TextTrainer
	task    textObjective
	specs   textSpecs
	steps   int    // of an epoch
	data    string // fingerprint of encoder and task
	best    model.Weights
	run     textRunState
}

// textObjective is what a run trains and validates.
type textObjective interface {
	// begin draws what an epoch, counted from 0, is trained on, and returns its
	// number of steps.
	begin(epoch int) (steps int, err error)
	// step takes step i of the epoch that was begun last, and returns the loss
	// before it.
	step(i int, rate float64) (loss float64, err error)
	// validates says whether there is anything to validate on.
	validates() bool
	// validate returns the metric, 0 where there is nothing to validate on.
	validate(ctx context.Context, progress func(read, texts int)) (float64, error)
	// better says whether metric a is better than b.
	better(a, b float64) bool
	// digest writes to d what is trained and validated on, as far as it is known
	// in the first epoch.
	digest(d *textDigest)
}

// textRunState is where a run stands; it is part of a checkpoint.
type textRunState struct {
	Started   bool    `json:"started"` // the encoder was validated as it came
	Epoch     int     `json:"epoch"`   // finished epochs
	Step      int     `json:"step"`    // finished steps of the current epoch
	Total     int     `json:"total"`   // finished steps in all
	LossSum   float64 `json:"loss_sum"`
	Before    float64 `json:"before"` // metric of the encoder as it came
	Best      float64 `json:"best"`
	BestEpoch int     `json:"best_epoch"`
	Mix       float64 `json:"mix,omitempty"` // of a cross-encoder, which validation chose in the best epoch
}

// textSpecs are the tensors that a run trains.
type textSpecs []model.Spec

// Specs makes it a model.Shaped.
func (s textSpecs) Specs() []model.Spec { return s }

// newTextRun prepares a run of trainer t on a task.
func newTextRun(t *TextTrainer, task textObjective) (_ *TextRun, err error) {
	r := &TextRun{trainer: t, task: task, specs: t.specs()}
	if r.steps, err = task.begin(0); err != nil {
		return nil, err
	}
	r.data = r.fingerprint()
	r.best = r.trainer.trained()
	return r, nil
}

// Options returns the options of the run with defaults filled in.
func (r *TextRun) Options() TextTrainOptions { return r.trainer.opts }

// Steps returns the number of finished steps of the run.
func (r *TextRun) Steps() int { return r.run.Total }

// Best returns the validation metric of the encoder as it came, the best so far,
// and the epoch of the best, 0 being the encoder as it came. All are 0 until Run
// has validated, and without validation cases but for the epoch, which is the last.
func (r *TextRun) Best() (before, best float64, epoch int) {
	return r.run.Before, r.run.Best, r.run.BestEpoch
}

// Parameters returns how many values the run trains, for each of which the
// optimiser keeps two more, and how many the encoder has. Heads that losses need
// count among the former.
func (r *TextRun) Parameters() (trained, encoder int) {
	return parameters(r.specs), parameters(r.trainer.m.Config.Specs())
}

// Model returns the encoder with the best validation so far, adapters merged into
// its weights; it shares nothing with the run.
func (r *TextRun) Model() *model.TextModel {
	return r.trainer.model(r.best)
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
		return fmt.Errorf("hostgpu: train text encoder: stopped after step %d of epoch %d: %w", s.Step, s.Epoch+1, cause)
	}
	report := func(p TextProgress) {
		p.Epochs, p.Steps, p.Total, p.Best, p.BestEpoch = o.Epochs, r.steps, s.Total, s.Best, s.BestEpoch
		progress(p)
	}
	// validate measures, moves the state on with next, and saves it.
	validate := func(p TextProgress, next func(metric float64)) error {
		if err := r.trainer.Pull(); err != nil {
			return err
		}
		metric, err := r.task.validate(ctx, func(read, texts int) {
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
		next(metric)
		if err := save(); err != nil {
			return err
		}
		p.Done, p.Valid = true, metric
		report(p)
		return nil
	}
	if !s.Started {
		err := validate(TextProgress{}, func(metric float64) { s.Started, s.Before, s.Best = true, metric, metric })
		if err != nil {
			return err
		}
	}
	schedule := Schedule{Peak: o.LearningRate, Steps: o.Epochs * r.steps}
	schedule.Warmup = int(math.Round(o.Warmup * float64(schedule.Steps)))
	for s.Epoch < o.Epochs && (s.Epoch-s.BestEpoch < o.Patience || !r.task.validates()) {
		steps, err := r.task.begin(s.Epoch)
		if err != nil {
			return err
		}
		if steps != r.steps {
			return fmt.Errorf("%w: epoch %d has %d steps, the first had %d", ErrData, s.Epoch+1, steps, r.steps)
		}
		for ; s.Step < r.steps; s.Step++ {
			if err := ctx.Err(); err != nil {
				return interrupted(err)
			}
			rate := schedule.Rate(s.Total)
			loss, err := r.task.step(s.Step, rate)
			if err != nil {
				return err
			}
			s.Total++
			s.LossSum += loss
			report(TextProgress{Epoch: s.Epoch + 1, Step: s.Step + 1, Loss: s.LossSum / float64(s.Step+1), Rate: rate})
		}
		p := TextProgress{Epoch: s.Epoch + 1, Step: s.Step, Loss: s.LossSum / float64(r.steps)}
		err = validate(p, func(metric float64) {
			s.Epoch, s.Step, s.LossSum = s.Epoch+1, 0, 0
			if r.task.better(metric, s.Best) || !r.task.validates() {
				s.Best, s.BestEpoch = metric, s.Epoch
				r.best = r.trainer.trained()
				if cross, ok := r.task.(*ranking); ok {
					s.Mix = cross.mix
				}
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}
