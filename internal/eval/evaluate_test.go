package eval_test

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/internal/eval"
)

// scorer is a Scorer made of a function from user and item to score.
type scorer func(user int32, item int) (float32, error)

func (scorer) Name() string { return "test" }

func (s scorer) Scores(_ context.Context, dst []float32, user int32, _ []data.Interaction) error {
	for i := range dst {
		score, err := s(user, i)
		if err != nil {
			return err
		}
		dst[i] = score
	}
	return nil
}

// table is a Scorer that gives every user the same scores.
func table(scores ...float32) scorer {
	return func(_ int32, item int) (float32, error) { return scores[item], nil }
}

func events(items ...int32) []data.Interaction {
	h := make([]data.Interaction, len(items))
	for i, item := range items {
		h[i].Item = item
	}
	return h
}

func question(user, target int32, history ...int32) data.Case {
	return data.Case{User: user, History: events(history...), Target: data.Interaction{Item: target}}
}

func TestRunRanks(t *testing.T) {
	inf := float32(math.Inf(1))
	for _, test := range []struct {
		name        string
		scores      []float32
		ask         data.Case
		best, worst int32
		list        []int32
	}{
		{"plain", []float32{5, 4, 3, 2, 1}, question(0, 2), 2, 2, []int32{0, 1, 2}},
		{"history excluded", []float32{5, 4, 3, 2, 1}, question(0, 2, 0, 4, 0), 1, 1, []int32{1, 2, 3}},
		{"target in history is ranked", []float32{5, 4, 3, 2, 1}, question(0, 0, 0, 1), 0, 0, []int32{0, 2, 3}},
		{"ties", []float32{1, 2, 1, 1, 2}, question(0, 2), 2, 4, []int32{1, 4, 0}},
		{"excluded ties", []float32{1, 2, 1, 1, 2}, question(0, 2, 0, 1), 1, 2, []int32{4, 2, 3}},
		{"all the same", []float32{0, 0, 0, 0, 0}, question(0, 4), 0, 4, []int32{0, 1, 2}},
		{"infinite", []float32{inf, -inf, 0, -inf, inf}, question(0, 3), 3, 4, []int32{0, 4, 2}},
		{"few left", []float32{5, 4, 3, 2, 1}, question(0, 3, 0, 1, 2), 0, 0, []int32{3, 4}},
	} {
		t.Run(test.name, func(t *testing.T) {
			r, err := eval.Run(t.Context(), table(test.scores...), 5, []data.Case{test.ask}, make([]int64, 5), eval.Options{TopK: 3}, nil)
			if err != nil {
				t.Fatal(err)
			}
			if r.Rank[0] != test.best || r.WorstRank[0] != test.worst {
				t.Errorf("ranks %d and %d; want %d and %d", r.Rank[0], r.WorstRank[0], test.best, test.worst)
			}
			if !slices.Equal(r.Lists[0], test.list) {
				t.Errorf("list %v; want %v", r.Lists[0], test.list)
			}
		})
	}
}

// The target is ranked among what Among says, whatever it was for the case before.
func TestRunAmong(t *testing.T) {
	cases := []data.Case{question(0, 4, 1), question(1, 4, 1), question(2, 0), question(3, 3, 2)}
	among := [][]int32{{0, 1, 2}, {4, 3}, {}, {0, 1, 2, 3, 4}}
	o := eval.Options{TopK: 2, Workers: 1, Among: func(c *data.Case) []int32 { return among[c.User] }}
	r, err := eval.Run(t.Context(), table(5, 4, 3, 2, 1), 5, cases, make([]int64, 5), o, nil)
	if err != nil {
		t.Fatal(err)
	}
	if want := []int32{2, 1, 0, 2}; !slices.Equal(r.Rank, want) {
		t.Errorf("ranks %v; want %v", r.Rank, want)
	}
	if want := [][]int32{{0, 2}, {3, 4}, {0}, {0, 1}}; !reflect.DeepEqual(r.Lists, want) {
		t.Errorf("lists %v; want %v", r.Lists, want)
	}
}

