package hostgpu_test

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/wisp-project/wisp/hostgpu"
	"github.com/wisp-project/wisp/model"
)

func TestClassificationGradient(t *testing.T) {
	const d, c = 5, 3
	for name, test := range map[string]struct {
		targets          []int
		smoothing, share float32
	}{
		"plain":               {[]int{0, 2, 1, 1}, 0, 0},
		"smoothing, dropout":  {[]int{0, 2, 1, 1}, 0.2, 0.4},
		"some are not there":  {[]int{2, 0, -1, -1}, 0.1, 0},
		"none of them is":     {[]int{-1, -1}, 0.1, 0},
		"all of the same one": {[]int{1, 1, 1}, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(21, 0))
			b := len(test.targets)
			k := hostgpu.NewClassification(b, d, c, test.smoothing, hostgpu.NewDropout(test.share, 7, 6, 3))
			checkGradients(t, k, []hostgpu.Arg{
				{Floats: normal(r, b*d, 1)}, {Floats: normal(r, c*d, 0.7)}, {Floats: normal(r, c, 0.7)}, {Ints: test.targets},
			})
		})
	}
}

// Logits 1 and -1 of two classes, the target being the first; with a smoothing of
// 0.2, nine tenths of its mass stay there.
func TestClassificationByHand(t *testing.T) {
	in := []hostgpu.Arg{{Floats: []float32{2, 5}}, {Floats: []float32{0.5, 0, -1, 0}}, {Floats: []float32{0, 1}}, {Ints: []int{0}}}
	first, second := math.Log1p(math.Exp(-2)), math.Log1p(math.Exp(2))
	for smoothing, want := range map[float32]float64{0: first, 0.2: 0.9*first + 0.1*second} {
		if got := hostgpu.NewClassification(1, 2, 2, smoothing, nil).Forward(in)[0]; math.Abs(float64(got)-want) > 1e-6 {
			t.Errorf("smoothing %v: loss %v, want %v", smoothing, got, want)
		}
	}
}

func newTextClassifier(t *testing.T, m *model.TextModel, classes int, opts hostgpu.TextClassifyOptions) *hostgpu.TextClassifier {
	t.Helper()
	run, err := hostgpu.NewTextClassifier(m, classes, opts)
	return opened(t, run, err)
}

// praise makes n texts with one of two words in one of many places, which says
// the class.
func praise(r *rand.Rand, n int) (texts [][]int32, classes []int) {
	for range n {
		ids := make([]int32, 4+r.IntN(9))
		for i := range ids {
			ids[i] = int32(3 + r.IntN(14))
		}
		class := r.IntN(2)
		ids[r.IntN(len(ids))] = int32(1 + class)
		texts, classes = append(texts, ids), append(classes, class)
	}
	return texts, classes
}

// toyModel is a random encoder whose blocks start with small weights.
func toyModel(t *testing.T) *model.TextModel {
	t.Helper()
	m := tinyTextModel(t, 9)
	for name, w := range m.Weights {
		if strings.Contains(name, "layer") && len(w.Shape) > 1 {
			for i := range w.Data {
				w.Data[i] /= 3
			}
		}
	}
	return m
}

func correct(t *testing.T, c *hostgpu.TextClassifier, texts [][]int32, classes []int) float64 {
	t.Helper()
	p, err := c.Predict(t.Context(), texts)
	if err != nil {
		t.Fatal(err)
	}
	right := 0
	for i, class := range classes {
		if math.Abs(float64(p[2*i]+p[2*i+1]-1)) > 1e-5 {
			t.Fatalf("probabilities of text %d are %v", i, p[2*i:2*i+2])
		}
		if p[2*i+class] > 0.5 {
			right++
		}
	}
	return float64(right) / float64(len(classes))
}

// The gradients of the whole graph, with and without frozen blocks, against
// differences of its loss; and what is frozen has none.
func TestTextClassifierGradients(t *testing.T) {
	texts, classes := praise(rand.New(rand.NewPCG(22, 0)), 3)
	for frozen, tensors := range map[int]int{0: 5 + 2*16 + 2, 1: 16 + 2, 2: 2} {
		c := newTextClassifier(t, tinyTextModel(t, 4), 2, hostgpu.TextClassifyOptions{FrozenLayers: frozen, Batch: 4, Dropout: -1})
		// Train fills what is kept, and moves the head away from zero.
		if err := c.Train(t.Context(), texts, classes, nil); err != nil {
			t.Fatal(err)
		}
		r := rand.New(rand.NewPCG(23, 0))
		w := c.Weights()
		copy(w[hostgpu.Head.Weight].Data, normal(r, 2*12, 1))
		loss := func() (float64, map[string][]float32) {
			l, grads, err := c.Gradients(texts, classes)
			if err != nil {
				t.Fatal(err)
			}
			return float64(l), grads
		}
		_, grads := loss()
		if len(grads) != tensors {
			t.Errorf("%d frozen: gradients of %d tensors, want %d", frozen, len(grads), tensors)
		}
		kept := map[string][]float32{}
		for name, g := range grads {
			kept[name] = slices.Clone(g)
		}
		for name, g := range kept {
			norm := length(g)
			if strings.HasSuffix(name, "attn.k.bias") { // softmax takes it away
				if norm > 1e-5 {
					t.Errorf("%s: norm %v, want 0", name, norm)
				}
				continue
			}
			got := slope(w[name].Data, g, 1e-2, func() float64 {
				l, _ := loss()
				return l
			})
			if math.Abs(got-norm) > 0.02*norm+2e-4 {
				t.Errorf("%d frozen: %s: the loss changes by %v, by the gradient %v", frozen, name, got, norm)
			}
		}
	}
}

