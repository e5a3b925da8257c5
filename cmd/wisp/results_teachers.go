package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"gonum.org/v1/gonum/stat"

	"github.com/wisp-project/wisp/hostgpu"
	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/internal/eval"
	"github.com/wisp-project/wisp/internal/results"
)

const teachersText = `
How much the given item vectors and an ensemble add to the float32 teacher.
Leave-one-out with the protocol of quality.md; means over seeds with Student's t.

- ids-teacher: learnt item embeddings only.
- words-teacher: with TF-IDF of titles, categories and attributes, reduced to 64
  columns (the teacher of quality.md).
- text-teacher: with the embeddings of a frozen pretrained encoder (all-MiniLM-L6-v2)
  in their place.
- both-teacher: with both.
- calm-teacher: both, with a dropout of 0.5 in the place of 0.4.
- single-teacher: the one with text that has the best mean validation NDCG@10, trained again
  for the epochs that validation chose with the validation events, like the baselines.
- best-teacher: all of these with recency-weighted EASE, recency-weighted ItemKNN and
  Markov, standardised and weighted. Weights are chosen on validation, with members
  fitted on training events only; for the test all that have a weight are fitted again
  on all events before it.

The others are trained without the validation events. validation-ndcg10 is what choices
were made on. time-split: the split by time of quality.md, for the variant that
leave-one-out chose.
`

// teachers compares what the item tower is given, and adds the ensemble.
func (b *bench) teachers(ctx context.Context) (results.Topic, error) {
	t := results.Topic{Title: "What text and ensembles add", Text: teachersText}
	variants := b.teacherVariants()
	for _, set := range b.present(b.filmSets()...) {
		records, err := b.teachersOf(ctx, set, variants, companions)
		if err != nil {
			return t, err
		}
		t.Records = append(t.Records, records...)
	}
	return t, nil
}

// teacherVariants are the networks that may vote, those with a text encoder where there
// is one.
func (b *bench) teacherVariants() []variant {
	encoder := filepath.Join(b.shared, "models", "all-MiniLM-L6-v2")
	variants := []variant{{name: "ids-"}, {name: "words-", vectors: givenVectors{TFIDF: defaultTFIDF}}}
	if _, err := os.Stat(encoder); err == nil {
		variants = append(variants,
			variant{name: "text-", vectors: givenVectors{Encoder: encoder}},
			variant{name: "both-", vectors: givenVectors{TFIDF: defaultTFIDF, Encoder: encoder}},
			variant{name: "calm-", vectors: givenVectors{TFIDF: defaultTFIDF, Encoder: encoder}, options: hostgpu.TrainOptions{Dropout: 0.5}})
	} else {
		b.p.line("no pretrained encoder: %v", err)
	}
	return variants
}

// filmSets are the sets of films, with one that only teachers and students are shown on.
func (b *bench) filmSets() []set {
	return append(b.sets(), set{
		"ml-latest-small",
		data.Source{
			Format: "csv", Events: filepath.Join(b.shared, "data", "ml-latest-small", "ratings.csv"),
			Items: filepath.Join(b.shared, "data", "ml-latest-small", "movies.csv"),
			Mapping: data.Mapping{
				User: "userId", Item: "movieId", Value: "rating", Time: "timestamp",
				ID: "movieId", Title: "title", Categories: "genres",
			},
		},
		data.PrepareOptions{Core: 5, NoColdItems: true},
	})
}

// fitter fits the members of an ensemble that need no training.
type fitter func(histories [][]data.Interaction, items int) ([]eval.Scorer, error)

// teachersOf measures the variants on a set, chooses one of them, and adds the
// ensemble of all with what members fits.
func (b *bench) teachersOf(ctx context.Context, set set, variants []variant, members fitter) ([]results.Record, error) {
	ds, fingerprint, err := b.prepared(ctx, set)
	if err != nil {
		return nil, err
	}
	var records []results.Record
	for _, protocol := range []string{leaveOneOut, byTime} {
		if protocol == byTime && ds.OrderOnly {
			continue
		}
		s, err := split(ds, protocol)
		if err != nil {
			return nil, err
		}
		c := contest{bench: b, ds: ds, fingerprint: fingerprint, s: s, prefix: "quality." + set.name + ".", metric: "ndcg10"}
		if protocol == byTime {
			c.metric = "time-split-ndcg10"
		}
		best, err := c.run(ctx, variants, members)
		if err != nil {
			return nil, err
		}
		records = append(records, c.records...)
		variants = []variant{best}
	}
	return records, nil
}

// contest measures teachers on one split of a set.
type contest struct {
	*bench
	ds             *data.Dataset
	fingerprint    string
	s              *data.Split
	counts         []int64
	prefix, metric string
	records        []results.Record
}

// network is a trained variant.
type network struct {
	variant
	t      training
	scorer eval.Scorer
}

