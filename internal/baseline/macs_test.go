package baseline_test

import (
	"testing"

	"github.com/wisp-project/wisp/internal/baseline"
	"github.com/wisp-project/wisp/internal/data"
)

// Two users and four items, counted by hand.
func TestMACs(t *testing.T) {
	events := func(items ...int32) []data.Interaction {
		h := make([]data.Interaction, len(items))
		for i, item := range items {
			h[i] = data.Interaction{Item: item, Time: int64(i)}
		}
		return h
	}
	histories := [][]data.Interaction{events(0, 1, 2), events(1, 2)}
	ease, err := baseline.NewEASE(histories, 4, baseline.EASEOptions{Recency: true})
	if err != nil {
		t.Fatal(err)
	}
	markov, err := baseline.NewMarkov(histories, 4)
	if err != nil {
		t.Fatal(err)
	}
	knn, err := baseline.NewItemKNN(histories, 4, baseline.ItemKNNOptions{Recency: true})
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct{ got, want int64 }{
		"ease":           {ease.MACs(events(1, 2, 1)), 2 * 4},     // two different items
		"markov":         {markov.MACs(events(0, 1)), 2 + 1},      // 0 is followed by 1 and 2, 1 by 2
		"knn, both":      {knn.MACs(events(1)), 2 + 3 + 2 + 4},    // both users have it, who have 3 and 2
		"knn, twice":     {knn.MACs(events(1, 2)), 4 + 3 + 2 + 4}, // a user's items are visited once
		"knn, one":       {knn.MACs(events(0)), 1 + 3 + 4},
		"nobody":         {knn.MACs(events(3)), 4},
		"markov, nobody": {markov.MACs(events(3)), 0},
		"ease, nothing":  {ease.MACs(nil), 0},
	} {
		if test.got != test.want {
			t.Errorf("%s: %d, want %d", name, test.got, test.want)
		}
	}
}
