package report

import (
	"bytes"
	_ "embed" // the template
	"fmt"
	"html/template"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/wisp-project/wisp/internal/eval"
)

//go:embed page.html
var pageText string

var pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{"percent": percent}).Parse(pageText))

// page is what the template shows.
type page struct {
	*Report
	Headline            string
	Lead                string
	Tiles               []tile
	Groups              []group
	Charts              []chart
	Costs               chart
	Asked               string // the question of cost
	Verdict             string // and its answer
	BestTable, AllTable fleetTable
	Question            []setting
	Machines            []priceRow
	Columns             []setting
}

// Day is when the report was made.
func (p page) Day() string {
	at, err := time.Parse(time.RFC3339, p.Made.At)
	if err != nil {
		return ""
	}
	return at.Format("2 January 2006")
}

// tile is a figure that stands out.
type tile struct{ Name, Value, Note string }

// group is a part of the table that compares models.
type group struct {
	Title string
	Rows  []row
}

type row struct {
	Name  string
	Cells []cell
}

type cell struct{ Main, Sub string }

// fleetTable is a table of fleets; Name is the heading of their latencies.
type fleetTable struct {
	Name string
	Rows []fleetRow
}

// fleetRow is a Fleet in words.
type fleetRow struct {
	Class, Way, Where, Basis, Batch, Machines, Sites, Load, Service, Latency, Month, Million, Energy string
	Meets                                                                                            bool
}

// setting is a value with what it is and where to get it.
type setting struct{ Key, Value, What string }

// priceRow are the values of an instance.
type priceRow struct {
	Name   string
	Values []string
}

// HTML writes the page: one file that needs no other.
func (r *Report) HTML() ([]byte, error) {
	p := page{
		Report: r, Tiles: r.tiles(), Groups: r.groups(), Charts: r.compared(), Costs: r.costs(), Asked: r.answer()[0], Verdict: r.verdict(),
		Question: r.question(), Columns: columns(),
	}
	p.Headline, p.Lead = r.headline()
	p.BestTable, p.AllTable = r.fleets(r.Ways()), r.fleets(r.Serving)
	for _, in := range r.Prices.Instances {
		p.Machines = append(p.Machines, priceRow{in.Name, instanceValues(in)})
	}
	var b bytes.Buffer
	if err := pageTemplate.Execute(&b, p); err != nil {
		return nil, fmt.Errorf("report: page: %w", err)
	}
	return b.Bytes(), nil
}

// headline says what the report comes to.
func (r *Report) headline() (string, string) {
	teacher, s := r.Models[0], r.Smallest()
	if s == nil {
		return "What " + teacher.Name + " costs", "There is no artefact in this report to compare it with."
	}
	title := fmt.Sprintf("The teacher's ranking, in %s", bytesText(float64(s.DiskBytes)))
	if k := s.Quality.Retention; k != nil && k.High < 0.99 {
		title = fmt.Sprintf("%s of the teacher's ranking, in %s", percent(k.Value), bytesText(float64(s.DiskBytes)))
	}
	lead := fmt.Sprintf("%s answers a request in %s on one core, without a GPU, and gives the same bits in every sandbox.",
		s.Name, timeText(s.Speed.Latency.P50))
	return title, lead
}

func (r *Report) tiles() []tile {
	teacher, s := r.Models[0], r.Smallest()
	if s == nil {
		return nil
	}
	var tiles []tile
	if k := s.Quality.Retention; k != nil {
		tiles = append(tiles, tile{"Ranking kept", percent(k.Value), fmt.Sprintf("of the teacher's NDCG@10; %s to %s with 95 %% confidence, ties counted against it", percent(k.Low), percent(k.High))})
	}
	tiles = append(tiles,
		tile{"Size", bytesText(float64(s.DiskBytes)), fmt.Sprintf("everything included; the teacher has %s, %s as much", bytesText(float64(teacher.DiskBytes)), times(float64(teacher.DiskBytes), float64(s.DiskBytes)))},
		tile{"Latency", timeText(s.Speed.Latency.P50), fmt.Sprintf("median on one core; 99 of 100 requests take less than %s", timeText(s.Speed.Latency.P99))},
	)
	if f, ok := r.best(WayArtefact, s.Name); ok {
		note := "per million requests on " + f.Instance
		if l, ok := r.best(WayLLM, ""); ok {
			note += fmt.Sprintf("; a language model of 7 B takes %s", moneyText(r.Prices.Currency, l.CostPerMillion))
		}
		tiles = append(tiles, tile{"Cost", moneyText(r.Prices.Currency, f.CostPerMillion), note})
	}
	return tiles
}

