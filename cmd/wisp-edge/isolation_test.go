package main_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	wispedge "github.com/wisp-project/wisp/cmd/wisp-edge"
	"github.com/wisp-project/wisp/edge"
)

// TestIsolations asks gateways of each isolation the same, and one that does not
// exist.
func TestIsolations(t *testing.T) {
	path := write(t, build(t))
	const body = `{"history":[{"item":"i5"},{"item":"i6"}]}`
	want := serve(t, path).post(t, body)
	for _, isolation := range []string{"shared", "wiped", "fresh"} {
		p := serve(t, path, "--isolation", isolation, "--queue", "3", "--max-memory", "1000000")
		for range 3 {
			if got := p.post(t, body); got.status != http.StatusOK || got.body != want.body {
				t.Errorf("%s: %d %s, want %s", isolation, got.status, got.body, want.body)
			}
		}
	}
	for flag, text := range map[string]string{"--isolation=loose": `"loose"`, "--max-memory=1000": "MaxMemory", "--max-memory=-1": "negative"} {
		var log output
		err := wispedge.Run(t.Context(), []string{"--addr", "127.0.0.1:0", "--allow-unsigned", flag, path}, &log, nil)
		if err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: got %v, want an error with %q", flag, err, text)
		}
	}
}

// TestFailures looks at what becomes of the errors of a runtime.
func TestFailures(t *testing.T) {
	for name, c := range map[string]struct {
		err    error
		status int
		code   string
		retry  string
	}{
		"overloaded": {fmt.Errorf("%w: 9 wait", edge.ErrOverloaded), http.StatusServiceUnavailable, "overloaded", "1"},
		"guest":      {edge.ErrTimeout, http.StatusInternalServerError, "sandbox", ""},
		"deadline":   {context.DeadlineExceeded, http.StatusGatewayTimeout, "timeout", ""},
		"closed":     {edge.ErrClosed, http.StatusServiceUnavailable, "stopping", ""},
	} {
		w := httptest.NewRecorder()
		wispedge.Respond(w, c.err)
		if w.Code != c.status || !strings.Contains(w.Body.String(), `"`+c.code+`"`) || w.Header().Get("Retry-After") != c.retry {
			t.Errorf("%s: %d %s (Retry-After %q), want %d %s", name, w.Code, w.Body, w.Header().Get("Retry-After"), c.status, c.code)
		}
	}
}
