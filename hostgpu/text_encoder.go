package hostgpu

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/wisp-project/wisp/model"
)

// TextEncoder computes the embeddings of many texts at a time in float32, with
// the kernels that train them. It is safe for concurrent use; calls take turns.
type TextEncoder struct {
	m      *model.TextModel
	tokens int

	mu    sync.Mutex
	dev   device
	tw    *textTower
	bt    *textBatch
	order []int
	x, y  vector
	out   []float32
}

// NewTextEncoder returns an encoder for m that works on batches of up to the
// given number of tokens, padding included, 0 meaning 2,048; a longer text is a
// batch of its own. It reads m's weights at each call and keeps no copy.
func NewTextEncoder(m *model.TextModel, tokens int) *TextEncoder {
	return &TextEncoder{m: m, tokens: max(cmp.Or(tokens, 2048), 1), dev: host, tw: newTextTower(m.Config, 0, nil), bt: &textBatch{}}
}

// tokensOnGPU is the size of a batch there: it takes many rows to fill a GPU.
const tokensOnGPU = 1 << 14

// on has the encoder compute on dev, which holds the weights as they are.
func (e *TextEncoder) on(dev device) {
	if e.dev == dev {
		return
	}
	e.dev, e.tw, e.x, e.y = dev, newTextTower(e.m.Config, 0, nil), vector{}, vector{}
	if dev != host {
		e.tokens = max(e.tokens, tokensOnGPU)
	}
}

// Dim is the width of an embedding.
func (e *TextEncoder) Dim() int { return e.m.Config.Dim }

// lengthStep is what lengths of texts are rounded up to a multiple of.
const lengthStep = 4

// Embed writes the embedding of each text to dst, (len(texts), D). Texts are
// token ids, [CLS] and [SEP] included; the error for one that the model cannot
// read wraps model.ErrInput. On error dst holds the embeddings of some texts.
func (e *TextEncoder) Embed(ctx context.Context, dst []float32, texts [][]int32) error {
	c := e.m.Config
	if len(dst) != len(texts)*c.Dim {
		return fmt.Errorf("hostgpu: embed: %w: room for %d values, %d texts need %d", model.ErrInput, len(dst), len(texts), len(texts)*c.Dim)
	}
	for i, ids := range texts {
		if err := c.CheckTokens(ids); err != nil {
			return fmt.Errorf("hostgpu: embed text %d: %w", i, err)
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	// Texts of like length go together, the longest first.
	e.order = resize(e.order, len(texts))
	for i := range e.order {
		e.order[i] = i
	}
	slices.SortStableFunc(e.order, func(a, b int) int { return len(texts[b]) - len(texts[a]) })
	for order := e.order; len(order) > 0; {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("hostgpu: embed: %w", err)
		}
		longest := len(texts[order[0]])
		t := min((longest+lengthStep-1)/lengthStep*lengthStep, c.Positions)
		b := min(max(e.tokens/t, 1), len(order))
		e.tw.reshape(batchRows{b: b, t: t})
		e.bt.reshape(batchRows{b: b, t: t})
		for row, i := range order[:b] {
			e.bt.put(row, texts[i])
		}
		e.x, e.y, e.out = e.dev.resize(e.x, b*t*c.Dim), e.dev.resize(e.y, b*t*c.Dim), resize(e.out, b*c.Dim)
		e.tw.forward(e.dev, e.dev.mirror(e.out), e.x, e.y, e.m.Weights, e.bt)
		if err := cmp.Or(e.dev.pull(e.out), e.dev.err()); err != nil {
			return err
		}
		for row, i := range order[:b] {
			copy(dst[i*c.Dim:(i+1)*c.Dim], e.out[row*c.Dim:])
		}
		order = order[b:]
	}
	return nil
}
