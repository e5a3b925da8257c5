package hostgpu_test

import (
	"errors"
	"maps"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gonum.org/v1/gonum/mat"

	"github.com/wisp-project/wisp/hostgpu"
	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/model"
)

func TestFreshRowsGradient(t *testing.T) {
	r := rand.New(rand.NewPCG(51, 0))
	for _, rows := range [][]int{{3}, {5, 0, 2}, {0, 1, 2, 3, 4, 5}} {
		table, fresh := normal(r, 6*4, 1), normal(r, len(rows)*4, 1)
		k := hostgpu.NewFreshRows(6, 4, rows, table)
		checkGradients(t, k, []hostgpu.Arg{{Floats: fresh}})
		want := slices.Clone(table)
		for i, row := range rows {
			copy(want[row*4:], fresh[i*4:(i+1)*4])
		}
		if got := k.Forward([]hostgpu.Arg{{Floats: fresh}}); !slices.Equal(got, want) {
			t.Errorf("rows %v: the table is %v, want %v", rows, got, want)
		}
	}
}

// The gradients of a graph of towers with adapters against differences of its loss.
func TestTowerAdapterGradients(t *testing.T) {
	for name, fresh := range map[string][]int{"no fresh items": nil, "two fresh items": {1, 4}} {
		t.Run(name, func(t *testing.T) {
			c := smallConfig()
			w := randomWeights(c, 9)
			r := rand.New(rand.NewPCG(52, 0))
			histories, rows := graphMaterial(c)
			g, err := hostgpu.NewGraph(c, w, hostgpu.GraphSpec{Given: given(r, c, len(histories)), Rows: 2, Length: 7, AdapterRank: 2, Fresh: fresh})
			if err != nil {
				t.Fatal(err)
			}
			g.Fill(histories, rows)
			for _, tensor := range slices.Sorted(maps.Keys(w)) {
				if x := w[tensor].Data; strings.HasSuffix(tensor, ".adapter.b") { // zero, which would leave no gradient to A
					copy(x, normal(r, len(x), 0.3))
				}
			}
			loss, grads := lossAndGradients(t, g)
			want := 2*(2*6+2) + min(len(fresh), 1) // six matrices of each block, and two for what is given
			if len(grads) != want {
				t.Errorf("%d tensors are trained, want %d", len(grads), want)
			}
			for n, grad := range grads {
				norm := length(grad)
				if norm == 0 {
					t.Errorf("%s has no gradient", n)
					continue
				}
				if got := slope(w[n].Data, grad, 4e-3, loss); math.Abs(got-norm) > 0.02*norm+3e-4 {
					t.Errorf("%s: the loss changes by %v, by the gradient %v", n, got, norm)
				}
			}
		})
	}
}

// extended is a chain, and what it was before its last item came: late are the
// histories without it.
func extended(items int) (now *data.Dataset, s, late *data.Split) {
	now, s = chain(80, items, 12)
	late = &data.Split{}
	for _, h := range s.Train {
		late.Train = append(late.Train, slices.DeleteFunc(slices.Clone(h), func(e data.Interaction) bool { return int(e.Item) == items-1 }))
	}
	return now, s, late
}

// before is a data set with fewer items.
func before(d *data.Dataset, items int) *data.Dataset {
	old := *d
	old.Items = d.Items[:items]
	return &old
}

