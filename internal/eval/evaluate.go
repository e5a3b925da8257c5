package eval

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"

	"github.com/wisp-project/wisp/internal/data"
)

// Options says how Run measures. The zero value is ready to use.
type Options struct {
	TopK    int // length of the lists and cut of the metrics; default 10
	Workers int // cases scored at a time; default GOMAXPROCS. Results do not depend on it.
	// Among returns the items that the target of a case is ranked among, without
	// those of its history; nil, the default, stands for the whole catalogue. It is
	// called for several cases at a time.
	Among func(c *data.Case) []int32
}

// DefaultTopK is the cut that Options takes where TopK is 0.
const DefaultTopK = 10

// Accuracy sums up the ranks of the targets over all cases.
type Accuracy struct {
	NDCG    float64 `json:"ndcg"`     // at the cut
	HitRate float64 `json:"hit_rate"` // at the cut
	Recall  float64 `json:"recall"`   // at the cut; equals HitRate, a case has one target
	MRR     float64 `json:"mrr"`      // over the whole ranking
}

// Result is what one Scorer did on a list of cases. The slices have one entry
// for each case, in the order of the cases.
type Result struct {
	Scorer string `json:"scorer"`
	Items  int    `json:"items"` // size of the catalogue
	Cases  int    `json:"cases"`
	TopK   int    `json:"top_k"`

	Accuracy Accuracy `json:"accuracy"` // of Rank
	// Pessimistic is the Accuracy of WorstRank. Where it is far from Accuracy,
	// the scorer gives many items the same score and neither is to be trusted.
	Pessimistic Accuracy `json:"pessimistic"`
	Coverage    float64  `json:"coverage"`
	Novelty     float64  `json:"novelty"` // in bits
	Gini        float64  `json:"gini"`

	Users   []int32 `json:"-"`
	Targets []int32 `json:"-"`
	// Rank is the number of items that score strictly higher than the target,
	// WorstRank the number of others that score as high or higher. Both count
	// from 0.
	Rank      []int32 `json:"-"`
	WorstRank []int32 `json:"-"`
	// Lists holds the first TopK items, fewer where the catalogue has no more;
	// of items with the same score the lower index comes first.
	Lists [][]int32 `json:"-"`
}

// PerCase returns the value of m for each case, by Rank.
func (r *Result) PerCase(m Metric) []float64 {
	values := make([]float64, len(r.Rank))
	for i, rank := range r.Rank {
		values[i] = m(rank, r.TopK)
	}
	return values
}

// ExpectedHits returns, for each case, the probability that the target is within
// the first TopK items when those of the same score stand in random order.
func (r *Result) ExpectedHits() []float64 {
	values := make([]float64, len(r.Rank))
	for i, rank := range r.Rank {
		tied := r.WorstRank[i] - rank + 1 // the target among them
		values[i] = float64(min(max(int32(r.TopK)-rank, 0), tied)) / float64(tied)
	}
	return values
}

// Run asks s every case and ranks the whole catalogue of the given number of
// items, or what opts.Among says, without those of the case's history; the target
// itself is always ranked, also where the user had it before or where it has no
// training event. popularity holds the training events of each item and is read for Novelty.
//
// progress, unless nil, is called after each case, one call at a time. The error
// is ErrInput, ErrNaN, the context's or the scorer's; of several cases that fail
// the first is reported.
func Run(ctx context.Context, s Scorer, items int, cases []data.Case, popularity []int64, opts Options, progress func(done, total int)) (*Result, error) {
	if err := check(items, cases, popularity, &opts); err != nil {
		return nil, err
	}
	n := len(cases)
	r := &Result{
		Scorer: s.Name(), Items: items, Cases: n, TopK: opts.TopK,
		Users: make([]int32, n), Targets: make([]int32, n),
		Rank: make([]int32, n), WorstRank: make([]int32, n), Lists: make([][]int32, n),
	}
	if err := r.rankAll(ctx, s, cases, opts, progress); err != nil {
		return nil, err
	}
	r.Accuracy, r.Pessimistic = accuracy(r.Rank, r.TopK), accuracy(r.WorstRank, r.TopK)
	counts := Counts(r.Lists, items)
	r.Coverage, r.Gini = Coverage(counts), Gini(counts)
	r.Novelty = Novelty(r.Lists, popularity)
	return r, nil
}

