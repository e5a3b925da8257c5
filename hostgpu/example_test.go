package hostgpu_test

import (
	"context"
	"fmt"

	"github.com/wisp-project/wisp/hostgpu"
	"github.com/wisp-project/wisp/model"
)

// An encoder gives the vectors of many users at a time; short histories share a
// row of the batch, and an empty one gets the cold-start vector.
func ExampleEncoder() {
	c := model.Config{Items: 3, Dim: 4, Layers: 1, Heads: 2, FFN: 4, Window: 5, EventTypes: 1, GapBuckets: 2}
	w := model.Weights{}
	for _, s := range c.Specs() {
		w[s.Name] = model.NewTensor(s.Shape...)
	}
	copy(w[model.ItemEmbedding].Data, []float32{1, -1, 1, -1, -1, 1, -1, 1, 1, 1, -1, -1})
	copy(w[model.UserNormGain].Data, []float32{1, 1, 1, 1})
	copy(w[model.UserCold].Data, []float32{0.25, 0.5, 0, 0})
	m, err := model.New(c, w, nil)
	if err != nil {
		panic(err)
	}
	histories := [][]model.Event{{{Item: 1}, {Item: 0, Gap: 60}}, {{Item: 2}}, nil}
	users := make([]float32, len(histories)*c.Dim)
	if err := hostgpu.NewEncoder(m, 2).Users(context.Background(), users, histories); err != nil {
		panic(err)
	}
	for i := range histories {
		fmt.Printf("%.2f\n", users[i*c.Dim:(i+1)*c.Dim])
	}
	// Output:
	// [1.00 -1.00 1.00 -1.00]
	// [1.00 1.00 -1.00 -1.00]
	// [0.25 0.50 0.00 0.00]
}
