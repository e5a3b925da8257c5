package model_test

import (
	"encoding/json"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/wisp-project/wisp/model"
)

// tinyText is a small text encoder.
func tinyText() model.TextConfig {
	return model.TextConfig{
		Vocabulary: 11, Positions: 9, MaxTokens: 7, Types: 2, Dim: 8, Layers: 2, Heads: 2, FFN: 12,
		NormEpsilon: 1e-12, Pooling: model.PoolMean, Normalise: true,
	}
}

// randomText returns weights drawn from a normal distribution.
func randomText(c model.TextConfig, seed uint64) model.Weights {
	r := rand.New(rand.NewPCG(seed, 2))
	w := model.Weights{}
	for _, s := range c.Specs() {
		t := model.NewTensor(s.Shape...)
		for i := range t.Data {
			t.Data[i] = float32(r.NormFloat64()) * 0.5
		}
		w[s.Name] = t
	}
	return w
}

// A text encoder of width 2 that can be worked by hand: the norm of (a, b) is
// (1, -1) for a > b and (-1, 1) for a < b.
func TestTextByHand(t *testing.T) {
	c := model.TextConfig{
		Vocabulary: 2, Positions: 2, MaxTokens: 2, Types: 1, Dim: 2, Layers: 1, Heads: 1, FFN: 1,
		NormEpsilon: 1e-12, Pooling: model.PoolMean,
	}
	w := model.Weights{}
	for _, s := range c.Specs() {
		w[s.Name] = model.NewTensor(s.Shape...)
	}
	set := func(name string, v ...float32) { copy(w[name].Data, v) }
	set(model.TextWord, 2, 0, 0, 1)
	set(model.TextPosition, 0, 0, 0, 5)
	set(model.TextType, 1, 0)
	set(model.TextNormGain, 1, 1)
	// Queries are zero, so that attention is the mean over the tokens.
	set(model.TextLayerName(0, "attn.v.weight"), -4, 0, 0, -4)
	set(model.TextLayerName(0, "attn.o.weight"), 1, 0, 0, 1)
	set(model.TextLayerName(0, "attn.o.bias"), 0, 1)
	set(model.TextLayerName(0, "attn.norm.weight"), 1, 1)
	set(model.TextLayerName(0, "ffn.up.weight"), 1, 0)
	set(model.TextLayerName(0, "ffn.down.weight"), 10, 0)
	set(model.TextLayerName(0, "ffn.norm.weight"), 3, 4)
	set(model.TextLayerName(0, "ffn.norm.bias"), 1, 1)
	m, err := model.NewText(c, w)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name    string
		ids     []int32
		pooling model.Pooling
		unit    bool
		want    [2]float64
	}{
		// (3, 0) → (1, -1); attention adds (-4, 4) + (0, 1): (-3, 4) → (-1, 1);
		// gelu(-1) = -0.159 adds (-1.59, 0): → (-1, 1) → (-3+1, 4+1).
		{"one token", []int32{0}, model.PoolMean, false, [2]float64{-2, 5}},
		{"length 1", []int32{0}, model.PoolMean, true, [2]float64{-2 / math.Sqrt(29), 5 / math.Sqrt(29)}},
		// Token 1 is (1, 6) → (-1, 1), and the values cancel out; token 0 stays
		// (1, 0) → (1, -1), gelu(1) = 0.841 adds (8.41, 0): → (1, -1) → (3+1, -4+1).
		// Token 1 ends as the one token did.
		{"two tokens", []int32{0, 1}, model.PoolMean, false, [2]float64{1, 1}},
		{"first of two", []int32{0, 1}, model.PoolCLS, false, [2]float64{4, -3}},
	} {
		m.Config.Pooling, m.Config.Normalise = test.pooling, test.unit
		got, err := m.Embed(test.ids)
		if err != nil {
			t.Fatal(err)
		}
		for d, v := range test.want {
			if math.Abs(float64(got[d])-v) > 1e-5 {
				t.Errorf("%s: %v, want %v", test.name, got, test.want)
				break
			}
		}
	}
}

