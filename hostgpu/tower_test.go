package hostgpu_test

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/wisp-project/wisp/hostgpu"
	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/model"
)

func smallConfig() model.Config {
	return model.Config{Items: 11, Features: 3, Descriptions: 4, Dim: 8, Layers: 2, Heads: 2, FFN: 12, Window: 3, EventTypes: 4, GapBuckets: 5}
}

func randomWeights(c model.Config, seed uint64) model.Weights {
	r := rand.New(rand.NewPCG(seed, 0))
	w := model.Weights{}
	for _, s := range c.Specs() {
		w[s.Name] = &model.Tensor{Shape: s.Shape, Data: normal(r, len(model.NewTensor(s.Shape...).Data), 0.5)}
	}
	return w
}

func randomHistory(r *rand.Rand, c model.Config, n int) []data.Interaction {
	h := make([]data.Interaction, n)
	now := int64(1000)
	for i := range h {
		now += int64(r.IntN(20))
		h[i] = data.Interaction{Item: int32(r.IntN(c.Items)), Type: uint8(r.IntN(c.EventTypes)), Time: now}
	}
	return h
}

// given draws vectors for the items of c and for n users.
func given(r *rand.Rand, c model.Config, n int) hostgpu.Vectors {
	var v hostgpu.Vectors
	if c.Features > 0 {
		v.Items = &model.Tensor{Shape: []int{c.Items, c.Features}, Data: normal(r, c.Items*c.Features, 1)}
	}
	if c.Descriptions > 0 {
		v.Users = &model.Tensor{Shape: []int{n, c.Descriptions}, Data: normal(r, n*c.Descriptions, 1)}
	}
	return v
}

func modelEvents(h []data.Interaction) []model.Event { return hostgpu.Events(h) }

// The kernels compute what the definition does, to float32's tolerance: sums
// run in another order, so agreement is to about 1e-5 of the values' size.
func TestEncoderEqualsModel(t *testing.T) {
	for _, c := range []model.Config{
		smallConfig(),
		{Items: 11, Dim: 12, Layers: 1, Heads: 3, FFN: 5, Window: 6, EventTypes: 4, GapBuckets: 33},
		{Items: 11, Features: 2, Dim: 4, Layers: 3, Heads: 1, FFN: 9, Window: 1, EventTypes: 4, GapBuckets: 2},
	} {
		r := rand.New(rand.NewPCG(1, 2))
		lengths := []int{0, 1, c.Window, c.Reach(), c.Reach() + 1, 3 * c.Reach(), 2}
		vectors := given(r, c, len(lengths))
		m, err := model.New(c, randomWeights(c, 3), vectors.Items)
		if err != nil {
			t.Fatal(err)
		}
		var histories [][]model.Event
		for _, n := range lengths {
			histories = append(histories, modelEvents(randomHistory(r, c, n)))
		}
		got := make([]float32, len(histories)*c.Dim)
		enc := hostgpu.NewEncoder(m, 3)
		if err := enc.Users(t.Context(), got, histories); err != nil {
			t.Fatal(err)
		}
		if vectors.Users != nil {
			enc.Describe(got, vectors.Users.Data)
		}
		for i, h := range histories {
			want, err := m.User(h, nil)
			if err != nil {
				t.Fatal(err)
			}
			if vectors.Users != nil {
				if err := m.Describe(want, vectors.Users.Row(i)); err != nil {
					t.Fatal(err)
				}
			}
			for d, w := range want {
				if g := got[i*c.Dim+d]; math.Abs(float64(g-w)) > 2e-5*(1+math.Abs(float64(w))) {
					t.Errorf("%+v: history of %d events: value %d is %v, the model's %v", c, len(h), d, g, w)
				}
			}
		}
	}
}

