// Package layout is the one description of the bytes that the host and the
// guest share: packed weights, item rows, requests, answers and the memory map.
// The C header of the guest is generated from it, the plain-Go oracle reads
// images through it, and everything that comes from outside is checked by it.
package layout

import "fmt"

// ABI is the version of everything this package describes. A kernel and an
// image with different numbers do not run together.
const ABI = 8

// Shape holds the dimensions of a model; see model.Config for their meaning.
type Shape struct {
	Items, Dim, Layers, Heads, FFN, Window, EventTypes, GapBuckets int
	Text                                                           TextShape
	Labels                                                         LabelShape
	Attributes                                                     AttributeShape
	Ratings                                                        bool // whether the image has them
	// BoundFirst, BoundHead and BoundMiddle cut the columns of Bounds, 0 without any.
	BoundFirst, BoundHead, BoundMiddle int
}

// Limits on shapes. With them, every int32 sum of the arithmetic is safe: the
// largest is the attention's, 32767·127·256 < 2^31.
const (
	maxItems      = 1 << 26
	maxDim        = 1024
	maxLayers     = 32
	maxHeads      = 64
	maxFFN        = 4096
	maxWindow     = 256
	maxEventTypes = 256
	maxGapBuckets = 33
	// maxAnswerItems bounds K, and with it the heap in the scratch area.
	maxAnswerItems = 1000
)

// Validate reports the first dimension that no image can have.
func (s Shape) Validate() error {
	for _, f := range []struct {
		name   string
		v, max int
	}{
		{"items", s.Items, maxItems},
		{"dim", s.Dim, maxDim},
		{"layers", s.Layers, maxLayers},
		{"heads", s.Heads, maxHeads},
		{"ffn", s.FFN, maxFFN},
		{"window", s.Window, maxWindow},
		{"event types", s.EventTypes, maxEventTypes},
		{"gap buckets", s.GapBuckets, maxGapBuckets},
	} {
		if f.v < 1 || f.v > f.max {
			return fmt.Errorf("%w: %s is %d, must lie between 1 and %d", ErrShape, f.name, f.v, f.max)
		}
	}
	if s.Dim%s.Heads != 0 {
		return fmt.Errorf("%w: dim %d is not a multiple of heads %d", ErrShape, s.Dim, s.Heads)
	}
	if err := s.Labels.Validate(); err != nil {
		return err
	}
	if err := s.validateBounds(); err != nil {
		return err
	}
	if err := s.Attributes.Validate(); err != nil {
		return err
	}
	return s.Text.Validate()
}

// Reach returns the number of latest events that an answer depends on.
func (s Shape) Reach() int { return s.Layers*(s.Window-1) + 1 }

// Padded sizes. Rows of int8 weights and of activations are padded with zeros to
// whole vectors, so that the kernel has no tails.

// kUnroll is what the inner loop of a matrix product consumes, in columns and in
// rows of weights.
const kUnroll = 8

func roundUp(n, to int) int { return (n + to - 1) / to * to }

// dimK is the padded width of a vector of D values as input of a product.
func (s Shape) dimK() int { return roundUp(s.Dim, kUnroll) }

// ffnK is the same for the hidden layer.
func (s Shape) ffnK() int { return roundUp(s.FFN, kUnroll) }

// headDim is the width of a head, headPad its padded form: heads are laid out
// one after the other, each padded to whole vectors.
func (s Shape) headDim() int { return s.Dim / s.Heads }
func (s Shape) headPad() int { return roundUp(s.headDim(), 8) }

// inner is the width of the concatenated padded heads; innerK as input of O.
func (s Shape) inner() int  { return s.Heads * s.headPad() }
func (s Shape) innerK() int { return roundUp(s.inner(), kUnroll) }

// itemK is the padded width of an item row.
func (s Shape) itemK() int { return roundUp(s.Dim, 8) }

// weightRows is the number of rows of a packed weight matrix.
func weightRows(rows int) int { return roundUp(rows, kUnroll) }

// rowsPad is the number of rows of a table: blocks of four.
func rowsPad(rows int) int { return roundUp(rows, 4) }
