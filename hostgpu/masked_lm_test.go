package hostgpu_test

import (
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
	"github.com/wisp-project/wisp/internal/tokenize"
	"github.com/wisp-project/wisp/model"
)

// special are the special tokens of tiny models.
var special = tokenize.SpecialIDs{Pad: 0, Unknown: 1, Class: 2, Separator: 3, Mask: 4}

func TestMaskedLMGradient(t *testing.T) {
	const p, d, v = 6, 5, 7
	for name, targets := range map[string][]int{
		"some": {-1, 3, -1, 0, 6, 3},
		"one":  {-1, -1, 2, -1, -1, -1},
		"none": {-1, -1, -1, -1, -1, -1},
	} {
		for _, trained := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, embedding trained %v", name, trained), func(t *testing.T) {
				r := rand.New(rand.NewPCG(21, 0))
				in := []hostgpu.Arg{
					{Floats: normal(r, p*d, 1)},
					{Floats: normal(r, d*d, 0.7)},
					{Floats: normal(r, d, 0.5)},
					{Floats: normal(r, d, 1)},
					{Floats: normal(r, d, 0.5)},
					{Floats: normal(r, v, 0.5)},
					{Ints: targets},
				}
				word := normal(r, v*d, 0.7)
				if trained {
					in, word = append(in, hostgpu.Arg{Floats: word}), nil
				}
				checkGradients(t, hostgpu.NewMaskedLM(p, d, v, word), in)
			})
		}
	}
}

// More rows than are worked on at a time give the mean of them all.
func TestMaskedLMChunks(t *testing.T) {
	const p, d, v = 150, 4, 9
	r := rand.New(rand.NewPCG(22, 0))
	in := []hostgpu.Arg{
		{Floats: normal(r, p*d, 1)},
		{Floats: normal(r, d*d, 0.7)},
		{Floats: normal(r, d, 0.5)},
		{Floats: normal(r, d, 1)},
		{Floats: normal(r, d, 0.5)},
		{Floats: normal(r, v, 0.5)},
		{Ints: indices(r, p, v)},
		{Floats: normal(r, v*d, 0.7)},
	}
	k := hostgpu.NewMaskedLM(p, d, v, nil)
	out := k.Forward(in)
	whole := k.Backward([]float32{1}, out, in)
	var sum float64
	one := hostgpu.NewMaskedLM(1, d, v, nil)
	word := make([]float32, v*d)
	for i := range p {
		alone := slices.Clone(in)
		alone[0].Floats, alone[6].Ints = in[0].Floats[i*d:(i+1)*d], in[6].Ints[i:i+1]
		y := one.Forward(alone)
		sum += float64(y[0])
		for j, g := range one.Backward([]float32{1.0 / p}, y, alone)[7] {
			word[j] += g
		}
	}
	if math.Abs(float64(out[0])-sum/p) > 1e-5 {
		t.Errorf("loss %v, the mean of the rows is %v", out[0], sum/p)
	}
	near(t, "gradient of the embedding", whole[7], word, 1e-5)
}

// Of the tokens that may be, about 15 % are to be guessed; of these most are
// blanks, some are others and some are as they were.
func TestHide(t *testing.T) {
	const vocabulary = 1000
	r := rand.New(rand.NewPCG(23, 0))
	all, blank, kept := 0, 0, 0
	const texts, words = 400, 40
	for range texts {
		ids := []int32{special.Class}
		for range words {
			ids = append(ids, int32(5+r.IntN(vocabulary-5)))
		}
		ids = append(ids, special.Separator, special.Unknown, special.Pad)
		was := slices.Clone(ids)
		hidden := 0
		for i, target := range hostgpu.Hide(ids, special, vocabulary, r) {
			switch {
			case target < 0 && ids[i] != was[i]:
				t.Fatalf("token %d was changed and need not be guessed", i)
			case target < 0:
				continue
			case target != int(was[i]) || was[i] < 5:
				t.Fatalf("token %d is to be guessed as %d, it was %d", i, target, was[i])
			case ids[i] == special.Mask:
				blank++
			case ids[i] == was[i]:
				kept++
			}
			hidden++
		}
		if hidden != 6 { // 15 % of 40
			t.Fatalf("%d tokens of a text are to be guessed, want 6", hidden)
		}
		all += hidden
	}
	if b, k := float64(blank)/float64(all), float64(kept)/float64(all); math.Abs(b-0.8) > 0.03 || math.Abs(k-0.1) > 0.03 {
		t.Errorf("%.3f are blanks and %.3f as they were, want 0.8 and 0.1", b, k)
	}
	for name, test := range map[string]struct {
		ids  []int32
		want int
	}{
		"one word": {[]int32{special.Class, 7, special.Separator}, 1},
		"no word":  {[]int32{special.Class, special.Unknown, special.Separator}, 0},
	} {
		n := 0
		for _, target := range hostgpu.Hide(test.ids, special, vocabulary, r) {
			if target >= 0 {
				n++
			}
		}
		if n != test.want {
			t.Errorf("%s: %d tokens are to be guessed, want %d", name, n, test.want)
		}
	}
}

