package quantize

import (
	"cmp"
	"container/heap"
	"errors"
	"fmt"
	"math"
	"slices"

	"gonum.org/v1/gonum/mat"

	"github.com/wisp-project/wisp/internal/layout"
	"github.com/wisp-project/wisp/internal/q8"
	"github.com/wisp-project/wisp/model"
)

// What the steps of a search cost in the guest, in nanoseconds, fitted to times of
// searches like those of BenchmarkTopK: a column of an item that is multiplied in full
// while all are gone through; a column of the first part of a row of bounds, and the row
// beside it; a column of the second part where it is read, and the row beside it; a column
// of a single item, and the item beside it, which is farther away where the items do not
// fit into a core's cache; a value of the transform. Only their ratios count. A single item
// takes half as long again as that says; with what it takes, more columns were chosen, and
// no search was clearly faster: runs of the same columns differ as much.
const (
	scanColumn                        = 0.068
	boundColumn, boundRow             = 0.075, 0.2
	moreColumn, moreRow               = 0.07, 0.3
	singleColumn, singleItem, farItem = 0.06, 8.0, 40.0
	transformValue                    = 0.6
	cacheBytes                        = 2 << 20
	// boundsPay is the share of the cost of going through all items below which
	// bounds are worth their place in the artefact.
	boundsPay = 0.8
	// boundsItems is the size of a catalogue below which going through all of it takes a
	// small part of the time of the user vector, and bounds would be a third of the file.
	boundsItems = 4096
)

// Limits of what is measured at packing time: users that the transform is fitted
// to and as many to measure with; the length of their lists; rows that are gone
// through in all.
const (
	boundUsers   = 256
	boundHits    = 10
	boundVisits  = 1 << 23
	boundColumns = 64 // of both parts of a row, at most
)

// boundFirsts are the widths of the first part of a row that are tried.
var boundFirsts = []int{8, 16}

// BoundsReport says what bounds save.
type BoundsReport struct {
	First, Columns int     // of the first part of a row of bounds and of both, 0 where going through all items is as fast
	Opened         float64 // share of the blocks whose second part is read, a mean over users
	Looked         float64 // share of the items that are looked at all the same, likewise
	Cost           float64 // of a search over that of going through all items, estimated from counts
}

// AddBounds gives p bounds that let the guest find the best items without looking
// at most, if that pays for users like these and the catalogue is no small one: vectors in steps of 1/p.UserInv. One
// half of them shapes the bounds, the other one decides. Answers do not change.
//
// The transform makes the columns of users and items uncorrelated and equally
// long, in order of what they add to scores: in the mean over users and items no
// other cut after a number of columns leaves less to the bound of the rest.
func AddBounds(p *layout.Params, users [][]int16) BoundsReport {
	best := BoundsReport{Opened: 1, Looked: 1, Cost: 1}
	if p.Shape.Items < boundsItems {
		return best
	}
	f, ok := fitBounds(p, users)
	if !ok {
		return best
	}
	limit := boundsPay
	for _, first := range boundFirsts {
		for columns := first + 8; columns <= boundColumns && first < p.Shape.Dim; columns += 8 {
			b, s, r, ok := f.bounds(p, first, columns)
			if ok && r.Cost < limit {
				best, limit = r, r.Cost
				p.Bounds, p.Shape = b, s
			}
			if s.BoundHead == p.Shape.Dim {
				break
			}
		}
	}
	return best
}

// SetBounds gives p bounds with the given columns in the first part of a row and in both, multiples of eight,
// whether they pay or not; what a model has no columns for stays empty. It reports false, and leaves p alone,
// where there can be none: without users or items that differ from zero.
func SetBounds(p *layout.Params, users [][]int16, first, columns int) (BoundsReport, bool) {
	f, ok := fitBounds(p, users)
	if !ok {
		return BoundsReport{}, false
	}
	b, s, r, ok := f.bounds(p, first, columns)
	if ok {
		p.Bounds, p.Shape = b, s
	}
	return r, ok
}

