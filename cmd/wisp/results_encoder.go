package main

import (
	"context"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"

	"github.com/wisp-project/wisp/hostgpu"
	"github.com/wisp-project/wisp/internal/eval"
	"github.com/wisp-project/wisp/internal/layout"
	"github.com/wisp-project/wisp/internal/q8"
	"github.com/wisp-project/wisp/internal/results"
	"github.com/wisp-project/wisp/internal/tokenize"
	"github.com/wisp-project/wisp/model"
	"github.com/wisp-project/wisp/quantize"
)

const encoderText = `
The encoder that wisp distil-encoder makes of all-MiniLM-L6-v2 (make encoder), against its
teacher on 2,000 film titles of MovieTweetings with their years, as the file has them. These,
and whatever has the same letters and digits but for the year, were in nothing that it learnt
from; the titles that training stopped by are others.

- overlap10: the share of the ten titles nearest to a title by the teacher that are among its
  ten nearest by the student; mean over the titles, with a bootstrap interval.
- spearman: rank correlation of the cosines of all 1,999,000 pairs of titles.
- fp32 is the student as trained; int8 the packed file, by the arithmetic of the sandbox
  (internal/q8), which the guest gives bit for bit.
- static: model2vec's recipe (Tulkens and van Dongen 2024) on the same teacher: the teacher's
  embeddings of the single tokens of its whole vocabulary, cut to their principal directions,
  each weighted by a/(a+p) where p is about the token's frequency (Zipf over the
  vocabulary's order, a = 0.001); a text is the mean of its tokens. It has as many int8 values as
  the packed student has bytes.
`

// encoderFolder is where make encoder puts the encoder, in the parent of the work
// folder.
func (b *bench) encoderFolder() string { return filepath.Join(filepath.Dir(b.work), "encoder") }

// encoder measures the encoder that wisp distil-encoder made.
func (b *bench) encoder(ctx context.Context) (results.Topic, error) {
	t := results.Topic{Title: "The distilled text encoder", Text: encoderText}
	films := filepath.Join(b.shared, "data", "movietweetings", "movies.dat")
	folder := filepath.Join(b.shared, "models", "all-MiniLM-L6-v2")
	for _, path := range []string{films, folder, filepath.Join(b.encoderFolder(), packedEncoder)} {
		if _, err := os.Stat(path); err != nil {
			b.p.line("skipped the encoder: %v", err)
			return t, nil
		}
	}
	titles, err := readTitles(films)
	if err != nil {
		return t, err
	}
	held, _ := holdOut(titles)
	test := texts(held)
	tok, teacher, err := loadEncoder(folder)
	if err != nil {
		return t, err
	}
	given, err := vectorsOf(ctx, teacher, tok, test)
	if err != nil {
		return t, err
	}
	measure := func(name string, v eval.Vectors) error {
		l := eval.Alike(given, v, 10)
		i, err := eval.Bootstrap(l.Overlap, eval.BootstrapOptions{})
		if err != nil {
			return err
		}
		t.Records = append(t.Records,
			results.Record{Name: "quality." + name + ".overlap10", Value: i.Value, Low: i.Low, High: i.High, N: len(test)},
			results.Record{Name: "quality." + name + ".spearman", Value: l.Spearman, N: len(test)})
		return nil
	}

	packed, err := os.ReadFile(filepath.Join(b.encoderFolder(), packedEncoder))
	if err != nil {
		return t, err
	}
	t.Records = append(t.Records, results.Record{Name: "size.encoder.bytes", Value: float64(len(packed)), Unit: "bytes", Note: "with its tokenizer, compressed"})
	smallTok, small, err := loadEncoder(b.encoderFolder())
	if err != nil {
		return t, err
	}
	own, err := vectorsOf(ctx, small, smallTok, test)
	if err != nil {
		return t, err
	}
	if err := measure("encoder-fp32", own); err != nil {
		return t, err
	}
	unpacked, unpackedTok, err := quantize.UnpackText(packed)
	if err != nil {
		return t, err
	}
	b.p.line("the encoder in int8")
	if own, err = int8Vectors(unpacked, unpackedTok, test); err != nil {
		return t, err
	}
	if err := measure("encoder", own); err != nil {
		return t, err
	}
	b.p.line("a static embedding of the same size")
	table, err := staticEmbedding(ctx, teacher, tok, len(packed))
	if err != nil {
		return t, err
	}
	return t, measure("static", staticVectors(table, tok, test))
}

