package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"

	"github.com/wisp-project/wisp/edge"
	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/internal/layout"
	"github.com/wisp-project/wisp/internal/layout/layouttest"
	"github.com/wisp-project/wisp/internal/results"
)

const historyText = `
What a session saves, and whether explanations are right.

Explanations: the usual model (seed 1), requests of the test users with their last 50 events before
the test, ten items each. beats-random is the share of requests in which the history without the (up
to) three reasons of an item scores it lower than the history without three random events does,
for the first item of the list, for the sum over the ten items, and for each item by itself; the
interval is a bootstrap over requests. strongest-found is the share of items, of those that some
event speaks for, whose first reason is the event whose removal, of all 50, lowers the score most.

Times: artefacts of random parameters, width 64, 2 layers, window 50, one sandbox. append-event is
an event that a session of 50 events gains, with the score of one item; append-recommend is the same
with the ten best items, and recommend-h50 the request for the whole history. recommend-h50-rules is that
with two filters, a category of three that items must have and one that they may not, and
maximal marginal relevance among the fifty best. explain is the ratio of a request with three reasons
for each of ten items to the same without; median of the rounds, low and high are the quartiles.
Low and high of percentiles are the least and the greatest of the rounds' own. allocations: of the
host, mean of a request, answer included.
`

// historySizes say how much is measured.
type historySizes struct {
	users                   int
	items, requests, rounds int
}

func (b *bench) history(ctx context.Context) (results.Topic, error) {
	n := historySizes{users: 300, items: 10_000, requests: 200, rounds: 20}
	t := results.Topic{Title: "Sessions and explanations", Text: historyText}
	for _, set := range b.present(b.sets()[:1]...) {
		ds, fingerprint, s, err := b.preparedAndSplit(ctx, set)
		if err != nil {
			return t, err
		}
		c, err := b.chain(ctx, ds, fingerprint, s, 1)
		if err != nil {
			return t, err
		}
		records, err := explained(ctx, c.stages[2].scorer.(*sandbox), s.Test, n.users, "quality."+set.name+".explanation.")
		c.close()
		if err != nil {
			return t, err
		}
		t.Records = append(t.Records, records...)
	}
	records, err := historyTimes(ctx, n)
	t.Records = append(t.Records, records...)
	return t, err
}

// explained measures explanations of requests out of cases.
func explained(ctx context.Context, s *sandbox, cases []data.Case, users int, prefix string) ([]results.Record, error) {
	rng := rand.New(rand.NewPCG(1, 2))
	var first, all, items, found []float64
	share := func(ok bool) float64 {
		if ok {
			return 1
		}
		return 0
	}
	for _, u := range rng.Perm(len(cases))[:min(users, len(cases))] {
		history := cases[u].History
		events := s.events(history[max(0, len(history)-50):])
		if len(events) < 6 {
			continue
		}
		response, err := s.runtime.Recommend(ctx, edge.Request{History: events, Explain: true})
		if err != nil {
			return nil, err
		}
		var ids []string
		for _, item := range response.Items {
			ids = append(ids, item.Item)
		}
		without := func(left ...int) ([]edge.Score, error) {
			var h []edge.Event
			for i, e := range events {
				if !slices.Contains(left, i) {
					h = append(h, e)
				}
			}
			return s.runtime.Score(ctx, edge.ScoreRequest{History: h, Items: ids})
		}
		// What each event by itself brings to each item.
		strongest := make([]float32, len(ids))
		for i := range events {
			scores, err := without(i)
			if err != nil {
				return nil, err
			}
			for j, item := range response.Items {
				strongest[j] = max(strongest[j], item.Score-scores[j].Value)
			}
		}
		var sum, wins float64
		for j, item := range response.Items {
			var reasons []int
			for _, r := range item.Reasons {
				reasons = append(reasons, r.Event)
			}
			guided, err := without(reasons...)
			if err != nil {
				return nil, err
			}
			random, err := without(rng.Perm(len(events))[:3]...)
			if err != nil {
				return nil, err
			}
			better := float64(random[j].Value) - float64(guided[j].Value)
			sum += better
			wins += share(better > 0)
			if j == 0 {
				first = append(first, share(better > 0))
			}
			if strongest[j] > 0 {
				found = append(found, share(len(item.Reasons) > 0 && item.Reasons[0].Drop == strongest[j]))
			}
		}
		all = append(all, share(sum > 0))
		items = append(items, wins/float64(len(response.Items)))
	}
	if len(first) == 0 {
		return nil, errors.New("no user has six events: nothing can be explained")
	}
	var records []results.Record
	for _, r := range []struct {
		name   string
		values []float64
	}{{"first-item-beats-random", first}, {"request-beats-random", all}, {"item-beats-random", items}, {"strongest-found", found}} {
		if err := addCases(&records, prefix+r.name, r.values); err != nil {
			return nil, err
		}
	}
	return records, nil
}

