package quantize_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/wisp-project/wisp/edge"
	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/model"
	"github.com/wisp-project/wisp/quantize"
	"github.com/wisp-project/wisp/wasm"
)

// TestPlantedCause explains with a model whose reasons are known by construction:
// its one block takes the mean of the events, each item has a direction of its own,
// and good i is liked by those who have seen cause i and by nobody else. So the event
// of cause i is the first reason for good i, wherever it lies in the history.
func TestPlantedCause(t *testing.T) {
	const causes, noise = 6, 26
	c := model.Config{Items: 2*causes + noise, Dim: causes + noise, Layers: 1, Heads: 1, FFN: 1, Window: 50, EventTypes: 1, GapBuckets: 1}
	w := model.Weights{}
	for _, s := range c.Specs() {
		w[s.Name] = model.NewTensor(s.Shape...)
	}
	for i := range c.Items {
		direction := i % causes // causes, then goods
		if i >= 2*causes {
			direction = i - causes
		}
		w[model.ItemEmbedding].Row(i)[direction] = 1
	}
	for d := range c.Dim {
		w[model.LayerName(0, "attn.norm.weight")].Data[d] = 1
		w[model.LayerName(0, "attn.v.weight")].Row(d)[d] = 1
		w[model.LayerName(0, "attn.o.weight")].Row(d)[d] = 20
		w[model.UserNormGain].Data[d] = 1
	}
	m, err := model.New(c, w, nil)
	if err != nil {
		t.Fatal(err)
	}
	ds := &data.Dataset{Name: "planted", Types: []data.EventType{{Name: "click"}}}
	for i := range c.Items {
		ds.Items = append(ds.Items, data.Item{ID: fmt.Sprint(i)})
	}
	rng := rand.New(rand.NewPCG(1, 1))
	random := func(n int) (items []int) {
		for _, i := range rng.Perm(causes + noise)[:n] {
			if i >= causes {
				i += causes
			}
			items = append(items, i)
		}
		return items
	}
	var histories [][]model.Event
	for range 50 {
		var h []model.Event
		for _, i := range random(1 + rng.IntN(20)) {
			h = append(h, model.Event{Item: int32(i)})
		}
		histories = append(histories, h)
	}
	a, err := quantize.Build(t.Context(), m, ds, histories, quantize.BuildOptions{Kernel: wasm.Kernel})
	if err != nil {
		t.Fatal(err)
	}
	r, err := edge.New(t.Context(), a, edge.Options{AllowUnsigned: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close(context.Background()) }()
	planted := 0
	for n := range 50 {
		for range 4 {
			// One cause, anywhere among events of noise, some of them more than once.
			cause, at := rng.IntN(causes), rng.IntN(n+1)
			var events []edge.Event
			for i := range n + 1 {
				item := 2*causes + rng.IntN(noise)
				if i == at {
					item = cause
				}
				events = append(events, edge.Event{Item: fmt.Sprint(item)})
			}
			got, err := r.Recommend(t.Context(), edge.Request{History: events, K: 5, Explain: true})
			if err != nil {
				t.Fatal(err)
			}
			for _, item := range got.Items {
				if item.Item != fmt.Sprint(cause+causes) {
					continue
				}
				planted++
				if len(item.Reasons) == 0 || item.Reasons[0].Event != at || item.Reasons[0].Item != fmt.Sprint(cause) {
					t.Errorf("after %d events, good %s comes of event %d; reasons %+v", len(events), item.Item, at, item.Reasons)
				}
			}
		}
	}
	if planted < 100 {
		t.Errorf("%d goods were recommended: the test sees nothing", planted)
	}
}
