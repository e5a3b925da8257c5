package main

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/wisp-project/wisp/hostgpu"
	"github.com/wisp-project/wisp/internal/atomicfile"
	"github.com/wisp-project/wisp/internal/eval"
	"github.com/wisp-project/wisp/internal/layout"
	"github.com/wisp-project/wisp/internal/results"
	"github.com/wisp-project/wisp/internal/tokenize"
	"github.com/wisp-project/wisp/model"
	"github.com/wisp-project/wisp/quantize"
)

const encoderText = `
The built-in encoders, which wisp distil-encoder made of all-MiniLM-L6-v2 (make encoder), against
their teacher on 2,000 film titles of MovieTweetings with their years, as the file has them. These,
and whatever has the same letters and digits but for the year, were in nothing that they learnt
from; the titles that training stopped by are others.

- overlap10: the share of the ten titles nearest to a title by the teacher that are among its
  ten nearest by the student; mean over the titles, with a bootstrap interval.
- spearman: rank correlation of the cosines of all 1,999,000 pairs of titles.
- encoder is the packed file of built-in in the sandbox; encoder-fp32 the same weights, as they
  were rounded, in float32. encoder-nano and encoder-nano-fp32 are those of built-in-nano.
- minilm-int8: the teacher itself in the sandbox, with nothing but its weights and activations
  rounded.
- static: model2vec's recipe (Tulkens and van Dongen 2024) on the same teacher: the teacher's
  embeddings of the single tokens of its whole vocabulary, cut to their principal directions,
  each weighted by a/(a+p) where p is about the token's frequency (Zipf over the
  vocabulary's order, a = 0.001); a text is the mean of its tokens. It has as many int8 values as
  the packed built-in has bytes.
`

// encoder measures the built-in encoders.
func (b *bench) encoder(ctx context.Context) (results.Topic, error) {
	t := results.Topic{Title: "The distilled text encoder", Text: encoderText}
	films := filepath.Join(b.shared, "data", "movietweetings", "movies.dat")
	folder := filepath.Join(b.shared, "models", "all-MiniLM-L6-v2")
	for _, path := range []string{films, folder} {
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
	// For whoever compares other software, see bench/recipes.go.
	list := filepath.Join(b.work, "encoder", "titles.txt")
	if err := os.MkdirAll(filepath.Dir(list), 0o755); err != nil {
		return t, err
	}
	if err := atomicfile.Write(list, []byte(strings.Join(test, "\n")+"\n")); err != nil {
		return t, err
	}
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
			within(results.Record{Name: "quality." + name + ".overlap10", N: len(test)}, i),
			results.Record{Name: "quality." + name + ".spearman", Value: l.Spearman, N: len(test)})
		return nil
	}

	for _, e := range []struct{ name, builtin string }{{"encoder", quantize.BuiltinMicro}, {"encoder-nano", quantize.BuiltinNano}} {
		t.Records = append(t.Records, results.Record{Name: "size." + e.name + ".bytes", Value: float64(quantize.BuiltinBytes(e.builtin)), Unit: "bytes", Note: "with its tokenizer, compressed"})
		smallTok, small, err := loadEncoder(e.builtin)
		if err != nil {
			return t, err
		}
		own, err := vectorsOf(ctx, small, smallTok, test)
		if err != nil {
			return t, err
		}
		if err := measure(e.name+"-fp32", own); err != nil {
			return t, err
		}
		b.p.line("%s in int8", e.builtin)
		if own, err = sandboxVectors(ctx, small, smallTok, test); err != nil {
			return t, err
		}
		if err := measure(e.name, own); err != nil {
			return t, err
		}
	}
	b.p.line("their teacher in int8")
	own, err := sandboxVectors(ctx, teacher, tok, test)
	if err != nil {
		return t, err
	}
	if err := measure("minilm-int8", own); err != nil {
		return t, err
	}
	packed, err := quantize.PackText(teacher, tok, 0)
	if err != nil {
		return t, err
	}
	t.Records = append(t.Records, results.Record{Name: "size.minilm-int8.bytes", Value: float64(len(packed)), Unit: "bytes", Note: "with its tokenizer, compressed"})
	b.p.line("a static embedding of the same size")
	table, err := staticEmbedding(ctx, teacher, tok, quantize.BuiltinBytes(quantize.BuiltinMicro))
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

// sandboxVectors returns the embeddings of texts by the guest.
func sandboxVectors(ctx context.Context, m *model.TextModel, tok *tokenize.Tokenizer, texts []string) (v eval.Vectors, err error) {
	v.Dim = m.Config.Dim
	g, err := openText(ctx, quantize.Text{Encoder: m, Tokenizer: tok})
	if err != nil {
		return v, err
	}
	defer func() { err = errors.Join(err, g.Close(ctx)) }()
	for _, text := range texts {
		a, err := g.Answer(ctx, layout.Request{Kind: layout.KindEmbed, Text: text})
		if err != nil {
			return v, err
		}
		v.Data = append(v.Data, a.Vector...)
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
