package q8_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"

	"github.com/wisp-project/wisp/internal/layout"
	"github.com/wisp-project/wisp/internal/layout/layouttest"
	"github.com/wisp-project/wisp/internal/q8"
)

// The formula of layout.Ratings, followed with numbers that can be done by hand.
func TestRateByHand(t *testing.T) {
	s := layout.Shape{Items: 3, Dim: 2, Layers: 1, Heads: 1, FFN: 2, Window: 4, EventTypes: 3, GapBuckets: 1, Ratings: true}
	p := layouttest.Params(s, 1)
	p.UserInv = 100
	copy(p.Cold, []int16{50, -100}) // u = (0.5, -1)
	copy(p.ItemRows, []int8{100, 0, 0, 100, 100, 100})
	for i := range p.ItemScale {
		p.ItemScale[i] = 0.01 / 100 // rows of ones, with the user vector's step
	}
	p.Ratings = &layout.Ratings{
		Low: 1, High: 5, Mean: 3, Step: 0.01, Shrink: 2,
		Levels: []int16{layout.NoLevel, 200, -100}, Items: []int16{50, 0, -20},
		// q = (2·0.5 + 0.25, -1) = (1.25, -1), over the step
		Map: layout.Linear{Rows: 2, Cols: 2, W: []int8{100, 0, 0, 100}, Scale: []float32{0.02, 0.01}, Bias: []float32{25, 0}},
	}
	_, m := open(t, p)
	rate := func(events ...layout.Event) []layout.Hit {
		a := m.Run(layout.Request{Kind: layout.KindRate, History: events, List: []uint32{0, 1, 2}})
		if a.Status != layout.StatusOK {
			t.Fatalf("status %d", a.Status)
		}
		return a.Hits
	}
	// 3 + b_i + q·v with v = (1, 0), (0, 1), (1, 1)
	for i, want := range []float64{3 + 0.5 + 1.25, 3 - 1, 3 - 0.2 + 0.25} {
		if got := float64(rate()[i].Score); math.Abs(got-want) > 2e-3 {
			t.Errorf("item %d: %v, want %v", i, got, want)
		}
	}
	// b_user changes all ratings alike, those that the scale does not cut: level 2 over
	// mean of item 0, and -1 of item 2, after an event that says nothing.
	for name, c := range map[string]struct {
		events []layout.Event
		want   float64
	}{
		"no level":   {[]layout.Event{{Item: 1}}, 0},
		"one rating": {[]layout.Event{{Item: 1}, {Item: 0, Type: 1}}, (2 - 0.5) / (1 + 2)},
		"two":        {[]layout.Event{{Item: 0, Type: 1}, {Item: 1}, {Item: 2, Type: 2}}, (2 - 0.5 - 1 + 0.2) / (2 + 2)},
	} {
		q := slices.Clone(c.events)
		for i := range q { // the same events without ratings give the same user vector but for their types
			q[i].Type = 0
		}
		clear(p.Type)
		_, m = open(t, p)
		with, without := rate(c.events...), rate(q...)
		moved := 0
		for i := range with {
			if a, b := float64(with[i].Score), float64(without[i].Score); a > 1.001 && a < 4.999 && b > 1.001 && b < 4.999 {
				moved++
				if math.Abs(a-b-c.want) > 1e-5 {
					t.Errorf("%s: the rating of item %d moves by %v, want %v", name, i, a-b, c.want)
				}
			}
		}
		if moved == 0 {
			t.Errorf("%s: all ratings are cut", name)
		}
	}
}

// Ratings lie in the scale of the data and come item by item, whatever else is asked.
func TestRateProperties(t *testing.T) {
	for i, s := range append(layouttest.Shapes(), layouttest.TextShapes()...) {
		if !s.Ratings {
			continue
		}
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			p := layouttest.Params(s, uint64(i))
			image, m := open(t, p)
			seen := 0
			for _, r := range layouttest.Requests(s, image.Map, 40, 5) {
				if r.Kind != layout.KindRate {
					continue
				}
				seen++
				all := m.Run(r).Hits
				if len(all) != len(r.List) {
					t.Fatalf("%d ratings of %d items", len(all), len(r.List))
				}
				for j, h := range all {
					if !(h.Score >= p.Ratings.Low && h.Score <= p.Ratings.High) {
						t.Fatalf("rating %v", h.Score)
					}
					one := r
					one.List = r.List[j : j+1]
					if got := m.Run(one).Hits[0]; got != h || h.Item != r.List[j] {
						t.Fatalf("%+v among others, %+v alone", h, got)
					}
				}
			}
			if seen == 0 {
				t.Error("no request was for ratings")
			}
		})
	}
}

