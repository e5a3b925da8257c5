package main

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/wisp-project/wisp/artifact"
	"github.com/wisp-project/wisp/edge"
	"github.com/wisp-project/wisp/hostgpu"
	"github.com/wisp-project/wisp/internal/baseline"
	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/internal/eval"
	"github.com/wisp-project/wisp/model"
)

// Names of the stages of the chain, in tables and in result names.
const (
	teacherStage = "teacher"
	int8Stage    = "int8"
	sandboxStage = "int8-sandbox"
)

// stage is a row of the table: something that ranks items.
type stage struct {
	scorer eval.Scorer
	bytes  int64 // what it takes to answer, at rest
	// request answers one question as a user would ask it, for timing.
	request func(ctx context.Context, c data.Case) error
}

// row is what was measured of a stage.
type row struct {
	stage
	result                 *eval.Result
	ndcg, hr, mrr, covered eval.Interval
	p50                    time.Duration
}

// top10 is the request of a plain scorer: all scores, then the ten best of those
// that are not in the history.
func top10(s eval.Scorer, items int) func(context.Context, data.Case) error {
	scores := make([]float32, items)
	return func(ctx context.Context, c data.Case) error {
		if err := s.Scores(ctx, scores, c.User, c.History); err != nil {
			return err
		}
		for _, e := range c.History {
			scores[e.Item] = float32(math.Inf(-1))
		}
		best(scores, 10)
		return nil
	}
}

// best returns the k items with the highest scores, the highest first, of equals
// the lower index.
func best(scores []float32, k int) []int32 {
	list := make([]int32, 0, k+1)
	for i, s := range scores {
		if len(list) == k && s <= scores[list[k-1]] {
			continue
		}
		at := len(list)
		for at > 0 && s > scores[list[at-1]] {
			at--
		}
		list = slices.Insert(list, at, int32(i))
		list = list[:min(len(list), k)]
	}
	return list
}

// fittingData is what a baseline may be fitted on: everything before the test
// events, validation events included.
func fittingData(ds *data.Dataset, s *data.Split) [][]data.Interaction {
	histories := make([][]data.Interaction, len(ds.Histories))
	if s.Protocol == byTime {
		from := ds.Quantile(testFrom)
		for u, h := range ds.Histories {
			n, _ := slices.BinarySearchFunc(h, from, func(e data.Interaction, t int64) int { return cmp.Compare(e.Time, t) })
			histories[u] = h[:n]
		}
		return histories
	}
	copy(histories, s.Train)
	for _, c := range s.Test {
		histories[c.User] = c.History
	}
	return histories
}

// popularity counts the events of each item.
func popularity(histories [][]data.Interaction, items int) []int64 {
	n := make([]int64, items)
	for _, h := range histories {
		for _, e := range h {
			n[e.Item]++
		}
	}
	return n
}

// baselines fits all of them.
func baselines(ds *data.Dataset, histories [][]data.Interaction) ([]stage, error) {
	items := len(ds.Items)
	pop, err := baseline.NewPopularity(histories, items)
	if err != nil {
		return nil, err
	}
	knn, err := baseline.NewItemKNN(histories, items, baseline.ItemKNNOptions{})
	if err != nil {
		return nil, err
	}
	knnRecent, err := baseline.NewItemKNN(histories, items, baseline.ItemKNNOptions{Recency: true})
	if err != nil {
		return nil, err
	}
	ease, err := baseline.NewEASE(histories, items, baseline.EASEOptions{})
	if err != nil {
		return nil, err
	}
	markov, err := baseline.NewMarkov(histories, items)
	if err != nil {
		return nil, err
	}
	content, err := baseline.NewContent(ds.Items)
	if err != nil {
		return nil, err
	}
	var stages []stage
	for _, s := range []interface {
		eval.Scorer
		Bytes() int64
	}{pop, knn, knnRecent, ease, ease.WithRecency(true), markov, content} {
		stages = append(stages, stage{scorer: s, bytes: s.Bytes(), request: top10(s, items)})
	}
	return stages, nil
}

// teacher is the float32 model; users are the given vectors of the users'
// descriptions, nil for none.
func teacher(m *model.Model, users *model.Tensor) stage {
	s := hostgpu.NewScorer(teacherStage, m).WithDescriptions(users)
	var bytes int64
	for _, t := range m.Weights {
		bytes += 4 * int64(len(t.Data))
	}
	bytes += 4 * int64(m.Config.Items) * int64(m.Config.Features)
	return stage{scorer: s, bytes: bytes, request: top10(s, m.Config.Items)}
}

