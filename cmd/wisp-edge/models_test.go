//go:build !windows

package main_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/wisp-project/wisp/artifact"
	"github.com/wisp-project/wisp/internal/layout"
)

var least = layout.Shape{Items: 3, Dim: 2, Layers: 1, Heads: 1, FFN: 2, Window: 2, EventTypes: 3, GapBuckets: 2}

// admin returns the gateway's other address as a process of its own.
func (p *process) admin(t *testing.T) *process {
	t.Helper()
	for _, line := range p.lines(t) {
		if line["msg"] == "admin" {
			return &process{url: "http://" + line["addr"].(string)}
		}
	}
	t.Fatalf("no admin address in the log:\n%s", p.log.String())
	return nil
}

// title asks a model for one item and returns its title.
func (p *process) title(t *testing.T, path string) string {
	t.Helper()
	got := p.do(t, http.MethodPost, path, strings.NewReader(`{"k":1}`))
	var answer struct{ Items []struct{ Title string } }
	if err := json.Unmarshal([]byte(got.body), &answer); err != nil || len(answer.Items) != 1 {
		t.Fatalf("%s: %d %s", path, got.status, got.body)
	}
	return answer.Items[0].Title
}

// shelf keeps artefacts at one path, each in the place of the one before.
func shelf(t *testing.T, name string) (path string, put func(version uint64, change func(*artifact.Artifact))) {
	t.Helper()
	path = filepath.Join(t.TempDir(), name+".wisp")
	return path, func(version uint64, change func(*artifact.Artifact)) {
		t.Helper()
		a := buildShape(t, least)
		a.Manifest.Name, a.Manifest.Version = name, version
		for i := range a.Items {
			a.Items[i].Title = fmt.Sprintf("%s %d", name, version)
		}
		if change != nil {
			change(a)
		}
		if err := artifact.WriteFile(path, a, artifact.WriteOptions{Level: 1}); err != nil {
			t.Fatal(err)
		}
	}
}

// TestModels serves two models, updates them in all ways, and goes back.
func TestModels(t *testing.T) {
	shop, putShop := shelf(t, "shop")
	films, putFilms := shelf(t, "films")
	putShop(1, nil)
	putFilms(1, nil)
	args := []string{
		"--allow-unsigned", "--state", t.TempDir(), "--cache", filepath.Join(t.TempDir(), "cache"), "--admin", "127.0.0.1:0",
		"--model", "shop=" + shop, "--model", "films=" + films,
	}
	p := launch(t, args...)
	p.awaitReady(t)
	serves := func(shop, films string) {
		t.Helper()
		for path, want := range map[string]string{"/v1/recommend": shop, "/v1/models/shop/recommend": shop, "/v1/models/films/recommend": films} {
			if got := p.title(t, path); got != want {
				t.Errorf("%s serves %q, want %q", path, got, want)
			}
		}
	}
	serves("shop 1", "films 1")
	if got := p.get(t, "/v1/models"); got.body != `{"models":[{"name":"films","version":1,"items":3},{"name":"shop","version":1,"items":3}]}`+"\n" {
		t.Errorf("the models are %s", got.body)
	}
	got := p.do(t, http.MethodPost, "/v1/models/none/recommend", strings.NewReader("{}"))
	if code, _ := got.failure(t); got.status != http.StatusNotFound || code != "no_model" {
		t.Errorf("a model that there is not: %d %s", got.status, got.body)
	}

	admin := p.admin(t)
	post := func(path string, status int, says string) {
		t.Helper()
		if got := admin.do(t, http.MethodPost, path, nil); got.status != status || !strings.Contains(got.body, says) {
			t.Errorf("%s: %d %s, want %d with %q", path, got.status, got.body, status, says)
		}
	}
	post("/models/shop/update", 200, `"version":1,`)
	putShop(2, nil)
	post("/models/shop/update", 200, `"version":2,`)
	serves("shop 2", "films 1")
	post("/models/shop/rollback", 200, `"version":1,`)
	serves("shop 1", "films 1")
	post("/models/shop/rollback", 409, "no version before 1")
	post("/models/shop/update", 409, "rolled back")
	post("/models/none/update", 404, "none")
	post("/models/none/rollback", 404, "none")
	putFilms(2, func(a *artifact.Artifact) { a.Goldens[0].Answer[0] ^= 1 })
	post("/models/films/update", 502, "golden")
	serves("shop 1", "films 1")
	post("/update", 409, "rolled back")
	putShop(3, nil)
	putFilms(3, nil)
	post("/update", 200, `"version":3,`)
	serves("shop 3", "films 3")
	stats := admin.get(t, "/stats")
	var counts struct {
		Models []struct {
			Model     string
			Version   int
			Answered  int
			LatencyMS map[string]float64 `json:"latency_ms"`
			Versions  int                `json:"versions_replaced"`
		}
	}
	if err := json.Unmarshal([]byte(stats.body), &counts); err != nil || len(counts.Models) != 2 {
		t.Fatalf("%s: %v", stats.body, err)
	}
	for i, name := range []string{"films", "shop"} {
		if c := counts.Models[i]; c.Model != name || c.Version != 3 || c.Answered == 0 || c.LatencyMS["p50"] <= 0 || c.Versions == 0 {
			t.Errorf("counts %+v", c)
		}
	}

	putShop(4, nil)
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(patience); p.title(t, "/v1/recommend") != "shop 4"; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("SIGHUP does nothing")
		}
	}
	p.stop()
	if err := p.wait(t); err != nil {
		t.Fatal(err)
	}
	// It starts without its origins, one of which is damaged.
	if err := os.Remove(shop); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(films, []byte("WISP?"), 0o600); err != nil {
		t.Fatal(err)
	}
	p = launch(t, append(args, "--poll", "5ms")...)
	p.awaitReady(t)
	serves("shop 4", "films 3")
	if !strings.Contains(p.log.String(), `"cached":true`) {
		t.Errorf("the machine code was not taken from the cache:\n%s", p.log.String())
	}
	putFilms(4, nil)
	for deadline := time.Now().Add(patience); p.title(t, "/v1/models/films/recommend") != "films 4"; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("--poll does nothing")
		}
	}
}

