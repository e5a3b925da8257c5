package quantize_test

import (
	"errors"
	"testing"

	"github.com/wisp-project/wisp/hostgpu"
	"github.com/wisp-project/wisp/quantize"
)

// The built-in encoders are whole, within their budgets, and know what belongs together.
func TestBuiltin(t *testing.T) {
	for name, most := range map[string]int{quantize.BuiltinMicro: 4_000_000, quantize.BuiltinNano: 1_500_000} {
		t.Run(name, func(t *testing.T) { testBuiltin(t, name, most) })
	}
	if _, _, err := quantize.Builtin("none"); !errors.Is(err, quantize.ErrModel) || quantize.IsBuiltin("none") || quantize.BuiltinBytes("none") != 0 {
		t.Errorf("an encoder that is not there: error %v", err)
	}
}

func testBuiltin(t *testing.T, name string, most int) {
	if n := quantize.BuiltinBytes(name); n == 0 || n > most {
		t.Errorf("%d bytes, must be at most %d", n, most)
	}
	if !quantize.IsBuiltin(name) {
		t.Error("it is not built in")
	}
	m, tok, err := quantize.Builtin(name)
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