// check refuses what cannot be measured and fills in the defaults of opts.
func check(items int, cases []data.Case, popularity []int64, opts *Options) error {
	if opts.TopK < 0 || opts.Workers < 0 {
		return fmt.Errorf("%w: TopK %d and Workers %d; want 0 for the default, or more", ErrInput, opts.TopK, opts.Workers)
	}
	if opts.TopK == 0 {
		opts.TopK = DefaultTopK
	}
	if opts.Workers == 0 {
		opts.Workers = runtime.GOMAXPROCS(0)
	}
	if len(cases) == 0 {
		return fmt.Errorf("%w: no cases; nothing to measure", ErrInput)
	}
	if len(popularity) != items {
		return fmt.Errorf("%w: popularity of %d items for a catalogue of %d; want one count for each item", ErrInput, len(popularity), items)
	}
	outside := func(item int32) bool { return item < 0 || int(item) >= items }
	for i, c := range cases {
		if outside(c.Target.Item) || slices.ContainsFunc(c.History, func(e data.Interaction) bool { return outside(e.Item) }) {
			return fmt.Errorf("%w: case %d (user %d) names an item outside the catalogue of %d", ErrInput, i, c.User, items)
		}
	}
	return nil
}

func accuracy(ranks []int32, k int) Accuracy {
	hits := Metric(HitRate).Mean(ranks, k)
	return Accuracy{
		NDCG: Metric(NDCG).Mean(ranks, k), HitRate: hits, Recall: hits,
		MRR: Metric(ReciprocalRank).Mean(ranks, k),
	}
}

// rankAll fills in the slices of r. Cases are handed out in order, and a worker
// that has one finishes it, so that the first case that fails is always reached.
func (r *Result) rankAll(ctx context.Context, s Scorer, cases []data.Case, opts Options, progress func(done, total int)) error {
	var (
		mu         sync.Mutex
		wg         sync.WaitGroup
		next, done int
		failed     = len(cases)
		failure    error
	)
	take := func() (int, bool) {
		mu.Lock()
		defer mu.Unlock()
		if failure != nil || next == len(cases) {
			return 0, false
		}
		next++
		return next - 1, true
	}
	finish := func(i int, err error) {
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			if i < failed {
				failed, failure = i, err
			}
			return
		}
		done++
		if progress != nil {
			progress(done, len(cases))
		}
	}
	for range min(opts.Workers, len(cases)) {
		wg.Go(func() {
			k := newRanker(r.Items, r.TopK)
			k.among = opts.Among
			for i, ok := take(); ok; i, ok = take() {
				finish(i, r.rank(ctx, s, k, i, &cases[i]))
			}
		})
	}
	wg.Wait()
	return failure
}

// rank answers case i.
func (r *Result) rank(ctx context.Context, s Scorer, k *ranker, i int, c *data.Case) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("eval: stopped before case %d of %d: %w", i, len(r.Rank), err)
	}
	if err := s.Scores(ctx, k.scores, c.User, c.History); err != nil {
		return fmt.Errorf("eval: scorer %q, user %d: %w", r.Scorer, c.User, err)
	}
	for item, score := range k.scores {
		if math.IsNaN(float64(score)) {
			return fmt.Errorf("%w: scorer %q, user %d, item %d", ErrNaN, r.Scorer, c.User, item)
		}
	}
	r.Users[i], r.Targets[i] = c.User, c.Target.Item
	r.Rank[i], r.WorstRank[i] = k.rank(c)
	r.Lists[i] = slices.Clone(k.list)
	return nil
}

// ranker holds the buffers of one worker.
type ranker struct {
	scores   []float32
	excluded []bool
	list     []int32 // the best items of the last case
	topK     int
	among    func(c *data.Case) []int32 // Options.Among, nil for the whole catalogue
}

func newRanker(items, topK int) *ranker {
	topK = min(topK, items)
	return &ranker{scores: make([]float32, items), excluded: make([]bool, items), list: make([]int32, 0, topK), topK: topK}
}

// rank returns both ranks of the target of c under k.scores and fills k.list.
func (k *ranker) rank(c *data.Case) (best, worst int32) {
	if k.among != nil {
		for i := range k.excluded {
			k.excluded[i] = true
		}
		for _, i := range k.among(c) {
			k.excluded[i] = false
		}
	}
	for _, e := range c.History {
		k.excluded[e.Item] = true
	}
	target := c.Target.Item
	k.excluded[target] = false
	wanted := k.scores[target]
	k.list = k.list[:0]
	for i, score := range k.scores {
		if k.excluded[i] {
			continue
		}
		if score > wanted {
			best++
		}
		if score >= wanted {
			worst++
		}
		k.offer(int32(i), score)
	}
	clear(k.excluded)
	return best, worst - 1 // the target itself is among those that score as high
}

// offer puts an item into the list if it belongs there. Items come in the order
// of their index, so a later one goes behind those of the same score.
func (k *ranker) offer(item int32, score float32) {
	if len(k.list) == k.topK {
		if score <= k.scores[k.list[k.topK-1]] {
			return
		}
		k.list = k.list[:k.topK-1]
	}
	at := len(k.list)
	for at > 0 && score > k.scores[k.list[at-1]] {
		at--
	}
	k.list = slices.Insert(k.list, at, item)
}
