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

// tastes is a made data set: each item is of a kind, which its title names by a
// word, and each user takes to items of one kind, which the description names by
// another. Only who learns that the two words belong together can recommend.
func tastes(t *testing.T) (*data.Dataset, *tokenize.Tokenizer) {
	t.Helper()
	const kinds, items, users, events = 8, 96, 160, 6
	r := rand.New(rand.NewPCG(31, 0))
	ds := &data.Dataset{Types: data.EventTypes(1, 5)}
	vocab := []string{"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", ":", ";", "recently", "liked"}
	for k := range kinds {
		vocab = append(vocab, fmt.Sprint("kind", k), fmt.Sprint("taste", k))
	}
	for i := range items {
		vocab = append(vocab, fmt.Sprint("item", i))
		ds.Items = append(ds.Items, data.Item{ID: fmt.Sprint(i), Title: fmt.Sprintf("item%d kind%d", i, i%kinds)})
	}
	for u := range users {
		k := r.IntN(kinds)
		ds.Users = append(ds.Users, data.User{ID: fmt.Sprint(u), Description: fmt.Sprint("taste", k)})
		var h []data.Interaction
		for i, n := range r.Perm(items / kinds)[:events] {
			h = append(h, data.Interaction{Item: int32(n*kinds + k), Type: 1, Time: int64(i)})
		}
		ds.Histories = append(ds.Histories, h)
	}
	tok, err := tokenize.New(vocab, tokenize.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return ds, tok
}

// tasteModel is a random encoder for tastes.
func tasteModel(t *testing.T, tok *tokenize.Tokenizer) *model.TextModel {
	t.Helper()
	c := model.TextConfig{
		Vocabulary: tok.Size(), Positions: 32, MaxTokens: 32, Types: 2, Dim: 16, Layers: 2, Heads: 2, FFN: 32,
		NormEpsilon: 1e-12, Pooling: model.PoolMean,
	}
	r := rand.New(rand.NewPCG(32, 0))
	w := model.Weights{}
	for _, s := range c.Specs() {
		w[s.Name] = &model.Tensor{Shape: s.Shape, Data: normal(r, len(model.NewTensor(s.Shape...).Data), 0.2)}
		if strings.HasSuffix(s.Name, "norm.weight") {
			for i := range w[s.Name].Data {
				w[s.Name].Data[i]++
			}
		}
	}
	m, err := model.NewText(c, w)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// tasteTask asks for the next item, with 128 pairs an epoch.
func tasteTask(t *testing.T, ds *data.Dataset, tok *tokenize.Tokenizer, m *model.TextModel) hostgpu.TextTask {
	t.Helper()
	profile, err := data.NewProfileText("{{.Description}}", 0)
	if err != nil {
		t.Fatal(err)
	}
	task, err := hostgpu.NewProfileTask(ds, data.LeaveOneOut(ds, 3), tok, m.Config, hostgpu.ProfileTaskOptions{Profile: profile, MaxPairs: 128, MaxCases: 100, Seed: 5})
	if err != nil {
		t.Fatal(err)
	}
	return task
}

func newTextRun(t *testing.T, m *model.TextModel, task hostgpu.TextTask, o hostgpu.TextTrainOptions) *hostgpu.TextRun {
	t.Helper()
	run, err := hostgpu.NewTextRun(m, task, o)
	return opened(t, run, err)
}

func quickText() hostgpu.TextTrainOptions {
	return hostgpu.TextTrainOptions{Pairs: 16, Epochs: 3, LearningRate: 1e-2, Temperature: 0.1, Seed: 1}
}

func TestTextRunLearns(t *testing.T) {
	ds, tok := tastes(t)
	m := tasteModel(t, tok)
	o := quickText()
	o.Epochs = 8
	r := newTextRun(t, m, tasteTask(t, ds, tok, m), o)
	var losses, recalls []float64
	if err := r.Run(t.Context(), "", func(p hostgpu.TextProgress) {
		if p.Done {
			losses, recalls = append(losses, p.Loss), append(recalls, p.Valid)
		}
	}); err != nil {
		t.Fatal(err)
	}
	before, best, epoch := r.Best()
	t.Logf("losses %.3v, recall@10 %.3v", losses, recalls)
	if first, last := losses[1], losses[len(losses)-1]; !(last < 0.9*first) {
		t.Errorf("the loss went from %v to %v", first, last)
	}
	if before != recalls[0] || best != slices.Max(recalls) || recalls[epoch] != best {
		t.Errorf("best: %v before, %v in epoch %d; recalls %v", before, best, epoch, recalls)
	}
	// Ten of the items, drawn at random, hold the target in a tenth of the cases.
	if !(before < 0.4 && best > 0.8) {
		t.Errorf("recall@10 went from %v to %v, want from below 0.4 to above 0.8", before, best)
	}
	// The model is that of the best epoch.
	again := newTextRun(t, r.Model(), tasteTask(t, ds, tok, m), hostgpu.TextTrainOptions{Epochs: 1, Pairs: 16, LearningRate: 1e-9})
	if err := again.Run(t.Context(), "", nil); err != nil {
		t.Fatal(err)
	}
	if got, _, _ := again.Best(); got != best {
		t.Errorf("recall@10 of the model is %v, the best was %v", got, best)
	}
}

// Frozen tensors stay as they are to the bit and have no gradient; the others
// move, with the same gradients as when nothing is frozen.
func TestTextRunFrozen(t *testing.T) {
	ds, tok := tastes(t)
	o := quickText()
	o.Epochs, o.FrozenLayers = 1, 1
	m := tasteModel(t, tok)
	want := tasteModel(t, tok).Weights
	r := newTextRun(t, m, tasteTask(t, ds, tok, m), o)
	if err := r.Run(t.Context(), "", nil); err != nil {
		t.Fatal(err)
	}
	for name, w := range m.Weights {
		frozen := !strings.HasPrefix(name, model.TextLayerName(1, ""))
		if same := slices.Equal(w.Data, want[name].Data); same != frozen {
			t.Errorf("%s: unchanged is %v, want %v", name, same, frozen)
		}
	}

	all, some := tinyTextModel(t, 4), tinyTextModel(t, 4)
	rng := rand.New(rand.NewPCG(8, 0))
	queries, items := randomTexts(rng, all.Config, 4, 8), randomTexts(rng, all.Config, 4, 8)
	gradients := func(m *model.TextModel, frozen int) (float32, map[string][]float32) {
		trainer := newTextTrainer(t, m, hostgpu.TextTrainOptions{Pairs: 4, Dropout: -1, FrozenLayers: frozen})
		loss, grads, _, err := trainer.Gradients(queries, items)
		if err != nil {
			t.Fatal(err)
		}
		return loss, grads
	}
	wantLoss, wantGrads := gradients(all, 0)
	loss, grads := gradients(some, 1)
	if math.Abs(float64(loss-wantLoss)) > 1e-5 {
		t.Errorf("loss %v, with nothing frozen %v", loss, wantLoss)
	}
	for name, g := range grads {
		if !strings.HasPrefix(name, model.TextLayerName(1, "")) {
			t.Errorf("%s is frozen and has a gradient", name)
		}
		near(t, name, g, wantGrads[name], 1e-4)
	}
	if len(grads) != 16 {
		t.Errorf("%d gradients, want those of the 16 tensors of a block", len(grads))
	}
}

// interruptAfter returns a context that ends when it is asked for the nth time.
type interruptAfter struct {
	context.Context
	left *int
}

func (c interruptAfter) Err() error {
	if *c.left--; *c.left < 0 {
		return context.Canceled
	}
	return nil
}

func TestTextRunResumes(t *testing.T) {
	eachDevice(t, textRunResumes)
}

func textRunResumes(t *testing.T, d *hostgpu.Device) {
	ds, tok := tastes(t)
	for _, frozen := range []int{0, 1} {
		o := quickText()
		o.FrozenLayers, o.Device = frozen, d
		var want []hostgpu.TextProgress
		keep := func(to *[]hostgpu.TextProgress) func(hostgpu.TextProgress) {
			return func(p hostgpu.TextProgress) {
				if p.Read == 0 {
					*to = append(*to, p)
				}
			}
		}
		m := tasteModel(t, tok)
		whole := newTextRun(t, m, tasteTask(t, ds, tok, m), o)
		if err := whole.Run(t.Context(), "", keep(&want)); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "checkpoint")
		var got []hostgpu.TextProgress
		var last *hostgpu.TextRun
		for i, part := range []struct {
			asked int
			ends  string
		}{
			{0, "step 0 of epoch 1"}, // in the validation before
			{6, "step 4 of epoch 1"},
			{4, "step 8 of epoch 1"}, // in the validation after
			{14, "step 2 of epoch 3"},
			{math.MaxInt, ""},
		} {
			m := tasteModel(t, tok)
			last = newTextRun(t, m, tasteTask(t, ds, tok, m), o)
			if i > 0 {
				if err := last.Resume(path); err != nil {
					t.Fatal(err)
				}
			}
			err := last.Run(interruptAfter{t.Context(), &part.asked}, path, keep(&got))
			if part.ends == "" && err != nil || part.ends != "" && (!errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), part.ends)) {
				t.Fatalf("part %d: error %v, want that of the context after %s", i, err, part.ends)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("frozen %d: the broken run told\n%+v, the unbroken\n%+v", frozen, got, want)
		}
		if !reflect.DeepEqual(last.Model(), whole.Model()) {
			t.Errorf("frozen %d: the resumed run ended with another model than the unbroken one", frozen)
		}
	}
}

