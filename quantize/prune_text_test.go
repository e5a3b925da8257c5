package quantize_test

import (
	"errors"
	"math"
	"slices"
	"testing"

	"github.com/wisp-project/wisp/model"
	"github.com/wisp-project/wisp/quantize"
)

// What does nothing can be taken away and nothing changes: columns of a feed-forward
// part that nothing leads out of, tokens that no text has, positions beyond them.
func TestPruneTextExactly(t *testing.T) {
	m, _ := textEncoder(t, nil)
	silent := []int{0, 7, 33, 69}
	for l := range m.Config.Layers {
		clearColumns(m.Weights[model.TextLayerName(l, "ffn.down.weight")], silent...)
	}
	importance := bySize(m.Weights)
	for l := range m.Config.Layers {
		clearRows(importance[model.TextLayerName(l, "ffn.up.weight")], silent...)
		clearRows(importance[model.TextLayerName(l, "ffn.up.bias")], silent...)
	}
	tokens := []int32{2, 3, 9, 5, 40}
	small, err := quantize.PruneText(m, importance, quantize.TextPruneOptions{FFN: m.Config.FFN - len(silent), Positions: 6, Tokens: tokens})
	if err != nil {
		t.Fatal(err)
	}
	if c := small.Config; c.Vocabulary != 5 || c.Positions != 6 || c.MaxTokens != 6 || c.FFN != 66 || c.Dim != m.Config.Dim {
		t.Errorf("made %+v", c)
	}
	want, err := m.Embed([]int32{2, 40, 9, 5, 3})
	if err != nil {
		t.Fatal(err)
	}
	got, err := small.Embed([]int32{0, 4, 2, 3, 1})
	if err != nil {
		t.Fatal(err)
	}
	for d := range want {
		if math.Abs(float64(got[d]-want[d])) > 1e-6 {
			t.Fatalf("value %d is %v, was %v", d, got[d], want[d])
		}
	}
}

// The blocks, heads and dimensions that stay are those that matter, and their weights
// are what they were.
func TestPruneTextKeepsWhatMatters(t *testing.T) {
	m, _ := textEncoder(t, nil) // 3 blocks of 3 heads, each 12 wide
	importance := model.Weights{}
	for _, s := range m.Config.Specs() {
		importance[s.Name] = model.NewTensor(s.Shape...)
	}
	mark := func(name string, rows ...int) {
		x := importance[name]
		width := len(x.Data) / x.Shape[0]
		for _, r := range rows {
			for i := range width {
				x.Data[r*width+i] = 1
			}
		}
	}
	heads := map[int]int{0: 2, 2: 1} // by block that matters
	for l, h := range heads {
		for i := range 12 {
			mark(model.TextLayerName(l, "attn.q.weight"), 12*h+i)
			mark(model.TextLayerName(l, "attn.v.bias"), 12*h+i)
		}
	}
	dims := []int{0, 3, 4, 8, 11, 12, 17, 20, 21, 30, 34, 35}
	mark(model.TextNormGain, dims...)
	small, err := quantize.PruneText(m, importance, quantize.TextPruneOptions{Layers: 2, Heads: 1, Dim: 12})
	if err != nil {
		t.Fatal(err)
	}
	for to, from := range []int{0, 2} {
		was, now := m.Weights[model.TextLayerName(from, "attn.q.weight")], small.Weights[model.TextLayerName(to, "attn.q.weight")]
		out, outNow := m.Weights[model.TextLayerName(from, "attn.o.weight")], small.Weights[model.TextLayerName(to, "attn.o.weight")]
		for i := range 12 {
			for j, d := range dims {
				if now.Row(i)[j] != was.Row(12*heads[from] + i)[d] {
					t.Fatalf("block %d: row %d of the queries is not that of head %d", to, i, heads[from])
				}
				if outNow.Row(j)[i] != out.Row(d)[12*heads[from]+i] {
					t.Fatalf("block %d: column %d of the output is not that of head %d", to, i, heads[from])
				}
			}
		}
	}
	if gain := small.Weights[model.TextNormGain].Data; !slices.EqualFunc(gain, dims, func(v float32, d int) bool { return v == m.Weights[model.TextNormGain].Data[d] }) {
		t.Errorf("gains are %v", gain)
	}
	if _, err := small.Embed([]int32{2, 5, 3}); err != nil {
		t.Error(err)
	}
	// Half as wide a head, whose scores are divided by a smaller root.
	narrow, err := quantize.PruneText(m, importance, quantize.TextPruneOptions{Dim: 18})
	if err != nil {
		t.Fatal(err)
	}
	q, was := narrow.Weights[model.TextLayerName(0, "attn.q.bias")].Data, m.Weights[model.TextLayerName(0, "attn.q.bias")].Data
	root := float32(math.Sqrt(0.5))
	for _, v := range q {
		if !slices.ContainsFunc(was, func(x float32) bool { return x*root == v }) {
			t.Fatalf("the bias %v of a query is none of the old ones times %v", v, root)
		}
	}
}

func TestPruneTextRefuses(t *testing.T) {
	m, _ := textEncoder(t, nil)
	importance := bySize(m.Weights)
	for name, o := range map[string]quantize.TextPruneOptions{
		"more layers":    {Layers: 4},
		"more heads":     {Heads: 4},
		"wider":          {Dim: 72},
		"wider heads":    {Heads: 1},
		"odd width":      {Dim: 35},
		"more positions": {Positions: 41},
		"unknown token":  {Tokens: []int32{1, 500}},
		"negative":       {FFN: -1},
	} {
		if _, err := quantize.PruneText(m, importance, o); !errors.Is(err, quantize.ErrPrune) {
			t.Errorf("%s: %v, want ErrPrune", name, err)
		}
	}
	delete(importance, model.TextWord)
	if _, err := quantize.PruneText(m, importance, quantize.TextPruneOptions{}); !errors.Is(err, quantize.ErrPrune) {
		t.Errorf("importance without a tensor: %v", err)
	}
}
