package main_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wisp-project/wisp/artifact"
	wispedge "github.com/wisp-project/wisp/cmd/wisp-edge"
	"github.com/wisp-project/wisp/edge"
	"github.com/wisp-project/wisp/internal/layout"
	"github.com/wisp-project/wisp/internal/layout/layouttest"
	"github.com/wisp-project/wisp/internal/q8"
	"github.com/wisp-project/wisp/wasm"
)

// patience bounds every wait: far more than a wait takes, so that a test that
// hangs fails and one on a slow machine does not.
const patience = 20 * time.Second

const items = 60

// build returns an artefact of random parameters.
func build(t testing.TB) *artifact.Artifact {
	t.Helper()
	return buildShape(t, layout.Shape{Items: items, Dim: 12, Layers: 1, Heads: 2, FFN: 16, Window: 8, EventTypes: 3, GapBuckets: 24})
}

// buildShape is build for a shape with three event types.
func buildShape(t testing.TB, s layout.Shape) *artifact.Artifact {
	t.Helper()
	b, err := layout.Pack(layouttest.Params(s, 1))
	if err != nil {
		t.Fatal(err)
	}
	image, err := layout.Open(b)
	if err != nil {
		t.Fatal(err)
	}
	q, err := q8.New(b)
	if err != nil {
		t.Fatal(err)
	}
	a := &artifact.Artifact{
		Manifest: artifact.Manifest{
			Name: "shop", Version: 7,
			EventTypes: []artifact.EventType{{Name: "click"}, {Name: "rating"}, {Name: "rating", AtLeast: 4}},
		},
		Kernel: wasm.Kernel,
	}
	a.SetImage(image)
	for i := range s.Text.Classes {
		a.Manifest.Classes = append(a.Manifest.Classes, fmt.Sprintf("class %d", i))
	}
	for i := range s.Items {
		item := artifact.Item{ID: fmt.Sprintf("i%d", i), Title: fmt.Sprintf("Item <%d>", i)}
		if labels := image.Labels(); labels != nil {
			for _, l := range labels[i] {
				item.Categories = append(item.Categories, fmt.Sprintf("c%03d", l))
			}
		}
		a.Items = append(a.Items, item)
	}
	for _, r := range layouttest.Requests(s, image.Map, 16, 5) {
		answer := q.Run(r)
		a.Goldens = append(a.Goldens, artifact.Golden{Request: r.Append(nil), Answer: answer.Append(nil)})
	}
	return a
}

// write stores an artefact and returns its path.
func write(t testing.TB, a *artifact.Artifact) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "shop.wisp")
	if err := artifact.WriteFile(path, a, artifact.WriteOptions{Level: 1}); err != nil {
		t.Fatal(err)
	}
	return path
}

// open returns a runtime of the artefact in this process, to compare with.
func open(t testing.TB, path string) *edge.Runtime {
	t.Helper()
	r, err := edge.Open(context.Background(), path, edge.Options{AllowUnsigned: true, Sandboxes: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return r
}

// output is what a command writes; it may be read while the command runs.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// process is a gateway in this process.
type process struct {
	addr   string
	url    string
	log    output
	stop   context.CancelFunc // what a signal does
	ended  chan struct{}      // closed when run has returned
	result error              // of run; valid once ended is closed
}

// launch calls run with a free port and waits until it listens.
func launch(t testing.TB, args ...string) *process {
	t.Helper()
	p := &process{ended: make(chan struct{})}
	ctx, stop := context.WithCancel(context.Background())
	p.stop = stop
	listening := make(chan net.Addr, 1)
	go func() {
		defer close(p.ended)
		p.result = wispedge.Run(ctx, append([]string{"--addr", "127.0.0.1:0"}, args...), &p.log, func(a net.Addr) { listening <- a })
	}()
	t.Cleanup(func() {
		stop()
		_ = p.wait(t)
	})
	select {
	case a := <-listening:
		p.addr, p.url = a.String(), "http://"+a.String()
	case <-p.ended:
		t.Fatalf("run ended: %v\n%s", p.result, p.log.String())
	case <-time.After(patience):
		t.Fatal("run does not listen")
	}
	return p
}

// serve launches a gateway for the artefact at path and waits until it is
// ready.
func serve(t testing.TB, path string, args ...string) *process {
	t.Helper()
	p := launch(t, append(append([]string{"--allow-unsigned"}, args...), path)...)
	p.awaitReady(t)
	return p
}

func (p *process) awaitReady(t testing.TB) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		if r := p.get(t, "/readyz"); r.status == http.StatusOK {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not ready after %v\n%s", patience, p.log.String())
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// wait returns what run returned.
func (p *process) wait(t testing.TB) error {
	t.Helper()
	select {
	case <-p.ended:
		return p.result
	case <-time.After(patience):
		t.Fatal("run does not end")
		return nil
	}
}

// reply is a response with its body.
type reply struct {
	status int
	header http.Header
	body   string
}

func (p *process) get(t testing.TB, path string) reply {
	t.Helper()
	return p.do(t, http.MethodGet, path, nil)
}

func (p *process) post(t testing.TB, body string) reply {
	t.Helper()
	return p.do(t, http.MethodPost, "/v1/recommend", strings.NewReader(body))
}

func (p *process) do(t testing.TB, method, path string, body io.Reader) reply {
	t.Helper()
	r, err := p.try(t.Context(), method, path, body)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// try is do for goroutines, which must not end the test.
func (p *process) try(ctx context.Context, method, path string, body io.Reader) (reply, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	q, err := http.NewRequestWithContext(ctx, method, p.url+path, body)
	if err != nil {
		return reply{}, err
	}
	response, err := http.DefaultClient.Do(q)
	if err != nil {
		return reply{}, err
	}
	b, err := io.ReadAll(response.Body)
	if closed := response.Body.Close(); err == nil {
		err = closed
	}
	return reply{status: response.StatusCode, header: response.Header, body: string(b)}, err
}

// failure returns the code and the message of an error body and fails the test
// if the body has another form.
func (r reply) failure(t testing.TB) (code, message string) {
	t.Helper()
	var body map[string]map[string]string
	if err := json.Unmarshal([]byte(r.body), &body); err != nil {
		t.Fatalf("status %d with %q: %v", r.status, r.body, err)
	}
	e := body["error"]
	if len(body) != 1 || len(e) != 2 || e["code"] == "" || e["message"] == "" {
		t.Fatalf("status %d with %q, want {\"error\":{\"code\",\"message\"}}", r.status, r.body)
	}
	if got := r.header.Get("Content-Type"); got != "application/json" {
		t.Errorf("status %d has Content-Type %q", r.status, got)
	}
	return e["code"], e["message"]
}

// lines decodes a JSON log.
func (p *process) lines(t testing.TB) []map[string]any {
	t.Helper()
	var lines []map[string]any
	for line := range strings.Lines(p.log.String()) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatalf("the log has %q: %v", line, err)
		}
		lines = append(lines, m)
	}
	return lines
}
