package quantize_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/wisp-project/wisp/internal/layout"
	"github.com/wisp-project/wisp/internal/layout/layouttest"
	"github.com/wisp-project/wisp/quantize"
)

// boundedCatalogue returns items in a few groups, whose columns count less and less, and
// users who like one group each.
func boundedCatalogue(items, dim int) (layout.Params, [][]int16) {
	p := layouttest.Params(layout.Shape{Items: items, Dim: dim, Layers: 1, Heads: 1, FFN: 8, Window: 2, EventTypes: 1, GapBuckets: 1}, 1)
	rng := rand.New(rand.NewPCG(1, uint64(dim)))
	centres := make([][]float64, 20)
	for i := range centres {
		centres[i] = make([]float64, dim)
		for j := range centres[i] {
			centres[i][j] = 60 * rng.NormFloat64() / float64(1+j)
		}
	}
	for i := range items {
		for j, c := range centres[rng.IntN(len(centres))] {
			p.ItemRows[i*dim+j] = int8(min(max(c+20*rng.NormFloat64()/math.Sqrt(float64(1+j)), -127), 127))
		}
	}
	users := make([][]int16, 300)
	for i := range users {
		users[i] = make([]int16, dim)
		for j, c := range centres[i%len(centres)] {
			users[i][j] = int16(10*c + 100*rng.NormFloat64()/float64(1+j))
		}
	}
	return p, users
}

// Both parts of every row bound its item's score from above, also for users that
// nothing was fitted to, and the second part is the closer one where it matters.
func TestBoundsHold(t *testing.T) {
	for _, dim := range []int{3, 12, 64} {
		p, users := boundedCatalogue(500, dim)
		rng := rand.New(rand.NewPCG(2, uint64(dim)))
		others := make([][]int16, 100)
		for i := range others {
			others[i] = make([]int16, dim)
			for j := range others[i] {
				others[i][j] = int16(rng.IntN(4001) - 2000)
			}
		}
		for _, columns := range [][2]int{{8, 16}, {8, 32}, {16, 40}, {32, 64}} {
			t.Run(fmt.Sprintf("%d/%v", dim, columns), func(t *testing.T) {
				bounded := p
				if _, ok := quantize.SetBounds(&bounded, users, columns[0], columns[1]); !ok {
					t.Fatal("no bounds")
				}
				if _, err := layout.Pack(bounded); err != nil {
					t.Fatal(err)
				}
				order := slices.Sorted(slices.Values(bounded.Bounds.Order))
				for i, item := range order {
					if int(item) != i {
						t.Fatalf("the order lacks item %d", i)
					}
				}
				var first, both float64
				for _, u := range append(users[:100:100], others...) {
					q := bounded.Bounds.Query(bounded.Shape, u)
					for r, item := range bounded.Bounds.Order {
						var acc int32
						for j, w := range p.ItemRows[int(item)*dim : (int(item)+1)*dim] {
							acc += int32(w) * int32(u[j])
						}
						score := float64(acc) * float64(p.ItemScale[item])
						allow := math.Abs(score) * 1e-5 // float32 in the transform
						a, b := q.First(r), q.Bound(r)
						if a < score-allow || b < score-allow {
							t.Fatalf("item %d has the score %v, and the bounds %v and %v", item, score, a, b)
						}
						first, both = first+a-score, both+b-score
					}
				}
				if both > first*1.001 {
					t.Errorf("the bounds are %v above the scores, those of the first part %v", both, first)
				}
			})
		}
	}
}

// A search begins with a leaf that is better than most for its user, and what it is
// said to open and to look at is a small part of a catalogue like this one.
func TestBoundsPay(t *testing.T) {
	p, users := boundedCatalogue(6000, 64)
	r := quantize.AddBounds(&p, users)
	if r.Columns == 0 || r.First >= r.Columns || r.Looked > 0.1 || r.Opened > 0.7 || r.Cost > 0.5 {
		t.Errorf("%+v", r)
	}
	rows := p.Shape.BoundHead + layout.BoundGroups
	better := 0
	for _, u := range users {
		q := p.Bounds.Query(p.Shape, u)
		mean := func(leaf int) (sum float64) {
			from, to := leaf*layout.BoundLeaf, min((leaf+1)*layout.BoundLeaf, len(p.Bounds.Rows)/rows)
			for i := from; i < to; i++ {
				item := int(p.Bounds.Order[i])
				for j := range u {
					sum += float64(u[j]) * float64(p.ItemRows[item*64+j]) * float64(p.ItemScale[item])
				}
			}
			return sum / float64(to-from)
		}
		var means []float64
		for leaf := range len(p.Bounds.Pivots) / p.Shape.BoundFirst {
			means = append(means, mean(leaf))
		}
		best := means[q.Leaf()]
		slices.Sort(means)
		if best >= means[len(means)*9/10] {
			better++
		}
	}
	if better < len(users)*9/10 {
		t.Errorf("of %d users only %d begin in a leaf of the best tenth", len(users), better)
	}
	small, few := boundedCatalogue(1000, 64)
	if r := quantize.AddBounds(&small, few); r.Columns != 0 || small.Shape.BoundHead != 0 {
		t.Errorf("a small catalogue gets bounds: %+v", r)
	}
}