// An item that was inserted has no ratings: its bias is 0.
func TestRateInserted(t *testing.T) {
	s := layouttest.TextShapes()[0]
	p := layouttest.Params(s, 3)
	p.Ratings.Low, p.Ratings.High = -1<<20, 1<<20
	image, m := open(t, p)
	o := layouttest.Overlay(s, image.Map, 3, 1)
	copy(o.Inserted[0].Row, p.ItemRows[:s.Dim])
	o.Inserted[0].Scale = p.ItemScale[0]
	laid := m.WithOverlay(o)
	hits := laid.Run(layout.Request{Kind: layout.KindRate, List: []uint32{0, uint32(s.Items)}}).Hits
	want := float64(hits[0].Score) - float64(p.Ratings.Step)*float64(p.Ratings.Items[0])
	if got := float64(hits[1].Score); hits[0].Acc != hits[1].Acc || math.Abs(got-want) > 1e-3 {
		t.Errorf("an inserted item like the first is rated %v, want %v", got, want)
	}
	g := newGuest(t, wazero.NewRuntimeConfigCompiler(), image)
	g.lay(t, image, o)
	same(t, g, laid, []layout.Request{{Kind: layout.KindRate, List: []uint32{0, uint32(s.Items)}, History: []layout.Event{{Item: uint32(s.Items)}}}})
}

// Scalars at the ends of their ranges lead to no value that is not finite.
func TestRateExtremes(t *testing.T) {
	s := layouttest.Shapes()[2]
	for _, scale := range []float32{0, 1e-45, 1, 1 << 20} {
		p := layouttest.Params(s, 4)
		r := p.Ratings
		fill(r.Map.Scale, scale)
		fill(r.Map.Bias, -scale)
		fill(p.ItemScale, scale)
		r.Low, r.High, r.Mean, r.Step, r.Shrink = -1<<20, 1<<20, -scale, scale, scale
		image, m := open(t, p)
		requests := layouttest.Requests(s, image.Map, 40, 6)
		same(t, newGuest(t, wazero.NewRuntimeConfigCompiler(), image), m, requests)
		for _, q := range requests {
			for _, h := range m.Run(q).Hits {
				if h.Score-h.Score != 0 {
					t.Fatalf("scale %v: a rating or score is %v", scale, h.Score)
				}
			}
		}
	}
}

// The classes of a text are a softmax: they add up to one, and come near that in
// float64 of the logits.
func TestClassify(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	for i, s := range layouttest.TextShapes() {
		if s.Text.Classes == 0 {
			continue
		}
		p := layouttest.Params(s, uint64(i))
		_, m := open(t, p)
		texts := []string{"", "a", "\xff\xfe", strings.Repeat("bad face ", layout.MaxText/9)}
		for range 20 {
			texts = append(texts, layouttest.Text(r))
		}
		for _, text := range texts {
			hits := m.Run(layout.Request{Kind: layout.KindClassify, Text: layout.CutText(text)}).Hits
			if len(hits) != s.Text.Classes {
				t.Fatalf("%d classes, want %d", len(hits), s.Text.Classes)
			}
			want := softmax(&p.Text.ClassMap, vector(m, text))
			sum := 0.0
			for c, h := range hits {
				sum += float64(h.Score)
				if h.Item != uint32(c) || math.Abs(float64(h.Score)-want[c]) > 2e-3 {
					t.Errorf("shape %d, class %d: %+v, want %v", i, c, h, want[c])
				}
			}
			if math.Abs(sum-1) > 1e-5 {
				t.Errorf("shape %d: the probabilities add up to %v", i, sum)
			}
		}
	}
}

func vector(m *q8.Model, text string) []float32 {
	return m.Run(layout.Request{Kind: layout.KindEmbed, Text: layout.CutText(text)}).Vector
}

