package hostgpu_test

import (
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/wisp-project/wisp/hostgpu"
	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/model"
)

// grown is the chain of an older data set after its catalogue was turned round and
// has got one more item; from is the place of each item in the older one.
func grown(d *data.Dataset, s *data.Split) (*data.Dataset, *data.Split, []int32) {
	n := int32(len(d.Items))
	g := &data.Dataset{Name: "grown", Types: d.Types, Items: make([]data.Item, n+1), Users: d.Users}
	turn := func(h []data.Interaction) []data.Interaction {
		h = slices.Clone(h)
		for i := range h {
			h[i].Item = n - h[i].Item
		}
		return h
	}
	from := make([]int32, n+1)
	for i := range from {
		from[i] = n - int32(i)
	}
	from[0] = -1
	t := &data.Split{}
	for u := range d.Users {
		g.Histories, t.Train = append(g.Histories, turn(d.Histories[u])), append(t.Train, turn(s.Train[u]))
	}
	return g, t, from
}

// nextItems are the histories as lessons.
func nextItems(histories [][]data.Interaction) hostgpu.Lessons {
	var l hostgpu.Lessons
	for u, h := range histories {
		lesson := hostgpu.Lesson{User: u, Events: h[:len(h)-1]}
		for _, e := range h[1:] {
			lesson.Next = append(lesson.Next, e.Item)
		}
		l.Lessons = append(l.Lessons, lesson)
	}
	return l
}

func newContinuation(t *testing.T, d *data.Dataset, s *data.Split, given hostgpu.Vectors, l hostgpu.Lessons, o hostgpu.TrainOptions) *hostgpu.Trainer {
	t.Helper()
	run, err := hostgpu.NewContinuation(d, s, given, l, o)
	return opened(t, run, err)
}

// A model that goes on is the same function until it has learnt something: its items
// keep their vectors at their new places, whether they have given vectors, and other
// ones than before, or not.
func TestContinuationTakesOver(t *testing.T) {
	d, s := chain(60, 30, 12)
	r := rand.New(rand.NewPCG(3, 0))
	for name, widths := range map[string][2]int{"ids alone": {0, 0}, "other vectors": {6, 6}, "wider vectors": {6, 9}, "vectors of late": {0, 4}} {
		t.Run(name, func(t *testing.T) {
			vectors := func(items, width int) (given hostgpu.Vectors) {
				if width > 0 {
					given.Items = &model.Tensor{Shape: []int{items, width}, Data: normal(r, items*width, 1)}
				}
				return given
			}
			was := finish(t, newTrainer(t, d, s, vectors(30, widths[0]), quick()), "")
			g, now, from := grown(d, s)
			l := nextItems(now.Train[:5]) // it learns from few, and the others count all the same
			l.From = &hostgpu.Ancestor{Model: was, Items: from}
			tr := newContinuation(t, g, now, vectors(31, widths[1]), l, quick())
			m, err := tr.Model()
			if err != nil {
				t.Fatal(err)
			}
			for i, j := range from {
				for k, v := range m.ItemVectors.Row(i) {
					if j < 0 {
						if math.IsNaN(float64(v)) {
							t.Fatal("the new item has no vector")
						}
						continue
					}
					if want := was.ItemVectors.Row(int(j))[k]; math.Abs(float64(v-want)) > 1e-4*(1+math.Abs(float64(want))) {
						t.Fatalf("item %d, once %d: %v, was %v", i, j, m.ItemVectors.Row(i), was.ItemVectors.Row(int(j)))
					}
				}
			}
			for _, name := range []string{model.UserNormGain, model.UserType, model.LayerName(0, "attn.q.weight")} {
				if !slices.Equal(m.Weights[name].Data, was.Weights[name].Data) {
					t.Errorf("%s is another", name)
				}
			}
		})
	}
}

// What is saved within an epoch is enough to come to the same weights, as after a kill.
func TestContinuationResumesWithinEpoch(t *testing.T) {
	for name, rank := range map[string]int{"whole": 0, "adapters": 2} {
		t.Run(name, func(t *testing.T) { resumesWithinEpoch(t, rank) })
	}
}

