package main

import (
	"context"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/wisp-project/wisp/artifact"
	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/internal/layout"
	"github.com/wisp-project/wisp/model"
	"github.com/wisp-project/wisp/quantize"
	"github.com/wisp-project/wisp/quantize/report"
)

// quick is the options of reports in tests: next to no time is spent on timing.
var quick = []string{"--threads", "1,2", "--round", "20ms"}

// madeReport writes the report of the made chain once for all tests, which must not
// write into its folder.
var madeReport = sync.OnceValues(func() (string, outcome) {
	c, err := made()
	if err != nil {
		return "", outcome{code: exitError, stderr: err.Error()}
	}
	out := filepath.Join(temporary, "report")
	args := append([]string{"report", "--data", c.prepared, "--model", c.model, "--artefact", c.artefact, "--previous", c.artefact, "--out", out}, quick...)
	return out, wisp(context.Background(), args...)
})

func reported(t *testing.T, dir string) *report.Report {
	t.Helper()
	r, err := report.Unmarshal(reportData, get(t, filepath.Join(dir, reportData)))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestReport(t *testing.T) {
	c := madeChain(t)
	out, o := madeReport()
	if o.code != 0 {
		t.Fatalf("exit %d: %s", o.code, o.stderr)
	}
	for _, want := range []string{"teacher: ", "made.wisp: ", "Language model, 7 B on ", "no server", "the report: " + filepath.Join(out, reportPage)} {
		if !strings.Contains(o.stdout, want) {
			t.Errorf("it does not say %q:\n%s", want, o.stdout)
		}
	}
	r := reported(t, out)
	if len(r.Models) != 2 || r.Data.Cases != 120 || r.Data.Items != 150 || r.Data.Protocol != leaveOneOut || r.Made.At == "" {
		t.Fatalf("%+v", r.Data)
	}
	teacher, student := r.Models[0], r.Models[1]

	// Sizes are those of the files.
	var disk int64
	for _, pattern := range []string{modelFile, featuresFiles} {
		files, err := filepath.Glob(filepath.Join(c.model, pattern))
		if err != nil || len(files) != 1 {
			t.Fatalf("%v %v", files, err)
		}
		disk += int64(len(get(t, files[0])))
	}
	if teacher.DiskBytes != disk || student.DiskBytes != int64(len(get(t, c.artefact))) {
		t.Errorf("on disk %d and %d, want %d and that of the artefact", teacher.DiskBytes, student.DiskBytes, disk)
	}
	_, w, _, err := model.Load(filepath.Join(c.model, modelFile))
	if err != nil {
		t.Fatal(err)
	}
	var parameters int64
	for _, x := range w {
		parameters += int64(len(x.Data))
	}
	projection := int64(len(w[model.ItemFeatures].Data)) // goes into the item vectors
	if teacher.Parameters != parameters || student.Parameters != parameters-projection {
		t.Errorf("%d and %d parameters, want %d and %d less", teacher.Parameters, student.Parameters, parameters, projection)
	}

	// Quality is what eval says.
	evaluated := filepath.Join(t.TempDir(), "figures.json")
	succeed(t, "eval", "--data", c.prepared, "--model", c.model, "--artefact", c.artefact, "--json", evaluated)
	var rows []figures
	if err := json.Unmarshal(get(t, evaluated), &rows); err != nil {
		t.Fatal(err)
	}
	for _, row := range rows {
		for stage, m := range map[string]report.Model{teacherStage: teacher, sandboxStage: student} {
			if row.Stage == stage && (row.NDCG != m.Quality.NDCG || row.MRR != m.Quality.MRR || row.Coverage != m.Quality.Coverage) {
				t.Errorf("%s: %+v, eval says %+v", stage, m.Quality, row)
			}
		}
	}
	if q := student.Quality; q.Retention == nil || math.Abs(q.Retention.Value-q.TiesAgainst/teacher.Quality.NDCG.Value) > 1e-9 || q.Ahead == nil ||
		q.Overlap < 0.8 || q.Overlap > 1 || teacher.Quality.Retention != nil {
		t.Errorf("beside the teacher: %+v", q)
	}

	// Layers, since the artefact says that it was made of this model.
	if len(student.Layers) != 9 || student.Layers[8].Site != "user.out" || student.Layers[8].Relative > 0.1 || teacher.Layers != nil {
		t.Errorf("layers %+v", student.Layers)
	}

	for _, m := range r.Models {
		if len(m.Speed.Throughput) != 2 || m.Speed.Throughput[1].Threads != 2 || m.Speed.Throughput[0].PerSecond <= 0 || m.Speed.Latency.P50 <= 0 ||
			m.Speed.Latency.P99 < m.Speed.Latency.P50 || m.Energy.Joules <= 0 || m.Request.Total <= 0 {
			t.Errorf("%s: %+v %+v", m.Name, m.Speed, m.Energy)
		}
	}
	if student.Request.Total >= teacher.Request.Total || student.Request.MACs.Items != 150*32 {
		t.Errorf("%+v of %+v", student.Request, teacher.Request)
	}
}

// Updates fetch header, table and what differs.
func TestReportNetwork(t *testing.T) {
	c := madeChain(t)
	out, o := madeReport()
	if o.code != 0 {
		t.Fatalf("exit %d: %s", o.code, o.stderr)
	}
	m := reported(t, out).Models[1]
	a, err := artifact.Open(c.artefact, artifact.ReadOptions{AllowUnsigned: true})
	if err != nil {
		t.Fatal(err)
	}
	stored := map[string]int64{}
	for _, s := range a.Sections {
		stored[sectionName(s)] = s.Stored
	}
	table := int64(256 + 96*len(a.Sections)) // artifact/FORMAT.md
	if len(stored) != len(m.Network.Sections) {
		t.Errorf("sections %v", m.Network.Sections)
	}
	want := map[string]int64{
		"new items":      table + stored["manifest"] + stored["golden"] + stored["header"] + stored["items"] + stored["catalogue"],
		"trained anew":   table + stored["manifest"] + stored["golden"] + stored["header"] + stored["items"] + stored["user"],
		"from made.wisp": table, // itself: nothing differs
	}
	for _, u := range m.Network.Updates {
		if u.Bytes != want[u.What] {
			t.Errorf("%s: %d bytes (%v), want %d", u.What, u.Bytes, u.Sections, want[u.What])
		}
		delete(want, u.What)
	}
	if len(want) > 0 {
		t.Errorf("no update %v", want)
	}
}

// Other prices work everything out again from the same measurements.
func TestReportFrom(t *testing.T) {
	out, o := madeReport()
	if o.code != 0 {
		t.Fatalf("exit %d: %s", o.code, o.stderr)
	}
	before := snapshot(t, out)
	prices := filepath.Join(t.TempDir(), "prices.yaml")
	put(t, prices, []byte(strings.Replace(succeed(t, "report", "prices"), "price_per_hour: 0.04", "price_per_hour: 0.4", 1)))
	dearer := filepath.Join(t.TempDir(), "dearer")
	succeed(t, "report", "--from", out, "--prices", prices, "--requests-per-day", "5e6", "--target-ms", "80", "--out", dearer)
	old, r := reported(t, out), reported(t, dearer)
	if w := r.Prices.Workload; w.RequestsPerDay != 5e6 || w.TargetMS != 80 || r.Prices.Instances[0].PricePerHour != 0.4 {
		t.Errorf("%+v", r.Prices)
	}
	if !reflect.DeepEqual(r.Models, old.Models) || r.Made != old.Made {
		t.Error("the measurements changed")
	}
	at := func(r *report.Report) report.Fleet {
		return r.Serving[slices.IndexFunc(r.Serving, func(f report.Fleet) bool { return f.Way == report.WayArtefact && f.Kind == report.CPU })]
	}
	if a, b := at(old), at(r); math.Abs(b.CostPerMonth-10*a.CostPerMonth) > 1e-6 {
		t.Errorf("ten times the price: %v, was %v", b.CostPerMonth, a.CostPerMonth)
	}
	if snapshot(t, out) != before {
		t.Error("the report that it came from changed")
	}
	// Into its own folder it replaces the report.
	succeed(t, "report", "--from", dearer, "--out", dearer)
}

func TestReportRefuses(t *testing.T) {
	c := madeChain(t)
	base := func(more ...string) []string {
		return append(append([]string{"report", "--data", c.prepared, "--model", c.model}, quick...), more...)
	}
	out := filepath.Join(t.TempDir(), "report")
	simulated := filepath.Join(t.TempDir(), "raw")
	succeed(t, "simulate", "--users", "40", "--items", "40", "--events", "900", "--out", simulated)
	other := filepath.Join(t.TempDir(), "other")
	succeed(t, "prepare", "--format", "jsonl", "--events", filepath.Join(simulated, "events.jsonl"), "--items", filepath.Join(simulated, "items.jsonl"), "--out", other)
	trained := filepath.Join(t.TempDir(), "model")
	succeed(t, append([]string{"train", other, "--out", trained}, "--epochs", "1", "--dim", "8", "--layers", "1", "--window", "5", "--features", "0")...)
	foreign := filepath.Join(t.TempDir(), "foreign.wisp")
	succeed(t, "compress", trained, "--data", other, "--out", foreign)
	typo := put(t, filepath.Join(t.TempDir(), "prices.yaml"), []byte(strings.Replace(succeed(t, "report", "prices"), "  target_ms:", "  target-m:", 1)))
	busy := t.TempDir()
	put(t, filepath.Join(busy, "letter.txt"), []byte("mine"))
	for name, test := range map[string]struct {
		say  []string
		args []string
	}{
		"artefact of other data": {[]string{"foreign.wisp", "the artefact has 40 items, the data has 150", "made from other data"}, base("--artefact", foreign, "--out", out)},
		"student of other data":  {[]string{trained, "not on this preparation"}, base("--student", trained, "--out", out)},
		"typo in prices":         {[]string{typo + ":9:", `"target-m" is no key`, `did you mean "target_ms"?`}, base("--prices", typo, "--out", out)},
		"no prices":              {[]string{"absent.yaml", "wisp report prices"}, base("--prices", "absent.yaml", "--out", out)},
		"folder of other things": {[]string{busy, "letter.txt", "name another"}, base("--out", busy)},
		"no artefact":            {[]string{"absent.wisp", "check the path"}, base("--artefact", "absent.wisp", "--out", out)},
		"no threads":             {[]string{"--threads [0 1 2]", "at least one"}, base("--out", out, "--threads", "0")},
		"no traffic":             {[]string{"requests_per_day is -1"}, base("--out", out, "--requests-per-day", "-1")},
		"no report":              {[]string{"--from", "name the folder of a report"}, []string{"report", "--from", filepath.Join(busy, "absent"), "--out", out}},
		"from and data":          {[]string{"--from", "without --data"}, []string{"report", "--from", busy, "--data", c.prepared, "--out", out}},
		"neither":                {[]string{"--data and --model (or --ensemble)", "--from"}, []string{"report", "--out", out}},
		"wrong encoder":          {[]string{"absent"}, base("--encoder", filepath.Join(busy, "absent"), "--out", out)},
	} {
		t.Run(name, func(t *testing.T) {
			fail(t, test.say, test.args...)
			if _, err := os.Stat(filepath.Join(out, reportPage)); err == nil {
				t.Error("a page was written all the same")
			}
		})
	}
	if b := get(t, filepath.Join(busy, "letter.txt")); string(b) != "mine" {
		t.Error("what was in the folder is gone")
	}
}

// An interruption at any time leaves the report that was there.
func TestReportInterrupted(t *testing.T) {
	c := madeChain(t)
	dir, o := madeReport()
	if o.code != 0 {
		t.Fatalf("exit %d: %s", o.code, o.stderr)
	}
	out := filepath.Join(t.TempDir(), "report")
	if err := os.CopyFS(out, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	before := snapshot(t, out)
	for _, nth := range []int64{1, 150, 2500} {
		args := append([]string{"report", "--data", c.prepared, "--model", c.model, "--artefact", c.artefact, "--out", out}, quick...)
		if o := wisp(interruptAt(t, nth), args...); o.code != exitInterrupted || o.stdout != "" {
			t.Errorf("interrupted at %d: exit %d, %q, %s", nth, o.code, o.stdout, o.stderr)
		}
		if snapshot(t, out) != before {
			t.Fatalf("interrupted at %d: the report changed", nth)
		}
	}
}

// Without a model of which an artefact says that it was made of it, layers are not
// compared, and the report says so.
func TestReportWithoutSource(t *testing.T) {
	c := madeChain(t)
	again := filepath.Join(t.TempDir(), "model")
	succeed(t, append(append([]string{"train", c.prepared, "--out", again}, trainArgs...), "--epochs", "2", "--seed", "9")...)
	out := filepath.Join(t.TempDir(), "report")
	args := []string{"report", "--data", c.prepared, "--model", again, "--artefact", c.artefact, "--artefact", c.artefact, "--cases", "20", "--out", out}
	succeed(t, append(args, quick...)...)
	r := reported(t, out)
	if r.Models[1].Layers != nil || r.Data.Cases != 20 || r.Models[2].Name != "made.wisp (2)" {
		t.Errorf("%+v", r.Models[1])
	}
	if !slices.ContainsFunc(r.Notes, func(n string) bool { return strings.Contains(n, "--student") }) {
		t.Errorf("notes %q", r.Notes)
	}
	// With it as a student they are.
	succeed(t, append(append(args[:len(args)-1:len(args)-1], out, "--student", c.model), quick...)...)
	r = reported(t, out)
	if len(r.Models) != 4 || r.Models[1].Kind != report.KindStudent || r.Models[1].Name != "model" || len(r.Models[2].Layers) != 9 {
		t.Errorf("with a student: %d models, %+v", len(r.Models), r.Models[1])
	}
}

// An artefact with a text encoder, and a teacher with the encoder that it was
// trained with.
func TestReportText(t *testing.T) {
	c := madeChain(t)
	encoder := tinyEncoder(t, c.prepared)
	dir, artefact := described(t, c.prepared, encoder)
	out := filepath.Join(t.TempDir(), "report")
	args := append([]string{"report", "--data", c.prepared, "--model", dir, "--artefact", artefact, "--cases", "30", "--out", out}, quick...)
	succeed(t, args...)
	without := reported(t, out)
	if !slices.ContainsFunc(without.Notes, func(n string) bool { return strings.Contains(n, "--encoder") }) || without.Models[0].Text != nil {
		t.Errorf("without the encoder: notes %q", without.Notes)
	}
	succeed(t, append(args, "--encoder", encoder)...)
	r := reported(t, out)
	m, err := model.LoadText(encoder)
	if err != nil {
		t.Fatal(err)
	}
	var n int64
	for _, w := range m.Weights {
		n += int64(len(w.Data))
	}
	before, teacher, student := without.Models[0], r.Models[0], r.Models[1]
	if teacher.Parameters != before.Parameters+n || teacher.DiskBytes != before.DiskBytes+4*n || teacher.MemoryBytes != before.MemoryBytes+4*n {
		t.Errorf("the encoder adds %d parameters, the teacher went from %d to %d", n, before.Parameters, teacher.Parameters)
	}
	if student.Text == nil || teacher.Text == nil || *student.Text != (report.Text{Tokens: teacher.Text.Tokens, MACs: teacher.Text.MACs, Total: teacher.Text.Total, EachAnswer: true}) {
		t.Errorf("texts: %+v and %+v", teacher.Text, student.Text)
	}
	// Each request reads a description, of the length that its user's has.
	ds, _, err := loadData(c.prepared)
	if err != nil {
		t.Fatal(err)
	}
	cases, err := split(ds, leaveOneOut)
	if err != nil {
		t.Fatal(err)
	}
	tok, _, err := loadEncoder(encoder)
	if err != nil {
		t.Fatal(err)
	}
	shape := layout.Shape{Items: 150, Dim: 16, Layers: 1, Heads: 1, FFN: modelConfig(t, dir).FFN, Window: 20}
	var want int64
	for _, x := range cases.Test[:30] {
		tokens := len(tok.Encode(nil, data.UserText(&ds.Users[x.User]), 48))
		want += quantize.RequestMACs(shape, len(x.History)).Total() + quantize.TextMACs(m.Config, tokens).Total() + 16*16
	}
	if got := student.Request.Total; got < want/30-3 || got > want/30 { // each part is rounded down
		t.Errorf("%d MACs a request, want %d", got, want/30)
	}
	// Another encoder is refused.
	m.Weights[model.TextNormBias].Data[0]++
	other := t.TempDir()
	if err := model.SaveText(other, m, encoder); err != nil {
		t.Fatal(err)
	}
	fail(t, []string{"is not the encoder that made the teacher's vectors"}, append(args, "--encoder", other)...)
}

// An ensemble as the teacher, of a network and of what is counted.
func TestReportEnsemble(t *testing.T) {
	c := madeChain(t)
	teacher := filepath.Join(t.TempDir(), "teacher")
	succeed(t, "ensemble", c.model, "--data", c.prepared, "--out", teacher)
	e, err := loadEnsemble(teacher)
	if err != nil {
		t.Fatal(err)
	}
	if len(e.Members) < 2 || len(e.networks) != 1 {
		t.Fatalf("members %+v; the test needs a network and another", e.Members)
	}
	out := filepath.Join(t.TempDir(), "report")
	succeed(t, append([]string{"report", "--data", c.prepared, "--ensemble", teacher, "--model", c.model, "--artefact", c.artefact, "--out", out}, quick...)...)
	r := reported(t, out)
	if len(r.Models) != 3 || r.Models[0].Kind != report.KindTeacher || r.Models[1].Kind != report.KindStudent || len(r.Models[2].Layers) != 9 {
		t.Fatalf("%d models", len(r.Models))
	}
	all, network := r.Models[0], r.Models[1]
	if all.MemoryBytes <= network.MemoryBytes || all.DiskBytes <= network.DiskBytes || all.Parameters <= network.Parameters ||
		all.Request.MACs.Linear != network.Request.MACs.Linear || all.Request.MACs.Items <= network.Request.MACs.Items {
		t.Errorf("the ensemble: %+v, its network: %+v", all.Request, network.Request)
	}
	if network.Quality.Retention == nil || r.Models[2].Quality.Retention == nil {
		t.Error("students are not compared with the ensemble")
	}
	// Quality is what eval says of it.
	evaluated := filepath.Join(t.TempDir(), "figures.json")
	succeed(t, "eval", "--data", c.prepared, "--ensemble", teacher, "--json", evaluated)
	var rows []figures
	if err := json.Unmarshal(get(t, evaluated), &rows); err != nil {
		t.Fatal(err)
	}
	if i := slices.IndexFunc(rows, func(f figures) bool { return f.Stage == ensembleStage }); i < 0 || rows[i].NDCG != all.Quality.NDCG {
		t.Errorf("%+v, eval says %+v", all.Quality.NDCG, rows)
	}
	fail(t, []string{"wisp ensemble"}, append([]string{"report", "--data", c.prepared, "--ensemble", c.model, "--out", out}, quick...)...)
}

func modelConfig(t *testing.T, dir string) model.Config {
	t.Helper()
	c, _, _, err := model.Load(filepath.Join(dir, modelFile))
	if err != nil {
		t.Fatal(err)
	}
	return c
}