// best returns the cheapest fleet of a way, of any model where the name is empty.
func (r *Report) best(way, name string) (Fleet, bool) {
	ways := r.Ways()
	i := slices.IndexFunc(ways, func(f Fleet) bool { return f.Way == way && (name == "" || f.Model == name) })
	if i < 0 {
		return Fleet{}, false
	}
	return ways[i], true
}

// groups is the comparison as a table.
func (r *Report) groups() []group {
	teacher := r.Models[0]
	each := func(name string, f func(m Model) cell) row {
		row := row{Name: name}
		for _, m := range r.Models {
			row.Cells = append(row.Cells, f(m))
		}
		return row
	}
	less := func(of, v int64, m Model) string {
		switch t := times(float64(of), float64(v)); {
		case m.Kind == KindTeacher || t == "" || t == "1×":
			return ""
		case v > of:
			return times(float64(v), float64(of)) + " more"
		default:
			return t + " less"
		}
	}
	groups := []group{
		{"Size", []row{
			each("Parameters", func(m Model) cell {
				return cell{countText(float64(m.Parameters)), m.Precision}
			}),
			each("On disk", func(m Model) cell {
				return cell{bytesText(float64(m.DiskBytes)), less(teacher.DiskBytes, m.DiskBytes, m)}
			}),
			each("In memory", func(m Model) cell {
				sub := less(teacher.MemoryBytes, m.MemoryBytes, m)
				if m.SandboxBytes > 0 {
					sub = bytesText(float64(m.SandboxBytes)) + " for each further sandbox"
				}
				return cell{bytesText(float64(m.MemoryBytes)), sub}
			}),
		}},
		{"Multiply-accumulates", []row{
			each("A request", func(m Model) cell {
				return cell{countText(float64(m.Request.Total)), fmt.Sprintf("%s events: %s linear, %s attention, %s catalogue", digits(m.Request.Events),
					countText(float64(m.Request.MACs.Linear)), countText(float64(m.Request.MACs.Attention)), countText(float64(m.Request.MACs.Items)))}
			}),
		}},
	}
	if slices.ContainsFunc(r.Models, func(m Model) bool { return m.Text != nil }) {
		groups[1].Rows = append(groups[1].Rows, each("A text", func(m Model) cell {
			if m.Text == nil {
				return cell{Main: "–"}
			}
			return cell{countText(float64(m.Text.Total)), fmt.Sprintf("of %d tokens", m.Text.Tokens)}
		}))
	}
	groups = append(groups, r.speedGroup(each), r.qualityGroup(each))
	if slices.ContainsFunc(r.Models, func(m Model) bool { return m.Network != nil }) {
		groups = append(groups, r.networkGroup(each))
	}
	return groups
}

func (r *Report) speedGroup(each func(string, func(Model) cell) row) group {
	g := group{"Speed", []row{
		each("Latency, median", func(m Model) cell {
			l := m.Speed.Latency
			return cell{timeText(l.P50), fmt.Sprintf("p95\u00a0%s, p99\u00a0%s", timeText(l.P95), timeText(l.P99))}
		}),
	}}
	for i, t := range r.Models[0].Speed.Throughput {
		name := fmt.Sprintf("Requests a second, %d threads", t.Threads)
		if t.Threads == 1 {
			name = "Requests a second, 1 thread"
		}
		g.Rows = append(g.Rows, each(name, func(m Model) cell {
			if i >= len(m.Speed.Throughput) {
				return cell{Main: "–"}
			}
			t := m.Speed.Throughput[i]
			return cell{digits(t.PerSecond), fmt.Sprintf("%s–%s; p99\u00a0%s", digits(t.Low), digits(t.High), timeText(t.P99))}
		}))
	}
	g.Rows = append(g.Rows, each("Energy a request", func(m Model) cell {
		return cell{jouleText(m.Energy.Joules), m.Energy.How}
	}))
	return g
}

