package q8_test

import (
	"math"
	"slices"
	"testing"

	"github.com/wisp-project/wisp/internal/layout"
	"github.com/wisp-project/wisp/internal/layout/layouttest"
	"github.com/wisp-project/wisp/internal/q8"
)

func TestGELU(t *testing.T) {
	var worst float64
	for i := range 800001 {
		x := float32(i-400000) / 20000
		want := float64(x) / 2 * math.Erfc(-float64(x)/math.Sqrt2)
		worst = max(worst, math.Abs(float64(q8.GELU(x))-want)-math.Abs(float64(x))/(1<<24))
	}
	if worst > 2e-5 {
		t.Errorf("largest error %g beyond the rounding of x, want at most 2e-5", worst)
	}
	for x, want := range map[float32]float32{0: 0, float32(math.Copysign(0, -1)): 0, 1 << 40: 1 << 40} {
		if got := q8.GELU(x); math.Float32bits(got) != math.Float32bits(want) {
			t.Errorf("gelu(%v) = %v, want %v", x, got, want)
		}
	}
	if got := q8.GELU(-1 << 40); got != 0 {
		t.Errorf("gelu(-2^40) = %v", got)
	}
}

func TestQuantRow(t *testing.T) {
	for name, c := range map[string]struct {
		x    []float32
		want []int16
		step float64
	}{
		"zeros":         {[]float32{0, 0, 0}, []int16{0, 0, 0}, 0},
		"next to zero":  {[]float32{1e-40, -1e-31}, []int16{0, 0}, 0},
		"one-hot":       {[]float32{0, -3, 0}, []int16{0, -127, 0}, 3.0 / 127},
		"ties to even":  {[]float32{127, 0.5, 1.5, -2.5, -3.5}, []int16{127, 0, 2, -2, -4}, 1},
		"both ends":     {[]float32{-1 << 32, 1 << 32}, []int16{-127, 127}, (1 << 32) / 127.0},
		"smallest":      {[]float32{1e-30, 5e-31}, []int16{127, 64}, 1e-30 / 127},
		"one direction": {[]float32{254, 127, 2, 1}, []int16{127, 64, 1, 0}, 2},
	} {
		got := make([]int16, len(c.x))
		step := q8.QuantRow(got, c.x, layout.WeightMax)
		if !slices.Equal(got, c.want) || math.Abs(float64(step)-c.step) > 1e-6*c.step {
			t.Errorf("%s: %v in steps of %v, want %v of %v", name, got, step, c.want, c.step)
		}
	}
}

// TestTextByHand follows a text through an encoder without influence of its
// blocks and a width of 2: the norm of (a, b) is (1, -1) for a > b.
func TestTextByHand(t *testing.T) {
	s := layouttest.TextShapes()[0]
	s.Text.Dim, s.Dim, s.Heads, s.Items = 2, 2, 1, 3
	p := layouttest.Params(s, 1)
	b := &p.Text.Blocks[0]
	for _, l := range []*layout.Linear{&b.QKV, &b.Out, &b.Up, &b.Down} {
		clear(l.Scale)
		clear(l.Bias)
	}
	for _, x := range [][]float32{p.Text.NormGain, b.AttnNormGain} {
		fill(x, 1)
	}
	clear(p.Text.NormBias)
	clear(b.AttnNormBias)
	copy(b.FFNNormGain, []float32{3, 4})
	copy(b.FFNNormBias, []float32{0, 0})
	// [CLS] is token 2, [SEP] 3. Word plus position: (5, 1) and (2, 0).
	copy(p.Text.Word.W[4:], []int8{4, 0, 2, 0})
	copy(p.Text.Word.Scale[2:], []float32{1, 0.5})
	copy(p.Text.Position.W, []int8{1, 1, 10, 0})
	copy(p.Text.Position.Scale, []float32{1, 0.1})
	// Both tokens end as (3, -4), so does their mean; of length 1 that is (0.6, -0.8).
	p.Text.ItemMap = layout.Linear{Rows: 2, Cols: 2, W: []int8{100, 0, 0, 50}, Scale: []float32{0.01, 0.02}, Bias: make([]float32, 2)}
	p.Text.UserMap = layout.Linear{Rows: 2, Cols: 2, W: []int8{100, 0, 0, 50}, Scale: []float32{0.01, 0.02}, Bias: make([]float32, 2)}
	p.Text.ItemTexts = layout.Rows{W: []int8{3, -4, 4, 3, -60, 80}, Scale: []float32{1.0 / (5 * 32767), 1.0 / (5 * 32767), 1.0 / (100 * 32767)}}
	p.UserInv = 100
	copy(p.Cold, []int16{50, 60})
	_, m := open(t, p)
	near := func(got, want float64) bool { return math.Abs(got-want) < 1e-3 }

	a := m.Run(layout.Request{Kind: layout.KindEmbed, Flags: layout.FlagItemRow})
	if !near(float64(a.Vector[0]), 0.6) || !near(float64(a.Vector[1]), -0.8) {
		t.Errorf("vector %v, want (0.6, -0.8)", a.Vector)
	}
	// The item vector is (0.6, -0.8) as well; its step 0.8/127, over 100.
	if !slices.Equal(a.Row, []int8{95, -127}) || !near(float64(a.Scale)*12700/0.8, 1) {
		t.Errorf("row %v in steps of %v, want (95, -127) of %v", a.Row, a.Scale, 0.8/12700)
	}
	a = m.Run(layout.Request{Kind: layout.KindSearch, K: 3})
	for i, want := range []struct {
		item   uint32
		cosine float64
	}{{0, 1}, {1, 0}, {2, -1}} {
		if h := a.Hits[i]; h.Item != want.item || !near(float64(h.Score), want.cosine) {
			t.Errorf("hit %d is %+v, want item %d with cosine %v", i, h, want.item, want.cosine)
		}
	}
	// u = (50, 60) + 100·(0.6, -0.8) = (110, -20).
	copy(p.ItemRows, []int8{1, 0, 0, 1, 1, 1})
	_, m = open(t, p)
	a = m.Run(layout.Request{Kind: layout.KindScore, List: []uint32{0, 1, 2}, Text: "a"})
	cold := m.Run(layout.Request{Kind: layout.KindScore, List: []uint32{0, 1, 2}})
	for i, want := range []int32{110, -20, 90} {
		if a.Hits[i].Acc != want {
			t.Errorf("product %d with a description is %d, want %d", i, a.Hits[i].Acc, want)
		}
		if want := []int32{50, 60, 110}[i]; cold.Hits[i].Acc != want {
			t.Errorf("product %d without one is %d, want %d", i, cold.Hits[i].Acc, want)
		}
	}
}
