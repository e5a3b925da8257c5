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
