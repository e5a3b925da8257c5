package layout

import (
	"encoding/binary"
	"fmt"
	"math"
)

// BoundGroups is the number of lengths that a row of Bounds has behind its head.
const BoundGroups = 3

// BoundBlock is the number of rows of a block, which are compared together, BoundLeaf that of the rows that
// share a pivot.
const (
	BoundBlock = 16
	BoundLeaf  = 64
)

// Bounds let the guest find the best items without looking at most: for a user
// vector u it computes y = Transform·u and rules items out by upper bounds of
// their scores, in two parts: a few columns of all items, and more of those that
// are left. It is right as long as, for each item i with scale s and row w,
//
//	s·<u, w> = <Transform·u, z_i> for every u, with some z_i in R^D,
//	z_ij = Steps[j]·(Rows[i][j] + e_ij), j < Head,
//	Rows[i][Head]·Rho[0]   >= the length of (e_i[:First]/sqrt(Mix[0]), z_i[First:]),
//	Rows[i][Head+1]·Rho[1] >= the length of (e_i/sqrt(Mix[1]), z_i[Head:Middle]),
//	Rows[i][Head+2]·Rho[2] >= the length of z_i[Middle:],
//	Slack >= sum_j |Transform_j|·|z_ij|.
//
// Everything is in the exact arithmetic of real numbers; the guest allows for the
// rounding of its own. Rows that follow each other should be alike: their bounds
// are compared block by block. Pivots say where a search begins; any are right.
// The zero value stands for no bounds.
type Bounds struct {
	Transform []float32 // (D, D)
	Steps     []float32 // (Head), of the columns of the head
	Rho       [BoundGroups]float32
	Mix       [2]float32 // positive: what a rounding of the head counts for beside a column that is left out
	Slack     float32
	Order     []uint32 // (N), the item of each row
	Pivots    []int8   // (N/BoundLeaf, rounded up, First), about the mean of the rows of each leaf
	Rows      []int8   // (N, Head+BoundGroups), the lengths not negative
}

// boundK and boundMoreK are the padded numbers of columns of the two parts of a
// row of Bounds. The second part repeats the first part's length, to take it back.
func (s Shape) boundK() int {
	if s.BoundHead == 0 {
		return 0
	}
	return roundUp(s.BoundFirst+1, 8)
}

func (s Shape) boundMoreK() int {
	if s.BoundHead == 0 {
		return 0
	}
	return roundUp(s.BoundHead-s.BoundFirst+BoundGroups, 8)
}

// boundRows, boundPivots and boundSide are the padded number of rows, the number
// of pivots and the side of the transform, 0 where there are none.
func (s Shape) boundRows() int {
	if s.BoundHead == 0 {
		return 0
	}
	return roundUp(s.Items, BoundBlock)
}

func (s Shape) boundPivots() int {
	if s.BoundHead == 0 {
		return 0
	}
	return (s.Items + BoundLeaf - 1) / BoundLeaf
}

func (s Shape) boundSide() int {
	if s.BoundHead == 0 {
		return 0
	}
	return s.Dim
}

func (s Shape) validateBounds() error {
	if s.BoundFirst == 0 && s.BoundHead == 0 && s.BoundMiddle == 0 {
		return nil
	}
	if s.BoundFirst < 1 || s.BoundFirst > s.BoundHead || s.BoundHead > s.BoundMiddle || s.BoundMiddle > s.Dim {
		return fmt.Errorf("%w: the bounds' columns are %d, %d and %d, must rise from 1 to dim %d", ErrShape, s.BoundFirst, s.BoundHead, s.BoundMiddle, s.Dim)
	}
	return nil
}

// check reports what of b does not fit s.
func (b *Bounds) check(v *validator, s Shape) {
	v.prefix = "bounds: "
	cols := s.BoundHead + BoundGroups
	if s.BoundHead == 0 {
		v.check(b.Transform == nil && b.Steps == nil && b.Order == nil && b.Pivots == nil && b.Rows == nil, "there are some that the shape does not have")
		return
	}
	v.floats("transform", b.Transform, s.Dim*s.Dim)
	v.scales("steps", b.Steps, s.BoundHead)
	v.scales("scalar", b.scalars(), boundScalars)
	v.check(b.Mix[0] > 0 && b.Mix[1] > 0, "the roundings count for %v", b.Mix)
	v.int8s("pivots", b.Pivots, s.boundPivots()*s.BoundFirst)
	v.int8s("rows", b.Rows, s.Items*cols)
	v.size("order", len(b.Order), s.Items)
	if v.err != nil {
		return
	}
	for i := s.BoundHead; i < len(b.Rows); i++ {
		if i%cols >= s.BoundHead && b.Rows[i] < 0 {
			v.check(false, "row %d has the length %d", i/cols, b.Rows[i])
		}
	}
	seen := make([]bool, s.Items)
	for i, item := range b.Order {
		if int64(item) >= int64(s.Items) || seen[item] {
			v.check(false, "row %d is item %d, which is not in the table or comes twice", i, item)
			return
		}
		seen[item] = true
	}
}

// boundByte is the place of column c of row r of k columns: blocks of sixteen
// rows, [k/2][16][2].
func boundByte(r, c, k int) int {
	return r/BoundBlock*BoundBlock*k + c/2*2*BoundBlock + r%BoundBlock*2 + c%2
}

// boundScalars is the number of scalars that an image has of Bounds.
const boundScalars = BoundGroups + 2 + 1

func (b *Bounds) scalars() []float32 {
	return []float32{b.Rho[0], b.Rho[1], b.Rho[2], b.Mix[0], b.Mix[1], b.Slack}
}

