package hostgpu_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/wisp-project/wisp/hostgpu"
	"github.com/wisp-project/wisp/model"
)

func TestLowRankGradient(t *testing.T) {
	for _, c := range []struct{ out, in, r int }{{4, 6, 2}, {5, 3, 1}, {3, 3, 3}} {
		r := rand.New(rand.NewPCG(41, 0))
		k := hostgpu.NewLowRank(c.out, c.in, c.r, 0.7, normal(r, c.out*c.in, 1))
		checkGradients(t, k, []hostgpu.Arg{{Floats: normal(r, c.r*c.in, 1)}, {Floats: normal(r, c.out*c.r, 1)}})
	}
}

// adapted returns options for adapters of the given rank.
func adapted(rank, frozen int) hostgpu.TextTrainOptions {
	return hostgpu.TextTrainOptions{Pairs: 4, Dropout: -1, AdapterRank: rank, AdapterScale: 0.5, FrozenLayers: frozen, Temperature: 0.5, Seed: 2}
}

// isMatrix says whether name is a matrix of a block from frozen upwards.
func isMatrix(m *model.TextModel, name string, frozen int) bool {
	for l := frozen; l < m.Config.Layers; l++ {
		if strings.HasPrefix(name, model.TextLayerName(l, "")) {
			return len(m.Weights[name].Shape) == 2
		}
	}
	return false
}

// Fresh adapters change nothing, to the bit, and their gradients are those of the
// matrices, handed on to B: dB = s·dW·Aᵀ.
func TestFreshAdapters(t *testing.T) {
	r := rand.New(rand.NewPCG(42, 0))
	for _, frozen := range []int{0, 1} {
		plain, m := tinyTextModel(t, 4), tinyTextModel(t, 4)
		queries, items := randomTexts(r, m.Config, 3, 8), randomTexts(r, m.Config, 3, 8)
		wantLoss, whole, wantEmbeddings, err := newTextTrainer(t, plain, adapted(0, frozen)).Gradients(queries, items)
		if err != nil {
			t.Fatal(err)
		}
		const rank = 3
		trainer := newTextTrainer(t, m, adapted(rank, frozen))
		loss, grads, embeddings, err := trainer.Gradients(queries, items)
		if err != nil {
			t.Fatal(err)
		}
		if loss != wantLoss || !slices.Equal(embeddings, wantEmbeddings) {
			t.Errorf("%d frozen: loss %v, without adapters %v; embeddings equal: %v", frozen, loss, wantLoss, slices.Equal(embeddings, wantEmbeddings))
		}
		matrices := 0
		for name, w := range plain.Weights {
			if !slices.Equal(w.Data, m.Weights[name].Data) {
				t.Errorf("%s is not as it came", name)
			}
			if !isMatrix(m, name, frozen) {
				continue
			}
			matrices++
			out, in := w.Shape[0], w.Shape[1]
			a, want := trainer.Weights()[name+".adapter.a"].Data, make([]float32, out*rank)
			hostgpu.Gemm(false, true, out, rank, in, 0.5, whole[name], in, a, in, 0, want, rank)
			near(t, name, grads[name+".adapter.b"], want, 1e-5)
			for _, g := range grads[name+".adapter.a"] {
				if g != 0 {
					t.Fatalf("the gradient of %s's A is %v with B zero", name, g)
				}
			}
		}
		if want := 6 * (2 - frozen); matrices != want || len(grads) != 2*want {
			t.Errorf("%d frozen: %d matrices and %d gradients, want %d and %d", frozen, matrices, len(grads), want, 2*want)
		}
	}
}

