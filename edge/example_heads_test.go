package edge_test

import (
	"context"
	"fmt"
	"math"

	"github.com/wisp-project/wisp/edge"
	"github.com/wisp-project/wisp/model"
)

// shopRatings is a rating head for the shop: what is near the user is rated up to a star
// higher. Heads of use are made by wisp fit-ratings.
func shopRatings(c model.Config) *model.RatingHead {
	h := &model.RatingHead{
		Low: 1, High: 5, Mean: 3.5, Shrink: 1, Levels: []float32{float32(math.NaN()), 2, 5}, // a click says nothing of a rating
		Items: []float32{0.5, 0, 0, -0.5}, Map: model.NewTensor(c.Dim, c.Dim), MapBias: make([]float32, c.Dim),
	}
	for d := range c.Dim {
		h.Map.Row(d)[d] = 0.1
	}
	return h
}

// shopClasses sorts texts by the two directions in which the shop's words lie. Classes of
// use are made by wisp fit-classes.
func shopClasses() *model.TextClasses {
	return &model.TextClasses{
		Names: []string{"kitchen", "sports"}, Bias: make([]float32, 2),
		Weight: &model.Tensor{Shape: []int{2, 4}, Data: []float32{3, -3, 0, 0, 0, 0, 3, -3}},
	}
}

// Who rated a kettle highly is expected to like a teapot, and is nobody that the model
// would have to know.
func ExampleRuntime_Rate() {
	ctx := context.Background()
	r, err := openShop(ctx)
	if err != nil {
		panic(err)
	}
	defer r.Close(ctx) //nolint:errcheck // the process ends

	history := []edge.Event{{Item: "kettle", Type: "rating", Value: 5}}
	answer, err := r.Rate(ctx, edge.RateRequest{History: history, Items: []string{"teapot", "bicycle"}})
	if err != nil {
		panic(err)
	}
	for _, item := range answer.Items {
		fmt.Printf("%s: %.1f\n", item.Title, item.Rating)
	}
	// Output:
	// Teapot: 4.7
	// Bicycle: 3.5
}

func ExampleRuntime_Classify() {
	ctx := context.Background()
	r, err := openShop(ctx)
	if err != nil {
		panic(err)
	}
	defer r.Close(ctx) //nolint:errcheck // the process ends

	answer, err := r.Classify(ctx, edge.ClassifyRequest{Text: "tea, please"})
	if err != nil {
		panic(err)
	}
	fmt.Println(answer.Best, answer.Classes[0].Probability > 0.9)
	// Output: kitchen true
}
