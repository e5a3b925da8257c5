package hostgpu_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/wisp-project/wisp/hostgpu"
	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/internal/tokenize"
	"github.com/wisp-project/wisp/model"
)

func TestInnerGradient(t *testing.T) {
	r := rand.New(rand.NewPCG(21, 0))
	checkGradients(t, hostgpu.NewInner(3, 4, normal(r, 12, 1)), []hostgpu.Arg{{Floats: normal(r, 12, 1)}})
}

// sharedTexts are texts of the items of a small model: two items have the same
// one, and one has none.
func sharedTexts(r *rand.Rand, c model.TextConfig, items int) [][]int32 {
	texts := randomTexts(r, c, items, 8)
	texts[3], texts[5] = texts[0], nil
	return texts
}

// given3 are vectors of items whose last columns m made of texts, and whose first
// three were drawn.
func given3(t *testing.T, r *rand.Rand, m *model.TextModel, texts [][]int32) *model.Tensor {
	t.Helper()
	x := model.NewTensor(len(texts), 3+m.Config.Dim)
	for i, ids := range texts {
		copy(x.Row(i), normal(r, 3, 1))
		if ids == nil {
			continue
		}
		f, err := m.Embed(ids)
		if err != nil {
			t.Fatal(err)
		}
		copy(x.Row(i)[3:], f)
	}
	return x
}

// The gradient that reaches the vectors of the encoder, and by it the encoder's
// weights, is that of the towers' loss: against differences of the loss when a
// vector moves, and when a weight does and all items are embedded anew. Ids are
// dropped, and an item without events is left out of the softmax.
func TestJointGradients(t *testing.T) {
	d, s := chain(6, 11, 7)
	s = &data.Split{Train: s.Train}
	d.Items = append(d.Items, data.Item{})
	for name, samples := range map[string]int{"full": 0, "sampled": 9} {
		for _, frozen := range []int{0, 1} {
			t.Run(fmt.Sprintf("%s, %d frozen", name, frozen), func(t *testing.T) {
				m := tinyTextModel(t, 6)
				r := rand.New(rand.NewPCG(22, 0))
				texts := sharedTexts(r, m.Config, len(d.Items))
				given := hostgpu.Vectors{Items: given3(t, r, m, texts), Encoder: &hostgpu.ItemEncoder{Model: m, Task: hostgpu.TextTask{Items: texts}}}
				o := quick()
				o.Samples, o.IDDropout = samples, 0.3
				o.Encoder.Dropout, o.Encoder.FrozenLayers = -1, frozen
				tr := newTrainer(t, d, s, given, o)
				loss := func() float64 {
					l, err := tr.FirstLoss()
					if err != nil {
						t.Fatal(err)
					}
					return float64(l)
				}
				// The towers' weights are small at first, and what they say of vectors.
				for i, w := range tr.TowerWeights()[model.ItemFeatures].Data {
					tr.TowerWeights()[model.ItemFeatures].Data[i] = 10 * w
				}
				loss()
				gradient := slices.Clone(tr.VectorGradient().Data)
				grads, err := tr.EncoderGradients()
				if err != nil {
					t.Fatal(err)
				}
				check := func(what string, grad []float32, move func(direction []float32, by float64)) {
					t.Helper()
					size := length(grad)
					if size == 0 {
						t.Errorf("%s has no gradient", what)
						return
					}
					for try := range 2 {
						direction := slices.Clone(grad)
						if try == 1 {
							direction = normal(r, len(grad), 1)
						}
						long := length(direction)
						var want float64
						for i, x := range direction {
							want += float64(x) * float64(grad[i]) / long
						}
						const h = 1e-2
						move(direction, h/long)
						up := loss()
						move(direction, -2*h/long)
						down := loss()
						move(direction, h/long)
						if got := (up - down) / (2 * h); math.Abs(got-want) > 0.03*size+2e-4 {
							t.Errorf("%s along direction %d: gradient %v, difference %v", what, try, want, got)
						}
					}
				}
				x, dim := tr.TunedVectors(), m.Config.Dim
				check("vectors", gradient, func(direction []float32, by float64) {
					for i := range d.Items {
						for c := range dim {
							x.Row(i)[3+c] += float32(by * float64(direction[i*dim+c]))
						}
					}
				})
				names := 0
				for name, grad := range grads {
					if strings.HasSuffix(name, "attn.k.bias") {
						continue // moves all scores of a row alike: its gradient is zero but for rounding
					}
					names++
					check(name, grad, func(direction []float32, by float64) {
						for i := range direction {
							tr.EncoderWeights()[name].Data[i] += float32(by * float64(direction[i]))
						}
						if err := tr.EmbedItems(t.Context()); err != nil {
							t.Fatal(err)
						}
					})
				}
				if want := map[int]int{0: 35, 1: 15}[frozen]; names != want {
					t.Errorf("%d tensors of the encoder have a gradient, want %d", names, want)
				}
			})
		}
	}
}

