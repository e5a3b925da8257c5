package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/wisp-project/wisp/model"
)

func quickPrune(c chain, out string, more ...string) []string {
	return append([]string{"prune", c.model, "--data", c.prepared, "--out", out, "--epochs", "2"}, more...)
}

// TestPrune takes half of a model away, of which an artefact can be made.
func TestPrune(t *testing.T) {
	c := madeChain(t)
	out := filepath.Join(t.TempDir(), "small")
	said := succeed(t, quickPrune(c, out, "--dim", "16", "--ffn", "20")...)
	if !strings.Contains(said, "1 layers, feed-forward width 20, width 16") {
		t.Errorf("prune says %q", said)
	}
	m, tr, err := loadModel(out)
	if err != nil {
		t.Fatal(err)
	}
	if m.Config.Dim != 16 || m.Config.FFN != 20 || m.Weights[model.ItemEmbedding].Shape[1] != 16 || tr.Refit || tr.BestNDCG <= 0 {
		t.Errorf("%+v, %+v", m.Config, tr)
	}
	succeed(t, "compress", out, "--data", c.prepared, "--out", filepath.Join(t.TempDir(), "small.wisp"))

	fail(t, []string{"--layers, --ffn or --dim"}, quickPrune(c, out)...)
	fail(t, []string{"only takes away"}, quickPrune(c, out, "--layers", "9")...)
	fail(t, []string{"--batches"}, quickPrune(c, out, "--ffn", "4", "--batches", "0")...)
	fail(t, []string{"wisp ensemble"}, quickPrune(c, out, "--ffn", "4", "--teacher", c.model)...)
}

// TestPruneRefit prunes a model that knows the validation events by an ensemble that
// does not, which cannot be, and by itself.
func TestPruneRefit(t *testing.T) {
	c := madeChain(t).copy(t)
	teacher := filepath.Join(t.TempDir(), "teacher")
	succeed(t, "ensemble", c.model, "--data", c.prepared, "--out", teacher, "--with", "markov")
	again := filepath.Join(t.TempDir(), "again")
	succeed(t, append([]string{"train", c.prepared, "--out", again, "--refit"}, trainArgs...)...)
	c.model = again
	out := filepath.Join(t.TempDir(), "small")
	fail(t, []string{"other events"}, quickPrune(c, out, "--ffn", "4", "--teacher", teacher)...)
	succeed(t, quickPrune(c, out, "--ffn", "4")...)
	if _, tr, err := loadModel(out); err != nil || !tr.Refit {
		t.Errorf("refit %v, %v", tr.Refit, err)
	}
}
