package baseline_test

import (
	"errors"
	"math"
	"slices"
	"sync"
	"testing"

	"github.com/wisp-project/wisp/internal/baseline"
	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/internal/eval"
)

// history returns events of the given items, oldest first.
func history(items ...int32) []data.Interaction {
	h := make([]data.Interaction, len(items))
	for i, item := range items {
		h[i] = data.Interaction{Item: item, Time: int64(i)}
	}
	return h
}

// small is what most tests fit on. The users of items 0 to 4 are {0,1,3},
// {0,1,4}, {4}, {3} and none. User 0 has item 0 twice, which counts once.
var small = [][]data.Interaction{history(0, 1, 0), history(0, 1), nil, history(3, 0), history(1, 2)}

const smallItems = 5

var tea = []data.Item{
	{ID: "a", Title: "green tea"},
	{ID: "b", Title: "green tea"},
	{ID: "c", Title: "black COFFEE"},
	{ID: "d", Categories: []string{"coffee"}, Attributes: map[string]string{"colour": "black"}},
	{ID: "e"},
}

func scores(t *testing.T, s eval.Scorer, h []data.Interaction) []float32 {
	t.Helper()
	dst := make([]float32, smallItems)
	for i := range dst {
		dst[i] = float32(math.NaN()) // every score must be written
	}
	must(t, s.Scores(t.Context(), dst, 0, h))
	return dst
}

func TestScores(t *testing.T) {
	popularity, err := baseline.NewPopularity(small, smallItems)
	must(t, err)
	knn, err := baseline.NewItemKNN(small, smallItems, baseline.ItemKNNOptions{})
	must(t, err)
	recent, err := baseline.NewItemKNN(small, smallItems, baseline.ItemKNNOptions{Recency: true})
	must(t, err)
	markov, err := baseline.NewMarkov(small, smallItems)
	must(t, err)
	content, err := baseline.NewContent(tea)
	must(t, err)

	// Cosines: items 0 and 1 share 2 of 3 and 3 users, 0 and 3 share 1 of 3 and 1,
	// 1 and 2 share 1 of 3 and 1.
	far := 1 / math.Sqrt(3)
	// Transitions: 0>1 twice at 1; 0>0 once at 2; 1>0, 1>2 and 3>0 once at 1.
	// Divided by sqrt(3)+1 towards items 0 and 1, by 2 towards 2.
	damp := 1 / (math.Sqrt(3) + 1)
	for _, test := range []struct {
		name   string
		scorer eval.Scorer
		from   []data.Interaction
		want   []float64
	}{
		{"popularity", popularity, nil, []float64{3, 3, 1, 1, 0}},
		{"popularity", popularity, history(4, 2), []float64{3, 3, 1, 1, 0}},
		{"itemknn", knn, nil, []float64{0, 0, 0, 0, 0}},
		{"itemknn", knn, history(4), []float64{0, 0, 0, 0, 0}},
		{"itemknn", knn, history(0), []float64{0, 2. / 3, 0, far, 0}},
		{"itemknn", knn, history(0, 1, 0), []float64{2. / 3, 2. / 3, far, far, 0}},
		{"itemknn-recency", recent, history(0, 1), []float64{2. / 3, 0.8 * 2 / 3, far, 0.8 * far, 0}},
		{"itemknn-recency", recent, history(0, 1, 0), []float64{0.8 * 2 / 3, 2. / 3, 0.8 * far, far, 0}},
		// Item 0 lies 20 events back, one too many.
		{"itemknn-recency", recent, slices.Concat(history(0), slices.Repeat(history(4), 20)), []float64{0, 0, 0, 0, 0}},
		{"itemknn-recency", recent, slices.Concat(history(0), slices.Repeat(history(4), 19)), []float64{0, math.Pow(0.8, 19) * 2 / 3, 0, math.Pow(0.8, 19) * far, 0}},
		{"markov", markov, nil, []float64{0, 0, 0, 0, 0}},
		{"markov", markov, history(0), []float64{0.5 * damp, 2 * damp, 0, 0, 0}},
		{"markov", markov, history(3, 1), []float64{1.8 * damp, 0, 0.5, 0, 0}},
		{"content", content, nil, []float64{0, 0, 0, 0, 0}},
		{"content", content, history(4), []float64{0, 0, 0, 0, 0}},
		{"content", content, history(0), []float64{1, 1, 0, 0, 0}},
		{"content", content, history(2, 0), []float64{1 / math.Sqrt(1.64), 1 / math.Sqrt(1.64), 0.8 / math.Sqrt(1.64), 0.8 / math.Sqrt(1.64), 0}},
	} {
		if test.scorer.Name() != test.name {
			t.Errorf("name %q; want %q", test.scorer.Name(), test.name)
		}
		wantClose(t, test.name, scores(t, test.scorer, test.from), test.want)
	}
}

