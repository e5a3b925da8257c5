package hostgpu_test

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/wisp-project/wisp/hostgpu"
	"github.com/wisp-project/wisp/internal/tokenize"
	"github.com/wisp-project/wisp/model"
)

func tinyTextModel(t *testing.T, seed uint64) *model.TextModel {
	t.Helper()
	c := model.TextConfig{
		Vocabulary: 17, Positions: 20, MaxTokens: 20, Types: 2, Dim: 12, Layers: 2, Heads: 3, FFN: 20,
		NormEpsilon: 1e-12, Pooling: model.PoolMean, Normalise: true,
	}
	r := rand.New(rand.NewPCG(seed, 3))
	w := model.Weights{}
	for _, s := range c.Specs() {
		w[s.Name] = &model.Tensor{Shape: s.Shape, Data: normal(r, len(model.NewTensor(s.Shape...).Data), 0.3)}
		if strings.HasSuffix(s.Name, "norm.weight") {
			for i := range w[s.Name].Data {
				w[s.Name].Data[i]++
			}
		}
	}
	m, err := model.NewText(c, w)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// randomTexts draws n texts of 1 to longest tokens.
func randomTexts(r *rand.Rand, c model.TextConfig, n, longest int) [][]int32 {
	texts := make([][]int32, n)
	for i := range texts {
		texts[i] = make([]int32, 1+r.IntN(longest))
		for j := range texts[i] {
			texts[i][j] = int32(r.IntN(c.Vocabulary))
		}
	}
	return texts
}

// near compares with an absolute tolerance.
func near(t *testing.T, what string, got, want []float32, tolerance float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d values, want %d", what, len(got), len(want))
	}
	for i, w := range want {
		if !(math.Abs(float64(got[i])-float64(w)) <= tolerance) {
			t.Fatalf("%s: value %d is %v, want %v", what, i, got[i], w)
		}
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

// The batched encoder gives what the plain forward pass does, whatever the
// batches are.
func TestTextEncoderEqualsPlain(t *testing.T) {
	for _, pooling := range []model.Pooling{model.PoolMean, model.PoolCLS} {
		for _, unit := range []bool{true, false} {
			m := tinyTextModel(t, 1)
			m.Config.Pooling, m.Config.Normalise = pooling, unit
			texts := randomTexts(rand.New(rand.NewPCG(2, 0)), m.Config, 23, m.Config.Positions)
			var want []float32
			for _, ids := range texts {
				y, err := m.Embed(ids)
				if err != nil {
					t.Fatal(err)
				}
				want = append(want, y...)
			}
			for _, tokens := range []int{0, 1, 50} {
				enc := hostgpu.NewTextEncoder(m, tokens)
				for range 2 { // the second time over used buffers
					got := make([]float32, len(want))
					if err := enc.Embed(t.Context(), got, texts); err != nil {
						t.Fatal(err)
					}
					near(t, "embeddings", got, want, 1e-5)
				}
			}
		}
	}
}

func TestTextEncoderRefuses(t *testing.T) {
	m := tinyTextModel(t, 1)
	enc := hostgpu.NewTextEncoder(m, 0)
	good := []int32{1, 2}
	for name, test := range map[string]struct {
		room  int
		texts [][]int32
	}{
		"room":       {11, [][]int32{good}},
		"empty":      {24, [][]int32{good, {}}},
		"vocabulary": {24, [][]int32{good, {17}}},
		"length":     {12, [][]int32{make([]int32, 21)}},
	} {
		if err := enc.Embed(t.Context(), make([]float32, test.room), test.texts); !errors.Is(err, model.ErrInput) {
			t.Errorf("%s: error %v, want ErrInput", name, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := enc.Embed(ctx, make([]float32, 12), [][]int32{good}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want that of the context", err)
	}
	if err := enc.Embed(t.Context(), nil, nil); err != nil {
		t.Errorf("no texts: %v", err)
	}
}

func newTextTrainer(t testing.TB, m *model.TextModel, opts hostgpu.TextTrainOptions) *hostgpu.TextTrainer {
	t.Helper()
	run, err := hostgpu.NewTextTrainer(m, opts)
	return opened(t, run, err)
}

// The gradients of the whole graph against differences of its loss, and its
// embeddings against those of the encoder.
func TestTextGraphGradients(t *testing.T) {
	for name, longest := range map[string]int{"alike": 8, "longer queries": 16} {
		t.Run(name, func(t *testing.T) { checkTextGraph(t, longest, 8) })
	}
}

// checkTextGraph takes queries and items of up to the given numbers of tokens.
func checkTextGraph(t *testing.T, long, short int) {
	m := tinyTextModel(t, 4)
	r := rand.New(rand.NewPCG(5, 0))
	queries, items := randomTexts(r, m.Config, 3, long), randomTexts(r, m.Config, 3, short)
	for len(queries[0]) < long {
		queries[0] = append(queries[0], int32(r.IntN(m.Config.Vocabulary)))
	}
	trainer := newTextTrainer(t, m, hostgpu.TextTrainOptions{Pairs: 4, Temperature: 0.5, Dropout: -1})
	loss := func() float64 {
		l, _, _, err := trainer.Gradients(queries, items)
		if err != nil {
			t.Fatal(err)
		}
		return float64(l)
	}
	_, grads, embeddings, err := trainer.Gradients(queries, items)
	if err != nil {
		t.Fatal(err)
	}
	want := make([]float32, 3*m.Config.Dim)
	if err := hostgpu.NewTextEncoder(m, 0).Embed(t.Context(), want, queries); err != nil {
		t.Fatal(err)
	}
	near(t, "embeddings of queries", embeddings[:len(want)], want, 1e-5)
	kept := map[string][]float32{}
	for name, g := range grads {
		kept[name] = slices.Clone(g)
	}
	for name, g := range kept {
		// A difference along the gradient sees all of its values at once: it is
		// the gradient's norm.
		norm := length(g)
		if strings.HasSuffix(name, "attn.k.bias") {
			// Adds the same to all scores of a row, which softmax takes away.
			if norm > 1e-5 {
				t.Errorf("%s: norm %v, want 0", name, norm)
			}
			continue
		}
		if got := slope(m.Weights[name].Data, g, 1e-2, loss); math.Abs(got-norm) > 0.02*norm+2e-4 {
			t.Errorf("%s: the loss changes by %v, by the gradient %v", name, got, norm)
		}
	}
}

// Steps bring the loss down, and the same seed gives the same losses again.
func TestTextTrainerLearns(t *testing.T) {
	run := func(seed uint64) (losses []float64) {
		m := tinyTextModel(t, 6)
		r := rand.New(rand.NewPCG(7, 0))
		queries, items := randomTexts(r, m.Config, 6, 12), randomTexts(r, m.Config, 6, 6)
		trainer := newTextTrainer(t, m, hostgpu.TextTrainOptions{Pairs: 6, Seed: seed})
		for range 80 {
			loss, err := trainer.Step(queries, items, 3e-3)
			if err != nil {
				t.Fatal(err)
			}
			losses = append(losses, loss)
		}
		return losses
	}
	losses := run(1)
	if first, last := losses[0], losses[len(losses)-1]; !(last < first/4) {
		t.Errorf("the loss went from %v to %v", first, last)
	}
	if !slices.Equal(run(1), losses) {
		t.Error("a second run with the same seed went another way")
	}
	if run(2)[0] == losses[0] {
		t.Error("another seed drew the same dropout")
	}
}

func TestTextTrainerRefuses(t *testing.T) {
	m := tinyTextModel(t, 1)
	for name, opts := range map[string]hostgpu.TextTrainOptions{
		"pairs":        {Pairs: -1},
		"temperature":  {Temperature: math.NaN()},
		"weight decay": {WeightDecay: 11},
		"clip norm":    {ClipNorm: math.NaN()},
		"dropout":      {Dropout: 1},
	} {
		if _, err := hostgpu.NewTextTrainer(m, opts); !errors.Is(err, hostgpu.ErrOptions) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: error %v, want ErrOptions that names it", name, err)
		}
	}
	trainer := newTextTrainer(t, m, hostgpu.TextTrainOptions{Pairs: 2})
	text := []int32{1}
	for name, test := range map[string]struct{ queries, items [][]int32 }{
		"none":            {},
		"too many":        {[][]int32{text, text, text}, [][]int32{text, text, text}},
		"unequal numbers": {[][]int32{text, text}, [][]int32{text}},
		"bad token":       {[][]int32{text, text}, [][]int32{text, {99}}},
	} {
		if _, err := trainer.Step(test.queries, test.items, 1e-3); !errors.Is(err, model.ErrInput) {
			t.Errorf("%s: error %v, want ErrInput", name, err)
		}
	}
	m.Weights[model.TextNormGain].Data[0] = float32(math.NaN())
	before := m.Weights[model.TextWord].Data[0]
	pairs := [][]int32{text, {2, 3}}
	if _, err := trainer.Step(pairs, pairs, 1e-3); !errors.Is(err, hostgpu.ErrDiverged) {
		t.Errorf("error %v, want ErrDiverged", err)
	}
	if m.Weights[model.TextWord].Data[0] != before {
		t.Error("a step that failed moved the weights")
	}
}

const shared = "../../shared"

// miniLM loads the real encoder.
func miniLM(t testing.TB) *model.TextModel {
	t.Helper()
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
	return m
}

// Embeddings of MiniLM, texts and all, against those of Hugging Face.
func TestTextEncoderAgainstReference(t *testing.T) {
	m := miniLM(t)
	tok, err := tokenize.Load(filepath.Join(shared, "models/all-MiniLM-L6-v2"))
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(filepath.Join(shared, "reference/embeddings.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // nothing was written
	var all [][]int32
	var want []float32
	for d := json.NewDecoder(f); d.More(); {
		var line struct {
			Text      string    `json:"text"`
			Embedding []float32 `json:"embedding"`
		}
		if err := d.Decode(&line); err != nil {
			t.Fatal(err)
		}
		all, want = append(all, tok.Encode(nil, line.Text, m.Config.MaxTokens)), append(want, line.Embedding...)
	}
	if len(all) < 100 {
		t.Fatalf("%d texts, want 100 or more", len(all))
	}
	got := make([]float32, len(want))
	if err := hostgpu.NewTextEncoder(m, 0).Embed(t.Context(), got, all); err != nil {
		t.Fatal(err)
	}
	near(t, "embeddings", got, want, 1e-4)
	dim, worst := m.Config.Dim, 1.0
	for lo := 0; lo < len(got); lo += dim {
		worst = min(worst, cosine(got[lo:lo+dim], want[lo:lo+dim]))
	}
	if worst < 0.99999 {
		t.Errorf("the least cosine is %v", worst)
	}
	t.Logf("the least cosine is 1-%.2g", 1-worst)
}

// reference reads tensors of 32-bit values from a safetensors file, those of
// type I32 too, which the model package does not read.
func reference(t *testing.T, path string) (floats map[string][]float32, ints map[string][]int32) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	n := binary.LittleEndian.Uint64(b)
	header := map[string]struct {
		Type    string `json:"dtype"`
		Offsets [2]int `json:"data_offsets"`
	}{}
	if err := json.Unmarshal(b[8:8+n], &header); err != nil {
		t.Fatal(err)
	}
	floats, ints = map[string][]float32{}, map[string][]int32{}
	for name, e := range header {
		for at := e.Offsets[0]; at < e.Offsets[1]; at += 4 {
			v := binary.LittleEndian.Uint32(b[8+int(n)+at:])
			if e.Type == "I32" {
				ints[name] = append(ints[name], int32(v))
			} else {
				floats[name] = append(floats[name], math.Float32frombits(v))
			}
		}
	}
	return floats, ints
}

// texts cuts rows of padded ids to the length that the mask says.
func texts(ids, mask []int32, length int) [][]int32 {
	var all [][]int32
	for lo := 0; lo < len(ids); lo += length {
		n := lo
		for n < lo+length && mask[n] == 1 {
			n++
		}
		all = append(all, ids[lo:n])
	}
	return all
}

// hfName translates our names to those of the reference.
var hfName = strings.NewReplacer(
	"text.embed.word", "embeddings.word_embeddings", "text.embed.position", "embeddings.position_embeddings",
	"text.embed.type", "embeddings.token_type_embeddings", "text.embed.norm", "embeddings.LayerNorm",
	"text.layer", "encoder.layer", "attn.q", "attention.self.query", "attn.k", "attention.self.key", "attn.v", "attention.self.value",
	"attn.o", "attention.output.dense", "attn.norm", "attention.output.LayerNorm",
	"ffn.up", "intermediate.dense", "ffn.down", "output.dense", "ffn.norm", "output.LayerNorm",
)

// Loss, embeddings and gradients of MiniLM against PyTorch's.
func TestTextGraphAgainstReference(t *testing.T) {
	eachDevice(t, againstReference)
}

func againstReference(t *testing.T, d *hostgpu.Device) {
	m := miniLM(t)
	text, err := os.ReadFile(filepath.Join(shared, "reference/minilm-contrastive.json"))
	if err != nil {
		t.Fatal(err)
	}
	var want struct {
		Loss        float64            `json:"loss"`
		Temperature float64            `json:"temperature"`
		Batch       int                `json:"batch"`
		Tokens      int                `json:"tokens"`
		Norms       map[string]float64 `json:"grad_norms"`
	}
	if err := json.Unmarshal(text, &want); err != nil {
		t.Fatal(err)
	}
	stored, ids := reference(t, filepath.Join(shared, "reference/minilm-contrastive.safetensors"))
	trainer := newTextTrainer(t, m, hostgpu.TextTrainOptions{Pairs: want.Batch, Temperature: want.Temperature, Dropout: -1, Device: d})
	loss, grads, embeddings, err := trainer.Gradients(
		texts(ids["input.query.ids"], ids["input.query.mask"], want.Tokens),
		texts(ids["input.item.ids"], ids["input.item.mask"], want.Tokens),
	)
	if err != nil {
		t.Fatal(err)
	}
	if math.Abs(float64(loss)-want.Loss) > 1e-4 {
		t.Errorf("loss %v, want %v", loss, want.Loss)
	}
	near(t, "embeddings", embeddings, append(slices.Clone(stored["output.query"]), stored["output.item"]...), 1e-4)
	if len(grads) != len(want.Norms) {
		t.Errorf("%d gradients, want %d", len(grads), len(want.Norms))
	}
	// The gradient of the keys' bias is zero but for rounding, so it has no
	// relative accuracy: floor is a millionth of the norms of the others.
	const floor = 1e-6
	worstNorm, worstValue, compared := 0.0, 0.0, 0
	for name, g := range grads {
		theirs := hfName.Replace(name)
		norm := want.Norms[theirs]
		var square float64
		for _, v := range g {
			square += float64(v) * float64(v)
		}
		off := math.Abs(math.Sqrt(square)-norm) / (norm + floor)
		if norm > floor {
			worstNorm = max(worstNorm, off)
		}
		if !(off*(norm+floor) <= 1e-3*norm+floor) {
			t.Errorf("%s: norm %v, want %v", name, math.Sqrt(square), norm)
		}
		all, ok := stored["grad."+theirs]
		if !ok {
			all, ok = stored["grad."+theirs+"[:8]"] // the first rows
		}
		if !ok {
			continue
		}
		compared++
		for i, v := range all {
			off := math.Abs(float64(g[i]) - float64(v))
			if norm > floor {
				worstValue = max(worstValue, off/norm)
			}
			if !(off <= 1e-3*norm+floor) {
				t.Errorf("%s: value %d is %v, want %v; the norm is %v", name, i, g[i], v, norm)
				break
			}
		}
	}
	if compared < 50 {
		t.Errorf("compared %d stored gradients, want 50 or more", compared)
	}
	t.Logf("norms within %.2g, values within %.2g of the norm", worstNorm, worstValue)
}

// One training step of MiniLM on 32 texts of 32 tokens: 16 queries and their
// items.
func BenchmarkMiniLMStep(b *testing.B) { miniLMStep(b, nil, 32, 32) }

// Steps on a GPU, for make test-gpu.
func BenchmarkMiniLMStepOnGPU(b *testing.B) {
	for _, size := range [][2]int{{32, 32}, {256, 128}} {
		for _, name := range []string{hostgpu.DeviceCUDA, hostgpu.DeviceTF32} {
			b.Run(fmt.Sprintf("%dx%d/%s", size[0], size[1], name), func(b *testing.B) {
				if os.Getenv(realGPU) == "" {
					b.Skip("a stand-in's times say nothing; " + realGPU + " asks for a GPU")
				}
				d, err := hostgpu.OpenDevice(name)
				miniLMStep(b, opened(b, d, err), size[0], size[1])
			})
		}
	}
}

func miniLMStep(b *testing.B, d *hostgpu.Device, texts, tokens int) {
	m := miniLM(b)
	r := rand.New(rand.NewPCG(1, 0))
	text := func() []int32 {
		ids := make([]int32, tokens)
		for i := range ids {
			ids[i] = int32(r.IntN(m.Config.Vocabulary))
		}
		return ids
	}
	var queries, items [][]int32
	for range texts / 2 {
		queries, items = append(queries, text()), append(items, text())
	}
	trainer := newTextTrainer(b, m, hostgpu.TextTrainOptions{Pairs: texts / 2, Device: d})
	if _, err := trainer.Step(queries, items, 1e-5); err != nil { // builds the graph
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := trainer.Step(queries, items, 1e-5); err != nil {
			b.Fatal(err)
		}
	}
}