// boundFit is what bounds with any number of columns are made of.
type boundFit struct {
	t, z  *mat.Dense // the transform, (D, D), and its dual of the items, (N, D)
	y     *mat.Dense // the transforms of the users that it is fitted to
	order map[int][]uint32
	judge [][]int16 // users to measure with
}

func fitBounds(p *layout.Params, users [][]int16) (*boundFit, bool) {
	fit, judge := halves(users)
	if len(judge) == 0 {
		return nil, false
	}
	items, askers := itemMatrix(p), userMatrix(fit, p.Shape.Dim)
	t, ok := transform(items, askers)
	if !ok {
		return nil, false
	}
	z, far := dual(items, t)
	if z == nil || far > 1e-7 {
		return nil, false
	}
	var y mat.Dense
	y.Mul(askers, t.T())
	return &boundFit{t, z, &y, map[int][]uint32{}, judge[:min(len(judge), max(boundVisits/p.Shape.Items, 4))]}, true
}

// bounds makes bounds for p; it fails where float32 cannot hold them.
func (f *boundFit) bounds(p *layout.Params, first, columns int) (layout.Bounds, layout.Shape, BoundsReport, bool) {
	s := p.Shape
	s.BoundFirst = min(first-1, s.Dim)
	s.BoundHead = min(s.BoundFirst+columns-first-layout.BoundGroups, s.Dim)
	s.BoundMiddle = s.BoundHead + (s.Dim-s.BoundHead)/3
	b, ok := f.rows(s)
	if !ok {
		return b, s, BoundsReport{}, false
	}
	r := BoundsReport{First: first, Columns: columns}
	r.Opened, r.Looked = looks(p, &b, s, f.judge)
	r.Cost = boundCost(s, r)
	return b, s, r, true
}

// boundCost estimates the time of a search over that of going through all items.
func boundCost(s layout.Shape, r BoundsReport) float64 {
	n, d := float64(s.Items), float64(s.Dim)
	item := singleItem
	if n*d > cacheBytes {
		item = farItem
	}
	search := n*(boundRow+boundColumn*float64(r.First)) + n*r.Opened*(moreRow+moreColumn*float64(r.Columns-r.First)) +
		n*r.Looked*(item+singleColumn*d) + transformValue*d*d
	return search / (n * d * scanColumn)
}

// halves deals vectors out to two sides in turn.
func halves(users [][]int16) (a, b [][]int16) {
	for i, u := range users {
		if i%2 == 0 {
			a = append(a, u)
		} else {
			b = append(b, u)
		}
	}
	return a, b
}

// itemMatrix returns the item vectors, (N, D), as scores have them.
func itemMatrix(p *layout.Params) *mat.Dense {
	n, d := p.Shape.Items, p.Shape.Dim
	m := mat.NewDense(n, d, nil)
	for i := range n {
		row := m.RawRowView(i)
		for j := range row {
			row[j] = float64(p.ItemRows[i*d+j]) * float64(p.ItemScale[i])
		}
	}
	return m
}

func userMatrix(users [][]int16, d int) *mat.Dense {
	m := mat.NewDense(max(len(users), 1), d, nil)
	for i, u := range users {
		for j := range d {
			m.Set(i, j, float64(u[j]))
		}
	}
	return m
}

// second returns the mean of the outer products of the rows of m.
func second(m *mat.Dense) *mat.SymDense {
	rows, d := m.Dims()
	s := mat.NewSymDense(d, nil)
	s.SymOuterK(1/float64(rows), m.T())
	return s
}

// ridge is the share of the mean diagonal that is added to the users' second
// moments, so that a direction that few users show is no free one.
const ridge = 1e-3