// TestItemKNNLeavesNoResidue asks for items that nobody has with another: their
// similarity to themselves must vanish altogether, or they would rank above the
// items that are as far away.
func TestItemKNNLeavesNoResidue(t *testing.T) {
	var histories [][]data.Interaction
	for item := range int32(smallItems) {
		histories = append(histories, slices.Repeat([][]data.Interaction{history(item)}, int(5*item+3))...)
	}
	for _, recency := range []bool{false, true} {
		m, err := baseline.NewItemKNN(histories, smallItems, baseline.ItemKNNOptions{Recency: recency})
		must(t, err)
		if got := scores(t, m, history(0, 1, 2, 3, 4)); !slices.Equal(got, make([]float32, smallItems)) {
			t.Errorf("%s: scores %v; want zeros", m.Name(), got)
		}
	}
}

// TestMarkovReach checks the distance at which transitions cease to count.
func TestMarkovReach(t *testing.T) {
	m, err := baseline.NewMarkov([][]data.Interaction{history(0, 4, 4, 4, 4, 1, 2)}, smallItems)
	must(t, err)
	// 0>1 lies five events apart, 0>2 six. Four times 0>4 at 1, 1/2, 1/3 and 1/4.
	wantClose(t, "markov", scores(t, m, history(0)), []float64{0, 0.2 / 2, 0, 0, (1 + 1./2 + 1./3 + 1./4) / 2})
}

// TestEASE compares with the closed form for two items that only share users
// with each other: the weight from i to j is the ridge regression of j on i
// alone, the users of both divided by those of i plus Lambda.
func TestEASE(t *testing.T) {
	histories := [][]data.Interaction{history(0, 1), history(0, 0, 1), history(0), history(4)}
	m, err := baseline.NewEASE(histories, smallItems, baseline.EASEOptions{Lambda: 2})
	must(t, err)
	const to0, to1 = 2. / (2 + 2), 2. / (3 + 2) // from the other item
	recent := m.WithRecency(true)
	if m.Name() != "ease" || recent.Name() != "ease-recency" {
		t.Errorf("names %q and %q", m.Name(), recent.Name())
	}
	wantClose(t, "ease", scores(t, m, history(0, 4)), []float64{0, to1, 0, 0, 0})
	wantClose(t, "ease", scores(t, m, history(1)), []float64{to0, 0, 0, 0, 0})
	wantClose(t, "ease", scores(t, m, history(0, 0, 1)), []float64{to0, to1, 0, 0, 0})
	wantClose(t, "ease-recency", scores(t, recent, history(1, 0)), []float64{0.8 * to0, to1, 0, 0, 0})
	fitted, err := baseline.NewEASE(histories, smallItems, baseline.EASEOptions{Lambda: 2, Recency: true})
	must(t, err)
	if got, want := scores(t, fitted, history(1, 0)), scores(t, recent, history(1, 0)); !slices.Equal(got, want) {
		t.Errorf("fitted with Recency %v; WithRecency gives %v", got, want)
	}
}

func TestEASEDefaultLambda(t *testing.T) {
	byDefault, err := baseline.NewEASE(small, smallItems, baseline.EASEOptions{})
	must(t, err)
	explicit, err := baseline.NewEASE(small, smallItems, baseline.EASEOptions{Lambda: 500})
	must(t, err)
	if got, want := scores(t, byDefault, history(0)), scores(t, explicit, history(0)); !slices.Equal(got, want) {
		t.Errorf("default gives %v; Lambda 500 %v", got, want)
	}
}