// vectorsOf returns the embeddings of texts.
func vectorsOf(ctx context.Context, m *model.TextModel, tok *tokenize.Tokenizer, texts []string) (eval.Vectors, error) {
	v := eval.Vectors{Dim: m.Config.Dim, Data: make([]float32, len(texts)*m.Config.Dim)}
	return v, hostgpu.NewTextEncoder(m, 0).Embed(ctx, v.Data, encodeAll(tok, texts, m.Config.MaxTokens))
}

// int8Vectors returns the embeddings of texts by the arithmetic of the sandbox:
// those of an image whose items and user tower are of the least size.
func int8Vectors(m *model.TextModel, tok *tokenize.Tokenizer, texts []string) (eval.Vectors, error) {
	v := eval.Vectors{Dim: m.Config.Dim}
	c := model.Config{Items: 1, EventTypes: 1, GapBuckets: 1, Dim: 8, Layers: 1, Heads: 1, FFN: 8, Window: 1}
	r, w := rand.New(rand.NewPCG(1, 1)), model.Weights{}
	for _, s := range c.Specs() {
		w[s.Name] = model.NewTensor(s.Shape...)
		for i := range w[s.Name].Data {
			w[s.Name].Data[i] = float32(r.NormFloat64())
		}
	}
	towers, err := model.New(c, w, nil)
	if err != nil {
		return v, err
	}
	image, err := quantize.Image(towers, [][]model.Event{{{}}}, &quantize.Text{Encoder: m, Tokenizer: tok, Tokens: min(m.Config.MaxTokens, layout.MaxTokens)}, nil)
	if err != nil {
		return v, err
	}
	q, err := q8.New(image)
	if err != nil {
		return v, err
	}
	for _, text := range texts {
		v.Data = append(v.Data, q.TextVector(tok.Encode(nil, text, q.Shape().Text.Tokens))...)
	}
	return v, nil
}

// staticEmbedding returns a vector for each token of the teacher, (V, D), with as
// many values as there are bytes.
func staticEmbedding(ctx context.Context, teacher *model.TextModel, tok *tokenize.Tokenizer, bytes int) (*model.Tensor, error) {
	all := make([]int32, tok.Size())
	for i := range all {
		all[i] = int32(i)
	}
	dim := min(max(bytes/len(all), 1), teacher.Config.Dim)
	table, err := hostgpu.TokenVectors(ctx, teacher, tok.Special(), all, dim)
	if err != nil {
		return nil, err
	}
	harmonic := 0.0
	for i := range all {
		harmonic += 1 / float64(i+2)
	}
	const a = 1e-3
	for i := range all {
		p := 1 / (float64(i+2) * harmonic)
		for j := range table.Row(i) {
			table.Row(i)[j] *= float32(a / (a + p))
		}
	}
	return table, nil
}

// staticVectors returns the mean of the vectors of each text's tokens, special
// ones left out.
func staticVectors(table *model.Tensor, tok *tokenize.Tokenizer, texts []string) eval.Vectors {
	v := eval.Vectors{Dim: table.Shape[1]}
	special := tok.Special()
	for _, text := range texts {
		sum := make([]float32, v.Dim)
		ids := slices.DeleteFunc(tok.Encode(nil, text, math.MaxInt32), func(id int32) bool { return id == special.Class || id == special.Separator })
		for _, id := range ids {
			for j, x := range table.Row(int(id)) {
				sum[j] += x
			}
		}
		v.Data = append(v.Data, sum...)
	}
	return v
}
