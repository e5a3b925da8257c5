package main

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"
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
		dir, err := test.s.choose(all)
		if dir != test.dir || (err == nil) != (test.says == "") || err != nil && !strings.Contains(err.Error(), test.says) {
			t.Errorf("%+v: %q, %v", test.s, dir, err)
		}
	}
	if !onFront(&all[0], all) || !onFront(&all[1], all) || onFront(&all[2], all) {
		t.Error("the front is not the whole and the half")
	}
}
