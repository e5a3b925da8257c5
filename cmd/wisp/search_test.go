package main

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/wisp-project/wisp/artifact"
)

// TestCompressWithin looks for a smaller model within a budget, twice: the second time
// nothing is trained again.
func TestCompressWithin(t *testing.T) {
	c := madeChain(t)
	dir := t.TempDir()
	out, svg := filepath.Join(dir, "small.wisp"), filepath.Join(dir, "front.svg")
	whole, err := fileSize(c.artefact)
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"compress", c.model, "--data", c.prepared, "--out", out, "--recover-epochs", "1", "--created", "2024-05-01T00:00:00Z"}
	within := append(args, "--budget", "1MB", "--min-retention", "0.01", "--front", svg)
	table := succeed(t, within...)
	if !strings.Contains(table, "front") || !strings.Contains(table, "retention") {
		t.Errorf("no front in\n%s", table)
	}
	if !bytes.HasPrefix(get(t, svg), []byte("<svg")) || !bytes.Contains(get(t, svg), []byte("<polyline points=\"")) {
		t.Errorf("no picture: %s", get(t, svg))
	}
	size, err := fileSize(out)
	if err != nil {
		t.Fatal(err)
	}
	if size >= whole {
		t.Errorf("%d bytes, and the whole model has %d", size, whole)
	}
	if !strings.Contains(table, " 8  ") || !strings.Contains(table, " 4  ") {
		t.Errorf("not every number of bits is in\n%s", table)
	}
	before := get(t, out)
	o := wisp(t.Context(), within...)
	if o.code != 0 || strings.Contains(o.stderr, "recovering") {
		t.Errorf("exit %d: it trained again: %s", o.code, o.stderr)
	}
	if !bytes.Equal(get(t, out), before) {
		t.Error("the same command makes another artefact")
	}
	said := func(words []string, more ...string) {
		t.Helper()
		o := wisp(t.Context(), append(args, more...)...)
		for _, w := range words {
			if o.code != exitError || !strings.Contains(o.stderr, w) {
				t.Errorf("exit %d, and no %q in %s", o.code, w, o.stderr)
			}
		}
	}
	said([]string{"--budget binds", "bytes of the 1000 allowed"}, "--budget", "1KB")
	said([]string{"--max-latency binds"}, "--max-latency", "1ns")
	said([]string{"must lie between"}, "--min-retention", "2")
	said([]string{"is no size"}, "--budget", "much")
}

// Items in four bits make a smaller file that ranks nearly the same.
func TestCompressItemBits(t *testing.T) {
	c := madeChain(t)
	out := filepath.Join(t.TempDir(), "four.wisp")
	succeed(t, "compress", c.model, "--data", c.prepared, "--out", out, "--item-bits", "4")
	small, whole := sectionBytes(t, out, "items"), sectionBytes(t, c.artefact, "items")
	if small*10 > whole*7 {
		t.Errorf("items take %d bytes in four bits, %d in eight", small, whole)
	}
	path := filepath.Join(t.TempDir(), "figures.json")
	succeed(t, "eval", "--data", c.prepared, "--model", c.model, "--artefact", out, "--json", path)
	var rows []figures
	if err := json.Unmarshal(get(t, path), &rows); err != nil {
		t.Fatal(err)
	}
	by := map[string]figures{}
	for _, r := range rows {
		by[r.Stage] = r
	}
	if got, want := by[sandboxStage].MRR.Value, by[teacherStage].MRR.Value; got < 0.85*want {
		t.Errorf("in four bits MRR is %.4f, the teacher's %.4f", got, want)
	}
	fail(t, []string{"items in 2 bits", "3 to 8"}, "compress", c.model, "--data", c.prepared, "--out", out, "--item-bits", "2")
}

// sectionBytes is what the named section of an artefact takes.
func sectionBytes(t *testing.T, path, name string) int {
	t.Helper()
	a, err := artifact.Open(path, artifact.ReadOptions{AllowUnsigned: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range a.Sections {
		if s.Name == name {
			return int(s.Stored)
		}
	}
	t.Fatalf("%s has no section %q", path, name)
	return 0
}

func TestByteSize(t *testing.T) {
	for in, want := range map[string]byteSize{"2MB": 2e6, "300 kB": 300e3, "1MiB": 1 << 20, "77": 77, "1.5kb": 1500, "9b": 9} {
		var got byteSize
		if err := got.Set(in); err != nil || got != want {
			t.Errorf("%q: %d, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "MB", "-1MB", "NaN", "1TB", "0"} {
		if err := new(byteSize).Set(in); err == nil {
			t.Errorf("%q is taken for a size", in)
		}
	}
}

// Which constraint binds, and what comes closest.
func TestSearchChooses(t *testing.T) {
	all := []candidate{
		{dir: "whole", bytes: 100, p50: 50e3, retention: 1},
		{dir: "half", bytes: 50, p50: 30e3, retention: 0.95},
		{dir: "worse", bytes: 60, p50: 30e3, retention: 0.9},
	}
	for _, test := range []struct {
		s    search
		dir  string
		says string
	}{
		{search{retention: 0.9}, "half", ""},
		{search{retention: 0.99}, "whole", ""},
		{search{retention: 0.99, budget: 70}, "", "keeps 0.9500"},
		{search{budget: 40}, "", "--budget binds"},
		{search{latency: 20e3}, "", "--max-latency binds"},
	} {
		found, err := test.s.choose(all)
		dir := ""
		if found != nil {
			dir = found.dir
		}
		if dir != test.dir || (err == nil) != (test.says == "") || err != nil && !strings.Contains(err.Error(), test.says) {
			t.Errorf("%+v: %q, %v", test.s, dir, err)
		}
	}
	if !onFront(&all[0], all) || !onFront(&all[1], all) || onFront(&all[2], all) {
		t.Error("the front is not the whole and the half")
	}
}