// The gradients of the whole graph against differences of its loss: that of the
// embedding of words comes from reading and from guessing.
func TestMaskedGraphGradients(t *testing.T) {
	for _, frozen := range []int{0, 1} {
		m := tinyTextModel(t, 24)
		r := rand.New(rand.NewPCG(25, 0))
		texts := randomTexts(r, m.Config, 6, 12)
		trainer := newTextTrainer(t, m, hostgpu.TextTrainOptions{
			Pairs: 4, Dropout: -1, FrozenLayers: frozen, Losses: hostgpu.TextLosses{MaskedLM: 1}, Special: special,
		})
		for _, w := range trainer.Weights() { // the head too shall not be as it starts
			for i, v := range normal(r, len(w.Data), 0.05) {
				w.Data[i] += v
			}
		}
		loss := func() float64 {
			l, _, err := trainer.MaskedGradients(texts)
			if err != nil {
				t.Fatal(err)
			}
			return float64(l)
		}
		_, grads, err := trainer.MaskedGradients(texts)
		if err != nil {
			t.Fatal(err)
		}
		if want := 5 + 16; frozen > 0 && len(grads) != want {
			t.Errorf("%d gradients, want the %d of a block and of the head", len(grads), want)
		}
		if _, ok := grads[model.TextWord]; ok != (frozen == 0) {
			t.Errorf("frozen %d: the embedding of words has a gradient: %v", frozen, ok)
		}
		for name, g := range grads {
			norm := length(g)
			if strings.HasSuffix(name, "attn.k.bias") { // softmax takes it away
				continue
			}
			if got := slope(trainer.Weights()[name].Data, g, 1e-2, loss); math.Abs(got-norm) > 0.02*norm+2e-4 {
				t.Errorf("frozen %d: %s: the loss changes by %v, by the gradient %v", frozen, name, got, norm)
			}
		}
	}
}

// A step on two losses is one down the weighted sum of their gradients.
func TestTextTrainerSumsLosses(t *testing.T) {
	r := rand.New(rand.NewPCG(26, 0))
	c := tinyTextModel(t, 27).Config
	queries, items := randomTexts(r, c, 4, 10), randomTexts(r, c, 4, 10)
	for _, frozen := range []int{0, 1} {
		o := hostgpu.TextTrainOptions{
			Pairs: 4, Dropout: -1, ClipNorm: -1, FrozenLayers: frozen, Special: special, Losses: hostgpu.TextLosses{Contrastive: 2, MaskedLM: 0.5},
		}
		apart := newTextTrainer(t, tinyTextModel(t, 27), o)
		contrastive, grads, _, err := apart.Gradients(queries, items)
		if err != nil {
			t.Fatal(err)
		}
		want := map[string][]float32{}
		add := func(grads map[string][]float32, weight float32) {
			for name, g := range grads {
				if want[name] == nil {
					want[name] = make([]float32, len(g))
				}
				for i, v := range g {
					want[name][i] += weight * v
				}
			}
		}
		add(grads, 2)
		masked, grads, err := apart.MaskedGradients(slices.Concat(queries, items))
		if err != nil {
			t.Fatal(err)
		}
		add(grads, 0.5)

		trainer := newTextTrainer(t, tinyTextModel(t, 27), o)
		loss, err := trainer.Step(queries, items, 1e-3)
		if err != nil {
			t.Fatal(err)
		}
		if sum := 2*float64(contrastive) + 0.5*float64(masked); math.Abs(loss-sum) > 1e-5 {
			t.Errorf("frozen %d: the loss is %v, the sum of both %v", frozen, loss, sum)
		}
		moments := trainer.Moments()
		if len(moments) != len(want) {
			t.Errorf("frozen %d: %d tensors were moved, want %d", frozen, len(moments), len(want))
		}
		for name, m := range moments { // after one step a tenth of the gradient
			got := slices.Clone(m.Data)
			for i := range got {
				got[i] *= 10
			}
			near(t, name, got, want[name], 1e-5)
		}
	}
}

