package main

import (
	"math"
	"testing"
)

func TestOperateTopic(t *testing.T) {
	n := operateSizes{items: 200, rounds: 2, long: 2000, swapped: 400, swaps: 3}
	topic, err := operateFigures(t.Context(), n, newProgress(newResults()))
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]float64{}
	for _, r := range topic.Records {
		if _, twice := values[r.Name]; twice || math.IsNaN(r.Value) || r.Low > r.Value || r.High < r.Value {
			t.Errorf("%+v", r)
		}
		values[r.Name] = r.Value
	}
	for _, name := range []string{"speed.open.ms", "speed.open.warm-ms", "speed.slicing.lost-percent", "speed.swap.p99-us", "speed.swap.quiet-p99-us"} {
		if values[name] <= 0 {
			t.Errorf("%s is %v", name, values[name])
		}
	}
	for _, name := range []string{"speed.deadline.overshoot-us", "speed.swap.failed", "speed.swap.quiet-failed"} {
		if v, ok := values[name]; !ok || name != "speed.deadline.overshoot-us" && v != 0 {
			t.Errorf("%s is %v (%v)", name, v, ok)
		}
	}
}
