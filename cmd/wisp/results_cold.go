package main

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"

	"gonum.org/v1/gonum/stat"

	"github.com/wisp-project/wisp/internal/baseline"
	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/internal/eval"
	"github.com/wisp-project/wisp/internal/results"
)

const coldText = `
What becomes of items that come without a single event, known by their text alone.

Protocol: among the items with at least five events a tenth is hidden for the test and
another tenth for validation, and all events on them are taken away. Each user's last
event on a hidden item is a cold question; its history is what the user did before,
without hidden items. Warm questions are leave-one-out over what is left: the last
event of each user is the test, the one before it validation. As in leave-one-out,
other users' later events are trained on, and the texts of hidden items are part of
the catalogue whose words are counted. Candidates leave out what the user has had,
and items that are hidden for validation, or for the test, when the other is asked. recall10 is the share of questions with the target
among the first ten; items of equal score stand in random order.

- recall10: the whole catalogue is ranked, so new items compete with all known ones.
- among-hidden-recall10: a shelf of new items. Candidates of a cold question are the
  hidden items, those of a warm one as many others with at least five events, drawn at
  random, so that both questions have as many wrong answers.
- boosted-recall10: the whole catalogue, with a constant added to the scores of items
  without events (calibrated stacking, Chao et al. 2016), chosen on validation for
  the highest harmonic mean of cold and warm recall.
- ratio: cold over warm.

The model's vectors (words, text, both, as in teachers.md) and id dropout were chosen
with one seed by the recall of validation questions among hidden items. Intervals: the
model, Student's t over seeds; others, bootstrap over questions. random is exact.
`

// Seeds of what is drawn for the cold start, the same for all models.
const (
	hidingSeed = 1
	othersSeed = 2
)

// cold measures items that training has not seen.
func (b *bench) cold(ctx context.Context) (results.Topic, error) {
	t := results.Topic{Title: "Items without events", Text: coldText}
	vectors := []variant{{name: "words-", vectors: givenVectors{TFIDF: defaultTFIDF}}}
	encoder := filepath.Join(b.shared, "models", "all-MiniLM-L6-v2")
	if _, err := os.Stat(encoder); err == nil {
		vectors = append(vectors,
			variant{name: "text-", vectors: givenVectors{Encoder: encoder}},
			variant{name: "both-", vectors: givenVectors{TFIDF: defaultTFIDF, Encoder: encoder}})
	} else {
		b.p.line("no pretrained encoder: %v", err)
	}
	var variants []variant
	for _, share := range []float64{0, 0.3, 0.6} {
		for _, v := range vectors {
			if v.options.IDDropout = share; share > 0 {
				v.name += fmt.Sprintf("id-dropout-%g-", share)
			}
			variants = append(variants, v)
		}
	}
	for _, set := range b.present(b.sets()...) {
		records, err := b.coldOf(ctx, set, variants)
		if err != nil {
			return t, err
		}
		t.Records = append(t.Records, records...)
	}
	return t, nil
}

