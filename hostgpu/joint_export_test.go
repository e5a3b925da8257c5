package hostgpu

import (
	"context"
	"math/rand/v2"
	"slices"

	"github.com/wisp-project/wisp/model"
)

// NewInner is the kernel under test.
func NewInner(b, d int, given []float32) Kernel {
	return Kernel{&inner{b: b, d: d, given: given}}
}

// FirstLoss is the loss of the first rows of an epoch, without a step.
func (t *Trainer) FirstLoss() (float32, error) {
	rows := pack(t.material.seqs, t.opts.Length, rand.New(rand.NewPCG(t.opts.Seed, 1)))
	_ = t.graph.batch.fill(t.material, rows[:min(t.opts.Rows, len(rows))], t.opts.Length, t.cfg)
	for i := range t.graph.samples {
		t.graph.samples[i] = i % len(t.ranked)
	}
	return t.graph.run()
}

// VectorGradient is the gradient by the encoder's vectors, (N, D), summed over the
// runs of the towers' graph.
func (t *Trainer) VectorGradient() *model.Tensor { return t.joint.gradient }

// TunedVectors are the given vectors of items, as the towers' graph reads them.
func (t *Trainer) TunedVectors() *model.Tensor { return t.joint.given }

// EncoderGradients returns the gradients by name of the loss by which the encoder
// is trained on all texts, which must fit into one batch.
func (t *Trainer) EncoderGradients() (map[string][]float32, error) {
	rows := make([]int, len(t.joint.texts))
	for k := range rows {
		rows[k] = k
	}
	g, err := t.joint.fill(rows, 1)
	if err != nil {
		return nil, err
	}
	if _, err := g.run(); err != nil {
		return nil, err
	}
	grads := map[string][]float32{}
	for i, name := range g.names {
		grads[name] = slices.Clone(values(t.joint.trainer.dev, g.gradient(i)))
	}
	return grads, nil
}

// EncoderWeights are those that the encoder computes with.
func (t *Trainer) EncoderWeights() model.Weights { return t.joint.trainer.weights }

// EmbedItems embeds all items anew.
func (t *Trainer) EmbedItems(ctx context.Context) error { return t.joint.embed(ctx) }

// EncoderSteps are the steps that the encoder has taken, and the passes.
func (t *Trainer) EncoderSteps() (steps, passes int) {
	return int(t.joint.state.Total), t.joint.state.Passes
}

// TowerWeights are those of the towers.
func (t *Trainer) TowerWeights() model.Weights { return t.weights }
