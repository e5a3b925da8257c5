package hostgpu_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/wisp-project/wisp/hostgpu"
	"github.com/wisp-project/wisp/model"
)

// The regression finds the map that item vectors were made with, whatever stands in
// the rows of items without events, up to what shrinkage turns.
func TestFitFeatures(t *testing.T) {
	const n, d, f = 400, 6, 4
	r := rand.New(rand.NewPCG(5, 0))
	features := &model.Tensor{Shape: []int{n, f}, Data: normal(r, n*f, 1)}
	want := &model.Tensor{Shape: []int{d, f}, Data: normal(r, d*f, 1)}
	vectors, counts := model.NewTensor(n, d), make([]float64, n)
	for i := range n {
		noise := normal(r, d, 0.1)
		if i%4 > 0 {
			counts[i] = float64(r.IntN(100) + 1)
		} else {
			noise = normal(r, d, 100)
		}
		for j := range d {
			vectors.Row(i)[j] = noise[j]
			for k, x := range features.Row(i) {
				vectors.Row(i)[j] += want.Row(j)[k] * x
			}
		}
	}
	was := model.NewTensor(d, f)
	got, err := hostgpu.FitFeatures(was, vectors, features, counts)
	if err != nil {
		t.Fatal(err)
	}
	for i, x := range got.Data {
		if math.Abs(float64(x-want.Data[i])) > 0.2 {
			t.Errorf("W[%d] is %v, made with %v", i, x, want.Data[i])
		}
	}
	for name, c := range map[string][]float64{"no vectors": counts, "no events": make([]float64, n)} {
		f := features
		if name == "no vectors" {
			f = model.NewTensor(n, 4)
		}
		if got, err := hostgpu.FitFeatures(was, vectors, f, c); err != nil || got != was {
			t.Errorf("%s: got %v, %v; want what it was", name, got, err)
		}
	}
}

// Where given vectors say little, the regression is near zero; what it gives to
// items is as long as their vectors all the same.
func TestFitFeaturesRestoresLength(t *testing.T) {
	const n, d, f = 300, 8, 5
	r := rand.New(rand.NewPCG(6, 0))
	features := &model.Tensor{Shape: []int{n, f}, Data: normal(r, n*f, 1)}
	vectors, counts := &model.Tensor{Shape: []int{n, d}, Data: normal(r, n*d, 1)}, make([]float64, n)
	for i := range counts {
		counts[i] = 20
	}
	w, err := hostgpu.FitFeatures(nil, vectors, features, counts)
	if err != nil {
		t.Fatal(err)
	}
	var squares float64
	for i := range n {
		for j := range d {
			var x float64
			for k, v := range features.Row(i) {
				x += float64(w.Row(j)[k]) * float64(v)
			}
			squares += x * x
		}
	}
	if got, want := math.Sqrt(squares), length(vectors.Data); math.Abs(got-want) > 1e-3*want {
		t.Errorf("vectors from features have length %v in all, learnt ones %v", got, want)
	}
}

// Fitting W_feat anew changes no vector of an item with events, and leaves those
// without to their given vectors.
func TestRefittedItemVectors(t *testing.T) {
	const items = 40
	d, s, features := twins(60, items, 8)
	o := quick()
	o.Epochs = 4
	tr := newTrainer(t, d, s, hostgpu.Vectors{Items: features}, o)
	finish(t, tr, "")
	before, after, err := hostgpu.ItemVectorsRefitted(tr)
	if err != nil {
		t.Fatal(err)
	}
	moved := 0.0
	for i := range 2 * items {
		var change float64
		for j, x := range after.Row(i) {
			change = max(change, math.Abs(float64(x-before.Row(i)[j])))
		}
		if i < items || i == 2*items-1 {
			if change > 1e-5 {
				t.Errorf("the vector of item %d, known otherwise, moved by %v", i, change)
			}
			continue
		}
		moved = max(moved, change)
	}
	if moved < 0.01 {
		t.Errorf("items without events moved by %v at most", moved)
	}
}
