package hostgpu

import (
	"fmt"
	"math/rand/v2"

	"github.com/wisp-project/wisp/internal/tokenize"
	"github.com/wisp-project/wisp/model"
)

// maskedLoss is the masked-language loss of a TextTrainer.
type maskedLoss struct {
	masking
	rows   int                  // texts of a batch
	graphs map[int]*maskedGraph // by length of the texts in tokens
	ids    []int32              // of a text while tokens of it are hidden
}

func newMaskedLoss(c model.TextConfig, special tokenize.SpecialIDs, rows int) (*maskedLoss, error) {
	if int(special.Mask) >= c.Vocabulary {
		return nil, fmt.Errorf("%w: [MASK] is token %d, the encoder embeds %d; is the tokenizer that of the model?", ErrOptions, special.Mask, c.Vocabulary)
	}
	return &maskedLoss{masking: masking{special, c.Vocabulary}, rows: rows, graphs: map[int]*maskedGraph{}}, nil
}

// put makes ids text b of a batch and hides some of its tokens, which become
// targets.
func (l *maskedLoss) put(bt *textBatch, targets []int, b int, ids []int32, rng *rand.Rand) {
	l.ids = append(l.ids[:0], ids...)
	l.hide(l.ids, targets[b*bt.t:(b+1)*bt.t], rng)
	bt.put(b, l.ids)
}

// hide lays texts into the graph of their length and hides some of their tokens,
// drawn anew in each step.
func (t *TextTrainer) hide(texts [][]int32) (*maskedGraph, error) {
	l := t.masked
	length, err := t.padded(texts...)
	if err != nil {
		return nil, err
	}
	g := l.graphs[length]
	if g == nil {
		tw := newTextTower(t.m.Config, float32(t.opts.Dropout), t.state)
		tw.reshape(batchRows{b: l.rows, t: length})
		if g, err = newMaskedGraph(t.dev, tw, t.weights, t.opts.FrozenLayers, t.adapters); err != nil {
			return nil, err
		}
		l.graphs[length] = g
	}
	rng := rand.New(rand.NewPCG(t.opts.Seed, t.state.step))
	for b := range l.rows {
		var ids []int32
		if b < len(texts) {
			ids = texts[b]
		}
		l.put(g.batch, g.targets, b, ids, rng)
	}
	t.freeze(g.states, g.batch)
	return g, nil
}
