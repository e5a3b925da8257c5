package quantize_test

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/wisp-project/wisp/edge"
	"github.com/wisp-project/wisp/internal/layout"
	"github.com/wisp-project/wisp/internal/q8"
	"github.com/wisp-project/wisp/internal/tokenize"
	"github.com/wisp-project/wisp/model"
	"github.com/wisp-project/wisp/quantize"
	"github.com/wisp-project/wisp/wasm"
)

// textEncoder returns a small encoder with weights in the ranges of training and
// a tokenizer that knows letters and a few words.
func textEncoder(t testing.TB, change func(*model.TextConfig)) (*model.TextModel, *tokenize.Tokenizer) {
	t.Helper()
	vocab := []string{"[PAD]", "[UNK]", "[CLS]", "[SEP]", "item", "title"}
	for c := 'a'; c <= 'z'; c++ {
		vocab = append(vocab, string(c), "##"+string(c))
	}
	for c := '0'; c <= '9'; c++ {
		vocab = append(vocab, string(c), "##"+string(c))
	}
	tokenizer, err := tokenize.New(vocab, tokenize.Options{})
	if err != nil {
		t.Fatal(err)
	}
	c := model.TextConfig{
		Vocabulary: len(vocab) + 3, Positions: 40, MaxTokens: 30, Types: 2, Dim: 36, Layers: 3, Heads: 3, FFN: 70,
		NormEpsilon: 1e-12, Pooling: model.PoolMean, Normalise: true,
	}
	if change != nil {
		change(&c)
	}
	rng := rand.New(rand.NewPCG(3, 0x7e))
	w := model.Weights{}
	for _, spec := range c.Specs() {
		x := model.NewTensor(spec.Shape...)
		mean, deviation := 0.0, 0.1
		switch {
		case strings.HasSuffix(spec.Name, "norm.weight"):
			mean = 1
		case strings.HasPrefix(spec.Name, "text.embed."):
			deviation = 0.3
		case len(spec.Shape) == 2:
			deviation = math.Sqrt(2 / float64(spec.Shape[0]+spec.Shape[1]))
		}
		for i := range x.Data {
			x.Data[i] = float32(mean + deviation*rng.NormFloat64())
		}
		w[spec.Name] = x
	}
	m, err := model.NewText(c, w)
	if err != nil {
		t.Fatal(err)
	}
	return m, tokenizer
}

func normal(rng *rand.Rand, deviation float64, shape ...int) *model.Tensor {
	x := model.NewTensor(shape...)
	for i := range x.Data {
		x.Data[i] = float32(deviation * rng.NormFloat64())
	}
	return x
}

var texts = []string{"", "a", "Item 7", "the title of an item, and more of it", strings.Repeat("long ", 40)}

