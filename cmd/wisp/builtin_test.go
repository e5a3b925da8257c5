package main

import (
	"path/filepath"
	"strings"
	"testing"
)

// TestBuiltinEncoder takes the encoder that wisp brings along from training to a
// search in an artefact, without a folder of a model anywhere.
func TestBuiltinEncoder(t *testing.T) {
	c := madeChain(t)
	dir, artefact := filepath.Join(t.TempDir(), "model"), filepath.Join(t.TempDir(), "made.wisp")
	succeed(t, quickTrain(c.prepared, dir, "--features", "0", "--encoder", builtinEncoder)...)
	succeed(t, "compress", dir, "--data", c.prepared, "--encoder", builtinEncoder, "--out", artefact)
	if stdout := succeed(t, "inspect", artefact); !strings.Contains(stdout, "finds items, places new items") {
		t.Errorf("inspect says nothing of searching:\n%s", stdout)
	}
	ds, _, err := loadData(c.prepared)
	if err != nil {
		t.Fatal(err)
	}
	if stdout := succeed(t, "recommend", artefact, "--text", itemTexts(ds)(7), "-k", "1"); !strings.Contains(stdout, ds.Items[7].ID) {
		t.Errorf("a search for the text of item %s finds\n%s", ds.Items[7].ID, stdout)
	}
}

// What is made of the built-in encoder is a folder like any other.
func TestFinetuneBuiltin(t *testing.T) {
	prepared, out := tasteData(t), filepath.Join(t.TempDir(), "encoder")
	succeed(t, append([]string{"finetune"}, quickFinetune(prepared, builtinEncoder, out, "--epochs", "1", "--max-pairs", "8", "--max-tokens", "16")...)...)
	tok, m, err := loadEncoder(out)
	if err != nil {
		t.Fatal(err)
	}
	was, first, err := loadEncoder(builtinEncoder)
	if err != nil {
		t.Fatal(err)
	}
	if m.Config != first.Config || tok.Size() != was.Size() {
		t.Errorf("%+v with %d tokens, want %+v with %d", m.Config, tok.Size(), first.Config, was.Size())
	}
}
