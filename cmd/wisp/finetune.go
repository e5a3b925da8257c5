package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/wisp-project/wisp/hostgpu"
	"github.com/wisp-project/wisp/internal/atomicfile"
	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/internal/runlog"
	"github.com/wisp-project/wisp/internal/tokenize"
	"github.com/wisp-project/wisp/model"
)

// Files of a fine-tuned encoder's folder beside those of any encoder.
const (
	finetuneCheckpoint = "finetune.safetensors"
	finetuneFile       = "finetune.json" // how the encoder came about
)

func newFinetune() *cobra.Command {
	var r finetuneRun
	c := &cobra.Command{
		Use:   "finetune PREPARED",
		Short: "Fine-tune a pretrained text encoder on what users do next",
		Long: `Goes on with the training of a pretrained text encoder, so that the text of a user's
profile, description and what was liked last, lies near the text of the item that the
user took to next. Only training events are learnt from. What is kept is the encoder
with the best recall@10 on validation: how often the next item is among the ten nearest
of all items. The encoder as it came takes part.

OUT is a Hugging Face folder: wisp train --encoder OUT uses it, with the same --split,
and so do transformers and sentence-transformers. OUT/run has curves of loss and recall.

Ctrl-C saves; --resume goes on, to the same result as an unbroken run on the same
machine. --frozen-layers and --max-tokens save time; the lower blocks of an encoder have
the least to learn.`,
		Example: `  wisp finetune prepared --encoder all-MiniLM-L6-v2 --out encoder --max-tokens 64
  wisp finetune prepared --encoder all-MiniLM-L6-v2 --out encoder --resume --max-tokens 64
  wisp finetune prepared --encoder all-MiniLM-L6-v2 --out encoder --frozen-layers 4 --lr 5e-5
  wisp train prepared --encoder encoder --out model`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r.data = args[0]
			result, err := r.run(cmd.Context(), newProgress(cmd))
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: validation recall@10 %.4f in epoch %d, %.4f before%s\n", r.out, result.Best, result.BestEpoch, result.Before, memoryNote())
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&r.Encoder, "encoder", "", "folder of the pretrained text encoder")
	f.StringVar(&r.out, "out", "", "folder for the fine-tuned one")
	f.BoolVar(&r.resume, "resume", false, "go on with an interrupted run in --out")
	f.StringVar(&r.Protocol, "split", leaveOneOut, "what is held back for validation and test: leave-one-out or time")
	f.StringVar(&r.Profile, "profile", data.DefaultProfileText, "template of the profile text, of .User, .Description, .Attributes and .Liked")
	f.IntVar(&r.Titles, "titles", 0, "titles of liked items that a profile names (default 10)")
	f.IntVar(&r.MaxTokens, "max-tokens", 0, "tokens that a text is cut to (default: what the encoder says)")
	f.IntVar(&r.MaxPairs, "max-pairs", 0, "pairs of profile and next item in an epoch (default 10,000, negative for all)")
	o := &r.Options
	f.Uint64Var(&o.Seed, "seed", 1, "seed of all chance")
	f.IntVar(&o.Epochs, "epochs", 0, "epochs at most (default 3)")
	f.IntVar(&o.Patience, "patience", 0, "epochs without improvement before stopping (default 2)")
	f.IntVar(&o.Pairs, "batch", 0, "pairs of a batch (default 32)")
	f.Float64Var(&o.LearningRate, "lr", 0, "highest learning rate, after warm-up (default 0.00002)")
	f.Float64Var(&o.Warmup, "warmup", 0, "share of the steps in which the rate rises (default 0.1, negative for none)")
	f.IntVar(&o.FrozenLayers, "frozen-layers", 0, "lowest blocks that are not trained, nor are the embeddings then (default none)")
	f.Float64Var(&o.Temperature, "temperature", 0, "by which cosines are divided (default 0.05)")
	f.Float64Var(&o.Dropout, "dropout", 0, "dropout (default 0.1, negative for none)")
	f.Float64Var(&o.WeightDecay, "weight-decay", 0, "decoupled weight decay (default 0.01, negative for none)")
	required(c, "encoder", "out")
	return c
}

// finetuneRun is one fine-tuning.
type finetuneRun struct {
	data, out string
	resume    bool
	finetuneSettings
}

// finetuneSettings are what a fine-tuning started from.
type finetuneSettings struct {
	Encoder   string                   `json:"encoder"`  // folder of the pretrained one
	Data      string                   `json:"data"`     // name of the data set
	Manifest  string                   `json:"manifest"` // digest of its manifest's files
	Protocol  string                   `json:"protocol"` // of the split
	Profile   string                   `json:"profile"`  // template
	Titles    int                      `json:"titles"`   // in a profile; this and what follows 0 for the default
	MaxTokens int                      `json:"max_tokens"`
	MaxPairs  int                      `json:"max_pairs"`
	Options   hostgpu.TextTrainOptions `json:"options"`
	BLAS      string                   `json:"blas"`
}

// finetuning is how a fine-tuned encoder came about.
type finetuning struct {
	finetuneSettings
	Before    float64 `json:"before"` // recall@10 on validation of the pretrained encoder
	Best      float64 `json:"best"`
	BestEpoch int     `json:"best_epoch"`
}