// sandbox is an artefact as an eval.Scorer: every score comes out of a guest.
type sandbox struct {
	runtime      *edge.Runtime
	types        []data.EventType
	ids          []string
	descriptions []string // of the users of the data; nil where the artefact does not read them
}

// newSandbox checks that the artefact has the catalogue of ds.
func newSandbox(r *edge.Runtime, ds *data.Dataset) (*sandbox, error) {
	s := &sandbox{runtime: r, types: ds.Types, descriptions: descriptions(r.Manifest(), ds)}
	items := r.Items()
	if len(items) != len(ds.Items) {
		return nil, fmt.Errorf("the artefact has %d items, the data has %d: it was made from other data", len(items), len(ds.Items))
	}
	for i, item := range items {
		if item.ID != ds.Items[i].ID {
			return nil, fmt.Errorf("item %d is %q in the artefact and %q in the data: it was made from other data", i, item.ID, ds.Items[i].ID)
		}
		s.ids = append(s.ids, item.ID)
	}
	return s, nil
}

// descriptions returns what an artefact is told of the users of ds; nil where it
// does not read descriptions.
func descriptions(m artifact.Manifest, ds *data.Dataset) []string {
	if !m.Model.Text.UserMap {
		return nil
	}
	texts := make([]string, len(ds.Users))
	for u := range ds.Users {
		texts[u] = data.UserText(&ds.Users[u])
	}
	return texts
}

// Name returns the name of the stage.
func (s *sandbox) Name() string { return sandboxStage }

// events writes a history as a caller of the runtime does.
func (s *sandbox) events(h []data.Interaction) []edge.Event {
	events := make([]edge.Event, len(h))
	for i, e := range h {
		events[i] = edge.Event{Item: s.ids[e.Item], Type: s.types[e.Type].Name, Value: e.Value, Time: e.Time}
	}
	return events
}

// description returns what is known of a user, nothing where the artefact does
// not read it.
func (s *sandbox) description(user int32) string {
	if s.descriptions == nil {
		return ""
	}
	return s.descriptions[user]
}

// score asks the guest for the score of every item.
func (s *sandbox) score(ctx context.Context, user int32, history []data.Interaction) ([]edge.Score, error) {
	return s.runtime.Score(ctx, edge.ScoreRequest{History: s.events(history), Description: s.description(user), Items: s.ids})
}

// Scores writes the score of every item to dst.
func (s *sandbox) Scores(ctx context.Context, dst []float32, user int32, history []data.Interaction) error {
	scores, err := s.score(ctx, user, history)
	if err != nil {
		return err
	}
	for i := range scores {
		dst[i] = scores[i].Value
	}
	return nil
}

func (s *sandbox) recommend(ctx context.Context, c data.Case) error {
	_, err := s.runtime.Recommend(ctx, edge.Request{History: s.events(c.History), Description: s.description(c.User)})
	return err
}

// measure evaluates a stage on the test cases and times single requests.
func measure(ctx context.Context, s stage, items int, cases []data.Case, counts []int64, p *progress) (row, error) {
	r := row{stage: s}
	var err error
	r.result, err = eval.Run(ctx, s.scorer, items, cases, counts, eval.Options{}, func(done, total int) {
		if p != nil && p.terminal {
			p.stage(s.scorer.Name(), int64(done), int64(total))
		}
	})
	if err != nil {
		return r, err
	}
	for _, m := range []struct {
		interval *eval.Interval
		metric   eval.Metric
	}{{&r.ndcg, eval.NDCG}, {&r.hr, eval.HitRate}, {&r.mrr, eval.ReciprocalRank}} {
		if *m.interval, err = eval.Bootstrap(r.result.PerCase(m.metric), eval.BootstrapOptions{}); err != nil {
			return r, err
		}
	}
	if r.covered, err = r.result.CoverageInterval(eval.BootstrapOptions{}); err != nil {
		return r, err
	}
	times, err := latencies(ctx, s.request, cases, 200)
	if err != nil {
		return r, err
	}
	r.p50 = quantile(times, 0.5)
	return r, nil
}

// latencies times n requests, one after the other, after a few to warm up.
func latencies(ctx context.Context, request func(context.Context, data.Case) error, cases []data.Case, n int) ([]time.Duration, error) {
	var times []time.Duration
	const warmup = 20
	for i := range n + warmup {
		c := cases[i%len(cases)]
		begin := time.Now()
		if err := request(ctx, c); err != nil {
			return nil, err
		}
		if i >= warmup {
			times = append(times, time.Since(begin))
		}
	}
	slices.Sort(times)
	return times, nil
}

// quantile returns the q-quantile of sorted times.
func quantile(sorted []time.Duration, q float64) time.Duration {
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}
