package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestSoakTopic(t *testing.T) {
	if _, ok := resident(); !ok {
		t.Skip("this system does not tell the resident memory of a process")
	}
	docs := t.TempDir()
	topic, err := soakFigures(t.Context(), soakSizes{items: 200, requests: 400, points: 4}, docs, newProgress(newResults()))
	if err != nil {
		t.Fatal(err)
	}
	values := valuesOf(t, topic.Records)
	if v, ok := values["soak.failed"]; !ok || v != 0 || values["soak.memory"] <= 0 {
		t.Errorf("%v", values)
	}
	if b, err := os.ReadFile(filepath.Join(docs, "soak.svg")); err != nil || len(b) == 0 {
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
