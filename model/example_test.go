package model_test

import (
	"fmt"

	"github.com/wisp-project/wisp/model"
)

// A tap sees the values inside the user tower: here, where they go by and how
// wide they are.
func ExampleTap() {
	c := model.Config{Items: 2, Dim: 4, Layers: 1, Heads: 2, FFN: 8, Window: 3, EventTypes: 1, GapBuckets: 2}
	w := model.Weights{}
	for _, s := range c.Specs() {
		w[s.Name] = model.NewTensor(s.Shape...)
	}
	m, err := model.New(c, w, nil)
	if err != nil {
		panic(err)
	}
	_, err = m.User([]model.Event{{Item: 1}}, func(site string, position int, x []float32) {
		fmt.Println(position, site, len(x))
	})
	if err != nil {
		panic(err)
	}
	// Output:
	// 0 user.layer.0.attn.in 4
	// 0 user.layer.0.attn.q 4
	// 0 user.layer.0.attn.k 4
	// 0 user.layer.0.attn.v 4
	// 0 user.layer.0.attn.out 4
	// 0 user.layer.0.ffn.in 4
	// 0 user.layer.0.ffn.hidden 8
	// 0 user.layer.0.out 4
	// 0 user.out 4
}

// An answer depends on a bounded number of events, and on the order of magnitude
// of the time between them.
func ExampleConfig() {
	c := model.Config{Layers: 2, Window: 50, GapBuckets: 24}
	fmt.Println("events that count:", c.Reach())
	for _, seconds := range []uint32{0, 1, 60, 3600, 86400, 1 << 30} {
		fmt.Println(seconds, "s apart: bucket", c.GapBucket(seconds))
	}
	// Output:
	// events that count: 99
	// 0 s apart: bucket 0
	// 1 s apart: bucket 1
	// 60 s apart: bucket 6
	// 3600 s apart: bucket 12
	// 86400 s apart: bucket 17
	// 1073741824 s apart: bucket 23
}
