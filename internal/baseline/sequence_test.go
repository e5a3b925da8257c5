package baseline_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/wisp-project/wisp/internal/baseline"
	"github.com/wisp-project/wisp/internal/data"
)

// Sequence gives what Scores gives for each prefix.
func TestItemKNNSequence(t *testing.T) {
	const items = 30
	r := rand.New(rand.NewPCG(3, 3))
	histories := make([][]data.Interaction, 40)
	for u := range histories {
		for range 5 + r.IntN(40) {
			histories[u] = append(histories[u], data.Interaction{Item: int32(r.IntN(items - 1))}) // the last has no user
		}
	}
	for _, recency := range []bool{false, true} {
		m, err := baseline.NewItemKNN(histories, items, baseline.ItemKNNOptions{Recency: recency})
		if err != nil {
			t.Fatal(err)
		}
		h := append(histories[0], data.Interaction{Item: items - 1})
		lo, hi := 2, len(h)
		got, want := make([]float32, (hi-lo)*items), make([]float32, items)
		if err := m.Sequence(t.Context(), got, 0, h, lo, hi); err != nil {
			t.Fatal(err)
		}
		for i := lo; i < hi; i++ {
			if err := m.Scores(t.Context(), want, 0, h[:i+1]); err != nil {
				t.Fatal(err)
			}
			for j, w := range want {
				if g := got[(i-lo)*items+j]; math.Abs(float64(g-w)) > 1e-5 {
					t.Fatalf("recency %v, after event %d item %d scores %v, want %v", recency, i, j, g, w)
				}
			}
		}
		if err := m.Sequence(t.Context(), got, 0, h, lo, hi+1); err == nil {
			t.Error("a history was read past its end")
		}
	}
}
