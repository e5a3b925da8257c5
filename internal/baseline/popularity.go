package baseline

import (
	"context"

	"github.com/wisp-project/wisp/internal/data"
)

// Popularity scores an item by the number of users who have it, whoever asks.
type Popularity struct {
	scores []float32
}

// NewPopularity counts the users of each of the given number of items. It needs
// 4 bytes for each item. The error is ErrInput.
func NewPopularity(histories [][]data.Interaction, items int) (*Popularity, error) {
	p := new(Popularity)
	if err := checkFit(p.Name(), histories, items); err != nil {
		return nil, err
	}
	p.scores = make([]float32, items)
	for i, n := range userCounts(histories, items) {
		p.scores[i] = float32(n)
	}
	return p, nil
}

// Name returns "popularity".
func (p *Popularity) Name() string { return "popularity" }

// Scores writes the number of users of each item to dst. See eval.Scorer.
func (p *Popularity) Scores(_ context.Context, dst []float32, _ int32, history []data.Interaction) error {
	if err := checkQuery(p.Name(), dst, history, len(p.scores)); err != nil {
		return err
	}
	copy(dst, p.scores)
	return nil
}

// userCounts returns how many histories hold each item.
func userCounts(histories [][]data.Interaction, items int) []int32 {
	counts := make([]int32, items)
	for _, h := range histories {
		for _, item := range distinct(h) {
			counts[item]++
		}
	}
	return counts
}