// kinds is a made data set: the title of an item names its kind by a word, and
// each user takes to items of one kind. Half of the items of each kind are met
// first in validation. The encoder at first knows no word of a kind from another.
func kinds(t *testing.T) (*data.Dataset, *data.Split, hostgpu.Vectors, *tokenize.Tokenizer) {
	t.Helper()
	const kinds, items, users, events = 6, 72, 90, 7
	r := rand.New(rand.NewPCG(33, 0))
	ds := &data.Dataset{Types: data.EventTypes(1, 5)}
	vocab := []string{"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", ":", ";", "recently", "liked"}
	for k := range kinds {
		vocab = append(vocab, fmt.Sprint("kind", k), fmt.Sprint("taste", k))
	}
	for i := range items {
		vocab = append(vocab, fmt.Sprint("item", i))
		ds.Items = append(ds.Items, data.Item{ID: fmt.Sprint(i), Title: fmt.Sprintf("item%d kind%d", i, i%kinds)})
	}
	split := &data.Split{}
	for u := range users {
		k := r.IntN(kinds)
		ds.Users = append(ds.Users, data.User{ID: fmt.Sprint(u), Description: fmt.Sprint("taste", k)})
		var h []data.Interaction
		for i := range events {
			h = append(h, data.Interaction{Item: int32(r.IntN(items/kinds/2)*kinds + k), Time: int64(i)})
		}
		last := data.Interaction{Item: int32((items/kinds/2+r.IntN(items/kinds/2))*kinds + k), Time: events}
		split.Train = append(split.Train, h)
		split.Valid = append(split.Valid, data.Case{User: int32(u), History: h, Target: last})
		ds.Histories = append(ds.Histories, append(slices.Clone(h), last))
	}
	tok, err := tokenize.New(vocab, tokenize.Options{})
	if err != nil {
		t.Fatal(err)
	}
	m := tasteModel(t, tok)
	word := m.Weights[model.TextWord]
	for k := 1; k < kinds; k++ {
		copy(word.Row(int(tok.Encode(nil, fmt.Sprint("kind", k), 8)[1])), word.Row(int(tok.Encode(nil, "kind0", 8)[1])))
	}
	task, err := hostgpu.NewProfileTask(ds, split, tok, m.Config, hostgpu.ProfileTaskOptions{MaxPairs: 64, Seed: 5})
	if err != nil {
		t.Fatal(err)
	}
	given := hostgpu.Vectors{Items: model.NewTensor(items, m.Config.Dim), Encoder: &hostgpu.ItemEncoder{Model: m, Task: task}}
	if err := hostgpu.NewTextEncoder(m, 0).Embed(t.Context(), given.Items.Data, task.Items); err != nil {
		t.Fatal(err)
	}
	return ds, split, given, tok
}

func quickJoint() hostgpu.TrainOptions {
	o := quick()
	o.IDDropout, o.Patience = 0.5, 50
	o.Encoder = hostgpu.TextTrainOptions{Pairs: 16, LearningRate: 5e-3}
	return o
}

// Items that nobody has met are found by what the encoder has learnt of the words
// that they share with others; vectors of the encoder as it came say nothing.
func TestJointLearns(t *testing.T) {
	d, s, given, _ := kinds(t)
	before := slices.Clone(given.Items.Data)
	o := quickJoint()
	o.Epochs, o.EncoderEvery = 16, 4
	tr := newTrainer(t, d, s, given, o)
	m := finish(t, tr, "")
	best, _ := tr.Best()
	if !slices.Equal(given.Items.Data, before) {
		t.Error("the vectors that were given are changed")
	}

	o.Encoder, o.EncoderEvery = hostgpu.TextTrainOptions{}, 0
	frozen := newTrainer(t, d, s, hostgpu.Vectors{Items: given.Items}, o)
	finish(t, frozen, "")
	asItCame, _ := frozen.Best()
	t.Logf("NDCG@10 %.3f, with the encoder as it came %.3f", best, asItCame)
	if !(best > 0.4 && asItCame < 0.15) { // by chance 0.07, at best some 0.6
		t.Errorf("NDCG@10 %.3f, with the encoder as it came %.3f", best, asItCame)
	}
	// Model, vectors and encoder are those of the best epoch, and belong together.
	if got := validation(t, m, nil, s.Valid); got < 0.4 {
		t.Errorf("the model's NDCG@10 is %v, the best epoch's was %v", got, best)
	}
	x := make([]float32, len(before))
	if err := hostgpu.NewTextEncoder(tr.Encoder(), 0).Embed(t.Context(), x, given.Encoder.Task.Items); err != nil {
		t.Fatal(err)
	}
	near(t, "vectors", tr.ItemVectors().Data, x, 1e-5)
	if frozen.Encoder() != nil || frozen.ItemVectors() != given.Items {
		t.Error("without an encoder there is one, or other vectors than those given")
	}
}

