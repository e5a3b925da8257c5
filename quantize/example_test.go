package quantize_test

import (
	"context"
	"fmt"

	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/model"
	"github.com/wisp-project/wisp/quantize"
	"github.com/wisp-project/wisp/wasm"
)

// shop returns a model of four goods, of which two and two go together, and the
// data set it belongs to. Its blocks do nothing: who looked at something gets
// what is like it.
func shop() (*model.Model, *data.Dataset) {
	c := model.Config{Items: 4, Dim: 4, Layers: 1, Heads: 1, FFN: 4, Window: 8, EventTypes: 1, GapBuckets: 4}
	w := model.Weights{}
	for _, s := range c.Specs() {
		w[s.Name] = model.NewTensor(s.Shape...)
	}
	copy(w[model.ItemEmbedding].Data, []float32{
		3, -3, 1, -1,
		3, -3, -1, 1,
		1, -1, 3, -3,
		-1, 1, 3, -3,
	})
	copy(w[model.UserNormGain].Data, []float32{1, 1, 1, 1})
	m, err := model.New(c, w, nil)
	if err != nil {
		panic(err)
	}
	return m, &data.Dataset{
		Name: "shop", Types: []data.EventType{{Name: "click"}},
		Items: []data.Item{{ID: "kettle"}, {ID: "teapot"}, {ID: "helmet"}, {ID: "bicycle"}},
	}
}

func ExampleBuild() {
	m, ds := shop()
	histories := [][]model.Event{{{Item: 0}, {Item: 1, Gap: 30}}, {{Item: 3}}}
	a, err := quantize.Build(context.Background(), m, ds, histories, quantize.BuildOptions{Version: 3, Kernel: wasm.Kernel})
	if err != nil {
		panic(err)
	}
	fmt.Println(a.Manifest.Name, a.Manifest.Version, len(a.Items), "items,", len(a.Goldens), "golden requests")
	for _, s := range a.Segments {
		fmt.Println(s.Name, len(s.Data) > 0)
	}
	// Output:
	// shop 3 4 items, 42 golden requests
	// header true
	// user true
	// items true
}

func ExampleLayerErrors() {
	m, _ := shop()
	histories := [][]model.Event{{{Item: 0}, {Item: 1, Gap: 30}}, {{Item: 3}}}
	image, err := quantize.Image(m, histories, nil, nil)
	if err != nil {
		panic(err)
	}
	table, err := quantize.LayerErrors(m, image, histories)
	if err != nil {
		panic(err)
	}
	last := table[len(table)-1]
	fmt.Println(last.Site, "is off by less than a percent:", last.Relative < 0.01)
	// Output: user.out is off by less than a percent: true
}
