package layout

import (
	"encoding/binary"
	"fmt"
	"math"
)

// BoundGroups is the number of columns of a row of Bounds behind its head.
const BoundGroups = 3

// boundBlock is the number of rows of a block.
const boundBlock = 16

// Bounds let the guest find the best items without looking at most: for a user
// vector u it computes y = Transform·u and rules items out by an upper bound of
// their scores. It is right as long as, for each item i with scale s and row w,
//
//	s·<u, w> = <Transform·u, z_i> for every u, with some z_i in R^D,
//	Rows[i][j] is z_ij but for e_ij, j < Head,
//	Rows[i][Head]·Rho[0]   >= |e_i|,
//	Rows[i][Head+1]·Rho[1] >= |z_i[Head:Middle]|,
//	Rows[i][Head+2]·Rho[2] >= |z_i[Middle:]|,
//	Slack >= sum_j |Transform_j|·|z_ij|.
//
// Everything is in the exact arithmetic of real numbers; the guest allows for the
// rounding of its own. The zero value stands for no bounds.
type Bounds struct {
	Transform []float32 // (D, D)
	Rho       [BoundGroups]float32
	Slack     float32
	Order     []uint32 // (N), the item of each row: the more promising ones first
	Rows      []int8   // (N, Head+BoundGroups), the groups' columns not negative
}

// boundK is the padded number of columns of a row of Bounds.
func (s Shape) boundK() int {
	if s.BoundHead == 0 {
		return 0
	}
	return roundUp(s.BoundHead+BoundGroups, 8)
}

// boundRows and boundSide are the padded number of rows and the side of the
// transform, 0 where there are none.
func (s Shape) boundRows() int {
	if s.BoundHead == 0 {
		return 0
	}
	return roundUp(s.Items, boundBlock)
}

func (s Shape) boundSide() int {
	if s.BoundHead == 0 {
		return 0
	}
	return s.Dim
}

func (s Shape) validateBounds() error {
	if s.BoundHead == 0 && s.BoundMiddle == 0 {
		return nil
	}
	if s.BoundHead < 1 || s.BoundHead > s.BoundMiddle || s.BoundMiddle > s.Dim {
		return fmt.Errorf("%w: the bounds' columns are %d and %d, must rise from 1 to dim %d", ErrShape, s.BoundHead, s.BoundMiddle, s.Dim)
	}
	return nil
}

// check reports what of b does not fit s.
func (b *Bounds) check(v *validator, s Shape) {
	v.prefix = "bounds: "
	cols := s.BoundHead + BoundGroups
	if s.BoundHead == 0 {
		v.check(b.Transform == nil && b.Order == nil && b.Rows == nil, "there are some that the shape does not have")
		return
	}
	v.floats("transform", b.Transform, s.Dim*s.Dim)
	v.scales("scalar", append(b.Rho[:len(b.Rho):len(b.Rho)], b.Slack), BoundGroups+1)
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
	return r/boundBlock*boundBlock*k + c/2*2*boundBlock + r%boundBlock*2 + c%2
}

func (b *Bounds) pack(dst []byte, h *header, s Shape) {
	if s.BoundHead == 0 {
		return
	}
	for j := range s.Dim {
		putFloats(dst, h[hBoundTransform]+uint32(4*j*s.itemK()), b.Transform[j*s.Dim:][:s.Dim])
	}
	putFloats(dst, h[hBoundScalars], append(b.Rho[:len(b.Rho):len(b.Rho)], b.Slack))
	cols := s.BoundHead + BoundGroups
	for i, item := range b.Order {
		binary.LittleEndian.PutUint32(dst[int(h[hBoundOrder])+4*i:], item)
		for c := range cols {
			dst[int(h[hBoundRows])+boundByte(i, c, s.boundK())] = byte(b.Rows[i*cols+c])
		}
	}
}

func unpackBounds(src []byte, h *header, s Shape) Bounds {
	if s.BoundHead == 0 {
		return Bounds{}
	}
	cols := s.BoundHead + BoundGroups
	b := Bounds{Order: make([]uint32, s.Items), Rows: make([]int8, s.Items*cols)}
	for j := range s.Dim {
		b.Transform = append(b.Transform, getFloats(src, h[hBoundTransform]+uint32(4*j*s.itemK()), s.Dim)...)
	}
	scalars := getFloats(src, h[hBoundScalars], BoundGroups+1)
	b.Rho, b.Slack = [BoundGroups]float32(scalars), scalars[BoundGroups]
	for i := range b.Order {
		b.Order[i] = binary.LittleEndian.Uint32(src[int(h[hBoundOrder])+4*i:])
		for c := range cols {
			b.Rows[i*cols+c] = int8(src[int(h[hBoundRows])+boundByte(i, c, s.boundK())])
		}
	}
	return b
}

// Bound returns the upper bound, in the exact arithmetic of real numbers, that row
// i has for y = Transform·u. cuts are BoundHead and BoundMiddle of the shape.
func (b *Bounds) Bound(i int, y []float64, head, middle int) float64 {
	row := b.Rows[i*(head+BoundGroups):]
	var sum float64
	for j := range head {
		sum += y[j] * float64(row[j])
	}
	for g, part := range [BoundGroups][]float64{y[:head], y[head:middle], y[middle:]} {
		var square float64
		for _, v := range part {
			square += v * v
		}
		sum += math.Sqrt(square) * float64(row[head+g]) * float64(b.Rho[g])
	}
	return sum
}
