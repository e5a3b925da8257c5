package hostgpu_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/wisp-project/wisp/hostgpu"
	"github.com/wisp-project/wisp/model"
)

// The importance of a weight is the squared length of what its embedding changes
// without it, to first order: compared with a difference, weight by weight.
func TestTextImportance(t *testing.T) {
	m := tinyTextModel(t, 9)
	r := rand.New(rand.NewPCG(9, 1))
	text := make([]int32, 7)
	for i := range text {
		text[i] = int32(r.IntN(m.Config.Vocabulary))
	}
	// One text a batch, whose other texts are not there, as often as it takes for the
	// random directions to even out.
	var each []model.Weights
	const draws = 400
	for seed := range uint64(draws) {
		w, err := hostgpu.TextImportance(t.Context(), m, [][]int32{text}, seed, func(int, int) {})
		if err != nil {
			t.Fatal(err)
		}
		each = append(each, w)
	}
	embed := func() []float32 {
		y, err := m.Embed(text)
		if err != nil {
			t.Fatal(err)
		}
		return y
	}
	was := embed()
	for _, name := range []string{model.TextLayerName(0, "ffn.down.weight"), model.TextLayerName(1, "attn.v.weight"), model.TextLayerName(1, "ffn.norm.weight")} {
		var got, want float64
		x := m.Weights[name].Data
		for i := 0; i < len(x); i += 5 {
			for _, w := range each {
				got += float64(w[name].Data[i]) / draws
			}
			const step = 1e-2
			v := x[i]
			x[i] = v * (1 - step)
			for d, y := range embed() {
				change := float64(y-was[d]) / step
				want += change * change
			}
			x[i] = v
		}
		if got < 0.8*want || got > 1.25*want {
			t.Errorf("%s: importance %v, embeddings change by %v", name, got, want)
		}
	}
}

func TestTextImportanceRefuses(t *testing.T) {
	m := tinyTextModel(t, 9)
	quiet := func(int, int) {}
	if _, err := hostgpu.TextImportance(t.Context(), m, nil, 1, quiet); !errors.Is(err, hostgpu.ErrData) {
		t.Errorf("no texts: %v", err)
	}
	if _, err := hostgpu.TextImportance(t.Context(), m, [][]int32{{99}}, 1, quiet); !errors.Is(err, model.ErrInput) {
		t.Errorf("an unknown token: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := hostgpu.TextImportance(ctx, m, [][]int32{{1}}, 1, quiet); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
