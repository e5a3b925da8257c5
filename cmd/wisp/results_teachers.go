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
	"github.com/wisp-project/wisp/model"
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
		records, err := b.teachersOf(ctx, set, variants, nil)
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

// teachersOf measures the variants on a set, chooses one of them, and adds the
// ensemble of all with companions, as ensemble.weigh takes them.
func (b *bench) teachersOf(ctx context.Context, set set, variants []variant, companions []string) ([]results.Record, error) {
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
		best, err := c.run(ctx, variants, companions)
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
	m *model.Model
	t training
}

func (n *network) scorer() eval.Scorer { return teacher(n.m, n.t.users).scorer }

// run measures every variant, the best one and the ensemble, and returns the best.
func (c *contest) run(ctx context.Context, variants []variant, companions []string) (variant, error) {
	histories := fittingData(c.ds, c.s)
	c.counts = popularity(histories, len(c.ds.Items))
	networks := make([][]network, c.seeds) // of each seed
	best, bestValidation := 0, -1.0
	for i, v := range variants {
		var test, validation []float64
		for seed := range networks {
			v.seed = seed + 1
			m, t, _, err := c.trained(ctx, c.ds, c.fingerprint, c.s, v)
			if err != nil {
				return v, err
			}
			n := network{v, m, t}
			networks[seed] = append(networks[seed], n)
			ndcg, err := c.test(ctx, n.scorer())
			if err != nil {
				return v, err
			}
			test, validation = append(test, ndcg), append(validation, t.BestNDCG)
		}
		if err := c.add(v.name+"teacher."+c.metric, test, ""); err != nil {
			return v, err
		}
		if err := c.add(v.name+"teacher.validation-"+c.metric, validation, ""); err != nil {
			return v, err
		}
		alone := v.vectors == (givenVectors{}) && len(variants) > 1 // single-teacher reads text
		if mean := stat.Mean(validation, nil); mean > bestValidation && !alone {
			best, bestValidation = i, mean
		}
	}
	var single []float64
	for _, n := range networks {
		again, err := c.refitted(ctx, c.ds, c.fingerprint, c.s, n[best])
		if err != nil {
			return variant{}, err
		}
		ndcg, err := c.test(ctx, again.scorer())
		if err != nil {
			return variant{}, err
		}
		single = append(single, ndcg)
	}
	if err := c.add("single-teacher."+c.metric, single, "the "+variants[best].name+"teacher, chosen on validation"); err != nil {
		return variant{}, err
	}
	return variants[best], c.ensembles(ctx, networks, histories, companions)
}

// ensembles measures the ensemble of each seed's networks with companions.
func (c *contest) ensembles(ctx context.Context, networks [][]network, histories [][]data.Interaction, companions []string) error {
	var values []float64
	var weights []string
	for i, ns := range networks {
		c.p.line("%s: ensemble of seed %d", c.ds.Name, i+1)
		_, again, err := c.ensemble(ctx, c.ds, c.fingerprint, c.s, ns, companions)
		if err != nil {
			return err
		}
		voters, _, err := again.fit(histories, len(c.ds.Items))
		if err != nil {
			return err
		}
		ndcg, err := c.test(ctx, voters)
		if err != nil {
			return err
		}
		var of []string
		for _, m := range again.Members {
			of = append(of, fmt.Sprintf("%s %g", m.Name, m.Weight))
		}
		values, weights = append(values, ndcg), append(weights, strings.Join(of, ", "))
	}
	return c.add("best-teacher."+c.metric, values, "weights for each seed: "+strings.Join(weights, "; "))
}

// ensemble weighs networks with companions on validation, and returns the ensemble before and
// after its networks know the validation events.
func (b *bench) ensemble(ctx context.Context, ds *data.Dataset, fingerprint string, s *data.Split, networks []network, companions []string) (e, again *ensemble, err error) {
	var voters []voter
	var names []string
	for _, n := range networks {
		voters, names = append(voters, voter{n.m, n.t}), append(names, strings.TrimSuffix(n.name, "-"))
	}
	e = &ensemble{Data: ds.Name, Manifest: fingerprint, Protocol: s.Protocol}
	if err := e.weigh(ctx, names, voters, companions, ds, s, b.p); err != nil {
		return nil, nil, err
	}
	b.p.done()
	whole := *e
	whole.Refit, whole.networks = true, nil
	for i, n := range networks {
		if !e.has(fmt.Sprintf(ensembleMember, i+1)) {
			continue
		}
		r, err := b.refitted(ctx, ds, fingerprint, s, n)
		if err != nil {
			return nil, nil, err
		}
		whole.networks = append(whole.networks, voter{r.m, r.t})
		if n.vectors.Encoder != "" && whole.encoder == 0 {
			_, text, err := loadEncoder(n.vectors.Encoder)
			if err != nil {
				return nil, nil, err
			}
			for _, w := range text.Weights {
				whole.encoder += 4 * int64(len(w.Data))
			}
		}
	}
	return e, &whole, nil
}

// refitted is a network trained on the validation events too.
func (b *bench) refitted(ctx context.Context, ds *data.Dataset, fingerprint string, s *data.Split, n network) (network, error) {
	m, t, _, err := b.again(ctx, ds, fingerprint, s, n.variant, n.t)
	return network{n.variant, m, t}, err
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
	return addMean(&c.records, results.Record{Name: c.prefix + name, Note: note}, values)
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
