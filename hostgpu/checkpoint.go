package hostgpu

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/wisp-project/wisp/model"
)

// A checkpoint is one safetensors file: the weights that are trained, the optimiser's
// moments, the running average and the best weights, each under a prefix, and in the
// metadata the options, the configuration and where the run stands.

// groups are the sets of tensors in a checkpoint, by prefix.
func (t *Trainer) groups() map[string]model.Weights {
	groups := map[string]model.Weights{
		"weights/": t.trained(), "adam.m/": t.adam.m, "adam.v/": t.adam.v, "average/": t.average, "best/": t.best,
	}
	if t.joint != nil {
		maps.Copy(groups, t.joint.groups())
	}
	return groups
}

// Save writes the state of the run to path. The file is replaced whole or not at
// all.
func (t *Trainer) Save(path string) error {
	if err := t.pull(); err != nil {
		return err
	}
	tensors := map[string]*model.Tensor{}
	for prefix, group := range t.groups() {
		for name, x := range group {
			tensors[prefix+name] = x
		}
	}
	state := map[string]any{"run": t.run, "options": t.opts, "config": t.cfg, "data": t.data}
	if t.joint != nil {
		state["encoder"] = t.joint.state
	}
	return writeCheckpoint(path, tensors, state)
}

// pull brings what a device has changed to the host.
func (t *Trainer) pull() error {
	if err := pullWeights(t.dev, t.trained(), t.adam.m, t.adam.v, t.average); err != nil || t.joint == nil {
		return err
	}
	if err := t.dev.pull(t.joint.gradient.Data); err != nil {
		return err
	}
	return t.joint.trainer.pull()
}

// writeCheckpoint writes tensors, each with the prefix of its group, and what
// else a run is, as JSON in the metadata. The file is replaced whole or not at all.
func writeCheckpoint(path string, tensors map[string]*model.Tensor, state map[string]any) error {
	meta := map[string]string{}
	for key, v := range state {
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

// readCheckpoint reads what writeCheckpoint wrote: the tensors of each prefix,
// which may be none, and into the pointers of state what they were.
func readCheckpoint(path string, state map[string]any, prefixes ...string) (map[string]model.Weights, error) {
	tensors, meta, err := model.LoadTensors(path)
	if err != nil {
		return nil, err
	}
	for key, v := range state {
		if err := json.Unmarshal([]byte(meta[key]), v); err != nil {
			return nil, fmt.Errorf("%s: no usable %q in the metadata: %w", path, key, err)
		}
	}
	groups := map[string]model.Weights{}
	for _, prefix := range prefixes {
		groups[prefix] = model.Weights{}
	}
	for name, x := range tensors {
		prefix, rest, _ := strings.Cut(name, "/")
		if groups[prefix+"/"] == nil {
			return nil, fmt.Errorf("%s: tensor %q is no part of a checkpoint", path, name)
		}
		groups[prefix+"/"][rest] = x
	}
	return groups, nil
}

// load takes over the state in the file at path; on error the trainer is
// unchanged.
func (t *Trainer) load(path string) error {
	var run runState
	var opts TrainOptions
	var cfg model.Config
	var fingerprint string
	var encoder jointState
	state := map[string]any{"run": &run, "options": &opts, "config": &cfg, "data": &fingerprint}
	if t.joint != nil {
		state["encoder"] = &encoder
	}
	loaded, err := readCheckpoint(path, state, slices.Collect(maps.Keys(t.groups()))...)
	if err != nil {
		return err
	}
	// How long to train may change between runs; what is trained may not.
	opts.Epochs, opts.Patience = t.opts.Epochs, t.opts.Patience
	opts.Device, opts.Encoder.Device = t.opts.Device, t.opts.Encoder.Device
	if opts != t.opts || cfg != t.cfg {
		return fmt.Errorf("%s was made with other options or data: it has %+v and %+v, this run %+v and %+v", path, opts, cfg, t.opts, t.cfg)
	}
	if fingerprint != t.data {
		return fmt.Errorf("%s was made from other events or item vectors, or with adapters of another model", path)
	}
	if min(run.Epoch, run.Step, run.Total, run.BestEpoch) < 0 || run.BestEpoch > run.Epoch {
		return fmt.Errorf("%s stands at step %d of epoch %d with the best epoch %d, which cannot be", path, run.Step, run.Epoch, run.BestEpoch)
	}
	shapes := model.Shaped(t.cfg)
	if t.adapters != nil {
		shapes = t.adapters
	}
	for _, prefix := range []string{"weights/", "average/", "best/"} {
		if err := loaded[prefix].Check(shapes); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	if run.Total > 0 { // the moments, of the parameters that the graph trains
		for _, prefix := range []string{"adam.m/", "adam.v/"} {
			for _, name := range t.graph.names {
				if x := loaded[prefix][name]; x == nil || len(x.Data) != len(t.weights[name].Data) {
					return fmt.Errorf("%s: tensor %q is missing or does not fit the model", path, prefix+name)
				}
			}
		}
	}
	if t.joint != nil {
		if err := t.joint.check(encoder, loaded); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if err := t.joint.restore(encoder, loaded); err != nil {
			return err
		}
		if err := t.dev.push(t.joint.gradient.Data, t.joint.given.Data); err != nil {
			return err
		}
	}
	for name, w := range t.trained() { // in place: the graph's nodes share this memory
		copy(w.Data, loaded["weights/"][name].Data)
	}
	if err := pushWeights(t.dev, t.trained()); err != nil {
		return err
	}
	t.average, t.best = loaded["average/"], loaded["best/"]
	t.adam.m, t.adam.v, t.adam.step = loaded["adam.m/"], loaded["adam.v/"], run.Total
	t.run = run
	return nil
}

// fingerprint is a digest of what the run learns from and is validated on.
func (t *Trainer) fingerprint() (string, error) {
	h := sha256.New()
	var word [8]byte
	put := func(v int) {
		binary.LittleEndian.PutUint64(word[:], uint64(v))
		h.Write(word[:])
	}
	for i, s := range t.material.seqs {
		put(int(s.n))
		events, next, err := t.material.read(piece{i, 0, int(s.n)})
		if err != nil {
			return "", err
		}
		for j, e := range events {
			put(int(e.Item))
			put(int(e.Type))
			put(int(e.Gap))
			put(int(next[j]))
		}
	}
	if t.soft != nil {
		put(t.soft.top)
		for j, i := range t.soft.places {
			put(int(i))
			put(int(math.Float32bits(t.soft.probs[j])))
		}
		for _, v := range [][]float32{t.soft.rest, t.soft.background} {
			for _, x := range v {
				put(int(math.Float32bits(x)))
			}
		}
		for _, s := range t.material.seqs {
			put(int(s.soft))
		}
	}
	for i := range t.exam.Len() {
		c, err := t.exam.Case(i)
		if err != nil {
			return "", err
		}
		put(len(c.History))
		put(int(c.Target.Item))
	}
	if t.joint != nil {
		h.Write(t.joint.fingerprint())
	}
	also := []*model.Tensor{t.given.Items, t.given.Users}
	if t.adapters != nil { // what they change is no part of a checkpoint
		for _, s := range t.cfg.Specs() {
			also = append(also, t.weights[s.Name])
		}
	}
	for _, x := range also {
		if x == nil {
			continue
		}
		for _, v := range x.Data {
			put(int(math.Float32bits(v)))
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
