package hostgpu

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"math"
	"strings"

	"github.com/wisp-project/wisp/model"
)

// A checkpoint of a TextRun is one safetensors file: the weights that are
// trained, the optimiser's moments and the best weights, each under a prefix,
// and in the metadata the options, the configuration and where the run stands.

// Save writes the state of the run to path. The file is replaced whole or not at
// all.
func (r *TextRun) Save(path string) error {
	if err := r.trainer.pull(); err != nil {
		return err
	}
	tensors := map[string]*model.Tensor{}
	for _, s := range r.specs {
		tensors["weights/"+s.Name] = r.trainer.weights[s.Name]
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
	opts.Patience, opts.Device = t.opts.Patience, t.opts.Device
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
		copy(t.weights[s.Name].Data, groups["weights/"][s.Name].Data)
	}
	t.adapters.merge(host, t.weights, t.weights)
	r.best, r.run = groups["best/"], run
	t.adam.m, t.adam.v, t.adam.step = groups["adam.m/"], groups["adam.v/"], run.Total
	t.state.step = uint64(run.Total)
	return pushWeights(t.dev, t.weights)
}

// textDigest is a digest of texts and weights.
type textDigest struct {
	h hash.Hash
	b []byte // not yet in h
}

func (d *textDigest) put(v uint32) {
	if d.b = binary.LittleEndian.AppendUint32(d.b, v); len(d.b) >= 1<<16 {
		d.h.Write(d.b)
		d.b = d.b[:0]
	}
}

func (d *textDigest) text(ids []int32) {
	d.put(uint32(len(ids)))
	for _, id := range ids {
		d.put(uint32(id))
	}
}

func (d *textDigest) words(s string) {
	d.put(uint32(len(s)))
	d.b = append(d.b, s...)
}

func (d *textDigest) values(x []int8) {
	for _, v := range x {
		d.b = append(d.b, byte(v))
	}
}

func (d *textDigest) encoder(m *model.TextModel) {
	for _, s := range m.Config.Specs() {
		for _, v := range m.Weights[s.Name].Data {
			d.put(math.Float32bits(v))
		}
	}
}

// fingerprint is a digest of the encoder as it came and of what it learns from
// and is validated on; what the first epoch draws tells the others too where they
// are drawn with a seed.
func (r *TextRun) fingerprint() string {
	d := &textDigest{h: sha256.New()}
	d.encoder(r.trainer.m)
	r.task.digest(d)
	d.h.Write(d.b)
	return hex.EncodeToString(d.h.Sum(nil))
}
