package hostgpu_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/wisp-project/wisp/hostgpu"
	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/model"
)

// chain is a data set in which an item is followed by the next one of the
// catalogue nine times out of ten.
func chain(users, items, length int) (*data.Dataset, *data.Split) {
	r := rand.New(rand.NewPCG(1, 1))
	d := &data.Dataset{Name: "chain", Types: data.EventTypes(1, 5), Items: make([]data.Item, items), Users: make([]data.User, users)}
	for range users {
		h := make([]data.Interaction, length)
		at := r.IntN(items)
		for i := range h {
			h[i] = data.Interaction{Item: int32(at), Type: uint8(r.IntN(len(d.Types))), Time: int64(i) * 60}
			at = (at + 1) % items
			if r.IntN(10) == 0 {
				at = r.IntN(items)
			}
		}
		d.Histories = append(d.Histories, h)
	}
	return d, data.LeaveOneOut(d, 5)
}

// quick are options for a run of a second.
func quick() hostgpu.TrainOptions {
	return hostgpu.TrainOptions{
		Dim: 16, Layers: 1, Heads: 2, FFN: 16, Window: 4, Rows: 4, Length: 24, Epochs: 3,
		LearningRate: 0.01, Warmup: 10, Dropout: 0.1, Average: 0.9, Seed: 5,
	}
}

// opened returns v, which is closed when the test ends.
func opened[T io.Closer](t testing.TB, v T, err error) T {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := v.Close(); err != nil {
			t.Error(err)
		}
	})
	return v
}

func newTrainer(t *testing.T, d *data.Dataset, s *data.Split, given hostgpu.Vectors, o hostgpu.TrainOptions) *hostgpu.Trainer {
	t.Helper()
	run, err := hostgpu.NewTrainer(d, s, given, o)
	return opened(t, run, err)
}

// A pattern that is nine parts in ten regular is learnt, by both losses and with
// features too; chance would give an NDCG@10 of about 0.05.
func TestTrainLearns(t *testing.T) {
	d, s := chain(250, 90, 12)
	r := rand.New(rand.NewPCG(2, 0))
	features := &model.Tensor{Shape: []int{90, 6}, Data: normal(r, 90*6, 1)}
	for name, change := range map[string]func(*hostgpu.TrainOptions){
		"full":    func(*hostgpu.TrainOptions) {},
		"sampled": func(o *hostgpu.TrainOptions) { o.Samples = 40 },
		"smooth":  func(o *hostgpu.TrainOptions) { o.Smoothing = 0.1 },
		"no average, no dropout, no decay, no clipping": func(o *hostgpu.TrainOptions) {
			o.Average, o.Dropout, o.WeightDecay, o.ClipNorm = -1, -1, -1, -1
		},
	} {
		t.Run(name, func(t *testing.T) {
			o := quick()
			o.Epochs = 12
			change(&o)
			tr := newTrainer(t, d, s, hostgpu.Vectors{Items: features}, o)
			var losses []float64
			var last hostgpu.Progress
			err := tr.Run(t.Context(), "", func(p hostgpu.Progress) {
				if p.Done {
					losses = append(losses, p.Loss)
				}
				last = p
			})
			if err != nil {
				t.Fatal(err)
			}
			best, epoch := tr.Best()
			if best < 0.7 || losses[len(losses)-1] > losses[0]/2 {
				t.Errorf("NDCG@10 %.3f, losses %.3f", best, losses)
			}
			if !last.Done || last.Epoch != 12 || last.Best != best || last.BestEpoch != epoch || last.Step != last.Steps {
				t.Errorf("last progress %+v, best %v at %d", last, best, epoch)
			}
			m, err := tr.Model()
			if err != nil {
				t.Fatal(err)
			}
			// The model that comes out is the one that was measured.
			if got := validation(t, m, nil, s.Valid); math.Abs(got-best) > 1e-9 {
				t.Errorf("the model's NDCG@10 is %v, the best epoch's was %v", got, best)
			}
		})
	}
}

// validation is NDCG@10 by the plain model.
func validation(t *testing.T, m *model.Model, descriptions *model.Tensor, cases []data.Case) float64 {
	t.Helper()
	scores := make([]float32, m.Config.Items)
	var sum float64
	for _, c := range cases {
		u, err := m.User(hostgpu.Events(c.History), nil)
		if err != nil {
			t.Fatal(err)
		}
		if descriptions != nil {
			if err := m.Describe(u, descriptions.Row(int(c.User))); err != nil {
				t.Fatal(err)
			}
		}
		m.Scores(scores, u)
		rank := 0
		for i, s := range scores {
			seen := slices.ContainsFunc(c.History, func(e data.Interaction) bool { return e.Item == int32(i) })
			if !seen && s > scores[c.Target.Item] {
				rank++
			}
		}
		if rank < 10 {
			sum += 1 / math.Log2(float64(rank)+2)
		}
	}
	return sum / float64(len(cases))
}