func TestTextClassifierLearns(t *testing.T) {
	r := rand.New(rand.NewPCG(24, 0))
	texts, classes := praise(r, 300)
	unseen, truth := praise(r, 200)
	m := toyModel(t)
	before := map[string][]float32{}
	for name, w := range m.Weights {
		before[name] = slices.Clone(w.Data)
	}
	for frozen, want := range map[int]float64{0: 0.97, 1: 0.9} {
		c := newTextClassifier(t, m, 2, hostgpu.TextClassifyOptions{FrozenLayers: frozen, Epochs: 12, Batch: 16, LearningRate: 0.01})
		var first, last float64
		steps := 0
		err := c.Train(t.Context(), texts, classes, func(p hostgpu.TextClassifyProgress) {
			steps++
			if p.Step != steps || p.Steps != 12*19 {
				t.Errorf("call %d tells step %d of %d", steps, p.Step, p.Steps)
			}
			if steps == 1 {
				first = p.Loss
			}
			last = p.Loss
			// The rate rises in a tenth of the steps, then falls to zero.
			switch want := map[int]float64{1: 0.01 / 23, 23: 0.01, p.Steps: 0}; steps {
			case 1, 23, p.Steps:
				if math.Abs(p.Rate-want[steps]) > 1e-5 {
					t.Errorf("step %d has the rate %v, want %v", steps, p.Rate, want[steps])
				}
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		if math.Abs(first-math.Ln2) > 1e-5 {
			t.Errorf("%d frozen: the first loss is %v, want ln 2", frozen, first)
		}
		got := correct(t, c, unseen, truth)
		t.Logf("%d frozen: loss %.3f, right %.3f", frozen, last, got)
		if got < want {
			t.Errorf("%d frozen: %v of unseen texts are right, want at least %v", frozen, got, want)
		}
		for name, w := range m.Weights {
			if !slices.Equal(w.Data, before[name]) {
				t.Fatalf("training changed %s of the encoder that it was given", name)
			}
		}
	}
}

// A run depends on the seed and on its arguments, not on what the classifier did
// before.
func TestTextClassifierRepeats(t *testing.T) {
	r := rand.New(rand.NewPCG(25, 0))
	texts, classes := praise(r, 40)
	others, ofOthers := praise(r, 10)
	for _, frozen := range []int{0, 1, 2} {
		m := toyModel(t)
		opts := hostgpu.TextClassifyOptions{FrozenLayers: frozen, Epochs: 2, Batch: 16, LearningRate: 0.01, Seed: 3}
		train := func(c *hostgpu.TextClassifier, texts [][]int32, classes []int) []float32 {
			t.Helper()
			if err := c.Train(t.Context(), texts, classes, nil); err != nil {
				t.Fatal(err)
			}
			p, err := c.Predict(t.Context(), others)
			if err != nil {
				t.Fatal(err)
			}
			return p
		}
		used := newTextClassifier(t, m, 2, opts)
		train(used, append(slices.Clone(texts[:7]), others...), append(slices.Clone(classes[:7]), ofOthers...))
		again := train(used, texts, classes)
		fresh := newTextClassifier(t, m, 2, opts)
		got := train(fresh, texts, classes)
		// What is kept was computed in batches of other sizes, whose products may
		// round in another way.
		near(t, "a second training", again, got, 1e-4)
		if want := []int{0, 40, 40}[frozen]; fresh.Known() != want {
			t.Errorf("%d frozen: %d texts are kept, want %d", frozen, fresh.Known(), want)
		}
		if !slices.Equal(train(fresh, texts, classes), got) {
			t.Errorf("%d frozen: the same training on the same classifier went another way", frozen)
		}
		if !slices.Equal(train(newTextClassifier(t, m, 2, opts), texts, classes), got) {
			t.Errorf("%d frozen: the same training went another way", frozen)
		}
		opts.Seed = 4
		if slices.Equal(train(newTextClassifier(t, m, 2, opts), texts, classes), got) {
			t.Errorf("%d frozen: another seed changed nothing", frozen)
		}
	}
}

// Probabilities are those of the head on the encoder's plain forward pass.
func TestTextClassifierEqualsPlain(t *testing.T) {
	m := toyModel(t)
	texts, classes := praise(rand.New(rand.NewPCG(26, 0)), 30)
	for i := range classes {
		classes[i] += i % 2
	}
	c := newTextClassifier(t, m, 3, hostgpu.TextClassifyOptions{FrozenLayers: 1, Epochs: 2, LearningRate: 0.01})
	p, err := c.Predict(t.Context(), texts)
	if err != nil {
		t.Fatal(err)
	}
	near(t, "before training", p, slices.Repeat([]float32{1. / 3}, 3*len(texts)), 1e-6)
	// What the frozen block makes of the last ten is not kept.
	if err := c.Train(t.Context(), texts[:20], classes[:20], nil); err != nil {
		t.Fatal(err)
	}
	w := c.Weights()
	trained := *m
	trained.Weights, trained.Config.Normalise = w, false
	var want []float32
	for _, ids := range texts {
		y, err := trained.Embed(ids)
		if err != nil {
			t.Fatal(err)
		}
		logits := slices.Clone(w[hostgpu.Head.Bias].Data)
		for k := range logits {
			for i, v := range w[hostgpu.Head.Weight].Row(k) {
				logits[k] += v * y[i]
			}
		}
		hostgpu.Softmax(logits, 1)
		want = append(want, logits...)
	}
	if p, err = c.Predict(t.Context(), texts); err != nil {
		t.Fatal(err)
	}
	near(t, "probabilities", p, want, 1e-4)
}

func TestTextClassifierRefuses(t *testing.T) {
	m := tinyTextModel(t, 1)
	for name, opts := range map[string]hostgpu.TextClassifyOptions{
		"frozen layers": {FrozenLayers: 3},
		"epochs":        {Epochs: -1},
		"batch":         {Batch: 1 << 13},
		"learning rate": {LearningRate: math.NaN()},
		"warm-up":       {Warmup: 1.5},
		"weight decay":  {WeightDecay: 11},
		"clip norm":     {ClipNorm: math.NaN()},
		"dropout":       {Dropout: 1},
		"smoothing":     {Smoothing: 1},
	} {
		if _, err := hostgpu.NewTextClassifier(m, 2, opts); !errors.Is(err, hostgpu.ErrOptions) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: error %v, want ErrOptions that names it", name, err)
		}
	}
	for _, classes := range []int{-1, 0, 1, 1 << 17} {
		if _, err := hostgpu.NewTextClassifier(m, classes, hostgpu.TextClassifyOptions{}); !errors.Is(err, hostgpu.ErrOptions) {
			t.Errorf("%d classes: error %v, want ErrOptions", classes, err)
		}
	}
	c := newTextClassifier(t, m, 2, hostgpu.TextClassifyOptions{FrozenLayers: 1})
	text := []int32{1, 2}
	for name, test := range map[string]struct {
		texts   [][]int32
		classes []int
		want    error
	}{
		"no texts":        {nil, nil, hostgpu.ErrData},
		"a class missing": {[][]int32{text, text}, []int{0}, hostgpu.ErrData},
		"class too high":  {[][]int32{text}, []int{2}, hostgpu.ErrData},
		"class negative":  {[][]int32{text}, []int{-1}, hostgpu.ErrData},
		"empty text":      {[][]int32{text, {}}, []int{0, 1}, model.ErrInput},
		"vocabulary":      {[][]int32{{17}}, []int{0}, model.ErrInput},
		"too long":        {[][]int32{make([]int32, 21)}, []int{0}, model.ErrInput},
	} {
		if err := c.Train(t.Context(), test.texts, test.classes, nil); !errors.Is(err, test.want) {
			t.Errorf("%s: error %v, want %v", name, err, test.want)
		}
	}
	if _, err := c.Predict(t.Context(), [][]int32{text, {99}}); !errors.Is(err, model.ErrInput) {
		t.Errorf("prediction: error %v, want ErrInput", err)
	}
	if p, err := c.Predict(t.Context(), nil); err != nil || len(p) != 0 {
		t.Errorf("prediction of nothing: %v, %v", p, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	steps := 0
	err := c.Train(ctx, [][]int32{text}, []int{1}, func(hostgpu.TextClassifyProgress) { steps++; cancel() })
	if !errors.Is(err, context.Canceled) || steps != 1 {
		t.Errorf("cancelled after a step: error %v after %d steps", err, steps)
	}
	if _, err := c.Predict(ctx, [][]int32{text}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled prediction: %v", err)
	}
	m.Weights[model.TextLayerName(1, "ffn.norm.weight")].Data[0] = float32(math.NaN())
	if err := c.Train(t.Context(), [][]int32{text}, []int{1}, nil); !errors.Is(err, hostgpu.ErrDiverged) {
		t.Errorf("a weight that is not a number: error %v, want ErrDiverged", err)
	}
}
