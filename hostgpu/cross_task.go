package hostgpu

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/internal/eval"
)

// CrossTask is what a cross-encoder is trained on: lists of items, one of which
// is right for a query, and what a first stage proposes in validation cases.
type CrossTask struct {
	// Texts are those of the items, empty for one without any, which is in no
	// list.
	Texts []string
	// Negatives is the number of wrong items of a list at most.
	Negatives int
	// Lists returns the lists of an epoch, counted from 0, in the order in which
	// they are trained on: as many in each epoch, and for the same epoch the same.
	Lists func(epoch int) ([]CrossList, error)
	// Valid are the validation cases; without any, a run takes all its epochs.
	Valid []CrossCase
}

// CrossList is a query and items, the first of which is right.
type CrossList struct {
	Query string
	Items []int32
}

// CrossCase is a query of a validation.
type CrossCase struct {
	Query string
	Items []int32   // that the first stage ranks highest, best first
	First []float32 // its scores of these, with mean 0 and deviation 1
	// Target is the place of the right item among Items, or -1 where it is not
	// there; Rank, counted from 0, is then the rank that it keeps.
	Target int
	Rank   int32
}

// CrossTaskOptions say how the task of re-ranking is put together. A zero field
// means its default.
type CrossTaskOptions struct {
	Profile    *data.ProfileText // how a user becomes text (data.DefaultProfileText)
	Negatives  int               // of a list (7)
	Pool       int               // best items of the first stage that they are drawn from (50); negative: from all, by popularity
	Candidates int               // best items of the first stage that are re-ranked (DefaultCandidates)
	MaxLists   int               // of an epoch at most (2,000); negative for all
	MaxCases   int               // validation cases at most (300); negative for all
	Seed       uint64            // of the choice of lists, negatives and cases
}

// DefaultCandidates is the number of items that are re-ranked unless asked
// otherwise.
const DefaultCandidates = 30

func (o CrossTaskOptions) withDefaults() (CrossTaskOptions, error) {
	o.Negatives, o.Pool = cmp.Or(o.Negatives, 7), cmp.Or(o.Pool, 50)
	o.Candidates = cmp.Or(o.Candidates, DefaultCandidates)
	o.MaxLists, o.MaxCases = cmp.Or(o.MaxLists, 2_000), cmp.Or(o.MaxCases, 300)
	if o.Negatives < 1 || o.Negatives > 1<<10 {
		return o, fmt.Errorf("%w: %d negatives, must lie between 1 and %d", ErrOptions, o.Negatives, 1<<10)
	}
	if o.Pool > 0 && o.Pool < o.Negatives {
		return o, fmt.Errorf("%w: %d negatives cannot be drawn from a pool of %d", ErrOptions, o.Negatives, o.Pool)
	}
	if o.Candidates < 2 {
		return o, fmt.Errorf("%w: %d candidates to be re-ranked; at least two can be", ErrOptions, o.Candidates)
	}
	return o, nil
}

// profiles renders users and items of a data set as the two texts of a pair.
type profiles struct {
	ds      *data.Dataset
	profile *data.ProfileText
	texts   []string // of the items
}

// newProfiles reads the items' texts; profile may be nil for the default.
func newProfiles(ds *data.Dataset, profile *data.ProfileText) (p profiles, err error) {
	if profile == nil {
		if profile, err = data.NewProfileText(data.DefaultProfileText, 0); err != nil {
			return p, err
		}
	}
	p = profiles{ds: ds, profile: profile, texts: make([]string, len(ds.Items))}
	for i := range ds.Items {
		p.texts[i] = data.ItemText(&ds.Items[i])
	}
	return p, nil
}

func (p *profiles) query(user int32, history []data.Interaction) (string, error) {
	return p.profile.Render(p.ds, &p.ds.Users[user], history)
}

