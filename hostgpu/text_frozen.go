package hostgpu

import (
	"context"
	"maps"
	"slices"

	"github.com/wisp-project/wisp/model"
)

// frozenText computes embeddings of texts outside any graph, of an encoder whose
// lower part, the embeddings of tokens and the lowest blocks, may be frozen. What
// that part makes of a text does not change while the rest is trained, so it can
// be kept.
type frozenText struct {
	weights model.Weights
	layers  int  // blocks that are frozen
	frozen  bool // whether anything is, the embeddings at least
	known   map[string][]float32

	tower        *textTower
	batch        *textBatch
	x, y, pooled []float32 // (P, D), (P, D), (B, D)
}

func newFrozenText(c model.TextConfig, w model.Weights, layers int, frozen bool) *frozenText {
	return &frozenText{weights: w, layers: layers, frozen: frozen, known: map[string][]float32{}, tower: newTextTower(c, 0, nil), batch: &textBatch{}}
}

// paddedLength is the length to which a text of n tokens is padded.
func paddedLength(c model.TextConfig, n int) int {
	return min((n+lengthStep-1)/lengthStep*lengthStep, c.Positions)
}

// remember keeps what the frozen part makes of texts.
func (f *frozenText) remember(ctx context.Context, texts [][]int32) error {
	if !f.frozen {
		return nil
	}
	fresh := map[string][]int32{} // a text may be there more than once
	for _, ids := range texts {
		if key := tokenKey(ids); f.known[key] == nil {
			fresh[key] = ids
		}
	}
	texts = make([][]int32, 0, len(fresh))
	for _, key := range slices.Sorted(maps.Keys(fresh)) {
		texts = append(texts, fresh[key])
	}
	return f.eachBatch(ctx, texts, func(rows []int) {
		width := f.batch.t * f.tower.cfg.Dim
		for b, i := range rows {
			f.known[tokenKey(texts[i])] = slices.Clone(f.x[b*width:][:len(texts[i])*f.tower.cfg.Dim])
		}
	})
}

// embed calls use with the pooled vectors of each batch of texts, (len(rows), D),
// and their places in texts.
func (f *frozenText) embed(ctx context.Context, texts [][]int32, use func(pooled []float32, rows []int)) error {
	c := f.tower.cfg
	return f.eachBatch(ctx, texts, func(rows []int) {
		f.tower.blocks(host, onHost(f.x), onHost(f.y), f.weights, f.batch.lengths, f.layers, c.Layers)
		f.pooled = resize(f.pooled, len(rows)*c.Dim)
		f.tower.pool.forward(host, onHost(f.pooled), []argument{floats(f.x), ints(f.batch.lengths)})
		use(f.pooled, rows)
	})
}

// eachBatch calls use for each batch of texts, the longest first, given by their
// places: f.x is then what the frozen part makes of them, and f.batch the batch.
func (f *frozenText) eachBatch(ctx context.Context, texts [][]int32, use func(rows []int)) error {
	order := make([]int, len(texts))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return len(texts[b]) - len(texts[a]) })
	const tokens = 2048 // of a batch
	c := f.tower.cfg
	var batch [][]int32
	for len(order) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		t := paddedLength(c, len(texts[order[0]]))
		rows := order[:min(max(tokens/t, 1), len(order))]
		order = order[len(rows):]
		f.tower.reshape(batchRows{b: len(rows), t: t})
		f.batch.reshape(batchRows{b: len(rows), t: t})
		batch = batch[:0]
		for b, i := range rows {
			f.batch.put(b, texts[i])
			batch = append(batch, texts[i])
		}
		p := len(rows) * t
		f.x, f.y = resize(f.x, p*c.Dim), resize(f.y, p*c.Dim)
		if !f.recall(f.x, batch, t) {
			f.tower.embedTokens(host, onHost(f.x), onHost(f.y), f.weights, f.batch)
			f.tower.blocks(host, onHost(f.x), onHost(f.y), f.weights, f.batch.lengths, 0, f.layers)
		}
		use(rows)
	}
	return nil
}

// recall writes what is kept of texts, padded to t tokens each, to x, which may
// have room for more, and reports whether that is all of it.
func (f *frozenText) recall(x []float32, texts [][]int32, t int) bool {
	clear(x)
	for b, ids := range texts {
		states := f.known[tokenKey(ids)]
		if states == nil {
			return false
		}
		copy(x[b*t*f.tower.cfg.Dim:], states)
	}
	return true
}