func TestScorerEqualsModel(t *testing.T) {
	c := smallConfig()
	r := rand.New(rand.NewPCG(5, 0))
	vectors := given(r, c, 2)
	m, err := model.New(c, randomWeights(c, 4), vectors.Items)
	if err != nil {
		t.Fatal(err)
	}
	plain := hostgpu.NewScorer("teacher", m)
	s := plain.WithDescriptions(vectors.Users)
	if s.Name() != "teacher" {
		t.Errorf("name %q", s.Name())
	}
	for _, n := range []int{0, 1, 9} {
		h := randomHistory(r, c, n)
		u, err := m.User(modelEvents(h), nil)
		if err != nil {
			t.Fatal(err)
		}
		for user, scorer := range []*hostgpu.Scorer{plain, s} { // user 1 is described, user 0 is not
			if user == 1 {
				if err := m.Describe(u, vectors.Users.Row(user)); err != nil {
					t.Fatal(err)
				}
			}
			got, want := make([]float32, c.Items), make([]float32, c.Items)
			if err := scorer.Scores(t.Context(), got, int32(user), h); err != nil {
				t.Fatal(err)
			}
			m.Scores(want, u)
			for i := range want {
				if math.Abs(float64(got[i]-want[i])) > 1e-4 {
					t.Errorf("%d events: item %d scores %v for user %d, in the model %v", n, i, got[i], user, want[i])
				}
			}
		}
	}
	for name, scorer := range map[string]*hostgpu.Scorer{
		"a user without a row":      s,
		"descriptions too narrow":   plain.WithDescriptions(model.NewTensor(3, 3)),
		"descriptions without rows": plain.WithDescriptions(model.NewTensor(12)),
	} {
		if err := scorer.Scores(t.Context(), make([]float32, c.Items), 2, nil); !errors.Is(err, model.ErrInput) {
			t.Errorf("%s: error %v, want ErrInput", name, err)
		}
	}
	if err := s.Scores(t.Context(), make([]float32, c.Items), 0, []data.Interaction{{Item: 99}}); !errors.Is(err, model.ErrInput) {
		t.Errorf("an item outside the catalogue: error %v, want ErrInput", err)
	}
}

// graphMaterial is three users in two rows of seven events, padding included.
func graphMaterial(c model.Config) ([][]data.Interaction, [][]int) {
	r := rand.New(rand.NewPCG(6, 0))
	return [][]data.Interaction{randomHistory(r, c, 4), randomHistory(r, c, 7), randomHistory(r, c, 5)}, [][]int{{0, 2}, {1}}
}

// The loss of the graph is that of the definition: the mean over events of
// -log softmax(u·V) of the next item, u by model.States.
func TestGraphLossEqualsModel(t *testing.T) {
	c := smallConfig()
	c.Window = 7 // so that model.States gives a state for every event
	w := randomWeights(c, 7)
	r := rand.New(rand.NewPCG(8, 0))
	histories, rows := graphMaterial(c)
	vectors := given(r, c, len(histories))
	g, err := hostgpu.NewGraph(c, w, hostgpu.GraphSpec{Given: vectors, Rows: 2, Length: 7})
	if err != nil {
		t.Fatal(err)
	}
	g.Fill(histories, rows)
	got, err := g.Run()
	if err != nil {
		t.Fatal(err)
	}
	m, err := model.New(c, w, vectors.Items)
	if err != nil {
		t.Fatal(err)
	}
	var sum float64
	count := 0
	scores := make([]float32, c.Items)
	for user, h := range histories {
		states, err := m.States(modelEvents(h)[:len(h)-1], nil)
		if err != nil {
			t.Fatal(err)
		}
		for i, u := range states {
			if err := m.Describe(u, vectors.Users.Row(user)); err != nil {
				t.Fatal(err)
			}
			m.Scores(scores, u)
			var z float64
			for _, s := range scores {
				z += math.Exp(float64(s))
			}
			sum += math.Log(z) - float64(scores[h[i+1].Item])
			count++
		}
	}
	if want := sum / float64(count); math.Abs(float64(got)-want) > 1e-5*want {
		t.Errorf("loss of the graph %v, of the model %v", got, want)
	}
	if again, err := g.Run(); err != nil || again != got {
		t.Errorf("a second run gave %v (%v), the first %v", again, err, got)
	}
}

// lossAndGradients runs a graph and returns its gradients, and what runs it again for the loss.
func lossAndGradients(t *testing.T, g *hostgpu.Graph) (loss func() float64, grads map[string][]float32) {
	t.Helper()
	loss = func() float64 {
		l, err := g.Run()
		if err != nil {
			t.Fatal(err)
		}
		return float64(l)
	}
	loss()
	grads = map[string][]float32{}
	for n, v := range g.Gradients() {
		grads[n] = slices.Clone(v)
	}
	return loss, grads
}