// Adapters as wide as the matrices can be any change of them; and the gradients of
// the whole graph against differences of its loss.
func TestFullWidthAdapters(t *testing.T) {
	m, other := tinyTextModel(t, 4), tinyTextModel(t, 4)
	r := rand.New(rand.NewPCG(43, 0))
	queries, items := randomTexts(r, m.Config, 3, 8), randomTexts(r, m.Config, 3, 8)
	trainer := newTextTrainer(t, m, adapted(20, 0)) // the widest matrix has 20 columns
	w := trainer.Weights()
	for name, x := range other.Weights {
		if !isMatrix(m, name, 0) {
			continue
		}
		// A is the identity, so that B is the change, divided by the scale.
		out, in := x.Shape[0], x.Shape[1]
		a, b := w[name+".adapter.a"].Data, w[name+".adapter.b"].Data
		clear(a)
		for i := range in {
			a[i*in+i] = 1
		}
		change := normal(r, out*in, 0.3)
		for i := range out {
			for j := range in {
				b[i*20+j] = change[i*in+j] / 0.5
				x.Data[i*in+j] += change[i*in+j]
			}
		}
	}
	gradients := func(tr *hostgpu.TextTrainer) (float64, map[string][]float32, []float32) {
		l, grads, embeddings, err := tr.Gradients(queries, items)
		if err != nil {
			t.Fatal(err)
		}
		return float64(l), grads, embeddings
	}
	loss, grads, embeddings := gradients(trainer)
	wantLoss, _, wantEmbeddings := gradients(newTextTrainer(t, other, adapted(0, 0)))
	if math.Abs(loss-wantLoss) > 1e-5 {
		t.Errorf("loss %v, with the matrices changed %v", loss, wantLoss)
	}
	near(t, "embeddings", embeddings, wantEmbeddings, 1e-5)
	kept := map[string][]float32{}
	for name, g := range grads {
		kept[name] = slices.Clone(g)
	}
	for name, g := range kept {
		norm := length(g)
		got := slope(w[name].Data, g, 1e-2, func() float64 {
			l, _, _ := gradients(trainer)
			return l
		})
		if math.Abs(got-norm) > 0.02*norm+2e-4 {
			t.Errorf("%s: the loss changes by %v, by the gradient %v", name, got, norm)
		}
	}
}

// A run with adapters learns; what comes out is an ordinary encoder that computes
// what the adapted graph did; nothing but matrices of blocks that are not frozen
// has moved; and a checkpoint holds adapters only.
func TestAdaptersLearn(t *testing.T) {
	ds, tok := tastes(t)
	for _, frozen := range []int{0, 1} {
		o := quickText()
		o.Epochs, o.AdapterRank, o.FrozenLayers, o.LearningRate = 6, 4, frozen, 3e-2
		m, before := tasteModel(t, tok), tasteModel(t, tok)
		r := newTextRun(t, m, tasteTask(t, ds, tok, m), o)
		path := filepath.Join(t.TempDir(), "checkpoint")
		var losses []float64
		if err := r.Run(t.Context(), path, func(p hostgpu.TextProgress) {
			if p.Done {
				losses = append(losses, p.Loss)
			}
		}); err != nil {
			t.Fatal(err)
		}
		was, best, epoch := r.Best()
		t.Logf("%d frozen: losses %.3v, recall@10 from %v to %v in epoch %d", frozen, losses, was, best, epoch)
		if !(best > was+0.2) || !(losses[len(losses)-1] < 0.9*losses[1]) {
			t.Errorf("%d frozen: losses %v, recall@10 from %v to %v", frozen, losses, was, best)
		}
		merged := r.Model()
		if len(merged.Weights) != len(before.Weights) {
			t.Errorf("the model has %d tensors, want %d", len(merged.Weights), len(before.Weights))
		}
		trained, values := 0, 0
		for name, w := range before.Weights {
			moves := isMatrix(m, name, frozen)
			for _, now := range []*model.TextModel{merged, m} {
				if same := slices.Equal(w.Data, now.Weights[name].Data); same == moves {
					t.Errorf("%d frozen: %s: unchanged is %v", frozen, name, same)
				}
			}
			if moves {
				trained, values = trained+2, values+4*(w.Shape[0]+w.Shape[1])
			}
		}
		if n, _ := r.Parameters(); n != values {
			t.Errorf("%d parameters are trained, want %d", n, values)
		}
		tensors := adapterCheckpoint(t, path)
		if len(tensors) != 4*trained { // weights, best and two moments
			t.Errorf("the checkpoint has %d tensors, want %d", len(tensors), 4*trained)
		}
		// The model is that of the best epoch.
		again := newTextRun(t, merged, tasteTask(t, ds, tok, m), hostgpu.TextTrainOptions{Epochs: 1, Pairs: 16, LearningRate: 1e-9})
		if err := again.Run(t.Context(), "", nil); err != nil {
			t.Fatal(err)
		}
		if got, _, _ := again.Best(); got != best {
			t.Errorf("recall@10 of the model is %v, the best was %v", got, best)
		}
	}
}

