package main_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"sync"
	"testing"

	wispedge "github.com/wisp-project/wisp/cmd/wisp-edge"
	"github.com/wisp-project/wisp/edge"
)

// TestAnswers compares answers over HTTP with those of a runtime in this
// process.
func TestAnswers(t *testing.T) {
	path := write(t, build(t))
	p, r := serve(t, path), open(t, path)
	for name, body := range map[string]string{
		"one event":       `{"history":[{"item":"i5"}]}`,
		"every field":     `{"history":[{"item":"i1","type":"click","time":1700000000},{"item":"i2","type":"rating","value":4.5,"time":1700000500}],"k":7,"exclude":["i9","nothing"],"include_seen":true,"explain":true}`,
		"out of order":    `{"history":[{"item":"i1","time":20},{"item":"i2","time":10}],"explain":true}`,
		"no history":      `{}`,
		"null":            `null`,
		"space around":    " \n{\"k\":3}\r\n\t ",
		"unknown item":    `{"history":[{"item":"none of ours"},{"item":"i3"}]}`,
		"huge k":          `{"history":[{"item":"i4"}],"k":1000000000}`,
		"long history":    `{"history":[` + strings.Repeat(`{"item":"i6"},{"item":"i7"},`, 300) + `{"item":"i8"}]}`,
		"largest time":    `{"history":[{"item":"i1","time":0},{"item":"i2","time":9223372036854775807}]}`,
		"smallest rating": `{"history":[{"item":"i1","type":"rating","value":-3.4e38}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			var q edge.Request
			if err := json.Unmarshal([]byte(body), &q); err != nil {
				t.Fatal(err)
			}
			want, err := r.Recommend(t.Context(), q)
			if err != nil {
				t.Fatal(err)
			}
			got := p.post(t, body)
			if got.status != http.StatusOK || got.header.Get("Content-Type") != "application/json" {
				t.Fatalf("status %d, Content-Type %q: %s", got.status, got.header.Get("Content-Type"), got.body)
			}
			var answer edge.Response
			if err := json.Unmarshal([]byte(got.body), &answer); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(answer, want) {
				t.Errorf("got %+v, want %+v", answer, want)
			}
		})
	}

	t.Run("cold start", func(t *testing.T) {
		var cold, unknown edge.Response
		for body, to := range map[string]*edge.Response{`{}`: &cold, `{"history":[{"item":"a"},{"item":"b"}]}`: &unknown} {
			got := p.post(t, body)
			if err := json.Unmarshal([]byte(got.body), to); err != nil || got.status != http.StatusOK {
				t.Fatalf("%s: status %d, %v: %s", body, got.status, err, got.body)
			}
		}
		if !cold.ColdStart || len(cold.Items) != 10 || !unknown.ColdStart || !reflect.DeepEqual(unknown.Unknown, []string{"a", "b"}) {
			t.Errorf("no history: %+v, unknown items: %+v", cold, unknown)
		}
		if !reflect.DeepEqual(cold.Items, unknown.Items) {
			t.Errorf("unknown items get %v, a new user %v", unknown.Items, cold.Items)
		}
	})
	t.Run("huge k", func(t *testing.T) {
		var answer edge.Response
		if err := json.Unmarshal([]byte(p.post(t, `{"history":[{"item":"i4"}],"k":1000000000}`).body), &answer); err != nil {
			t.Fatal(err)
		}
		if len(answer.Items) != items-1 {
			t.Errorf("%d items, want the whole catalogue but the one seen, %d", len(answer.Items), items-1)
		}
	})
}

// TestRefusals asks for what the gateway has not, and looks at the form of the
// refusal.
func TestRefusals(t *testing.T) {
	p := serve(t, write(t, build(t)))
	const recommend = "/v1/recommend"
	// The body is valid but for its size, so that nothing else can be at fault.
	tooLarge := `{"exclude":["` + strings.Repeat("x", wispedge.MaxBody) + `"]}`
	largest := `{}` + strings.Repeat(" ", wispedge.MaxBody-2)
	for name, c := range map[string]struct {
		method, path, body string
		status             int
		code, says         string
	}{
		"no such path":      {"GET", "/", "", 404, "not_found", "/v1/recommend"},
		"other version":     {"POST", "/v2/recommend", "{}", 404, "not_found", "/v2/recommend"},
		"below the path":    {"POST", recommend + "/x", "{}", 404, "not_found", ""},
		"get":               {"GET", recommend, "", 405, "method_not_allowed", "use POST"},
		"put":               {"PUT", recommend, "{}", 405, "method_not_allowed", "PUT"},
		"post health":       {"POST", "/healthz", "", 405, "method_not_allowed", "GET"},
		"delete ready":      {"DELETE", "/readyz", "", 405, "method_not_allowed", "GET"},
		"empty":             {"POST", recommend, "", 400, "bad_json", "EOF"},
		"not json":          {"POST", recommend, "history=i1", 400, "bad_json", "invalid character"},
		"cut off":           {"POST", recommend, `{"history":[{"item":"i1"`, 400, "bad_json", "EOF"},
		"array":             {"POST", recommend, `[]`, 400, "bad_json", "array"},
		"wrong kind":        {"POST", recommend, `{"k":"ten"}`, 400, "bad_json", "string"},
		"fraction":          {"POST", recommend, `{"k":1.5}`, 400, "bad_json", "1.5"},
		"infinite value":    {"POST", recommend, `{"history":[{"item":"i1","type":"rating","value":1e39}]}`, 400, "bad_json", "1e39"},
		"unknown field":     {"POST", recommend, `{"histroy":[]}`, 400, "bad_json", `\"histroy\"`},
		"unknown in event":  {"POST", recommend, `{"history":[{"item":"i1","rating":5}]}`, 400, "bad_json", `\"rating\"`},
		"second object":     {"POST", recommend, `{} {}`, 400, "bad_json", "more follows"},
		"trailing garbage":  {"POST", recommend, `{}]x`, 400, "bad_json", ""},
		"too large":         {"POST", recommend, tooLarge, 413, "too_large", fmt.Sprint(wispedge.MaxBody)},
		"too large behind":  {"POST", recommend, largest + "  ", 413, "too_large", fmt.Sprint(wispedge.MaxBody)},
		"unknown type":      {"POST", recommend, `{"history":[{"item":"i1","type":"smell"}]}`, 400, "bad_request", `[\"click\" \"rating\"]`},
		"type of a nobody":  {"POST", recommend, `{"history":[{"item":"nobody","type":"smell"}]}`, 400, "bad_request", "smell"},
		"negative time":     {"POST", recommend, `{"history":[{"item":"i0"},{"item":"i1","time":-1}]}`, 400, "bad_request", "event 1"},
		"negative k":        {"POST", recommend, `{"k":-1}`, 400, "bad_request", "k is -1"},
		"k beyond integers": {"POST", recommend, `{"k":1e30}`, 400, "bad_json", "1e30"},
	} {
		t.Run(name, func(t *testing.T) {
			got := p.do(t, c.method, c.path, strings.NewReader(c.body))
			code, _ := got.failure(t)
			if got.status != c.status || code != c.code || !strings.Contains(got.body, c.says) {
				t.Errorf("%d %s, want %d %s with %q", got.status, got.body, c.status, c.code, c.says)
			}
			if allow := got.header.Get("Allow"); (c.status == http.StatusMethodNotAllowed) != (allow != "") {
				t.Errorf("status %d has Allow %q", got.status, allow)
			}
		})
	}
	if got := p.post(t, largest); got.status != http.StatusOK {
		t.Errorf("the largest body: %d %s", got.status, got.body)
	}
	for path, want := range map[string]string{"/healthz": "ok\n", "/readyz": "ready\n"} {
		if got := p.get(t, path); got.status != http.StatusOK || got.body != want {
			t.Errorf("%s: %d %q, want 200 %q", path, got.status, got.body, want)
		}
	}
}

// TestRequestTimeout gives requests no time at all.
func TestRequestTimeout(t *testing.T) {
	p := serve(t, write(t, build(t)), "--timeout", "1ns")
	got := p.post(t, `{}`)
	if code, message := got.failure(t); got.status != http.StatusGatewayTimeout || code != "timeout" || !strings.Contains(message, "1ns") {
		t.Errorf("%d %s, want 504 timeout", got.status, got.body)
	}
}

// TestConcurrent asks from many clients at once, more than there are sandboxes.
func TestConcurrent(t *testing.T) {
	const clients, requests = 16, 20
	path := write(t, build(t))
	p, r := serve(t, path, "--sandboxes", "3"), open(t, path)
	want := make([]edge.Response, requests)
	body := func(i int) string {
		return fmt.Sprintf(`{"history":[{"item":"i%d","time":5},{"item":"i%d","time":%d}],"k":20,"explain":%v}`, i, 2*i, 10+i*i, i%2 == 0)
	}
	for i := range want {
		var q edge.Request
		if err := json.Unmarshal([]byte(body(i)), &q); err != nil {
			t.Fatal(err)
		}
		var err error
		if want[i], err = r.Recommend(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
	var wg sync.WaitGroup
	for c := range clients {
		wg.Go(func() {
			for n := range requests {
				i := (n + c) % requests
				got, err := p.try(t.Context(), http.MethodPost, "/v1/recommend", strings.NewReader(body(i)))
				if err != nil || got.status != http.StatusOK {
					t.Errorf("client %d, request %d: %v, status %d %s", c, i, err, got.status, got.body)
					return
				}
				var answer edge.Response
				if err := json.Unmarshal([]byte(got.body), &answer); err != nil {
					t.Errorf("client %d, request %d: %v", c, i, err)
					return
				}
				if !reflect.DeepEqual(answer, want[i]) {
					t.Errorf("client %d, request %d: another answer under load: %+v, want %+v", c, i, answer, want[i])
				}
			}
		})
	}
	wg.Wait()
}