// TestOneOfTwo serves what can be served, and the rest once it can.
func TestOneOfTwo(t *testing.T) {
	shop, putShop := shelf(t, "shop")
	films, putFilms := shelf(t, "films")
	putShop(1, nil)
	p := launch(t, "--allow-unsigned", "--admin", "localhost:0", "--model", "shop="+shop, "--model", "films="+films)
	p.awaitReady(t)
	if got := p.title(t, "/v1/recommend"); got != "shop 1" {
		t.Errorf("%q", got)
	}
	if got := p.do(t, http.MethodPost, "/v1/models/films/recommend", strings.NewReader("{}")); got.status != http.StatusNotFound {
		t.Errorf("%d %s", got.status, got.body)
	}
	putFilms(1, nil)
	if got := p.admin(t).do(t, http.MethodPost, "/models/films/update", nil); got.status != http.StatusOK {
		t.Errorf("%d %s", got.status, got.body)
	}
	if got := p.title(t, "/v1/models/films/recommend"); got != "films 1" {
		t.Errorf("%q", got)
	}
}

// TestAdminIsOwn refuses pages of browsers, and addresses that others can reach.
func TestAdminIsOwn(t *testing.T) {
	shop, put := shelf(t, "shop")
	put(1, nil)
	p := launch(t, "--allow-unsigned", "--admin", "127.0.0.1:0", shop)
	p.awaitReady(t)
	admin := p.admin(t)
	for header, value := range map[string]string{"Origin": "http://localhost", "Host": "rebound.example"} {
		q, err := http.NewRequestWithContext(t.Context(), http.MethodPost, admin.url+"/update", nil)
		if err != nil {
			t.Fatal(err)
		}
		if q.Header.Set(header, value); header == "Host" {
			q.Host = value
		}
		r, err := http.DefaultClient.Do(q)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Body.Close(); err != nil || r.StatusCode != http.StatusForbidden {
			t.Errorf("%s %s: status %d, want 403", header, value, r.StatusCode)
		}
	}
	for _, c := range []struct {
		method, path string
		status       int
	}{{"POST", "/stats", 405}, {"GET", "/models/x/update", 405}, {"GET", "/update", 405}, {"POST", "/", 404}} {
		if got := admin.do(t, c.method, c.path, nil); got.status != c.status {
			t.Errorf("%s %s: %d %s", c.method, c.path, got.status, got.body)
		}
	}
	for _, addr := range []string{"0.0.0.0:1", "192.0.2.1:1", ":1", "nowhere"} {
		if _, err := fails(t, "--admin", addr, shop); !strings.Contains(err.Error(), "--admin") {
			t.Errorf("%s: error %v", addr, err)
		}
	}
}

// TestTenantsFile reads limits, good and bad ones.
func TestTenantsFile(t *testing.T) {
	pub, sign := signer(t)
	other, _ := signer(t)
	a := buildShape(t, least)
	a.Manifest.Tenant = "north"
	path := sign(a)
	file := func(content string) string {
		f := filepath.Join(t.TempDir(), "tenants.json")
		if err := os.WriteFile(f, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return f
	}
	good := fmt.Sprintf(`{"north": {"sandboxes": 1, "queue": 5, "memory": 10000000, "timeout": "1s", "max_answer": 1000, "keys": [%q]}, "*": {"sandboxes": 1}}`, pub)
	p := launch(t, "--trust", pub, "--tenants", file(good), path)
	p.awaitReady(t)
	if got := p.post(t, `{"k":3}`); got.status != http.StatusOK {
		t.Errorf("%d %s", got.status, got.body)
	}
	for content, says := range map[string]string{
		"":                                  "EOF",
		`{"north": {"sandboxs": 1}}`:        "sandboxs",
		`{"north": {"timeout": "soon"}}`:    "soon",
		`{"north": {"memory": -1}}`:         "negative",
		`{"north": {"keys": ["none.pub"]}}`: "none.pub",
		fmt.Sprintf(`{"north": {"keys": [%q]}}`, other): "not among those of --trust",
		`{"north": {"memory": 1000}}`:                   "--tenants",
		`{"*": {"memory": 1000}}`:                       "may have 1000 bytes",
	} {
		_, err := fails(t, "--addr", "127.0.0.1:0", "--trust", pub, "--tenants", file(content), path)
		if !strings.Contains(err.Error(), says) {
			t.Errorf("%s: error %v, want one that says %q", content, err, says)
		}
	}
}
