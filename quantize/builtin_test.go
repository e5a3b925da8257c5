package quantize_test

import (
	"os"
	"testing"

	"github.com/wisp-project/wisp/hostgpu"
	"github.com/wisp-project/wisp/quantize"
)

// The built-in encoder is whole, within its budget, packs to the same bytes again,
// and knows what belongs together.
func TestBuiltin(t *testing.T) {
	b, err := os.ReadFile("builtin/encoder.bin")
	if err != nil {
		t.Fatal(err)
	}
	if len(b) > 4_000_000 {
		t.Errorf("%d bytes, must be at most 4,000,000", len(b))
	}
	m, tok, err := quantize.Builtin()
	if err != nil {
		t.Fatal(err)
	}
	texts := []string{
		"a war between galaxies fought with spaceships", "Star Wars: a battle in space",
		"two people fall in love at a wedding", "a romantic comedy about a couple",
		"a ghost haunts an old house", "a horror film with evil spirits",
	}
	x := make([]float32, len(texts)*m.Config.Dim)
	var ids [][]int32
	for _, text := range texts {
		ids = append(ids, tok.Encode(nil, text, m.Config.MaxTokens))
	}
	if err := hostgpu.NewTextEncoder(m, 0).Embed(t.Context(), x, ids); err != nil {
		t.Fatal(err)
	}
	cosine := func(i, j int) (sum float32) {
		for d := range m.Config.Dim {
			sum += x[i*m.Config.Dim+d] * x[j*m.Config.Dim+d]
		}
		return sum
	}
	for i := range texts {
		other := i ^ 1
		for j := range texts {
			if j != i && j != other && cosine(i, j) >= cosine(i, other) {
				t.Errorf("%q is nearer to %q (%.3f) than to %q (%.3f)", texts[i], texts[j], cosine(i, j), texts[other], cosine(i, other))
			}
		}
	}
}
