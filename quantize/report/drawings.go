package report

import (
	"cmp"
	"fmt"
	"html/template"
	"slices"
	"strconv"
	"strings"

	"github.com/wisp-project/wisp/internal/eval"
)

// mark is one row of a drawing.
type mark struct {
	label, value string
	v            float64
	interval     *eval.Interval
	class        string
}

// rows of marks: the label above, the mark on a track below it.
const (
	rowHeight = 40
	margin    = 2
	axisSpace = 26
)

// lollipops draws values on a logarithmic axis: a bar would have no start there.
func lollipops(marks []mark, tick func(float64) string, label string) template.HTML {
	var values []float64
	for _, m := range marks {
		values = append(values, m.v)
	}
	a := logAxis(values, margin+4, chartWidth-margin-4)
	d := &drawing{height: float64(len(marks)*rowHeight) + axisSpace}
	bottom := d.height - axisSpace + 4
	for _, t := range a.decades(6) {
		d.line(a.at(t), 4, a.at(t), bottom, "grid")
		d.text(a.at(t), bottom+16, anchorAt(a.at(t)), "tick", tick(t))
	}
	for i, m := range marks {
		y := float64(i * rowHeight)
		d.text(margin, y+15, "start", "label", m.label)
		d.text(chartWidth-margin, y+15, "end", "value", m.value)
		d.line(a.low, y+27, a.at(m.v), y+27, "stem "+m.class)
		d.dot(a.at(m.v), y+27, 5, m.class, m.label+": "+m.value)
	}
	return d.html(label)
}

// anchorAt keeps a tick's text inside of the drawing.
func anchorAt(x float64) string {
	switch {
	case x < 24:
		return "start"
	case x > chartWidth-24:
		return "end"
	}
	return "middle"
}

// whiskers draws values with their intervals on a linear axis.
func whiskers(marks []mark, label string) template.HTML {
	low, high := marks[0].interval.Low, marks[0].interval.High
	for _, m := range marks {
		low, high = min(low, m.interval.Low), max(high, m.interval.High)
	}
	pad := (high - low) * 0.08
	if pad == 0 {
		pad = 0.01
	}
	a := axis{min: max(0, low-pad), max: high + pad, low: margin + 4, high: chartWidth - margin - 4}
	d := &drawing{height: float64(len(marks)*rowHeight) + axisSpace}
	bottom := d.height - axisSpace + 4
	for _, t := range a.steps(5) {
		d.line(a.at(t), 4, a.at(t), bottom, "grid")
		d.text(a.at(t), bottom+16, anchorAt(a.at(t)), "tick", strconv.FormatFloat(t, 'g', 4, 64))
	}
	for i, m := range marks {
		y := float64(i * rowHeight)
		d.text(margin, y+15, "start", "label", m.label)
		d.text(chartWidth-margin, y+15, "end", "value", m.value)
		d.line(a.at(m.interval.Low), y+27, a.at(m.interval.High), y+27, "whisker "+m.class)
		for _, end := range []float64{m.interval.Low, m.interval.High} {
			d.line(a.at(end), y+23, a.at(end), y+31, "whisker "+m.class)
		}
		d.dot(a.at(m.v), y+27, 5, m.class, fmt.Sprintf("%s: %s, %s", m.label, m.value, interval(*m.interval)))
	}
	return d.html(label)
}

// bars draws values on a linear axis from 0.
func bars(marks []mark, label string) template.HTML {
	const height = 22
	most := 0.0
	for _, m := range marks {
		most = max(most, m.v)
	}
	if most == 0 {
		most = 1
	}
	const left, right = 150.0, chartWidth - 66.0
	a := axis{max: most, low: left, high: right}
	d := &drawing{height: float64(len(marks)*height) + 4}
	for i, m := range marks {
		y := float64(i * height)
		d.text(left-8, y+15, "end", "label small", m.label)
		d.rect(left, y+5, max(a.at(m.v)-left, 1), 12, m.class, m.label+": "+m.value)
		d.text(max(a.at(m.v), left+1)+7, y+15, "start", "value small", m.value)
	}
	return d.html(label)
}