func TestTextRunResumeRefuses(t *testing.T) {
	ds, tok := tastes(t)
	m := tasteModel(t, tok)
	task := tasteTask(t, ds, tok, m)
	o := quickText()
	o.Epochs = 1
	path := filepath.Join(t.TempDir(), "checkpoint")
	if err := newTextRun(t, m, task, o).Run(t.Context(), path, nil); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	tensors, meta, err := model.LoadTensors(path)
	if err != nil {
		t.Fatal(err)
	}
	cut, none, odd := filepath.Join(t.TempDir(), "cut"), filepath.Join(t.TempDir(), "none"), filepath.Join(t.TempDir(), "odd")
	if err := os.WriteFile(cut, whole[:len(whole)-9], 0o644); err != nil {
		t.Fatal(err)
	}
	meta["run"] = strings.Replace(meta["run"], `"epoch":1`, `"epoch":7`, 1)
	if err := model.SaveTensors(odd, tensors, meta); err != nil {
		t.Fatal(err)
	}
	fewer := task
	fewer.Valid = fewer.Valid[1:]
	other := tasteModel(t, tok)
	other.Weights[model.TextWord].Data[0]++
	for name, test := range map[string]struct {
		path string
		m    *model.TextModel
		task hostgpu.TextTask
		o    func(*hostgpu.TextTrainOptions)
		want error // nil: it resumes
		says string
	}{
		"the same":          {path, nil, task, nil, nil, ""},
		"another patience":  {path, nil, task, func(o *hostgpu.TextTrainOptions) { o.Patience = 7 }, nil, ""},
		"another rate":      {path, nil, task, func(o *hostgpu.TextTrainOptions) { o.LearningRate = 0.5 }, hostgpu.ErrCheckpoint, "options"},
		"frozen":            {path, nil, task, func(o *hostgpu.TextTrainOptions) { o.FrozenLayers = 1 }, hostgpu.ErrCheckpoint, "options"},
		"other cases":       {path, nil, fewer, nil, hostgpu.ErrCheckpoint, "other texts"},
		"another encoder":   {path, other, task, nil, hostgpu.ErrCheckpoint, "another encoder"},
		"cut off":           {cut, nil, task, nil, hostgpu.ErrCheckpoint, cut},
		"absent":            {none, nil, task, nil, os.ErrNotExist, "--resume"},
		"an epoch too high": {odd, nil, task, nil, hostgpu.ErrCheckpoint, "cannot be"},
	} {
		t.Run(name, func(t *testing.T) {
			o := o
			if test.o != nil {
				test.o(&o)
			}
			m := test.m
			if m == nil {
				m = tasteModel(t, tok)
			}
			err := newTextRun(t, m, test.task, o).Resume(test.path)
			if test.want == nil && err != nil || !errors.Is(err, test.want) || err != nil && !strings.Contains(err.Error(), test.says) {
				t.Errorf("error %v, want %v that says %q", err, test.want, test.says)
			}
		})
	}
}

