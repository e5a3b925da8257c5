package main

import (
	"math"
	"path/filepath"
	"slices"
	"testing"

	"github.com/wisp-project/wisp/hostgpu"
	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/internal/results"
	"github.com/wisp-project/wisp/internal/retrain"
)

// TestRetrainResults runs the policies through the last weeks of a simulated shop.
func TestRetrainResults(t *testing.T) {
	if testing.Short() {
		t.Skip("trains ten models")
	}
	s, err := data.NewSimulator(data.SimulateOptions{Users: 300, Items: 80, Events: 12000, Seed: 5})
	if err != nil {
		t.Fatal(err)
	}
	c := calendar{
		name: "made", events: slices.Collect(s.Events()), items: s.Items(), prepare: data.PrepareOptions{Name: "made", RatingLo: 1, RatingHi: 5},
		first: 23, train: hostgpu.TrainOptions{Seed: 1, Epochs: 6, Dim: 16, Layers: 1, Window: 20, LearningRate: 0.02}, vectors: givenVectors{TFIDF: 8},
		options: retrain.Options{Seed: 1, Holdout: 0.5, LearningRate: 0.003, Epochs: 10, Rehearsal: 4, Gate: retrain.Gate{MinCases: 10, Margin: 0.08}},
		dir:     t.TempDir(), docs: t.TempDir(), p: &progress{w: t.Output()},
	}
	slices.SortStableFunc(c.events, func(x, y data.Event) int { return int(x.Time - y.Time) })
	if c.weeks() != 25 {
		t.Fatalf("%d weeks", c.weeks())
	}
	var topic results.Topic
	if err := c.measure(t.Context(), &topic); err != nil {
		t.Fatal(err)
	}
	value := map[string]float64{}
	for _, r := range topic.Records {
		value[r.Name] = r.Value
		t.Logf("%s %v %s", r.Name, r.Value, r.Note)
	}
	for _, name := range []string{"never.ndcg10", "weekly.ndcg10", "adapters.ndcg10", "scratch.ndcg10", "weekly.week-25.ndcg10", "adapters.week-25.ndcg10"} {
		if v, ok := value["quality.retrain.made."+name]; !ok || v < 0.1 || v > 0.9 {
			t.Errorf("%s is %v (%t)", name, v, ok)
		}
	}
	d := value["quality.retrain.made.weekly.ndcg10"] - value["quality.retrain.made.never.ndcg10"]
	if got := value["quality.retrain.made.difference.weekly-to-never.ndcg10"]; math.Abs(got-d) > 1e-9 {
		t.Errorf("the difference is %v, the means are %v apart", got, d)
	}
	for _, policy := range []string{"weekly", "adapters"} {
		if value["quality.retrain.made.never.week-24.ndcg10"] != value["quality.retrain.made."+policy+".week-24.ndcg10"] {
			t.Errorf("%s differs from never before the first retraining", policy)
		}
	}
	states, err := filepath.Glob(filepath.Join(c.dir, "adapters-*", "state"))
	if err != nil || len(states) != 1 {
		t.Fatalf("adapters have the folders %q (%v)", states, err)
	}
	if m, err := retrain.LoadManifest(retrain.Folder(states[0]).Manifest(1)); err != nil || m.Options.AdapterRank != policyRank {
		t.Errorf("adapters have the manifest %+v (%v)", m, err)
	}
	for _, name := range []string{"shuffled-labels", "rate-times-100", "bots"} {
		if v, ok := value["quality.retrain.made.gate."+name+".published"]; !ok || v != 0 {
			t.Errorf("gate, %s: %v (%t)", name, v, ok)
		}
	}
	if !exists(filepath.Join(c.docs, "retrain-made.svg")) {
		t.Error("nothing was drawn")
	}
	// Another look remakes the same from what was kept.
	var again results.Topic
	if err := c.measure(t.Context(), &again); err != nil {
		t.Fatal(err)
	}
	for i, r := range again.Records {
		if r != topic.Records[i] {
			t.Errorf("%s was %v and is %v", r.Name, topic.Records[i].Value, r.Value)
		}
	}
}
