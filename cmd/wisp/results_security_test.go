package main

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

// TestSecurityTopic tries a few thousand inputs: at once, and interrupted.
func TestSecurityTopic(t *testing.T) {
	run := func(work string, inputs int) map[string]float64 {
		t.Helper()
		topic, err := securityFigures(t.Context(), securitySizes{inputs: inputs, chunk: 500}, work, newProgress(newResults()))
		if err != nil {
			t.Fatal(err)
		}
		values := valuesOf(t, topic.Records)
		return values
	}
	whole, broken := t.TempDir(), t.TempDir()
	got := run(whole, 3000)
	run(broken, 700)
	again := run(broken, 3000)
	// Memory is measured, and never twice the same.
	ratio := got["security.memory-ratio"]
	delete(got, "security.memory-ratio")
	delete(again, "security.memory-ratio")
	if !reflect.DeepEqual(got, again) {
		t.Errorf("an interrupted run found %v, a whole one %v", again, got)
	}
	if got["security.inputs"] != 3000 || got["security.panics"] != 0 || got["security.accepted-forgeries"] != 0 {
		t.Errorf("%v", got)
	}
	if ratio <= 0 || ratio > 2 {
		t.Errorf("reading took %v times the memory that was declared", ratio)
	}
	for _, kind := range securityKinds {
		if got["security."+kind+".inputs"] == 0 {
			t.Errorf("no %s was tried", kind)
		}
	}
	if files, err := filepath.Glob(filepath.Join(whole, "panic-*")); err != nil || len(files) > 0 {
		b, _ := os.ReadFile(files[0])
		t.Errorf("%q: %s", files, b)
	}
}
