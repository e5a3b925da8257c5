package main

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/spf13/pflag"

	"github.com/wisp-project/wisp/hostgpu"
	"github.com/wisp-project/wisp/internal/data"
)

// encoderFolder is the folder in that of a model with the text encoder that was
// trained together with it.
const encoderFolder = "encoder"

// encoderTuning says how a text encoder is trained together with the towers.
type encoderTuning struct {
	options hostgpu.TextTrainOptions
	frozen  int // lowest blocks that are not trained, 0 for all but the upper two, negative for none
	losses  lossWeights
}

// flags adds those that have a meaning with --tune-encoder only, and returns
// their names.
func (t *encoderTuning) flags(f *pflag.FlagSet, every *int) []string {
	t.options.Losses.NextItem = 1
	t.losses = lossWeights{to: &t.options.Losses, towers: true}
	f.Float64Var(&t.options.LearningRate, "encoder-lr", 0, "learning rate of --tune-encoder (default 0.00002)")
	f.IntVar(every, "encoder-every", 0, "steps after which --tune-encoder trains it (default: those of an epoch)")
	f.IntVar(&t.frozen, "encoder-frozen-layers", 0, "lowest blocks that --tune-encoder leaves alone (default all but the upper two, negative for none)")
	f.Var(&t.losses, "losses", "`loss=weight` of what --tune-encoder sums, next-item, contrastive and masked-lm (default next-item=1)")
	return []string{"encoder-lr", "encoder-every", "encoder-frozen-layers", "losses"}
}

// check reports options that do not go together.
func (r *trainRun) check(f *pflag.FlagSet, tuning []string) error {
	if !r.vectors.Tuned {
		for _, name := range tuning {
			if f.Changed(name) {
				return fmt.Errorf("--%s without --tune-encoder has no meaning; give both", name)
			}
		}
		return nil
	}
	if r.vectors.Encoder == "" {
		return errors.New("--tune-encoder without --encoder; name the folder of the encoder to start from")
	}
	if err := r.tuning.losses.check(); err != nil {
		return err
	}
	same, err := isEncoder(filepath.Join(r.out, encoderFolder), r.vectors.Encoder)
	if err != nil {
		return err
	}
	if same {
		return fmt.Errorf("--encoder is the folder %s that --tune-encoder writes; name another --out", r.vectors.Encoder)
	}
	return nil
}

// tune adds to given and o what it takes to train the encoder on s.
func (r *trainRun) tune(ds *data.Dataset, s *data.Split, given *hostgpu.Vectors, o *hostgpu.TrainOptions) error {
	tok, m, err := loadEncoder(r.vectors.Encoder)
	if err != nil {
		return err
	}
	task, err := hostgpu.NewProfileTask(ds, s, tok, m.Config, hostgpu.ProfileTaskOptions{Seed: o.Seed})
	if err != nil {
		return err
	}
	given.Encoder = &hostgpu.ItemEncoder{Model: m, Task: task}
	o.Encoder = r.tuning.options
	o.Encoder.Special = tok.Special()
	o.Encoder.FrozenLayers = max(r.tuning.frozen, 0)
	if r.tuning.frozen == 0 {
		o.Encoder.FrozenLayers = max(m.Config.Layers-2, 0)
	}
	return nil
}
