package hostgpu_test

import (
	"errors"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/wisp-project/wisp/hostgpu"
	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/model"
)

// Sequence gives what Scores gives for each prefix, of histories longer than what one
// pass or the model sees too.
func TestScorerSequence(t *testing.T) {
	d, s := chain(20, 15, 300)
	o := quick()
	o.Layers, o.Epochs = 2, 1
	r := rand.New(rand.NewPCG(8, 8))
	users := model.NewTensor(len(d.Users), 3)
	copy(users.Data, normal(r, len(users.Data), 1))
	for _, given := range []hostgpu.Vectors{{}, {Users: users}} {
		m := finish(t, newTrainer(t, d, s, given, o), "")
		scorer := hostgpu.NewScorer("teacher", m).WithDescriptions(given.Users)
		h, n := d.Histories[1], len(d.Items)
		want := make([]float32, n)
		for _, at := range [][2]int{{0, 5}, {0, len(h)}, {140, 290}, {7, 7}} {
			got := make([]float32, (at[1]-at[0])*n)
			if err := scorer.Sequence(t.Context(), got, 1, h, at[0], at[1]); err != nil {
				t.Fatal(err)
			}
			for i := at[0]; i < at[1]; i++ {
				if err := scorer.Scores(t.Context(), want, 1, h[:i+1]); err != nil {
					t.Fatal(err)
				}
				for j, w := range want {
					if g := got[(i-at[0])*n+j]; math.Abs(float64(g-w)) > 1e-4 {
						t.Fatalf("events %v: after event %d item %d scores %v, want %v", at, i, j, g, w)
					}
				}
			}
		}
		if err := scorer.Sequence(t.Context(), nil, 1, h, 5, len(h)+1); !errors.Is(err, model.ErrInput) {
			t.Errorf("past the end: %v", err)
		}
		if err := scorer.Sequence(t.Context(), want, 1, []data.Interaction{{Item: int32(n)}}, 0, 1); !errors.Is(err, model.ErrInput) {
			t.Errorf("an item outside: %v", err)
		}
	}
}