func TestErrors(t *testing.T) {
	outside := [][]data.Interaction{history(0), history(1, smallItems)}
	for name, fit := range map[string]func(h [][]data.Interaction, items int) (eval.Scorer, error){
		"popularity": func(h [][]data.Interaction, n int) (eval.Scorer, error) { return baseline.NewPopularity(h, n) },
		"itemknn": func(h [][]data.Interaction, n int) (eval.Scorer, error) {
			return baseline.NewItemKNN(h, n, baseline.ItemKNNOptions{})
		},
		"ease": func(h [][]data.Interaction, n int) (eval.Scorer, error) {
			return baseline.NewEASE(h, n, baseline.EASEOptions{})
		},
		"markov": func(h [][]data.Interaction, n int) (eval.Scorer, error) { return baseline.NewMarkov(h, n) },
		"content": func(h [][]data.Interaction, n int) (eval.Scorer, error) {
			if n == 0 {
				return baseline.NewContent(nil)
			}
			return baseline.NewContent(tea)
		},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := fit(nil, 0); !errors.Is(err, baseline.ErrInput) {
				t.Errorf("empty catalogue: %v", err)
			}
			if name != "content" {
				if _, err := fit(outside, smallItems); !errors.Is(err, baseline.ErrInput) {
					t.Errorf("item outside the catalogue: %v", err)
				}
			}
			s, err := fit(small, smallItems)
			must(t, err)
			dst := make([]float32, smallItems)
			if err := s.Scores(t.Context(), dst[1:], 0, nil); !errors.Is(err, baseline.ErrInput) {
				t.Errorf("short destination: %v", err)
			}
			for _, item := range []int32{-1, smallItems} {
				if err := s.Scores(t.Context(), dst, 0, history(item)); !errors.Is(err, baseline.ErrInput) {
					t.Errorf("history with item %d: %v", item, err)
				}
			}
		})
	}
	for _, lambda := range []float64{-1, math.NaN()} {
		if _, err := baseline.NewEASE(small, smallItems, baseline.EASEOptions{Lambda: lambda}); !errors.Is(err, baseline.ErrInput) {
			t.Errorf("Lambda %g: %v", lambda, err)
		}
	}
	if _, err := baseline.NewEASE(nil, baseline.MaxEASEItems+1, baseline.EASEOptions{}); !errors.Is(err, baseline.ErrInput) {
		t.Errorf("catalogue beyond the limit: %v", err)
	}
}

// TestConcurrentScores finds buffers that two calls share; the race detector
// finds more of them.
func TestConcurrentScores(t *testing.T) {
	content, err := baseline.NewContent(tea)
	must(t, err)
	for _, s := range append(all(t, small, smallItems), content) {
		questions := [][]data.Interaction{history(0), history(1, 2), history(3, 0, 1), nil}
		want := make([][]float32, len(questions))
		for i, h := range questions {
			want[i] = scores(t, s, h)
		}
		var wg sync.WaitGroup
		for i, h := range questions {
			wg.Go(func() {
				dst := make([]float32, smallItems)
				for range 200 {
					if err := s.Scores(t.Context(), dst, 0, h); err != nil || !slices.Equal(dst, want[i]) {
						t.Errorf("%s: %v, %v; alone %v", s.Name(), dst, err, want[i])
						return
					}
				}
			})
		}
		wg.Wait()
	}
}

func wantClose(t *testing.T, name string, got []float32, want []float64) {
	t.Helper()
	for i := range want {
		if !(math.Abs(float64(got[i])-want[i]) < 1e-6) {
			t.Errorf("%s: scores %v; want %v", name, got, want)
			return
		}
	}
}

func TestBytes(t *testing.T) {
	histories := [][]data.Interaction{{{Item: 0}, {Item: 1}}, {{Item: 1}, {Item: 2}}}
	pop, err := baseline.NewPopularity(histories, 3)
	if err != nil {
		t.Fatal(err)
	}
	knn, err := baseline.NewItemKNN(histories, 3, baseline.ItemKNNOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ease, err := baseline.NewEASE(histories, 3, baseline.EASEOptions{})
	if err != nil {
		t.Fatal(err)
	}
	markov, err := baseline.NewMarkov(histories, 3)
	if err != nil {
		t.Fatal(err)
	}
	content, err := baseline.NewContent([]data.Item{{ID: "a", Title: "red shoe"}, {ID: "b", Title: "red"}})
	if err != nil {
		t.Fatal(err)
	}
	// Four pairs of user and item, kept twice; two transitions; "red" in two items.
	for name, c := range map[string]struct{ got, want int64 }{
		"popularity": {pop.Bytes(), 12},
		"itemknn":    {knn.Bytes(), 24 + 2*16},
		"ease":       {ease.Bytes(), 36},
		"markov":     {markov.Bytes(), 8*4 + 8*2},
		"content":    {content.Bytes(), 16},
	} {
		if c.got != c.want {
			t.Errorf("%s: %d bytes, want %d", name, c.got, c.want)
		}
	}
}