func (r *finetuneRun) run(ctx context.Context, p *progress) (result finetuning, err error) {
	defer p.done()
	ds, fingerprint, err := loadData(r.data)
	if err != nil {
		return result, err
	}
	s, err := split(ds, r.Protocol)
	if err != nil {
		return result, err
	}
	tok, err := tokenize.Load(r.Encoder)
	if err != nil {
		return result, err
	}
	m, err := model.LoadText(r.Encoder)
	if err != nil {
		return result, err
	}
	profile, err := data.NewProfileText(r.Profile, r.Titles)
	if err != nil {
		return result, err
	}
	task, err := hostgpu.NewProfileTask(ds, s, tok, m.Config, hostgpu.ProfileTaskOptions{
		Profile: profile, MaxTokens: r.MaxTokens, MaxPairs: r.MaxPairs, Seed: r.Options.Seed,
	})
	if err != nil {
		return result, err
	}
	run, err := hostgpu.NewTextRun(m, task, r.Options)
	if err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, run.Close()) }()
	if err := r.makeDir(); err != nil {
		return result, err
	}
	checkpoint := filepath.Join(r.out, finetuneCheckpoint)
	if r.resume {
		if err := run.Resume(checkpoint); err != nil {
			return result, err
		}
	}
	r.Data, r.Manifest, r.Options, r.BLAS = ds.Name, fingerprint, run.Options(), hostgpu.BLAS().Name
	p.line("fine-tuning on %d items, %d users with %s", len(ds.Items), len(ds.Users), r.BLAS)
	if err := r.fit(ctx, run, checkpoint, len(task.Valid) > 0, p); err != nil {
		return result, err
	}
	result.finetuneSettings = r.finetuneSettings
	result.Before, result.Best, result.BestEpoch = run.Best()
	if result.BestEpoch == 0 {
		p.line("no epoch did better than the encoder as it came, which is what is kept; try another --lr or more --max-pairs")
	}
	return result, resumable(r.save(run.Model(), result), checkpoint, true)
}

// makeDir makes the output folder, unless it is there and empty or holds an
// earlier fine-tuning.
func (r *finetuneRun) makeDir() error {
	if err := os.MkdirAll(r.out, 0o755); err != nil {
		return fmt.Errorf("%w; name another folder", err)
	}
	entries, err := os.ReadDir(r.out)
	if err != nil {
		return fmt.Errorf("%w; name another folder", err)
	}
	entries = slices.DeleteFunc(entries, isRunFolder)
	if _, err := os.Stat(filepath.Join(r.out, finetuneCheckpoint)); len(entries) > 0 && err != nil {
		return fmt.Errorf("%s holds something else than a fine-tuned encoder (%s); name another folder", r.out, entries[0].Name())
	}
	from, err := os.Stat(r.Encoder)
	if err != nil {
		return err
	}
	to, err := os.Stat(r.out)
	if err != nil {
		return err
	}
	if os.SameFile(from, to) {
		return fmt.Errorf("--encoder and --out are the same folder, %s; name another for the fine-tuned encoder", r.out)
	}
	return nil
}

// fit runs the training and records it in the run folder.
func (r *finetuneRun) fit(ctx context.Context, run *hostgpu.TextRun, checkpoint string, valid bool, p *progress) (err error) {
	log, err := runlog.Open(filepath.Join(r.out, runFolder, "finetune"), r.finetuneSettings, int64(run.Steps()), time.Now())
	if err != nil {
		return err
	}
	kept := r.resume
	defer func() { err = resumable(cmp.Or(err, log.Close()), checkpoint, kept) }()
	err = run.Run(ctx, checkpoint, func(e hostgpu.TextProgress) {
		switch {
		case e.Done:
			kept = true
			recordMemory(log, int64(e.Total))
			if valid {
				log.Scalar(int64(e.Total), "recall@10/validation", e.Recall, time.Now())
			}
			if err := log.Draw(); err != nil {
				p.line("the curves could not be drawn: %v", err)
			}
			p.line("%s", epochLine(e, valid))
		case e.Texts > 0:
			p.stage("validating", int64(e.Read), int64(e.Texts))
		default:
			log.Scalar(int64(e.Total), "loss/train", e.Loss, time.Now())
			log.Scalar(int64(e.Total), "rate/train", e.Rate, time.Now())
			p.stage(fmt.Sprintf("epoch %d", e.Epoch), int64(e.Step), int64(e.Steps))
			p.describe(fmt.Sprintf("epoch %d of at most %d  loss %.4f  best recall@10 %.4f", e.Epoch, e.Epochs, e.Loss, e.Best))
		}
	})
	if errors.Is(err, hostgpu.ErrDiverged) {
		return fmt.Errorf("%w; the last good state is in %s", err, checkpoint)
	}
	return err
}

// epochLine says what an epoch came to; epoch 0 is the encoder as it came.
func epochLine(e hostgpu.TextProgress, valid bool) string {
	line := fmt.Sprintf("epoch %3d  loss %.4f", e.Epoch, e.Loss)
	if e.Epoch == 0 {
		line = "as it came"
	}
	if valid {
		line += fmt.Sprintf("  validation recall@10 %.4f", e.Recall)
		if e.BestEpoch == e.Epoch && e.Epoch > 0 {
			line += "  best so far"
		}
	}
	return line
}

// save writes the encoder, and then how it came about.
func (r *finetuneRun) save(m *model.TextModel, result finetuning) error {
	if err := model.SaveText(r.out, m, r.Encoder); err != nil {
		return err
	}
	b, err := json.MarshalIndent(result, "", "  ")
	if err != nil {
		return fmt.Errorf("save encoder: %w", err)
	}
	return atomicfile.Write(filepath.Join(r.out, finetuneFile), append(b, '\n'))
}