// softmax is that of a linear map of x, in float64.
func softmax(l *layout.Linear, x []float32) []float64 {
	p, sum := make([]float64, l.Rows), 0.0
	for r := range p {
		z := float64(l.Bias[r])
		for c, v := range x {
			z += float64(l.W[r*l.Cols+c]) * float64(l.Scale[r]) * float64(v)
		}
		p[r] = math.Exp(z)
		sum += p[r]
	}
	for r := range p {
		p[r] /= sum
	}
	return p
}

func TestBadHeadRequests(t *testing.T) {
	both, none := layouttest.TextShapes()[1], layouttest.TextShapes()[5]
	noText := layouttest.Shapes()[2]
	state := layouttest.State(both, rand.New(rand.NewPCG(1, 1)))
	for name, c := range map[string]struct {
		s    layout.Shape
		r    layout.Request
		want uint32
	}{
		"ratings of nothing":     {both, layout.Request{Kind: layout.KindRate}, layout.StatusOK},
		"classes of nothing":     {both, layout.Request{Kind: layout.KindClassify}, layout.StatusOK},
		"no ratings":             {none, layout.Request{Kind: layout.KindRate, List: []uint32{0}}, layout.StatusNoHead},
		"no classes":             {none, layout.Request{Kind: layout.KindClassify, Text: "a"}, layout.StatusNoHead},
		"no encoder":             {noText, layout.Request{Kind: layout.KindClassify, Text: "a"}, layout.StatusNoHead},
		"description, no map":    {noText, layout.Request{Kind: layout.KindRate, Text: "a"}, layout.StatusNoText},
		"ratings, k":             {both, layout.Request{Kind: layout.KindRate, K: 1}, layout.StatusRequest},
		"ratings, flags":         {both, layout.Request{Kind: layout.KindRate, Flags: layout.FlagState}, layout.StatusRequest},
		"ratings, state":         {both, layout.Request{Kind: layout.KindRate, State: state}, layout.StatusRequest},
		"ratings, reasons":       {both, layout.Request{Kind: layout.KindRate, Reasons: 1}, layout.StatusRequest},
		"ratings, rules":         {both, layout.Request{Kind: layout.KindRate, Rules: []layout.Rule{{Op: layout.RuleOnly}}}, layout.StatusRequest},
		"ratings, item":          {both, layout.Request{Kind: layout.KindRate, List: []uint32{33}}, layout.StatusItem},
		"ratings, type":          {both, layout.Request{Kind: layout.KindRate, History: []layout.Event{{Type: 3}}}, layout.StatusType},
		"ratings, long list":     {both, layout.Request{Kind: layout.KindRate, List: make([]uint32, 33+layout.MaxInserted+1)}, layout.StatusRequest},
		"classes, k":             {both, layout.Request{Kind: layout.KindClassify, K: 1}, layout.StatusRequest},
		"classes, list":          {both, layout.Request{Kind: layout.KindClassify, List: []uint32{0}}, layout.StatusRequest},
		"classes, history":       {both, layout.Request{Kind: layout.KindClassify, History: make([]layout.Event, 1)}, layout.StatusRequest},
		"classes, state":         {both, layout.Request{Kind: layout.KindClassify, State: state}, layout.StatusRequest},
		"classes, flags":         {both, layout.Request{Kind: layout.KindClassify, Flags: layout.FlagItemRow}, layout.StatusRequest},
		"classes, reasons":       {both, layout.Request{Kind: layout.KindClassify, Reasons: 1}, layout.StatusRequest},
		"classes, rules":         {both, layout.Request{Kind: layout.KindClassify, Rules: []layout.Rule{{Op: layout.RuleOnly}}}, layout.StatusRequest},
		"no head before no text": {none, layout.Request{Kind: layout.KindRate, Text: "a"}, layout.StatusNoHead},
	} {
		t.Run(name, func(t *testing.T) {
			image, m := open(t, layouttest.Params(c.s, 9))
			if got := layout.StatusOf(c.r.Check(c.s, image.Map)); got != c.want {
				t.Errorf("Check means %d, want %d", got, c.want)
			}
			if got := m.Run(c.r); got.Status != c.want {
				t.Errorf("q8 gives status %d, want %d", got.Status, c.want)
			}
			same(t, newGuest(t, wazero.NewRuntimeConfigCompiler(), image), m, []layout.Request{c.r})
		})
	}
}
