package runlog_test

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// drawn is what the tests read of a picture.
type drawn struct {
	texts []string
	lines [][][2]float64 // paths of the width that only data lines and the legend have
	dots  int
}

func readSVG(t *testing.T, dir, name string) drawn {
	t.Helper()
	var d drawn
	in := xml.NewDecoder(strings.NewReader(readFile(t, dir, "curves/"+name+".svg")))
	in.Strict = true
	for text := false; ; {
		token, err := in.Token()
		if errors.Is(err, io.EOF) {
			return d
		}
		if err != nil {
			t.Fatalf("%s.svg is not well-formed: %v", name, err)
		}
		switch token := token.(type) {
		case xml.StartElement:
			text = token.Name.Local == "text"
			attr := map[string]string{}
			for _, a := range token.Attr {
				attr[a.Name.Local] = a.Value
			}
			if token.Name.Local == "path" && strings.Contains(attr["d"], "A") { // arcs
				d.dots++
			}
			if token.Name.Local == "path" && strings.Contains(attr["style"], "stroke-width:1.2") {
				d.lines = append(d.lines, path(t, attr["d"]))
			}
		case xml.CharData:
			if s := strings.TrimSpace(string(token)); text && s != "" {
				d.texts = append(d.texts, s)
			}
		}
	}
}

// path returns the points of M and L commands.
func path(t *testing.T, d string) [][2]float64 {
	t.Helper()
	var points [][2]float64
	for _, p := range strings.FieldsFunc(d, func(c rune) bool { return c == 'M' || c == 'L' }) {
		var x, y float64
		if _, err := fmt.Sscanf(p, "%g,%g", &x, &y); err != nil {
			t.Fatalf("path %q: %v", d, err)
		}
		points = append(points, [2]float64{x, y})
	}
	return points
}

// points returns the points of the one line of a picture; the first line drawn is
// that of the data, the second that of the legend.
func points(t *testing.T, dir, name string) [][2]float64 {
	t.Helper()
	d := readSVG(t, dir, name)
	if len(d.lines) != 2 {
		t.Fatalf("%s.svg has %d lines, want one and that of the legend: %v", name, len(d.lines), d.lines)
	}
	return d.lines[0]
}

func TestCurves(t *testing.T) {
	dir := t.TempDir()
	r := open(t, dir, 0)
	values := []float64{4, 2, 1, 3}
	for i, v := range values {
		r.Scalar(int64(i), "loss/train", v, start)
		r.Scalar(int64(i), "loss/validation", v+1, start)
		r.Scalar(int64(i), "ndcg@10", v, start)
		r.Scalar(int64(i), "towers/user/norm", v, start)
	}
	if err := r.Draw(); err != nil { // while it goes on
		t.Fatal(err)
	}
	p := points(t, dir, "ndcg@10")
	if len(p) != len(values) {
		t.Fatalf("%d points, want %d", len(p), len(values))
	}
	// Linear axes: the picture is the data, scaled; its y axis goes up.
	for i, v := range values {
		x := p[0][0] + (p[3][0]-p[0][0])*float64(i)/3
		y := p[0][1] + (p[2][1]-p[0][1])*(4-v)/3
		if math.Abs(p[i][0]-x) > 0.01 || math.Abs(p[i][1]-y) > 0.01 || p[2][1] >= p[0][1] {
			t.Errorf("point %d is drawn at %v, want (%v, %v)", i, p[i], x, y)
		}
	}
	closeRun(t, r)
	both := readSVG(t, dir, "loss")
	if len(both.lines) != 4 || len(both.lines[0]) != 4 || len(both.lines[1]) != 4 {
		t.Errorf("lines are %v, want two and those of the legend", both.lines)
	}
	for _, want := range []string{"loss", "loss/train", "loss/validation", "step"} {
		if !slices.Contains(both.texts, want) {
			t.Errorf("picture says %q, not %q", both.texts, want)
		}
	}
	points(t, dir, "towers/user")
	if _, err := os.Stat(filepath.Join(dir, "curves", "loss", "train.svg")); err == nil {
		t.Error("a series of a group has a picture of its own")
	}
}

func TestCurvesOfAnyValues(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(1)
	for _, c := range []struct {
		name   string
		values []float64
		parts  []int // points of each line
		dots   int
		says   string
	}{
		{"gap", []float64{1, 2, nan, 3, 4, 5, inf}, []int{2, 3}, 0, "gap (2 not drawn)"},
		{"nothing", []float64{nan, inf, -inf}, nil, 0, "nothing (3 not drawn)"},
		{"huge", []float64{math.MaxFloat64, -math.MaxFloat64, 1e30, -1e30}, []int{2}, 0, "huge (2 not drawn)"},
		{"constant", []float64{1e20, 1e20}, []int{2}, 0, "constant"},
		{"zero", []float64{0, 0}, []int{2}, 0, "zero"},
		{"tiny", []float64{5e-324, 1e-300}, []int{2}, 0, "tiny"},
		{"adjacent", []float64{1, math.Nextafter(1, 2)}, []int{2}, 0, "adjacent"},
		{"alone", []float64{1}, nil, 1, "alone"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			r := open(t, dir, 0)
			for i, v := range c.values {
				r.Scalar(int64(i)+math.MaxInt64-100, c.name, v, start)
			}
			closeRun(t, r)
			d := readSVG(t, dir, c.name)
			var parts []int
			for _, l := range d.lines[:len(d.lines)-1] { // without the legend's
				parts = append(parts, len(l))
			}
			if !slices.Equal(parts, c.parts) || d.dots != c.dots || !slices.Contains(d.texts, c.says) {
				t.Errorf("lines of %v points, %d dots, texts %q; want %v, %d and %q", parts, d.dots, d.texts, c.parts, c.dots, c.says)
			}
		})
	}
}

func TestLongCurveKeepsPeaks(t *testing.T) {
	dir := t.TempDir()
	r := open(t, dir, 0)
	const n, peak = 5000, 3333
	for i := range int64(n) {
		v := math.Sin(float64(i))
		if i == peak {
			v = 100
		}
		r.Scalar(i, "loss", v, start)
	}
	closeRun(t, r)
	p := points(t, dir, "loss")
	if len(p) > 1000 || len(p) < 900 {
		t.Errorf("%d points are drawn, want nearly 1,000", len(p))
	}
	top := slices.MaxFunc(p, func(a, b [2]float64) int { return int(math.Copysign(1, a[1]-b[1])) })
	share := (top[0] - p[0][0]) / (p[len(p)-1][0] - p[0][0])
	if math.Abs(share-float64(peak)/n) > 0.01 {
		t.Errorf("the peak is drawn at %.3f of the width, want %.3f", share, float64(peak)/n)
	}
	if !slices.IsSortedFunc(p, func(a, b [2]float64) int { return int(math.Copysign(1, a[0]-b[0])) }) {
		t.Error("points are out of order")
	}
}