func TestExpectedHits(t *testing.T) {
	r := &eval.Result{TopK: 10, Rank: []int32{9, 10, 8, 8, 0, 10}, WorstRank: []int32{9, 10, 9, 11, 19, 30}}
	if got, want := r.ExpectedHits(), []float64{1, 0, 1, 0.5, 0.5, 0}; !slices.Equal(got, want) {
		t.Errorf("%v; want %v", got, want)
	}
}

func TestRunSummary(t *testing.T) {
	cases := []data.Case{question(7, 1, 0), question(8, 3), question(9, 2)}
	r, err := eval.Run(t.Context(), table(4, 3, 1, 1), 4, cases, []int64{3, 1, 0, 0}, eval.Options{TopK: 2}, nil)
	if err != nil {
		t.Fatal(err)
	}
	// Lists: {1, 2}, {0, 1} and {0, 1}. Ranks: 0, 2 and 2; at worst 0, 3 and 3.
	third := 1. / 3 // a variable, or the sums below are exact and differ in the last bit
	want := &eval.Result{
		Scorer: "test", Items: 4, Cases: 3, TopK: 2,
		Accuracy:    eval.Accuracy{NDCG: 1. / 3, HitRate: 1. / 3, Recall: 1. / 3, MRR: (1 + third + third) / 3},
		Pessimistic: eval.Accuracy{NDCG: 1. / 3, HitRate: 1. / 3, Recall: 1. / 3, MRR: (1 + 1./4 + 1./4) / 3},
		Coverage:    0.75,
		Novelty:     (3*2 + 2*1 + 3) / 6.,
		Gini:        (-3*0 - 1*1 + 1*2 + 3*3) / (4 * 6.),
		Users:       []int32{7, 8, 9}, Targets: []int32{1, 3, 2},
		Rank: []int32{0, 2, 2}, WorstRank: []int32{0, 3, 3},
		Lists: [][]int32{{1, 2}, {0, 1}, {0, 1}},
	}
	if !reflect.DeepEqual(r, want) {
		t.Errorf("got\n%+v; want\n%+v", r, want)
	}
	if got := r.PerCase(eval.HitRate); !slices.Equal(got, []float64{1, 0, 0}) {
		t.Errorf("hits %v", got)
	}
}

// many returns a scorer with noise of few levels, so that there are ties, and
// cases for it.
func many(n, items int) (scorer, []data.Case) {
	rng := rand.New(rand.NewPCG(3, 4))
	cases := make([]data.Case, n)
	for i := range cases {
		cases[i] = question(int32(i), rng.Int32N(int32(items)), rng.Int32N(int32(items)), rng.Int32N(int32(items)))
	}
	return func(user int32, item int) (float32, error) {
		return float32(rand.NewPCG(uint64(user), uint64(item)).Uint64() % 16), nil
	}, cases
}

