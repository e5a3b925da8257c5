package data_test

import (
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/wisp-project/wisp/internal/data"
)

// TestItemParts sees that the parts of items add up to their vectors, and that
// words of categories count once.
func TestItemParts(t *testing.T) {
	var items []data.Item
	colours, things := []string{"red", "green", "blue"}, []string{"ball", "car", "doll", "kite"}
	for i := range 60 {
		item := data.Item{Title: colours[i%3] + " " + things[i%4], Categories: []string{"For " + things[i%4] + " fans"}}
		if i%5 == 0 {
			item.Attributes = map[string]string{"brand": colours[(i+1)%3]}
		}
		if i == 7 {
			item = data.Item{}
		}
		items = append(items, item)
	}
	const dim = 12
	x, err := data.ItemVectors(items, dim, 1)
	if err != nil {
		t.Fatal(err)
	}
	p, err := data.NewItemParts(items, x, dim)
	if err != nil {
		t.Fatal(err)
	}
	for i := range items {
		sum := make([]float64, dim)
		names := ""
		for _, part := range p.Of[i] {
			names += p.Names[part.Part] + ","
			for d := range sum {
				sum[d] += float64(p.Factor[i]) * float64(part.Count) * float64(p.Vectors[part.Part*dim+d])
			}
		}
		for d, v := range sum {
			if math.Abs(v-float64(x[i*dim+d])) > 1e-4 {
				t.Fatalf("item %d: the parts %s add up to %v in column %d, the vector has %v", i, names, v, d, x[i*dim+d])
			}
		}
		if i == 7 {
			if len(p.Of[i]) > 0 {
				t.Errorf("an item without words has the parts %s", names)
			}
			continue
		}
		for _, want := range []string{"category For " + things[i%4] + " fans", "word " + colours[i%3], "word " + things[i%4]} {
			if !strings.Contains(names, want+",") {
				t.Errorf("item %d has no part %q, but %s", i, want, names)
			}
		}
		if strings.Contains(names, "word for,") || strings.Contains(names, "brand") != (i%5 == 0) {
			t.Errorf("item %d has the parts %s", i, names)
		}
	}
	if _, err := data.NewItemParts(items, x[1:], dim); !errors.Is(err, data.ErrOptions) {
		t.Errorf("vectors of another size: %v", err)
	}
}
