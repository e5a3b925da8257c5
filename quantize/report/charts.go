package report

import (
	"fmt"
	"html/template"
	"slices"
	"strings"

	"github.com/wisp-project/wisp/model"
)

// chart is a drawing with what is said about it.
type chart struct {
	Title string
	Note  string
	SVG   template.HTML
}

// class is the colour of a way to serve, which is also that of a kind of model.
func class(way string) string { return "c-" + way }

// compared returns the charts of the models.
func (r *Report) compared() []chart {
	var quality, disk, macs []mark
	for _, m := range r.Models {
		n := m.Quality.NDCG
		quality = append(quality, mark{label: m.Name, value: fmt.Sprintf("%.4f", n.Value), v: n.Value, interval: &n, class: class(m.Kind)})
		disk = append(disk, mark{label: m.Name, value: bytesText(float64(m.DiskBytes)), v: float64(m.DiskBytes), class: class(m.Kind)})
		macs = append(macs, mark{label: m.Name, value: countText(float64(m.Request.Total)), v: float64(m.Request.Total), class: class(m.Kind)})
	}
	for _, s := range []server{r.servers()[1], r.servers()[0]} { // the larger one goes first
		disk = slices.Insert(disk, 0, mark{label: s.model + ", 16 bits", value: bytesText(s.bytes), v: s.bytes, class: class(s.way)})
		macs = slices.Insert(macs, 0, mark{label: s.model, value: countText(s.macs), v: s.macs, class: class(s.way)})
	}
	w := r.Prices.Workload
	charts := []chart{
		{"Ranking quality", fmt.Sprintf("NDCG@10 on %s test cases, with 95 %% intervals over cases.", grouped(float64(r.Data.Cases))), whiskers(quality, "NDCG@10 of each model with its interval")},
		{"Size", "Bytes on disk, on a logarithmic scale.", lollipops(disk, bytesText, "bytes of each model on a logarithmic scale")},
		{"Arithmetic", fmt.Sprintf("Multiply-accumulates for a request, on a logarithmic scale. BERT-base reads %g tokens; the language model reads %g and writes %g.",
			w.BERTTokens, w.LLMPromptTokens, w.LLMAnswerTokens), lollipops(macs, countText, "multiply-accumulates of a request on a logarithmic scale")},
	}
	if c, ok := r.throughput(); ok {
		charts = append(charts, c)
	}
	for _, m := range r.Models {
		if len(m.Layers) > 0 {
			charts = append(charts, layers(m))
		}
	}
	for _, m := range r.Models {
		if m.Network != nil {
			charts = append(charts, network(m))
		}
	}
	return charts
}

// throughput draws requests a second by threads.
func (r *Report) throughput() (chart, bool) {
	var all []series
	most, threads, counts := 0.0, 1, []float64{}
	for _, m := range r.Models {
		s := series{name: short(m.Name), class: class(m.Kind)}
		for _, t := range m.Speed.Throughput {
			s.points = append(s.points, [2]float64{float64(t.Threads), t.PerSecond})
			most, threads = max(most, t.PerSecond), max(threads, t.Threads)
			if !slices.Contains(counts, float64(t.Threads)) {
				counts = append(counts, float64(t.Threads))
			}
		}
		if len(s.points) > 0 {
			all = append(all, s)
		}
	}
	if threads == 1 || len(all) == 0 {
		return chart{}, false
	}
	x := axis{min: 1, max: float64(threads), low: 58, high: chartWidth - 108}
	y := axis{max: most * 1.05, low: 190, high: 10}
	svg := lines(all, x, y, counts, y.steps(4), func(v float64) string { return digits(v) }, countText, "requests a second by threads")
	return chart{"Throughput", "Requests a second by threads that ask without a break; the median of the rounds.", svg}, true
}

// short cuts a name for the end of a line.
func short(name string) string {
	if r := []rune(name); len(r) > 15 {
		return string(r[:14]) + "…"
	}
	return name
}

// siteText is the name of a site in words.
func siteText(site string) string {
	if site == model.SiteUserOut {
		return "user vector"
	}
	site = strings.TrimPrefix(site, "user.")
	if block, rest, ok := strings.Cut(strings.TrimPrefix(site, "layer."), "."); ok {
		return "block " + block + ", " + rest
	}
	return site
}

// layers draws the error of each site.
func layers(m Model) chart {
	var marks []mark
	for _, l := range m.Layers {
		marks = append(marks, mark{
			label: siteText(l.Site), value: percent(l.Relative), v: l.Relative, class: class(m.Kind),
		})
	}
	return chart{
		"Error of each layer, " + m.Name,
		"Root of squared error over squared value, against the float32 model it was made of, in the order of computation.",
		bars(marks, "relative error of each layer"),
	}
}

// network draws what travels.
func network(m Model) chart {
	var parts []part
	rest := m.DiskBytes // header, table, and what is too small to be seen
	for _, s := range m.Network.Sections {
		if s.Stored*50 >= m.DiskBytes {
			parts = append(parts, part{s.Name, float64(s.Stored)})
			rest -= s.Stored
		}
	}
	if rest > 0 {
		parts = append(parts, part{"other", float64(rest)})
	}
	var updates []mark
	for _, u := range m.Network.Updates {
		updates = append(updates, mark{label: u.What, value: bytesText(float64(u.Bytes)), v: float64(u.Bytes), class: class(m.Kind)})
	}
	return chart{
		"Over the network, " + m.Name,
		"Sections as they are stored, and what an update fetches where the other sections are held.",
		stack(parts, updates, "bytes of each section and of updates"),
	}
}

// costs draws the cost of a month by traffic.
func (r *Report) costs() chart {
	var all []series
	var values []float64
	for _, c := range r.Curves {
		s := series{name: short(r.legend(c)), class: class(c.Way)}
		if c.Basis == Arithmetic {
			s.style = "dashed"
		}
		for _, p := range c.Points {
			if p.CostPerMonth > 0 {
				s.points = append(s.points, [2]float64{p.RequestsPerDay, p.CostPerMonth})
				values = append(values, p.CostPerMonth)
			}
		}
		if len(s.points) > 0 {
			all = append(all, s)
		}
	}
	if len(all) == 0 {
		return chart{}
	}
	y := logAxis(values, 290, 10)
	y.min = max(y.min, 0.1)
	x := axis{min: 1e4, max: 1e9, low: 58, high: chartWidth - 108, log: true}
	svg := lines(all, x, y, x.decades(6), y.decades(9), countText, countText, "cost of a month by requests a day, both scales logarithmic")
	return chart{
		"Cost by traffic", fmt.Sprintf("%s a month by requests a day, on the cheapest instance that meets the target, or at all where none does. Dashed: by arithmetic.", r.Prices.Currency),
		svg,
	}
}

// legend is the name of a curve in a drawing.
func (r *Report) legend(c Curve) string {
	switch {
	case c.Way == WayLLM:
		return "LLM, 7 B"
	case c.Way == WayBrowser:
		i := slices.IndexFunc(r.Models, func(m Model) bool { return m.Name == c.Model })
		if i < 0 {
			return "browser"
		}
		return "browser " + bytesText(float64(r.Models[i].DiskBytes))
	case c.Way != WayBERT && c.Basis == Arithmetic:
		return c.Model + ", GPU"
	case c.Way == WayTeacher || c.Way == WayStudent:
		return c.Model + ", CPU"
	}
	return c.Model
}
