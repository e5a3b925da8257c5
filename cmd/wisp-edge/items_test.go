//go:build !windows

package main_test

import (
	"encoding/json"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"github.com/wisp-project/wisp/artifact"
	"github.com/wisp-project/wisp/edge"
	"github.com/wisp-project/wisp/internal/layout/layouttest"
)

// TestSimilarAndScore compares what comes over HTTP with what the runtime answers,
// with rules.
func TestSimilarAndScore(t *testing.T) {
	path := write(t, buildShape(t, layouttest.TextShapes()[1]))
	p, r := serve(t, path), open(t, path)
	want, err := r.Similar(t.Context(), edge.SimilarRequest{Item: "i3", K: 6, Rules: edge.Rules{
		Forbid: []edge.Label{{Value: "c001"}}, Pins: []edge.Pin{{Item: "i9", Place: 1}}, Caps: []edge.Cap{{Most: 2}},
		Boosts: []edge.Boost{{Items: []string{"i7"}, Factor: 2}}, Diversity: &edge.Diversity{Lambda: 0.5},
	}})
	if err != nil {
		t.Fatal(err)
	}
	got := p.do(t, http.MethodPost, "/v1/similar", strings.NewReader(`{"item":"i3","k":6,"rules":{"forbid":[{"value":"c001"}],
		"pins":[{"item":"i9","place":1}],"caps":[{"most":2}],"boosts":[{"items":["i7"],"factor":2}],"diversity":{"lambda":0.5}}}`))
	var answer edge.Response
	if err := json.Unmarshal([]byte(got.body), &answer); err != nil || !reflect.DeepEqual(answer, want) {
		t.Errorf("%d %s, want %+v", got.status, got.body, want)
	}
	scores, err := r.Score(t.Context(), edge.ScoreRequest{History: []edge.Event{{Item: "i5"}}, Items: []string{"i1", "i0"}})
	if err != nil {
		t.Fatal(err)
	}
	got = p.do(t, http.MethodPost, "/v1/score", strings.NewReader(`{"history":[{"item":"i5"}],"items":["i1","i0"]}`))
	var s struct {
		Scores []struct {
			Item  string
			Score float32
		}
	}
	if err := json.Unmarshal([]byte(got.body), &s); err != nil || len(s.Scores) != 2 || s.Scores[0].Item != "i1" || s.Scores[1].Score != scores[1].Value {
		t.Errorf("%d %s, want %+v", got.status, got.body, scores)
	}
	for body, path := range map[string]string{
		`{"item":"none"}`: "/v1/similar",
		`{"item":"i1","rules":{"caps":[{"most":-1}]}}`: "/v1/similar",
		`{"items":["none"]}`:                           "/v1/score",
	} {
		if got := p.do(t, http.MethodPost, path, strings.NewReader(body)); got.status != http.StatusBadRequest {
			t.Errorf("%s: %d %s", body, got.status, got.body)
		}
	}
}

// TestItems inserts an item at the admin address, finds it, sees it go over to the
// next version, and takes it out again.
func TestItems(t *testing.T) {
	a := buildShape(t, layouttest.TextShapes()[1])
	path := write(t, a)
	p := launch(t, "--allow-unsigned", "--admin", "127.0.0.1:0", "--model", "shop="+path)
	p.awaitReady(t)
	admin := p.admin(t)
	found := func(id string) bool {
		t.Helper()
		var answer edge.Response
		got := p.do(t, http.MethodPost, "/v1/search", strings.NewReader(`{"text":"a bad cafe","k":1000}`))
		if err := json.Unmarshal([]byte(got.body), &answer); err != nil {
			t.Fatalf("%d %s", got.status, got.body)
		}
		for _, item := range answer.Items {
			if item.Item == id {
				return true
			}
		}
		return false
	}
	change := func(method, path, body string, status int) {
		t.Helper()
		if got := admin.do(t, method, path, strings.NewReader(body)); got.status != status {
			t.Errorf("%s %s: %d %s, want %d", method, path, got.status, got.body, status)
		}
	}
	const item = "/models/shop/items/new"
	change(http.MethodPut, item, `{"title":"New","text":"a bad cafe","categories":["c001"],"attributes":[{"name":"brand","value":"Acme"}]}`, http.StatusNoContent)
	change(http.MethodPut, "/models/shop/unavailable/i3", "", http.StatusNoContent)
	if !found("new") || found("i3") {
		t.Error("the item is not found, or one that is unavailable")
	}
	if got := admin.get(t, "/models/shop/items"); got.body != `{"inserted":[{"id":"new","title":"New","categories":["c001"],"attributes":[{"name":"brand","value":"Acme"}]}]}`+"\n" {
		t.Errorf("inserted: %s", got.body)
	}
	a.Manifest.Version++
	if err := artifact.WriteFile(path, a, artifact.WriteOptions{Level: 1}); err != nil {
		t.Fatal(err)
	}
	change(http.MethodPost, "/models/shop/update", "", http.StatusOK)
	if !found("new") || found("i3") {
		t.Error("the next version has forgotten what was changed")
	}
	change(http.MethodDelete, "/models/shop/unavailable/i3", "", http.StatusNoContent)
	change(http.MethodDelete, item, "", http.StatusNoContent)
	if found("new") || !found("i3") {
		t.Error("the item is still there, or one that is available is not")
	}
	change(http.MethodDelete, item, "", http.StatusBadRequest)
	change(http.MethodPut, item, `{"id":"other"}`, http.StatusBadRequest)
	change(http.MethodPut, item, `{"name":"New"}`, http.StatusBadRequest)
	change(http.MethodPut, item, `{"text":"`+strings.Repeat("a", 2<<20)+`"}`, http.StatusRequestEntityTooLarge)
	change(http.MethodPut, "/models/shop/items/i3", `{}`, http.StatusBadRequest)
	change(http.MethodPut, "/models/none/items/new", `{}`, http.StatusNotFound)
	change(http.MethodPost, item, `{}`, http.StatusMethodNotAllowed)
	if got := p.do(t, http.MethodPut, "/v1/models/shop/items/new", strings.NewReader(`{}`)); got.status != http.StatusNotFound {
		t.Errorf("clients may insert items: %d %s", got.status, got.body)
	}
}
