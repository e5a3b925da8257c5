// Package baseline holds the recommenders that a model has to beat. They need no
// training beyond counting or one matrix inversion, and each is an eval.Scorer,
// safe for concurrent use, so that it stands in the same tables as the models.
//
// The histories they are fitted on hold one slice for each user. Repeated events
// of a user with an item count once, except in Markov, where order matters.
package baseline

import (
	"fmt"
	"math"
	"slices"

	"github.com/wisp-project/wisp/internal/data"
)

// A recency-weighted profile holds the last recentEvents events; each weighs
// recencyDecay times as much as the one after it.
const (
	recentEvents = 20
	recencyDecay = 0.8
)

// weight is how much one item of a history counts.
type weight struct {
	item  int32
	value float32
}

// profile returns the distinct items of a history, each with weight 1; or, with
// recency, those of the last events with the weight of the item's last event.
func profile(history []data.Interaction, recency bool) []weight {
	if !recency {
		items := distinct(history)
		weights := make([]weight, len(items))
		for i, item := range items {
			weights[i] = weight{item, 1}
		}
		return weights
	}
	weights := make([]weight, 0, recentEvents)
	for age := range min(len(history), recentEvents) {
		item := history[len(history)-1-age].Item
		if !slices.ContainsFunc(weights, func(w weight) bool { return w.item == item }) {
			weights = append(weights, weight{item, float32(math.Pow(recencyDecay, float64(age)))})
		}
	}
	return weights
}

// distinct returns the items of a history in ascending order.
func distinct(history []data.Interaction) []int32 {
	items := make([]int32, len(history))
	for i, e := range history {
		items[i] = e.Item
	}
	slices.Sort(items)
	return slices.Compact(items)
}

// checkFit refuses histories that do not fit a catalogue of the given size.
func checkFit(name string, histories [][]data.Interaction, items int) error {
	if items < 1 || items > math.MaxInt32 {
		return fmt.Errorf("%w: %s over a catalogue of %d items; want at least 1 and at most %d", ErrInput, name, items, math.MaxInt32)
	}
	for u, h := range histories {
		if item, ok := outside(h, items); ok {
			return fmt.Errorf("%w: %s: history of user %d names item %d of a catalogue of %d", ErrInput, name, u, item, items)
		}
	}
	return nil
}

// checkQuery refuses a call of Scores that does not fit the catalogue.
func checkQuery(name string, dst []float32, history []data.Interaction, items int) error {
	if len(dst) != items {
		return fmt.Errorf("%w: %s: room for %d scores; want %d, one for each item", ErrInput, name, len(dst), items)
	}
	if item, ok := outside(history, items); ok {
		return fmt.Errorf("%w: %s: history names item %d of a catalogue of %d", ErrInput, name, item, items)
	}
	return nil
}

func outside(history []data.Interaction, items int) (int32, bool) {
	for _, e := range history {
		if e.Item < 0 || int(e.Item) >= items {
			return e.Item, true
		}
	}
	return 0, false
}
