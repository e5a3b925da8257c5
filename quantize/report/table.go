package report

import (
	"fmt"
	"slices"

	"github.com/wisp-project/wisp/internal/eval"
)

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
