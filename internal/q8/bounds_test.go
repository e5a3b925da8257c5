package q8_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/tetratelabs/wazero"

	"github.com/wisp-project/wisp/internal/layout"
	"github.com/wisp-project/wisp/internal/layout/layouttest"
	"github.com/wisp-project/wisp/internal/q8"
	"github.com/wisp-project/wisp/quantize"
)

// items are kinds of item tables, each hard on bounds in its own way.
var items = map[string]func(r *rand.Rand, p *layout.Params){
	"random": func(*rand.Rand, *layout.Params) {},
	"decaying": func(_ *rand.Rand, p *layout.Params) { // the case that bounds are for
		for i := range p.ItemRows {
			p.ItemRows[i] = int8(int(p.ItemRows[i]) / (1 + i%p.Shape.Dim))
		}
	},
	"ties": func(r *rand.Rand, p *layout.Params) { // few different rows and scales
		d := p.Shape.Dim
		for i := 3 * d; i < len(p.ItemRows); i++ {
			p.ItemRows[i] = p.ItemRows[i/d%3*d+i%d]
		}
		fill(p.ItemScale, p.ItemScale[r.IntN(len(p.ItemScale))])
	},
	"equal": func(_ *rand.Rand, p *layout.Params) {
		for i := range p.ItemRows {
			p.ItemRows[i] = p.ItemRows[i%p.Shape.Dim]
		}
		fill(p.ItemScale, 1e-4)
	},
	"one direction": func(r *rand.Rand, p *layout.Params) { // what is left to the other columns is rounding
		d := p.Shape.Dim
		for i := range p.ItemScale {
			by := r.IntN(255) - 127
			for j := range d {
				p.ItemRows[i*d+j] = int8(by * (1 + j%3) / 3)
			}
		}
	},
	"lengths": func(r *rand.Rand, p *layout.Params) { // from tiny to huge
		for i := range p.ItemScale {
			p.ItemScale[i] *= float32(uint64(1) << r.IntN(40))
			p.ItemScale[i] /= 1 << 30
		}
	},
	"subnormal": func(_ *rand.Rand, p *layout.Params) { fill(p.ItemScale, 1e-42) },
	"zeros": func(r *rand.Rand, p *layout.Params) {
		for i := range p.ItemScale {
			if r.IntN(4) > 0 {
				p.ItemScale[i] = 0
			}
		}
	},
	"negative": func(_ *rand.Rand, p *layout.Params) { // nobody likes anything
		d := p.Shape.Dim
		for i := range p.ItemRows {
			p.ItemRows[i] = int8(-20 - int(p.ItemRows[i])/40)
			p.Cold[i%d] = 1500
			p.NormBias[i%d] = 3
		}
	},
}

// TestBounds holds a search with bounds to the definition, which goes through
// all items: the same hits, in the same order, with the same bits, for every
// kind of table, every number of columns, excluded items, and lists as long as
// the catalogue.
func TestBounds(t *testing.T) {
	shapes := []layout.Shape{
		{Items: 1, Dim: 8, Layers: 1, Heads: 1, FFN: 8, Window: 3, EventTypes: 2, GapBuckets: 4},
		{Items: 37, Dim: 12, Layers: 1, Heads: 2, FFN: 8, Window: 4, EventTypes: 2, GapBuckets: 4},
		{Items: 997, Dim: 64, Layers: 1, Heads: 1, FFN: 16, Window: 6, EventTypes: 2, GapBuckets: 4},
	}
	for name, change := range items {
		for i, s := range shapes {
			t.Run(fmt.Sprintf("%s/%d", name, s.Items), func(t *testing.T) {
				p := layouttest.Params(s, uint64(i))
				r := rand.New(rand.NewPCG(1, uint64(i)))
				change(r, &p)
				image, plain := open(t, p)
				requests := layouttest.Requests(s, image.Map, 40, 2)
				for j := range requests {
					switch j % 8 {
					case 1:
						requests[j].Kind, requests[j].K = layout.KindRecommend, uint32(image.Map.MaxK)
					case 2: // all but a few items are left out
						requests[j] = layout.Request{Kind: layout.KindRecommend, K: uint32(min(10, image.Map.MaxK)), History: requests[j].History}
						for item := range uint32(s.Items) {
							if r.IntN(12) > 0 {
								requests[j].List = append(requests[j].List, item)
							}
						}
					case 3:
						requests[j] = layout.Request{Kind: layout.KindRecommend, K: 1, History: requests[j].History}
					}
				}
				users := users(plain, s, r, 64)
				for _, columns := range [][2]int{{8, 16}, {8, 24}, {8, 40}, {16, 24}, {24, 64}} {
					with := p
					if _, ok := quantize.SetBounds(&with, users, columns[0], columns[1]); !ok {
						if slices.Max(p.ItemScale) > 1e-30 {
							t.Errorf("no bounds of %v columns", columns)
						}
						continue
					}
					bounded, m := open(t, with)
					same(t, newGuest(t, wazero.NewRuntimeConfigCompiler(), bounded), m, requests)
				}
			})
		}
	}
}

// users returns the vectors of random histories.
func users(m *q8.Model, s layout.Shape, r *rand.Rand, n int) [][]int16 {
	all := make([][]int16, n)
	for i := range all {
		h := make([]layout.Event, r.IntN(s.Reach()+1))
		for j := range h {
			h[j] = layout.Event{Item: uint32(r.IntN(s.Items)), Type: uint32(r.IntN(s.EventTypes)), Gap: r.Uint32()}
		}
		all[i] = m.User(h, nil)
	}
	return all
}