func (b *bench) coldOf(ctx context.Context, set set, variants []variant) ([]results.Record, error) {
	ds, fingerprint, err := b.prepared(ctx, set)
	if err != nil {
		return nil, err
	}
	c := data.HideItems(ds, 0.1, minEvents, hidingSeed)
	forValidation, forTest := newColdStart(ds, c, c.Valid, c.Warm.Valid), newColdStart(ds, c, c.Test, c.Warm.Test)
	scorer := func(v variant) (eval.Scorer, error) {
		m, t, _, err := b.trained(ctx, ds, fingerprint, c.Warm, v)
		if err != nil {
			return nil, err
		}
		return teacher(m, t.users).scorer, nil
	}

	var chosen variant
	best := -1.0
	for _, v := range variants {
		v.seed = 1
		s, err := scorer(v)
		if err != nil {
			return nil, err
		}
		hits, err := forValidation.hits(ctx, s, forValidation.amongHidden())
		if err != nil {
			return nil, err
		}
		recall := stat.Mean(hits.cold, nil)
		b.p.line("%s %s: cold validation recall@10 %.4f", set.name, v.name, recall)
		if recall > best {
			chosen, best = v, recall
		}
	}
	s, err := scorer(chosen)
	if err != nil {
		return nil, err
	}
	boost, err := forValidation.chooseBoost(ctx, s)
	if err != nil {
		return nil, err
	}

	r := coldRecords{set: set.name}
	if err := coldBaselines(ctx, &r, ds, fittingData(ds, c.Warm), forTest); err != nil {
		return nil, err
	}
	note := fmt.Sprintf("%s chosen; %d hidden items, %d cold and %d warm questions", chosen.name, len(c.Test.Items), len(c.Test.Cases), len(c.Warm.Test))
	for _, setting := range []struct {
		kind, note string
		boost      float32
		among      candidates
	}{
		{"", note, 0, forTest.catalogue()},
		{"among-hidden-", "", 0, forTest.amongHidden()},
		{"boosted-", fmt.Sprintf("%g added to scores of hidden items", boost), boost, forTest.catalogue()},
	} {
		var cold, warm, ratio []float64
		for chosen.seed = 1; chosen.seed <= b.seeds; chosen.seed++ {
			s, err := scorer(chosen)
			if err != nil {
				return nil, err
			}
			hits, err := forTest.hits(ctx, forTest.boosted(s, setting.boost), setting.among)
			if err != nil {
				return nil, err
			}
			x, y := stat.Mean(hits.cold, nil), stat.Mean(hits.warm, nil)
			cold, warm, ratio = append(cold, x), append(warm, y), append(ratio, x/y)
		}
		for _, f := range []struct {
			name   string
			values []float64
		}{{"cold." + setting.kind + "recall10", cold}, {"warm." + setting.kind + "recall10", warm}, {"cold." + setting.kind + "ratio", ratio}} {
			if err := r.seeds(f.name, f.values, setting.note); err != nil {
				return nil, err
			}
		}
	}
	return r.records, nil
}

// coldBaselines measures what the model stands beside.
func coldBaselines(ctx context.Context, r *coldRecords, ds *data.Dataset, histories [][]data.Interaction, q *coldStart) error {
	popular, err := baseline.NewPopularity(histories, len(ds.Items))
	if err != nil {
		return err
	}
	content, err := baseline.NewContent(ds.Items)
	if err != nil {
		return err
	}
	for _, s := range []eval.Scorer{chance{}, popular, content} {
		for _, setting := range []struct {
			kind  string
			among candidates
		}{{"", q.catalogue()}, {"among-hidden-", q.amongHidden()}} {
			hits, err := q.hits(ctx, s, setting.among)
			if err != nil {
				return err
			}
			for kind, values := range map[string][]float64{"cold.": hits.cold, "warm.": hits.warm} {
				if err := r.cases(kind+s.Name()+"."+setting.kind+"recall10", values); err != nil {
					return err
				}
			}
		}
	}
	slices.SortFunc(r.records, func(a, b results.Record) int { return cmp.Compare(a.Name, b.Name) })
	return nil
}

// coldRecords collects the figures of a data set.
type coldRecords struct {
	set     string
	records []results.Record
}

// seeds adds the mean of a figure that each seed has.
func (r *coldRecords) seeds(name string, values []float64, note string) error {
	return addMean(&r.records, results.Record{Name: "quality." + r.set + "." + name, Note: note}, values)
}

// cases adds the mean of a figure that each question has.
func (r *coldRecords) cases(name string, values []float64) error {
	return addCases(&r.records, "quality."+r.set+"."+name, values)
}

// chance gives all items the same score.
type chance struct{}

// Name returns "random".
func (chance) Name() string { return "random" }

// Scores writes zeros.
func (chance) Scores(_ context.Context, dst []float32, _ int32, _ []data.Interaction) error {
	clear(dst)
	return nil
}

// coldStart asks for hidden items and, beside them, for warm ones.
type coldStart struct {
	hidden, others, all []int32 // all but items that are hidden for other questions
	cold, warm          []data.Case
	had                 [][]int32 // hidden items of either kind in the whole history of each user
	unseen              []bool    // of all items, those without events in training
}