// historyRules filter twice and diversify.
func historyRules() edge.Rules {
	category := func(l int) edge.Label { return edge.Label{Value: randomCategory(l)} }
	return edge.Rules{
		Require:   [][]edge.Label{{category(0), category(2), category(4)}},
		Forbid:    []edge.Label{category(1)},
		Diversity: &edge.Diversity{Lambda: 0.7},
	}
}

// historyTimes times requests of several kinds, in turns.
func historyTimes(ctx context.Context, n historySizes) (_ []results.Record, err error) {
	shape := randomShape(n.items)
	shape.Labels = layout.LabelShape{Labels: 20, Entries: 2 * n.items} // categories, two for an item in the mean
	a, err := artefactOf(layouttest.Params(shape, 1))
	if err != nil {
		return nil, err
	}
	r, err := edge.New(ctx, a, edge.Options{Sandboxes: 1, AllowUnsigned: true})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.Close(ctx)) }()
	histories := randomHistories(n.items)
	session, err := r.NewSession()
	if err != nil {
		return nil, err
	}
	defer session.Close()
	next := int64(1_000_000)
	event := func() []edge.Event {
		next += 60
		return []edge.Event{{Item: strconv.Itoa(int(next) % n.items), Time: next}}
	}
	catalogue := fmt.Sprintf("-%d", n.items)
	recommend, explain := timed{name: "recommend-h50" + catalogue, p99: true, ask: func(h []edge.Event) error {
		_, err := r.Recommend(ctx, edge.Request{History: h})
		return err
	}}, timed{ask: func(h []edge.Event) error {
		_, err := r.Recommend(ctx, edge.Request{History: h, Explain: true})
		return err
	}}
	rules := historyRules()
	kinds := []*timed{
		{name: "append-event", ask: func([]edge.Event) error {
			_, err := session.Score(ctx, edge.ScoreRequest{History: event(), Items: []string{"0"}})
			return err
		}},
		{name: "append-recommend" + catalogue, ask: func([]edge.Event) error {
			_, err := session.Recommend(ctx, edge.Request{History: event(), IncludeSeen: true})
			return err
		}},
		&recommend,
		{name: "recommend-h50-rules" + catalogue, p99: true, ask: func(h []edge.Event) error {
			_, err := r.Recommend(ctx, edge.Request{History: h, Rules: rules})
			return err
		}},
		&explain,
	}
	if _, err := session.Append(histories[0]...); err != nil {
		return nil, err
	}
	for round := range n.rounds + 1 {
		for _, k := range kinds {
			if err := k.round(histories, n.requests, round == 0); err != nil { // it is warm after the first
				return nil, err
			}
		}
	}
	var records []results.Record
	for _, k := range kinds {
		records = append(records, k.records(fmt.Sprintf("window 50, %d items; %d rounds of %d", n.items, n.rounds, n.requests))...)
	}
	allocations, _, err := recommend.allocated(histories, n.requests)
	if err != nil {
		return nil, err
	}
	records = append(records, results.Record{Name: "speed." + recommend.name + ".allocations", Value: allocations, N: n.requests})
	var ratios []float64
	for i := range n.rounds {
		ratios = append(ratios, explain.p50s[i]/recommend.p50s[i])
	}
	slices.Sort(ratios)
	records = append(records, results.Record{
		Name: "speed.explain-h50-10.time-ratio-to-request", Value: ratios[n.rounds/2], Low: ratios[n.rounds/4], High: ratios[n.rounds*3/4],
		N: n.rounds * n.requests, Note: fmt.Sprintf("three reasons for each of ten items of %d", n.items),
	})
	return append(records, results.Record{Name: "size.session-state.bytes", Value: float64(shape.MaxStateLen()), Unit: "bytes", N: 1, Note: "width 64, 2 layers, window 50"}), nil
}