// After steps, graph, weights in place and a plain forward pass agree.
func TestAdaptersMerge(t *testing.T) {
	m := tinyTextModel(t, 4)
	r := rand.New(rand.NewPCG(44, 0))
	queries, items := randomTexts(r, m.Config, 4, 8), randomTexts(r, m.Config, 4, 8)
	trainer := newTextTrainer(t, m, adapted(2, 0))
	first, err := trainer.Step(queries, items, 1e-2)
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		if _, err := trainer.Step(queries, items, 1e-2); err != nil {
			t.Fatal(err)
		}
	}
	loss, _, embeddings, err := trainer.Gradients(queries, items)
	if err != nil {
		t.Fatal(err)
	}
	if !(float64(loss) < first-0.1) {
		t.Errorf("the loss went from %v to %v", first, loss)
	}
	var want []float32
	for _, ids := range slices.Concat(queries, items) {
		y, err := m.Embed(ids)
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, y...)
	}
	near(t, "embeddings", embeddings, want, 1e-5)
}

func TestAdaptersResume(t *testing.T) {
	ds, tok := tastes(t)
	o := quickText()
	o.AdapterRank, o.LearningRate = 2, 3e-2
	start := func() *hostgpu.TextRun {
		m := tasteModel(t, tok)
		return newTextRun(t, m, tasteTask(t, ds, tok, m), o)
	}
	// after returns what is told of the epochs from the second.
	after := func(r *hostgpu.TextRun, path string) (told []hostgpu.TextProgress) {
		if err := r.Run(t.Context(), path, func(p hostgpu.TextProgress) {
			if p.Done && p.Epoch > 1 {
				told = append(told, p)
			}
		}); err != nil {
			t.Fatal(err)
		}
		return told
	}
	whole := start()
	want := after(whole, "")
	path := filepath.Join(t.TempDir(), "checkpoint")
	for name, stops := range map[string]func(p hostgpu.TextProgress) bool{
		"within an epoch":   func(p hostgpu.TextProgress) bool { return p.Epoch == 2 && p.Step == 3 },
		"before validation": func(p hostgpu.TextProgress) bool { return p.Epoch == 2 && p.Read > 0 },
	} {
		ctx, cancel := context.WithCancel(t.Context())
		err := start().Run(ctx, path, func(p hostgpu.TextProgress) {
			if stops(p) {
				cancel()
			}
		})
		cancel()
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("%s: error %v, want that of the context", name, err)
		}
		resumed := start()
		if err := resumed.Resume(path); err != nil {
			t.Fatal(err)
		}
		if got := after(resumed, path); !slices.Equal(got, want) || !reflect.DeepEqual(resumed.Model(), whole.Model()) {
			t.Errorf("%s: the resumed run went another way than the unbroken one:\n%+v\n%+v", name, got, want)
		}
	}
	o.AdapterRank = 3
	if err := start().Resume(path); !errors.Is(err, hostgpu.ErrCheckpoint) {
		t.Errorf("another rank: error %v, want ErrCheckpoint", err)
	}
}

// Where no epoch does better, what is kept is the encoder as it came.
func TestAdaptersKeepTheBest(t *testing.T) {
	ds, tok := tastes(t)
	m := tasteModel(t, tok)
	task := tasteTask(t, ds, tok, m)
	task.Items = append(task.Items, nil)
	for i := range task.Valid { // an item without a text is never found
		task.Valid[i].Item = int32(len(task.Items) - 1)
	}
	o := quickText()
	o.Epochs, o.AdapterRank = 1, 2
	r := newTextRun(t, m, task, o)
	if err := r.Run(t.Context(), "", nil); err != nil {
		t.Fatal(err)
	}
	if reflect.DeepEqual(m, tasteModel(t, tok)) {
		t.Error("the run changed nothing")
	}
	if !reflect.DeepEqual(r.Model(), tasteModel(t, tok)) {
		t.Error("what is kept is not the encoder as it came")
	}
}

