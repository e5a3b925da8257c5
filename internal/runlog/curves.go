package runlog

import (
	"bytes"
	"fmt"
	"maps"
	"math"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"

	"github.com/wisp-project/wisp/internal/atomicfile"
)

const (
	curveWidth, curveHeight = 16 * vg.Centimeter, 10 * vg.Centimeter
	// curvePoints is the number of points that a drawn line has at most; more
	// than pixels are not seen.
	curvePoints = 1000
	// curveLimit is the largest absolute value that is drawn: the ticks of an
	// axis overflow long before a float64 does.
	curveLimit = 1e30
)

// point is a recorded value.
type point struct {
	step  int64
	value float64
}

// drawable tells whether the point has a place in a picture.
func (p point) drawable() bool { return math.Abs(p.value) <= curveLimit }

// Draw writes the pictures of all scalars so far, curves/NAME.svg: one for each
// name, and one for each set of names that agree up to their last slash, under
// that common part. Close draws too; Draw is for looking at a run that goes on.
func (r *Run) Draw() error {
	pictures := map[string][]string{}
	for _, name := range slices.Sorted(maps.Keys(r.series)) {
		group := path.Dir(name)
		if group == "." {
			group = name
		}
		pictures[group] = append(pictures[group], name)
	}
	for group, names := range pictures {
		c := chart{title: group, axis: "step"}
		for _, name := range names {
			c.lines = append(c.lines, line{name, r.series[name]})
		}
		svg, err := picture(c)
		if err != nil {
			return fmt.Errorf("runlog: draw %s: %w", group, err)
		}
		file := r.path(filepath.Join(curvesDir, filepath.FromSlash(group)+".svg"))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return fmt.Errorf("runlog: draw: %w", err)
		}
		if err := atomicfile.Write(file, svg); err != nil {
			return err
		}
	}
	return nil
}

// Chart is one frame of a Picture: curves over the same axis.
type Chart struct {
	Title  string
	Axis   string // what is counted along it
	Curves []Curve
}

// Curve is a line of a Chart: value i stands at First + i·Step, a step of 0
// being one of 1. A value that is no number leaves a gap.
type Curve struct {
	Name        string
	First, Step int
	Values      []float64
}

// Picture draws charts below each other, as SVG.
func Picture(charts ...Chart) ([]byte, error) {
	drawn := make([]chart, len(charts))
	for i, c := range charts {
		drawn[i] = chart{title: c.Title, axis: c.Axis}
		for _, curve := range c.Curves {
			l := line{name: curve.Name}
			for j, v := range curve.Values {
				l.points = append(l.points, point{int64(curve.First + j*max(curve.Step, 1)), v})
			}
			drawn[i].lines = append(drawn[i].lines, l)
		}
	}
	svg, err := picture(drawn...)
	if err != nil {
		return nil, fmt.Errorf("runlog: picture: %w", err)
	}
	return svg, nil
}

// chart is a Chart of recorded values.
type chart struct {
	title, axis string
	lines       []line
}

type line struct {
	name   string
	points []point
}

// picture draws charts below each other.
func picture(charts ...chart) ([]byte, error) {
	c := vgsvg.New(curveWidth, curveHeight*font.Length(max(len(charts), 1)))
	tiles := draw.Tiles{Rows: len(charts), Cols: 1}
	for i, chart := range charts {
		p, err := chart.plot()
		if err != nil {
			return nil, err
		}
		p.Draw(tiles.At(draw.New(c), 0, i))
	}
	var b bytes.Buffer
	if _, err := c.WriteTo(&b); err != nil {
		return nil, err
	}
	// The fonts of the plot package are seldom installed where a picture is seen.
	return bytes.ReplaceAll(b.Bytes(), []byte("Liberation Sans;"), []byte("Liberation Sans,Arial,sans-serif;")), nil
}

