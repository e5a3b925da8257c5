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
	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/internal/eval"
	"github.com/wisp-project/wisp/internal/tokenize"
	"github.com/wisp-project/wisp/model"
)

func TestListwiseGradient(t *testing.T) {
	const b, m, d = 3, 4, 5
	for name, lengths := range map[string][]int{
		"whole":       {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1},
		"short lists": {3, 2, 0, 0, 5, 0, 1, 1, 0, 0, 0, 0},
		"none":        make([]int, b*m),
	} {
		for _, share := range []float32{0, 0.3} {
			t.Run(fmt.Sprint(name, share), func(t *testing.T) {
				r := rand.New(rand.NewPCG(51, 0))
				checkGradients(t, hostgpu.NewListwise(b, m, d, hostgpu.NewDropout(share, 7, 5, 3)), []hostgpu.Arg{
					{Floats: normal(r, b*m*d, 1)}, {Floats: normal(r, d, 1)}, {Ints: lengths},
				})
			})
		}
	}
}

// The loss of equal scores is the logarithm of the number of items, whatever is
// not there.
func TestListwiseByHand(t *testing.T) {
	in := []hostgpu.Arg{{Floats: make([]float32, 8*2)}, {Floats: []float32{1, -1}}, {Ints: []int{4, 4, 4, 4, 4, 4, 0, 0}}}
	k := hostgpu.NewListwise(2, 4, 2, nil)
	if got, want := float64(k.Forward(in)[0]), (math.Log(4)+math.Log(2))/2; math.Abs(got-want) > 1e-6 {
		t.Errorf("loss %v, want %v", got, want)
	}
	in[0].Floats[0] = 20 // the first is right and far ahead in one list
	if got, want := float64(k.Forward(in)[0]), math.Log(2)/2; math.Abs(got-want) > 1e-6 {
		t.Errorf("loss %v, want %v", got, want)
	}
}

// guesses is a first stage that knows nothing of users: each item has its score.
type guesses []float32

func (guesses) Name() string { return "guesses" }

func (g guesses) Scores(_ context.Context, dst []float32, _ int32, _ []data.Interaction) error {
	copy(dst, g)
	return nil
}

// newGuesses draws scores.
func newGuesses(n int) guesses {
	r := rand.New(rand.NewPCG(52, 0))
	return normal(r, n, 1)
}

