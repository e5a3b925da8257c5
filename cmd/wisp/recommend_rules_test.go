package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/wisp-project/wisp/artifact"
	"github.com/wisp-project/wisp/edge"
)

// TestRecommendRules asks the made artefact with rules, whose labels come from the
// data: categories, and the brand that items share.
func TestRecommendRules(t *testing.T) {
	c := madeChain(t)
	a, err := artifact.Open(c.artefact, artifact.ReadOptions{AllowUnsigned: true})
	if err != nil {
		t.Fatal(err)
	}
	items := map[string]artifact.Item{}
	for _, it := range a.Items {
		items[it.ID] = it
	}
	first := a.Items[0]
	if len(first.Categories) == 0 || len(first.Attributes) == 0 {
		t.Fatalf("the first item is %+v: it has no labels", first)
	}
	category, brand := first.Categories[0], first.Attributes[0]
	similar := recommend(t, c.artefact, "--similar", first.ID, "-k", "5", "--forbid", category)
	if len(similar.Items) != 5 {
		t.Errorf("%d items are similar", len(similar.Items))
	}
	for _, item := range similar.Items {
		if item.Item == first.ID || slices.Contains(items[item.Item].Categories, category) {
			t.Errorf("%s is the item itself, or of category %s", item.Item, category)
		}
	}
	for _, item := range recommend(t, c.artefact, "-k", "7", "--require", brand.Name+"="+brand.Value).Items {
		if !slices.Contains(items[item.Item].Attributes, brand) {
			t.Errorf("%s is not of %+v", item.Item, brand)
		}
	}
	seen := map[string]int{}
	capped := ruled(t, c.artefact, "-k", "8", "--max-per-category", "1", "--diversity", "0.5")
	for _, item := range capped.Items {
		for _, category := range items[item.Item].Categories {
			if seen[category]++; seen[category] > 1 {
				t.Errorf("%d items of category %s", seen[category], category)
			}
		}
	}
	if len(capped.Items) < 5 {
		t.Errorf("%d items of different categories", len(capped.Items))
	}
	file := filepath.Join(t.TempDir(), "rules.json")
	if err := os.WriteFile(file, []byte(`{"pins":[{"item":"`+first.ID+`","place":2}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := ids(ruled(t, c.artefact, "--rules", file)); got[2] != first.ID {
		t.Errorf("%s is pinned, the list is %v", first.ID, got)
	}
	if err := os.WriteFile(file, []byte(`{"pin":[]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	fail(t, []string{"--rules", "pin"}, "recommend", c.artefact, "--rules", file)
	fail(t, []string{"--rules"}, "recommend", c.artefact, "--rules", file+".none")
	fail(t, []string{"lambda"}, "recommend", c.artefact, "--diversity", "2")
	fail(t, []string{"nobody's"}, "recommend", c.artefact, "--similar", "nobody's")
	fail(t, []string{"--similar"}, "recommend", c.artefact, "--similar", first.ID, "--text", "a")
}

// ruled runs the command; the order of its answer is up to rules.
func ruled(t *testing.T, args ...string) edge.Response {
	t.Helper()
	var r edge.Response
	if err := json.Unmarshal([]byte(succeed(t, append([]string{"recommend", "--json"}, args...)...)), &r); err != nil {
		t.Fatal(err)
	}
	return r
}
