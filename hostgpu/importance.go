package hostgpu

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/wisp-project/wisp/model"
)

// Importance returns for each weight w the sum over the given number of batches, at
// most an epoch's, of |w·dL/dw|: to first order how much the loss of the batch would
// change without it (Molchanov et al. 2019; Michel et al. 2019). It takes no step. The
// trainer should be one without dropout, whose weights are those in question.
func (t *Trainer) Importance(ctx context.Context, batches int) (model.Weights, error) {
	sums := model.Weights{}
	for _, s := range t.cfg.Specs() {
		sums[s.Name] = model.NewTensor(s.Shape...)
	}
	if t.opts.Samples > 0 {
		return nil, fmt.Errorf("%w: importance by a sampled softmax; give a teacher, whose softmax is over all items", ErrOptions)
	}
	if t.dev != host {
		return nil, fmt.Errorf("%w: importance is measured on the processors; take the device cpu", ErrDevice)
	}
	o := t.opts
	rows := pack(t.material.seqs, o.Length, rand.New(rand.NewPCG(o.Seed, 0x1e)))
	for b := 0; b < batches && b*o.Rows < len(rows); b++ {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := t.graph.batch.fill(t.material, rows[b*o.Rows:min((b+1)*o.Rows, len(rows))], o.Length, t.cfg); err != nil {
			return nil, err
		}
		if _, err := t.graph.evaluate(); err != nil {
			return nil, err
		}
		for i, name := range t.graph.names {
			sum, w, g := sums[name].Data, t.weights[name].Data, t.graph.gradient(i).host
			for j := range sum {
				sum[j] += float32(math.Abs(float64(w[j]) * float64(g[j])))
			}
		}
	}
	return sums, nil
}
