package report

import (
	"fmt"
	"strings"
)

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
