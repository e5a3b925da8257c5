package main_test

import (
	"encoding/json"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"github.com/wisp-project/wisp/edge"
	"github.com/wisp-project/wisp/internal/layout/layouttest"
)

// TestHeads compares predicted ratings and classes of texts over HTTP with what the
// runtime answers.
func TestHeads(t *testing.T) {
	path := write(t, buildShape(t, layouttest.TextShapes()[1]))
	p, r := serve(t, path), open(t, path)
	ratings, err := r.Rate(t.Context(), edge.RateRequest{History: []edge.Event{{Item: "i5", Type: "rating", Value: 4}}, Items: []string{"i1", "i0"}})
	if err != nil {
		t.Fatal(err)
	}
	var rated edge.Ratings
	got := p.do(t, http.MethodPost, "/v1/rate", strings.NewReader(`{"history":[{"item":"i5","type":"rating","value":4}],"items":["i1","i0"]}`))
	if err := json.Unmarshal([]byte(got.body), &rated); err != nil || got.status != http.StatusOK || !reflect.DeepEqual(rated, ratings) {
		t.Errorf("%d %s (%v), want %+v", got.status, got.body, err, ratings)
	}
	classes, err := r.Classify(t.Context(), edge.ClassifyRequest{Text: "a bad café"})
	if err != nil {
		t.Fatal(err)
	}
	var sorted edge.Classification
	got = p.do(t, http.MethodPost, "/v1/models/default/classify", strings.NewReader(`{"text":"a bad café"}`))
	if err := json.Unmarshal([]byte(got.body), &sorted); err != nil || got.status != http.StatusOK || !reflect.DeepEqual(sorted, classes) {
		t.Errorf("%d %s (%v), want %+v", got.status, got.body, err, classes)
	}
	for name, c := range map[string]struct {
		path, body string
		status     int
		code       string
	}{
		"unknown item":  {"rate", `{"items":["none"]}`, http.StatusBadRequest, "bad_request"},
		"not a number":  {"rate", `{"history":[{"item":"i1","type":"rating","value":NaN}]}`, http.StatusBadRequest, "bad_json"},
		"too large":     {"rate", `{"history":[{"item":"i1","type":"rating","value":1e99}]}`, http.StatusBadRequest, "bad_json"},
		"unknown field": {"rate", `{"k":3}`, http.StatusBadRequest, "bad_json"},
		"a megabyte":    {"classify", `{"text":"` + strings.Repeat("a ", 1<<19) + `"}`, http.StatusRequestEntityTooLarge, "too_large"},
		"no text":       {"classify", `{"text":1}`, http.StatusBadRequest, "bad_json"},
	} {
		got := p.do(t, http.MethodPost, "/v1/"+c.path, strings.NewReader(c.body))
		if code, _ := got.failure(t); got.status != c.status || code != c.code {
			t.Errorf("%s: %d %.200s, want %d %s", name, got.status, got.body, c.status, c.code)
		}
	}
	none := serve(t, write(t, build(t)))
	for _, path := range []string{"rate", "classify"} {
		got := none.do(t, http.MethodPost, "/v1/"+path, strings.NewReader(`{}`))
		if code, _ := got.failure(t); got.status != http.StatusBadRequest || code != "no_head" {
			t.Errorf("%s: %d %s, want 400 no_head", path, got.status, got.body)
		}
	}
}
