package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/wisp-project/wisp/internal/baseline"
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
- single-teacher: the one of these four with the best mean validation NDCG@10.
- best-teacher: single-teacher with recency-weighted EASE, recency-weighted ItemKNN and
  Markov, standardised and weighted. Weights are chosen on validation, with members
  fitted on training events only; for the test the three are fitted on all events
  before it, like the baselines.

validation-ndcg10 is what the choices were made on.
`

// teachers compares what the item tower is given, and adds the ensemble.
func (b *bench) teachers(ctx context.Context) (results.Topic, error) {
	t := results.Topic{Title: "What text and ensembles add", Text: teachersText}
	encoder := filepath.Join(b.shared, "models", "all-MiniLM-L6-v2")
	variants := []variant{{name: "ids-"}, {name: "words-", vectors: givenVectors{TFIDF: defaultTFIDF}}}
	if _, err := os.Stat(encoder); err == nil {
		variants = append(variants,
			variant{name: "text-", vectors: givenVectors{Encoder: encoder}},
			variant{name: "both-", vectors: givenVectors{TFIDF: defaultTFIDF, Encoder: encoder}})
	} else {
		b.p.line("no pretrained encoder: %v", err)
	}
	sets := append(b.sets(), set{
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
	for _, set := range b.present(sets...) {
		records, err := b.teachersOf(ctx, set, variants)
		if err != nil {
			return t, err
		}
		t.Records = append(t.Records, records...)
	}
	return t, nil
}

func (b *bench) teachersOf(ctx context.Context, set set, variants []variant) ([]results.Record, error) {
	ds, fingerprint, err := b.prepared(ctx, set)
	if err != nil {
		return nil, err
	}
	s, err := split(ds, leaveOneOut)
	if err != nil {
		return nil, err
	}
	items := len(ds.Items)
	histories := fittingData(ds, s)
	counts := popularity(histories, items)
	forTest, err := companions(histories, items)
	if err != nil {
		return nil, err
	}
	forValidation, err := companions(s.Train, items)
	if err != nil {
		return nil, err
	}
	measured := func(scorer eval.Scorer) (float64, error) {
		r, err := eval.Run(ctx, scorer, items, s.Test, counts, eval.Options{}, nil)
		if err != nil {
			return 0, err
		}
		return r.Accuracy.NDCG, nil
	}
	var records []results.Record
	add := func(name string, values []float64, note string) (float64, error) {
		i := eval.Interval{Value: values[0], Low: values[0], High: values[0]}
		if len(values) > 1 {
			var err error
			if i, err = eval.StudentT(values); err != nil {
				return 0, err
			}
		}
		records = append(records, results.Record{
			Name: "quality." + set.name + "." + name, Value: i.Value, Low: i.Low, High: i.High, N: len(values), Note: note,
		})
		return i.Value, nil
	}
	best, bestValidation := variant{}, -1.0
	var bestTest []float64
	for _, v := range variants {
		var test, validation []float64
		for v.seed = 1; v.seed <= b.seeds; v.seed++ {
			m, t, _, err := b.trained(ctx, ds, fingerprint, s, v)
			if err != nil {
				return nil, err
			}
			ndcg, err := measured(teacher(m, t.users).scorer)
			if err != nil {
				return nil, err
			}
			test, validation = append(test, ndcg), append(validation, t.BestNDCG)
		}
		if _, err := add(v.name+"teacher.ndcg10", test, ""); err != nil {
			return nil, err
		}
		mean, err := add(v.name+"teacher.validation-ndcg10", validation, "")
		if err != nil {
			return nil, err
		}
		if mean > bestValidation {
			best, bestValidation, bestTest = v, mean, test
		}
	}
	if _, err := add("single-teacher.ndcg10", bestTest, "the "+best.name+"teacher, chosen on validation"); err != nil {
		return nil, err
	}
	var ensemble []float64
	var weights string
	for best.seed = 1; best.seed <= b.seeds; best.seed++ {
		m, t, _, err := b.trained(ctx, ds, fingerprint, s, best)
		if err != nil {
			return nil, err
		}
		teacher := teacher(m, t.users).scorer
		b.p.line("%s: ensemble of seed %d", set.name, best.seed)
		fitted, err := eval.FitEnsemble(ctx, "best-teacher", append([]eval.Scorer{teacher}, forValidation...), items, s.Valid)
		if err != nil {
			return nil, err
		}
		final, err := eval.NewEnsemble("best-teacher", append([]eval.Scorer{teacher}, forTest...), slices.Clone(fitted.Weights()))
		if err != nil {
			return nil, err
		}
		ndcg, err := measured(final)
		if err != nil {
			return nil, err
		}
		ensemble = append(ensemble, ndcg)
		weights += fmt.Sprintf(" %v", fitted.Weights())
	}
	_, err = add("best-teacher.ndcg10", ensemble, "weights of teacher, EASE, ItemKNN, Markov for each seed:"+weights)
	return records, err
}

// companions are the scorers that an ensemble adds to the teacher.
func companions(histories [][]data.Interaction, items int) ([]eval.Scorer, error) {
	ease, err := baseline.NewEASE(histories, items, baseline.EASEOptions{Recency: true})
	if err != nil {
		return nil, err
	}
	knn, err := baseline.NewItemKNN(histories, items, baseline.ItemKNNOptions{Recency: true})
	if err != nil {
		return nil, err
	}
	markov, err := baseline.NewMarkov(histories, items)
	if err != nil {
		return nil, err
	}
	return []eval.Scorer{ease, knn, markov}, nil
}