// transform returns the matrix T with y = T·u and z = T⁻ᵀ·v, so that <y, z> = <u, v>,
// whose columns are as AddBounds says. It fails where all items or users are zero.
func transform(items, users *mat.Dense) (*mat.Dense, bool) {
	u, v := second(users), second(items)
	d := u.SymmetricDim()
	trace := mat.Trace(u)
	if trace == 0 || mat.Trace(v) == 0 {
		return nil, false
	}
	for j := range d {
		u.SetSym(j, j, u.At(j, j)+ridge*trace/float64(d))
	}
	var chol mat.Cholesky
	if !chol.Factorize(u) {
		return nil, false
	}
	var lower mat.TriDense
	chol.LTo(&lower)
	// u = L·g with g white; what g meets has the second moments Lᵀ·V·L.
	var lv, lvl mat.Dense
	lv.Mul(lower.T(), v)
	lvl.Mul(&lv, &lower)
	sym := mat.NewSymDense(d, nil)
	for i := range d {
		for j := i; j < d; j++ {
			sym.SetSym(i, j, (lvl.At(i, j)+lvl.At(j, i))/2)
		}
	}
	var eigen mat.EigenSym
	if !eigen.Factorize(sym, true) {
		return nil, false
	}
	var vectors, inverse, t mat.Dense
	eigen.VectorsTo(&vectors)
	values := eigen.Values(nil) // rising
	if err := inverse.Inverse(&lower); err != nil {
		return nil, false
	}
	t.Mul(vectors.T(), &inverse) // rows: Rᵀ·L⁻¹
	out := mat.NewDense(d, d, nil)
	for j := range d {
		from := d - 1 - j
		// Both sides have the length sqrt(sigma) in the mean.
		sigma := math.Sqrt(max(values[from], 1e-8*values[d-1]))
		for i := range d {
			out.Set(j, i, t.At(from, i)*math.Sqrt(sigma))
		}
	}
	return out, true
}

// alike returns the items in an order in which similar ones follow each other, by their first
// columns: all are cut into two halves across the direction in which they differ
// most, and so is each half, down to blocks.
func (f *boundFit) alike(columns int) []uint32 {
	order, ok := f.order[columns]
	if !ok {
		n, _ := f.z.Dims()
		order = make([]uint32, n)
		for i := range order {
			order[i] = uint32(i)
		}
		bisect(order, f.z, columns, make([]float64, n))
		f.order[columns] = order
	}
	return order
}

// bisect orders items by the first d columns of their rows of z. along has a place for each row.
func bisect(items []uint32, z *mat.Dense, d int, along []float64) {
	const block = layout.BoundBlock
	if len(items) <= block {
		return
	}
	mean, cov := make([]float64, d), mat.NewSymDense(d, nil)
	row := func(i uint32) []float64 { return z.RawRowView(int(i))[:d] }
	for _, i := range items {
		for j, v := range row(i) {
			mean[j] += v / float64(len(items))
		}
	}
	for _, i := range items {
		r := row(i)
		for j := range d {
			for k := j; k < d; k++ {
				cov.SetSym(j, k, cov.At(j, k)+(r[j]-mean[j])*(r[k]-mean[k]))
			}
		}
	}
	var eigen mat.EigenSym
	if !eigen.Factorize(cov, true) {
		return
	}
	var vectors mat.Dense
	eigen.VectorsTo(&vectors)
	for _, i := range items {
		along[i] = 0
		for j, v := range row(i) {
			along[i] += v * vectors.At(j, d-1)
		}
	}
	slices.SortFunc(items, func(a, b uint32) int { return cmp.Or(cmp.Compare(along[a], along[b]), cmp.Compare(a, b)) })
	half := (len(items)/2 + block - 1) / block * block
	bisect(items[:half], z, d, along)
	bisect(items[half:], z, d, along)
}