// NewCrossTask returns the task of telling the next item of a user from items
// that the scorer first ranks nearly as high. A list is an event of split.Train
// with the profile as it was before, and items that the user has no training
// event with; first is asked for them with the same history. Where the right item
// does not rank as high as they do there is no list: a re-ranker never meets such a
// case, and would learn that the right item is the one that does not belong. Each
// epoch draws its lists anew. Of split.Valid, some cases are drawn once; first must not have been
// fitted on them.
//
// ctx ends the work of first, in Lists too. The error wraps ErrOptions, ErrData
// where no event makes a list, or data.ErrOptions for a template that cannot
// render a profile, or is that of first.
func NewCrossTask(ctx context.Context, ds *data.Dataset, split *data.Split, first eval.Scorer, opts CrossTaskOptions) (CrossTask, error) {
	o, err := opts.withDefaults()
	if err != nil {
		return CrossTask{}, err
	}
	p, err := newProfiles(ds, o.Profile)
	if err != nil {
		return CrossTask{}, err
	}
	known := make([][]int32, len(ds.Items)) // by which trainedEvents knows an item with a text
	for i, text := range p.texts {
		if text != "" {
			known[i] = []int32{}
		}
	}
	events := trainedEvents(ds, split.Train, known)
	if len(events) == 0 {
		return CrossTask{}, fmt.Errorf("%w: no training event has an item with a text and something known of the user before it; prepare the data with titles or texts of items",
			ErrData)
	}
	task := CrossTask{Texts: p.texts, Negatives: o.Negatives}
	scores := make([]float32, len(ds.Items))
	popular := popularItems(split.Train)
	task.Lists = func(epoch int) ([]CrossList, error) {
		rng := rand.New(rand.NewPCG(o.Seed, uint64(epoch)))
		lists := make([]CrossList, 0, atMost(len(events), o.MaxLists))
		for _, i := range rng.Perm(len(events)) {
			if len(lists) == cap(lists) {
				break
			}
			e := events[i]
			all := split.Train[e.user]
			history, right := all[:e.at], all[e.at].Item
			pool := popular
			if o.Pool > 0 {
				if err := first.Scores(ctx, scores, e.user, history); err != nil {
					return nil, fmt.Errorf("hostgpu: cross-encoder: candidates of user %d: %w", e.user, err)
				}
				pool = best(scores, o.Pool, func(i int32) bool { return i != right && (p.texts[i] == "" || holds(all, i)) })
				if !slices.Contains(pool, right) {
					continue
				}
			}
			items := []int32{right}
			// A pool of all may hold an item several times, and those of the user.
			for tries := 0; len(items) <= o.Negatives && tries < 20*o.Negatives && len(pool) > 0; tries++ {
				if n := pool[rng.IntN(len(pool))]; p.texts[n] != "" && !slices.Contains(items, n) && !holds(all, n) {
					items = append(items, n)
				}
			}
			if len(items) < 2 {
				continue
			}
			query, err := p.query(e.user, history)
			if err != nil {
				return nil, err
			}
			lists = append(lists, CrossList{Query: query, Items: items})
		}
		return lists, nil
	}
	rng := rand.New(rand.NewPCG(o.Seed, 1<<63)) // an epoch that no run has
	for _, i := range rng.Perm(len(split.Valid))[:atMost(len(split.Valid), o.MaxCases)] {
		c := split.Valid[i]
		if err := first.Scores(ctx, scores, c.User, c.History); err != nil {
			return CrossTask{}, fmt.Errorf("hostgpu: cross-encoder: candidates of user %d: %w", c.User, err)
		}
		v := CrossCase{Items: candidates(scores, o.Candidates, c.History)}
		if v.Query, err = p.query(c.User, c.History); err != nil {
			return CrossTask{}, err
		}
		v.First = standardised(scores, v.Items)
		v.Target = slices.Index(v.Items, c.Target.Item)
		for j, s := range scores {
			if at := int32(j); at != c.Target.Item && !(s < scores[c.Target.Item]) && !holds(c.History, at) {
				v.Rank++
			}
		}
		task.Valid = append(task.Valid, v)
	}
	return task, nil
}

