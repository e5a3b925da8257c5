package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/zstd"

	"github.com/wisp-project/wisp/hostgpu"
	"github.com/wisp-project/wisp/internal/eval"
	"github.com/wisp-project/wisp/internal/results"
	"github.com/wisp-project/wisp/internal/tokenize"
	"github.com/wisp-project/wisp/model"
)

const recipesText = `
What public software makes of all-MiniLM-L6-v2 to have it smaller, on the titles and by the
figures of encoder.md: how many of the ten nearest titles stay (overlap10), and the rank
correlation of all cosines (spearman), against the model in float32.

- minilm-onnxruntime-int8: ONNX Runtime's dynamic quantization, int8 weights, activations
  quantized as they come; its file as it is, without a tokenizer, and compressed as ours are.
`

// recipes measures what other software makes of the teacher of the built-in encoder.
func (b *bench) recipes(ctx context.Context) error {
	out := filepath.Join(filepath.Dir(b.venv), "guest") // the peer is the same
	python, err := b.guestEnvironment(ctx, out)
	if err != nil {
		return err
	}
	list := filepath.Join(b.work, "encoder", "titles.txt")
	content, err := os.ReadFile(list)
	if err != nil {
		return fmt.Errorf("%w: `wisp results --topic encoder` writes the titles", err)
	}
	titles := strings.Split(strings.TrimSuffix(string(content), "\n"), "\n")
	folder := filepath.Join(b.shared, "models", "all-MiniLM-L6-v2")
	onnx, err := b.minilmONNX(ctx, out)
	if err != nil {
		return err
	}
	tok, err := tokenize.Load(folder)
	if err != nil {
		return err
	}
	m, err := model.LoadText(folder)
	if err != nil {
		return err
	}
	ids := make([][]int32, len(titles))
	var lines strings.Builder
	for i, title := range titles {
		ids[i] = tok.Encode(nil, title, m.Config.MaxTokens)
		fmt.Fprintln(&lines, strings.Trim(fmt.Sprint(ids[i]), "[]"))
	}
	given := eval.Vectors{Dim: m.Config.Dim, Data: make([]float32, len(ids)*m.Config.Dim)}
	if err := hostgpu.NewTextEncoder(m, 0).Embed(ctx, given.Data, ids); err != nil {
		return err
	}
	tokens, vectors := filepath.Join(out, "ids.txt"), filepath.Join(out, "vectors.bin")
	if err := os.WriteFile(tokens, []byte(lines.String()), 0o644); err != nil {
		return err
	}
	said, err := exec.CommandContext(ctx, python, filepath.Join(b.peers, "minilm_embed.py"), onnx, tokens, vectors).Output()
	if err != nil {
		return fmt.Errorf("minilm_embed.py: %w", err)
	}
	version, _, _ := strings.Cut(string(said), " ")
	own := eval.Vectors{Dim: given.Dim, Data: make([]float32, len(given.Data))}
	if err := readFloats(vectors, own.Data); err != nil {
		return err
	}
	l := eval.Alike(given, own, 10)
	i, err := eval.Bootstrap(l.Overlap, eval.BootstrapOptions{})
	if err != nil {
		return err
	}
	file, err := os.ReadFile(onnx)
	if err != nil {
		return err
	}
	packed, err := compressed(file)
	if err != nil {
		return err
	}
	const name = "minilm-onnxruntime-int8"
	note := "ONNX Runtime " + version
	return write(ctx, b.docs, "bin/bench -topic recipes", results.Topic{Name: "peers-recipes", Title: "Smaller by public recipes", Text: recipesText, Records: []results.Record{
		{Name: "quality." + name + ".overlap10", Value: i.Value, Low: i.Low, High: i.High, N: len(titles), Note: note},
		{Name: "quality." + name + ".spearman", Value: l.Spearman, N: len(titles), Note: note},
		{Name: "size." + name + ".bytes", Value: float64(len(file)), Unit: "bytes", Note: "the file"},
		{Name: "size." + name + ".compressed-bytes", Value: float64(len(packed)), Unit: "bytes", Note: "zstd"},
	}})
}

// compressed is b as the sections of an artefact are.
func compressed(b []byte) ([]byte, error) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedBestCompression), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	return enc.EncodeAll(b, nil), nil
}

// readFloats fills x from a file of as many little-endian float32.
func readFloats(path string, x []float32) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // nothing was written
	if err := binary.Read(bufio.NewReader(f), binary.LittleEndian, x); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	for _, v := range x {
		if math.IsNaN(float64(v)) {
			return fmt.Errorf("%s has a value that is no number", path)
		}
	}
	return nil
}
