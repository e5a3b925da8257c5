package main

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/wisp-project/wisp/edge"
	"github.com/wisp-project/wisp/hostgpu"
	"github.com/wisp-project/wisp/internal/baseline"
	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/internal/eval"
	"github.com/wisp-project/wisp/internal/results"
	"github.com/wisp-project/wisp/model"
	"github.com/wisp-project/wisp/quantize"
	"github.com/wisp-project/wisp/wasm"
)

// laterRatings measures the rating head of the towers, which needs the order of events:
// the last rating of each user is predicted from the events before it.
func (b *bench) laterRatings(ctx context.Context, ds *data.Dataset, fingerprint string) ([]results.Record, error) {
	s := data.LeaveOneOut(ds, minEvents)
	var cases []data.Case
	for _, c := range s.Test {
		if ds.Types[c.Target.Type].Name == data.Rating.String() {
			cases = append(cases, c)
		}
	}
	known := *ds
	known.Histories = fittingData(ds, s)
	bias, err := baseline.NewRatingBias(eval.Ratings(&known), len(ds.Items), baseline.RatingBiasOptions{})
	if err != nil {
		return nil, err
	}
	e := map[string]*laterErrors{}
	for _, name := range laterStages {
		e[name] = newLaterErrors(len(cases))
	}
	for i, c := range cases {
		e["rating-bias"].add(i, c, bias.Predict(c.User, c.Target.Item))
	}
	for seed := range b.seeds {
		m, t, _, err := b.trained(ctx, ds, fingerprint, s, usual(seed+1))
		if err != nil {
			return nil, err
		}
		b.p.line("the rating head of seed %d", seed+1)
		h, _, err := ratingHead(ctx, m, t, ds, s, hostgpu.TowerRatingOptions{})
		if err != nil {
			return nil, err
		}
		if err := predictLater(ctx, m, h, ds, s, cases, e); err != nil {
			return nil, err
		}
	}
	var records []results.Record
	for _, name := range laterStages {
		r, err := e[name].records("quality."+ds.Name+".later."+name+".", b.seeds)
		if err != nil {
			return nil, err
		}
		records = append(records, r...)
	}
	return records, nil
}

// laterStages are what predicts later ratings.
var laterStages = []string{"rating-bias", "rating-towers-fp32", "rating-towers"}

// predictLater adds the errors of a head in float32 and in the sandbox.
func predictLater(ctx context.Context, m *model.Model, h *model.RatingHead, ds *data.Dataset, s *data.Split, cases []data.Case, e map[string]*laterErrors) (err error) {
	histories, _ := calibration(s, nil)
	a, err := quantize.Build(ctx, m, ds, histories, quantize.BuildOptions{Kernel: wasm.Kernel, Ratings: h})
	if err != nil {
		return err
	}
	r, err := edge.New(ctx, a, edge.Options{Sandboxes: 1})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close(context.WithoutCancel(ctx))) }()
	box, err := newSandbox(r, ds)
	if err != nil {
		return err
	}
	dst := make([]float32, 1)
	for i, c := range cases {
		events := hostgpu.Events(c.History)
		u, err := m.User(events, nil)
		if err != nil {
			return err
		}
		h.Rate(dst, m, u, events, []int32{c.Target.Item})
		e["rating-towers-fp32"].add(i, c, float64(dst[0]))
		got, err := r.Rate(ctx, edge.RateRequest{History: box.events(c.History), Items: []string{ds.Items[c.Target.Item].ID}})
		if err != nil {
			return err
		}
		e["rating-towers"].add(i, c, float64(got.Items[0].Rating))
	}
	return nil
}

// laterErrors are the errors of predictions, by case, summed over seeds.
type laterErrors struct {
	square, absolute []float64
	n                int
}

func newLaterErrors(cases int) *laterErrors {
	return &laterErrors{square: make([]float64, cases), absolute: make([]float64, cases)}
}

func (e *laterErrors) add(i int, c data.Case, predicted float64) {
	d := predicted - float64(c.Target.Value)
	e.square[i] += d * d
	e.absolute[i] += math.Abs(d)
	e.n++
}

// records returns the root of the mean squared error and the mean absolute error, with
// intervals by bootstrap over cases.
func (e *laterErrors) records(prefix string, seeds int) ([]results.Record, error) {
	rounds := float64(e.n) / float64(len(e.square))
	note := ""
	if rounds > 1 {
		note = fmt.Sprintf("mean of %d seeds", seeds)
	}
	interval := func(sums []float64, f func(float64) float64, name string) (results.Record, error) {
		means := make([]float64, len(sums))
		for i, v := range sums {
			means[i] = v / rounds
		}
		i, err := eval.Bootstrap(means, eval.BootstrapOptions{})
		return results.Record{Name: prefix + name, Value: f(i.Value), Low: f(i.Low), High: f(i.High), N: len(sums), Note: note}, err
	}
	rmse, err := interval(e.square, math.Sqrt, "rmse")
	if err != nil {
		return nil, err
	}
	mae, err := interval(e.absolute, func(v float64) float64 { return v }, "mae")
	return []results.Record{rmse, mae}, err
}
