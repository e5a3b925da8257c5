package hostgpu

import (
	"math/rand/v2"
	"slices"

	"github.com/wisp-project/wisp/internal/tokenize"
	"github.com/wisp-project/wisp/model"
)

// NewMaskedLM is the kernel under test; word is nil where the embedding of words
// is an input.
func NewMaskedLM(p, d, v int, word []float32) Kernel {
	return Kernel{&maskedLM{p: p, d: d, v: v, norm: layerNorm{d: d, eps: 1e-5}, word: word}}
}

// Hide hides tokens of a text of a vocabulary of the given size, in place, and
// returns what is to be guessed.
func Hide(ids []int32, special tokenize.SpecialIDs, vocabulary int, rng *rand.Rand) (targets []int) {
	targets = make([]int, len(ids))
	masking{special, vocabulary}.hide(ids, targets, rng)
	return targets
}

// MaskedGradients computes the masked-language loss of texts and its gradients by
// name, without a step.
func (t *TextTrainer) MaskedGradients(texts [][]int32) (loss float32, grads map[string][]float32, err error) {
	g, err := t.hide(texts)
	if err != nil {
		return 0, nil, err
	}
	if loss, err = g.run(); err != nil {
		return 0, nil, err
	}
	grads = map[string][]float32{}
	for i, name := range g.names {
		grads[name] = slices.Clone(values(t.dev, g.gradient(i)))
	}
	return loss, grads, nil
}

// Texts are how many texts a pre-training trains on and holds out.
func (r *TextRun) Texts() (train, held int) {
	p := r.task.(*pretraining)
	return len(p.texts), len(p.held)
}

// Moments are the first moments of the optimiser by name.
func (t *TextTrainer) Moments() model.Weights { return t.adam.m }

// Weights are those that the trainer computes with, heads included.
func (t *TextTrainer) Weights() model.Weights { return t.weights }