func resumesWithinEpoch(t *testing.T, rank int) {
	d, s := chain(60, 30, 12)
	r := rand.New(rand.NewPCG(4, 0))
	vectors := func(items int) hostgpu.Vectors {
		return hostgpu.Vectors{Items: &model.Tensor{Shape: []int{items, 6}, Data: normal(r, items*6, 1)}}
	}
	was := finish(t, newTrainer(t, d, s, vectors(30), quick()), "")
	g, now, from := grown(d, s)
	given, o := vectors(31), quick()
	o.AdapterRank = rank
	begin := func() *hostgpu.Trainer {
		l := nextItems(now.Train)
		l.From = &hostgpu.Ancestor{Model: was, Items: from}
		tr := newContinuation(t, g, now, given, l, o)
		tr.SaveEvery(2)
		return tr
	}
	path := filepath.Join(t.TempDir(), "checkpoint.safetensors")
	killed := map[int][]byte{} // what was on the disk after some steps
	tr := begin()
	var steps int
	err := tr.Run(t.Context(), path, func(p hostgpu.Progress) {
		steps = p.Steps
		if b, err := os.ReadFile(path); err == nil && !p.Done {
			killed[p.Total] = b
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	want, err := tr.Model()
	if err != nil {
		t.Fatal(err)
	}
	if steps < 5 {
		t.Fatalf("an epoch has %d steps, too few to tell", steps)
	}
	if killed[2] != nil || killed[3] == nil {
		t.Error("it was not saved after two steps, or before")
	}
	for _, after := range []int{4, steps + 1, steps + 4} {
		again := begin()
		put := filepath.Join(t.TempDir(), "checkpoint.safetensors")
		if err := os.WriteFile(put, killed[after], 0o600); err != nil {
			t.Fatal(err)
		}
		if err := again.Resume(put); err != nil {
			t.Fatal(err)
		}
		if lost := after - again.Steps(); lost < 0 || lost > 2 {
			t.Errorf("killed after step %d, it goes on from step %d", after, again.Steps())
		}
		sameWeights(t, "resumed", want.Weights, finish(t, again, put).Weights)
	}
}

func TestContinuationRefuses(t *testing.T) {
	d, s := chain(20, 30, 12)
	was := finish(t, newTrainer(t, d, s, hostgpu.Vectors{}, quick()), "")
	g, now, from := grown(d, s)
	for name, test := range map[string]struct {
		change func(l *hostgpu.Lessons, o *hostgpu.TrainOptions)
		want   error
	}{
		"no model":          {func(l *hostgpu.Lessons, _ *hostgpu.TrainOptions) { l.From = nil }, hostgpu.ErrData},
		"too few places":    {func(l *hostgpu.Lessons, _ *hostgpu.TrainOptions) { l.From.Items = l.From.Items[1:] }, hostgpu.ErrData},
		"a place too far":   {func(l *hostgpu.Lessons, _ *hostgpu.TrainOptions) { l.From.Items[3] = 30 }, hostgpu.ErrData},
		"a lesson in parts": {func(l *hostgpu.Lessons, _ *hostgpu.TrainOptions) { l.Lessons[2].Next = nil }, hostgpu.ErrData},
		"nothing to learn":  {func(l *hostgpu.Lessons, _ *hostgpu.TrainOptions) { l.Lessons = nil }, hostgpu.ErrData},
		"a teacher":         {func(l *hostgpu.Lessons, _ *hostgpu.TrainOptions) { l.Targets = hostgpu.NewSoftTargets(31, 4) }, hostgpu.ErrOptions},
		"another width":     {func(_ *hostgpu.Lessons, o *hostgpu.TrainOptions) { o.Dim = 32 }, hostgpu.ErrOptions},
	} {
		t.Run(name, func(t *testing.T) {
			l, o := nextItems(now.Train), quick()
			l.From = &hostgpu.Ancestor{Model: was, Items: slices.Clone(from)}
			test.change(&l, &o)
			if _, err := hostgpu.NewContinuation(g, now, hostgpu.Vectors{}, l, o); !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
		})
	}
}
