package main_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"

	wispedge "github.com/wisp-project/wisp/cmd/wisp-edge"
	"github.com/wisp-project/wisp/internal/layout/layouttest"
)

// FuzzRequest posts anything. A gateway answers, or says that the request is wrong;
// nothing is its own fault.
func FuzzRequest(f *testing.F) {
	path := write(f, buildShape(f, layouttest.TextShapes()[1]))
	handler := wispedge.Handler(f.Context(), path)
	kinds := []string{"recommend", "search", "rate", "classify"}
	for _, body := range []string{
		`{}`, `null`, `{"k":3,"exclude":["i1","x"],"include_seen":true}`, `{"text":"a café","k":2}`,
		`{"history":[{"item":"i1","type":"click","time":1700000000},{"item":"i2","type":"rating","value":4.5,"time":1}],"explain":true}`,
		`{"description":"a bad cafe","history":[{"item":"\ud800"}]}`, `{"k":1e9}`, `{"history":[{"time":9223372036854775807},{"time":0}]}`,
		`{"history":[{"item":"i1","type":"rating","value":-3e38}],"items":["i1","i2","i1"]}`, `{"items":[]}`, `{"items":["x"]}`,
	} {
		for kind := range kinds {
			f.Add(uint8(kind), []byte(body))
		}
	}
	f.Fuzz(func(t *testing.T, kind uint8, body []byte) {
		url := "/v1/" + kinds[int(kind)%len(kinds)]
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequest(http.MethodPost, url, bytes.NewReader(body)))
		if w.Code != http.StatusOK && w.Code != http.StatusBadRequest {
			t.Fatalf("status %d: %s", w.Code, w.Body)
		}
		if !json.Valid(w.Body.Bytes()) {
			t.Fatalf("the answer is no JSON: %q", w.Body)
		}
	})
}
