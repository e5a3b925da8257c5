package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/wisp-project/wisp/internal/baseline"
	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/internal/eval"
	"github.com/wisp-project/wisp/internal/results"
)

const gamesText = `
A catalogue of 16,859 video games and accessories with the histories of 50,546 users:
their order, without times, at most 50 events each. The data set's own files hold back
the last event of each user for the test and the one before it for validation, which is
the leave-one-out split; all users are asked about. The whole catalogue is ranked, items
of the history left out. Baselines are fitted on all events before the test, with
bootstrap intervals over cases; teachers are trained with one seed.

The teachers are those of teachers.md: ids-teacher learns item embeddings only,
text-teacher is given the titles' embeddings by a frozen pretrained encoder
(all-MiniLM-L6-v2) too. EASE is not in best-teacher: its matrix of 16,859 by 16,859
items takes gigabytes. Weights are chosen on 5,000 validation cases.

ndcg10-ratio-to-pytorch is ours over that of a SASRec in PyTorch, above 1 is better. That
one is given no titles and, like ids-teacher and text-teacher, no validation events, from
which single-teacher and best-teacher learn in the end; peers-games.md compares the same
network on the same events.
`

// gamesSet is the data set, as bench/games.go prepares it too.
func (b *bench) gamesSet() set {
	at := func(name string) string { return filepath.Join(b.shared, "data", "games", name) }
	return set{"games", data.Source{Format: "sequences", Events: at("Games-6k.test.inter"), Items: at("Games-6k.item")}, data.PrepareOptions{}}
}

// games measures baselines and teachers on a larger catalogue.
func (b *bench) games(ctx context.Context) (results.Topic, error) {
	t := results.Topic{Title: "A larger catalogue: video games", Text: gamesText}
	for _, set := range b.present(b.gamesSet()) {
		ds, _, s, err := b.preparedAndSplit(ctx, set)
		if err != nil {
			return t, err
		}
		if t.Records, err = b.gamesBaselines(ctx, ds, s); err != nil {
			return t, err
		}
		one := *b
		one.seeds = 1
		teachers, err := one.teachersOf(ctx, set, b.gamesVariants(), neighbours())
		if err != nil {
			return t, err
		}
		t.Records = append(t.Records, teachers...)
	}
	ratios, err := b.ratiosToPyTorch(t.Records)
	t.Records = append(t.Records, ratios...)
	return t, err
}

// gamesVariants are the networks of that set, the one with a text encoder where there is one.
func (b *bench) gamesVariants() []variant {
	variants := []variant{{name: "ids-"}}
	encoder := filepath.Join(b.shared, "models", "all-MiniLM-L6-v2")
	if _, err := os.Stat(encoder); err == nil {
		variants = append(variants, variant{name: "text-", vectors: givenVectors{Encoder: encoder}})
	} else {
		b.p.line("no pretrained encoder: %v", err)
	}
	return variants
}

// gamesBaselines measures the baselines that a large catalogue allows.
func (b *bench) gamesBaselines(ctx context.Context, ds *data.Dataset, s *data.Split) ([]results.Record, error) {
	items := len(ds.Items)
	histories := fittingData(ds, s)
	counts := popularity(histories, items)
	popular, err := baseline.NewPopularity(histories, items)
	if err != nil {
		return nil, err
	}
	knn, err := baseline.NewItemKNN(histories, items, baseline.ItemKNNOptions{})
	if err != nil {
		return nil, err
	}
	scorers := []eval.Scorer{popular, knn}
	for _, name := range neighbours() {
		s, err := companion(name, histories, items)
		if err != nil {
			return nil, err
		}
		scorers = append(scorers, s)
	}
	var records []results.Record
	for _, scorer := range scorers {
		b.p.line("games %s", scorer.Name())
		r, err := eval.Run(ctx, scorer, items, s.Test, counts, eval.Options{}, nil)
		if err != nil {
			return nil, err
		}
		if err := addCases(&records, "quality.games."+scorer.Name()+".ndcg10", r.PerCase(eval.NDCG)); err != nil {
			return nil, err
		}
	}
	return records, nil
}

// ratiosToPyTorch compares our best with the peer's figure where `make bench-games`
// has made it.
func (b *bench) ratiosToPyTorch(ours []results.Record) ([]results.Record, error) {
	peers, err := results.Read(b.docs, "peers-games")
	if err != nil {
		return nil, err
	}
	peer, ok := recordNamed(peers, "quality.games.sasrec-pytorch.ndcg10")
	if !ok {
		return nil, nil
	}
	var ratios []results.Record
	for _, name := range []string{"quality.games.single-teacher.ndcg10", "quality.games.best-teacher.ndcg10"} {
		if r, ok := recordNamed(ours, name); ok {
			ratios = append(ratios, results.Record{
				Name: name + "-ratio-to-pytorch", Value: r.Value / peer.Value, N: r.N, Unit: "ratio",
				Note: fmt.Sprintf("PyTorch's SASRec %.4f", peer.Value),
			})
		}
	}
	return ratios, nil
}