func TestTextRefusesTokens(t *testing.T) {
	m, err := model.NewText(tinyText(), randomText(tinyText(), 1))
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		ids  []int32
		says string
	}{
		"none":       {nil, "0 tokens"},
		"too many":   {make([]int32, 10), "takes 1 to 9"},
		"negative":   {[]int32{1, -1}, "token 1 is -1"},
		"vocabulary": {[]int32{11}, "vocabulary of 11"},
	} {
		if _, err := m.Embed(test.ids); !errors.Is(err, model.ErrInput) || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: error %v, want ErrInput that says %q", name, err, test.says)
		}
	}
}

func TestTextConfigRefuses(t *testing.T) {
	for says, change := range map[string]func(*model.TextConfig){
		"vocabulary":   func(c *model.TextConfig) { c.Vocabulary = 0 },
		"positions":    func(c *model.TextConfig) { c.Positions = -1 },
		"max_tokens":   func(c *model.TextConfig) { c.MaxTokens = c.Positions + 1 },
		"types":        func(c *model.TextConfig) { c.Types = 0 },
		"dim":          func(c *model.TextConfig) { c.Dim = 1 << 20 },
		"layers":       func(c *model.TextConfig) { c.Layers = 0 },
		"heads":        func(c *model.TextConfig) { c.Heads = 3 },
		"ffn":          func(c *model.TextConfig) { c.FFN = 0 },
		"norm_epsilon": func(c *model.TextConfig) { c.NormEpsilon = math.NaN() },
		"pooling":      func(c *model.TextConfig) { c.Pooling = "max" },
	} {
		c := tinyText()
		change(&c)
		if _, err := model.NewText(c, model.Weights{}); !errors.Is(err, model.ErrConfig) || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: error %v, want ErrConfig that names it", says, err)
		}
	}
	if err := tinyText().Validate(); err != nil {
		t.Error(err)
	}
}

// The plain forward pass against vectors that Hugging Face made of the same
// texts; it is slow, so of short ones only.
func TestTextAgainstReference(t *testing.T) {
	const shared = "../../shared"
	if testing.Short() {
		t.Skip("loads MiniLM")
	}
	if _, err := os.Stat(shared); err != nil {
		t.Skipf("no reference vectors: %v", err)
	}
	m, err := model.LoadText(filepath.Join(shared, "models/all-MiniLM-L6-v2"))
	if err != nil {
		t.Fatal(err)
	}
	want := model.TextConfig{
		Vocabulary: 30522, Positions: 512, MaxTokens: 256, Types: 2, Dim: 384, Layers: 6, Heads: 12, FFN: 1536,
		NormEpsilon: 1e-12, Pooling: model.PoolMean, Normalise: true,
	}
	if m.Config != want {
		t.Errorf("read %+v, want %+v", m.Config, want)
	}
	ids := map[string][]int32{}
	readLines(t, filepath.Join(shared, "reference/tokens.jsonl"), func(line struct {
		Text string  `json:"text"`
		IDs  []int32 `json:"ids"`
	},
	) {
		ids[line.Text] = line.IDs
	})
	compared := 0
	readLines(t, filepath.Join(shared, "reference/embeddings.jsonl"), func(line struct {
		Text      string    `json:"text"`
		Embedding []float32 `json:"embedding"`
	},
	) {
		if n := len(ids[line.Text]); n < 2 || n > 12 || compared == 5 {
			return
		}
		compared++
		got, err := m.Embed(ids[line.Text])
		if err != nil {
			t.Fatal(err)
		}
		for d, v := range line.Embedding {
			if math.Abs(float64(got[d]-v)) > 1e-4 {
				t.Fatalf("%q: value %d is %v, want %v", line.Text, d, got[d], v)
			}
		}
	})
	if compared < 5 {
		t.Errorf("compared %d texts, want 5", compared)
	}
}

// readLines decodes each line of a file and hands it to f.
func readLines[T any](t *testing.T, path string, f func(T)) {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close() //nolint:errcheck // nothing was written
	for d := json.NewDecoder(file); d.More(); {
		var line T
		if err := d.Decode(&line); err != nil {
			t.Fatal(err)
		}
		f(line)
	}
}