// described is the profile of users as tastes describes them.
func described(t *testing.T) *data.ProfileText {
	t.Helper()
	p, err := data.NewProfileText("{{.Description}}", 0)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// crossTask is tastes as a task of re-ranking: what the first stage proposes are
// items of all kinds.
func crossTask(t *testing.T, ds *data.Dataset, first eval.Scorer, change func(*hostgpu.CrossTaskOptions)) hostgpu.CrossTask {
	t.Helper()
	o := hostgpu.CrossTaskOptions{Profile: described(t), MaxLists: 96, MaxCases: 60, Negatives: 3, Candidates: 40, Pool: -1, Seed: 5}
	if change != nil {
		change(&o)
	}
	task, err := hostgpu.NewCrossTask(t.Context(), ds, data.LeaveOneOut(ds, 3), first, o)
	if err != nil {
		t.Fatal(err)
	}
	return task
}

func newCross(t *testing.T, tok *tokenize.Tokenizer) *hostgpu.CrossEncoder {
	t.Helper()
	e, err := hostgpu.NewCrossEncoder(tasteModel(t, tok), tok, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func newCrossRun(t *testing.T, e *hostgpu.CrossEncoder, task hostgpu.CrossTask, o hostgpu.TextTrainOptions) *hostgpu.CrossRun {
	t.Helper()
	run, err := hostgpu.NewCrossRun(e, task, o)
	return opened(t, run, err)
}

func quickCross() hostgpu.TextTrainOptions {
	return hostgpu.TextTrainOptions{Pairs: 32, Epochs: 3, LearningRate: 1e-2, Seed: 1}
}

func TestCrossRunLearns(t *testing.T) {
	ds, tok := tastes(t)
	first := newGuesses(len(ds.Items))
	task := crossTask(t, ds, first, nil)
	o := quickCross()
	o.Epochs, o.Patience = 12, 12
	o.Dropout = -1
	r := newCrossRun(t, newCross(t, tok), task, o)
	var losses, ndcgs []float64
	if err := r.Run(t.Context(), "", func(p hostgpu.TextProgress) {
		if p.Done {
			losses, ndcgs = append(losses, p.Loss), append(ndcgs, p.Valid)
		}
	}); err != nil {
		t.Fatal(err)
	}
	before, after, epoch := r.Best()
	t.Logf("losses %.3v, NDCG@10 %.3v", losses, ndcgs)
	// A constant leaves the order of the first stage and the loss of four equal scores.
	if !(losses[len(losses)-1] < 0.5*math.Log(4)) {
		t.Errorf("the loss is %v; that of a constant is %v", losses[len(losses)-1], math.Log(4))
	}
	if !(after > before+0.15) || ndcgs[epoch] != after {
		t.Errorf("NDCG@10 went from %v to %v in epoch %d; all: %v", before, after, epoch, ndcgs)
	}

	// The re-ranker does on the same cases what validation said, and leaves the
	// first stage as it found it where nothing was learnt.
	split := data.LeaveOneOut(ds, 3)
	measure := func(s eval.Scorer) float64 {
		res, err := eval.Run(t.Context(), s, len(ds.Items), split.Valid, make([]int64, len(ds.Items)), eval.Options{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return res.Accuracy.NDCG
	}
	all := newCrossRun(t, newCross(t, tok), crossTask(t, ds, first, func(o *hostgpu.CrossTaskOptions) { o.MaxCases = -1 }), o)
	if err := all.Run(interrupted(t), "", nil); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if got, _, _ := all.Best(); math.Abs(measure(first)-got) > 1e-9 {
		t.Errorf("NDCG@10 of the first stage is %v, a run says %v", measure(first), got)
	}
	e, mix, err := r.Encoder()
	if err != nil {
		t.Fatal(err)
	}
	if mix == 0 {
		t.Error("the cross-encoder has no weight")
	}
	reranked, err := hostgpu.NewReranker("reranked", first, e, mix, ds, described(t), 40)
	if err != nil {
		t.Fatal(err)
	}
	if got := measure(reranked); !(got > measure(first)+0.12) {
		t.Errorf("NDCG@10 of the re-ranker is %v, of the first stage %v", got, measure(first))
	}
	ensemble, err := eval.FitEnsemble(t.Context(), "both", []eval.Scorer{first, reranked}, len(ds.Items), split.Valid)
	if err != nil {
		t.Fatal(err)
	}
	if ensemble.Weights()[1] == 0 {
		t.Error("an ensemble has no use for the re-ranker")
	}
}

// interrupted is a context that ends after the first validation.
func interrupted(t *testing.T) context.Context {
	t.Helper()
	left := 1
	return interruptAfter{t.Context(), &left}
}

// The re-ranked scores are those of the first stage, exchanged among the
// candidates.
func TestRerankerExchanges(t *testing.T) {
	ds, tok := tastes(t)
	first := newGuesses(len(ds.Items))
	ds.Items[hostgpu.Best(first, 1, func(int32) bool { return false })[0]].Title = "" // which is a candidate all the same
	head := &model.Tensor{Shape: []int{1, 16}, Data: normal(rand.New(rand.NewPCG(53, 0)), 16, 1)}
	e, err := hostgpu.NewCrossEncoder(tasteModel(t, tok), tok, head, 0)
	if err != nil {
		t.Fatal(err)
	}
	const n = 12
	history := ds.Histories[0]
	want := hostgpu.Best(first, n, func(i int32) bool {
		return slices.ContainsFunc(history, func(e data.Interaction) bool { return e.Item == i })
	})
	for _, mix := range []float64{0, 1e-9, 2} {
		r, err := hostgpu.NewReranker("r", first, e, mix, ds, nil, n)
		if err != nil {
			t.Fatal(err)
		}
		got := make([]float32, len(first))
		if err := r.Scores(t.Context(), got, 0, history); err != nil {
			t.Fatal(err)
		}
		moved := 0
		for i := range got {
			if got[i] != first[i] {
				moved++
				if !slices.Contains(want, int32(i)) {
					t.Errorf("mix %v: item %d is no candidate and has another score", mix, i)
				}
			}
		}
		if (moved > 0) != (mix == 2) {
			t.Errorf("mix %v: %d items moved", mix, moved)
		}
		slices.Sort(got)
		if sorted := slices.Sorted(slices.Values(first)); !slices.Equal(got, sorted) {
			t.Errorf("mix %v: the scores are others than those of the first stage", mix)
		}
	}
}

func TestCrossEncoderScores(t *testing.T) {
	ds, tok := tastes(t)
	m := tasteModel(t, tok)
	head := &model.Tensor{Shape: []int{1, 16}, Data: normal(rand.New(rand.NewPCG(53, 0)), 16, 1)}
	e, err := hostgpu.NewCrossEncoder(m, tok, head, 0)
	if err != nil {
		t.Fatal(err)
	}
	texts := []string{"", "item1 kind1", ds.Items[2].Title, "item1 kind1", strings.Repeat("recently liked ", 40)}
	scores := make([]float32, len(texts))
	if err := e.Scores(t.Context(), scores, "taste1 liked", texts); err != nil {
		t.Fatal(err)
	}
	if scores[1] != scores[3] || scores[1] == scores[2] {
		t.Errorf("scores %v; the texts are %q", scores, texts)
	}
	// Each is what the pair has by itself: the mean of its states times the head, scaled.
	for i, text := range texts {
		ids, types := tok.EncodePair(nil, nil, "taste1 liked", text, 32)
		// The plain definition has no types: it reads the difference as part of the words.
		second := model.Weights{}
		for name, x := range m.Weights {
			second[name] = x
		}
		word := m.Weights[model.TextWord]
		kind, d := m.Weights[model.TextType], m.Config.Dim
		both := model.NewTensor(2*word.Shape[0], d)
		for id := range word.Shape[0] {
			for j := range d {
				both.Row(id)[j] = word.Row(id)[j]
				both.Row(word.Shape[0] + id)[j] = word.Row(id)[j] + kind.Row(1)[j] - kind.Row(0)[j]
			}
		}
		second[model.TextWord] = both
		c := m.Config
		c.Vocabulary *= 2
		plain, err := model.NewText(c, second)
		if err != nil {
			t.Fatal(err)
		}
		for j, kind := range types {
			ids[j] += kind * int32(word.Shape[0])
		}
		x, err := plain.Embed(ids)
		if err != nil {
			t.Fatal(err)
		}
		var want float64
		for j, v := range x {
			want += hostgpu.CrossScale * float64(v) * float64(head.Data[j])
		}
		if math.Abs(float64(scores[i])-want) > 1e-3 {
			t.Errorf("score %d is %v, the plain encoder says %v", i, scores[i], want)
		}
	}
}

// Gradients of the whole graph, types included, against finite differences.
func TestCrossGraphGradient(t *testing.T) {
	ds, tok := tastes(t)
	m := tasteModel(t, tok)
	head := &model.Tensor{Shape: []int{1, 16}, Data: normal(rand.New(rand.NewPCG(54, 0)), 16, 1)}
	e, err := hostgpu.NewCrossEncoder(m, tok, head, 0)
	if err != nil {
		t.Fatal(err)
	}
	task := crossTask(t, ds, newGuesses(len(ds.Items)), nil)
	lists, err := task.Lists(0)
	if err != nil {
		t.Fatal(err)
	}
	lists = lists[:2]
	lists[1].Items = lists[1].Items[:2]
	r := newCrossRun(t, e, task, hostgpu.TextTrainOptions{Pairs: 12, Dropout: -1})
	_, grads, err := r.Gradients(lists)
	if err != nil {
		t.Fatal(err)
	}
	for name, g := range grads {
		grads[name] = slices.Clone(g)
	}
	for _, name := range []string{hostgpu.CrossWeight, model.TextType, model.TextNormGain, model.TextLayerName(0, "attn.q.weight"), model.TextLayerName(1, "ffn.up.bias")} {
		w := head
		if name != hostgpu.CrossWeight {
			w = m.Weights[name]
		}
		if w == nil || grads[name] == nil {
			t.Fatalf("no tensor or gradient %q", name)
		}
		var got, want []float32
		for i := 0; i < len(w.Data); i += max(len(w.Data)/8, 1) {
			const h = 1e-2
			was := w.Data[i]
			w.Data[i] = was + h
			up, _, err := r.Gradients(lists)
			if err != nil {
				t.Fatal(err)
			}
			w.Data[i] = was - h
			down, _, err := r.Gradients(lists)
			if err != nil {
				t.Fatal(err)
			}
			w.Data[i] = was
			got, want = append(got, grads[name][i]), append(want, (up-down)/(2*h))
		}
		near(t, name, got, want, 2e-2)
	}
}

func TestCrossRunResumes(t *testing.T) { eachDevice(t, crossRunResumes) }

func crossRunResumes(t *testing.T, d *hostgpu.Device) {
	ds, tok := tastes(t)
	first := newGuesses(len(ds.Items))
	for name, change := range map[string]func(*hostgpu.TextTrainOptions){
		"all":      func(*hostgpu.TextTrainOptions) {},
		"frozen":   func(o *hostgpu.TextTrainOptions) { o.FrozenLayers = 1 },
		"adapters": func(o *hostgpu.TextTrainOptions) { o.AdapterRank = 2 },
	} {
		o := quickCross()
		o.Device = d
		change(&o)
		task := crossTask(t, ds, first, func(o *hostgpu.CrossTaskOptions) { o.Pool = 40 })
		whole := newCrossRun(t, newCross(t, tok), task, o)
		if err := whole.Run(t.Context(), "", nil); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "checkpoint")
		var last *hostgpu.CrossRun
		for i, asked := range []int{5, 70, math.MaxInt} {
			last = newCrossRun(t, newCross(t, tok), task, o)
			if i > 0 {
				if err := last.Resume(path); err != nil {
					t.Fatal(err)
				}
			}
			before := last.Steps()
			err := last.Run(interruptAfter{t.Context(), &asked}, path, nil)
			if i < 2 && !errors.Is(err, context.Canceled) || i == 2 && err != nil || last.Steps() == before {
				t.Fatalf("part %d: error %v after step %d", i, err, last.Steps())
			}
		}
		got, gotMix, err := last.Encoder()
		if err != nil {
			t.Fatal(err)
		}
		want, wantMix, err := whole.Encoder()
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got.Model(), want.Model()) || !reflect.DeepEqual(got.Head(), want.Head()) || gotMix != wantMix {
			t.Errorf("%s: the resumed run ended with another cross-encoder than the unbroken one", name)
		}
		other := crossTask(t, ds, first, nil)
		if err := newCrossRun(t, newCross(t, tok), other, o).Resume(path); !errors.Is(err, hostgpu.ErrCheckpoint) {
			t.Errorf("error %v of a resumption with other lists", err)
		}
	}
}

func TestCrossRunDiverges(t *testing.T) {
	ds, tok := tastes(t)
	e := newCross(t, tok)
	path := filepath.Join(t.TempDir(), "checkpoint")
	r := newCrossRun(t, e, crossTask(t, ds, newGuesses(len(ds.Items)), nil), quickCross())
	err := r.Run(t.Context(), path, func(p hostgpu.TextProgress) {
		if p.Done && p.Epoch == 1 {
			e.Model().Weights[model.TextNormBias].Data[0] = float32(math.NaN())
		}
	})
	if !errors.Is(err, hostgpu.ErrDiverged) {
		t.Fatalf("error %v, want ErrDiverged", err)
	}
	if best, _, err := r.Encoder(); err != nil || best.Model().Weights.Check(best.Model().Config) != nil {
		t.Errorf("what is kept is not the encoder of the first epoch: %v", err)
	}
}

func TestCrossTask(t *testing.T) {
	ds, _ := tastes(t)
	ds.Items[7].Title = ""
	first := newGuesses(len(ds.Items))
	split := data.LeaveOneOut(ds, 3)
	has := func(h []data.Interaction, item int32) bool {
		return slices.ContainsFunc(h, func(e data.Interaction) bool { return e.Item == item })
	}
	for _, pool := range []int{-1, 10} {
		task := crossTask(t, ds, first, func(o *hostgpu.CrossTaskOptions) { o.Pool, o.MaxLists, o.MaxCases = pool, -1, -1 })
		lists, err := task.Lists(3)
		if err != nil {
			t.Fatal(err)
		}
		again, err := task.Lists(3)
		if err != nil || !reflect.DeepEqual(lists, again) {
			t.Errorf("pool %d: an epoch has other lists at the second time", pool)
		}
		users := map[string][]int{} // by query, which is the description here
		for u := range ds.Users {
			users[ds.Users[u].Description] = append(users[ds.Users[u].Description], u)
		}
		top := hostgpu.Best(first, 20, func(int32) bool { return false })
		for _, l := range lists {
			if slices.Contains(l.Items, 7) {
				t.Fatalf("pool %d: a list has the item without a text", pool)
			}
			if !slices.ContainsFunc(users[l.Query], func(u int) bool {
				return has(split.Train[u], l.Items[0]) && !slices.ContainsFunc(l.Items[1:], func(i int32) bool { return has(split.Train[u], i) })
			}) {
				t.Fatalf("pool %d: list %v of %q is of nobody", pool, l.Items, l.Query)
			}
			for _, n := range l.Items {
				if pool > 0 && !slices.Contains(top, n) {
					t.Fatalf("item %d is none of those that rank highest, %v", n, top)
				}
			}
			if len(l.Items) != 4 {
				t.Fatalf("pool %d: a list of %d", pool, len(l.Items))
			}
		}
		if len(task.Valid) != len(split.Valid) {
			t.Errorf("%d cases, want %d", len(task.Valid), len(split.Valid))
		}
	}
}

func TestCrossCaseRank(t *testing.T) {
	c := hostgpu.CrossCase{Items: []int32{4, 5, 6}, First: []float32{1, 0, -1}, Target: 2, Rank: 9}
	for _, test := range []struct {
		scores []float32
		mix    float64
		want   int32
	}{
		{[]float32{0, 0, 0}, 1, 2},
		{[]float32{0, 0, 3}, 1, 0},
		{[]float32{0, 0, 3}, 0, 2},
		{[]float32{0, 0, 1}, 1, 2}, // as good as another is behind it
		{[]float32{float32(math.NaN()), 0, 3}, 1, 1},
	} {
		if got := c.RankBy(test.scores, test.mix); got != test.want {
			t.Errorf("scores %v, weight %v: rank %d, want %d", test.scores, test.mix, got, test.want)
		}
	}
	c.Target = -1
	if got := c.RankBy([]float32{5, 5, 5}, 1); got != 9 {
		t.Errorf("rank %d of a target that is no candidate, want 9", got)
	}
}

func TestCrossRefuses(t *testing.T) {
	ds, tok := tastes(t)
	first := newGuesses(len(ds.Items))
	for name, o := range map[string]hostgpu.CrossTaskOptions{
		"negatives":  {Negatives: -1},
		"pool":       {Negatives: 9, Pool: 8},
		"candidates": {Candidates: 1},
	} {
		if _, err := hostgpu.NewCrossTask(t.Context(), ds, data.LeaveOneOut(ds, 3), first, o); !errors.Is(err, hostgpu.ErrOptions) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: error %v", name, err)
		}
	}
	if _, err := hostgpu.NewCrossTask(t.Context(), ds, &data.Split{}, first, hostgpu.CrossTaskOptions{}); !errors.Is(err, hostgpu.ErrData) {
		t.Errorf("no events: error %v", err)
	}
	m := tasteModel(t, tok)
	for name, test := range map[string]struct {
		head   *model.Tensor
		tokens int
		want   error
	}{
		"few tokens":  {nil, 4, hostgpu.ErrOptions},
		"many tokens": {nil, 33, hostgpu.ErrOptions},
		"head":        {model.NewTensor(16), 0, model.ErrWeights},
	} {
		if _, err := hostgpu.NewCrossEncoder(m, tok, test.head, test.tokens); !errors.Is(err, test.want) {
			t.Errorf("%s: error %v, want %v", name, err, test.want)
		}
	}
	good := crossTask(t, ds, first, nil)
	for name, test := range map[string]struct {
		change func(*hostgpu.CrossTask)
		want   error
	}{
		"no lists":  {func(k *hostgpu.CrossTask) { k.Lists = func(int) ([]hostgpu.CrossList, error) { return nil, nil } }, hostgpu.ErrData},
		"one item":  {oneList(1), hostgpu.ErrData},
		"many":      {oneList(1, 2, 3, 4, 5), hostgpu.ErrData},
		"no item":   {oneList(1, 99), hostgpu.ErrData},
		"no wrong":  {func(k *hostgpu.CrossTask) { k.Negatives = 0 }, hostgpu.ErrOptions},
		"all right": {func(*hostgpu.CrossTask) {}, nil},
	} {
		task := good
		test.change(&task)
		r, err := hostgpu.NewCrossRun(newCross(t, tok), task, quickCross())
		if !errors.Is(err, test.want) {
			t.Errorf("%s: error %v, want %v", name, err, test.want)
		}
		if r != nil {
			if err := r.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

// oneList makes a task that has one list of items.
func oneList(items ...int32) func(*hostgpu.CrossTask) {
	return func(k *hostgpu.CrossTask) {
		k.Lists = func(int) ([]hostgpu.CrossList, error) {
			return []hostgpu.CrossList{{Query: "taste1", Items: items}}, nil
		}
	}
}
