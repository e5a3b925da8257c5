package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/wisp-project/wisp/internal/layout"
	"github.com/wisp-project/wisp/internal/tokenize"
	"github.com/wisp-project/wisp/model"
	"github.com/wisp-project/wisp/quantize"
)

// builtIn measures logistic regression on the embeddings of the built-in encoder, in
// float32 and in the sandbox.
func (s *sentences) builtIn(folds []int, add func(method, options string, predict foldPredictor) error) error {
	tok, m, err := loadEncoder(builtinEncoder)
	if err != nil {
		return err
	}
	ids := encodeAll(tok, s.texts, m.Config.MaxTokens)
	options := fmt.Sprint("weight of L2 the best of ", classesL2, ", encoder ", encoderOnly(tok, m)[:8])
	if err := add("built-in-fp32.", options, s.frozen(m, ids, folds, classesL2, nil)); err != nil {
		return err
	}
	return add("built-in.", options, s.frozen(m, ids, folds, classesL2, func(test []int) verdict {
		return func(ctx context.Context, l *logistic) ([]int, error) {
			return sandboxClasses(ctx, tok, m, l.head([]string{"negative", "positive"}, m.Config.Dim), pick(s.texts, test))
		}
	}))
}

// sandboxClasses returns the most probable class of each text by the guest.
func sandboxClasses(ctx context.Context, tok *tokenize.Tokenizer, m *model.TextModel, h *model.TextClasses, texts []string) (classes []int, err error) {
	g, err := openText(ctx, quantize.Text{Encoder: m, Tokenizer: tok, Classes: h})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, g.Close(ctx)) }()
	for _, text := range texts {
		a, err := g.Answer(ctx, layout.Request{Kind: layout.KindClassify, Text: layout.CutText(text)})
		if err != nil {
			return nil, err
		}
		if len(a.Hits) != len(h.Names) {
			return nil, fmt.Errorf("the guest answers with %d classes of %d (status %d)", len(a.Hits), len(h.Names), a.Status)
		}
		best := 0
		for i, hit := range a.Hits {
			if hit.Score > a.Hits[best].Score {
				best = i
			}
		}
		classes = append(classes, best)
	}
	return classes, nil
}