func (b *Bounds) pack(dst []byte, h *header, s Shape) {
	if s.BoundHead == 0 {
		return
	}
	for j := range s.Dim {
		putFloats(dst, h[hBoundTransform]+uint32(4*j*s.itemK()), b.Transform[j*s.Dim:][:s.Dim])
	}
	putFloats(dst, h[hBoundSteps], b.Steps)
	putFloats(dst, h[hBoundScalars], b.scalars())
	put := func(at uint32, r, c, k int, v int8) { dst[int(at)+boundByte(r, c, k)] = byte(v) }
	first, k, more := s.BoundFirst, s.boundK(), s.boundMoreK()
	for i := range s.boundPivots() {
		for c := range first {
			put(h[hBoundPivots], i, c, k, b.Pivots[i*first+c])
		}
	}
	cols := s.BoundHead + BoundGroups
	for i, item := range b.Order {
		binary.LittleEndian.PutUint32(dst[int(h[hBoundOrder])+4*i:], item)
		for c, v := range b.Rows[i*cols : (i+1)*cols] {
			if c < first {
				put(h[hBoundRows], i, c, k, v)
			} else {
				put(h[hBoundMoreRows], i, c-first, more, v)
			}
		}
		put(h[hBoundRows], i, first, k, b.Rows[i*cols+s.BoundHead])
	}
}

func unpackBounds(src []byte, h *header, s Shape) Bounds {
	if s.BoundHead == 0 {
		return Bounds{}
	}
	first, cols := s.BoundFirst, s.BoundHead+BoundGroups
	b := Bounds{Order: make([]uint32, s.Items), Pivots: make([]int8, s.boundPivots()*first), Rows: make([]int8, s.Items*cols)}
	for j := range s.Dim {
		b.Transform = append(b.Transform, getFloats(src, h[hBoundTransform]+uint32(4*j*s.itemK()), s.Dim)...)
	}
	b.Steps = getFloats(src, h[hBoundSteps], s.BoundHead)
	scalars := getFloats(src, h[hBoundScalars], boundScalars)
	b.Rho, b.Mix, b.Slack = [BoundGroups]float32(scalars), [2]float32(scalars[BoundGroups:]), scalars[boundScalars-1]
	get := func(at uint32, r, c, k int) int8 { return int8(src[int(at)+boundByte(r, c, k)]) }
	for i := range b.Pivots {
		b.Pivots[i] = get(h[hBoundPivots], i/first, i%first, s.boundK())
	}
	for i := range b.Order {
		b.Order[i] = binary.LittleEndian.Uint32(src[int(h[hBoundOrder])+4*i:])
		for c := range cols {
			if c < first {
				b.Rows[i*cols+c] = get(h[hBoundRows], i, c, s.boundK())
			} else {
				b.Rows[i*cols+c] = get(h[hBoundMoreRows], i, c-first, s.boundMoreK())
			}
		}
	}
	return b
}

// A BoundQuery is what the bounds of a shape need to know of a user vector.
type BoundQuery struct {
	y       []float64 // the transform of the vector, (D), in steps where it has some
	shape   Shape
	bounds  *Bounds
	lengths [BoundGroups]float64 // what a unit of each of a row's lengths can add
}

// Query returns the bounds' view of the user vector u, (D), for a shape with such
// bounds, in the exact arithmetic of real numbers but for the rounding of float64.
func (b *Bounds) Query(s Shape, u []int16) *BoundQuery {
	q := &BoundQuery{y: make([]float64, s.Dim), shape: s, bounds: b}
	var squares [BoundGroups]float64
	for j := range q.y {
		y := 0.0
		for i, v := range b.Transform[j*s.Dim : (j+1)*s.Dim] {
			y += float64(v) * float64(u[i])
		}
		square := y * y
		if j >= s.BoundFirst {
			squares[0] += square
		}
		switch {
		case j < s.BoundHead:
			y *= float64(b.Steps[j])
			square = y * y
			squares[1] += float64(b.Mix[1]) * square
			if j < s.BoundFirst {
				squares[0] += float64(b.Mix[0]) * square
			}
		case j < s.BoundMiddle:
			squares[1] += square
		default:
			squares[2] += square
		}
		q.y[j] = y
	}
	for g, v := range squares {
		q.lengths[g] = float64(b.Rho[g]) * math.Sqrt(v)
	}
	return q
}

// First returns the upper bound of the score of row i that the first part gives.
func (q *BoundQuery) First(i int) float64 {
	s := q.shape
	row := q.bounds.Rows[i*(s.BoundHead+BoundGroups):]
	return product(q.y[:s.BoundFirst], row) + q.lengths[0]*float64(row[s.BoundHead])
}

// Bound returns the upper bound of the score of row i.
func (q *BoundQuery) Bound(i int) float64 {
	s := q.shape
	row := q.bounds.Rows[i*(s.BoundHead+BoundGroups):]
	return product(q.y[:s.BoundHead], row) + q.lengths[1]*float64(row[s.BoundHead+1]) + q.lengths[2]*float64(row[s.BoundHead+2])
}

// Leaf returns the leaf that a search begins with.
func (q *BoundQuery) Leaf() int {
	best, at := math.Inf(-1), 0
	first := q.shape.BoundFirst
	for i := range q.shape.boundPivots() {
		if v := product(q.y[:first], q.bounds.Pivots[i*first:]); v > best {
			best, at = v, i
		}
	}
	return at
}

func product(y []float64, row []int8) (sum float64) {
	for j, v := range y {
		sum += v * float64(row[j])
	}
	return sum
}