// newColdStart puts together the questions about the hidden items of h, which are
// of c, and about the warm items of warm.
func newColdStart(ds *data.Dataset, c *data.ColdStart, h data.Hidden, warm []data.Case) *coldStart {
	q := &coldStart{hidden: h.Items, others: c.Others, cold: h.Cases, warm: warm, unseen: make([]bool, len(ds.Items))}
	for _, i := range slices.Concat(c.Valid.Items, c.Test.Items) {
		q.unseen[i] = true
	}
	for i := range ds.Items {
		if _, asked := slices.BinarySearch(q.hidden, int32(i)); asked || !q.unseen[i] {
			q.all = append(q.all, int32(i))
		}
	}
	for _, history := range ds.Histories {
		var had []int32
		for _, e := range history {
			if q.unseen[e.Item] {
				had = append(had, e.Item)
			}
		}
		q.had = append(q.had, had)
	}
	return q
}

// candidates says what the targets of questions are ranked among.
type candidates struct{ cold, warm func(*data.Case) []int32 }

// catalogue is all items, for either kind of question.
func (q *coldStart) catalogue() candidates {
	all := func(c *data.Case) []int32 { return q.unknown(c.User, q.all) }
	return candidates{all, all}
}

// amongHidden is the hidden items for a cold question, and as many warm ones,
// drawn at random, for a warm question to the same user. A target is one more.
func (q *coldStart) amongHidden() candidates {
	cold := func(c *data.Case) []int32 { return q.unknown(c.User, q.hidden) }
	return candidates{cold, func(c *data.Case) []int32 {
		rng := rand.New(rand.NewPCG(othersSeed, uint64(c.User)))
		drawn, n := []int32{c.Target.Item}, len(cold(c))+1
		for _, at := range rng.Perm(len(q.others)) {
			i := q.others[at]
			if len(drawn) >= n {
				break
			}
			if i != c.Target.Item && !slices.ContainsFunc(c.History, func(e data.Interaction) bool { return e.Item == i }) {
				drawn = append(drawn, i)
			}
		}
		return drawn
	}}
}

// unknown returns items without the hidden ones that the user has had: they are no
// wrong answers.
func (q *coldStart) unknown(user int32, items []int32) []int32 {
	return slices.DeleteFunc(slices.Clone(items), func(i int32) bool { return q.unseen[i] && slices.Contains(q.had[user], i) })
}

// coldHits are the probabilities of questions to be answered in the first ten.
type coldHits struct{ cold, warm []float64 }

// hits asks s all questions.
func (q *coldStart) hits(ctx context.Context, s eval.Scorer, among candidates) (h coldHits, err error) {
	for _, part := range []struct {
		to    *[]float64
		cases []data.Case
		among func(*data.Case) []int32
	}{{&h.cold, q.cold, among.cold}, {&h.warm, q.warm, among.warm}} {
		r, err := q.ask(ctx, s, part.cases, part.among)
		if err != nil {
			return h, err
		}
		*part.to = r.ExpectedHits()
	}
	return h, nil
}

// ask asks s questions, each among its candidates.
func (q *coldStart) ask(ctx context.Context, s eval.Scorer, cases []data.Case, among func(*data.Case) []int32) (*eval.Result, error) {
	return eval.Run(ctx, s, len(q.unseen), cases, make([]int64, len(q.unseen)), eval.Options{Among: among}, nil)
}

// chooseBoost returns what is best added to the scores of unseen items.
func (q *coldStart) chooseBoost(ctx context.Context, s eval.Scorer) (float32, error) {
	var chosen float32
	best := -1.0
	for boost := float32(0); boost <= 4; boost += 0.5 {
		hits, err := q.hits(ctx, q.boosted(s, boost), q.catalogue())
		if err != nil {
			return 0, err
		}
		cold, warm := stat.Mean(hits.cold, nil), stat.Mean(hits.warm, nil)
		if h := cold * warm / max(cold+warm, math.SmallestNonzeroFloat64); h > best {
			chosen, best = boost, h
		}
	}
	return chosen, nil
}

// boosted adds a constant to the scores of unseen items.
func (q *coldStart) boosted(s eval.Scorer, by float32) eval.Scorer { return boosted{s, q.unseen, by} }

type boosted struct {
	eval.Scorer
	unseen []bool
	by     float32
}

// Scores writes the scores with the constant.
func (b boosted) Scores(ctx context.Context, dst []float32, user int32, history []data.Interaction) error {
	if err := b.Scorer.Scores(ctx, dst, user, history); err != nil {
		return err
	}
	for i, unseen := range b.unseen {
		if unseen {
			dst[i] += b.by
		}
	}
	return nil
}
