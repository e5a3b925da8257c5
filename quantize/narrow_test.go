package quantize_test

import (
	"errors"
	"math"
	"testing"

	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/internal/layout"
	"github.com/wisp-project/wisp/quantize"
	"github.com/wisp-project/wisp/wasm"
)

// Fewer bits are fewer values, errors that grow by about two each bit and no faster,
// and a vector of zeros stays one.
func TestItemBits(t *testing.T) {
	const items, dim = 60, 16
	m := random(t, layout.Shape{Items: items, Dim: dim, Layers: 1, Heads: 1, FFN: 8, Window: 5, EventTypes: 1, GapBuckets: 2}, 3)
	clear(m.ItemVectors.Row(7))
	ds := &data.Dataset{Name: "narrow", Types: []data.EventType{{Name: "click"}}}
	for i := range items {
		ds.Items = append(ds.Items, data.Item{ID: string(rune('A' + i))})
	}
	h := calibration(m.Config, 8, 4)
	last := math.Inf(1)
	for bits := 3; bits <= 8; bits++ {
		a, err := quantize.Build(t.Context(), m, ds, h, quantize.BuildOptions{Kernel: wasm.Kernel, ItemBits: bits})
		if err != nil {
			t.Fatal(err)
		}
		image, err := a.Image()
		if err != nil {
			t.Fatal(err)
		}
		rows := image.Params().ItemRows
		levels := 1<<(bits-1) - 1
		var off, all float64
		for i := range items {
			// The scale that fits best, so that this needs none of the layout's.
			var dot, square float64
			for d := range dim {
				q := float64(rows[i*dim+d])
				if math.Abs(q) > float64(levels) {
					t.Fatalf("%d bits: %v", bits, q)
				}
				dot += q * float64(m.ItemVectors.Row(i)[d])
				square += q * q
			}
			if i == 7 {
				if square != 0 {
					t.Errorf("%d bits: the item without a vector has one", bits)
				}
				continue
			}
			for d := range dim {
				v := float64(m.ItemVectors.Row(i)[d])
				e := v - dot/square*float64(rows[i*dim+d])
				off += e * e
				all += v * v
			}
		}
		relative := math.Sqrt(off / all)
		if relative >= last || relative > 1.2/float64(levels) {
			t.Errorf("%d bits: relative error %.4f, with one fewer %.4f", bits, relative, last)
		}
		last = relative
	}
	for _, bits := range []int{-1, 2, 9} {
		if _, err := quantize.Build(t.Context(), m, ds, h, quantize.BuildOptions{Kernel: wasm.Kernel, ItemBits: bits}); !errors.Is(err, quantize.ErrModel) {
			t.Errorf("%d bits: %v", bits, err)
		}
	}
}
