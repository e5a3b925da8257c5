package quantize_test

import (
	"errors"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/wisp-project/wisp/hostgpu"
	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/internal/layout"
	"github.com/wisp-project/wisp/model"
	"github.com/wisp-project/wisp/quantize"
)

// bySize is an importance for tests: the size of each weight.
func bySize(weights model.Weights) model.Weights {
	w := model.Weights{}
	for name, x := range weights {
		w[name] = model.NewTensor(x.Shape...)
		for i, v := range x.Data {
			w[name].Data[i] = float32(math.Abs(float64(v)))
		}
	}
	return w
}

// clearRows and clearColumns silence rows or columns of a matrix or rows of a vector.
func clearRows(x *model.Tensor, rows ...int) {
	width := len(x.Data) / x.Shape[0]
	for _, r := range rows {
		clear(x.Data[r*width : (r+1)*width])
	}
}

func clearColumns(x *model.Tensor, columns ...int) {
	for r := range x.Shape[0] {
		for _, c := range columns {
			x.Row(r)[c] = 0
		}
	}
}

// What does nothing can be taken away and nothing changes: a block whose outputs are
// zero, and columns of a feed-forward part that nothing leads out of.
func TestPruneExactly(t *testing.T) {
	m := random(t, layout.Shape{Items: 20, Dim: 8, Layers: 3, Heads: 2, FFN: 6, Window: 5, EventTypes: 3, GapBuckets: 4}, 5)
	at := func(l int, name string) *model.Tensor { return m.Weights[model.LayerName(l, name)] }
	importance := bySize(m.Weights)
	for _, name := range []string{"attn.o.weight", "attn.o.bias", "ffn.down.weight", "ffn.down.bias"} {
		clear(at(1, name).Data)
	}
	for name, x := range importance {
		for _, s := range m.Config.Specs() { // all of block 1
			if s.Name == name && len(name) > 13 && name[:13] == "user.layer.1." {
				clear(x.Data)
			}
		}
	}
	for l, silent := range map[int][]int{0: {1, 4}, 2: {0, 5}} {
		clearColumns(at(l, "ffn.down.weight"), silent...)
		clearRows(importance[model.LayerName(l, "ffn.up.weight")], silent...)
		clearRows(importance[model.LayerName(l, "ffn.up.bias")], silent...)
		clearColumns(importance[model.LayerName(l, "ffn.down.weight")], silent...)
	}
	c, w, err := quantize.Prune(m, importance, quantize.PruneOptions{Layers: 2, FFN: 4})
	if err != nil {
		t.Fatal(err)
	}
	small, err := model.New(c, w, nil)
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 5))
	for range 20 {
		var h []model.Event
		for range r.IntN(12) {
			h = append(h, model.Event{Item: int32(r.IntN(20)), Type: uint8(r.IntN(3)), Gap: uint32(r.IntN(9))})
		}
		want, err := m.User(h, nil)
		if err != nil {
			t.Fatal(err)
		}
		got, err := small.User(h, nil)
		if err != nil {
			t.Fatal(err)
		}
		for j := range want {
			if math.Abs(float64(got[j]-want[j])) > 1e-5 {
				t.Fatalf("%d events: %v, want %v", len(h), got, want)
			}
		}
	}
}

// A narrower model keeps what is important, in every matrix that meets the dimension,
// and as much of each head.
func TestPruneDimensions(t *testing.T) {
	m := random(t, layout.Shape{Items: 7, Dim: 8, Layers: 1, Heads: 2, FFN: 6, Window: 5, EventTypes: 3, GapBuckets: 4}, 6)
	importance := bySize(m.Weights)
	for _, x := range importance {
		for i := range x.Data {
			x.Data[i] = 0.001
		}
	}
	for i := range 7 { // dimensions 1, 2, 5, 6 and inner ones 0, 3 of one head, 5, 6 of the other
		for _, d := range []int{1, 2, 5, 6} {
			importance[model.ItemEmbedding].Row(i)[d] = 1
		}
	}
	for _, j := range []int{0, 3, 5, 6} {
		importance[model.LayerName(0, "attn.k.bias")].Data[j] = 1
		importance[model.LayerName(0, "attn.v.bias")].Data[7-j] = 1
	}
	c, w, err := quantize.Prune(m, importance, quantize.PruneOptions{Dim: 4})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Check(c); err != nil || c.Dim != 4 || c.FFN != 6 {
		t.Fatalf("%+v: %v", c, err)
	}
	gain := float32(math.Sqrt(2))
	for name, want := range map[string]float32{
		model.ItemEmbedding:                 m.Weights[model.ItemEmbedding].Row(1)[1] * gain,
		model.UserNormBias:                  m.Weights[model.UserNormBias].Data[1] / gain,
		model.UserType:                      m.Weights[model.UserType].Row(1)[1],
		model.LayerName(0, "attn.q.weight"): m.Weights[model.LayerName(0, "attn.q.weight")].Row(3)[1] / gain,
		model.LayerName(0, "attn.k.weight"): m.Weights[model.LayerName(0, "attn.k.weight")].Row(3)[1],
		model.LayerName(0, "attn.o.weight"): m.Weights[model.LayerName(0, "attn.o.weight")].Row(2)[1], // columns 1, 2, 4, 7
		model.LayerName(0, "ffn.up.weight"): m.Weights[model.LayerName(0, "ffn.up.weight")].Row(1)[1],
	} {
		at := w[name].Shape[len(w[name].Shape)-1] // the second row's first, or of a vector the first
		if len(w[name].Shape) == 1 {
			at = 0
		}
		if got := w[name].Data[at]; math.Abs(float64(got-want)) > 1e-6 {
			t.Errorf("%s has %v, want %v", name, got, want)
		}
	}
}