// rankOf is how many items score higher than the last one after the three before it.
func rankOf(t *testing.T, m *model.Model) int {
	t.Helper()
	last := int32(m.Config.Items - 1)
	u, err := m.User([]model.Event{{Item: last - 3}, {Item: last - 2, Gap: 60}, {Item: last - 1, Gap: 60}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	scores := make([]float32, m.Config.Items)
	m.Scores(scores, u)
	rank := 0
	for _, s := range scores {
		if s > scores[last] {
			rank++
		}
	}
	return rank
}

// Adapters of a model that goes on learn what is new: the loss falls, and an item that
// the model knew nothing of is found, or nothing but its given vector. Matrices change
// by low rank, the rows of that item as they like, and all else is as it was to the bit.
func TestTowerAdaptersLearn(t *testing.T) {
	const items, rank = 30, 3
	now, s, late := extended(items)
	for name, test := range map[string]struct {
		width int
		known bool // the item was in the catalogue, without events
	}{
		"ids alone": {0, false}, "given vectors": {6, false}, "known by its vector": {6, true},
	} {
		t.Run(name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(53, 0))
			old, places := before(now, items-1), make([]int32, items)
			for i := range places {
				places[i] = int32(i)
			}
			if test.known {
				old = now
			} else {
				places[items-1] = -1
			}
			var vectors, were hostgpu.Vectors
			if test.width > 0 {
				vectors.Items = &model.Tensor{Shape: []int{items, test.width}, Data: normal(r, items*test.width, 1)}
				vectors.Users = &model.Tensor{Shape: []int{len(now.Users), 4}, Data: normal(r, len(now.Users)*4, 1)}
				were = vectors
				were.Items = &model.Tensor{Shape: []int{len(old.Items), test.width}, Data: vectors.Items.Data[:len(old.Items)*test.width]}
			}
			o := quick()
			o.Epochs = 8
			was := finish(t, newTrainer(t, old, late, were, o), "")

			o.Epochs, o.AdapterRank, o.LearningRate = 6, rank, 0.02
			l := nextItems(s.Train)
			l.From = &hostgpu.Ancestor{Model: was, Items: places}
			tr := newContinuation(t, now, s, vectors, l, o)
			start, err := tr.Model()
			if err != nil {
				t.Fatal(err)
			}
			var losses []float64
			path := filepath.Join(t.TempDir(), "checkpoint")
			if err := tr.Run(t.Context(), path, func(p hostgpu.Progress) {
				if p.Done {
					losses = append(losses, p.Loss)
				}
			}); err != nil {
				t.Fatal(err)
			}
			end, err := tr.Model()
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("losses %.3v, the new item from place %d to %d", losses, rankOf(t, start), rankOf(t, end))
			if !(losses[len(losses)-1] < 0.95*losses[0]) {
				t.Errorf("losses %v", losses)
			}
			if rankOf(t, start) < 3 || rankOf(t, end) > 0 {
				t.Errorf("the new item goes from place %d to %d", rankOf(t, start), rankOf(t, end))
			}

			if len(end.Weights) != len(start.Weights) {
				t.Errorf("the model has %d tensors, want %d", len(end.Weights), len(start.Weights))
			}
			for name, w := range start.Weights {
				is := end.Weights[name]
				matrix := strings.HasPrefix(name, "user.layer.") && len(w.Shape) == 2 && !strings.HasSuffix(name, "distance.bias") ||
					name == model.ItemFeatures || name == model.UserDescription
				switch {
				case name == model.UserCold: // is fitted anew
				case name == model.ItemEmbedding:
					n := (items - 1) * w.Shape[1]
					if !slices.Equal(w.Data[:n], is.Data[:n]) {
						t.Error("embeddings of items that the model has learnt have moved")
					}
					if slices.Equal(w.Data[n:], is.Data[n:]) {
						t.Error("the embedding of the new item has not moved")
					}
				case matrix:
					if got := rankOfChange(t, w, is); got < 1 || got > rank {
						t.Errorf("%s has changed by rank %d, want 1 to %d", name, got, rank)
					}
				case !slices.Equal(w.Data, is.Data):
					t.Errorf("%s has moved", name)
				}
			}

			adapterCheckpoint(t, path)
		})
	}
}

// rankOfChange is the number of directions in which b differs from a by more than
// rounding.
func rankOfChange(t *testing.T, a, b *model.Tensor) int {
	t.Helper()
	d := mat.NewDense(a.Shape[0], a.Shape[1], nil)
	for i := range a.Shape[0] {
		for j, x := range a.Row(i) {
			d.Set(i, j, float64(b.Row(i)[j])-float64(x))
		}
	}
	var svd mat.SVD
	if !svd.Factorize(d, mat.SVDNone) {
		t.Fatal("no singular values")
	}
	n := 0
	for _, s := range svd.Values(nil) {
		if s > 1e-5 {
			n++
		}
	}
	return n
}