// Each loss alone can be had, and none that is told by a weight of 0.
func TestTextTrainerLosses(t *testing.T) {
	r := rand.New(rand.NewPCG(28, 0))
	texts := randomTexts(r, tinyTextModel(t, 29).Config, 4, 10)
	for name, test := range map[string]struct {
		losses hostgpu.TextLosses
		head   bool
	}{
		"by default":       {hostgpu.TextLosses{}, false},
		"contrastive":      {hostgpu.TextLosses{Contrastive: 3}, false},
		"masked-language":  {hostgpu.TextLosses{MaskedLM: 1}, true},
		"both at one time": {hostgpu.TextLosses{Contrastive: 1, MaskedLM: 0.1}, true},
	} {
		trainer := newTextTrainer(t, tinyTextModel(t, 29), hostgpu.TextTrainOptions{Pairs: 4, Losses: test.losses, Special: special})
		first, last := 0.0, 0.0
		for i := range 60 {
			loss, err := trainer.Step(texts, texts, 3e-3)
			if err != nil {
				t.Fatal(err)
			}
			if last = loss; i == 0 {
				first = loss
			}
		}
		if !(last < 0.9*first) {
			t.Errorf("%s: the loss went from %v to %v", name, first, last)
		}
		if _, ok := trainer.Moments()["mlm.bias"]; ok != test.head {
			t.Errorf("%s: a head was trained: %v", name, ok)
		}
	}
}

func TestTextTrainerRefusesLosses(t *testing.T) {
	masked := hostgpu.TextLosses{MaskedLM: 1}
	for name, test := range map[string]struct {
		o    hostgpu.TextTrainOptions
		says string
	}{
		"negative":          {hostgpu.TextTrainOptions{Losses: hostgpu.TextLosses{Contrastive: -1}}, "contrastive"},
		"no number":         {hostgpu.TextTrainOptions{Losses: hostgpu.TextLosses{MaskedLM: math.NaN()}, Special: special}, "masked-language"},
		"no tokens":         {hostgpu.TextTrainOptions{Losses: masked}, "[MASK]"},
		"no blank":          {hostgpu.TextTrainOptions{Losses: masked, Special: tokenize.SpecialIDs{Class: 2, Mask: -1}}, "[MASK]"},
		"unknown blank":     {hostgpu.TextTrainOptions{Losses: masked, Special: tokenize.SpecialIDs{Mask: 17}}, "token 17"},
		"too much smoothed": {hostgpu.TextTrainOptions{Smoothing: 1}, "smoothing"},
		"wrongly smoothed":  {hostgpu.TextTrainOptions{Smoothing: -0.1}, "smoothing"},
	} {
		if _, err := hostgpu.NewTextTrainer(tinyTextModel(t, 1), test.o); !errors.Is(err, hostgpu.ErrOptions) || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: error %v, want ErrOptions that says %q", name, err, test.says)
		}
	}
}

// rhymes are texts in which each word tells the others: what is hidden can be
// guessed from the rest.
func rhymes(n int) [][]int32 {
	const kinds, words = 6, 4
	r := rand.New(rand.NewPCG(30, 0))
	texts := make([][]int32, n)
	for i := range texts {
		k := r.IntN(kinds)
		texts[i] = []int32{special.Class}
		for range 3 + r.IntN(6) {
			texts[i] = append(texts[i], int32(5+k*words+r.IntN(words)))
		}
		texts[i] = append(texts[i], special.Separator)
	}
	return texts
}

