package hostgpu

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"strings"

	"github.com/wisp-project/wisp/model"
)

// A checkpoint of fine-tuning is one safetensors file: the weights that are
// trained, the optimiser's moments and the best weights, each under a prefix,
// and in the metadata the options, the configuration and where the run stands.

// Save writes the state of the run to path. The file is replaced whole or not at
// all.
func (r *TextRun) Save(path string) error {
	tensors := map[string]*model.Tensor{}
	for _, s := range r.specs {
		tensors["weights/"+s.Name] = r.trainer.m.Weights[s.Name]
	}
	for prefix, group := range map[string]model.Weights{"adam.m/": r.trainer.adam.m, "adam.v/": r.trainer.adam.v, "best/": r.best} {
		for name, x := range group {
			tensors[prefix+name] = x
		}
	}
	return writeCheckpoint(path, tensors, map[string]any{"run": r.run, "options": r.trainer.opts, "config": r.trainer.m.Config, "data": r.data})
}

// Resume takes up the run that was saved at path, before Run is called. Encoder,
// task and options must be those it was started with; only Patience may change.
// On error the run is as it was.
func (r *TextRun) Resume(path string) error {
	if err := r.load(path); err != nil {
		return fmt.Errorf("%w: %w; start anew without --resume", ErrCheckpoint, err)
	}
	return nil
}

func (r *TextRun) load(path string) error {
	var run textRunState
	var opts TextTrainOptions
	var cfg model.TextConfig
	var fingerprint string
	groups, err := readCheckpoint(path, map[string]any{"run": &run, "options": &opts, "config": &cfg, "data": &fingerprint},
		"weights/", "best/", "adam.m/", "adam.v/")
	if err != nil {
		return err
	}
	t := r.trainer
	opts.Patience = t.opts.Patience
	if opts != t.opts || cfg != t.m.Config {
		return fmt.Errorf("%s was made with other options or another encoder: it has %+v and %+v, this run %+v and %+v", path, opts, cfg, t.opts, t.m.Config)
	}
	if fingerprint != r.data {
		return fmt.Errorf("%s was made from other texts or another encoder", path)
	}
	if run.Epoch < 0 || run.Step < 0 || run.Step > r.steps || run.Total != run.Epoch*r.steps+run.Step || run.BestEpoch < 0 || run.BestEpoch > run.Epoch {
		return fmt.Errorf("%s stands at step %d of epoch %d with the best epoch %d, which cannot be", path, run.Step, run.Epoch, run.BestEpoch)
	}
	for prefix, group := range groups {
		if run.Total == 0 && strings.HasPrefix(prefix, "adam.") {
			continue // the moments come with the first step
		}
		if err := group.Check(r.specs); err != nil {
			return fmt.Errorf("%s: %s: %w", path, prefix, err)
		}
	}
	for _, s := range r.specs { // in place: the graphs' nodes share this memory
		copy(t.m.Weights[s.Name].Data, groups["weights/"][s.Name].Data)
	}
	r.best, r.run = groups["best/"], run
	t.adam.m, t.adam.v, t.adam.step = groups["adam.m/"], groups["adam.v/"], run.Total
	t.state.step = uint64(run.Total)
	return nil
}

// fingerprint is a digest of the encoder as it came and of what it learns from
// and is validated on; pairs are those of the first epoch, which tell the others
// too where they are drawn with a seed.
func (r *TextRun) fingerprint(pairs []TextPair) string {
	h := sha256.New()
	var b []byte
	put := func(v uint32) {
		if b = binary.LittleEndian.AppendUint32(b, v); len(b) >= 1<<16 {
			h.Write(b)
			b = b[:0]
		}
	}
	text := func(ids []int32) {
		put(uint32(len(ids)))
		for _, id := range ids {
			put(uint32(id))
		}
	}
	for _, s := range r.trainer.m.Config.Specs() {
		for _, v := range r.trainer.m.Weights[s.Name].Data {
			put(math.Float32bits(v))
		}
	}
	for _, ids := range r.task.Items {
		text(ids)
	}
	for _, p := range pairs {
		text(p.Query)
		put(uint32(p.Item))
	}
	for _, c := range r.task.Valid {
		text(c.Query)
		put(uint32(c.Item))
		text(c.Seen)
	}
	h.Write(b)
	return hex.EncodeToString(h.Sum(nil))
}
