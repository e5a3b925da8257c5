package main

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"testing"
)

// best is compared with a sort of everything.
func TestBest(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		scores, order := make([]float32, rng.IntN(40)), []int32{}
		for i := range scores {
			scores[i] = float32(rng.IntN(12)) // with ties
			order = append(order, int32(i))
		}
		slices.SortStableFunc(order, func(a, b int32) int { return cmp.Compare(scores[b], scores[a]) })
		if got, want := best(scores, 10), order[:min(10, len(order))]; !slices.Equal(got, want) {
			t.Fatalf("best of %v is %v, want %v", scores, got, want)
		}
	}
}
