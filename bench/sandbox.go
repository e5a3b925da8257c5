package main

import (
	"context"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"time"

	"github.com/wisp-project/wisp/internal/guest"
	"github.com/wisp-project/wisp/internal/layout"
	"github.com/wisp-project/wisp/internal/layout/layouttest"
	"github.com/wisp-project/wisp/internal/tokenize"
	"github.com/wisp-project/wisp/model"
	"github.com/wisp-project/wisp/quantize"
)

// timed returns the seconds that n requests took, after one that does not count.
func timed(ctx context.Context, g *guest.Guest, r layout.Request, n int) (float64, error) {
	times, err := g.Timed(ctx, r, n)
	var sum time.Duration
	for _, t := range times {
		sum += t
	}
	return sum.Seconds(), err
}

// smallShape is a model with next to nothing before the search for items.
func smallShape(items int) layout.Shape {
	return layout.Shape{Items: items, Dim: 64, Layers: 1, Heads: 1, FFN: 8, Window: 2, EventTypes: 1, GapBuckets: 1}
}

// randomItems opens a sandbox with n items of width 64 and no bounds.
func randomItems(ctx context.Context, n int) (*guest.Guest, error) {
	p := layouttest.Params(smallShape(n), 1)
	rng := rand.New(rand.NewPCG(1, 3))
	for i := range p.ItemRows {
		p.ItemRows[i] = int8(max(min(rng.NormFloat64()*40, 127), -127))
	}
	return guest.Open(ctx, p)
}

// openEncoder opens a sandbox with MiniLM, and returns the ids of a text as well.
func openEncoder(ctx context.Context, shared, text string) (*guest.Guest, []int32, error) {
	folder := filepath.Join(shared, "models", "all-MiniLM-L6-v2")
	encoder, err := model.LoadText(folder)
	if err != nil {
		return nil, nil, err
	}
	tokenizer, err := tokenize.Load(folder)
	if err != nil {
		return nil, nil, err
	}
	p := layouttest.Params(smallShape(1), 1)
	if p.Shape.Text, p.Text, err = quantize.TextParams(quantize.Text{Encoder: encoder, Tokenizer: tokenizer}); err != nil {
		return nil, nil, err
	}
	s, err := guest.Open(ctx, p)
	return s, tokenizer.Encode(nil, text, p.Shape.Text.Tokens), err
}

// textOf returns a text of n tokens for MiniLM, [CLS] and [SEP] included.
func textOf(n int) string {
	words := strings.Fields("on a rainy night in the city an old friend comes back and asks for help with a case that nobody else wants to take")
	var text []string
	for i := range n - 2 {
		text = append(text, words[i%len(words)])
	}
	return strings.Join(text, " ")
}