// With a second loss, both move the same adapters, and the head of the second.
func TestAdaptersWithMaskedLM(t *testing.T) {
	_, tok := tastes(t)
	m, before := tasteModel(t, tok), tasteModel(t, tok)
	r := rand.New(rand.NewPCG(45, 0))
	words := func() [][]int32 {
		texts := randomTexts(r, m.Config, 4, 8)
		for _, ids := range texts {
			for i, id := range ids {
				ids[i] = max(id, 6) // no special token
			}
		}
		return texts
	}
	o := adapted(2, 0)
	o.Losses, o.Special = hostgpu.TextLosses{Contrastive: 1, MaskedLM: 0.5}, tok.Special()
	trainer := newTextTrainer(t, m, o)
	queries, items := words(), words()
	var losses []float64
	for range 30 {
		loss, err := trainer.Step(queries, items, 1e-2)
		if err != nil {
			t.Fatal(err)
		}
		losses = append(losses, loss)
	}
	if first, last := losses[0], losses[len(losses)-1]; !(last < 0.9*first) {
		t.Errorf("the loss went from %v to %v", first, last)
	}
	for name, w := range before.Weights {
		if same := slices.Equal(w.Data, m.Weights[name].Data); same == isMatrix(m, name, 0) {
			t.Errorf("%s: unchanged is %v", name, same)
		}
	}
}

