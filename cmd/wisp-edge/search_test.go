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

// TestSearch compares what comes over HTTP with what the runtime answers.
func TestSearch(t *testing.T) {
	path := write(t, buildShape(t, layouttest.TextShapes()[1]))
	p, r := serve(t, path), open(t, path)
	for path, c := range map[string]struct{ body string }{
		"/v1/search":    {`{"text":"a café","k":3,"exclude":["i1"]}`},
		"/v1/recommend": {`{"description":"a bad cafe","history":[{"item":"i5"}]}`},
	} {
		var want edge.Response
		var err error
		if path == "/v1/search" {
			want, err = r.Search(t.Context(), edge.SearchRequest{Text: "a café", K: 3, Exclude: []string{"i1"}})
		} else {
			want, err = r.Recommend(t.Context(), edge.Request{Description: "a bad cafe", History: []edge.Event{{Item: "i5"}}})
		}
		if err != nil {
			t.Fatal(err)
		}
		var answer edge.Response
		got := p.do(t, http.MethodPost, path, strings.NewReader(c.body))
		if err := json.Unmarshal([]byte(got.body), &answer); err != nil || got.status != http.StatusOK || !reflect.DeepEqual(answer, want) {
			t.Errorf("%s: %d %s (%v), want %+v", path, got.status, got.body, err, want)
		}
	}
	for name, c := range map[string]struct {
		method, body string
		status       int
		code         string
	}{
		"get":           {http.MethodGet, "", http.StatusMethodNotAllowed, "method_not_allowed"},
		"unknown field": {http.MethodPost, `{"query":"a"}`, http.StatusBadRequest, "bad_json"},
		"negative k":    {http.MethodPost, `{"text":"a","k":-1}`, http.StatusBadRequest, "bad_request"},
	} {
		got := p.do(t, c.method, "/v1/search", strings.NewReader(c.body))
		if code, _ := got.failure(t); got.status != c.status || code != c.code {
			t.Errorf("%s: %d %s, want %d %s", name, got.status, got.body, c.status, c.code)
		}
	}
}

func TestSearchWithoutText(t *testing.T) {
	p := serve(t, write(t, build(t)))
	for path, body := range map[string]string{"/v1/search": `{"text":"a"}`, "/v1/recommend": `{"description":"a"}`} {
		got := p.do(t, http.MethodPost, path, strings.NewReader(body))
		if code, _ := got.failure(t); got.status != http.StatusBadRequest || code != "no_text" {
			t.Errorf("%s: %d %s, want 400 no_text", path, got.status, got.body)
		}
	}
}