// series is a line of a drawing.
type series struct {
	name, class, style string
	points             [][2]float64 // x, y
}

// lines draws series with their names at their ends.
func lines(all []series, x, y axis, xTicks, yTicks []float64, xText, yText func(float64) string, label string) template.HTML {
	d := &drawing{height: max(y.low, y.high) + 24}
	for _, t := range yTicks {
		d.line(x.low, y.at(t), x.high, y.at(t), "grid")
		d.text(x.low-6, y.at(t)+4, "end", "tick", yText(t))
	}
	for _, t := range xTicks {
		d.line(x.at(t), y.low, x.at(t), y.low+4, "grid")
		d.text(x.at(t), y.low+17, "middle", "tick", xText(t))
	}
	ends := make([]float64, len(all))
	for i, s := range all {
		points := make([][2]float64, len(s.points))
		for j, p := range s.points {
			points[j] = [2]float64{x.at(p[0]), y.at(p[1])}
		}
		d.path(points, strings.TrimSpace("curve "+s.class+" "+s.style))
		if len(points) < 6 {
			for _, p := range points {
				d.dot(p[0], p[1], 3.5, s.class, s.name)
			}
		}
		ends[i] = points[len(points)-1][1]
	}
	for i, at := range apart(ends, 15, y.high+4, y.low) {
		d.text(x.high+7, at+4, "start", "label small t-"+strings.TrimPrefix(all[i].class, "c-"), all[i].name)
	}
	return d.html(label)
}

// apart moves places away from one another until neighbours have the given
// distance, within low and high as far as that goes, in the order they have.
func apart(places []float64, distance, low, high float64) []float64 {
	order := make([]int, len(places))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(places[a], places[b]) })
	moved := slices.Clone(places)
	for i, at := range order {
		moved[at] = max(moved[at], low)
		if i > 0 {
			moved[at] = max(moved[at], moved[order[i-1]]+distance)
		}
	}
	limit := high
	for i := len(order) - 1; i >= 0; i-- {
		moved[order[i]] = min(moved[order[i]], limit)
		limit = moved[order[i]] - distance
	}
	return moved
}

// part is a piece of a stacked bar.
type part struct {
	name  string
	bytes float64
}

// stack draws sections one after the other, with a legend below, and updates as bars
// on the same scale.
func stack(parts []part, updates []mark, label string) template.HTML {
	var total float64
	for _, p := range parts {
		total += p.bytes
	}
	a := axis{max: total, low: margin, high: chartWidth - margin}
	d := &drawing{}
	d.text(margin, 15, "start", "label", "whole file")
	d.text(chartWidth-margin, 15, "end", "value", bytesText(total))
	at := 0.0
	for i, p := range parts {
		d.rect(a.at(at), 22, a.at(at+p.bytes)-a.at(at)-1, 16, "s"+strconv.Itoa(i%sectionColours), p.name+": "+bytesText(p.bytes))
		at += p.bytes
	}
	y := 56.0
	x := float64(margin)
	for i, p := range parts {
		text := p.name + " " + bytesText(p.bytes)
		width := 20 + 6.6*float64(len([]rune(text)))
		if x+width > chartWidth {
			x, y = margin, y+19
		}
		d.rect(x, y-9, 10, 10, "s"+strconv.Itoa(i%sectionColours), "")
		d.text(x+14, y, "start", "tick", text)
		x += width + 6
	}
	y += 20
	for _, u := range updates {
		d.text(margin, y+11, "start", "label", u.label)
		d.text(chartWidth-margin, y+11, "end", "value", u.value)
		d.rect(a.at(0), y+18, chartWidth-2*margin, 10, "track", "")
		d.rect(a.at(0), y+18, a.at(u.v)-a.at(0), 10, u.class, u.label+": "+u.value)
		y += rowHeight + 2
	}
	d.height = y
	return d.html(label)
}

// sectionColours is the number of colours of sections in the style sheet.
const sectionColours = 8
