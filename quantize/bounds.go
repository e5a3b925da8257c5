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

// What the steps of a search cost in the guest, in nanoseconds, as `make bench`
// measures them (BenchmarkTopK): a column of an item that is multiplied in full
// while all are gone through; a column of a row of bounds, and the row beside
// it; a column of a single item, and the item beside it; a value of the
// transform. Only their ratios count.
const (
	scanColumn, boundColumn, boundRow        = 0.058, 0.031, 0.15
	singleColumn, singleItem, transformValue = 0.06, 6.0, 0.6
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
	boundColumns = 64 // of a row, at most
)

// BoundsReport says what bounds save.
type BoundsReport struct {
	Columns int     // of a row of bounds, 0 where going through all items is as fast
	Looked  float64 // share of the items that are looked at all the same, a mean over users
	Cost    float64 // of a search over that of going through all items, estimated from counts
}

// AddBounds gives p bounds that let the guest find the best items without looking
// at most, if that pays for users like these and the catalogue is no small one: vectors in steps of 1/p.UserInv. One
// half of them shapes the bounds, the other one decides. Answers do not change.
//
// The transform makes the columns of users and items uncorrelated and equally
// long, in order of what they add to scores: in the mean over users and items no
// other cut after a number of columns leaves less to the bound of the rest.
func AddBounds(p *layout.Params, users [][]int16) BoundsReport {
	best := BoundsReport{Looked: 1, Cost: 1}
	if p.Shape.Items < boundsItems {
		return best
	}
	f, ok := fitBounds(p, users)
	if !ok {
		return best
	}
	limit := boundsPay
	for columns := 16; columns <= min(boundColumns, p.Shape.Dim); columns += 8 {
		b, s, r, ok := f.bounds(p, columns)
		if ok && r.Cost < limit {
			best, limit = r, r.Cost
			p.Bounds, p.Shape = b, s
		}
	}
	return best
}

// SetBounds gives p bounds with the given columns in a row, a multiple of eight up
// to the model's width, whether they pay or not. It reports false, and leaves p alone,
// where there can be none: without users or items that differ from zero.
func SetBounds(p *layout.Params, users [][]int16, columns int) (BoundsReport, bool) {
	f, ok := fitBounds(p, users)
	if !ok {
		return BoundsReport{}, false
	}
	b, s, r, ok := f.bounds(p, columns)
	if ok {
		p.Bounds, p.Shape = b, s
	}
	return r, ok
}

// boundFit is what bounds with any number of columns are made of.
type boundFit struct {
	t, z  *mat.Dense // the transform, (D, D), and its dual of the items, (N, D)
	order []uint32
	judge [][]int16 // users to measure with
}

func fitBounds(p *layout.Params, users [][]int16) (*boundFit, bool) {
	fit, judge := halves(users)
	if len(judge) == 0 {
		return nil, false
	}
	items := itemMatrix(p)
	t, ok := transform(items, userMatrix(fit, p.Shape.Dim))
	if !ok {
		return nil, false
	}
	z, far := dual(items, t)
	if z == nil || far > 1e-7 {
		return nil, false
	}
	return &boundFit{t, z, promising(items, fit), judge[:min(len(judge), max(boundVisits/p.Shape.Items, 4))]}, true
}

// bounds makes bounds for p; it fails where float32 cannot hold them.
func (f *boundFit) bounds(p *layout.Params, columns int) (layout.Bounds, layout.Shape, BoundsReport, bool) {
	s := p.Shape
	s.BoundHead = columns - layout.BoundGroups
	s.BoundMiddle = s.BoundHead + (s.Dim-s.BoundHead)/3
	b, ok := f.rows(s.BoundHead, s.BoundMiddle)
	if !ok {
		return b, s, BoundsReport{}, false
	}
	looked := looks(p, &b, s.BoundHead, s.BoundMiddle, f.judge)
	return b, s, BoundsReport{columns, looked, boundCost(s, columns, looked)}, true
}

