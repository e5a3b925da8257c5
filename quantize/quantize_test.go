package quantize_test

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/wisp-project/wisp/hostgpu"
	"github.com/wisp-project/wisp/internal/layout"
	"github.com/wisp-project/wisp/internal/layout/layouttest"
	"github.com/wisp-project/wisp/internal/q8"
	"github.com/wisp-project/wisp/model"
	"github.com/wisp-project/wisp/quantize"
)

// params calibrates and quantizes.
func params(t *testing.T, m *model.Model, histories [][]model.Event) (layout.Params, *quantize.Calibration) {
	t.Helper()
	cal, err := quantize.Calibrate(m, histories, nil)
	if err != nil {
		t.Fatal(err)
	}
	p, err := quantize.Params(m, cal, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p, cal
}

// Item vectors by hand: the user vector is zero throughout, so its step is 1 and
// a row's scale is its largest magnitude over 127.
func TestItemRowsByHand(t *testing.T) {
	rows := []struct {
		name  string
		in    [8]float32
		want  [8]int8
		scale float32
	}{
		{"integers", [8]float32{127, -127, 1, -1, 0, 64, -64, 126}, [8]int8{127, -127, 1, -1, 0, 64, -64, 126}, 1},
		{"ties go to even", [8]float32{127, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 3.5}, [8]int8{127, 0, 2, 2, 0, -2, -2, 4}, 1},
		{"off the ties", [8]float32{127, 0.49, 0.51, 1.49, 2.51, -0.51, -1.49, 126.4}, [8]int8{127, 0, 1, 1, 3, -1, -1, 126}, 1},
		{"the largest is negative", [8]float32{-254, 1, 2, 3, 253.5, 0, 0, 0}, [8]int8{-127, 0, 1, 2, 127, 0, 0, 0}, 2},
		{"all zero", [8]float32{}, [8]int8{}, 0},
		{"as good as zero", [8]float32{1e-37, -1e-40}, [8]int8{}, 0},
		{"very small", [8]float32{127e-20, -64e-20}, [8]int8{127, -64}, 1e-20},
		{"a row of one value", [8]float32{-0.127}, [8]int8{-127}, 0.001},
	}
	c := model.Config{Items: len(rows), Dim: 8, Layers: 1, Heads: 1, FFN: 1, Window: 1, EventTypes: 1, GapBuckets: 1}
	var embedding []float32
	for _, r := range rows {
		embedding = append(embedding, r.in[:]...)
	}
	p, _ := params(t, zero(t, c, map[string][]float32{model.ItemEmbedding: embedding}), [][]model.Event{{{}}})
	for i, r := range rows {
		if got := p.ItemRows[i*8 : (i+1)*8]; !slices.Equal(got, r.want[:]) {
			t.Errorf("%s: %v, want %v", r.name, got, r.want)
		}
		if got := p.ItemScale[i]; math.Abs(float64(got-r.scale)) > 1e-6*float64(r.scale) {
			t.Errorf("%s: scale %v, want %v", r.name, got, r.scale)
		}
	}
	if p.UserInv != 1 || p.InputScale != float32(math.Sqrt(8)) {
		t.Errorf("user vector: inverse %v and input scale %v, want 1 and sqrt 8", p.UserInv, p.InputScale)
	}
}

// The cold-start vector sets the user vector's step where it is the longest:
// 2·2047 in 2047 levels makes steps of 2.
func TestColdStartByHand(t *testing.T) {
	c := model.Config{Items: 1, Dim: 8, Layers: 1, Heads: 1, FFN: 1, Window: 1, EventTypes: 1, GapBuckets: 1}
	p, _ := params(t, zero(t, c, map[string][]float32{
		model.ItemEmbedding: {127},
		model.UserCold:      {-4094, 1, 3, -1, -3, 2, 4093, 0},
		model.UserNormBias:  {4000},
	}), [][]model.Event{{{}}})
	if want := []int16{-2047, 0, 2, 0, -2, 1, 2046, 0}; !slices.Equal(p.Cold, want) {
		t.Errorf("cold-start vector %v, want %v", p.Cold, want)
	}
	if p.UserInv != 0.5 || p.ItemScale[0] != 2 || p.InputScale != float32(math.Sqrt(8)/2) {
		t.Errorf("inverse %v, item scale %v, input scale %v, want 1/2, 2 and sqrt(8)/2", p.UserInv, p.ItemScale[0], p.InputScale)
	}
	// Without it, the step is that of the outputs.
	p, _ = params(t, zero(t, c, map[string][]float32{model.UserNormBias: {1023.5}}), [][]model.Event{{{}}})
	if p.UserInv != 2 || !slices.Equal(p.Cold, make([]int16, 8)) {
		t.Errorf("inverse %v, cold-start vector %v, want 2 and zeros", p.UserInv, p.Cold)
	}
}

// Each output channel has its own scale, times the step of the input.
func TestLinearByHand(t *testing.T) {
	c := model.Config{Items: 1, Dim: 2, Layers: 2, Heads: 2, FFN: 3, Window: 1, EventTypes: 1, GapBuckets: 1}
	name := func(n string) string { return model.LayerName(1, n) }
	p, cal := params(t, zero(t, c, map[string][]float32{
		name("attn.norm.bias"):  {12.7, 0},
		name("attn.q.weight"):   {127, -64, 0, 0},
		name("attn.k.weight"):   {1270, 5, 0, -12.7},
		name("attn.v.weight"):   {0.127, 0.127, 254, 3},
		name("attn.q.bias"):     {1, 2},
		name("attn.k.bias"):     {3, 4},
		name("attn.v.bias"):     {5, 6},
		name("ffn.norm.bias"):   {127, 0},
		name("ffn.up.weight"):   {127, 1, 254, 2, 0, 0},
		name("ffn.up.bias"):     {7, 8, 9},
		name("ffn.down.weight"): {127, 0, 1, -381, 3, 4.5},
	}), [][]model.Event{{{}}})
	b := p.Blocks[1]
	if want := []int8{127, -64, 0, 0, 127, 0, 0, -127, 127, 127, 127, 2}; !slices.Equal(b.QKV.W, want) || b.QKV.Rows != 6 || b.QKV.Cols != 2 {
		t.Errorf("q, k and v: %v (%d, %d), want %v (6, 2)", b.QKV.W, b.QKV.Rows, b.QKV.Cols, want)
	}
	if want := []float32{1, 2, 3, 4, 5, 6}; !slices.Equal(b.QKV.Bias, want) {
		t.Errorf("biases %v, want %v", b.QKV.Bias, want)
	}
	near := func(what string, got []float32, want ...float32) {
		t.Helper()
		for i := range want {
			if len(got) != len(want) || math.Abs(float64(got[i]-want[i])) > 1e-5*float64(want[i]) {
				t.Errorf("%s: %v, want %v", what, got, want)
				return
			}
		}
	}
	near("scales of q, k and v", b.QKV.Scale, 0.1, 0, 1, 0.01, 0.0001, 0.2) // the input's step is 0.1
	near("inverse of the input's step", []float32{b.AttnInInv}, 10)
	if want := []int8{127, 1, 127, 1, 0, 0}; !slices.Equal(b.Up.W, want) {
		t.Errorf("up: %v, want %v", b.Up.W, want)
	}
	near("scales of up", b.Up.Scale, 1, 2, 0)
	if want := []int8{127, 0, 1, -127, 1, 2}; !slices.Equal(b.Down.W, want) { // 4.5 is 1.5 steps of 3
		t.Errorf("down: %v, want %v", b.Down.W, want)
	}
	hidden, err := cal.Scale(name(model.SiteFFNHidden), 127)
	if err != nil {
		t.Fatal(err)
	}
	near("scales of down", b.Down.Scale, hidden, 3*hidden)
	near("scale of scores", []float32{b.ScoreScale}, 1/(b.QInv*b.KInv)) // heads of one dimension
	near("scale of values", []float32{b.VScale}, 1/b.VInv)
	if err := p.Validate(); err != nil {
		t.Error(err)
	}
}

// No weight is further off than half a step, no channel wastes its range, and
// what needs no integers is carried over as it is.
func TestParamsOfRandomModels(t *testing.T) {
	for _, s := range layouttest.Shapes() {
		m := random(t, s, 1)
		p, _ := params(t, m, calibration(m.Config, 2, 1))
		if err := p.Validate(); err != nil {
			t.Fatalf("%+v: %v", s, err)
		}
		userStep := 1 / float64(p.UserInv)
		matrix := func(name string, w *model.Tensor, ints []int8, scale []float32, in float64) {
			t.Helper()
			cols := w.Shape[1]
			for r := range w.Shape[0] {
				step := float64(scale[r]) / in
				top := int8(0)
				for i, v := range w.Row(r) {
					q := ints[r*cols+i]
					top = max(top, q, -q)
					if e := math.Abs(float64(v) - float64(q)*step); e > step*(0.5+1e-3) {
						t.Fatalf("%+v: %s[%d][%d] is %v, stored as %d steps of %v", s, name, r, i, v, q, step)
					}
				}
				if top != 127 {
					t.Fatalf("%+v: %s: row %d uses its range up to %d of 127", s, name, r, top)
				}
			}
		}
		matrix("items", m.ItemVectors, p.ItemRows, p.ItemScale, userStep)
		for l, b := range p.Blocks {
			w := func(name string) *model.Tensor { return m.Weights[model.LayerName(l, name)] }
			d := s.Dim
			for i, part := range []string{"attn.q", "attn.k", "attn.v"} {
				matrix(part, w(part+".weight"), b.QKV.W[i*d*d:], b.QKV.Scale[i*d:], 1/float64(b.AttnInInv))
			}
			matrix("attn.o", w("attn.o.weight"), b.Out.W, b.Out.Scale, 1/float64(b.OutInv))
			matrix("ffn.up", w("ffn.up.weight"), b.Up.W, b.Up.Scale, 1/float64(b.FFNInInv))
			matrix("ffn.down", w("ffn.down.weight"), b.Down.W, b.Down.Scale, 1/float64(b.HiddenInv))
			for name, got := range map[string][]float32{
				"attn.norm.weight": b.AttnNormGain, "attn.norm.bias": b.AttnNormBias, "attn.distance.bias": b.DistanceBias,
				"attn.o.bias": b.Out.Bias, "ffn.norm.weight": b.FFNNormGain, "ffn.norm.bias": b.FFNNormBias,
				"ffn.up.bias": b.Up.Bias, "ffn.down.bias": b.Down.Bias,
			} {
				if !slices.Equal(got, w(name).Data) {
					t.Errorf("%+v: %s of block %d is not the model's", s, name, l)
				}
			}
		}
	}
}

// The parameters share nothing with the model they were made of.
func TestParamsAreCopies(t *testing.T) {
	m := random(t, layouttest.Shapes()[1], 2)
	histories := calibration(m.Config, 2, 2)
	p, _ := params(t, m, histories)
	before := fmt.Sprint(p)
	for _, w := range m.Weights {
		for i := range w.Data {
			w.Data[i] = 99
		}
	}
	clear(m.ItemVectors.Data)
	if fmt.Sprint(p) != before {
		t.Error("the parameters changed with the model")
	}
}

// Models whose activations are next to nothing, in some places or everywhere,
// can be packed all the same.
func TestImageOfFaintModels(t *testing.T) {
	for _, factor := range []float32{0, 1e-6, 1e-12, 1e-30} {
		for _, part := range []string{"attn.norm.", "attn.v.", "ffn.norm.", "ffn.up.", ""} {
			m := random(t, layouttest.Shapes()[2], 3)
			for name, w := range m.Weights {
				for l := range m.Config.Layers {
					prefix := model.LayerName(l, part)
					if len(name) >= len(prefix) && name[:len(prefix)] == prefix {
						for i := range w.Data {
							w.Data[i] *= factor
						}
					}
				}
			}
			histories := calibration(m.Config, 4, 3)
			image, err := quantize.Image(m, histories, nil, nil)
			if err != nil {
				t.Errorf("%q times %v: %v", part, factor, err)
				continue
			}
			q, err := q8.New(image)
			if err != nil {
				t.Fatal(err)
			}
			compare(t, fmt.Sprintf("%q times %v", part, factor), m, q, histories)
		}
	}
}

// compare holds the int8 scores to the float32 ones.
func compare(t *testing.T, what string, m *model.Model, q *q8.Model, histories [][]model.Event) {
	t.Helper()
	want, got := make([]float32, m.Config.Items), make([]float32, m.Config.Items)
	var errs, correlation float64
	for _, h := range histories {
		u, err := m.User(h, nil)
		if err != nil {
			t.Fatal(err)
		}
		m.Scores(want, u)
		q.Scores(got, q.User(quantize.LayoutEvents(h[max(0, len(h)-m.Config.Reach()):]), nil))
		errs += relative(got, want)
		correlation += rankCorrelation(got, want)
	}
	n := float64(len(histories))
	t.Logf("%s: relative error %.4f, rank correlation %.5f", what, errs/n, correlation/n)
	if errs/n > 0.03 || (len(got) > 20 && correlation/n < 0.997) {
		t.Errorf("%s: relative error %.4f, rank correlation %.5f", what, errs/n, correlation/n)
	}
}

// The int8 model is the float32 model but for a few parts in a hundred, on every
// shape, and on histories it was not calibrated on.
func TestImageIsCloseToTheModel(t *testing.T) {
	for _, s := range append(layouttest.Shapes()[1:], []layout.Shape{
		{Items: 60, Dim: 48, Layers: 3, Heads: 3, FFN: 96, Window: 8, EventTypes: 8, GapBuckets: 24},
		{Items: 60, Dim: 33, Layers: 1, Heads: 11, FFN: 7, Window: 3, EventTypes: 1, GapBuckets: 33},
		{Items: 60, Dim: 16, Layers: 6, Heads: 2, FFN: 64, Window: 4, EventTypes: 4, GapBuckets: 2},
	}...) {
		s.Labels, s.Attributes, s.Ratings = layout.LabelShape{}, layout.AttributeShape{}, false
		m := random(t, s, 4)
		image, err := quantize.Image(m, calibration(m.Config, 8, 4), nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		q, err := q8.New(image)
		if err != nil {
			t.Fatal(err)
		}
		got := q.Shape()
		got.BoundFirst, got.BoundHead, got.BoundMiddle = s.BoundFirst, s.BoundHead, s.BoundMiddle // whether they pay is another matter
		if got != s {
			t.Errorf("the image of %+v has the shape %+v", s, got)
		}
		others := calibration(m.Config, 3, 5)
		compare(t, fmt.Sprint(s), m, q, append(others, nil)) // the last one is empty
	}
}

// A trained model keeps its order: what float32 puts first, int8 does too.
func TestImageOfATrainedModel(t *testing.T) {
	tr := train(t)
	image, err := quantize.Image(tr.model, histories(tr.split), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	q, err := q8.New(image)
	if err != nil {
		t.Fatal(err)
	}
	var cases [][]model.Event
	for _, c := range tr.split.Test {
		cases = append(cases, hostgpu.Events(c.History))
	}
	compare(t, "trained", tr.model, q, cases)
	n := tr.model.Config.Items
	want, got := make([]float32, n), make([]float32, n)
	common := 0
	for _, h := range cases {
		u, err := tr.model.User(h, nil)
		if err != nil {
			t.Fatal(err)
		}
		tr.model.Scores(want, u)
		q.Scores(got, q.User(quantize.LayoutEvents(h[max(0, len(h)-tr.model.Config.Reach()):]), nil))
		best := top(want, 10)
		for _, i := range top(got, 10) {
			if slices.Contains(best, i) {
				common++
			}
		}
	}
	share := float64(common) / float64(10*len(cases))
	t.Logf("%.4f of the ten best are the same", share)
	if share < 0.98 {
		t.Errorf("%.4f of the ten best are the same", share)
	}
}

// top returns the k items with the highest scores.
func top(scores []float32, k int) []int {
	order := make([]int, len(scores))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		switch {
		case scores[a] > scores[b]:
			return -1
		case scores[a] < scores[b]:
			return 1
		}
		return 0
	})
	return order[:k]
}

func TestImageIsReproducible(t *testing.T) {
	m := random(t, layouttest.Shapes()[3], 6)
	histories := calibration(m.Config, 4, 6)
	first, err := quantize.Image(m, histories, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	second, err := quantize.Image(m, histories, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(first, second) {
		t.Error("the same model and histories gave two images")
	}
}

func TestImageRefuses(t *testing.T) {
	s := layouttest.Shapes()[1]
	good := random(t, s, 7)
	h := calibration(good.Config, 1, 7)
	for name, test := range map[string]struct {
		spoil func(m *model.Model)
		h     [][]model.Event
		want  error
	}{
		"no histories":             {func(*model.Model) {}, nil, quantize.ErrCalibration},
		"an item vector is NaN":    {func(m *model.Model) { m.ItemVectors.Data[3] = float32(math.NaN()) }, [][]model.Event{{{Item: 4}}}, layout.ErrParams},
		"an item vector is +Inf":   {func(m *model.Model) { m.ItemVectors.Data[3] = float32(math.Inf(1)) }, [][]model.Event{{{Item: 4}}}, layout.ErrParams},
		"a bias is out of range":   {func(m *model.Model) { m.Weights[model.LayerName(0, "ffn.down.bias")].Data[0] = 1 << 21 }, h, layout.ErrParams},
		"activations are infinite": {func(m *model.Model) { m.Weights[model.LayerName(0, "ffn.up.bias")].Data[0] = float32(math.Inf(1)) }, h, quantize.ErrCalibration},
		"activations are NaN":      {func(m *model.Model) { m.Weights[model.UserNormBias].Data[0] = float32(math.NaN()) }, h, quantize.ErrCalibration},
		"descriptions":             {func(m *model.Model) { m.Config.Descriptions = 3 }, h, quantize.ErrModel},
		"unknown items":            {func(*model.Model) {}, [][]model.Event{{{Item: int32(s.Items)}}}, model.ErrInput},
	} {
		t.Run(name, func(t *testing.T) {
			m := random(t, s, 7)
			test.spoil(m)
			if image, err := quantize.Image(m, test.h, nil, nil); !errors.Is(err, test.want) || image != nil {
				t.Errorf("%d bytes, error %v, want %v", len(image), err, test.want)
			}
		})
	}
	// A calibration of another model lacks sites.
	cal, err := quantize.Calibrate(good, h, nil)
	if err != nil {
		t.Fatal(err)
	}
	deeper := s
	deeper.Layers++
	if _, err := quantize.Params(random(t, deeper, 7), cal, nil); !errors.Is(err, quantize.ErrCalibration) {
		t.Errorf("calibration of a shallower model: %v, want ErrCalibration", err)
	}
}

// The conversions of histories agree.
func TestEvents(t *testing.T) {
	c := model.Config{Items: 1 << 20, EventTypes: 256}
	h := randomHistory(rand.New(rand.NewPCG(8, 8)), c, 50)
	h[0].Time, h[7].Time = -1<<40, h[6].Time // a gap that no uint32 holds, and none
	a, b := quantize.HistoryEvents(h), quantize.LayoutEvents(hostgpu.Events(h))
	if !slices.Equal(a, b) {
		t.Errorf("%v and %v differ", a, b)
	}
	if a[0].Gap != 0 || a[1].Gap != math.MaxUint32 || a[7].Gap != 0 || a[3].Item != uint32(h[3].Item) || a[3].Type != uint32(h[3].Type) {
		t.Errorf("%v does not say what %v does", a, h)
	}
}
