package quantize

import (
	"fmt"

	"github.com/wisp-project/wisp/internal/layout"
	"github.com/wisp-project/wisp/model"
)

// Rows of items may have this many bits.
const (
	minItemBits = 3
	maxItemBits = 8
)

// checkItemBits reports a number of bits that rows of items cannot have; 0 means
// maxItemBits.
func checkItemBits(bits int) error {
	if bits != 0 && (bits < minItemBits || bits > maxItemBits) {
		return fmt.Errorf("%w: items in %d bits, must be %d to %d", ErrModel, bits, minItemBits, maxItemBits)
	}
	return nil
}

// narrow quantizes the rows of the items of p anew in fewer bits, those of their texts
// too. The guest reads a byte for each value all the same: what fewer bits save is a
// part of the file and of what travels, where compression takes as many bits as there
// are.
func narrow(p *layout.Params, m *model.Model, text *Text, bits int) {
	items := rowsIn(m.ItemVectors, bits)
	p.ItemRows, p.ItemScale = items.W, items.Scale
	for i := range p.ItemScale {
		p.ItemScale[i] /= p.UserInv
	}
	if text == nil || text.ItemTexts == nil {
		return
	}
	texts := rowsIn(text.ItemTexts, bits)
	d := text.ItemTexts.Shape[1]
	p.Text.ItemTexts.W = texts.W
	for i := range p.Text.ItemTexts.Scale {
		p.Text.ItemTexts.Scale[i] = layout.CosineScale(texts.W[i*d : (i+1)*d])
	}
}

// rowsIn quantizes each row of w with 2^(bits-1)-1 levels on each side of zero. The
// largest value of a row is a rare one: of a few scales below that which it asks for,
// a row takes the one with the least squared error, and larger values saturate.
func rowsIn(w *model.Tensor, bits int) layout.Linear {
	levels := 1<<(bits-1) - 1
	l := matrixIn(w, levels)
	trial := make([]int8, l.Cols)
	for r := range l.Rows {
		full := l.Scale[r]
		row, best := w.Row(r), -1.0
		for share := float32(1); share > 0.45 && full > 0; share -= 0.05 {
			scale, off := full*share, 0.0
			for i, v := range row {
				trial[i] = int8(round(v/scale, levels))
				e := float64(v - scale*float32(trial[i]))
				off += e * e
			}
			if best < 0 || off < best {
				best, l.Scale[r] = off, scale
				copy(l.W[r*l.Cols:(r+1)*l.Cols], trial)
			}
		}
	}
	return l
}