func sameWeights(t *testing.T, what string, a, b model.Weights) {
	t.Helper()
	for name, x := range a {
		for i, v := range x.Data {
			if math.Float32bits(v) != math.Float32bits(b[name].Data[i]) {
				t.Errorf("%s: %s[%d] is %v, unbroken %v", what, name, i, b[name].Data[i], v)
				return
			}
		}
	}
}

// A run that is interrupted and resumed ends where an unbroken one does, bit for
// bit, wherever it was interrupted.
func TestResume(t *testing.T) {
	d, s := chain(60, 40, 10)
	for name, samples := range map[string]int{"full": 0, "sampled": 15} {
		o := quick()
		o.Samples = samples
		whole := newTrainer(t, d, s, hostgpu.Vectors{}, o)
		steps := 0
		if err := whole.Run(t.Context(), "", func(p hostgpu.Progress) { steps = max(steps, p.Steps) }); err != nil {
			t.Fatal(err)
		}
		want, err := whole.Model()
		if err != nil {
			t.Fatal(err)
		}
		wantBest, wantEpoch := whole.Best()
		// In the middle of an epoch, at its last step (before validation), and
		// after the first epoch's end.
		for _, stop := range []hostgpu.Progress{{Epoch: 2, Step: steps / 2}, {Epoch: 1, Step: steps}, {Epoch: 1, Step: steps, Done: true}} {
			what := fmt.Sprintf("%s, stopped at epoch %d, step %d, done %v", name, stop.Epoch, stop.Step, stop.Done)
			path := filepath.Join(t.TempDir(), "checkpoint.safetensors")
			ctx, cancel := context.WithCancel(t.Context())
			first := newTrainer(t, d, s, hostgpu.Vectors{}, o)
			err := first.Run(ctx, path, func(p hostgpu.Progress) {
				if p.Epoch == stop.Epoch && p.Step == stop.Step && p.Done == stop.Done {
					cancel()
				}
			})
			if !errors.Is(err, context.Canceled) {
				t.Fatalf("%s: error %v, want context.Canceled", what, err)
			}
			second := newTrainer(t, d, s, hostgpu.Vectors{}, o)
			if err := second.Resume(path); err != nil {
				t.Fatal(err)
			}
			if err := second.Run(t.Context(), path, nil); err != nil {
				t.Fatal(err)
			}
			got, err := second.Model()
			if err != nil {
				t.Fatal(err)
			}
			sameWeights(t, what, want.Weights, got.Weights)
			if best, epoch := second.Best(); best != wantBest || epoch != wantEpoch {
				t.Errorf("%s: best %v at %d, unbroken %v at %d", what, best, epoch, wantBest, wantEpoch)
			}
		}
	}
}