// run measures every variant, the best one and the ensemble, and returns the best.
func (c *contest) run(ctx context.Context, variants []variant, members fitter) (variant, error) {
	histories := fittingData(c.ds, c.s)
	c.counts = popularity(histories, len(c.ds.Items))
	// Of each seed the networks, those of the best variant first.
	networks := make([][]network, c.seeds)
	best, bestValidation := variant{}, -1.0
	for _, v := range variants {
		var test, validation []float64
		for i := range networks {
			v.seed = i + 1
			m, t, _, err := c.trained(ctx, c.ds, c.fingerprint, c.s, v)
			if err != nil {
				return best, err
			}
			n := network{v, t, teacher(m, t.users).scorer}
			networks[i] = append(networks[i], n)
			ndcg, err := c.test(ctx, n.scorer)
			if err != nil {
				return best, err
			}
			test, validation = append(test, ndcg), append(validation, t.BestNDCG)
		}
		if err := c.add(v.name+"teacher."+c.metric, test, ""); err != nil {
			return best, err
		}
		if err := c.add(v.name+"teacher.validation-"+c.metric, validation, ""); err != nil {
			return best, err
		}
		alone := v.vectors == (givenVectors{}) && len(variants) > 1 // single-teacher reads text
		if mean := stat.Mean(validation, nil); mean > bestValidation && !alone {
			best, bestValidation = v, mean
			for _, n := range networks {
				n[0], n[len(n)-1] = n[len(n)-1], n[0]
			}
		}
	}
	var single []float64
	for _, n := range networks {
		scorer, err := c.refitted(ctx, n[0])
		if err != nil {
			return best, err
		}
		ndcg, err := c.test(ctx, scorer)
		if err != nil {
			return best, err
		}
		single = append(single, ndcg)
	}
	if err := c.add("single-teacher."+c.metric, single, "the "+best.name+"teacher, chosen on validation"); err != nil {
		return best, err
	}
	return best, c.ensembles(ctx, networks, histories, members)
}

// ensembles measures the ensemble of each seed's networks with members.
func (c *contest) ensembles(ctx context.Context, networks [][]network, histories [][]data.Interaction, members fitter) error {
	forTest, err := members(histories, len(c.ds.Items))
	if err != nil {
		return err
	}
	forValidation, err := members(c.s.Train, len(c.ds.Items))
	if err != nil {
		return err
	}
	var values []float64
	var names, weights []string
	for _, n := range networks[0] {
		names = append(names, strings.TrimSuffix(n.name, "-"))
	}
	for _, m := range forTest {
		names = append(names, m.Name())
	}
	for i, ns := range networks {
		c.p.line("%s: ensemble of seed %d", c.ds.Name, i+1)
		var before, after []eval.Scorer
		for _, n := range ns {
			before = append(before, n.scorer)
		}
		fitted, err := eval.FitEnsemble(ctx, "best-teacher", append(before, forValidation...), len(c.ds.Items), spread(c.s.Valid, weighed))
		if err != nil {
			return err
		}
		w := fitted.Weights()
		for j, n := range ns {
			scorer := n.scorer
			if w[j] > 0 {
				if scorer, err = c.refitted(ctx, n); err != nil {
					return err
				}
			}
			after = append(after, scorer)
		}
		final, err := eval.NewEnsemble("best-teacher", append(after, forTest...), w)
		if err != nil {
			return err
		}
		ndcg, err := c.test(ctx, final)
		if err != nil {
			return err
		}
		values, weights = append(values, ndcg), append(weights, fmt.Sprint(w))
	}
	return c.add("best-teacher."+c.metric, values, "weights of "+strings.Join(names, ", ")+" for each seed: "+strings.Join(weights, " "))
}

// refitted is a network trained on the validation events too.
func (c *contest) refitted(ctx context.Context, n network) (eval.Scorer, error) {
	m, t, _, err := c.again(ctx, c.ds, c.fingerprint, c.s, n.variant, n.t)
	if err != nil {
		return nil, err
	}
	return teacher(m, t.users).scorer, nil
}

// test returns a scorer's NDCG@10 on the test events.
func (c *contest) test(ctx context.Context, scorer eval.Scorer) (float64, error) {
	r, err := eval.Run(ctx, scorer, len(c.ds.Items), c.s.Test, c.counts, eval.Options{}, nil)
	if err != nil {
		return 0, err
	}
	return r.Accuracy.NDCG, nil
}

// add records the mean of values, one for each seed.
func (c *contest) add(name string, values []float64, note string) error {
	i := eval.Interval{Value: values[0], Low: values[0], High: values[0]}
	if len(values) > 1 {
		var err error
		if i, err = eval.StudentT(values); err != nil {
			return err
		}
	}
	c.records = append(c.records, results.Record{Name: c.prefix + name, Value: i.Value, Low: i.Low, High: i.High, N: len(values), Note: note})
	return nil
}

// spread returns every nth of the cases, at most the given number.
func spread(cases []data.Case, most int) []data.Case {
	var some []data.Case
	step := (len(cases) + most - 1) / most
	for i := 0; i < len(cases); i += step {
		some = append(some, cases[i])
	}
	return some
}