// rows makes the bounds of shape s. The columns of the head are scaled to the range of int8, but
// those that hold next to nothing. What rounding the transform to float32 costs
// is a small part of what Slack allows for.
func (f *boundFit) rows(s layout.Shape) (layout.Bounds, bool) {
	n, d := f.z.Dims()
	first, head, middle := s.BoundFirst, s.BoundHead, s.BoundMiddle
	scale := make([]float64, head)
	for j := range scale {
		for i := range n {
			scale[j] = max(scale[j], math.Abs(f.z.At(i, j)))
		}
	}
	least := slices.Max(scale) / 1e3
	cols := head + layout.BoundGroups
	b := layout.Bounds{Transform: make([]float32, d*d), Steps: make([]float32, head), Order: f.alike(first), Rows: make([]int8, n*cols)}
	for j, v := range scale {
		b.Steps[j] = float32(max(v, least) / layout.WeightMax)
		scale[j] = float64(b.Steps[j])
	}
	norms := make([]float64, d)
	for j := range d {
		for i := range d {
			b.Transform[j*d+i] = float32(f.t.At(j, i))
		}
		norms[j] = mat.Norm(f.t.RowView(j), 2)
	}
	// Sums of squares: of roundings of the first part's head and of the whole one, of the columns behind
	// the first part's head, in the middle and behind it.
	squares := make([][5]float64, n)
	var total [5]float64
	var slack float64
	for r, item := range b.Order {
		row := f.z.RawRowView(int(item))
		q := &squares[r]
		var sum float64
		for j, v := range row {
			sum += norms[j] * math.Abs(v)
			if j >= first {
				q[2] += v * v
			}
			switch {
			case j < head:
				h := round(float32(v/scale[j]), layout.WeightMax)
				b.Rows[r*cols+j] = int8(h)
				e := v/scale[j] - float64(h)
				if j < first {
					q[0] += e * e
				}
				q[1] += e * e
			case j < middle:
				q[3] += v * v
			default:
				q[4] += v * v
			}
		}
		slack = max(slack, sum)
		for i, v := range q {
			total[i] += v
		}
	}
	b.Slack = above(slack * (1 + 1e-6))
	b.Mix = f.mix(scale, first, middle, total)
	lengths := func(q *[5]float64) [layout.BoundGroups]float64 {
		return [layout.BoundGroups]float64{
			math.Sqrt(q[0]/float64(b.Mix[0])+q[2]) * (1 + 1e-6), math.Sqrt(q[1]/float64(b.Mix[1])+q[3]) * (1 + 1e-6), math.Sqrt(q[4]) * (1 + 1e-6),
		}
	}
	var top [layout.BoundGroups]float64
	for r := range squares {
		for g, v := range lengths(&squares[r]) {
			top[g] = max(top[g], v)
		}
	}
	for g := range b.Rho {
		b.Rho[g] = above(top[g] / layout.WeightMax)
	}
	for r := range squares {
		for g, v := range lengths(&squares[r]) {
			if v > 0 {
				b.Rows[r*cols+head+g] = int8(min(math.Ceil(v/float64(b.Rho[g])), layout.WeightMax))
			}
		}
	}
	b.Pivots = pivots(&b, n, first, cols)
	return b, max(b.Slack, slices.Max(b.Steps), b.Rho[0], b.Rho[1], b.Rho[2]) < layout.ItemScaleMax
}

// mix returns what makes the bounds of the two merged lengths least in the mean, for the sums of squares
// that rows has: with the lengths a and c of the user's columns, e of the roundings and z of the columns
// that are left out, (mix·a² + c²)(e²/mix + z²) is least, (a·e + c·z)², at mix = c·e/(a·z).
func (f *boundFit) mix(scale []float64, first, middle int, items [5]float64) [2]float32 {
	head := len(scale)
	var first2, head2, behind2, between2 float64 // squares of the first columns of users, in steps, and so on
	_, d := f.y.Dims()
	for j := range d {
		v := mat.Norm(f.y.ColView(j), 2)
		if j >= first {
			behind2 += v * v
		}
		if j < head {
			v *= scale[j]
			head2 += v * v
			if j < first {
				first2 += v * v
			}
		} else if j < middle {
			between2 += v * v
		}
	}
	best := func(a, c, e, z float64) float32 {
		m := math.Sqrt(c * e / (a * z))
		if !(m > 1e-6) { // a product of nothing: any will do
			m = 1e-6
		}
		return float32(min(m, 1e6))
	}
	return [2]float32{
		best(first2, behind2, items[0], items[2]),
		best(head2, between2, items[1], items[3]),
	}
}

