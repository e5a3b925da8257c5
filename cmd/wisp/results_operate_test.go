package main

import (
	"math"
	"os"
	"path/filepath"
	"testing"
)

func TestOperateTopic(t *testing.T) {
	docs := t.TempDir()
	n := operateSizes{items: 200, rounds: 2, long: 2000, swapped: 400, swaps: 3, soak: 400, soakPoints: 4}
	topic, err := operateFigures(t.Context(), n, docs, newProgress(newResults()))
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
	if _, ok := resident(); !ok {
		return
	}
	if v, ok := values["soak.failed"]; !ok || v != 0 || values["soak.memory"] <= 0 {
		t.Errorf("soak: %v", values)
	}
	if b, err := os.ReadFile(filepath.Join(docs, "operate-soak.svg")); err != nil || len(b) == 0 {
		t.Errorf("the picture: %v", err)
	}
}

func TestLine(t *testing.T) {
	slope, low, high := line([]float64{0, 1, 2, 3}, []float64{5, 7, 9, 11})
	if slope != 2 || low != 2 || high != 2 {
		t.Errorf("an exact line: %v (%v to %v)", slope, low, high)
	}
	slope, low, high = line([]float64{0, 1, 2, 3, 4, 5}, []float64{1, -1, 1, -1, 1, -1})
	if low > 0 || high < 0 || slope > 0 {
		t.Errorf("noise: %v (%v to %v)", slope, low, high)
	}
}
