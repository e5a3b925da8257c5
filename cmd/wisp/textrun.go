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

	"github.com/spf13/pflag"

	"github.com/wisp-project/wisp/hostgpu"
	"github.com/wisp-project/wisp/internal/atomicfile"
	"github.com/wisp-project/wisp/internal/runlog"
	"github.com/wisp-project/wisp/model"
)

// textTraining is the training of a text encoder by a command: where it is read
// from and kept.
type textTraining struct {
	command string // name of the checkpoint, of the description and of the run's record
	encoder string // folder of the pretrained one
	out     string
	resume  bool
	device  string // name of it, "" for the processors
	metric  string // of validation
}

func (t *textTraining) checkpoint() string {
	return filepath.Join(t.out, t.command+".safetensors")
}

// description is the file that says how the encoder came about.
func (t *textTraining) description() string { return filepath.Join(t.out, t.command+".json") }

// flags adds those that say where the encoder is, and how any is trained.
func (t *textTraining) flags(f *pflag.FlagSet, o *hostgpu.TextTrainOptions, out string) {
	f.StringVar(&t.encoder, "encoder", "", "pretrained text encoder: a folder"+orBuiltin)
	f.StringVar(&t.out, "out", "", out)
	f.BoolVar(&t.resume, "resume", false, "go on with an interrupted run in --out")
	f.Uint64Var(&o.Seed, "seed", 1, "seed of all chance")
	f.IntVar(&o.Epochs, "epochs", 0, "epochs at most (default 3)")
	f.IntVar(&o.Patience, "patience", 0, "epochs without improvement before stopping (default 2)")
	f.Float64Var(&o.LearningRate, "lr", 0, "highest learning rate, after warm-up (default 0.00002)")
	f.Float64Var(&o.Warmup, "warmup", 0, "share of the steps in which the rate rises (default 0.1, negative for none)")
	f.IntVar(&o.FrozenLayers, "frozen-layers", 0, "lowest blocks that are not trained, nor are the embeddings then (default none)")
	f.IntVar(&o.AdapterRank, "adapter-rank", 0, "rank of the changes that are trained in place of the blocks' matrices, and nothing else then (default: no adapters)")
	f.Float64Var(&o.AdapterScale, "adapter-scale", 0, "factor of these changes, alpha/rank elsewhere (default 1)")
	f.Float64Var(&o.Dropout, "dropout", 0, "dropout (default 0.1, negative for none)")
	f.Float64Var(&o.WeightDecay, "weight-decay", 0, "decoupled weight decay (default 0.01, negative for none)")
}

// makeDir makes the output folder, unless it is there and empty or holds an
// earlier training by the same command.
func (t *textTraining) makeDir() error {
	if err := os.MkdirAll(t.out, 0o755); err != nil {
		return fmt.Errorf("%w; name another folder", err)
	}
	entries, err := os.ReadDir(t.out)
	if err != nil {
		return fmt.Errorf("%w; name another folder", err)
	}
	entries = slices.DeleteFunc(entries, isRunFolder)
	if _, err := os.Stat(t.checkpoint()); len(entries) > 0 && err != nil {
		return fmt.Errorf("%s holds something else than an encoder that wisp %s made (%s); name another folder", t.out, t.command, entries[0].Name())
	}
	same, err := isEncoder(t.out, t.encoder)
	if err != nil {
		return err
	}
	if same {
		return fmt.Errorf("--encoder and --out are the same folder, %s; name another for the new encoder", t.out)
	}
	return nil
}

// fit carries out run, from the checkpoint where it is to go on, and records it
// and settings in the run folder. valid says whether there is a validation.
func (t *textTraining) fit(ctx context.Context, run *hostgpu.TextRun, settings any, valid bool, p *progress) (err error) {
	if t.resume {
		if err := run.Resume(t.checkpoint()); err != nil {
			return err
		}
	}
	trained, all := run.Parameters()
	p.line("training %d parameters of an encoder that has %d; the optimiser keeps %.1f MB for them", trained, all, float64(trained)*8/1e6)
	log, err := runlog.Open(filepath.Join(t.out, runFolder, t.command), settings, int64(run.Steps()), time.Now())
	if err != nil {
		return err
	}
	kept := t.resume
	defer func() { err = resumable(cmp.Or(err, log.Close()), t.checkpoint(), kept) }()
	err = run.Run(ctx, t.checkpoint(), func(e hostgpu.TextProgress) {
		switch {
		case e.Done:
			kept = true
			recordMemory(log, int64(e.Total))
			if valid {
				log.Scalar(int64(e.Total), t.metric+"/validation", e.Valid, time.Now())
			}
			if err := log.Draw(); err != nil {
				p.line("the curves could not be drawn: %v", err)
			}
			p.line("%s", t.epochLine(e, valid))
		case e.Texts > 0:
			p.stage("validating", int64(e.Read), int64(e.Texts))
		default:
			log.Scalar(int64(e.Total), "loss/train", e.Loss, time.Now())
			log.Scalar(int64(e.Total), "rate/train", e.Rate, time.Now())
			p.stage(fmt.Sprintf("epoch %d", e.Epoch), int64(e.Step), int64(e.Steps))
			p.describe(fmt.Sprintf("epoch %d of at most %d  loss %.4f  best %s %.4f", e.Epoch, e.Epochs, e.Loss, t.metric, e.Best))
		}
	})
	if errors.Is(err, hostgpu.ErrDiverged) && kept {
		return fmt.Errorf("%w; the last good state is in %s", err, t.checkpoint())
	}
	return err
}

// epochLine says what an epoch came to; epoch 0 is the encoder as it came.
func (t *textTraining) epochLine(e hostgpu.TextProgress, valid bool) string {
	line := fmt.Sprintf("epoch %3d  loss %.4f", e.Epoch, e.Loss)
	if e.Epoch == 0 {
		line = "as it came"
	}
	if valid {
		line += fmt.Sprintf("  validation %s %.4f", t.metric, e.Valid)
		if e.BestEpoch == e.Epoch && e.Epoch > 0 {
			line += "  best so far"
		}
	}
	return line
}

// save writes the encoder, and then how it came about.
func (t *textTraining) save(m *model.TextModel, result any) (err error) {
	defer func() { err = resumable(err, t.checkpoint(), true) }()
	if err := saveEncoder(t.out, m, t.encoder); err != nil {
		return err
	}
	b, err := json.MarshalIndent(result, "", "  ")
	if err != nil {
		return fmt.Errorf("save encoder: %w", err)
	}
	return atomicfile.Write(t.description(), append(b, '\n'))
}