// A run that is interrupted wherever it can be, while it trains the encoder and
// while it embeds too, ends where an unbroken one does; so does training again
// with what the run was given.
func TestJointResumes(t *testing.T) { eachDevice(t, jointResumes) }

func jointResumes(t *testing.T, on *hostgpu.Device) {
	d, s, given, tok := kinds(t)
	for name, change := range map[string]func(*hostgpu.TrainOptions){
		"an epoch":    func(*hostgpu.TrainOptions) {},
		"three steps": func(o *hostgpu.TrainOptions) { o.EncoderEvery, o.Samples, o.Encoder.FrozenLayers = 3, 20, 1 },
		"all losses and adapters": func(o *hostgpu.TrainOptions) {
			o.Encoder.AdapterRank, o.Encoder.Special = 2, tok.Special()
			o.Encoder.Losses = hostgpu.TextLosses{NextItem: 1, Contrastive: 0.1, MaskedLM: 0.05}
		},
	} {
		t.Run(name, func(t *testing.T) {
			o := quickJoint()
			o.Epochs, o.Device = 3, on
			change(&o)
			whole := newTrainer(t, d, s, given, o)
			want := finish(t, whole, "")
			steps, passes := whole.EncoderSteps()
			if passes < 2 || steps < 2*passes {
				t.Fatalf("%d steps of the encoder in %d passes", steps, passes)
			}
			path := filepath.Join(t.TempDir(), "checkpoint")
			var last *hostgpu.Trainer
			parts, done := 0, false
			for ; !done && parts < 100; parts++ {
				last = newTrainer(t, d, s, given, o)
				if parts > 0 {
					if err := last.Resume(path); err != nil {
						t.Fatal(err)
					}
				}
				asked := 4 + parts%5 // more than a pass asks before its first step
				err := last.Run(interruptAfter{t.Context(), &asked}, path, nil)
				if done = err == nil; !done && !errors.Is(err, context.Canceled) {
					t.Fatalf("part %d: %v", parts, err)
				}
			}
			if parts < 4 || !done {
				t.Fatalf("%d parts, finished is %v", parts, done)
			}
			got, err := last.Model()
			if err != nil {
				t.Fatal(err)
			}
			sameWeights(t, "resumed", want.Weights, got.Weights)
			if !reflect.DeepEqual(last.Encoder(), whole.Encoder()) || !reflect.DeepEqual(last.ItemVectors(), whole.ItemVectors()) {
				t.Error("the resumed run ended with another encoder or other vectors than the unbroken one")
			}
			// The best epoch may be one before the first pass, but not the run's end.
			if reflect.DeepEqual(whole.TunedVectors(), given.Items) {
				t.Error("the vectors are still as they were given")
			}
		})
	}
}

func TestJointResumeRefuses(t *testing.T) {
	d, s, given, _ := kinds(t)
	o := quickJoint()
	o.Epochs = 2
	path := filepath.Join(t.TempDir(), "checkpoint")
	finish(t, newTrainer(t, d, s, given, o), path)
	tensors, meta, err := model.LoadTensors(path)
	if err != nil {
		t.Fatal(err)
	}
	less, odd := filepath.Join(t.TempDir(), "less"), filepath.Join(t.TempDir(), "odd")
	meta2 := map[string]string{}
	for k, v := range meta {
		meta2[k] = v
	}
	meta2["encoder"] = strings.Replace(meta["encoder"], `"passes":1`, `"passes":-1`, 1)
	if err := model.SaveTensors(odd, tensors, meta2); err != nil {
		t.Fatal(err)
	}
	delete(tensors, "encoder.items/gradient")
	if err := model.SaveTensors(less, tensors, meta); err != nil {
		t.Fatal(err)
	}
	other := *given.Encoder
	other.Model = given.Encoder.Model
	other.Task.Items = slices.Clone(other.Task.Items)
	other.Task.Items[4] = other.Task.Items[3]
	for name, test := range map[string]struct {
		path   string
		given  hostgpu.Vectors
		change func(*hostgpu.TrainOptions)
	}{
		"without the encoder": {path, hostgpu.Vectors{Items: given.Items}, func(o *hostgpu.TrainOptions) { o.Encoder = hostgpu.TextTrainOptions{} }},
		"other texts":         {path, hostgpu.Vectors{Items: given.Items, Encoder: &other}, nil},
		"another rate":        {path, given, func(o *hostgpu.TrainOptions) { o.Encoder.LearningRate = 1e-3 }},
		"other passes":        {path, given, func(o *hostgpu.TrainOptions) { o.EncoderEvery = 7 }},
		"a tensor less":       {less, given, nil},
		"passes below zero":   {odd, given, nil},
	} {
		o := o
		if test.change != nil {
			test.change(&o)
		}
		if err := newTrainer(t, d, s, test.given, o).Resume(test.path); !errors.Is(err, hostgpu.ErrCheckpoint) {
			t.Errorf("%s: error %v, want ErrCheckpoint", name, err)
		}
	}
	if err := newTrainer(t, d, s, given, o).Resume(path); err != nil {
		t.Errorf("the same: %v", err)
	}
}

