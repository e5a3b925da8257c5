package runlog_test

import (
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/wisp-project/wisp/internal/runlog"
)

func TestPicture(t *testing.T) {
	svg, err := runlog.Picture(
		runlog.Chart{Title: "loss", Axis: "epoch", Curves: []runlog.Curve{
			{Name: "with", First: 1, Values: []float64{3, 2, 1}}, {Name: "without", First: 1, Values: []float64{3, math.NaN(), 4, 5}},
		}},
		runlog.Chart{Title: "accuracy", Axis: "epoch", Curves: []runlog.Curve{{Name: "alone", Values: []float64{0, 1}}}},
	)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "curves"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "curves", "both.svg"), svg, 0o644); err != nil {
		t.Fatal(err)
	}
	d := readSVG(t, dir, "both")
	for _, want := range []string{"loss", "accuracy", "epoch", "with", "without (1 not drawn)", "alone"} {
		if !slices.Contains(d.texts, want) {
			t.Errorf("picture says %q, not %q", d.texts, want)
		}
	}
	var points []int
	for _, l := range d.lines {
		points = append(points, len(l))
	}
	// With, what is left of without beside a dot, two in the legend; alone and its.
	if !slices.Equal(points, []int{3, 2, 2, 2, 2, 2}) || d.dots != 1 {
		t.Fatalf("lines of %v points and %d dots", points, d.dots)
	}
	// The third value of both stands at the same place; the second chart is below.
	if with, without := d.lines[0], d.lines[1]; with[2][0] != without[0][0] || !(d.lines[4][0][1] < with[2][1]) {
		t.Errorf("lines %v", d.lines)
	}
	if _, err := runlog.Picture(); err != nil {
		t.Errorf("a picture of nothing: %v", err)
	}
}
