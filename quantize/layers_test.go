package quantize_test

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/wisp-project/wisp/hostgpu"
	"github.com/wisp-project/wisp/internal/layout"
	"github.com/wisp-project/wisp/internal/layout/layouttest"
	"github.com/wisp-project/wisp/model"
	"github.com/wisp-project/wisp/quantize"
)

// layerErrors quantizes m and measures it on the same histories.
func layerErrors(t *testing.T, m *model.Model, histories [][]model.Event) []quantize.LayerError {
	t.Helper()
	image, err := quantize.Image(m, histories, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	table, err := quantize.LayerErrors(m, image, histories)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// A model that int8 holds exactly has no error anywhere.
func TestLayerErrorsOfAnExactModel(t *testing.T) {
	c := model.Config{Items: 2, Dim: 4, Layers: 1, Heads: 1, FFN: 2, Window: 2, EventTypes: 1, GapBuckets: 1}
	m := zero(t, c, map[string][]float32{
		"user.layer.0.attn.q.bias": {127, -3, 64, 1},
		"user.layer.0.attn.k.bias": {0.25, 31.75, -8, 0},
		"user.layer.0.attn.v.bias": {-254, 2, 0, 64},
		model.UserNormBias:         {2047, -1, 0, 1000},
	})
	table := layerErrors(t, m, [][]model.Event{{{}, {Item: 1}}})
	for _, e := range table {
		if e.Relative != 0 || e.Max != 0 || math.Abs(e.Cosine-1) > 1e-12 {
			t.Errorf("%+v, want no error", e)
		}
	}
	if len(table) != 9 {
		t.Errorf("%d sites, want 9", len(table))
	}
}

// What an image has beside the model is nothing that layers could differ in.
func TestLayerErrorsWithBounds(t *testing.T) {
	m := random(t, layouttest.Shapes()[4], 1)
	histories := calibration(m.Config, 60, 2)
	cal, err := quantize.Calibrate(m, histories, nil)
	if err != nil {
		t.Fatal(err)
	}
	p, err := quantize.Params(m, cal, nil)
	if err != nil {
		t.Fatal(err)
	}
	errorsOf := func() []quantize.LayerError {
		image, err := layout.Pack(p)
		if err != nil {
			t.Fatal(err)
		}
		table, err := quantize.LayerErrors(m, image, histories)
		if err != nil {
			t.Fatal(err)
		}
		return table
	}
	without := errorsOf()
	rng := rand.New(rand.NewPCG(3, 0))
	users := make([][]int16, 64)
	for i := range users {
		users[i] = make([]int16, m.Config.Dim)
		for d := range users[i] {
			users[i][d] = int16(rng.IntN(4000) - 2000)
		}
	}
	if _, ok := quantize.SetBounds(&p, users, 8, 24); !ok {
		t.Fatal("no bounds")
	}
	if with := errorsOf(); !slices.Equal(with, without) {
		t.Errorf("with bounds %v, without %v", with, without)
	}
}

// Half a step at the input is known by hand: steps of 2, a value of 1.
func TestLayerErrorsByHand(t *testing.T) {
	c := model.Config{Items: 1, Dim: 4, Layers: 1, Heads: 1, FFN: 1, Window: 1, EventTypes: 1, GapBuckets: 1}
	m := zero(t, c, map[string][]float32{model.LayerName(0, "attn.q.bias"): {254, 1, 0, 0}})
	table := layerErrors(t, m, [][]model.Event{{{}}, {{}}, nil})
	i := slices.IndexFunc(table, func(e quantize.LayerError) bool { return e.Site == site })
	if i < 0 {
		t.Fatalf("no site %q in %+v", site, table)
	}
	want := 1 / math.Sqrt(254*254+1)
	if e := table[i]; math.Abs(e.Relative-want) > 1e-9 || e.Max != 1 || math.Abs(e.Cosine-254*want) > 1e-12 || e.N != 2 {
		t.Errorf("%+v, want relative error %v, largest 1, cosine %v, 2 vectors", e, want, 254*want)
	}
}

// Sites come in the order of computation, and only what an answer needs is
// counted.
func TestLayerErrorsOrderAndCounts(t *testing.T) {
	s := layout.Shape{Items: 20, Dim: 8, Layers: 2, Heads: 2, FFN: 8, Window: 3, EventTypes: 2, GapBuckets: 4}
	m := random(t, s, 1)
	rng := rand.New(rand.NewPCG(1, 1))
	long, short := hostgpu.Events(randomHistory(rng, m.Config, 9)), hostgpu.Events(randomHistory(rng, m.Config, 2))
	table := layerErrors(t, m, [][]model.Event{long, short, nil})
	var got []string
	counts := map[string]int{}
	for _, e := range table {
		got = append(got, strings.TrimPrefix(e.Site, "user."))
		counts[e.Site] = e.N
	}
	want := "layer.0.attn.in layer.0.attn.q layer.0.attn.k layer.0.attn.v layer.0.attn.out layer.0.ffn.in layer.0.ffn.hidden layer.0.out " +
		"layer.1.attn.in layer.1.attn.q layer.1.attn.k layer.1.attn.v layer.1.attn.out layer.1.ffn.in layer.1.ffn.hidden layer.1.out out"
	// The model visits in, q, k and v of one event after the other, so that the
	// first visit of each is in this order too.
	if strings.Join(got, " ") != want {
		t.Errorf("sites\n%s, want\n%s", strings.Join(got, " "), want)
	}
	// Of nine events the last five count: all are inputs of block 0, three are
	// outputs of it and inputs of block 1, one is its output. Of two, both are.
	for site, n := range map[string]int{
		"user.layer.0.attn.in": 5 + 2, "user.layer.0.attn.q": 3 + 2, "user.layer.0.attn.v": 5 + 2, "user.layer.0.out": 3 + 2,
		"user.layer.1.attn.k": 3 + 2, "user.layer.1.attn.q": 1 + 1, "user.layer.1.ffn.hidden": 1 + 1, "user.out": 1 + 1,
	} {
		if counts[site] != n {
			t.Errorf("%s: %d vectors, want %d", site, counts[site], n)
		}
	}
}

func TestLayerErrorsAreSmall(t *testing.T) {
	check := func(what string, table []quantize.LayerError) {
		t.Helper()
		for _, e := range table {
			if e.N == 0 || e.Relative <= 0 || e.Relative > 0.05 || e.Cosine < 0.998 || e.Cosine > 1+1e-9 || e.Max <= 0 {
				t.Errorf("%s: %+v", what, e)
			}
		}
		last := table[len(table)-1]
		t.Logf("%s: %+v", what, last)
		if last.Site != model.SiteUserOut {
			t.Errorf("%s: the last site is %q", what, last.Site)
		}
	}
	for _, s := range []layout.Shape{layouttest.Shapes()[3], layouttest.Shapes()[6]} {
		m := random(t, s, 2)
		check("random", layerErrors(t, m, calibration(m.Config, 6, 2)))
	}
	tr := train(t)
	check("trained", layerErrors(t, tr.model, histories(tr.split)))
}

func TestLayerErrorsRefuses(t *testing.T) {
	s := layouttest.Shapes()[1]
	m := random(t, s, 3)
	h := calibration(m.Config, 2, 3)
	image, err := quantize.Image(m, h, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	larger := s
	larger.Items, larger.Dim = 2*s.Items, 2*s.Dim
	other := random(t, larger, 3)
	for name, test := range map[string]struct {
		m     *model.Model
		image []byte
		h     [][]model.Event
		want  error
	}{
		"image of another model": {other, image, calibration(other.Config, 2, 3), quantize.ErrImage},
		"half an image":          {m, image[:len(image)/2], h, layout.ErrImage},
		"no image":               {m, nil, h, layout.ErrImage},
		"unknown item":           {m, image, [][]model.Event{{{Item: 5}}}, model.ErrInput},
	} {
		if table, err := quantize.LayerErrors(test.m, test.image, test.h); !errors.Is(err, test.want) || table != nil {
			t.Errorf("%s: %v, error %v, want %v", name, table, err, test.want)
		}
	}
	if table, err := quantize.LayerErrors(m, image, nil); err != nil || table != nil {
		t.Errorf("no histories: %v, %v, want an empty table", table, err)
	}
}
