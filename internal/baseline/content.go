package baseline

import (
	"context"
	"fmt"
	"math"

	"github.com/wisp-project/wisp/internal/data"
)

// Content scores an item by how similar its words are to those of the last 20
// items of the history: the cosine of TF-IDF vectors, an event of age a having
// the weight 0.8^a. It needs no events to be fitted on and so ranks new items as
// well as old ones.
type Content struct {
	texts *data.TFIDF
}

// NewContent fits the vectors of a catalogue. Memory is that of data.TFIDF: 8
// bytes for each different word of each item. One question visits each of them
// once. The error is ErrInput.
func NewContent(items []data.Item) (*Content, error) {
	if len(items) == 0 {
		return nil, fmt.Errorf("%w: content over an empty catalogue", ErrInput)
	}
	return &Content{texts: data.FitTFIDF(items, data.TFIDFOptions{})}, nil
}

// Name returns "content".
func (m *Content) Name() string { return "content" }

// Scores writes the cosines to dst; they are 0 where the history or the item has
// no words. See eval.Scorer.
func (m *Content) Scores(_ context.Context, dst []float32, _ int32, history []data.Interaction) error {
	items, terms := m.texts.Dims()
	if err := checkQuery(m.Name(), dst, history, items); err != nil {
		return err
	}
	taste := make([]float64, terms)
	for _, w := range profile(history, true) {
		columns, weights := m.texts.Row(int(w.item))
		for k, j := range columns {
			taste[j] += float64(w.value) * float64(weights[k])
		}
	}
	squares := 0.0
	for _, v := range taste {
		squares += v * v
	}
	if squares == 0 {
		clear(dst)
		return nil
	}
	scale := 1 / math.Sqrt(squares)
	for i := range dst {
		columns, weights := m.texts.Row(i)
		dot := 0.0
		for k, j := range columns {
			dot += taste[j] * float64(weights[k])
		}
		dst[i] = float32(dot * scale)
	}
	return nil
}
