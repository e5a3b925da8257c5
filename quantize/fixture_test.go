package quantize_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/wisp-project/wisp/hostgpu"
	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/internal/layout"
	"github.com/wisp-project/wisp/model"
)

// zero returns a model of configuration c whose weights are all zero, after set
// has filled in some of them.
func zero(t testing.TB, c model.Config, set map[string][]float32) *model.Model {
	t.Helper()
	w := model.Weights{}
	for _, s := range c.Specs() {
		w[s.Name] = model.NewTensor(s.Shape...)
	}
	for name, values := range set {
		if w[name] == nil || copy(w[name].Data, values) != len(values) {
			t.Fatalf("%q takes no %d values", name, len(values))
		}
	}
	m, err := model.New(c, w, nil)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// random returns a model with weights in the ranges of training: Glorot-normal
// matrices, gains about one, small biases, and item vectors of about unit length.
func random(t testing.TB, s layout.Shape, seed uint64) *model.Model {
	t.Helper()
	c := model.Config{
		Items: s.Items, Dim: s.Dim, Layers: s.Layers, Heads: s.Heads, FFN: s.FFN,
		Window: s.Window, EventTypes: s.EventTypes, GapBuckets: s.GapBuckets,
	}
	rng := rand.New(rand.NewPCG(seed, 0x9a))
	w := model.Weights{}
	for _, spec := range c.Specs() {
		x := model.NewTensor(spec.Shape...)
		mean, deviation := 0.0, 0.1
		switch {
		case strings.HasSuffix(spec.Name, "norm.weight"):
			mean = 1
		case spec.Name == model.ItemEmbedding:
			deviation = 1 / math.Sqrt(float64(c.Dim))
		case spec.Name == model.UserType, spec.Name == model.UserGap:
			deviation = 0.3
		case len(spec.Shape) == 2 && !strings.HasSuffix(spec.Name, "distance.bias"):
			deviation = math.Sqrt(2 / float64(spec.Shape[0]+spec.Shape[1]))
		}
		for i := range x.Data {
			x.Data[i] = float32(mean + deviation*rng.NormFloat64())
		}
		w[spec.Name] = x
	}
	m, err := model.New(c, w, nil)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// randomHistory returns n events with gaps of every order of magnitude.
func randomHistory(rng *rand.Rand, c model.Config, n int) []data.Interaction {
	h := make([]data.Interaction, n)
	var now int64
	for i := range h {
		now += int64(rng.Uint32() >> rng.IntN(32))
		h[i] = data.Interaction{Item: int32(rng.IntN(c.Items)), Type: uint8(rng.IntN(c.EventTypes)), Time: now}
	}
	return h
}

// calibration returns n histories of up to twice the events that c looks at.
func calibration(c model.Config, n int, seed uint64) [][]model.Event {
	rng := rand.New(rand.NewPCG(seed, 0xca1))
	histories := make([][]model.Event, n)
	for i := range histories {
		histories[i] = hostgpu.Events(randomHistory(rng, c, 1+rng.IntN(2*c.Reach())))
	}
	return histories
}

// catalogue returns a data set that a model of configuration c could have been
// trained on: items i0, i1, … and the usual event types.
func catalogue(c model.Config) *data.Dataset {
	ds := &data.Dataset{Name: "shop", Types: data.EventTypes(1, 5)[:c.EventTypes], Items: make([]data.Item, c.Items)}
	for i := range ds.Items {
		ds.Items[i] = data.Item{ID: fmt.Sprintf("i%d", i), Title: "Thing", Categories: []string{"things"}}
	}
	return ds
}

// trained is a small model trained on the made data set, with that data.
type trained struct {
	model *model.Model
	data  *data.Dataset
	split *data.Split
	err   error
}

var trainOnce sync.Once

var trainedModel trained

// train returns a model of a few epochs; it is trained once for all tests.
func train(t *testing.T) trained {
	t.Helper()
	trainOnce.Do(func() {
		r := &trainedModel
		made, out := filepath.Join("..", "testdata", "made"), filepath.Join(t.TempDir(), "data")
		source := data.Source{Format: "jsonl", Events: filepath.Join(made, "events.jsonl"), Items: filepath.Join(made, "items.jsonl")}
		if _, r.err = data.Prepare(t.Context(), source, data.PrepareOptions{Name: "made"}, out, nil); r.err != nil {
			return
		}
		if r.data, r.err = data.Load(out); r.err != nil {
			return
		}
		r.split = data.LeaveOneOut(r.data, 5)
		var tr *hostgpu.Trainer
		if tr, r.err = hostgpu.NewTrainer(r.data, r.split, hostgpu.Vectors{}, hostgpu.TrainOptions{
			Dim: 32, Layers: 2, Heads: 2, Window: 10, Length: 64, Epochs: 8, Warmup: 10, LearningRate: 0.005, Average: 0.9, Seed: 3,
		}); r.err != nil {
			return
		}
		if r.err = tr.Run(t.Context(), "", nil); r.err == nil {
			r.model, r.err = tr.Model()
		}
		if err := tr.Close(); r.err == nil {
			r.err = err
		}
	})
	if trainedModel.err != nil {
		t.Fatal(trainedModel.err)
	}
	return trainedModel
}

// histories returns the training histories of a split.
func histories(s *data.Split) [][]model.Event {
	var all [][]model.Event
	for _, h := range s.Train {
		if len(h) > 0 {
			all = append(all, hostgpu.Events(h))
		}
	}
	return all
}

// relative returns |a-b| / |b|.
func relative(a, b []float32) float64 {
	var e, n float64
	for i := range a {
		d := float64(a[i]) - float64(b[i])
		e, n = e+d*d, n+float64(b[i])*float64(b[i])
	}
	return math.Sqrt(e / n)
}

// rankCorrelation is Spearman's: the correlation of the places of the scores.
func rankCorrelation(a, b []float32) float64 {
	places := func(x []float32) []float64 {
		order := make([]int, len(x))
		for i := range order {
			order[i] = i
		}
		slices.SortStableFunc(order, func(i, j int) int {
			switch {
			case x[i] < x[j]:
				return -1
			case x[i] > x[j]:
				return 1
			}
			return 0
		})
		p := make([]float64, len(x))
		for place, i := range order {
			p[i] = float64(place)
		}
		return p
	}
	p, q := places(a), places(b)
	n := float64(len(a))
	var squares float64
	for i := range p {
		squares += (p[i] - q[i]) * (p[i] - q[i])
	}
	return 1 - 6*squares/(n*(n*n-1))
}
