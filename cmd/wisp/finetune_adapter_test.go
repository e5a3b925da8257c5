package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/wisp-project/wisp/model"
)

// Adapters are merged into an ordinary encoder; its embeddings and biases are as
// they came, and the checkpoint is smaller than that of whole matrices.
func TestFinetuneAdapters(t *testing.T) {
	c := madeChain(t)
	encoder := tinyEncoder(t, c.prepared)
	size := func(more ...string) (out string, bytes int64, stderr string) {
		out = filepath.Join(t.TempDir(), "out")
		_, stderr, err := finetune(t.Context(), quickFinetune(c.prepared, encoder, out, append(more, "--epochs", "1", "--max-pairs", "32", "--lr", "0.01")...)...)
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(filepath.Join(out, "finetune.safetensors"))
		if err != nil {
			t.Fatal(err)
		}
		return out, info.Size(), stderr
	}
	_, usual, _ := size("--frozen-layers", "1")
	out, small, stderr := size("--frozen-layers", "1", "--adapter-rank", "1", "--adapter-scale", "2")
	// Of rank 1: width 16 four times in and out, 16 and 32 twice.
	if want := "training 224 parameters"; !strings.Contains(stderr, want) {
		t.Errorf("it says %q, not %q", stderr, want)
	}
	if small >= usual {
		t.Errorf("the checkpoint has %d bytes, without adapters %d", small, usual)
	}
	before, err := model.LoadText(encoder)
	if err != nil {
		t.Fatal(err)
	}
	after, err := model.LoadText(out)
	if err != nil {
		t.Fatal(err)
	}
	for name, w := range before.Weights {
		if !slices.Equal(w.Data, after.Weights[name].Data) && (len(w.Shape) != 2 || !strings.HasPrefix(name, model.TextLayerName(1, ""))) {
			t.Errorf("%s has changed", name)
		}
	}
}