// A run that diverges says so, and leaves the last good checkpoint and model.
func TestTextRunDiverges(t *testing.T) {
	ds, tok := tastes(t)
	m := tasteModel(t, tok)
	path := filepath.Join(t.TempDir(), "checkpoint")
	r := newTextRun(t, m, tasteTask(t, ds, tok, m), quickText())
	var good []byte
	err := r.Run(t.Context(), path, func(p hostgpu.TextProgress) {
		if p.Done && p.Epoch == 1 {
			var err error
			if good, err = os.ReadFile(path); err != nil {
				t.Fatal(err)
			}
			m.Weights[model.TextNormBias].Data[0] = float32(math.NaN())
		}
	})
	if !errors.Is(err, hostgpu.ErrDiverged) || !strings.Contains(err.Error(), "step 9") {
		t.Fatalf("error %v, want ErrDiverged at step 9", err)
	}
	if after, err := os.ReadFile(path); err != nil || !slices.Equal(after, good) {
		t.Errorf("the checkpoint is no longer that of the first epoch: %v", err)
	}
	if model := r.Model(); model.Weights.Check(model.Config) != nil {
		t.Error("the model is not that of the first epoch")
	}
}

// Where no epoch does better, the run stops after as many as it has patience,
// and what is kept is the encoder as it came.
func TestTextRunStopsEarly(t *testing.T) {
	ds, tok := tastes(t)
	m := tasteModel(t, tok)
	task := tasteTask(t, ds, tok, m)
	for i := range task.Valid { // whatever is learnt is of no use here
		task.Valid[i].Item = task.Valid[0].Item
		task.Valid[i].Query = task.Valid[0].Query
		task.Valid[i].Seen = nil
	}
	for i := range task.Items { // and every item looks like the others
		task.Items[i] = task.Items[0]
	}
	o := quickText()
	o.Epochs, o.Patience = 9, 2
	r := newTextRun(t, m, task, o)
	if err := r.Run(t.Context(), "", nil); err != nil {
		t.Fatal(err)
	}
	if before, best, epoch := r.Best(); before != 0 || best != 0 || epoch != 0 || r.Steps() != 16 {
		t.Errorf("recall@10 %v before, %v in epoch %d, after %d steps; want 0, 0, 0, 16", before, best, epoch, r.Steps())
	}
	if !reflect.DeepEqual(r.Model(), tasteModel(t, tok)) {
		t.Error("what is kept is not the encoder as it came")
	}
	// Without cases there is nothing to stop for.
	task.Valid = nil
	m = tasteModel(t, tok)
	o.Epochs, o.Patience = 2, 1
	r = newTextRun(t, m, task, o)
	if err := r.Run(t.Context(), "", nil); err != nil {
		t.Fatal(err)
	}
	if _, _, epoch := r.Best(); epoch != 2 || !reflect.DeepEqual(r.Model(), m) {
		t.Errorf("it kept epoch %d, want the last, 2", epoch)
	}
}

