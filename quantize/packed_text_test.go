package quantize_test

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/wisp-project/wisp/internal/tokenize"
	"github.com/wisp-project/wisp/model"
	"github.com/wisp-project/wisp/quantize"
)

// packable returns an encoder with weights from a normal distribution.
func packable(t *testing.T) (*model.TextModel, *tokenize.Tokenizer) {
	t.Helper()
	tok, err := tokenize.New([]string{"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "red", "lamp", "##s", "é"}, tokenize.Options{Cased: true})
	if err != nil {
		t.Fatal(err)
	}
	c := model.TextConfig{
		Vocabulary: 4096, Positions: 9, MaxTokens: 7, Types: 2, Dim: 64, Layers: 2, Heads: 2, FFN: 96,
		NormEpsilon: 1e-12, Pooling: model.PoolMean, Normalise: true,
	}
	r := rand.New(rand.NewPCG(5, 6))
	w := model.Weights{}
	for _, s := range c.Specs() {
		w[s.Name] = model.NewTensor(s.Shape...)
		for i := range w[s.Name].Data {
			w[s.Name].Data[i] = float32(r.NormFloat64())
		}
	}
	m, err := model.NewText(c, w)
	if err != nil {
		t.Fatal(err)
	}
	return m, tok
}

func TestPackText(t *testing.T) {
	m, tok := packable(t)
	var sizes []int
	for _, levels := range []int{127, 7} {
		b, err := quantize.PackText(m, tok, levels)
		if err != nil {
			t.Fatal(err)
		}
		sizes = append(sizes, len(b))
		got, gotTok, err := quantize.UnpackText(b)
		if err != nil {
			t.Fatal(err)
		}
		if got.Config != m.Config {
			t.Errorf("configuration %+v, want %+v", got.Config, m.Config)
		}
		for _, text := range []string{"red lamps", "Red é"} {
			if a, b := gotTok.Encode(nil, text, 9), tok.Encode(nil, text, 9); !slices.Equal(a, b) {
				t.Errorf("%q is read as %v, was %v", text, a, b)
			}
		}
		for _, s := range m.Config.Specs() {
			steps := 127.0
			if s.Name == model.TextWord {
				steps = float64(levels)
			}
			for i, v := range m.Weights[s.Name].Data {
				bound := 0.0 // what is no matrix is exact
				if len(s.Shape) == 2 {
					var top float64
					for _, x := range m.Weights[s.Name].Row(i / s.Shape[1]) {
						top = max(top, math.Abs(float64(x)))
					}
					bound = top/steps/2 + 1e-6
				}
				if e := math.Abs(float64(got.Weights[s.Name].Data[i] - v)); e > bound {
					t.Fatalf("%s: value %d is off by %v, at most %v may be lost", s.Name, i, e, bound)
				}
			}
		}
		again, err := quantize.PackText(got, gotTok, levels)
		if err != nil || !slices.Equal(again, b) {
			t.Errorf("levels %d: packed again it is another (%v)", levels, err)
		}
	}
	if sizes[1] >= sizes[0]-4096*64/3 {
		t.Errorf("%d bytes with words in 15 levels, %d with 255", sizes[1], sizes[0])
	}
}

func TestUnpackTextRefuses(t *testing.T) {
	m, tok := packable(t)
	good, err := quantize.PackText(m, tok, 0)
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{"nothing": nil, "text": []byte("hello"), "half": good[:len(good)/2], "two": slices.Concat(good, good)} {
		if _, _, err := quantize.UnpackText(b); !errors.Is(err, quantize.ErrModel) {
			t.Errorf("%s: error %v, want ErrModel", name, err)
		}
	}
	if _, err := quantize.PackText(m, tok, 128); !errors.Is(err, quantize.ErrModel) {
		t.Errorf("128 levels: error %v, want ErrModel", err)
	}
	m.Weights[model.TextWord].Data[0] = float32(math.NaN())
	if _, err := quantize.PackText(m, tok, 0); !errors.Is(err, quantize.ErrModel) {
		t.Errorf("no number: error %v, want ErrModel", err)
	}
}