func (r *Report) qualityGroup(each func(string, func(Model) cell) row) group {
	metric := func(name string, of func(Quality) eval.Interval) row {
		return each(name, func(m Model) cell {
			i := of(m.Quality)
			return cell{fmt.Sprintf("%.4f", i.Value), interval(i)}
		})
	}
	g := group{"Quality", []row{
		metric("NDCG@10", func(q Quality) eval.Interval { return q.NDCG }),
		metric("Hit rate@10", func(q Quality) eval.Interval { return q.HitRate }),
		metric("MRR", func(q Quality) eval.Interval { return q.MRR }),
		metric("Coverage of the catalogue", func(q Quality) eval.Interval { return q.Coverage }),
	}}
	if len(r.Models) > 1 {
		g.Rows = append(g.Rows,
			each("Kept of the teacher's NDCG", func(m Model) cell {
				if m.Quality.Retention == nil {
					return cell{Main: "–"}
				}
				k := m.Quality.Retention
				return cell{percent(k.Value), percent(k.Low) + " to " + percent(k.High) + ", paired"}
			}),
			each("Ahead of the teacher", func(m Model) cell {
				if m.Quality.Ahead == nil {
					return cell{Main: "–"}
				}
				a := m.Quality.Ahead
				return cell{signed(a.Value), fmt.Sprintf("%s to %s, p\u00a0%.2f", signed(a.Low), signed(a.High), a.P)}
			}),
			each("Top ten in common", func(m Model) cell {
				if m.Kind == KindTeacher {
					return cell{Main: "–"}
				}
				return cell{percent(m.Quality.Overlap), "with the teacher's"}
			}),
		)
	}
	if slices.ContainsFunc(r.Models, func(m Model) bool { return len(m.Layers) > 0 }) {
		g.Rows = append(g.Rows, each("Largest error of a layer", func(m Model) cell {
			if len(m.Layers) == 0 {
				return cell{Main: "–"}
			}
			worst, last := m.Layers[0], m.Layers[len(m.Layers)-1]
			for _, l := range m.Layers {
				if l.Relative > worst.Relative {
					worst = l
				}
			}
			return cell{percent(worst.Relative), fmt.Sprintf("%s; %s in the user vector", siteText(worst.Site), percent(last.Relative))}
		}))
	}
	return g
}

func (r *Report) networkGroup(each func(string, func(Model) cell) row) group {
	g := group{"Over the network", []row{
		each("First download", func(m Model) cell {
			if m.Network == nil {
				return cell{Main: "–"}
			}
			return cell{Main: bytesText(float64(m.DiskBytes))}
		}),
	}}
	var whats []string
	for _, m := range r.Models {
		if m.Network != nil {
			for _, u := range m.Network.Updates {
				if !slices.Contains(whats, u.What) {
					whats = append(whats, u.What)
				}
			}
		}
	}
	for _, what := range whats {
		g.Rows = append(g.Rows, each("Update: "+what, func(m Model) cell {
			if m.Network == nil {
				return cell{Main: "–"}
			}
			for _, u := range m.Network.Updates {
				if u.What == what {
					return cell{bytesText(float64(u.Bytes)), percent(float64(u.Bytes)/float64(m.DiskBytes)) + " of the file"}
				}
			}
			return cell{Main: "–"}
		}))
	}
	return g
}

func signed(v float64) string {
	switch {
	case v >= 0.00005:
		return fmt.Sprintf("+%.4f", v)
	case v <= -0.00005:
		return fmt.Sprintf("−%.4f", -v)
	}
	return "0.0000"
}

func (r *Report) fleets(all []Fleet) fleetTable {
	t := fleetTable{Name: fmt.Sprintf("p%g, at most", r.Prices.Workload.Percentile)}
	for _, f := range all {
		t.Rows = append(t.Rows, r.fleetRow(f))
	}
	return t
}

// fleetRow writes f for a table.
func (r *Report) fleetRow(f Fleet) fleetRow {
	row := fleetRow{
		Class: class(f.Way), Way: f.Model, Where: f.Instance, Basis: f.Basis, Meets: f.Meets,
		Batch: digits(f.Batch), Service: timeText(1000 * f.ServiceMS), Machines: grouped(f.Machines), Load: percent(f.Utilisation),
		Latency: timeText(1000 * f.LatencyMS), Month: moneyText(r.Prices.Currency, f.CostPerMonth),
		Million: moneyText(r.Prices.Currency, f.CostPerMillion), Energy: scaled(f.KWhPerMonth*1000, "Wh", "kWh", "MWh", "GWh"),
	}
	if f.Sites > 1 {
		row.Sites = fmt.Sprintf("%s sites", grouped(f.Sites))
	}
	if f.Kind == Browser {
		row.Where, row.Machines, row.Load, row.Energy = "the visitor's browser", "none", "–", "the visitor's"
	}
	return row
}

