package quantize_test

import (
	"bytes"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/wisp-project/wisp/edge"
	"github.com/wisp-project/wisp/hostgpu"
	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/internal/layout"
	"github.com/wisp-project/wisp/internal/q8"
	"github.com/wisp-project/wisp/model"
	"github.com/wisp-project/wisp/quantize"
	"github.com/wisp-project/wisp/wasm"
)

// ratingHead returns one of a model with weights in the ranges of training: its map
// moves ratings by about a level.
func ratingHead(m *model.Model, seed uint64) *model.RatingHead {
	r := rand.New(rand.NewPCG(seed, 0x4a7e))
	c := m.Config
	h := &model.RatingHead{
		Low: 1, High: 5, Mean: 3.53, Shrink: 5, Levels: make([]float32, c.EventTypes), Items: make([]float32, c.Items),
		Map: model.NewTensor(c.Dim, c.Dim), MapBias: make([]float32, c.Dim),
	}
	for i := range h.Levels {
		if h.Levels[i] = float32(1 + i%5); i%4 == 0 {
			h.Levels[i] = float32(math.NaN())
		}
	}
	for i := range h.Items {
		h.Items[i] = float32(0.5 * r.NormFloat64())
	}
	for i := range h.Map.Data {
		h.Map.Data[i] = float32(r.NormFloat64() / float64(c.Dim))
	}
	for i := range h.MapBias {
		h.MapBias[i] = float32(0.1 * r.NormFloat64())
	}
	return h
}

// The int8 ratings of an artefact lie within a tenth of the float32 model's everywhere,
// and within 0.02 in the root of the mean square, on a scale of four.
func TestRatingsAreCloseToTheModel(t *testing.T) {
	ds := catalogue(model.Config{Items: small.Items, EventTypes: small.EventTypes})
	m := random(t, small, 3)
	h := ratingHead(m, 1)
	a := build(t, m, ds, calibration(m.Config, 64, 3), quantize.BuildOptions{Kernel: wasm.Kernel, Ratings: h})
	if !a.Manifest.Model.Ratings || a.Segments[len(a.Segments)-1].Name != "ratings" {
		t.Errorf("manifest %+v, segment %q", a.Manifest.Model, a.Segments[len(a.Segments)-1].Name)
	}
	q, err := q8.New(image(a))
	if err != nil {
		t.Fatal(err)
	}
	all := make([]int32, m.Config.Items)
	list := make([]uint32, len(all))
	for i := range all {
		all[i], list[i] = int32(i), uint32(i)
	}
	rng := rand.New(rand.NewPCG(5, 5))
	want, square, worst, n := make([]float32, len(all)), 0.0, 0.0, 0
	histories := [][]model.Event{nil}
	for range 60 {
		histories = append(histories, hostgpu.Events(randomHistory(rng, m.Config, 1+rng.IntN(2*m.Config.Reach()))))
	}
	for _, events := range histories {
		u, err := m.User(events, nil)
		if err != nil {
			t.Fatal(err)
		}
		h.Rate(want, m, u, events, all)
		events = events[max(0, len(events)-m.Config.Reach()):]
		answer := q.Run(layout.Request{Kind: layout.KindRate, List: list, History: quantize.LayoutEvents(events)})
		for i, hit := range answer.Hits {
			e := math.Abs(float64(hit.Score - want[i]))
			square, worst, n = square+e*e, max(worst, e), n+1
		}
	}
	if rms := math.Sqrt(square / float64(n)); n == 0 || rms > 0.02 || worst > 0.1 {
		t.Errorf("%d ratings are off by %.4f (root mean square), at most by %.4f", n, rms, worst)
	}
}

