package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/wisp-project/wisp/artifact"
	"github.com/wisp-project/wisp/internal/eval"
	"github.com/wisp-project/wisp/internal/results"
	"github.com/wisp-project/wisp/quantize"
	"github.com/wisp-project/wisp/quantize/report"
)

const lightweightText = `
What wisp report measures of the usual model of each set (words of the items as TF-IDF, one
seed, leave-one-out) and of the artefact made of it, and what serving costs by its example of
prices, which is nobody's offer: size.SET.STAGE and speed.SET.STAGE are measured or counted,
cost.SET.WAY follows from them by arithmetic (quantize/report/REPORT.md), for the traffic and the target in
the note. A cost is that of the cheapest machines that meet the target, and where none
does, as the note then says, of the cheapest that carry the traffic. The page of each set lies in the work folder.
`

// lightweight writes the report of each set, and its figures as records.
func (b *bench) lightweight(ctx context.Context) (results.Topic, error) {
	t := results.Topic{Title: "What is saved", Text: lightweightText}
	for _, set := range b.present(b.sets()...) {
		r, err := b.report(ctx, set, reportBuild{round: 400 * time.Millisecond})
		if err != nil {
			return t, err
		}
		dir := filepath.Join(b.work, set.name, "report")
		if err := checkReportDir(dir); err != nil {
			return t, err
		}
		if err := writeReport(dir, r); err != nil {
			return t, err
		}
		b.p.line("wrote %s", filepath.Join(dir, reportPage))
		t.Records = append(t.Records, reportRecords(set.name, r)...)
	}
	return t, nil
}

// report measures the usual model of a set and its artefact.
func (b *bench) report(ctx context.Context, set set, build reportBuild) (*report.Report, error) {
	ds, fingerprint, s, err := b.preparedAndSplit(ctx, set)
	if err != nil {
		return nil, err
	}
	m, tr, dir, err := b.trained(ctx, ds, fingerprint, s, usual(1))
	if err != nil {
		return nil, err
	}
	a, _, err := compress(ctx, m, tr, ds, s, quantize.BuildOptions{})
	if err != nil {
		return nil, err
	}
	digest, err := fileDigest(filepath.Join(dir, modelFile))
	if err != nil {
		return nil, err
	}
	a.Manifest.Provenance = &artifact.Provenance{Sources: []artifact.Source{{Name: modelFile, SHA256: digest}}}
	path := filepath.Join(dir, ds.Name+".wisp")
	if err := artifact.WriteFile(path, a, artifact.WriteOptions{}); err != nil {
		return nil, err
	}
	build.data, build.model, build.artefacts = filepath.Join(b.work, set.name, "prepared"), dir, []string{path}
	in, err := build.load(ctx, b.p)
	if err != nil {
		return nil, err
	}
	defer in.close(context.WithoutCancel(ctx))
	prices, err := loadPrices("")
	if err != nil {
		return nil, err
	}
	r, err := in.measure(ctx, *prices, b.p)
	if err != nil {
		return nil, err
	}
	r.Made = report.Made{At: time.Now().UTC().Format(time.RFC3339), Wisp: version(), Command: "make results"}
	r.Plan()
	return r, nil
}

// reportRecords are the figures of a report.
func reportRecords(set string, r *report.Report) []results.Record {
	var all []results.Record
	add := func(name string, i eval.Interval, n int, unit, note string) {
		if i.Low == 0 && i.High == 0 {
			i.Low, i.High = i.Value, i.Value
		}
		all = append(all, within(results.Record{Name: name, N: n, Unit: unit, Note: note}, i))
	}
	stages := map[string]string{report.KindTeacher: teacherStage, report.KindStudent: "student", report.KindArtefact: sandboxStage}
	for _, m := range r.Models {
		size, speed := "size."+set+"."+stages[m.Kind]+".", "speed."+set+"."+stages[m.Kind]+"."
		count := func(name string, v int64, unit, note string) {
			add(size+name, eval.Interval{Value: float64(v)}, 1, unit, note)
		}
		count("parameters", m.Parameters, "", m.Precision)
		count("disk-bytes", m.DiskBytes, "bytes", "")
		count("memory-bytes", m.MemoryBytes, "bytes", "to answer one request at a time")
		count("macs", m.Request.Total, "", fmt.Sprintf("a request with a history of %.0f events, the mean of the test cases", m.Request.Events))
		if m.Network != nil {
			for _, u := range m.Network.Updates {
				count("update-"+strings.ReplaceAll(u.What, " ", "-")+".bytes", u.Bytes, "bytes", "fetched: header, table, "+strings.Join(u.Sections, ", "))
			}
		}
		l := m.Speed.Latency
		for _, q := range []struct {
			name string
			us   float64
		}{{"p50-us", l.P50}, {"p95-us", l.P95}, {"p99-us", l.P99}} {
			add(speed+q.name, eval.Interval{Value: q.us}, l.Requests, "µs", "requests one after the other, on one processor")
		}
		for _, x := range m.Speed.Throughput {
			add(fmt.Sprintf("%s%d-threads.per-second", speed, x.Threads), eval.Interval{Value: x.PerSecond, Low: x.Low, High: x.High}, x.Rounds, "", "low and high: the slowest and the fastest round")
		}
		add(speed+"joules", eval.Interval{Value: m.Energy.Joules}, 1, "J", "a request; "+m.Energy.How)
	}
	w := r.Prices.Workload
	asked := fmt.Sprintf("%.0f requests a day, %g %% within %g ms", w.RequestsPerDay, w.Percentile, w.TargetMS)
	for _, f := range r.Ways() {
		where, on := f.Instance, f.Kind
		if f.Kind == report.Browser {
			where, on = "downloads alone", ""
		}
		note := asked + "; " + where
		if !f.Meets {
			note += fmt.Sprintf(", which misses the target: a lone request takes %.0f ms", f.FastestMS)
		}
		name := "cost." + set + "." + f.Way
		if on != "" {
			name += "-" + on
		}
		add(name+".per-million", eval.Interval{Value: f.CostPerMillion}, 1, r.Prices.Currency, note)
		add(name+".machines", eval.Interval{Value: f.Machines}, 1, "", note)
	}
	return all
}