func TestPruneRefuses(t *testing.T) {
	m := random(t, layout.Shape{Items: 7, Dim: 8, Layers: 1, Heads: 2, FFN: 6, Window: 5, EventTypes: 3, GapBuckets: 4}, 6)
	broken := bySize(m.Weights)
	broken[model.UserCold].Data[0] = float32(math.NaN())
	for name, test := range map[string]struct {
		importance model.Weights
		o          quantize.PruneOptions
	}{
		"more layers": {bySize(m.Weights), quantize.PruneOptions{Layers: 2}}, "wider": {bySize(m.Weights), quantize.PruneOptions{Dim: 16}},
		"heads that do not divide": {bySize(m.Weights), quantize.PruneOptions{Dim: 5}}, "nothing left": {bySize(m.Weights), quantize.PruneOptions{FFN: -1}},
		"no number": {broken, quantize.PruneOptions{Dim: 4}}, "no importance": {nil, quantize.PruneOptions{Dim: 4}},
	} {
		if _, _, err := quantize.Prune(m, test.importance, test.o); !errors.Is(err, quantize.ErrPrune) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Measured importance tells what a trained model can do without: to take away the
// half of its feed-forward columns that it says are least important costs less than to
// take the other half.
func TestImportance(t *testing.T) {
	const items = 25
	r := rand.New(rand.NewPCG(2, 2))
	d := &data.Dataset{Types: data.EventTypes(1, 5), Items: make([]data.Item, items), Users: make([]data.User, 60)}
	for range d.Users {
		at := r.IntN(items)
		var h []data.Interaction
		for i := range 12 {
			h = append(h, data.Interaction{Item: int32(at), Time: int64(i)})
			at = (at*7 + 3) % items
		}
		d.Histories = append(d.Histories, h)
	}
	s := data.LeaveOneOut(d, 5)
	o := hostgpu.TrainOptions{Dim: 8, Layers: 1, Heads: 1, FFN: 16, Window: 4, Rows: 4, Length: 24, Epochs: 15, LearningRate: 0.02, Warmup: 10, Dropout: -1, Average: -1, Seed: 3}
	tr, err := hostgpu.NewTrainer(d, s, hostgpu.Vectors{}, o)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := tr.Close(); err != nil {
			t.Error(err)
		}
	}()
	if err := tr.Run(t.Context(), "", nil); err != nil {
		t.Fatal(err)
	}
	before, err := tr.Model()
	if err != nil {
		t.Fatal(err)
	}
	importance, err := tr.Importance(t.Context(), 8)
	if err != nil {
		t.Fatal(err)
	}
	after, err := tr.Model()
	if err != nil {
		t.Fatal(err)
	}
	for name, w := range before.Weights {
		for i, v := range w.Data {
			if after.Weights[name].Data[i] != v {
				t.Fatalf("%s changed by being looked at", name)
			}
		}
	}
	inverse := model.Weights{}
	for name, x := range importance {
		inverse[name] = model.NewTensor(x.Shape...)
		for i, v := range x.Data {
			inverse[name].Data[i] = -v
		}
	}
	// cost is the mean distance of the user vectors to those before.
	cost := func(importance model.Weights) float64 {
		c, w, err := quantize.Prune(before, importance, quantize.PruneOptions{FFN: 8})
		if err != nil {
			t.Fatal(err)
		}
		m, err := model.New(c, w, nil)
		if err != nil {
			t.Fatal(err)
		}
		var sum float64
		for _, h := range s.Train {
			a, err := before.User(hostgpu.Events(h), nil)
			if err != nil {
				t.Fatal(err)
			}
			b, err := m.User(hostgpu.Events(h), nil)
			if err != nil {
				t.Fatal(err)
			}
			for j := range a {
				sum += math.Abs(float64(a[j] - b[j]))
			}
		}
		return sum
	}
	if least, most := cost(importance), cost(inverse); least >= most {
		t.Errorf("without the least important columns the vectors move by %v, without the most important by %v", least, most)
	}
}
