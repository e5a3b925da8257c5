package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/wisp-project/wisp/hostgpu"
	"github.com/wisp-project/wisp/internal/data"
)

// TestStudents goes all the way from networks to what is kept in the sandbox, and takes
// from the work folder what is there.
func TestStudents(t *testing.T) {
	if testing.Short() {
		t.Skip("trains a dozen models")
	}
	at := func(name string) string { return filepath.Join(madeData, name) }
	var said strings.Builder
	b := &bench{work: t.TempDir(), seeds: 2, p: &progress{w: &said}}
	c := class{
		bench: b, epochs: 2, sizes: []string{"nano"}, kind: usual(0),
		set:      set{"made", data.Source{Format: "jsonl", Events: at("events.jsonl"), Items: at("items.jsonl"), Users: at("users.jsonl")}, data.PrepareOptions{}},
		variants: []variant{{name: "ids-", options: hostgpu.TrainOptions{Epochs: 3}}, {name: "words-", vectors: givenVectors{TFIDF: 16}, options: hostgpu.TrainOptions{Epochs: 3}}},
	}
	if err := c.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	values := valuesOf(t, c.records)
	for _, name := range []string{
		"quality.made.best.ndcg10", "quality.made.student.ndcg10", "quality.made.student-int8.ndcg10", "quality.made.student-int8-sandbox.retention",
		"quality.made.student-int8-sandbox.overlap10", "quality.made.student-pruned.retention", "size.made.student-pruned-int8-sandbox.bytes", "quality.made.undistilled-int8-sandbox.ndcg10", "quality.made.student-nano.validation-ndcg10",
		"size.made.artefact.bytes", "size.made.artefact.ratio-to-teacher", "size.made.artefact.bytes-per-item", "size.made.best.bytes", "speed.made.student-int8-sandbox.p50-us", "compute.made.student.macs",
	} {
		if !(values[name] > 0) {
			t.Errorf("%s is %v", name, values[name])
		}
	}
	if a, b := values["quality.made.student-int8.ndcg10"], values["quality.made.student-int8-sandbox.ndcg10"]; a != b {
		t.Errorf("the sandbox gives %v, plain Go %v", b, a)
	}

	if a, b := values["size.made.student-pruned-int8-sandbox.bytes"], values["size.made.artefact.bytes"]; !(a < b) {
		t.Errorf("pruned it weighs %v bytes, whole %v", a, b)
	}

	said.Reset()
	c.records = nil
	if err := c.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(said.String(), "training on") {
		t.Errorf("it trains again: %s", said.String())
	}
}