// Every weight's gradient through the whole graph, against differences of the
// loss along the gradient and along two random directions.
func TestGraphGradients(t *testing.T) {
	for name, samples := range map[string]int{"full": 0, "sampled": 22} {
		for _, share := range []float32{0, 0.3} {
			c := smallConfig()
			w := randomWeights(c, 9)
			r := rand.New(rand.NewPCG(10, 0))
			logq := make([]float32, c.Items)
			for i := range logq {
				logq[i] = float32(-math.Log(float64(c.Items)))
			}
			histories, rows := graphMaterial(c)
			g, err := hostgpu.NewGraph(c, w, hostgpu.GraphSpec{
				Given: given(r, c, len(histories)), Rows: 2, Length: 7, Samples: samples, LogQ: logq, Share: share, IDDropout: share,
			})
			if err != nil {
				t.Fatal(err)
			}
			g.Fill(histories, rows)
			loss, grads := lossAndGradients(t, g)
			for _, s := range c.Specs() {
				if s.Name == model.UserCold {
					continue // not part of the graph
				}
				if s.Name == model.LayerName(0, "attn.k.bias") || s.Name == model.LayerName(1, "attn.k.bias") {
					continue // moves all scores of a row alike: its gradient is zero but for rounding
				}
				x, grad := w[s.Name].Data, grads[s.Name]
				for try := range 3 {
					direction := normal(r, len(x), 1)
					if try == 0 {
						copy(direction, grad)
					}
					var want float64
					for i, d := range direction {
						want += float64(d) * float64(grad[i])
					}
					want /= length(direction)
					got := slope(x, direction, 4e-3, loss)
					if math.Abs(got-want) > 0.02*length(grad)+3e-4 {
						t.Errorf("%s, dropout %v: %s along direction %d: gradient %v, difference %v", name, share, s.Name, try, want, got)
					}
				}
			}
		}
	}
}

// Every event of every sequence stands in an epoch once, in order, in rows that
// are not overfull.
func TestPack(t *testing.T) {
	const width = 10
	lengths := []int{1, 3, 10, 11, 47, 2, 9, 100, 5}
	r := rand.New(rand.NewPCG(11, 0))
	cuts := map[int]bool{}
	for range 50 {
		seen := make([][]bool, len(lengths))
		for i, n := range lengths {
			seen[i] = make([]bool, n)
		}
		for _, row := range hostgpu.Pack(lengths, width, r) {
			used := 0
			for _, p := range row {
				used += p[2] - p[1]
				for i := p[1]; i < p[2]; i++ {
					if seen[p[0]][i] {
						t.Fatalf("event %d of sequence %d stands twice", i, p[0])
					}
					seen[p[0]][i] = true
				}
				if p[0] == 7 && p[1] > 0 {
					cuts[p[1]%width] = true
				}
			}
			if used > width || used == 0 {
				t.Fatalf("a row of %d holds %d events", width, used)
			}
		}
		for s, events := range seen {
			for i, ok := range events {
				if !ok {
					t.Fatalf("event %d of sequence %d is missing", i, s)
				}
			}
		}
	}
	if len(cuts) < width-2 {
		t.Errorf("a long sequence was cut at %d different places modulo the width, want about %d", len(cuts), width)
	}
}

// BenchmarkStep is forward and backward of one batch with the default shapes
// over a catalogue of 1,682 items.
func BenchmarkStep(b *testing.B) {
	const rows, length = 8, 128
	c := model.Config{Items: 1682, Dim: 64, Layers: 2, Heads: 2, FFN: 64, Window: 50, EventTypes: 8, GapBuckets: 24}
	g, err := hostgpu.NewGraph(c, randomWeights(c, 1), hostgpu.GraphSpec{Rows: rows, Length: length, Share: 0.4})
	if err != nil {
		b.Fatal(err)
	}
	r := rand.New(rand.NewPCG(2, 0))
	var histories [][]data.Interaction
	var layout [][]int
	for i := range rows {
		histories, layout = append(histories, randomHistory(r, c, length+1)), append(layout, []int{i})
	}
	g.Fill(histories, layout)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := g.Run(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(rows*length*float64(b.N)/b.Elapsed().Seconds(), "events/s")
}