// boundCost estimates the time of a search over that of going through all items.
func boundCost(s layout.Shape, columns int, looked float64) float64 {
	n, d := float64(s.Items), float64(s.Dim)
	search := n*(boundRow+boundColumn*float64(columns)) + n*looked*(singleItem+singleColumn*d) + transformValue*d*d
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

// promising returns the items by falling score for the mean user.
func promising(items *mat.Dense, users [][]int16) []uint32 {
	n, d := items.Dims()
	mean := mat.NewVecDense(d, nil)
	for _, u := range users {
		for j := range d {
			mean.SetVec(j, mean.AtVec(j)+float64(u[j]))
		}
	}
	var scores mat.VecDense
	scores.MulVec(items, mean)
	order := make([]uint32, n)
	for i := range order {
		order[i] = uint32(i)
	}
	slices.SortStableFunc(order, func(a, b uint32) int { return cmp.Compare(scores.AtVec(int(b)), scores.AtVec(int(a))) })
	return order
}

// rows makes bounds. The columns of the head are scaled to the range of int8, but
// those that hold next to nothing. What rounding the transform to float32 costs
// is a small part of what Slack allows for.
func (f *boundFit) rows(head, middle int) (layout.Bounds, bool) {
	n, d := f.z.Dims()
	scale := make([]float64, d)
	for j := range scale {
		scale[j] = 1
	}
	for j := range head {
		scale[j] = 0
		for i := range n {
			scale[j] = max(scale[j], math.Abs(f.z.At(i, j)))
		}
	}
	least := slices.Max(scale[:head]) / 1e3
	for j := range head {
		scale[j] = max(scale[j], least) / layout.WeightMax
	}
	b := layout.Bounds{Transform: make([]float32, d*d), Order: f.order, Rows: make([]int8, n*(head+layout.BoundGroups))}
	norms := make([]float64, d)
	for j := range d {
		for i := range d {
			b.Transform[j*d+i] = float32(f.t.At(j, i) * scale[j])
		}
		norms[j] = mat.Norm(f.t.RowView(j), 2)
	}
	lengths := make([][layout.BoundGroups]float64, n)
	var top [layout.BoundGroups]float64
	var slack float64
	for r, item := range f.order {
		row := f.z.RawRowView(int(item))
		var squares [layout.BoundGroups]float64
		var sum float64
		for j, v := range row {
			sum += norms[j] * math.Abs(v)
			v /= scale[j]
			switch {
			case j < head:
				h := round(float32(v), layout.WeightMax)
				b.Rows[r*(head+layout.BoundGroups)+j] = int8(h)
				squares[0] += (v - float64(h)) * (v - float64(h))
			case j < middle:
				squares[1] += v * v
			default:
				squares[2] += v * v
			}
		}
		slack = max(slack, sum)
		for g, s := range squares {
			lengths[r][g] = math.Sqrt(s) * (1 + 1e-6)
			top[g] = max(top[g], lengths[r][g])
		}
	}
	b.Slack = above(slack * (1 + 1e-6))
	for g := range b.Rho {
		b.Rho[g] = above(top[g] / layout.WeightMax)
	}
	for r := range lengths {
		for g, v := range lengths[r] {
			if v > 0 {
				b.Rows[r*(head+layout.BoundGroups)+head+g] = int8(min(math.Ceil(v/float64(b.Rho[g])), layout.WeightMax))
			}
		}
	}
	return b, max(b.Slack, b.Rho[0], b.Rho[1], b.Rho[2]) < layout.ItemScaleMax
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

// looks returns the share of the items that a search looks at, a mean over users.
func looks(p *layout.Params, b *layout.Bounds, head, middle int, users [][]int16) float64 {
	d, total := p.Shape.Dim, 0
	y := make([]float64, d)
	for _, u := range users {
		for j := range d {
			y[j] = 0
			for i, v := range b.Transform[j*d : (j+1)*d] {
				y[j] += float64(v) * float64(u[i])
			}
		}
		var best lowest
		for r, item := range b.Order {
			if len(best) == boundHits && b.Bound(r, y, head, middle) < float64(best[0]) {
				continue
			}
			total++
			var acc int32
			for j, w := range p.ItemRows[int(item)*d : (int(item)+1)*d] {
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
	return float64(total) / float64(len(users)*p.Shape.Items)
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
