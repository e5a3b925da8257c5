package hostgpu_test

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"github.com/wisp-project/wisp/hostgpu"
	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/model"
)

// groups is a data set whose users take items at random from one half of the
// catalogue. Their descriptions say which half, in a way that is mostly the same
// for all; every tenth user has none.
func groups(users, items, length int) (*data.Dataset, *data.Split, *model.Tensor) {
	r := rand.New(rand.NewPCG(7, 0))
	d := &data.Dataset{Name: "groups", Types: data.EventTypes(1, 5), Items: make([]data.Item, items), Users: make([]data.User, users)}
	descriptions := model.NewTensor(users, 3)
	for u := range users {
		h := make([]data.Interaction, length)
		for i := range h {
			h[i] = data.Interaction{Item: int32(u%2*items/2 + r.IntN(items/2)), Time: int64(i) * 60}
		}
		d.Histories = append(d.Histories, h)
		if u%10 < 9 {
			copy(descriptions.Row(u), []float32{2, 0.3, 0.3})
			descriptions.Row(u)[1+u%2]++
		}
	}
	return d, data.LeaveOneOut(d, 5), descriptions
}

// Descriptions are learnt from, a user of whom nothing is said is the usual one,
// and the model that comes out, given the descriptions as they are, is the one
// that was validated.
func TestTrainDescriptions(t *testing.T) {
	const items = 40
	d, s, descriptions := groups(100, items, 6)
	o := quick()
	o.Epochs = 8
	tr := newTrainer(t, d, s, hostgpu.Vectors{Users: descriptions}, o)
	m := finish(t, tr, "")
	if m.Config.Descriptions != 3 {
		t.Fatalf("the model reads descriptions of width %d", m.Config.Descriptions)
	}
	best, _ := tr.Best()
	if got := validation(t, m, descriptions, s.Valid); math.Abs(got-best) > 1e-9 {
		t.Errorf("the model's NDCG@10 is %v, the best epoch's was %v", got, best)
	}
	mean := make([]float32, 3)
	for u := range d.Users {
		for j, v := range descriptions.Row(u) {
			mean[j] += v / float32(len(d.Users))
		}
	}
	usual := make([]float32, m.Config.Dim)
	if err := m.Describe(usual, mean); err != nil {
		t.Fatal(err)
	}
	told := make([]float32, m.Config.Dim)
	if err := m.Describe(told, descriptions.Row(0)); err != nil {
		t.Fatal(err)
	}
	if a, b := length(usual), length(told); a > 1e-4*b || b == 0 {
		t.Errorf("the mean description moves a user by %v, one user's by %v", a, b)
	}
	// With no event at all, the description decides between the halves.
	scores := make([]float32, items)
	for u := range 2 {
		cold, err := m.User(nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Describe(cold, descriptions.Row(u)); err != nil {
			t.Fatal(err)
		}
		m.Scores(scores, cold)
		var half [2]float32
		for i, x := range scores {
			half[i*2/items] += x / (items / 2)
		}
		if half[u] < half[1-u]+0.2 {
			t.Errorf("user %d, new, likes the halves at %v", u, half)
		}
	}
}

func length(x []float32) float64 {
	var s float64
	for _, v := range x {
		s += float64(v) * float64(v)
	}
	return math.Sqrt(s)
}

// twins is a chain of items, each of which has a twin in the catalogue that nobody
// has met: the given vectors say which two belong together. The last item and its
// twin have no vector.
func twins(users, items, length int) (*data.Dataset, *data.Split, *model.Tensor) {
	d, s := chain(users, items, length)
	d.Items = make([]data.Item, 2*items)
	features := model.NewTensor(2*items, items)
	for i := range items - 1 {
		features.Row(i)[i], features.Row(items + i)[i] = 1, 1
	}
	return d, s, features
}

// An item without events is ranked by its given vector alone, and id dropout
// teaches the given vectors to say enough.
func TestTrainItemsWithoutEvents(t *testing.T) {
	const items = 40
	d, s, features := twins(150, items, 10)
	for name, samples := range map[string]int{"full": 0, "sampled": 30} {
		t.Run(name, func(t *testing.T) {
			o := quick()
			o.Epochs, o.Samples, o.IDDropout = 12, samples, 0.4
			tr := newTrainer(t, d, s, hostgpu.Vectors{Items: features}, o)
			m := finish(t, tr, "")
			for i := range 2 * items {
				e := length(m.Weights[model.ItemEmbedding].Row(i))
				if twin := i >= items && i < 2*items-1; twin != (e == 0) {
					t.Errorf("item %d has a learnt embedding of length %v", i, e)
				}
			}
			if best, _ := tr.Best(); best < 0.4 { // the twins take places from the targets
				t.Errorf("validation NDCG@10 %.3f", best)
			}
			cases := slices.Clone(s.Valid)
			for i := range cases {
				cases[i].Target.Item = int32(items) + cases[i].Target.Item
			}
			if got := validation(t, m, nil, cases); got < 0.4 {
				t.Errorf("NDCG@10 of the twins of the targets is %.3f, by chance it would be 0.06", got)
			}
		})
	}
	t.Run("without vectors", func(t *testing.T) {
		m := finish(t, newTrainer(t, d, s, hostgpu.Vectors{}, quick()), "")
		if length(m.Weights[model.ItemEmbedding].Row(2*items-1)) == 0 {
			t.Error("an item of which nothing is known was left out of the softmax")
		}
	})
}

func TestResumeWithVectors(t *testing.T) {
	d, s, features := twins(40, 30, 8)
	descriptions := &model.Tensor{Shape: []int{40, 3}, Data: normal(rand.New(rand.NewPCG(8, 0)), 120, 1)}
	given := hostgpu.Vectors{Items: features, Users: descriptions}
	o := quick()
	o.IDDropout = 0.3
	want := finish(t, newTrainer(t, d, s, given, o), "")
	path := filepath.Join(t.TempDir(), "checkpoint.safetensors")
	if err := interrupt(t, newTrainer(t, d, s, given, o), path, 7); !errors.Is(err, context.Canceled) {
		t.Fatalf("error %v, want context.Canceled", err)
	}
	second := newTrainer(t, d, s, given, o)
	if err := second.Resume(path); err != nil {
		t.Fatal(err)
	}
	sameWeights(t, "resumed", want.Weights, finish(t, second, path).Weights)

	others := model.NewTensor(40, 3)
	others.Data[4] = 1
	for name, v := range map[string]hostgpu.Vectors{"other descriptions": {Items: features, Users: others}, "no descriptions": {Items: features}} {
		if err := newTrainer(t, d, s, v, o).Resume(path); !errors.Is(err, hostgpu.ErrCheckpoint) {
			t.Errorf("%s: error %v, want ErrCheckpoint", name, err)
		}
	}
}

func TestNewTrainerRefusesVectors(t *testing.T) {
	d, s := chain(10, 40, 8)
	good := func(rows int) *model.Tensor { return model.NewTensor(rows, 3) }
	for name, test := range map[string]struct {
		given hostgpu.Vectors
		o     hostgpu.TrainOptions
		want  error
	}{
		"flat items":                  {hostgpu.Vectors{Items: model.NewTensor(120)}, hostgpu.TrainOptions{}, hostgpu.ErrData},
		"too few items":               {hostgpu.Vectors{Items: good(39)}, hostgpu.TrainOptions{}, hostgpu.ErrData},
		"flat users":                  {hostgpu.Vectors{Users: model.NewTensor(30)}, hostgpu.TrainOptions{}, hostgpu.ErrData},
		"too many users":              {hostgpu.Vectors{Users: good(11)}, hostgpu.TrainOptions{}, hostgpu.ErrData},
		"id dropout without vectors":  {hostgpu.Vectors{Users: good(10)}, hostgpu.TrainOptions{IDDropout: 0.1}, hostgpu.ErrOptions},
		"id dropout of all the items": {hostgpu.Vectors{Items: good(40)}, hostgpu.TrainOptions{IDDropout: 1}, hostgpu.ErrOptions},
	} {
		if _, err := hostgpu.NewTrainer(d, s, test.given, test.o); !errors.Is(err, test.want) {
			t.Errorf("%s: got %v, want %v", name, err, test.want)
		}
	}
}
