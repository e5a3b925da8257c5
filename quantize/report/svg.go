package report

import (
	"fmt"
	"html"
	"html/template"
	"math"
	"strings"
)

// chartWidth is that of all drawings: half a page on a desk, the whole of one on a
// telephone, so that letters keep their size.
const chartWidth = 440

// drawing is an SVG in the making. Colours are classes of the page's style sheet,
// so that they follow its light and dark.
type drawing struct {
	b      strings.Builder
	height float64
}

func (d *drawing) line(x1, y1, x2, y2 float64, class string) {
	fmt.Fprintf(&d.b, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" class="%s"/>`, x1, y1, x2, y2, class)
}

func (d *drawing) rect(x, y, w, h float64, class, title string) {
	fmt.Fprintf(&d.b, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" rx="1.5" class="%s">%s</rect>`, x, y, max(w, 0), h, class, tip(title))
}

func (d *drawing) dot(x, y, r float64, class, title string) {
	fmt.Fprintf(&d.b, `<circle cx="%.1f" cy="%.1f" r="%.1f" class="%s">%s</circle>`, x, y, r, class, tip(title))
}

// text writes s at (x, y); anchor is start, middle or end.
func (d *drawing) text(x, y float64, anchor, class, s string) {
	fmt.Fprintf(&d.b, `<text x="%.1f" y="%.1f" text-anchor="%s" class="%s">%s</text>`, x, y, anchor, class, html.EscapeString(s))
}

func (d *drawing) path(points [][2]float64, class string) {
	d.b.WriteString(`<path d="`)
	for i, p := range points {
		letter := 'L'
		if i == 0 {
			letter = 'M'
		}
		fmt.Fprintf(&d.b, "%c%.1f %.1f", letter, p[0], p[1])
	}
	fmt.Fprintf(&d.b, `" class="%s"/>`, class)
}

func tip(title string) string {
	if title == "" {
		return ""
	}
	return "<title>" + html.EscapeString(title) + "</title>"
}

// html closes the drawing; label is read to those who do not see it.
func (d *drawing) html(label string) template.HTML {
	return template.HTML(fmt.Sprintf(`<svg viewBox="0 0 %d %.0f" role="img" aria-label="%s">%s</svg>`,
		chartWidth, d.height, html.EscapeString(label), d.b.String()))
}

// axis maps values to places from low to high.
type axis struct {
	min, max  float64
	low, high float64
	log       bool
}

func (a axis) at(v float64) float64 {
	x, from, to := v, a.min, a.max
	if a.log {
		x, from, to = math.Log10(max(v, a.min)), math.Log10(a.min), math.Log10(a.max)
	}
	return a.low + (x-from)/(to-from)*(a.high-a.low)
}

// decades returns the powers of ten on a logarithmic axis, no more than most.
func (a axis) decades(most int) []float64 {
	first, last := math.Ceil(math.Log10(a.min)-1e-9), math.Floor(math.Log10(a.max)+1e-9)
	step := math.Ceil((last - first + 1) / float64(most))
	var all []float64
	for e := first; e <= last+1e-9; e += max(step, 1) {
		all = append(all, math.Pow(10, e))
	}
	return all
}

// steps returns round values on a linear axis, about n.
func (a axis) steps(n int) []float64 {
	raw := (a.max - a.min) / float64(n)
	unit := math.Pow(10, math.Floor(math.Log10(raw)))
	for _, m := range []float64{1, 2, 2.5, 5, 10} {
		if unit*m >= raw {
			unit *= m
			break
		}
	}
	var all []float64
	for v := math.Ceil(a.min/unit-1e-9) * unit; v <= a.max+unit*1e-9; v += unit {
		all = append(all, v)
	}
	return all
}

// logAxis spans values by whole decades.
func logAxis(values []float64, low, high float64) axis {
	least, most := math.Inf(1), 0.0
	for _, v := range values {
		if v > 0 {
			least, most = min(least, v), max(most, v)
		}
	}
	if most == 0 {
		least, most = 1, 1
	}
	from, to := math.Floor(math.Log10(least)), math.Ceil(math.Log10(most))
	if from == to {
		to++
	}
	return axis{min: math.Pow(10, from), max: math.Pow(10, to), low: low, high: high, log: true}
}
