package main

import (
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/internal/results"
)

// TestLightweight makes the report of a small set as a topic does.
func TestLightweight(t *testing.T) {
	b := bench{work: t.TempDir(), p: &progress{w: io.Discard}}
	at := func(name string) string { return filepath.Join(madeData, name) }
	s := set{"made", data.Source{Format: "jsonl", Events: at("events.jsonl"), Items: at("items.jsonl"), Users: at("users.jsonl")}, data.PrepareOptions{}}
	r, err := b.report(t.Context(), s, reportBuild{round: 10 * time.Millisecond, threads: []int{1, 2}})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Models) != 2 || len(r.Models[1].Layers) == 0 || len(r.Serving) == 0 {
		t.Errorf("%d models, %d fleets", len(r.Models), len(r.Serving))
	}
	topic := results.Topic{Name: "lightweight", Records: reportRecords("made", r)}
	if err := topic.Write(t.TempDir()); err != nil { // no name twice, none empty
		t.Fatal(err)
	}
	values := map[string]float64{}
	for _, r := range topic.Records {
		values[r.Name] = r.Value
		if r.Low > r.Value || r.High < r.Value || !strings.Contains(r.Name, ".made.") {
			t.Errorf("%+v", r)
		}
	}
	for _, name := range []string{
		"size.made.teacher.macs", "size.made.int8-sandbox.disk-bytes", "size.made.int8-sandbox.update-new-items.bytes", "speed.made.teacher.p50-us",
		"speed.made.int8-sandbox.2-threads.per-second", "cost.made.llm-gpu.per-million", "cost.made.artefact-cpu.machines", "cost.made.browser.per-million",
	} {
		if values[name] <= 0 {
			t.Errorf("%s is %v", name, values[name])
		}
	}
}