// plot lays out the chart.
func (c chart) plot() (*plot.Plot, error) {
	p := plot.New()
	p.Title.Text = c.title
	p.X.Label.Text = c.axis
	for _, f := range []*font.Font{
		&p.Title.TextStyle.Font, &p.X.Label.TextStyle.Font, &p.X.Tick.Label.Font, &p.Y.Tick.Label.Font, &p.Legend.TextStyle.Font,
	} {
		f.Variant = "Sans"
	}
	p.X.Tick.Marker, p.Y.Tick.Marker = plot.TickerFunc(ticks), plot.TickerFunc(ticks)
	p.Legend.Top = true
	p.Add(plotter.NewGrid())
	for i, l := range c.lines {
		if err := addSeries(p, i, l.name, l.points); err != nil {
			return nil, err
		}
	}
	p.X.Min, p.X.Max = axisRange(p.X.Min, p.X.Max)
	p.Y.Min, p.Y.Max = axisRange(p.Y.Min, p.Y.Max)
	p.Y.Max += (p.Y.Max - p.Y.Min) * 0.05 * float64(len(c.lines)) // room for the legend
	return p, nil
}

// addSeries adds the i-th series: a line that is broken where a value cannot be
// drawn, which the legend counts.
func addSeries(p *plot.Plot, i int, name string, points []point) error {
	style := draw.LineStyle{Color: plotutil.DarkColors[i%len(plotutil.DarkColors)], Width: vg.Points(1.2)}
	if round := i / len(plotutil.DarkColors); round > 0 {
		style.Dashes = plotutil.Dashes(round)
	}
	for _, part := range unbroken(points) {
		if len(part) == 1 { // a line of one point is not seen
			s, err := plotter.NewScatter(part)
			if err != nil {
				return err
			}
			s.GlyphStyle = draw.GlyphStyle{Color: style.Color, Radius: vg.Points(2), Shape: draw.CircleGlyph{}}
			p.Add(s)
			continue
		}
		l, err := plotter.NewLine(part)
		if err != nil {
			return err
		}
		l.LineStyle = style
		p.Add(l)
	}
	label, missing := name, 0
	for _, q := range points {
		if !q.drawable() {
			missing++
		}
	}
	if missing > 0 {
		label = fmt.Sprintf("%s (%d not drawn)", name, missing)
	}
	p.Legend.Add(label, &plotter.Line{LineStyle: style})
	return nil
}

// unbroken splits the points where one cannot be drawn and thins what is left.
func unbroken(points []point) []plotter.XYs {
	var parts []plotter.XYs
	for len(points) > 0 {
		n := 0
		for n < len(points) && points[n].drawable() {
			n++
		}
		if n > 0 {
			parts = append(parts, thin(points[:n]))
		}
		points = points[min(n+1, len(points)):]
	}
	return parts
}

// thin keeps of each stretch its least and its largest value, so that no peak is
// lost.
func thin(points []point) plotter.XYs {
	stretch := 1
	if len(points) > curvePoints {
		stretch = (2*len(points) + curvePoints - 1) / curvePoints
	}
	var kept plotter.XYs
	for part := range slices.Chunk(points, stretch) {
		lo, hi := 0, 0
		for i, q := range part {
			if q.value < part[lo].value {
				lo = i
			}
			if q.value > part[hi].value {
				hi = i
			}
		}
		for _, i := range slices.Compact([]int{min(lo, hi), max(lo, hi)}) {
			kept = append(kept, plotter.XY{X: float64(part[i].step), Y: part[i].value})
		}
	}
	return kept
}

// axisRange widens a range that is empty, or too narrow for its ticks to differ
// in a float64.
func axisRange(lo, hi float64) (float64, float64) {
	if lo > hi { // no data
		return 0, 1
	}
	least := 1e-6 * max(math.Abs(lo), math.Abs(hi), 1e-6)
	if hi-lo < least {
		mid := lo + (hi-lo)/2
		return mid - least, mid + least
	}
	return lo, hi
}

// ticks are the usual ones, with labels as short as they can be.
func ticks(lo, hi float64) []plot.Tick {
	marks := plot.DefaultTicks{}.Ticks(lo, hi)
	for i, m := range marks {
		if !m.IsMinor() {
			marks[i].Label = strconv.FormatFloat(m.Value, 'g', 8, 64)
		}
	}
	return marks
}