// pivots returns the means of the first columns of the rows of each leaf.
func pivots(b *layout.Bounds, n, first, cols int) []int8 {
	var all []int8
	for from := 0; from < n; from += layout.BoundLeaf {
		to := min(from+layout.BoundLeaf, n)
		for j := range first {
			var sum float64
			for r := from; r < to; r++ {
				sum += float64(b.Rows[r*cols+j])
			}
			all = append(all, int8(math.RoundToEven(sum/float64(to-from))))
		}
	}
	return all
}

// dual returns the rows z = T⁻ᵀ·v of all items v, and how far Tᵀ·z is from v, as a
// share of its length, at most.
func dual(items, t *mat.Dense) (z *mat.Dense, far float64) {
	n, d := items.Dims()
	var inverse mat.Dense
	if err := inverse.Inverse(t); err != nil {
		if poor := mat.Condition(0); !errors.As(err, &poor) {
			return nil, 0
		}
	}
	z = mat.NewDense(n, d, nil)
	z.Mul(items, &inverse)
	var back mat.Dense
	back.Mul(z, t)
	for i := range n {
		var diff, length float64
		for j, v := range items.RawRowView(i) {
			e := back.At(i, j) - v
			diff, length = diff+e*e, length+v*v
		}
		if length > 0 {
			far = max(far, math.Sqrt(diff/length))
		}
	}
	return z, far
}

// above returns a float32 that is not below v.
func above(v float64) float32 {
	f := float32(v)
	if float64(f) < v {
		f = math.Nextafter32(f, math.MaxFloat32)
	}
	return f
}

// looks returns the share of the blocks that a search opens and that of the items that it looks at,
// means over users.
func looks(p *layout.Params, b *layout.Bounds, s layout.Shape, users [][]int16) (opened, looked float64) {
	const block = layout.BoundBlock
	d, n := s.Dim, s.Items
	blocks := (n + block - 1) / block
	for _, u := range users {
		q := b.Query(s, u)
		var best lowest
		start := q.Leaf() * layout.BoundLeaf / block
		for i := range blocks {
			from := (start + i) % blocks * block
			to := min(from+block, n)
			full := len(best) == boundHits
			if full {
				open := false
				for r := from; r < to && !open; r++ {
					open = q.First(r) >= float64(best[0])
				}
				if !open {
					continue
				}
			}
			opened++
			for r := from; r < to; r++ {
				if full && q.Bound(r) < float64(best[0]) {
					continue
				}
				looked++
				item := int(b.Order[r])
				var acc int32
				for j, w := range p.ItemRows[item*d : (item+1)*d] {
					acc += int32(w) * int32(u[j])
				}
				score := float32(acc) * p.ItemScale[item]
				switch {
				case len(best) < boundHits:
					heap.Push(&best, score)
				case score > best[0]:
					best[0] = score
					heap.Fix(&best, 0)
				}
			}
		}
	}
	return opened / float64(len(users)*blocks), looked / float64(len(users)*n)
}

// lowest is a heap of scores with the lowest at its root.
type lowest []float32

func (h lowest) Len() int           { return len(h) }
func (h lowest) Less(i, j int) bool { return h[i] < h[j] }
func (h lowest) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *lowest) Push(x any)        { *h = append(*h, x.(float32)) }
func (h *lowest) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}

// UserSample returns user vectors of histories, whole ones and halves in turn, as
// AddBounds takes them.
func UserSample(p layout.Params, histories [][]model.Event) ([][]int16, error) {
	image, err := layout.Pack(p)
	if err != nil {
		return nil, fmt.Errorf("quantize: %w", err)
	}
	return userSample(image, histories)
}

func userSample(image []byte, histories [][]model.Event) ([][]int16, error) {
	q, err := q8.New(image)
	if err != nil {
		return nil, fmt.Errorf("quantize: %w", err)
	}
	var users [][]int16
	step := max(len(histories)/(2*boundUsers), 1)
	for i := 0; i < len(histories) && len(users) < 2*boundUsers; i += step {
		h := histories[i]
		if len(users)%4 >= 2 {
			h = h[:(len(h)+1)/2]
		}
		e := LayoutEvents(h)
		users = append(users, q.User(e[max(0, len(e)-q.Map().MaxHistory):], nil))
	}
	return users, nil
}