// The int8 classes of texts are those of the float32 encoder and head, to within a few
// hundredths of probability.
func TestClassesAreCloseToTheModel(t *testing.T) {
	encoder, tokenizer := textEncoder(t, nil)
	d := encoder.Config.Dim
	r := rand.New(rand.NewPCG(9, 9))
	h := &model.TextClasses{Names: []string{"negative", "positive", "neither"}, Weight: model.NewTensor(3, d), Bias: []float32{0, 0.3, -0.2}}
	for i := range h.Weight.Data {
		h.Weight.Data[i] = float32(3 * r.NormFloat64())
	}
	m := random(t, small, 6)
	a := build(t, m, catalogue(m.Config), calibration(m.Config, 8, 1), quantize.BuildOptions{
		Kernel: wasm.Kernel, Text: &quantize.Text{Encoder: encoder, Tokenizer: tokenizer, Classes: h},
	})
	if !slices.Equal(a.Manifest.Classes, h.Names) {
		t.Errorf("classes %q", a.Manifest.Classes)
	}
	// What is read back from the artefact makes the same bits again.
	read, err := quantize.ClassesOf(a)
	if err != nil {
		t.Fatal(err)
	}
	again := build(t, m, catalogue(m.Config), calibration(m.Config, 8, 1), quantize.BuildOptions{
		Kernel: wasm.Kernel, Text: &quantize.Text{Encoder: encoder, Tokenizer: tokenizer, Classes: read},
	})
	if !bytes.Equal(image(again), image(a)) {
		t.Error("the classes of an artefact do not make the same image again")
	}
	run, err := edge.New(t.Context(), a, edge.Options{Sandboxes: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer run.Close(t.Context()) //nolint:errcheck // nothing is in progress
	want := make([]float32, 3)
	for _, text := range []string{"", "a title", "item 7", "the quick brown fox jumps over the lazy dog", "zzz 123"} {
		e, err := encoder.Embed(tokenizer.Encode(nil, text, encoder.Config.MaxTokens))
		if err != nil {
			t.Fatal(err)
		}
		h.Predict(want, e)
		got, err := run.Classify(t.Context(), edge.ClassifyRequest{Text: text})
		if err != nil {
			t.Fatal(err)
		}
		for i, c := range got.Classes {
			if c.Name != h.Names[i] || math.Abs(float64(c.Probability-want[i])) > 0.03 {
				t.Errorf("%q: %+v, want %v", text, c, want[i])
			}
		}
	}
}

func TestHeadsRefuse(t *testing.T) {
	m := random(t, small, 6)
	ds, histories := catalogue(m.Config), calibration(m.Config, 8, 1)
	h := ratingHead(m, 1)
	h.Items = h.Items[1:]
	if _, err := quantize.Build(t.Context(), m, ds, histories, quantize.BuildOptions{Kernel: wasm.Kernel, Ratings: h}); !errors.Is(err, quantize.ErrModel) {
		t.Errorf("ratings of another model: %v", err)
	}
	encoder, tokenizer := textEncoder(t, nil)
	text := &quantize.Text{Encoder: encoder, Tokenizer: tokenizer, Classes: &model.TextClasses{Names: []string{"a", "b"}, Weight: model.NewTensor(2, 3), Bias: make([]float32, 2)}}
	if _, err := quantize.Build(t.Context(), m, ds, histories, quantize.BuildOptions{Kernel: wasm.Kernel, Text: text}); !errors.Is(err, quantize.ErrModel) {
		t.Errorf("classes of another encoder: %v", err)
	}
}

// Ratings that are all alike leave steps of zero, and a prediction that is the mean.
func TestRatingsOfOneKind(t *testing.T) {
	m := random(t, small, 2)
	h := ratingHead(m, 1)
	for i := range h.Levels {
		h.Levels[i] = 4
	}
	h.Low, h.High, h.Mean = 4, 4, 4
	clear(h.Items)
	clear(h.Map.Data)
	a := build(t, m, catalogue(m.Config), calibration(m.Config, 8, 1), quantize.BuildOptions{Kernel: wasm.Kernel, Ratings: h})
	run, err := edge.New(t.Context(), a, edge.Options{Sandboxes: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer run.Close(t.Context()) //nolint:errcheck // nothing is in progress
	got, err := run.Rate(t.Context(), edge.RateRequest{History: []edge.Event{{Item: "i1", Type: data.Rating.String(), Value: 4}}, Items: []string{"i0", "i2"}})
	if err != nil || got.Items[0].Rating != 4 || got.Items[1].Rating != 4 {
		t.Errorf("%+v, %v", got, err)
	}
}
