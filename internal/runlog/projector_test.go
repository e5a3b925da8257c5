package runlog_test

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/wisp-project/wisp/internal/runlog"
)

func TestEmbedding(t *testing.T) {
	dir := t.TempDir()
	r := open(t, dir, 0)
	for _, e := range []struct {
		name    string
		vectors []float32
		dim     int
		labels  []string
	}{
		{"items", []float32{9, 9}, 1, []string{"old", "older"}}, // replaced
		{"towers/users", []float32{1}, 1, nil},
		{"items", []float32{1, -2.5, 1e-20, 0.1, 3, 4}, 2, []string{"red\tshoe\n", " ", "Käse \xff"}},
	} {
		if err := r.Embedding(e.name, e.vectors, e.dim, e.labels); err != nil {
			t.Fatal(err)
		}
	}
	closeRun(t, r)
	for name, want := range map[string]string{
		"projector/items/tensors.tsv":        "1\t-2.5\n1e-20\t0.1\n3\t4\n",
		"projector/items/metadata.tsv":       "red shoe\n1\nKäse \uFFFD\n",
		"projector/towers/users/tensors.tsv": "1\n",
		"projector_config.pbtxt": `embeddings {
  tensor_name: "items"
  tensor_path: "projector/items/tensors.tsv"
  metadata_path: "projector/items/metadata.tsv"
}
embeddings {
  tensor_name: "towers/users"
  tensor_path: "projector/towers/users/tensors.tsv"
}
`,
	} {
		if got := readFile(t, dir, name); got != want {
			t.Errorf("%s is\n%s\nwant\n%s", name, got, want)
		}
	}
}

func TestEmbeddingErrors(t *testing.T) {
	for _, c := range []struct {
		name    string
		vectors []float32
		dim     int
		labels  []string
	}{
		{"no rows", nil, 2, nil},
		{"no dimensions", []float32{1}, 0, nil},
		{"negative dimensions", []float32{1}, -1, nil},
		{"part of a row", []float32{1, 2, 3}, 2, nil},
		{"too few labels", []float32{1, 2}, 1, []string{"a"}},
		{"no labels", []float32{1, 2}, 1, []string{}},
		{"NaN", []float32{1, float32(math.NaN())}, 1, nil},
		{"infinity", []float32{float32(math.Inf(-1))}, 1, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			r := open(t, dir, 0)
			if err := r.Embedding("items", c.vectors, c.dim, c.labels); !errors.Is(err, runlog.ErrInput) {
				t.Errorf("error is %v", err)
			}
			if _, err := os.Stat(filepath.Join(dir, "projector_config.pbtxt")); err == nil {
				t.Error("a configuration was written")
			}
			closeRun(t, r)
		})
	}
}
