package main

import (
	"math"
	"testing"

	"github.com/wisp-project/wisp/hostgpu"
	"github.com/wisp-project/wisp/internal/data"
)

// What the sandbox predicts is as far off as the float32 head, to within a hundredth.
func TestPredictLater(t *testing.T) {
	c := madeChain(t)
	m, how, ds, s, err := trained(c.model, c.prepared)
	if err != nil {
		t.Fatal(err)
	}
	h, _, err := ratingHead(t.Context(), m, how, ds, s, hostgpu.TowerRatingOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var cases []data.Case
	for _, x := range s.Test {
		if ds.Types[x.Target.Type].Name == data.Rating.String() {
			cases = append(cases, x)
		}
	}
	if len(cases) == 0 {
		t.Fatal("no test event is a rating")
	}
	e := map[string]*laterErrors{"rating-towers-fp32": newLaterErrors(len(cases)), "rating-towers": newLaterErrors(len(cases))}
	if err := predictLater(t.Context(), m, h, ds, s, cases, e); err != nil {
		t.Fatal(err)
	}
	plain, err := e["rating-towers-fp32"].records("plain.", 1)
	if err != nil {
		t.Fatal(err)
	}
	packed, err := e["rating-towers"].records("packed.", 1)
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range packed {
		if r.N != len(cases) || !(r.Value > 0) || r.Low > r.Value || r.High < r.Value || math.Abs(r.Value-plain[i].Value) > 0.01 {
			t.Errorf("%+v in the sandbox, %+v in float32", r, plain[i])
		}
	}
}

func TestLaterErrors(t *testing.T) {
	e := newLaterErrors(2)
	for range 2 { // seeds
		e.add(0, data.Case{Target: data.Interaction{Value: 3}}, 4)
		e.add(1, data.Case{Target: data.Interaction{Value: 3}}, 0)
	}
	r, err := e.records("x.", 2)
	if err != nil {
		t.Fatal(err)
	}
	if r[0].Name != "x.rmse" || math.Abs(r[0].Value-math.Sqrt(5)) > 1e-9 || r[1].Name != "x.mae" || r[1].Value != 2 || r[0].Note != "mean of 2 seeds" {
		t.Errorf("%+v", r)
	}
}
