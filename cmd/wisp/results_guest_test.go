package main

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/wisp-project/wisp/internal/results"
	"github.com/wisp-project/wisp/model"
)

// TestGuestTopic makes every figure and picture of the topic, with few requests.
func TestGuestTopic(t *testing.T) {
	c := model.Config{Items: 300, EventTypes: 2, GapBuckets: 4, Dim: 32, Layers: 1, Heads: 2, FFN: 16, Window: 5}
	r, w := rand.New(rand.NewPCG(1, 1)), model.Weights{}
	for _, s := range c.Specs() {
		w[s.Name] = model.NewTensor(s.Shape...)
		for i := range w[s.Name].Data {
			w[s.Name].Data[i] = float32(0.3 * r.NormFloat64())
		}
	}
	m, err := model.New(c, w, nil)
	if err != nil {
		t.Fatal(err)
	}
	histories := make([][]model.Event, 60)
	for i := range histories {
		for range 1 + r.IntN(8) {
			histories[i] = append(histories[i], model.Event{Item: int32(r.IntN(c.Items))})
		}
	}
	n := guestSizes{requests: 2, users: 3, spectrum: []int{2000}, growth: 2, most: 2000}
	records, err := pruned(t.Context(), "", m, histories, n)
	if err != nil {
		t.Fatal(err)
	}
	topic := results.Topic{Records: records}
	b := bench{docs: t.TempDir(), shared: t.TempDir(), work: t.TempDir()}
	if err := b.growth(t.Context(), &topic, n); err != nil {
		t.Fatal(err)
	}
	if svg, err := os.ReadFile(filepath.Join(b.docs, "guest-growth.svg")); err != nil || len(svg) < 1000 {
		t.Errorf("a picture of %d bytes, %v", len(svg), err)
	}
	values := valuesOf(t, topic.Records)
	for _, name := range []string{
		"speed.topk-games.pruned-speedup-over-brute", "speed.topk-spectrum-2000.pruned-speedup-over-brute",
		"speed.topk-spectrum-2000.looked-at-share", "speed.guest-requests-per-ms.2-cores",
	} {
		if values[name] <= 0 {
			t.Errorf("%s is %v", name, values[name])
		}
	}
	topic.Name = "guest"
	if err := topic.Write(b.docs); err != nil {
		t.Error(err)
	}
}