// TestRunAgainstSorting compares the lists and ranks with those of a full sort.
func TestRunAgainstSorting(t *testing.T) {
	const items = 50
	s, cases := many(40, items)
	r, err := eval.Run(t.Context(), s, items, cases, make([]int64, items), eval.Options{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if r.TopK != eval.DefaultTopK {
		t.Errorf("TopK %d; want the default", r.TopK)
	}
	for i, c := range cases {
		score := func(item int32) float32 { v, _ := s(c.User, int(item)); return v }
		var order []int32
		for item := range int32(items) {
			if item == c.Target.Item || !slices.ContainsFunc(c.History, func(e data.Interaction) bool { return e.Item == item }) {
				order = append(order, item)
			}
		}
		slices.SortStableFunc(order, func(a, b int32) int { return int(score(b) - score(a)) })
		if !slices.Equal(r.Lists[i], order[:10]) {
			t.Errorf("case %d: list %v; want %v", i, r.Lists[i], order[:10])
		}
		best := slices.IndexFunc(order, func(item int32) bool { return score(item) == score(c.Target.Item) })
		worst := len(order) - 1
		for score(order[worst]) < score(c.Target.Item) {
			worst--
		}
		if int(r.Rank[i]) != best || int(r.WorstRank[i]) != worst {
			t.Errorf("case %d: ranks %d and %d; want %d and %d", i, r.Rank[i], r.WorstRank[i], best, worst)
		}
	}
}

func TestRunIgnoresWorkers(t *testing.T) {
	const items = 50
	s, cases := many(100, items)
	var first *eval.Result
	for _, workers := range []int{1, 3, 16} {
		last := 0
		r, err := eval.Run(t.Context(), s, items, cases, make([]int64, items), eval.Options{Workers: workers}, func(done, total int) {
			if done != last+1 || total != len(cases) {
				t.Errorf("progress %d of %d after %d", done, total, last)
			}
			last = done
		})
		if err != nil {
			t.Fatal(err)
		}
		if last != len(cases) {
			t.Errorf("progress ended at %d", last)
		}
		if first == nil {
			first = r
		} else if !reflect.DeepEqual(r, first) {
			t.Errorf("%d workers give another result than 1", workers)
		}
	}
}

func TestRunErrors(t *testing.T) {
	broken := errors.New("broken")
	good := table(1, 2, 3)
	ask := []data.Case{question(0, 1, 2)}
	for _, test := range []struct {
		name       string
		scorer     eval.Scorer
		cases      []data.Case
		popularity []int64
		opts       eval.Options
		want       error
	}{
		{"no cases", good, nil, make([]int64, 3), eval.Options{}, eval.ErrInput},
		{"popularity", good, ask, make([]int64, 2), eval.Options{}, eval.ErrInput},
		{"target outside", good, []data.Case{question(0, 3)}, make([]int64, 3), eval.Options{}, eval.ErrInput},
		{"history outside", good, []data.Case{question(0, 1, -1)}, make([]int64, 3), eval.Options{}, eval.ErrInput},
		{"negative cut", good, ask, make([]int64, 3), eval.Options{TopK: -1}, eval.ErrInput},
		{"negative workers", good, ask, make([]int64, 3), eval.Options{Workers: -1}, eval.ErrInput},
		{"NaN", table(1, 2, float32(math.NaN())), ask, make([]int64, 3), eval.Options{}, eval.ErrNaN},
		{"scorer", scorer(func(int32, int) (float32, error) { return 0, broken }), ask, make([]int64, 3), eval.Options{}, broken},
	} {
		t.Run(test.name, func(t *testing.T) {
			r, err := eval.Run(t.Context(), test.scorer, 3, test.cases, test.popularity, test.opts, nil)
			if !errors.Is(err, test.want) || r != nil {
				t.Errorf("result %v, error %v; want %v", r, err, test.want)
			}
		})
	}
}

// TestRunReportsFirstFailure has two cases fail and asks for the first of them,
// whichever worker comes to it when.
func TestRunReportsFirstFailure(t *testing.T) {
	const items = 20
	good, cases := many(200, items)
	s := scorer(func(user int32, item int) (float32, error) {
		if user == 60 || user == 61 {
			return float32(math.NaN()), nil
		}
		return good(user, item)
	})
	const want = `eval: score is not a number: scorer "test", user 60, item 0`
	for range 20 {
		if _, err := eval.Run(t.Context(), s, items, cases, make([]int64, items), eval.Options{Workers: 8}, nil); err == nil || err.Error() != want {
			t.Fatalf("error %v; want %s", err, want)
		}
	}
}

func TestRunStops(t *testing.T) {
	const items = 20
	s, cases := many(200, items)
	ctx, cancel := context.WithCancel(t.Context())
	asked := 0
	_, err := eval.Run(ctx, s, items, cases, make([]int64, items), eval.Options{Workers: 2}, func(done, _ int) {
		asked = done
		if done == 10 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v; want %v", err, context.Canceled)
	}
	if asked > 20 {
		t.Errorf("%d cases after the context ended at 10", asked)
	}
}