func TestClassifierAdapters(t *testing.T) {
	r := rand.New(rand.NewPCG(46, 0))
	texts, classes := praise(r, 300)
	unseen, truth := praise(r, 200)
	m := toyModel(t)
	opts := hostgpu.TextClassifyOptions{FrozenLayers: 2, Epochs: 12, Batch: 16, LearningRate: 0.03}
	head := newTextClassifier(t, m, 2, opts)
	if err := head.Train(t.Context(), texts, classes, nil); err != nil {
		t.Fatal(err)
	}
	alone := correct(t, head, unseen, truth)
	for frozen, gain := range map[int]float64{0: 0.2, 1: 0.05} {
		opts.FrozenLayers, opts.AdapterRank = frozen, 4
		c := newTextClassifier(t, m, 2, opts)
		if err := c.Remember(t.Context(), unseen); err != nil {
			t.Fatal(err)
		}
		var during, after []float32
		err := c.Train(t.Context(), texts, classes, func(p hostgpu.TextClassifyProgress) {
			if p.Step == p.Steps {
				var err error
				if during, err = c.Predict(t.Context(), unseen); err != nil {
					t.Error(err)
				}
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		if after, err = c.Predict(t.Context(), unseen); err != nil || !slices.Equal(during, after) {
			t.Errorf("%d frozen: predictions after the last step differ from those after it all: %v", frozen, err)
		}
		got := correct(t, c, unseen, truth)
		t.Logf("%d frozen: right %.3f, with the head alone %.3f", frozen, got, alone)
		if got < alone+gain {
			t.Errorf("%d frozen: %v of unseen texts are right, with the head alone %v", frozen, got, alone)
		}
		for name, w := range m.Weights {
			if same := slices.Equal(w.Data, c.Weights()[name].Data); same == isMatrix(m, name, frozen) {
				t.Errorf("%d frozen: %s: unchanged is %v", frozen, name, same)
			}
		}
		// Training anew starts from fresh adapters.
		if err := c.Train(t.Context(), texts, classes, nil); err != nil {
			t.Fatal(err)
		}
		if again, err := c.Predict(t.Context(), unseen); err != nil || !slices.Equal(again, after) {
			t.Errorf("%d frozen: a second training went another way: %v", frozen, err)
		}
	}
}

// A classifier with other options shares what is kept where it is the same.
func TestClassifierWith(t *testing.T) {
	m := toyModel(t)
	texts, classes := praise(rand.New(rand.NewPCG(47, 0)), 40)
	for _, test := range []struct {
		from, to hostgpu.TextClassifyOptions
		known    int
	}{
		{hostgpu.TextClassifyOptions{FrozenLayers: 1}, hostgpu.TextClassifyOptions{FrozenLayers: 1, AdapterRank: 2}, 40},
		{hostgpu.TextClassifyOptions{FrozenLayers: 1}, hostgpu.TextClassifyOptions{FrozenLayers: 2}, 0},
		{hostgpu.TextClassifyOptions{AdapterRank: 1}, hostgpu.TextClassifyOptions{AdapterRank: 2}, 40},
		{hostgpu.TextClassifyOptions{AdapterRank: 1}, hostgpu.TextClassifyOptions{}, 0},
	} {
		t.Run(fmt.Sprintf("%+v", test.to), func(t *testing.T) {
			from := newTextClassifier(t, m, 2, test.from)
			if err := from.Remember(t.Context(), texts); err != nil {
				t.Fatal(err)
			}
			test.to.LearningRate = 0.01
			to, err := from.With(test.to)
			if err != nil {
				t.Fatal(err)
			}
			defer to.Close() //nolint:errcheck // nothing depends on it
			if to.Known() != test.known {
				t.Errorf("%d texts are kept, want %d", to.Known(), test.known)
			}
			fresh := newTextClassifier(t, m, 2, test.to)
			var got [2][]float32
			for i, c := range []*hostgpu.TextClassifier{to, fresh} {
				if err := c.Train(t.Context(), texts, classes, nil); err != nil {
					t.Fatal(err)
				}
				if got[i], err = c.Predict(t.Context(), texts); err != nil {
					t.Fatal(err)
				}
			}
			near(t, "probabilities", got[0], got[1], 1e-4)
		})
	}
	if _, err := newTextClassifier(t, m, 2, hostgpu.TextClassifyOptions{}).With(hostgpu.TextClassifyOptions{Batch: -1}); !errors.Is(err, hostgpu.ErrOptions) {
		t.Errorf("error %v, want ErrOptions", err)
	}
}

func TestClassifierConstantRate(t *testing.T) {
	texts, classes := praise(rand.New(rand.NewPCG(48, 0)), 40)
	c := newTextClassifier(t, toyModel(t), 2, hostgpu.TextClassifyOptions{LearningRate: 0.01, ConstantRate: true})
	err := c.Train(t.Context(), texts, classes, func(p hostgpu.TextClassifyProgress) {
		if p.Rate != 0.01 {
			t.Errorf("step %d has the rate %v", p.Step, p.Rate)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestAdaptersRefuse(t *testing.T) {
	m := tinyTextModel(t, 1)
	for says, o := range map[string]struct {
		rank  int
		scale float64
	}{
		"rank":  {rank: -1},
		"scale": {rank: 1, scale: math.NaN()},
	} {
		if _, err := hostgpu.NewTextTrainer(m, hostgpu.TextTrainOptions{AdapterRank: o.rank, AdapterScale: o.scale}); !errors.Is(err, hostgpu.ErrOptions) || !strings.Contains(err.Error(), says) {
			t.Errorf("trainer: error %v, want ErrOptions that names %s", err, says)
		}
		if _, err := hostgpu.NewTextClassifier(m, 2, hostgpu.TextClassifyOptions{AdapterRank: o.rank, AdapterScale: o.scale}); !errors.Is(err, hostgpu.ErrOptions) || !strings.Contains(err.Error(), says) {
			t.Errorf("classifier: error %v, want ErrOptions that names %s", err, says)
		}
	}
}

// adapterCheckpoint returns the tensors of a checkpoint: weights and moments of adapters alone.
func adapterCheckpoint(t *testing.T, path string) model.Weights {
	t.Helper()
	tensors, _, err := model.LoadTensors(path)
	if err != nil {
		t.Fatal(err)
	}
	for name := range tensors {
		if !strings.Contains(name, ".adapter.") {
			t.Errorf("the checkpoint has %s", name)
		}
	}
	return tensors
}