// popularItems lists the item of each event: drawing from it is drawing by
// popularity.
func popularItems(histories [][]data.Interaction) []int32 {
	var items []int32
	for _, h := range histories {
		for _, e := range h {
			items = append(items, e.Item)
		}
	}
	return items
}

func holds(history []data.Interaction, item int32) bool {
	return slices.ContainsFunc(history, func(e data.Interaction) bool { return e.Item == item })
}

// candidates returns the n items with the highest scores outside the history,
// the best first.
func candidates(scores []float32, n int, history []data.Interaction) []int32 {
	seen := make(map[int32]bool, len(history))
	for _, e := range history {
		seen[e.Item] = true
	}
	return best(scores, n, func(i int32) bool { return seen[i] })
}

// best returns the n items with the highest scores that are not left out, the
// best first; of items with the same score the lower index comes first.
func best(scores []float32, n int, leftOut func(i int32) bool) []int32 {
	var items []int32
	floor := float32(math.Inf(-1))
	for i, s := range scores {
		if len(items) == n && !(s > floor) || leftOut(int32(i)) {
			continue
		}
		at, _ := slices.BinarySearchFunc(items, s, func(j int32, s float32) int {
			if scores[j] >= s {
				return -1
			}
			return 1
		})
		items = slices.Insert(items, at, int32(i))
		items = items[:min(len(items), n)]
		floor = scores[items[len(items)-1]]
	}
	return items
}

// standardised returns the scores of items, brought to mean 0 and deviation 1.
func standardised(scores []float32, items []int32) []float32 {
	x := make([]float32, len(items))
	for j, item := range items {
		x[j] = scores[item]
	}
	eval.Standardise(x)
	return x
}

// Reranker is a first stage whose best items a cross-encoder puts into a new
// order. It is an eval.Scorer.
type Reranker struct {
	name       string
	first      eval.Scorer
	encoder    *CrossEncoder
	profiles   profiles
	candidates int
	mix        float64
}

// NewReranker returns the re-ranker named name of the items that first ranks
// highest, so many that candidates says, 0 meaning DefaultCandidates, for users of
// ds. They are ordered by the score of first and mix times that of e, both
// brought to mean 0 and deviation 1 over them. A nil profile is the default one.
func NewReranker(name string, first eval.Scorer, e *CrossEncoder, mix float64, ds *data.Dataset, profile *data.ProfileText, candidates int) (*Reranker, error) {
	p, err := newProfiles(ds, profile)
	if err != nil {
		return nil, err
	}
	return &Reranker{name: name, first: first, encoder: e, profiles: p, candidates: cmp.Or(candidates, DefaultCandidates), mix: mix}, nil
}

// Name is the scorer's label.
func (r *Reranker) Name() string { return r.name }

// Scores writes the scores of the first stage to dst, of which the candidates
// have exchanged theirs: the best of them in the new order has the highest. What
// is not among them keeps its score and stays below, and the distribution of
// scores is that of the first stage, so that an eval.Ensemble can add it to
// others.
func (r *Reranker) Scores(ctx context.Context, dst []float32, user int32, history []data.Interaction) error {
	if err := r.first.Scores(ctx, dst, user, history); err != nil {
		return err
	}
	if r.mix == 0 {
		return nil
	}
	items := candidates(dst, r.candidates, history)
	query, err := r.profiles.query(user, history)
	if err != nil {
		return err
	}
	cross := make([]float32, len(items))
	if err := r.encoder.among(ctx, cross, query, items, r.profiles.texts); err != nil {
		return err
	}
	first := standardised(dst, items)
	scores, order := make([]float32, len(items)), make([]int, len(items))
	for j, item := range items {
		scores[j], order[j] = dst[item], j
	}
	mixed := func(j int) float64 { return float64(first[j]) + r.mix*float64(cross[j]) }
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(mixed(b), mixed(a)) })
	for place, j := range order {
		dst[items[j]] = scores[place]
	}
	return nil
}

var _ eval.Scorer = (*Reranker)(nil)
