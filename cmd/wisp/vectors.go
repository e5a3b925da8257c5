package main

import (
	"context"
	"fmt"
	"os"
	"slices"

	"github.com/wisp-project/wisp/hostgpu"
	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/internal/tokenize"
	"github.com/wisp-project/wisp/model"
	"github.com/wisp-project/wisp/quantize"
)

// defaultTFIDF is the width of TF-IDF vectors unless asked otherwise.
const defaultTFIDF = 64

// givenVectors says which vectors the towers are given beside ids and events.
type givenVectors struct {
	TFIDF        int    `json:"tfidf"`                  // width of the items' words as TF-IDF, reduced; 0 for none
	Encoder      string `json:"encoder,omitempty"`      // folder of a pretrained text encoder, empty for none
	Descriptions bool   `json:"descriptions,omitempty"` // of the users, by the encoder or else as TF-IDF
	Tuned        bool   `json:"tuned,omitempty"`        // the encoder of the items is trained together with the towers
}

// make returns the vectors of the items and users of ds, and the digest of the
// encoder that made them. What encoders have made of items is in read, by digest, and is
// added to it; read may be nil.
func (v givenVectors) make(ctx context.Context, ds *data.Dataset, read map[string]*model.Tensor, p *progress) (given hostgpu.Vectors, digest string, err error) {
	if v.TFIDF != 0 {
		if given.Items, err = tfidf(ds.Items, v.TFIDF); err != nil {
			return given, "", err
		}
	}
	var tok *tokenize.Tokenizer
	var encoder *model.TextModel
	if v.Encoder != "" {
		if tok, encoder, err = loadEncoder(v.Encoder); err != nil {
			return given, "", err
		}
		digest = encoderDigest(tok, encoder, ds)
		x := read[digest]
		if x == nil {
			if x, err = embed(ctx, tok, encoder, "items", len(ds.Items), itemTexts(ds), p); err != nil {
				return given, "", err
			}
			if read != nil {
				read[digest] = x
			}
		}
		given.Items = beside(given.Items, x)
	}
	if v.Descriptions {
		given.Users, err = userVectors(ctx, tok, encoder, ds, p)
	}
	return given, digest, err
}

// itemTexts returns what an encoder reads of each item of ds.
func itemTexts(ds *data.Dataset) func(i int) string {
	return func(i int) string { return data.ItemText(&ds.Items[i]) }
}

// encoderDigest identifies a text encoder, wherever it lies, by what it computes
// with and what it reads of the items of ds.
func encoderDigest(tok *tokenize.Tokenizer, m *model.TextModel, ds *data.Dataset) string {
	text, ids := itemTexts(ds), make([][]int32, len(ds.Items))
	for i := range ids {
		ids[i] = tok.Encode(nil, text(i), m.Config.MaxTokens)
	}
	return digestOf(m, ids)
}

// userVectors returns the vectors of the users' descriptions and attributes, by their
// words where there is no encoder.
func userVectors(ctx context.Context, tok *tokenize.Tokenizer, encoder *model.TextModel, ds *data.Dataset, p *progress) (*model.Tensor, error) {
	if !slices.ContainsFunc(ds.Users, func(u data.User) bool { return data.UserText(&u) != "" }) {
		return nil, fmt.Errorf("no user of %s has a description or attributes; prepare the data with --users, or train without --descriptions", ds.Name)
	}
	if encoder != nil {
		return embed(ctx, tok, encoder, "users", len(ds.Users), func(u int) string { return data.UserText(&ds.Users[u]) }, p)
	}
	texts := make([]data.Item, len(ds.Users)) // as far as words go, a user is like an item
	for u, user := range ds.Users {
		texts[u] = data.Item{Text: user.Description, Attributes: user.Attributes}
	}
	return tfidf(texts, defaultTFIDF)
}

// tfidf returns the words of items as vectors, (len(items), width).
func tfidf(items []data.Item, width int) (*model.Tensor, error) {
	x, err := data.ItemVectors(items, width, 1)
	return &model.Tensor{Shape: []int{len(items), width}, Data: x}, err
}

// beside returns the rows of a and b one after the other; a may be nil.
func beside(a, b *model.Tensor) *model.Tensor {
	if a == nil {
		return b
	}
	both := model.NewTensor(a.Shape[0], a.Shape[1]+b.Shape[1])
	for i := range a.Shape[0] {
		copy(both.Row(i)[copy(both.Row(i), a.Row(i)):], b.Row(i))
	}
	return both
}

// builtinEncoder is the text encoder to take where nothing speaks for another, and
// orBuiltin what help says of those that wisp brings along.
const (
	builtinEncoder = quantize.BuiltinMicro
	orBuiltin      = ", " + quantize.BuiltinMicro + " or " + quantize.BuiltinNano
)

// loadEncoder reads a text encoder and its tokenizer, from a folder or one that is built
// in.
func loadEncoder(dir string) (*tokenize.Tokenizer, *model.TextModel, error) {
	if quantize.IsBuiltin(dir) {
		m, t, err := quantize.Builtin(dir)
		return t, m, err
	}
	t, err := tokenize.Load(dir)
	if err != nil {
		return nil, nil, err
	}
	m, err := model.LoadText(dir)
	if err != nil {
		return nil, nil, err
	}
	if err := t.CheckSize(m.Config.Vocabulary); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", dir, err)
	}
	return t, m, nil
}

// isEncoder says that out, if it is there, is the folder that the encoder lies in, which
// must be there unless it is built in.
func isEncoder(out, encoder string) (bool, error) {
	if quantize.IsBuiltin(encoder) {
		return false, nil
	}
	from, err := os.Stat(encoder)
	if err != nil {
		return false, err
	}
	to, err := os.Stat(out)
	return err == nil && os.SameFile(from, to), nil
}

// saveEncoder writes a text encoder to a folder, with the tokenizer of the one it was
// made from.
func saveEncoder(dir string, m *model.TextModel, from string) error {
	if quantize.IsBuiltin(from) {
		tok, _, err := loadEncoder(from)
		if err != nil {
			return err
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if err := tok.Save(dir); err != nil {
			return err
		}
		from = dir // the tokenizer is there already
	}
	return model.SaveText(dir, m, from)
}

// embed returns the embeddings by an encoder of n texts, (n, D), those of what is
// named. An empty text has a row of zeros.
func embed(ctx context.Context, t *tokenize.Tokenizer, m *model.TextModel, what string, n int, text func(i int) string, p *progress) (*model.Tensor, error) {
	e := hostgpu.NewTextEncoder(m, 0)
	vectors := model.NewTensor(n, e.Dim())
	const chunk = 256
	for lo := 0; lo < n; lo += chunk {
		p.stage("reading the texts of "+what, int64(lo), int64(n))
		hi := min(lo+chunk, n)
		texts := make([][]int32, hi-lo)
		for i := range texts {
			texts[i] = t.Encode(nil, text(lo+i), m.Config.MaxTokens)
		}
		if err := e.Embed(ctx, vectors.Data[lo*e.Dim():hi*e.Dim()], texts); err != nil {
			return nil, err
		}
		for i := lo; i < hi; i++ {
			if text(i) == "" {
				clear(vectors.Row(i))
			}
		}
	}
	return vectors, nil
}