// rhymeModel is a random encoder for rhymes.
func rhymeModel(t *testing.T) *model.TextModel {
	t.Helper()
	m := tinyTextModel(t, 31)
	c := m.Config
	c.Vocabulary = 5 + 6*4
	w := model.Weights{}
	for name, x := range m.Weights {
		w[name] = x
	}
	r := rand.New(rand.NewPCG(32, 0))
	w[model.TextWord] = &model.Tensor{Shape: []int{c.Vocabulary, c.Dim}, Data: normal(r, c.Vocabulary*c.Dim, 0.3)}
	m, err := model.NewText(c, w)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func newPretrainRun(t *testing.T, m *model.TextModel, texts [][]int32, o hostgpu.TextTrainOptions) *hostgpu.TextRun {
	t.Helper()
	run, err := hostgpu.NewPretrainRun(m, texts, o)
	return opened(t, run, err)
}

func quickPretrain() hostgpu.TextTrainOptions {
	return hostgpu.TextTrainOptions{Pairs: 16, Epochs: 3, LearningRate: 1e-2, Seed: 1, Special: special}
}

func TestPretrainLearns(t *testing.T) {
	for name, test := range map[string]struct{ frozen, rank int }{
		"all":      {0, 0},
		"frozen":   {1, 0},
		"adapters": {0, 4},
	} {
		m, texts := rhymeModel(t), rhymes(300)
		o := quickPretrain()
		o.Epochs, o.FrozenLayers, o.AdapterRank = 6, test.frozen, test.rank
		r := newPretrainRun(t, m, slices.Concat(texts, texts[:50], [][]int32{{special.Class, special.Unknown, special.Separator}}), o)
		if train, held := r.Texts(); train+held > 300 || held != (train+held)/20 {
			t.Errorf("%d texts to train on and %d held out of 300", train, held)
		}
		var valid []float64
		if err := r.Run(t.Context(), "", func(p hostgpu.TextProgress) {
			if p.Done {
				valid = append(valid, p.Valid)
			}
		}); err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: losses of held-out texts %.3v", name, valid)
		before, best, epoch := r.Best()
		if before != valid[0] || best != slices.Min(valid) || valid[epoch] != best {
			t.Errorf("%s: best: %v before, %v in epoch %d; losses %v", name, before, best, epoch, valid)
		}
		// Who knows the kind of a text still has four words to choose from.
		if limit := 0.8 * before; !(best < limit && best > math.Log(4)-0.7) {
			t.Errorf("%s: the loss of held-out texts went from %v to %v, want below %v", name, before, best, limit)
		}
		got, was := r.Model(), rhymeModel(t)
		if err := got.Weights.Check(got.Config); err != nil || len(got.Weights) != len(was.Weights) {
			t.Errorf("%s: the model has %d tensors, want %d: %v", name, len(got.Weights), len(was.Weights), err)
		}
		if same := slices.Equal(got.Weights[model.TextWord].Data, was.Weights[model.TextWord].Data); same != (test != struct{ frozen, rank int }{}) {
			t.Errorf("%s: the embedding of words is as it was: %v", name, same)
		}
	}
}

// An encoder that came with its head goes on with it.
func TestPretrainTakesHead(t *testing.T) {
	texts, o := rhymes(300), quickPretrain()
	before := func(m *model.TextModel) float64 {
		r := newPretrainRun(t, m, texts, o)
		if err := r.Run(t.Context(), "", nil); err != nil {
			t.Fatal(err)
		}
		loss, _, _ := r.Best()
		return loss
	}
	o.Epochs = 1
	m := rhymeModel(t)
	fresh := before(m)
	m = rhymeModel(t)
	m.Masked = model.Weights{}
	for _, s := range m.Config.MaskedSpecs() {
		m.Masked[s.Name] = model.NewTensor(s.Shape...) // all zero but for the bias: one guess, whatever is read
	}
	m.Masked[model.MaskedBias].Data[7] = 50
	kept := m.Masked[model.MaskedBias]
	if got := before(m); !(got > 3*fresh) {
		t.Errorf("the loss before is %v with a head that always guesses the same, %v with a fresh one", got, fresh)
	}
	if kept.Data[7] != 50 || kept.Data[0] != 0 {
		t.Error("the head of the model was trained in place")
	}
}

func TestPretrainResumes(t *testing.T) {
	eachDevice(t, pretrainResumes)
}

func pretrainResumes(t *testing.T, d *hostgpu.Device) {
	for _, frozen := range []int{0, 1} {
		o := quickPretrain()
		o.FrozenLayers, o.Device = frozen, d
		texts := rhymes(200)
		var want, got []hostgpu.TextProgress
		keep := func(to *[]hostgpu.TextProgress) func(hostgpu.TextProgress) {
			return func(p hostgpu.TextProgress) {
				if p.Read == 0 {
					*to = append(*to, p)
				}
			}
		}
		whole := newPretrainRun(t, rhymeModel(t), texts, o)
		if err := whole.Run(t.Context(), "", keep(&want)); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "checkpoint")
		var last *hostgpu.TextRun
		for i, part := range []struct {
			asked int
			ends  string
		}{
			{0, "step 0 of epoch 1"}, // in the validation before
			{6, "step 4 of epoch 1"},
			{15, "step 5 of epoch 2"},
			{math.MaxInt, ""},
		} {
			last = newPretrainRun(t, rhymeModel(t), texts, o)
			if i > 0 {
				if err := last.Resume(path); err != nil {
					t.Fatal(err)
				}
			}
			err := last.Run(interruptAfter{t.Context(), &part.asked}, path, keep(&got))
			if part.ends == "" && err != nil || part.ends != "" && (err == nil || !strings.Contains(err.Error(), part.ends)) {
				t.Fatalf("part %d: error %v, want that of the context after %s", i, err, part.ends)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("frozen %d: the broken run told\n%+v, the unbroken\n%+v", frozen, got, want)
		}
		if !reflect.DeepEqual(last.Model(), whole.Model()) {
			t.Errorf("frozen %d: the resumed run ended with another model than the unbroken one", frozen)
		}
		for name, change := range map[string]func(*hostgpu.TextTrainOptions) [][]int32{
			"other texts":  func(*hostgpu.TextTrainOptions) [][]int32 { return texts[1:] },
			"another seed": func(o *hostgpu.TextTrainOptions) [][]int32 { o.Seed++; return texts },
		} {
			o := o
			other := change(&o)
			if err := newPretrainRun(t, rhymeModel(t), other, o).Resume(path); !errors.Is(err, hostgpu.ErrCheckpoint) {
				t.Errorf("%s: error %v, want ErrCheckpoint", name, err)
			}
		}
	}
}

// A run that diverges says so, and leaves the last good checkpoint and model.
func TestPretrainDiverges(t *testing.T) {
	for name, spoil := range map[string]func(p hostgpu.TextProgress) bool{
		"while it trains":    func(p hostgpu.TextProgress) bool { return p.Done && p.Epoch == 1 },
		"while it validates": func(p hostgpu.TextProgress) bool { return p.Epoch == 2 && p.Step == p.Steps && p.Read == 0 },
	} {
		t.Run(name, func(t *testing.T) {
			m := rhymeModel(t)
			path := filepath.Join(t.TempDir(), "checkpoint")
			r := newPretrainRun(t, m, rhymes(200), quickPretrain())
			var good []byte
			err := r.Run(t.Context(), path, func(p hostgpu.TextProgress) {
				if p.Done {
					var err error
					if good, err = os.ReadFile(path); err != nil {
						t.Fatal(err)
					}
				}
				if spoil(p) {
					m.Weights[model.TextNormBias].Data[0] = float32(math.NaN())
				}
			})
			if !errors.Is(err, hostgpu.ErrDiverged) {
				t.Fatalf("error %v, want ErrDiverged", err)
			}
			if after, err := os.ReadFile(path); err != nil || !slices.Equal(after, good) {
				t.Errorf("the checkpoint is no longer the last good one: %v", err)
			}
			if slices.ContainsFunc(r.Model().Weights[model.TextNormBias].Data, func(v float32) bool { return v != v }) {
				t.Error("the model is not that of the best epoch")
			}
		})
	}
}

func TestPretrainRefuses(t *testing.T) {
	good := rhymes(10)
	for name, test := range map[string]struct {
		texts  [][]int32
		change func(*hostgpu.TextTrainOptions)
		want   error
		says   string
	}{
		"no texts":          {nil, nil, hostgpu.ErrData, "0 different texts"},
		"one text twice":    {[][]int32{good[0], good[0]}, nil, hostgpu.ErrData, "1 different texts"},
		"a text too long":   {[][]int32{good[0], make([]int32, 21)}, nil, model.ErrInput, "text 1"},
		"no special tokens": {good, func(o *hostgpu.TextTrainOptions) { o.Special = tokenize.SpecialIDs{} }, hostgpu.ErrOptions, "[MASK]"},
		"frozen":            {good, func(o *hostgpu.TextTrainOptions) { o.FrozenLayers = 2 }, hostgpu.ErrOptions, "frozen"},
	} {
		o := quickPretrain()
		if test.change != nil {
			test.change(&o)
		}
		if _, err := hostgpu.NewPretrainRun(rhymeModel(t), test.texts, o); !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: error %v, want %v that says %q", name, err, test.want, test.says)
		}
	}
}

// One training step of MiniLM on 32 texts of 32 tokens, of which the lowest four
// blocks are frozen or none.
func BenchmarkMiniLMMaskedStep(b *testing.B) {
	for _, frozen := range []int{0, 4} {
		b.Run(fmt.Sprint("frozen", frozen), func(b *testing.B) {
			m := miniLM(b)
			r := rand.New(rand.NewPCG(1, 0))
			texts := make([][]int32, 16)
			for i := range texts {
				texts[i] = make([]int32, 32)
				for j := range texts[i] {
					texts[i][j] = int32(1000 + r.IntN(m.Config.Vocabulary-1000))
				}
			}
			trainer := newTextTrainer(b, m, hostgpu.TextTrainOptions{
				Pairs: 16, FrozenLayers: frozen, Losses: hostgpu.TextLosses{MaskedLM: 1}, Special: tokenize.SpecialIDs{Unknown: 100, Class: 101, Separator: 102, Mask: 103},
			})
			if _, err := trainer.Step(texts, texts, 1e-5); err != nil { // builds the graph
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := trainer.Step(texts, texts, 1e-5); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
