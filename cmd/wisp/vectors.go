package main

import (
	"context"
	"fmt"

	"github.com/wisp-project/wisp/hostgpu"
	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/internal/tokenize"
	"github.com/wisp-project/wisp/model"
)

// defaultTFIDF is the width of the TF-IDF item vectors unless asked otherwise.
const defaultTFIDF = 64

// itemVectors says which vectors the item tower is given beside the item's id.
type itemVectors struct {
	TFIDF   int    `json:"tfidf"`             // width of the words' TF-IDF, reduced; 0 for none
	Encoder string `json:"encoder,omitempty"` // folder of a pretrained text encoder, empty for none
}

// make returns the vectors of the items of ds, (N, F), nil where there are none.
func (v itemVectors) make(ctx context.Context, ds *data.Dataset, p *progress) (*model.Tensor, error) {
	var parts []*model.Tensor
	if v.TFIDF != 0 {
		x, err := data.ItemVectors(ds.Items, v.TFIDF, 1)
		if err != nil {
			return nil, err
		}
		parts = append(parts, &model.Tensor{Shape: []int{len(ds.Items), v.TFIDF}, Data: x})
	}
	if v.Encoder != "" {
		x, err := embedItems(ctx, v.Encoder, ds.Items, p)
		if err != nil {
			return nil, err
		}
		parts = append(parts, x)
	}
	switch len(parts) {
	case 0:
		return nil, nil
	case 1:
		return parts[0], nil
	}
	a, b := parts[0], parts[1]
	both := model.NewTensor(len(ds.Items), a.Shape[1]+b.Shape[1])
	for i := range ds.Items {
		copy(both.Row(i)[copy(both.Row(i), a.Row(i)):], b.Row(i))
	}
	return both, nil
}

// embedItems returns the embeddings of the items' texts, (N, D). An item without
// any text has a row of zeros.
func embedItems(ctx context.Context, dir string, items []data.Item, p *progress) (*model.Tensor, error) {
	t, err := tokenize.Load(dir)
	if err != nil {
		return nil, err
	}
	m, err := model.LoadText(dir)
	if err != nil {
		return nil, err
	}
	if err := t.CheckSize(m.Config.Vocabulary); err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	e := hostgpu.NewTextEncoder(m, 0)
	vectors := model.NewTensor(len(items), e.Dim())
	const chunk = 256
	for lo := 0; lo < len(items); lo += chunk {
		p.stage("reading the items' texts", int64(lo), int64(len(items)))
		hi := min(lo+chunk, len(items))
		texts := make([][]int32, hi-lo)
		for i := range texts {
			texts[i] = t.Encode(nil, data.ItemText(&items[lo+i]), m.Config.MaxTokens)
		}
		if err := e.Embed(ctx, vectors.Data[lo*e.Dim():hi*e.Dim()], texts); err != nil {
			return nil, err
		}
		for i := lo; i < hi; i++ {
			if data.ItemText(&items[i]) == "" {
				clear(vectors.Row(i))
			}
		}
	}
	return vectors, nil
}
