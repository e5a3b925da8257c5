package hostgpu

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"

	"github.com/wisp-project/wisp/model"
)

// importanceTexts is how many texts of a batch importance is measured on.
const importanceTexts = 32

// TextImportance returns for each weight w of an encoder what the embeddings of texts
// would change without it: the mean over texts, or groups of importanceTexts of them,
// and over random directions g of the embedding, of (w·d(g·f)/dw)². To first order that
// is the squared length of the change. A loss, whose gradient Trainer.Importance asks
// for, would not do: an encoder has none before it has a task, and that of imitating
// itself has no gradient where it does so.
//
// Texts are token ids, [CLS] and [SEP] included. The error wraps ErrData where there
// are none, or model.ErrInput for one that the encoder cannot read.
func TextImportance(ctx context.Context, m *model.TextModel, texts [][]int32, seed uint64, progress func(read, texts int)) (_ model.Weights, err error) {
	if len(texts) == 0 {
		return nil, fmt.Errorf("%w: importance is measured on texts, and there are none", ErrData)
	}
	t, err := NewTextTrainer(m, TextTrainOptions{Pairs: importanceTexts, Dropout: -1})
	if err != nil {
		return nil, err
	}
	sums := model.Weights{}
	for _, s := range m.Config.Specs() {
		sums[s.Name] = model.NewTensor(s.Shape...)
	}
	graphs := map[int]*innerGraph{}
	defer func() {
		errs := []error{err, t.Close()}
		for _, g := range graphs {
			errs = append(errs, g.close())
		}
		err = errors.Join(errs...)
	}()
	rng := rand.New(rand.NewPCG(seed, 0x7e))
	for lo := 0; lo < len(texts); lo += importanceTexts {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		part := texts[lo:min(lo+importanceTexts, len(texts))]
		length, err := t.padded(part...)
		if err != nil {
			return nil, err
		}
		g := graphs[length]
		if g == nil {
			if g, err = newInnerGraph(t.dev, m.Config, t.weights, nil, t.opts, length, t.state); err != nil {
				return nil, err
			}
			graphs[length] = g
		}
		clear(g.given)
		for b := range importanceTexts {
			g.batch.put(b, nil)
			if b >= len(part) {
				continue
			}
			g.batch.put(b, part[b])
			for i := range m.Config.Dim {
				g.given[b*m.Config.Dim+i] = float32(rng.NormFloat64())
			}
		}
		if _, err := g.evaluate(); err != nil {
			return nil, err
		}
		for i, name := range g.names {
			sum, w, gradient := sums[name].Data, t.weights[name].Data, g.gradient(i).host
			for j := range sum {
				change := w[j] * gradient[j]
				sum[j] += change * change
			}
		}
		progress(lo+len(part), len(texts))
	}
	return sums, nil
}
