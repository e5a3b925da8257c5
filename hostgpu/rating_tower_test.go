package hostgpu_test

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/wisp-project/wisp/hostgpu"
	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/model"
)

// planted returns towers and events whose ratings follow the formula of a rating head
// with a map that is known: biases of items and users, and u'·D·v.
func planted(t *testing.T) (*model.Model, *data.Dataset, *data.Split) {
	t.Helper()
	d, s := chain(120, 40, 30)
	o := quick()
	o.Epochs = 1
	m := finish(t, newTrainer(t, d, s, hostgpu.Vectors{}, o), "")
	r := rand.New(rand.NewPCG(4, 4))
	copy(m.ItemVectors.Data, normal(r, len(m.ItemVectors.Data), 0.3))
	for u, h := range d.Histories {
		offset := 0.5 * r.NormFloat64()
		for i := range h {
			if i%9 == 5 {
				h[i].Type, h[i].Value = 1, 0 // a click
				continue
			}
			x, err := m.User(hostgpu.Events(h[:i]), nil)
			if err != nil {
				t.Fatal(err)
			}
			v := m.ItemVectors.Row(int(h[i].Item))
			y := 3 + offset + 0.4*math.Sin(float64(h[i].Item))
			for k := range v { // D turns the dimensions round
				y += float64(x[k]) * float64(v[(k+1)%len(v)])
			}
			h[i].Value = float32(min(max(y, 1), 5))
			h[i].Type = data.TypeOf(d.Types, data.Rating, h[i].Value)
		}
		d.Histories[u] = h
	}
	return m, d, data.LeaveOneOut(d, 5)
}

// What is planted is found, and what training predicts is what model.RatingHead gives.
func TestTowerRatings(t *testing.T) {
	m, d, s := planted(t)
	o := hostgpu.TowerRatingOptions{Epochs: 60, Batch: 128, LearningRate: 0.02, L2: 1e-4}
	h, fit, err := hostgpu.TrainTowerRatings(t.Context(), m, d, s.Train, s.Valid, nil, o)
	if err != nil {
		t.Fatal(err)
	}
	if fit.Epochs == 0 || fit.RMSE > 0.7*fit.Biases {
		t.Errorf("%+v: the map explains nothing", fit)
	}
	sum, n := 0.0, 0
	for _, c := range s.Valid {
		if d.Types[c.Target.Type].Name != "rating" {
			continue
		}
		events := hostgpu.Events(c.History)
		u, err := m.User(events, nil)
		if err != nil {
			t.Fatal(err)
		}
		got := make([]float32, 1)
		h.Rate(got, m, u, events, []int32{c.Target.Item})
		sum += float64(got[0]-c.Target.Value) * float64(got[0]-c.Target.Value)
		n++
	}
	if rmse := math.Sqrt(sum / float64(n)); n != fit.Cases || math.Abs(rmse-fit.RMSE) > 1e-4 {
		t.Errorf("the head is off by %v on %d cases, training says %+v", rmse, n, fit)
	}
	if !math.IsNaN(float64(h.Levels[1])) || math.IsNaN(float64(h.Levels[len(h.Levels)-1])) {
		t.Errorf("levels %v: clicks say nothing of a rating, the last type does", h.Levels)
	}
	again, _, err := hostgpu.TrainTowerRatings(t.Context(), m, d, s.Train, s.Valid, nil, o)
	if err != nil || !slices.Equal(again.Map.Data, h.Map.Data) || !slices.Equal(again.Items, h.Items) {
		t.Errorf("the same training went another way (%v)", err)
	}
	// Ratings that nothing explains leave mean and biases alone.
	o.L2, o.Epochs = 1e9, 1
	if none, fit, err := hostgpu.TrainTowerRatings(t.Context(), m, d, s.Train, s.Valid, nil, o); err != nil || fit.RMSE > fit.Biases {
		t.Errorf("%+v, %v: validation was not heeded, map %v", fit, err, none.Map.Data[:3])
	}
	// Without validation the last epoch counts.
	o = hostgpu.TowerRatingOptions{Epochs: 3, Ratings: 100}
	if _, fit, err := hostgpu.TrainTowerRatings(t.Context(), m, d, s.Train, nil, nil, o); err != nil || fit != (hostgpu.TowerRatingFit{Epochs: 3}) {
		t.Errorf("%+v, %v", fit, err)
	}
}

func TestTowerRatingsRefuse(t *testing.T) {
	d, s := chain(20, 15, 8)
	o := quick()
	o.Epochs = 1
	m := finish(t, newTrainer(t, d, s, hostgpu.Vectors{}, o), "")
	rating := data.TypeOf(d.Types, data.Rating, 5)
	train := func(e ...data.Interaction) [][]data.Interaction { return [][]data.Interaction{e} }
	inf := float32(math.Inf(1))
	for name, c := range map[string]struct {
		train [][]data.Interaction
		o     hostgpu.TowerRatingOptions
		want  error
	}{
		"no events":         {nil, hostgpu.TowerRatingOptions{}, hostgpu.ErrData},
		"clicks only":       {train(data.Interaction{Type: 1}), hostgpu.TowerRatingOptions{}, hostgpu.ErrData},
		"infinite":          {train(data.Interaction{Type: rating, Value: inf}), hostgpu.TowerRatingOptions{}, hostgpu.ErrData},
		"item outside":      {train(data.Interaction{Item: 99, Type: rating}), hostgpu.TowerRatingOptions{}, hostgpu.ErrData},
		"type outside":      {train(data.Interaction{Type: 99}), hostgpu.TowerRatingOptions{}, hostgpu.ErrData},
		"negative epochs":   {s.Train, hostgpu.TowerRatingOptions{Epochs: -1}, hostgpu.ErrOptions},
		"rate not a number": {s.Train, hostgpu.TowerRatingOptions{LearningRate: math.NaN()}, hostgpu.ErrOptions},
		"infinite l2":       {s.Train, hostgpu.TowerRatingOptions{L2: math.Inf(1)}, hostgpu.ErrOptions},
		"diverges":          {train(data.Interaction{Type: rating, Value: 1e30}, data.Interaction{Type: rating, Value: -1e30}), hostgpu.TowerRatingOptions{LearningRate: 1e30}, hostgpu.ErrDiverged},
	} {
		if _, _, err := hostgpu.TrainTowerRatings(t.Context(), m, d, c.train, nil, nil, c.o); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := hostgpu.TrainTowerRatings(ctx, m, d, train(data.Interaction{Type: rating, Value: 3}), nil, nil, hostgpu.TowerRatingOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