// answer says in sentences what the tables of cost come to.
func (r *Report) answer() []string {
	w := r.Prices.Workload
	month := func(f Fleet) string { return moneyText(r.Prices.Currency, f.CostPerMonth) + " a month" }
	all := []string{fmt.Sprintf("The question: %s requests a day, %g %% of them answered within %s, %g times the mean in the busiest hour.",
		countText(w.RequestsPerDay), w.Percentile, timeText(1000*w.TargetMS), w.PeakOverMean)}
	for _, f := range r.Ways() {
		on := f.Model + " on " + f.Instance
		switch {
		case f.Kind == Browser:
			all = append(all, fmt.Sprintf("%s in the visitors' browsers: no server, %s for the downloads.", f.Model, month(f)))
		case f.Meets:
			all = append(all, fmt.Sprintf("%s: %s machines, %s, %s of their capacity in the busiest hour.", on, grouped(f.Machines), month(f), percent(f.Utilisation)))
		case f.FastestMS > w.TargetMS:
			all = append(all, fmt.Sprintf("%s: too slow with any number of machines, as a lone request takes %s; %s machines carry the traffic, %s.",
				on, timeText(1000*f.FastestMS), grouped(f.Machines), month(f)))
		default:
			all = append(all, fmt.Sprintf("%s: misses the target; %s machines carry the traffic, %s.", on, grouped(f.Machines), month(f)))
		}
	}
	return all
}

// verdict is the answer in a sentence or two.
func (r *Report) verdict() string {
	s := r.Smallest()
	if s == nil {
		return ""
	}
	f, ok := r.best(WayArtefact, s.Name)
	if !ok {
		return ""
	}
	month := func(f Fleet) string { return moneyText(r.Prices.Currency, f.CostPerMonth) + " a month" }
	text := fmt.Sprintf("%s takes %s on %s machines (%s).", s.Name, month(f), grouped(f.Machines), f.Instance)
	if b, ok := r.best(WayBrowser, s.Name); ok {
		text += fmt.Sprintf(" In the visitors' browsers it takes no server, and %s of downloads.", month(b))
	}
	if b, ok := r.best(WayBERT, ""); ok {
		text += fmt.Sprintf(" BERT-base takes %s.", month(b))
	}
	if l, ok := r.best(WayLLM, ""); ok {
		text += fmt.Sprintf(" A language model of seven billion parameters takes %s", month(l))
		if l.FastestMS > r.Prices.Workload.TargetMS {
			text += fmt.Sprintf(" and misses the target all the same: a lone request takes %s at best", timeText(1000*l.FastestMS))
		}
		text += "."
	}
	return text
}

// question are the values of the workload.
func (r *Report) question() []setting {
	v := reflect.ValueOf(r.Prices.Workload)
	var all []setting
	for i, key := range keysOf(v.Type()) {
		all = append(all, setting{key, plain(v.Field(i).Float()), described(key)})
	}
	return all
}

// instanceValues are those behind the name, in the order of columns.
func instanceValues(in Instance) []string {
	v := reflect.ValueOf(in)
	var all []string
	for i, key := range keysOf(v.Type()) {
		switch f := v.Field(i); {
		case key == "name":
		case f.Kind() == reflect.String:
			all = append(all, f.String())
		case optional(v, key) && f.Float() == 0:
			all = append(all, "–")
		default:
			all = append(all, plain(f.Float()))
		}
	}
	return all
}

// columns says what the values of an instance are.
func columns() []setting {
	var all []setting
	for _, key := range keysOf(reflect.TypeFor[Instance]()) {
		if key != "name" {
			all = append(all, setting{Key: key, What: described(key)})
		}
	}
	return all
}

// plain writes a value as it stands in the table.
func plain(v float64) string {
	if v >= 1000 {
		return grouped(v)
	}
	return fmt.Sprintf("%g", v)
}

// described is the comment of the example about a key.
func described(key string) string {
	for line := range strings.Lines(string(DefaultPrices)) {
		line = strings.TrimSpace(line)
		if rest, ok := strings.CutPrefix(line, key+":"); ok {
			if _, comment, ok := strings.Cut(rest, "# "); ok {
				return comment
			}
		}
		names, comment, ok := strings.Cut(strings.TrimPrefix(line, "#   "), "  ")
		if ok && strings.HasPrefix(line, "#   ") && slices.Contains(strings.Split(names, ", "), key) {
			return strings.TrimSpace(comment)
		}
	}
	return ""
}

// Summary is the report in a few lines of plain text.
func (r *Report) Summary() []string {
	var all []string
	for _, m := range r.Models {
		line := fmt.Sprintf("%s: %s on disk, %s multiply-accumulates, p50 %s, NDCG@10 %.4f (%s)", m.Name, bytesText(float64(m.DiskBytes)),
			countText(float64(m.Request.Total)), timeText(m.Speed.Latency.P50), m.Quality.NDCG.Value, interval(m.Quality.NDCG))
		if k := m.Quality.Retention; k != nil {
			line += fmt.Sprintf(", keeps %s (%s to %s)", percent(k.Value), percent(k.Low), percent(k.High))
		}
		all = append(all, line)
	}
	for i, s := range r.answer() {
		if i > 0 {
			s = "  " + s
		}
		all = append(all, s)
	}
	for i, s := range all {
		all[i] = strings.ReplaceAll(s, blank, " ")
	}
	return all
}
