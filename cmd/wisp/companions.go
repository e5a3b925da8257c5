package main

import (
	"fmt"
	"strings"

	"github.com/wisp-project/wisp/internal/baseline"
	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/internal/eval"
)

// counted is a scorer that needs no training, its size, and the multiply-accumulates
// of an answer.
type counted interface {
	eval.Scorer
	Bytes() int64
	MACs(history []data.Interaction) int64
}

// companionKinds are the scorers that an ensemble adds to networks, by name: what
// they are counted from, over how many items. The first takes a matrix of all items by
// all items.
var companionKinds = []struct {
	name string
	fit  func(histories [][]data.Interaction, items int) (counted, error)
}{
	{"ease-recency", func(histories [][]data.Interaction, items int) (counted, error) {
		return baseline.NewEASE(histories, items, baseline.EASEOptions{Recency: true})
	}},
	{"itemknn-recency", func(histories [][]data.Interaction, items int) (counted, error) {
		return baseline.NewItemKNN(histories, items, baseline.ItemKNNOptions{Recency: true})
	}},
	{"markov", func(histories [][]data.Interaction, items int) (counted, error) {
		return baseline.NewMarkov(histories, items)
	}},
}

// companion counts the companion of that name.
func companion(name string, histories [][]data.Interaction, items int) (counted, error) {
	var names []string
	for _, k := range companionKinds {
		if k.name == name {
			return k.fit(histories, items)
		}
		names = append(names, k.name)
	}
	return nil, fmt.Errorf("companion %q is unknown; choose among %s", name, strings.Join(names, ", "))
}

// neighbours are the names of those that need no matrix of all items by all items.
func neighbours() []string {
	var names []string
	for _, k := range companionKinds[1:] {
		names = append(names, k.name)
	}
	return names
}
