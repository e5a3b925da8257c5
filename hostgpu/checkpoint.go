package hostgpu

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/wisp-project/wisp/model"
)

// A checkpoint is one safetensors file: the weights, the optimiser's moments, the
// running average and the best weights, each under a prefix, and in the metadata
// the options, the configuration and where the run stands.

// groups are the sets of tensors in a checkpoint, by prefix.
func (t *Trainer) groups() map[string]model.Weights {
	return map[string]model.Weights{
		"weights/": t.weights, "adam.m/": t.adam.m, "adam.v/": t.adam.v, "average/": t.average, "best/": t.best,
	}
}

// Save writes the state of the run to path. The file is replaced whole or not at
// all.
func (t *Trainer) Save(path string) error {
	tensors := map[string]*model.Tensor{}
	for prefix, group := range t.groups() {
		for name, x := range group {
			tensors[prefix+name] = x
		}
	}
	meta := map[string]string{}
	for key, v := range map[string]any{"run": t.run, "options": t.opts, "config": t.cfg} {
		b, err := json.Marshal(v)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrCheckpoint, err)
		}
		meta[key] = string(b)
	}
	if err := model.SaveTensors(path, tensors, meta); err != nil {
		return fmt.Errorf("%w: %w", ErrCheckpoint, err)
	}
	return nil
}

// load takes over the state in the file at path; on error the trainer is
// unchanged.
func (t *Trainer) load(path string) error {
	tensors, meta, err := model.LoadTensors(path)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrCheckpoint, err)
	}
	var run runState
	var opts TrainOptions
	var cfg model.Config
	for key, v := range map[string]any{"run": &run, "options": &opts, "config": &cfg} {
		if err := json.Unmarshal([]byte(meta[key]), v); err != nil {
			return fmt.Errorf("%w: %s: no usable %q in the metadata: %w", ErrCheckpoint, path, key, err)
		}
	}
	// How long to train may change between runs; what is trained may not.
	opts.Epochs, opts.Patience = t.opts.Epochs, t.opts.Patience
	if opts != t.opts || cfg != t.cfg {
		return fmt.Errorf("%w: %s was made with other options or data: it has %+v and %+v, this run %+v and %+v; train without --resume to start anew",
			ErrCheckpoint, path, opts, cfg, t.opts, t.cfg)
	}
	loaded := map[string]model.Weights{}
	for name, x := range tensors {
		prefix, rest, _ := strings.Cut(name, "/")
		prefix += "/"
		if loaded[prefix] == nil {
			loaded[prefix] = model.Weights{}
		}
		loaded[prefix][rest] = x
	}
	for _, prefix := range []string{"weights/", "average/", "best/"} {
		if err := loaded[prefix].Check(cfg); err != nil {
			return fmt.Errorf("%w: %s: %w", ErrCheckpoint, path, err)
		}
	}
	for _, prefix := range []string{"adam.m/", "adam.v/"} {
		for name, x := range loaded[prefix] {
			if w := t.weights[name]; w == nil || len(w.Data) != len(x.Data) {
				return fmt.Errorf("%w: %s: tensor %q does not fit the model", ErrCheckpoint, path, prefix+name)
			}
		}
	}
	for name, w := range t.weights { // in place: the graph's nodes share this memory
		copy(w.Data, loaded["weights/"][name].Data)
	}
	t.average, t.best = loaded["average/"], loaded["best/"]
	t.adam.m, t.adam.v, t.adam.step = model.Weights{}, model.Weights{}, run.Total
	if loaded["adam.m/"] != nil {
		t.adam.m, t.adam.v = loaded["adam.m/"], loaded["adam.v/"]
	}
	t.run = run
	return nil
}
