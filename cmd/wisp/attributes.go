package main

import (
	"errors"
	"math"

	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/internal/layout"
	"github.com/wisp-project/wisp/model"
	"github.com/wisp-project/wisp/quantize"
)

// attributeVectors returns what the item vectors of a model are made of beside the
// learnt embeddings: the projections of categories, attribute values and words, as
// TF-IDF gives them, and of what a text encoder reads in the text of each item.
func attributeVectors(m *model.Model, t training, ds *data.Dataset) (*quantize.Attributes, error) {
	words, w := t.Vectors.TFIDF, m.Weights[model.ItemFeatures]
	if w == nil {
		return nil, errors.New("the model knows its items by their ids alone, so that no attribute speaks for one; train with --features or --encoder")
	}
	n, dim, width := m.Config.Items, m.Config.Dim, w.Shape[1]
	a := &quantize.Attributes{Vectors: model.NewTensor(0, dim), Of: make([][]layout.AttributeCount, n), Factor: make([]float32, n)}
	// add projects part of a vector of features, from the given column on.
	add := func(name string, features []float32, from int, scale float64) uint32 {
		row := make([]float32, dim)
		for d := range row {
			sum := 0.0
			for j, f := range features {
				sum += float64(w.Row(d)[from+j]) * float64(f)
			}
			row[d] = float32(scale * sum)
		}
		a.Names = append(a.Names, name)
		a.Vectors.Data = append(a.Vectors.Data, row...)
		a.Vectors.Shape[0]++
		return uint32(len(a.Names) - 1)
	}
	if words > 0 {
		x := make([]float32, 0, n*words)
		for i := range n {
			x = append(x, t.items.Row(i)[:words]...)
		}
		p, err := data.NewItemParts(ds.Items, x, words)
		if err != nil {
			return nil, err
		}
		for i, name := range p.Names {
			add(name, p.Vectors[i*words:][:words], 0, 1)
		}
		copy(a.Factor, p.Factor)
		for i, of := range p.Of {
			for _, part := range of {
				a.Of[i] = append(a.Of[i], layout.AttributeCount{Attribute: uint32(part.Part), Count: uint8(min(part.Count, math.MaxUint8))})
			}
		}
	}
	for i := 0; i < n && width > words; i++ {
		if a.Factor[i] == 0 {
			a.Factor[i] = 1
		}
		text := add("text", t.items.Row(i)[words:], words, 1/float64(a.Factor[i]))
		a.Of[i] = append(a.Of[i], layout.AttributeCount{Attribute: text, Count: 1})
	}
	return a, nil
}