// Fresh adapters are the model that goes on, whatever their rank and scale.
func TestTowerAdaptersTakeOver(t *testing.T) {
	d, s := chain(60, 30, 12)
	r := rand.New(rand.NewPCG(54, 0))
	vectors := func(n int) hostgpu.Vectors {
		return hostgpu.Vectors{Items: &model.Tensor{Shape: []int{n, 5}, Data: normal(r, n*5, 1)}}
	}
	was := finish(t, newTrainer(t, d, s, vectors(30), quick()), "")
	g, now, from := grown(d, s)
	given := vectors(31)
	l := nextItems(now.Train)
	l.From = &hostgpu.Ancestor{Model: was, Items: from}
	o := quick()
	o.AdapterRank, o.AdapterScale = 2, 4
	m, err := newContinuation(t, g, now, given, l, o).Model()
	if err != nil {
		t.Fatal(err)
	}
	for i, j := range from {
		if j < 0 {
			continue
		}
		for k, v := range m.ItemVectors.Row(i) {
			if want := was.ItemVectors.Row(int(j))[k]; math.Abs(float64(v-want)) > 1e-5*(1+math.Abs(float64(want))) {
				t.Fatalf("item %d, once %d: %v, was %v", i, j, m.ItemVectors.Row(i), was.ItemVectors.Row(int(j)))
			}
		}
	}
	for name, w := range was.Weights {
		if name != model.ItemEmbedding && name != model.ItemFeatures && name != model.UserCold && !slices.Equal(w.Data, m.Weights[name].Data) {
			t.Errorf("%s is another", name)
		}
	}
}

func TestTowerAdaptersRefuse(t *testing.T) {
	d, s := chain(20, 30, 12)
	was := finish(t, newTrainer(t, d, s, hostgpu.Vectors{}, quick()), "")
	other := finish(t, newTrainer(t, d, s, hostgpu.Vectors{}, quick()), "")
	other.Weights[model.UserType].Data[0]++
	g, now, from := grown(d, s)
	begin := func(m *model.Model, o hostgpu.TrainOptions) (*hostgpu.Trainer, error) {
		l := nextItems(now.Train)
		l.From = &hostgpu.Ancestor{Model: m, Items: from}
		return hostgpu.NewContinuation(g, now, hostgpu.Vectors{}, l, o)
	}
	adapted := quick()
	adapted.AdapterRank, adapted.Epochs = 2, 1
	for says, change := range map[string]func(o *hostgpu.TrainOptions){
		"adapter rank":  func(o *hostgpu.TrainOptions) { o.AdapterRank = -1 },
		"adapter scale": func(o *hostgpu.TrainOptions) { o.AdapterScale = math.NaN() },
	} {
		o := adapted
		change(&o)
		if _, err := begin(was, o); !errors.Is(err, hostgpu.ErrOptions) || !strings.Contains(err.Error(), says) {
			t.Errorf("error %v, want ErrOptions that names %s", err, says)
		}
	}
	for name, err := range map[string]error{
		"from chance": func() error { _, err := hostgpu.NewTrainer(d, s, hostgpu.Vectors{}, adapted); return err }(),
		"a student": func() error {
			_, err := hostgpu.NewDistiller(d, s, hostgpu.Vectors{}, chainLessons(t, d, s), adapted)
			return err
		}(),
	} {
		if !errors.Is(err, hostgpu.ErrOptions) || !strings.Contains(err.Error(), "without a model that goes on") {
			t.Errorf("%s: error %v, want ErrOptions that says what is missing", name, err)
		}
	}

	path := filepath.Join(t.TempDir(), "checkpoint")
	tr, err := begin(was, adapted)
	finish(t, opened(t, tr, err), path)
	whole, wider := quick(), adapted
	wider.AdapterRank = 3
	for name, test := range map[string]struct {
		from *model.Model
		o    hostgpu.TrainOptions
	}{"another rank": {was, wider}, "no adapters": {was, whole}, "another model": {other, adapted}} {
		tr, err := begin(test.from, test.o)
		if err := opened(t, tr, err).Resume(path); !errors.Is(err, hostgpu.ErrCheckpoint) {
			t.Errorf("%s: error %v, want ErrCheckpoint", name, err)
		}
	}
	tr, err = begin(was, adapted)
	if err := opened(t, tr, err).Resume(path); err != nil {
		t.Errorf("the same: %v", err)
	}
}
