package model_test

import (
	"errors"
	"math"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/wisp-project/wisp/model"
)

// ratingHead is one for a model of width 2 with two items and three event types.
func ratingHead() (*model.RatingHead, *model.Model) {
	nan := float32(math.NaN())
	h := &model.RatingHead{
		Low: 1, High: 5, Mean: 3, Shrink: 2, Levels: []float32{nan, 5, 2}, Items: []float32{0.5, -0.25},
		Map: &model.Tensor{Shape: []int{2, 2}, Data: []float32{2, 0, 0, 1}}, MapBias: []float32{0.25, 0},
	}
	c := model.Config{Items: 2, Dim: 2, Layers: 1, Heads: 1, FFN: 1, Window: 2, EventTypes: 3, GapBuckets: 1}
	return h, &model.Model{Config: c, ItemVectors: &model.Tensor{Shape: []int{2, 2}, Data: []float32{1, 0, 0.5, 1}}}
}

func TestRatingHeadByHand(t *testing.T) {
	h, m := ratingHead()
	u := []float32{0.5, -1} // D·u + c = (1.25, -1)
	got := make([]float32, 2)
	for name, c := range map[string]struct {
		history []model.Event
		user    float32
	}{
		"nobody": {nil, 0},
		"clicks": {[]model.Event{{}, {}}, 0},
		// Only the last two events count; a rating of 5 of item 0 is 1.5 above its usual one.
		"a rating":  {[]model.Event{{Type: 2}, {Item: 0, Type: 1}, {}}, 1.5 / 3},
		"two":       {[]model.Event{{Item: 0, Type: 1}, {Item: 1, Type: 2}}, (1.5 - 0.75) / 4},
		"cut above": {[]model.Event{{Item: 1, Type: 1}, {Item: 1, Type: 1}}, 4.5 / 4},
	} {
		h.Rate(got, m, u, c.history, []int32{0, 1})
		for i, want := range []float32{3 + c.user + 0.5 + 1.25, 3 + c.user - 0.25 + 0.625 - 1} {
			if want = min(want, 5); math.Abs(float64(got[i]-want)) > 1e-6 {
				t.Errorf("%s: item %d is rated %v, want %v", name, i, got[i], want)
			}
		}
	}
}

func TestRatingHeadFile(t *testing.T) {
	h, m := ratingHead()
	path := filepath.Join(t.TempDir(), "rating.safetensors")
	if err := model.SaveRatingHead(path, h, map[string]string{"from": "a test"}); err != nil {
		t.Fatal(err)
	}
	got, metadata, err := model.LoadRatingHead(path)
	if err != nil || metadata["from"] != "a test" || got.Validate(m.Config) != nil {
		t.Fatalf("%+v, %v, %v", got, metadata, err)
	}
	if got.Levels[0] == got.Levels[0] {
		t.Errorf("levels %v, want none for the first", got.Levels)
	}
	got.Levels[0], h.Levels[0] = 0, 0 // NaN is like nothing
	if !reflect.DeepEqual(got, h) {
		t.Errorf("%+v, want %+v", got, h)
	}
	if err := model.SaveTensors(path, map[string]*model.Tensor{"x": model.NewTensor(1)}, nil); err != nil {
		t.Fatal(err)
	}
	if _, _, err := model.LoadRatingHead(path); !errors.Is(err, model.ErrFormat) {
		t.Errorf("another file: %v", err)
	}
}

func TestRatingHeadValidate(t *testing.T) {
	inf := float32(math.Inf(1))
	for name, spoil := range map[string]func(*model.RatingHead){
		"levels": func(h *model.RatingHead) { h.Levels = h.Levels[1:] },
		"items":  func(h *model.RatingHead) { h.Items = nil },
		"map":    func(h *model.RatingHead) { h.Map = model.NewTensor(2, 3) },
		"bias":   func(h *model.RatingHead) { h.MapBias = nil },
		"finite": func(h *model.RatingHead) { h.Map.Data[1] = inf },
		"scale":  func(h *model.RatingHead) { h.Low = 6 },
		"shrink": func(h *model.RatingHead) { h.Shrink = -1 },
		"level":  func(h *model.RatingHead) { h.Levels[1] = inf },
	} {
		h, m := ratingHead()
		spoil(h)
		if err := h.Validate(m.Config); !errors.Is(err, model.ErrInput) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTextClasses(t *testing.T) {
	h := &model.TextClasses{
		Names: []string{"negative", "positive", "neither"}, Bias: []float32{0, 0.5, 0},
		Weight: &model.Tensor{Shape: []int{3, 2}, Data: []float32{1, 0, 0, 1, -1, 0}},
	}
	got := make([]float32, 3)
	h.Predict(got, []float32{0.5, -1}) // logits 0.5, -0.5, -0.5
	e := math.Exp(1)
	for i, want := range []float64{e / (e + 2), 1 / (e + 2), 1 / (e + 2)} {
		if math.Abs(float64(got[i])-want) > 1e-6 {
			t.Errorf("class %d: %v, want %v", i, got[i], want)
		}
	}
	path := filepath.Join(t.TempDir(), "classes.safetensors")
	if err := model.SaveTextClasses(path, h, nil); err != nil {
		t.Fatal(err)
	}
	again, _, err := model.LoadTextClasses(path)
	if err != nil || !reflect.DeepEqual(again, h) || again.Validate(2) != nil {
		t.Errorf("%+v (%v), want %+v", again, err, h)
	}
	for name, spoil := range map[string]func(*model.TextClasses){
		"width":    func(h *model.TextClasses) { h.Weight = model.NewTensor(3, 3) },
		"one":      func(h *model.TextClasses) { h.Names = h.Names[:1] },
		"twice":    func(h *model.TextClasses) { h.Names[1] = h.Names[0] },
		"nameless": func(h *model.TextClasses) { h.Names[1] = "" },
		"finite":   func(h *model.TextClasses) { h.Bias[0] = float32(math.NaN()) },
	} {
		x := &model.TextClasses{Names: strings.Split("a b c", " "), Bias: make([]float32, 3), Weight: model.NewTensor(3, 2)}
		spoil(x)
		if err := x.Validate(2); !errors.Is(err, model.ErrInput) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
