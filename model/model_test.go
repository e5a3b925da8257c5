package model_test

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/wisp-project/wisp/model"
)

// tiny is a small configuration with every part in it.
func tiny() model.Config {
	return model.Config{Items: 7, Features: 3, Descriptions: 5, Dim: 8, Layers: 2, Heads: 2, FFN: 12, Window: 3, EventTypes: 4, GapBuckets: 5}
}

// random returns weights drawn from a normal distribution.
func random(c model.Config, seed uint64) model.Weights {
	r := rand.New(rand.NewPCG(seed, 0))
	w := model.Weights{}
	for _, s := range c.Specs() {
		t := model.NewTensor(s.Shape...)
		for i := range t.Data {
			t.Data[i] = float32(r.NormFloat64()) * 0.5
		}
		w[s.Name] = t
	}
	return w
}

func randomFeatures(c model.Config, seed uint64) *model.Tensor {
	r := rand.New(rand.NewPCG(seed, 1))
	f := model.NewTensor(c.Items, c.Features)
	for i := range f.Data {
		f.Data[i] = float32(r.NormFloat64())
	}
	return f
}

func newModel(t *testing.T, c model.Config, seed uint64) *model.Model {
	t.Helper()
	m, err := model.New(c, random(c, seed), randomFeatures(c, seed))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// history returns n events that differ from one another.
func history(c model.Config, n int) []model.Event {
	h := make([]model.Event, n)
	for i := range h {
		h[i] = model.Event{Item: int32(i * 5 % c.Items), Type: uint8(i % c.EventTypes), Gap: uint32(i * i * i)}
	}
	return h
}

// A model of width 2 whose attention can be worked by hand. Norms are the
// identity up to sign: a centred pair (a, -a) normalises to (1, -1) for a > 0.
// Queries are zero, so the weights come from the distance bias alone: ln 3 for
// distance 0 and 0 for distance 1 give 3/4 and 1/4.
func TestUserByHand(t *testing.T) {
	c := model.Config{Items: 2, Features: 1, Dim: 2, Layers: 1, Heads: 1, FFN: 1, Window: 2, EventTypes: 1, GapBuckets: 3}
	w := model.Weights{}
	for _, s := range c.Specs() {
		w[s.Name] = model.NewTensor(s.Shape...)
	}
	set := func(name string, v ...float32) { copy(w[name].Data, v) }
	set(model.ItemEmbedding, 5, -5, -6, 6)
	set(model.ItemFeatures, 1, -1) // v_i = e_i + f_i·(1, -1)
	set(model.UserGap, 0, 0, 0, 0, 1, -1)
	set(model.LayerName(0, "attn.norm.weight"), 1, 1)
	set(model.LayerName(0, "attn.v.weight"), 1, 0, 0, 1)
	set(model.LayerName(0, "attn.o.weight"), 8, 0, 0, 8)
	set(model.LayerName(0, "attn.distance.bias"), float32(math.Log(3)), 0)
	set(model.LayerName(0, "ffn.norm.weight"), 1, 1)
	set(model.LayerName(0, "ffn.up.weight"), 2, -1)
	set(model.LayerName(0, "ffn.up.bias"), -2)
	set(model.LayerName(0, "ffn.down.weight"), 10, 20)
	set(model.LayerName(0, "ffn.down.bias"), 100, 0)
	set(model.UserNormGain, 2, 3)
	set(model.UserNormBias, 0.5, 0.25)
	features := &model.Tensor{Shape: []int{2, 1}, Data: []float32{1, 2}}
	m, err := model.New(c, w, features)
	if err != nil {
		t.Fatal(err)
	}
	// Item vectors: (5, -5) + 1·(1, -1) and (-6, 6) + 2·(1, -1).
	if got, want := m.ItemVectors.Data, []float32{6, -6, -4, 4}; !slices.Equal(got, want) {
		t.Fatalf("item vectors %v, want %v", got, want)
	}
	sites := map[string][][]float32{}
	states, err := m.States([]model.Event{{Item: 0}, {Item: 1, Gap: 9}}, func(site string, _ int, x []float32) {
		sites[site] = append(sites[site], slices.Clone(x))
	})
	if err != nil {
		t.Fatal(err)
	}
	// x_0 = sqrt2·(6, -6), normalised (1, -1); x_1 = sqrt2·(-4, 4) + (1, -1)
	// (gap 9 falls into the last bucket), normalised (-1, 1).
	near := func(what string, got, want []float32) {
		t.Helper()
		for i := range want {
			if math.Abs(float64(got[i]-want[i])) > 1e-4 {
				t.Errorf("%s: %v, want %v", what, got, want)
				return
			}
		}
	}
	near("input of attention at 0", sites["user.layer.0.attn.in"][0], []float32{1, -1})
	near("input of attention at 1", sites["user.layer.0.attn.in"][1], []float32{-1, 1})
	// Event 0 sees itself, event 1 sees 3/4 of itself and 1/4 of event 0.
	near("attention at 0", sites["user.layer.0.attn.out"][0], []float32{1, -1})
	near("attention at 1", sites["user.layer.0.attn.out"][1], []float32{-0.5, 0.5})
	// Hidden unit: relu(2a - b - 2) of the norm (a, b): 1 at event 0, where
	// (a, b) = (1, -1), and 0 at event 1, where it is (-1, 1).
	near("hidden at 0", sites["user.layer.0.ffn.hidden"][0], []float32{1})
	near("hidden at 1", sites["user.layer.0.ffn.hidden"][1], []float32{0})
	r := float32(math.Sqrt2)
	near("block at 0", sites["user.layer.0.out"][0], []float32{6*r + 8 + 10 + 100, -6*r - 8 + 20})
	near("block at 1", sites["user.layer.0.out"][1], []float32{-4*r + 1 - 4 + 100, 4*r - 1 + 4})
	// The final norm gives (1, -1) twice, times (2, 3) plus (0.5, 0.25).
	near("user at 0", states[0], []float32{2.5, -2.75})
	near("user at 1", states[1], []float32{2.5, -2.75})
	scores := make([]float32, 2)
	m.Scores(scores, states[1])
	near("scores", scores, []float32{2.5*6 + 2.75*6, -2.5*4 - 2.75*4})
}

// Events before the reach change nothing, bit for bit, and those within do.
func TestReach(t *testing.T) {
	for _, c := range []model.Config{
		tiny(),
		{Items: 7, Features: 3, Dim: 8, Layers: 3, Heads: 4, FFN: 4, Window: 4, EventTypes: 2, GapBuckets: 33},
		{Items: 7, Features: 3, Dim: 8, Layers: 2, Heads: 1, FFN: 4, Window: 1, EventTypes: 2, GapBuckets: 2},
	} {
		m := newModel(t, c, 2)
		long := history(c, 3*c.Reach()+2)
		tail := long[len(long)-c.Reach():]
		user := func(h []model.Event) []float32 {
			u, err := m.User(h, nil)
			if err != nil {
				t.Fatal(err)
			}
			return u
		}
		want := user(tail)
		if !slices.Equal(user(long), want) {
			t.Errorf("%+v: events before the reach changed the answer", c)
		}
		other := slices.Clone(tail)
		other[0].Item = (other[0].Item + 1) % int32(c.Items)
		if slices.Equal(user(other), want) {
			t.Errorf("%+v: the first event within the reach of %d made no difference", c, c.Reach())
		}
	}
}

// Row t of States is what User gives for the history up to t: appending an
// event never changes what was computed before it.
func TestStatesAreCausal(t *testing.T) {
	c := tiny()
	m := newModel(t, c, 3)
	h := history(c, c.Reach())
	states, err := m.States(h, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(states) != len(h) {
		t.Fatalf("%d states for %d events", len(states), len(h))
	}
	for i, s := range states {
		u, err := m.User(h[:i+1], nil)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(u, s) {
			t.Errorf("state %d is %v, the user of that history %v", i, s, u)
		}
	}
}

func TestColdStart(t *testing.T) {
	m := newModel(t, tiny(), 4)
	u, err := m.User(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	cold := m.Weights[model.UserCold].Data
	if !slices.Equal(u, cold) {
		t.Errorf("user without events is %v, want %v", u, cold)
	}
	if u[0]++; cold[0] == u[0] {
		t.Error("the answer shares memory with the weights")
	}
	// An item never trained on has its features alone.
	clear(m.Weights[model.ItemEmbedding].Row(2))
	features := randomFeatures(m.Config, 4)
	again, err := model.New(m.Config, m.Weights, features)
	if err != nil {
		t.Fatal(err)
	}
	for d, v := range again.ItemVectors.Row(2) {
		var want float32
		for f, x := range features.Row(2) {
			want += m.Weights[model.ItemFeatures].Row(d)[f] * x
		}
		if v != want {
			t.Errorf("dimension %d of a cold item is %v, want %v", d, v, want)
		}
	}
}

// A description adds W_desc·f, to the user of an empty history too.
func TestDescribe(t *testing.T) {
	c := tiny()
	m := newModel(t, c, 7)
	f := []float32{1, -2, 0.5, 0, 3}
	for _, n := range []int{0, 4} {
		u, err := m.User(history(c, n), nil)
		if err != nil {
			t.Fatal(err)
		}
		before := slices.Clone(u)
		if err := m.Describe(u, f); err != nil {
			t.Fatal(err)
		}
		for d := range u {
			want := float64(before[d])
			for j, x := range f {
				want += float64(m.Weights[model.UserDescription].Row(d)[j]) * float64(x)
			}
			if math.Abs(float64(u[d])-want) > 1e-5 {
				t.Errorf("%d events: dimension %d is %v, want %v", n, d, u[d], want)
			}
		}
	}
	u := make([]float32, c.Dim)
	for name, err := range map[string]error{
		"a narrow description": m.Describe(u, f[:4]),
		"a narrow user":        m.Describe(u[1:], f),
		"no description":       m.Describe(u, nil),
	} {
		if !errors.Is(err, model.ErrInput) {
			t.Errorf("%s: error %v, want ErrInput", name, err)
		}
	}
	c.Descriptions = 0
	if err := newModel(t, c, 7).Describe(u, nil); !errors.Is(err, model.ErrInput) {
		t.Errorf("a model that reads no descriptions: error %v, want ErrInput", err)
	}
}

func TestEveryPartCounts(t *testing.T) {
	c := tiny()
	m := newModel(t, c, 5)
	h := history(c, 4)
	want, err := m.User(h, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range c.Specs() {
		if s.Name == model.UserCold || s.Name == model.UserDescription || s.Name == model.LayerName(0, "attn.k.bias") || s.Name == model.LayerName(1, "attn.k.bias") {
			continue // the bias of the keys moves all scores of a row alike: softmax does not see it
		}
		w := random(c, 5)
		for i := range w[s.Name].Data {
			w[s.Name].Data[i] += float32(1+i%3) * 0.25
		}
		other, err := model.New(c, w, randomFeatures(c, 5))
		if err != nil {
			t.Fatal(err)
		}
		u, err := other.User(h, nil)
		if err != nil {
			t.Fatal(err)
		}
		if slices.Equal(u, want) {
			t.Errorf("%s has no influence", s.Name)
		}
	}
}

func TestGapBucket(t *testing.T) {
	c := tiny() // five buckets
	for seconds, want := range map[uint32]int{0: 0, 1: 1, 2: 2, 3: 2, 4: 3, 7: 3, 8: 4, 1 << 20: 4, math.MaxUint32: 4} {
		if got := c.GapBucket(seconds); got != want {
			t.Errorf("gap of %d s in bucket %d, want %d", seconds, got, want)
		}
	}
}

func TestBadInput(t *testing.T) {
	c := tiny()
	m := newModel(t, c, 6)
	for _, e := range []model.Event{{Item: -1}, {Item: int32(c.Items)}, {Type: uint8(c.EventTypes)}} {
		if _, err := m.User([]model.Event{{}, e}, nil); !errors.Is(err, model.ErrInput) {
			t.Errorf("event %+v: error %v, want ErrInput", e, err)
		}
	}
	for name, features := range map[string]*model.Tensor{
		"none":     nil,
		"flat":     model.NewTensor(c.Items * c.Features),
		"too few":  model.NewTensor(c.Items-1, c.Features),
		"narrower": model.NewTensor(c.Items, c.Features-1),
	} {
		if _, err := model.New(c, random(c, 6), features); !errors.Is(err, model.ErrInput) {
			t.Errorf("features %s: error %v, want ErrInput", name, err)
		}
	}
}

func TestConfigValidate(t *testing.T) {
	if err := tiny().Validate(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*model.Config){
		"no items":          func(c *model.Config) { c.Items = 0 },
		"negative":          func(c *model.Config) { c.Features = -1 },
		"wide descriptions": func(c *model.Config) { c.Descriptions = 1<<14 + 1 },
		"odd heads":         func(c *model.Config) { c.Heads = 3 },
		"wide window":       func(c *model.Config) { c.Window = 257 },
		"34 gap buckets":    func(c *model.Config) { c.GapBuckets = 34 },
		"257 types":         func(c *model.Config) { c.EventTypes = 257 },
		"no feed-forward":   func(c *model.Config) { c.FFN = 0 },
		"too many layers":   func(c *model.Config) { c.Layers = 33 },
		"dim out of range":  func(c *model.Config) { c.Dim = 2048 },
	} {
		c := tiny()
		change(&c)
		if err := c.Validate(); !errors.Is(err, model.ErrConfig) {
			t.Errorf("%s: error %v, want ErrConfig", name, err)
		}
		if _, err := model.New(c, random(tiny(), 1), randomFeatures(tiny(), 1)); !errors.Is(err, model.ErrConfig) {
			t.Errorf("%s: New says %v, want ErrConfig", name, err)
		}
	}
}

func TestWeightsCheck(t *testing.T) {
	c := tiny()
	if err := random(c, 1).Check(c); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(model.Weights){
		"missing":   func(w model.Weights) { delete(w, model.UserGap) },
		"excess":    func(w model.Weights) { w["extra"] = model.NewTensor(1) },
		"transpose": func(w model.Weights) { w[model.UserGap].Shape = []int{c.Dim, c.GapBuckets} },
		"flat":      func(w model.Weights) { w[model.UserGap].Shape = []int{c.Dim * c.GapBuckets} },
		"NaN":       func(w model.Weights) { w[model.UserGap].Data[3] = float32(math.NaN()) },
		"infinite":  func(w model.Weights) { w[model.UserGap].Data[3] = float32(math.Inf(-1)) },
	} {
		w := random(c, 1)
		change(w)
		if err := w.Check(c); !errors.Is(err, model.ErrWeights) {
			t.Errorf("%s: error %v, want ErrWeights", name, err)
		}
	}
}

func ExampleModel_User() {
	c := model.Config{Items: 3, Dim: 4, Layers: 1, Heads: 1, FFN: 4, Window: 2, EventTypes: 1, GapBuckets: 2}
	w := model.Weights{}
	for _, s := range c.Specs() {
		w[s.Name] = model.NewTensor(s.Shape...)
	}
	copy(w[model.ItemEmbedding].Data, []float32{1, 0, 0, -1, 0, 1, -1, 0, 1, -1, 1, -1})
	copy(w[model.UserNormGain].Data, []float32{1, 1, 1, 1})
	m, err := model.New(c, w, nil)
	if err != nil {
		panic(err)
	}
	u, err := m.User([]model.Event{{Item: 1}, {Item: 0, Gap: 60}}, nil)
	if err != nil {
		panic(err)
	}
	scores := make([]float32, c.Items)
	m.Scores(scores, u)
	fmt.Printf("%.2f\n", scores)
	// Output: [2.83 0.00 2.83]
}