// TestTextIsCloseToTheModel compares vectors, item vectors and described users
// with those of float32.
func TestTextIsCloseToTheModel(t *testing.T) {
	for name, change := range map[string]func(*model.TextConfig){
		"mean":          nil,
		"first token":   func(c *model.TextConfig) { c.Pooling = model.PoolCLS },
		"any length":    func(c *model.TextConfig) { c.Normalise = false },
		"one head":      func(c *model.TextConfig) { c.Heads = 1 },
		"one layer":     func(c *model.TextConfig) { c.Layers = 1 },
		"odd width":     func(c *model.TextConfig) { c.Dim, c.FFN = 33, 71 },
		"shorter texts": func(c *model.TextConfig) { c.MaxTokens = 9 },
	} {
		encoder, tokenizer := textEncoder(t, change)
		c := encoder.Config
		m := random(t, small, 5)
		rng := rand.New(rand.NewPCG(9, 9))
		m.Config.Descriptions = c.Dim
		m.Weights[model.UserDescription] = normal(rng, 0.5, small.Dim, c.Dim)
		items := normal(rng, 1, small.Dim, c.Dim)
		histories := calibration(m.Config, 8, 4)
		b, err := quantize.Image(m, histories, &quantize.Text{
			Encoder: encoder, Tokenizer: tokenizer, ItemMap: items, UserMap: m.Weights[model.UserDescription],
		}, nil)
		if err != nil {
			t.Fatal(err)
		}
		image, err := layout.Open(b)
		if err != nil {
			t.Fatal(err)
		}
		q, err := q8.New(b)
		if err != nil {
			t.Fatal(err)
		}
		step := 1 / image.Params().UserInv
		for _, text := range texts {
			want, err := encoder.Embed(tokenizer.Encode(nil, text, c.MaxTokens))
			if err != nil {
				t.Fatal(err)
			}
			got := q.Run(layout.Request{Kind: layout.KindEmbed, Flags: layout.FlagItemRow, Text: text})
			if e := relative(got.Vector, want); e > 0.05 {
				t.Errorf("%s: %.20q: the vector is off by %.3f", name, text, e)
			}
			row, item := make([]float32, small.Dim), make([]float32, small.Dim)
			for d := range item {
				row[d] = float32(got.Row[d]) * got.Scale / step
				for j, v := range want {
					item[d] += items.Row(d)[j] * v
				}
			}
			if e := relative(row, item); e > 0.06 {
				t.Errorf("%s: %.20q: the item vector is off by %.3f", name, text, e)
			}
			if text == "" {
				continue // no description
			}
			h := histories[3]
			u, err := m.User(h, nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := m.Describe(u, want); err != nil {
				t.Fatal(err)
			}
			request := layout.Request{Kind: layout.KindScore, History: quantize.LayoutEvents(h[max(0, len(h)-m.Config.Reach()):]), Text: text}
			scores := make([]float32, small.Items)
			for i := range scores {
				request.List = append(request.List, uint32(i))
				for d, v := range m.ItemVectors.Row(i) {
					scores[i] += v * u[d]
				}
			}
			answer := q.Run(request)
			described := make([]float32, small.Items)
			for i, hit := range answer.Hits {
				described[i] = hit.Score
			}
			if e := relative(described, scores); e > 0.06 {
				t.Errorf("%s: %.20q: the scores of a described user are off by %.3f", name, text, e)
			}
		}
	}
}

// TestDescriptionsSetTheStep holds the step of the user vector to what calibration
// saw of described users, and to what any could come to where it saw none.
func TestDescriptionsSetTheStep(t *testing.T) {
	encoder, tokenizer := textEncoder(t, nil)
	m := random(t, small, 5)
	m.Config.Descriptions = encoder.Config.Dim
	w := normal(rand.New(rand.NewPCG(9, 9)), 0.5, small.Dim, encoder.Config.Dim)
	m.Weights[model.UserDescription] = w
	histories := calibration(m.Config, 8, 4)
	var descriptions [][]float32
	var top float64
	for i, h := range histories {
		v, err := encoder.Embed(tokenizer.Encode(nil, texts[i%len(texts)], encoder.Config.MaxTokens))
		if err != nil {
			t.Fatal(err)
		}
		descriptions = append(descriptions, v)
		states, err := m.States(h, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, u := range append(states, make([]float32, small.Dim), slices.Clone(m.Weights[model.UserCold].Data)) {
			if err := m.Describe(u, v); err != nil {
				t.Fatal(err)
			}
			for _, x := range u {
				top = max(top, math.Abs(float64(x)))
			}
		}
	}
	steps := map[string]float64{}
	for name, d := range map[string][][]float32{"calibrated": descriptions, "bounded": nil} {
		b, err := quantize.Image(m, histories, &quantize.Text{Encoder: encoder, Tokenizer: tokenizer, UserMap: w, Descriptions: d}, nil)
		if err != nil {
			t.Fatal(err)
		}
		image, err := layout.Open(b)
		if err != nil {
			t.Fatal(err)
		}
		steps[name] = float64(1 / image.Params().UserInv)
	}
	if got := steps["calibrated"] * layout.UserMax; math.Abs(got-top) > 1e-3*top {
		t.Errorf("the largest magnitude is %v, the step leaves room for %v", top, got)
	}
	if steps["bounded"] <= steps["calibrated"] {
		t.Errorf("the step for any description is %v, that for known ones %v", steps["bounded"], steps["calibrated"])
	}
}

// TestBuildWithText runs an artefact with a text encoder in a sandbox: an item is
// the first hit for its own title.
func TestBuildWithText(t *testing.T) {
	encoder, tokenizer := textEncoder(t, nil)
	m := random(t, small, 6)
	ds := catalogue(m.Config)
	vectors := model.NewTensor(small.Items, encoder.Config.Dim)
	for i, item := range ds.Items {
		v, err := encoder.Embed(tokenizer.Encode(nil, item.Title, encoder.Config.MaxTokens))
		if err != nil {
			t.Fatal(err)
		}
		copy(vectors.Row(i), v)
	}
	a := build(t, m, ds, calibration(m.Config, 8, 1), quantize.BuildOptions{
		Kernel: wasm.Kernel, Text: &quantize.Text{Encoder: encoder, Tokenizer: tokenizer, ItemTexts: vectors},
	})
	var names []string
	for _, s := range a.Segments {
		names = append(names, s.Name)
	}
	if got := strings.Join(names, " "); got != "header tokenizer text user items texts labels" {
		t.Errorf("segments %s", got)
	}
	r, err := edge.New(t.Context(), a, edge.Options{Sandboxes: 1, AllowUnsigned: true})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close(t.Context()) //nolint:errcheck // nothing is in progress
	for _, i := range []int{0, 11, small.Items - 1} {
		got, err := r.Search(t.Context(), edge.SearchRequest{Text: ds.Items[i].Title, K: 3})
		if err != nil {
			t.Fatal(err)
		}
		if best := got.Items[0]; best.Title != ds.Items[i].Title || best.Score < 0.98 || best.Score > 1.001 {
			t.Errorf("%q finds %+v", ds.Items[i].Title, got.Items)
		}
	}
}

func TestTextRefuses(t *testing.T) {
	encoder, tokenizer := textEncoder(t, nil)
	for name, spoil := range map[string]func(*quantize.Text){
		"no encoder":       func(x *quantize.Text) { x.Encoder = nil },
		"no tokenizer":     func(x *quantize.Text) { x.Tokenizer = nil },
		"small vocabulary": func(x *quantize.Text) { x.Encoder, _ = textEncoder(t, func(c *model.TextConfig) { c.Vocabulary = 9 }) },
		"too many tokens":  func(x *quantize.Text) { x.Tokens = 41 },
		"too few tokens":   func(x *quantize.Text) { x.Tokens = 1 },
		"narrow item map":  func(x *quantize.Text) { x.ItemMap = model.NewTensor(4, 35) },
		"user map":         func(x *quantize.Text) { x.UserMap = model.NewTensor(4, 37) },
		"item texts":       func(x *quantize.Text) { x.ItemTexts = model.NewTensor(36) },
	} {
		x := quantize.Text{Encoder: encoder, Tokenizer: tokenizer}
		spoil(&x)
		if _, _, err := quantize.TextParams(x); !errors.Is(err, quantize.ErrModel) {
			t.Errorf("%s: %v, want ErrModel", name, err)
		}
	}
}