func TestTextRunRefuses(t *testing.T) {
	good := []int32{1, 2}
	pairs := func(p ...hostgpu.TextPair) func(int) ([]hostgpu.TextPair, error) {
		return func(int) ([]hostgpu.TextPair, error) { return p, nil }
	}
	spoilt := errors.New("spoilt")
	whole := hostgpu.TextTask{Items: [][]int32{good, {3}, nil}, Pairs: pairs(hostgpu.TextPair{Query: good, Item: 0}, hostgpu.TextPair{Query: good, Item: 1})}
	for name, test := range map[string]struct {
		change func(*hostgpu.TextTask, *hostgpu.TextTrainOptions)
		want   error
		says   string
	}{
		"frozen":        {func(_ *hostgpu.TextTask, o *hostgpu.TextTrainOptions) { o.FrozenLayers = 2 }, hostgpu.ErrOptions, "frozen"},
		"epochs":        {func(_ *hostgpu.TextTask, o *hostgpu.TextTrainOptions) { o.Epochs = -1 }, hostgpu.ErrOptions, "epochs"},
		"patience":      {func(_ *hostgpu.TextTask, o *hostgpu.TextTrainOptions) { o.Patience = -1 }, hostgpu.ErrOptions, "patience"},
		"learning rate": {func(_ *hostgpu.TextTask, o *hostgpu.TextTrainOptions) { o.LearningRate = -1 }, hostgpu.ErrOptions, "learning rate"},
		"warm-up":       {func(_ *hostgpu.TextTask, o *hostgpu.TextTrainOptions) { o.Warmup = 1.5 }, hostgpu.ErrOptions, "warm-up"},
		"one pair": {func(k *hostgpu.TextTask, _ *hostgpu.TextTrainOptions) {
			k.Pairs = pairs(hostgpu.TextPair{Query: good})
		}, hostgpu.ErrData, "1 pairs"},
		"an item without text": {func(k *hostgpu.TextTask, _ *hostgpu.TextTrainOptions) {
			k.Pairs = pairs(hostgpu.TextPair{Query: good}, hostgpu.TextPair{Query: good, Item: 2})
		}, hostgpu.ErrData, "item 2"},
		"no such item": {func(k *hostgpu.TextTask, _ *hostgpu.TextTrainOptions) {
			k.Pairs = pairs(hostgpu.TextPair{Query: good}, hostgpu.TextPair{Query: good, Item: 3})
		}, hostgpu.ErrData, "item 3"},
		"a query": {func(k *hostgpu.TextTask, _ *hostgpu.TextTrainOptions) {
			k.Pairs = pairs(hostgpu.TextPair{Query: good}, hostgpu.TextPair{Query: []int32{99}})
		}, model.ErrInput, "pair 1"},
		"an item": {func(k *hostgpu.TextTask, _ *hostgpu.TextTrainOptions) { k.Items = [][]int32{good, {99}} }, model.ErrInput, "item 1"},
		"a case": {func(k *hostgpu.TextTask, _ *hostgpu.TextTrainOptions) {
			k.Valid = []hostgpu.TextCase{{}}
		}, model.ErrInput, "case 0"},
		"a case's item": {func(k *hostgpu.TextTask, _ *hostgpu.TextTrainOptions) {
			k.Valid = []hostgpu.TextCase{{TextPair: hostgpu.TextPair{Query: good}, Seen: []int32{-1}}}
		}, hostgpu.ErrData, "case 0"},
		"no pairs": {func(k *hostgpu.TextTask, _ *hostgpu.TextTrainOptions) {
			k.Pairs = func(int) ([]hostgpu.TextPair, error) { return nil, spoilt }
		}, spoilt, "spoilt"},
	} {
		t.Run(name, func(t *testing.T) {
			task, o := whole, hostgpu.TextTrainOptions{}
			test.change(&task, &o)
			if _, err := hostgpu.NewTextRun(tinyTextModel(t, 1), task, o); !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.says) {
				t.Errorf("error %v, want %v that says %q", err, test.want, test.says)
			}
		})
	}
	// An epoch that is longer than the first shows when it comes.
	task := whole
	task.Pairs = func(epoch int) ([]hostgpu.TextPair, error) {
		all, _ := whole.Pairs(0)
		return slices.Repeat(all, 1+epoch), nil
	}
	r := newTextRun(t, tinyTextModel(t, 1), task, hostgpu.TextTrainOptions{Pairs: 2})
	if err := r.Run(t.Context(), "", nil); !errors.Is(err, hostgpu.ErrData) || !strings.Contains(err.Error(), "epoch 2") {
		t.Errorf("error %v, want ErrData that names epoch 2", err)
	}
}
