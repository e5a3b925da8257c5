package q8_test

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"

	"github.com/wisp-project/wisp/internal/layout"
	"github.com/wisp-project/wisp/internal/layout/layouttest"
	"github.com/wisp-project/wisp/internal/q8"
	"github.com/wisp-project/wisp/internal/tokenize"
	"github.com/wisp-project/wisp/model"
	"github.com/wisp-project/wisp/quantize"
)

const shared = "../../../shared"

// miniLM returns an image of few items and a real encoder, or skips the test.
func miniLM(t testing.TB) (*layout.Image, *q8.Model) {
	t.Helper()
	folder := filepath.Join(shared, "models/all-MiniLM-L6-v2")
	if _, err := os.Stat(folder); err != nil {
		t.Skip("no ../shared here: MiniLM was not quantized")
	}
	encoder, err := model.LoadText(folder)
	if err != nil {
		t.Fatal(err)
	}
	tokenizer, err := tokenize.Load(folder)
	if err != nil {
		t.Fatal(err)
	}
	s := layouttest.TextShapes()[0]
	s.Text = layout.TextShape{}
	p := layouttest.Params(s, 1)
	r := rand.New(rand.NewPCG(1, 5))
	normal := func(rows int) *model.Tensor {
		w := model.NewTensor(rows, encoder.Config.Dim)
		for i := range w.Data {
			w.Data[i] = float32(r.NormFloat64())
		}
		return w
	}
	p.Shape.Text, p.Text, err = quantize.TextParams(quantize.Text{
		Encoder: encoder, Tokenizer: tokenizer, ItemMap: normal(s.Dim), UserMap: normal(s.Dim), ItemTexts: normal(s.Items),
	})
	if err != nil {
		t.Fatal(err)
	}
	return open(t, p)
}

// TestMiniLM quantizes a real encoder. Its vectors must have a cosine of at least
// 0.99 to those of float32, which another program made, for each text; and the
// guest must give the same bits.
func TestMiniLM(t *testing.T) {
	if testing.Short() {
		t.Skip("it runs a real encoder in plain Go")
	}
	image, m := miniLM(t)
	g := newGuest(t, wazero.NewRuntimeConfigCompiler(), image)
	file, err := os.Open(filepath.Join(shared, "reference/embeddings.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close() //nolint:errcheck // nothing was written
	lowest, sum, n := 1.0, 0.0, 0
	for d := json.NewDecoder(file); d.More(); n++ {
		var line struct {
			Text      string    `json:"text"`
			Embedding []float32 `json:"embedding"`
		}
		if err := d.Decode(&line); err != nil {
			t.Fatal(err)
		}
		request := layout.Request{Kind: layout.KindEmbed, Text: line.Text}
		b := g.answer(t, request.Append(nil))
		a, err := layout.ParseAnswer(b, request.AnswerLimits(image.Shape), nil)
		if err != nil || a.Status != layout.StatusOK {
			t.Fatalf("%q: status %d, %v", line.Text, a.Status, err)
		}
		c := cosine(a.Vector, line.Embedding)
		if c < 0.99 {
			t.Errorf("%q: cosine to float32 %.4f, want at least 0.99", line.Text, c)
		}
		lowest, sum = min(lowest, c), sum+c
		// The definition in plain Go takes its time.
		if n%8 == 0 {
			same(t, g, m, []layout.Request{
				{Kind: layout.KindEmbed, Flags: layout.FlagItemRow, Text: line.Text},
			})
		}
		if n%32 == 0 {
			same(t, g, m, []layout.Request{
				{Kind: layout.KindSearch, K: 3, Text: line.Text},
				{Kind: layout.KindRecommend, K: 3, History: []layout.Event{{Item: 1}}, Text: line.Text},
			})
		}
	}
	t.Logf("%d texts: cosine to float32 at least %.4f, mean %.4f", n, lowest, sum/float64(n))
	if n < 100 {
		t.Errorf("%d texts compared, want at least 100", n)
	}
}

// BenchmarkMiniLM embeds a text of 32 tokens.
func BenchmarkMiniLM(b *testing.B) {
	image, _ := miniLM(b)
	g := newGuest(b, wazero.NewRuntimeConfigCompiler(), image)
	request := (&layout.Request{Kind: layout.KindEmbed, Text: strings.Repeat("a rainy night in the city ", 5)}).Append(nil)
	for b.Loop() {
		g.answer(b, request)
	}
}

func cosine(a, b []float32) float64 {
	var ab, aa, bb float64
	for i := range a {
		x, y := float64(a[i]), float64(b[i])
		ab, aa, bb = ab+x*y, aa+x*x, bb+y*y
	}
	return ab / math.Sqrt(aa*bb)
}
