package quantize_test

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/wisp-project/wisp/edge"
	"github.com/wisp-project/wisp/hostgpu"
	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/internal/layout"
	"github.com/wisp-project/wisp/model"
	"github.com/wisp-project/wisp/quantize"
	"github.com/wisp-project/wisp/wasm"
)

// small has everything in it: several layers, heads that need padding, a
// catalogue that fills no whole block. It looks at the last seven events.
var small = layout.Shape{Items: 57, Dim: 18, Layers: 3, Heads: 3, FFN: 21, Window: 3, EventTypes: 8, GapBuckets: 24}

func scorer(t *testing.T, m *model.Model, histories [][]model.Event) *quantize.Scorer {
	t.Helper()
	image, err := quantize.Image(m, histories, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := quantize.NewScorer("int8", image)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func scores(t *testing.T, s *quantize.Scorer, n int, h []data.Interaction) []float32 {
	t.Helper()
	dst := make([]float32, n)
	if err := s.Scores(t.Context(), dst, 0, h); err != nil {
		t.Fatal(err)
	}
	return dst
}

// The scorer and the float32 model look at the same events, whatever the length
// of the history: on both sides of the window and of the reach.
func TestScorerWindowEdges(t *testing.T) {
	m := random(t, small, 1)
	s := scorer(t, m, calibration(m.Config, 16, 1))
	if s.Name() != "int8" {
		t.Errorf("name %q", s.Name())
	}
	rng := rand.New(rand.NewPCG(1, 2))
	want, reach := make([]float32, small.Items), m.Config.Reach()
	for _, n := range []int{0, 1, 2, 3, 4, reach - 1, reach, reach + 1, 2 * reach, 10 * reach} {
		h := randomHistory(rng, m.Config, n)
		u, err := m.User(hostgpu.Events(h), nil)
		if err != nil {
			t.Fatal(err)
		}
		m.Scores(want, u)
		got := scores(t, s, small.Items, h)
		if e, c := relative(got, want), rankCorrelation(got, want); e > 0.04 || c < 0.995 {
			t.Errorf("%d events: relative error %.4f, rank correlation %.5f", n, e, c)
		}
		if n <= reach {
			continue
		}
		// What lies before the reach changes nothing, to the bit.
		changed := slices.Clone(h)
		for i := range changed[:n-reach] {
			changed[i].Item, changed[i].Type = (changed[i].Item+1)%int32(small.Items), (changed[i].Type+1)%uint8(small.EventTypes)
		}
		if !slices.Equal(scores(t, s, small.Items, changed), got) {
			t.Errorf("%d events: those before the last %d count", n, reach)
		}
		// But the gap before the first event within it is the true one.
		events := quantize.HistoryEvents(h)
		if from := events[n-reach]; from.Gap != uint32(h[n-reach].Time-h[n-reach-1].Time) {
			t.Errorf("%d events: the gap at the edge is %d", n, from.Gap)
		}
	}
}

// Each of the events within the reach has a say in the int8 answer, the first
// one too.
func TestScorerReadsTheWholeReach(t *testing.T) {
	m := random(t, small, 2)
	// Attention to the oldest event of the window alone carries it through all
	// blocks.
	for l := range small.Layers {
		bias := m.Weights[model.LayerName(l, "attn.distance.bias")]
		for h := range small.Heads {
			bias.Row(h)[small.Window-1] = 20
		}
	}
	s := scorer(t, m, calibration(m.Config, 16, 2))
	reach := m.Config.Reach()
	h := randomHistory(rand.New(rand.NewPCG(2, 2)), m.Config, reach)
	before := scores(t, s, small.Items, h)
	h[0].Item = (h[0].Item + 1) % int32(small.Items)
	if slices.Equal(scores(t, s, small.Items, h), before) {
		t.Error("the first event within the reach does not count")
	}
}

// The scorer gives what the sandbox gives, bit for bit: of the events alone, and
// with descriptions of the users.
func TestScorerEqualsEdge(t *testing.T) {
	m := random(t, small, 3)
	t.Run("events", func(t *testing.T) { scorerEqualsEdge(t, m, nil, nil) })

	encoder, tokenizer := textEncoder(t, nil)
	described := *m
	described.Config.Descriptions = encoder.Config.Dim
	described.Weights = maps.Clone(m.Weights)
	described.Weights[model.UserDescription] = normal(rand.New(rand.NewPCG(3, 4)), 0.5, small.Dim, encoder.Config.Dim)
	text := &quantize.Text{Encoder: encoder, Tokenizer: tokenizer, UserMap: described.Weights[model.UserDescription]}
	users := append(texts, "\xff", "a title"+strings.Repeat(" ", layout.MaxText-8)+"é a")
	t.Run("descriptions", func(t *testing.T) { scorerEqualsEdge(t, &described, text, users) })
}

func scorerEqualsEdge(t *testing.T, m *model.Model, text *quantize.Text, users []string) {
	ds := catalogue(m.Config)
	histories := calibration(m.Config, 16, 3)
	a := build(t, m, ds, histories, quantize.BuildOptions{Kernel: wasm.Kernel, Text: text})
	r, err := edge.New(t.Context(), a, edge.Options{Sandboxes: 1, AllowUnsigned: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := r.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	s, err := quantize.NewScorer("int8", image(a))
	if err != nil {
		t.Fatal(err)
	}
	s = s.WithDescriptions(users)
	rng := rand.New(rand.NewPCG(3, 3))
	ids := make([]string, small.Items)
	for i, item := range ds.Items {
		ids[i] = item.ID
	}
	for n := range 3 * m.Config.Reach() {
		h := randomHistory(rng, m.Config, n)
		events := make([]edge.Event, n)
		for i, e := range h {
			kind := ds.Types[e.Type]
			events[i] = edge.Event{Item: ids[e.Item], Type: kind.Name, Value: kind.AtLeast, Time: e.Time}
		}
		user, description := int32(0), ""
		if len(users) > 0 {
			user = int32(n % len(users))
			description = users[user]
		}
		want := make([]float32, small.Items)
		if err := s.Scores(t.Context(), want, user, h); err != nil {
			t.Fatal(err)
		}
		if plain := scores(t, s.WithDescriptions(nil), small.Items, h); (description == "") != slices.Equal(plain, want) {
			t.Errorf("%d events: %.20q changes the scores: %v", n, description, description == "")
		}
		got, err := r.Score(t.Context(), edge.ScoreRequest{History: events, Description: description, Items: ids})
		if err != nil {
			t.Fatal(err)
		}
		for i, score := range got {
			if math.Float32bits(score.Value) != math.Float32bits(want[i]) {
				t.Fatalf("%d events: item %s has %v in the sandbox, %v in the scorer", n, ids[i], score.Value, want[i])
			}
		}
		response, err := r.Recommend(t.Context(), edge.Request{History: events, Description: description, K: 5, IncludeSeen: true})
		if err != nil {
			t.Fatal(err)
		}
		for place, i := range top(want, 5) {
			if response.Items[place].Item != ids[i] {
				t.Fatalf("%d events: place %d is %s in the sandbox, %s by the scorer", n, place, response.Items[place].Item, ids[i])
			}
		}
	}
}

func TestScorerRefuses(t *testing.T) {
	m := random(t, small, 4)
	s := scorer(t, m, calibration(m.Config, 2, 4))
	for name, test := range map[string]struct {
		room int
		h    []data.Interaction
	}{
		"too little room":    {small.Items - 1, nil},
		"too much room":      {small.Items + 1, nil},
		"unknown item":       {small.Items, []data.Interaction{{Item: int32(small.Items)}}},
		"item below zero":    {small.Items, []data.Interaction{{Item: -1}}},
		"unknown type":       {small.Items, []data.Interaction{{Type: uint8(small.EventTypes)}}},
		"unknown at the end": {small.Items, append(make([]data.Interaction, 40), data.Interaction{Item: 1 << 30})},
	} {
		if err := s.Scores(t.Context(), make([]float32, test.room), 0, test.h); !errors.Is(err, quantize.ErrImage) {
			t.Errorf("%s: error %v, want ErrImage", name, err)
		}
	}
	// It reads no descriptions, and could not tell whose is whose.
	for name, d := range map[string][]string{"of somebody": {"a"}, "of nobody": {}} {
		if err := s.WithDescriptions(d).Scores(t.Context(), make([]float32, small.Items), 0, nil); !errors.Is(err, quantize.ErrImage) {
			t.Errorf("description %s: error %v, want ErrImage", name, err)
		}
	}
	for _, image := range [][]byte{nil, make([]byte, 10), make([]byte, 4096)} {
		if _, err := quantize.NewScorer("x", image); !errors.Is(err, layout.ErrImage) {
			t.Errorf("an image of %d zeros: error %s, want layout.ErrImage", len(image), fmt.Sprint(err))
		}
	}
}