// TestStoredTrainer trains on events that are read when they are wanted: the weights are
// those of a training in memory, whose checkpoint it goes on with, too.
func TestStoredTrainer(t *testing.T) {
	d, s := chain(60, 40, 10)
	split := &data.StoredSplit{Protocol: s.Protocol, Histories: data.InMemory(d.Histories)}
	for _, h := range s.Train {
		split.Train = append(split.Train, int32(len(h)))
	}
	for _, c := range s.Valid {
		split.Valid = append(split.Valid, data.Question{User: c.User, Target: int32(len(c.History))})
	}
	catalogue := *d
	catalogue.Histories = nil
	o := quick()
	o.Length = 4 // so that histories are cut
	whole := newTrainer(t, d, s, hostgpu.Vectors{}, o)
	path := filepath.Join(t.TempDir(), "checkpoint.safetensors")
	ctx, cancel := context.WithCancel(t.Context())
	err := whole.Run(ctx, path, func(p hostgpu.Progress) {
		if p.Epoch == 2 && p.Step == p.Steps/2 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	fresh, err := hostgpu.NewStoredTrainer(&catalogue, split, hostgpu.Vectors{}, o)
	fresh = opened(t, fresh, err)
	resumed, err := hostgpu.NewStoredTrainer(&catalogue, split, hostgpu.Vectors{}, o)
	resumed = opened(t, resumed, err)
	if err := resumed.Resume(path); err != nil {
		t.Fatal(err)
	}
	var models []*model.Model
	for _, tr := range []*hostgpu.Trainer{whole, fresh, resumed} {
		if err := tr.Run(t.Context(), "", nil); err != nil {
			t.Fatal(err)
		}
		m, err := tr.Model()
		if err != nil {
			t.Fatal(err)
		}
		models = append(models, m)
	}
	sameWeights(t, "read when wanted", models[0].Weights, models[1].Weights)
	sameWeights(t, "resumed from a training in memory", models[0].Weights, models[2].Weights)

	failing := *split
	failing.Histories = broken{data.InMemory(d.Histories)}
	if _, err := hostgpu.NewStoredTrainer(&catalogue, &failing, hostgpu.Vectors{}, o); !errors.Is(err, os.ErrClosed) {
		t.Errorf("histories that cannot be read: %v", err)
	}
}

// broken are histories of which the last cannot be read.
type broken struct{ data.InMemory }

func (b broken) Read(dst []data.Interaction, user, lo, hi int) ([]data.Interaction, error) {
	if user == b.Users()-1 {
		return dst, os.ErrClosed
	}
	return b.InMemory.Read(dst, user, lo, hi)
}

func TestResumeRefuses(t *testing.T) {
	d, s := chain(30, 40, 8)
	o := quick()
	o.Epochs = 1
	folder := t.TempDir()
	path := filepath.Join(folder, "checkpoint.safetensors")
	tr := newTrainer(t, d, s, hostgpu.Vectors{}, o)
	if err := tr.Run(t.Context(), path, nil); err != nil {
		t.Fatal(err)
	}
	longer := o
	longer.Epochs = 2
	if err := newTrainer(t, d, s, hostgpu.Vectors{}, longer).Resume(path); err != nil {
		t.Errorf("more epochs are no other run: %v", err)
	}
	other := o
	other.Dropout = 0.5
	if err := newTrainer(t, d, s, hostgpu.Vectors{}, other).Resume(path); !errors.Is(err, hostgpu.ErrCheckpoint) {
		t.Errorf("other options: error %v, want ErrCheckpoint", err)
	}
	d2, s2 := chain(31, 40, 8)
	if err := newTrainer(t, d2, s2, hostgpu.Vectors{}, o).Resume(path); !errors.Is(err, hostgpu.ErrCheckpoint) {
		t.Errorf("other data: error %v, want ErrCheckpoint", err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	broken := filepath.Join(folder, "broken")
	if err := os.WriteFile(broken, whole[:len(whole)-9], 0o600); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{broken, filepath.Join(folder, "absent")} {
		if err := newTrainer(t, d, s, hostgpu.Vectors{}, o).Resume(p); !errors.Is(err, hostgpu.ErrCheckpoint) {
			t.Errorf("%s: error %v, want ErrCheckpoint", filepath.Base(p), err)
		}
	}
}

// A run that diverges says where, and leaves the last good checkpoint alone.
func TestDivergence(t *testing.T) {
	d, s := chain(60, 40, 10)
	path := filepath.Join(t.TempDir(), "checkpoint.safetensors")
	r := rand.New(rand.NewPCG(3, 0))
	features := &model.Tensor{Shape: []int{40, 3}, Data: normal(r, 120, 1)}
	o := quick()
	tr := newTrainer(t, d, s, hostgpu.Vectors{Items: features}, o)
	var before []byte
	err := tr.Run(t.Context(), path, func(p hostgpu.Progress) {
		if p.Epoch == 2 && p.Step == 2 {
			var err error
			if before, err = os.ReadFile(path); err != nil {
				t.Error(err)
			}
			features.Data[7] = float32(math.Inf(1)) // a fault from outside
		}
	})
	if !errors.Is(err, hostgpu.ErrDiverged) || !strings.Contains(err.Error(), "step 3 of epoch 2") {
		t.Errorf("error %v, want ErrDiverged at step 3 of epoch 2", err)
	}
	after, err := os.ReadFile(path)
	if err != nil || !slices.Equal(before, after) {
		t.Errorf("the checkpoint was touched (%v)", err)
	}
}

func TestEarlyStopping(t *testing.T) {
	d, s := chain(60, 40, 10)
	o := quick()
	o.Epochs, o.Patience, o.LearningRate = 200, 3, 0.02
	tr := newTrainer(t, d, s, hostgpu.Vectors{}, o)
	epochs := 0
	if err := tr.Run(t.Context(), "", func(p hostgpu.Progress) { epochs = p.Epoch }); err != nil {
		t.Fatal(err)
	}
	if _, best := tr.Best(); epochs != best+3 || epochs == 200 {
		t.Errorf("ran %d epochs, the best was %d and the patience 3", epochs, best)
	}
	// Without validation cases all epochs are run and the last weights kept.
	o.Epochs = 4
	tr = newTrainer(t, d, &data.Split{Train: s.Train}, hostgpu.Vectors{}, o)
	if err := tr.Run(t.Context(), "", func(p hostgpu.Progress) { epochs = p.Epoch }); err != nil {
		t.Fatal(err)
	}
	if _, best := tr.Best(); best != 4 || epochs != 4 {
		t.Errorf("without validation: %d epochs, kept number %d", epochs, best)
	}
}

// The cold-start vector ranks the catalogue by popularity as well as a vector of
// its width can: with as many dimensions as items, exactly.
func TestColdStartFollowsPopularity(t *testing.T) {
	const n = 6
	items := model.NewTensor(n, n)
	for i := range n {
		items.Row(i)[i] = 1
	}
	counts := []float64{9, 1, 0, 30, 4, 90}
	u, err := hostgpu.FitCold(items, counts)
	if err != nil {
		t.Fatal(err)
	}
	var norm float64
	for _, x := range u {
		norm += math.Exp(float64(x))
	}
	var total float64
	for _, c := range counts {
		total += c + 1
	}
	for i, c := range counts {
		got, want := math.Exp(float64(u[i]))/norm, (c+1)/total
		if math.Abs(got-want) > 0.002 {
			t.Errorf("item %d has probability %.4f, its share of events is %.4f", i, got, want)
		}
	}
	// Narrower vectors: no direction improves on the result.
	r := rand.New(rand.NewPCG(4, 0))
	items = &model.Tensor{Shape: []int{n, 2}, Data: normal(r, n*2, 2)}
	if u, err = hostgpu.FitCold(items, counts); err != nil {
		t.Fatal(err)
	}
	objective := func(a, b float64) float64 {
		var sum, fit, penalty float64
		for i, c := range counts {
			z := a*float64(items.Row(i)[0]) + b*float64(items.Row(i)[1])
			sum += math.Exp(z)
			fit += (c + 1) / total * z
		}
		penalty = 1e-4 / 2 * (a*a + b*b)
		return math.Log(sum) - fit + penalty
	}
	at := objective(float64(u[0]), float64(u[1]))
	for angle := 0.0; angle < 2*math.Pi; angle += 0.3 {
		if objective(float64(u[0])+0.01*math.Cos(angle), float64(u[1])+0.01*math.Sin(angle)) < at-1e-9 {
			t.Errorf("%v is not the minimum", u)
		}
	}
}

func TestTrainOptionsValidate(t *testing.T) {
	if err := (hostgpu.TrainOptions{}).Validate(); err != nil {
		t.Errorf("the zero value: %v", err)
	}
	d, s := chain(10, 40, 8)
	for name, o := range map[string]hostgpu.TrainOptions{
		"negative rows": {Rows: -1}, "negative epochs": {Epochs: -1}, "dropout of one": {Dropout: 1}, "NaN": {LearningRate: math.NaN()},
		"heads that do not divide": {Dim: 10, Heads: 3}, "window": {Window: 1000},
	} {
		if _, err := hostgpu.NewTrainer(d, s, hostgpu.Vectors{}, o); !errors.Is(err, hostgpu.ErrOptions) {
			t.Errorf("%s: error %v, want ErrOptions", name, err)
		}
	}
	if _, err := hostgpu.NewTrainer(d, &data.Split{Train: make([][]data.Interaction, 10)}, hostgpu.Vectors{}, quick()); !errors.Is(err, hostgpu.ErrData) {
		t.Errorf("no events: error %v, want ErrData", err)
	}
}

func ExampleTrainer() {
	d, split := chain(100, 30, 10)
	t, err := hostgpu.NewTrainer(d, split, hostgpu.Vectors{}, hostgpu.TrainOptions{Dim: 16, Heads: 2, Window: 4, Length: 32, Rows: 4, LearningRate: 0.01, Warmup: 10, Epochs: 10, Seed: 1})
	if err != nil {
		panic(err)
	}
	defer t.Close() //nolint:errcheck // the graph holds memory only
	if err := t.Run(context.Background(), "", nil); err != nil {
		panic(err)
	}
	best, _ := t.Best()
	fmt.Println("learnt what follows what:", best > 0.5)
	// Output: learnt what follows what: true
}