// A run whose encoder diverges says so, and leaves the last good checkpoint.
func TestJointDiverges(t *testing.T) {
	d, s, given, _ := kinds(t)
	path := filepath.Join(t.TempDir(), "checkpoint")
	tr := newTrainer(t, d, s, given, quickJoint())
	var good []byte
	err := tr.Run(t.Context(), path, func(p hostgpu.Progress) {
		if p.Done && p.Epoch == 1 {
			var err error
			if good, err = os.ReadFile(path); err != nil {
				t.Fatal(err)
			}
			tr.EncoderWeights()[model.TextNormBias].Data[0] = float32(math.NaN())
		}
	})
	if !errors.Is(err, hostgpu.ErrDiverged) || !strings.Contains(err.Error(), "pass 1") {
		t.Fatalf("error %v, want ErrDiverged in pass 1", err)
	}
	if after, err := os.ReadFile(path); err != nil || !slices.Equal(after, good) {
		t.Errorf("the checkpoint is no longer that of the first epoch: %v", err)
	}
}

func TestJointRefuses(t *testing.T) {
	d, s, given, _ := kinds(t)
	encoder := func(change func(*hostgpu.TextTask)) hostgpu.Vectors {
		e := *given.Encoder
		change(&e.Task)
		return hostgpu.Vectors{Items: given.Items, Encoder: &e}
	}
	for name, test := range map[string]struct {
		given  hostgpu.Vectors
		change func(*hostgpu.TrainOptions)
		want   error
		says   string
	}{
		"options without an encoder": {hostgpu.Vectors{Items: given.Items}, nil, hostgpu.ErrOptions, "without one"},
		"no vectors":                 {hostgpu.Vectors{Encoder: given.Encoder}, func(o *hostgpu.TrainOptions) { o.IDDropout = 0 }, hostgpu.ErrData, "width 16"},
		"texts of other items":       {encoder(func(k *hostgpu.TextTask) { k.Items = k.Items[1:] }), nil, hostgpu.ErrData, "71 items"},
		"no texts":                   {encoder(func(k *hostgpu.TextTask) { k.Items = make([][]int32, 72) }), nil, hostgpu.ErrData, "no item has a text"},
		"a text":                     {encoder(func(k *hostgpu.TextTask) { k.Items = slices.Repeat([][]int32{{999}}, 72) }), nil, model.ErrInput, "item 0"},
		"no pairs": {encoder(func(k *hostgpu.TextTask) { k.Pairs = nil }), func(o *hostgpu.TrainOptions) {
			o.Encoder.Losses = hostgpu.TextLosses{NextItem: 1, Contrastive: 1}
		}, hostgpu.ErrOptions, "pairs"},
		"frozen":     {given, func(o *hostgpu.TrainOptions) { o.Encoder.FrozenLayers = 2 }, hostgpu.ErrOptions, "frozen layers is 2"},
		"an option":  {given, func(o *hostgpu.TrainOptions) { o.Encoder.Dropout = 1 }, hostgpu.ErrOptions, "dropout"},
		"no loss":    {given, func(o *hostgpu.TrainOptions) { o.Encoder.Losses.NextItem = -1 }, hostgpu.ErrOptions, "next-item"},
		"every step": {given, func(o *hostgpu.TrainOptions) { o.EncoderEvery = -1 }, hostgpu.ErrOptions, "encoder every"},
	} {
		o := quickJoint()
		if test.change != nil {
			test.change(&o)
		}
		if _, err := hostgpu.NewTrainer(d, s, test.given, o); !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: error %v, want %v that says %q", name, err, test.want, test.says)
		}
	}
	if _, err := hostgpu.NewTextTrainer(given.Encoder.Model, hostgpu.TextTrainOptions{Losses: hostgpu.TextLosses{NextItem: 1}}); !errors.Is(err, hostgpu.ErrOptions) {
		t.Errorf("the loss of towers without any: error %v, want ErrOptions", err)
	}
}
