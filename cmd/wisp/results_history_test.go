package main

import (
	"testing"
)

func TestHistoryTopic(t *testing.T) {
	c := madeChain(t)
	ds, _, err := loadData(c.prepared)
	if err != nil {
		t.Fatal(err)
	}
	s, err := split(ds, leaveOneOut)
	if err != nil {
		t.Fatal(err)
	}
	stages, r, err := artefactStages(t.Context(), c.artefact, ds)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close(t.Context()) }()
	records, err := explained(t.Context(), stages[1].scorer.(*sandbox), s.Test, 20, "")
	if err != nil {
		t.Fatal(err)
	}
	times, err := historyTimes(t.Context(), historySizes{items: 200, requests: 5, rounds: 2})
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]float64{}
	for _, r := range append(records, times...) {
		if _, twice := values[r.Name]; twice || r.N == 0 {
			t.Errorf("%s twice, or of %d", r.Name, r.N)
		}
		values[r.Name] = r.Value
	}
	if v := values["request-beats-random"]; v < 0.95 {
		t.Errorf("the reasons beat random events in %v of the requests", v)
	}
	if v := values["strongest-found"]; v < 0.7 {
		t.Errorf("the strongest event was found for %v of the items", v)
	}
	for _, name := range []string{
		"speed.append-event.p50-us", "speed.append-recommend-200.p50-us", "speed.recommend-h50-200.p50-us", "speed.recommend-h50-200.p99-us", "speed.recommend-h50-200.allocations",
		"speed.recommend-h50-rules-200.p50-us", "speed.recommend-h50-rules-200.p99-us", "speed.explain-h50-10.time-ratio-to-request",
	} {
		if values[name] <= 0 {
			t.Errorf("%s is %v", name, values[name])
		}
	}
}
