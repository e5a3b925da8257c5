package q8_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/tetratelabs/wazero"

	"github.com/wisp-project/wisp/internal/layout"
	"github.com/wisp-project/wisp/internal/layout/layouttest"
	"github.com/wisp-project/wisp/quantize"
)

// spectrumParams returns parameters whose item vectors have standard deviations
// (1+j)^-power along directions that have nothing to do with the columns.
func spectrumParams(n int, power float64) layout.Params {
	s := layout.Shape{Items: n, Dim: 64, Layers: 1, Heads: 1, FFN: 8, Window: 2, EventTypes: 1, GapBuckets: 1}
	p := layouttest.Params(s, 1)
	r := rand.New(rand.NewPCG(7, 7))
	var turn [64][64]float64
	for j := range turn {
		for i := range turn {
			turn[j][i] = r.NormFloat64() / 8 * math.Pow(float64(1+j), -power)
		}
	}
	for i := range n {
		var v [64]float64
		var top float64
		for j := range turn {
			g := r.NormFloat64()
			if j == 0 {
				g = math.Abs(g)
			}
			for d := range v {
				v[d] += g * turn[j][d]
			}
		}
		for _, x := range v {
			top = max(top, math.Abs(x))
		}
		p.ItemScale[i] = float32(top / 127)
		for d, x := range v {
			p.ItemRows[i*64+d] = int8(math.RoundToEven(x / top * 127))
		}
	}
	return p
}

// BenchmarkTopK searches the ten best of all items for somebody without a history,
// going through all of them and with bounds.
func BenchmarkTopK(b *testing.B) {
	for _, n := range []int{10000, 100000} {
		p := spectrumParams(n, 0.6)
		r := rand.New(rand.NewPCG(1, 2))
		users := make([][]int16, 256)
		for i := range users {
			users[i] = make([]int16, 64)
			for d := range users[i] {
				users[i][d] = int16(400 * r.NormFloat64())
			}
		}
		for d := range p.Cold {
			p.Cold[d] = users[0][d]
		}
		request := (&layout.Request{Kind: layout.KindRecommend, K: 10}).Append(nil)
		for _, columns := range [][2]int{{}, {8, 16}, {8, 24}, {8, 32}, {16, 32}} {
			if columns[0] > 0 {
				report, ok := quantize.SetBounds(&p, users, columns[0], columns[1])
				if !ok {
					b.Fatal("no bounds")
				}
				b.Logf("%d items, %v columns: %.3f of the blocks are opened, %.4f of the items looked at", n, columns, report.Opened, report.Looked)
			}
			image, _ := open(b, p)
			g := newGuest(b, wazero.NewRuntimeConfigCompiler(), image)
			b.Run(fmt.Sprintf("%d/%d+%d", n, columns[0], columns[1]-columns[0]), func(b *testing.B) {
				for b.Loop() {
					g.answer(b, request)
				}
			})
		}
	}
}
