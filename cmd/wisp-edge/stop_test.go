package main_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/wisp-project/wisp/edge"
)

// held is a request whose body has not arrived in full: the gateway works on it
// until finish.
type held struct {
	conn net.Conn
	in   *bufio.Reader
	rest string
}

// hold begins a request and returns once the gateway has asked for its body,
// which the client waits for.
func hold(t *testing.T, p *process, body string) *held {
	t.Helper()
	conn := dial(t, p)
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	h := &held{conn: conn, in: bufio.NewReader(conn), rest: body[len(body)/2:]}
	_, err := fmt.Fprintf(conn, "POST /v1/recommend HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n", p.addr, len(body))
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.ReadResponse(h.in, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Body.Close(); err != nil || r.StatusCode != http.StatusContinue {
		t.Fatalf("status %d, want 100 (%v)", r.StatusCode, err)
	}
	if _, err := io.WriteString(conn, body[:len(body)/2]); err != nil {
		t.Fatal(err)
	}
	return h
}

// finish sends the rest of the body and returns the answer.
func (h *held) finish(t *testing.T) reply {
	t.Helper()
	if _, err := io.WriteString(h.conn, h.rest); err != nil {
		t.Fatal(err)
	}
	r, err := http.ReadResponse(h.in, nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r.Body)
	if closed := r.Body.Close(); err != nil || closed != nil {
		t.Fatal(err, closed)
	}
	return reply{status: r.StatusCode, header: r.Header, body: string(b)}
}

func dial(t *testing.T, p *process) net.Conn {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", p.addr)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// refuses waits until the gateway takes no connection any more.
func (p *process) refuses(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", p.addr)
		if errors.Is(err, syscall.ECONNREFUSED) {
			return
		}
		if err == nil {
			_ = conn.Close()
		}
	}
	t.Fatal("the gateway still takes connections")
}

// TestStop stops the gateway while requests are in progress: they are answered,
// no others are taken, and run returns well before the grace is over.
func TestStop(t *testing.T) {
	const n = 6
	path := write(t, build(t))
	p, r := serve(t, path, "--grace", patience.String()), open(t, path)
	p.post(t, `{"k":-1}`) // for the log
	inProgress := make([]*held, n)
	for i := range inProgress {
		inProgress[i] = hold(t, p, fmt.Sprintf(`{"history":[{"item":"i%d"}],"k":30,"explain":true}`, i))
	}
	begin := time.Now()
	p.stop()
	p.refuses(t)
	select {
	case <-p.ended:
		t.Fatalf("run returned %v with requests in progress", p.result)
	default:
	}
	for i, h := range inProgress {
		want, err := r.Recommend(t.Context(), edge.Request{History: []edge.Event{{Item: fmt.Sprintf("i%d", i)}}, K: 30, Explain: true})
		if err != nil {
			t.Fatal(err)
		}
		got := h.finish(t)
		var answer edge.Response
		if err := json.Unmarshal([]byte(got.body), &answer); err != nil || got.status != http.StatusOK || !reflect.DeepEqual(answer, want) {
			t.Errorf("request %d: status %d, %v: %s, want %+v", i, got.status, err, got.body, want)
		}
	}
	if err := p.wait(t); err != nil {
		t.Errorf("run returned %v", err)
	}
	if took := time.Since(begin); took >= patience {
		t.Errorf("run waited %v, all of the grace", took)
	}
	checkLog(t, p, fmt.Sprintf("%x", r.Digest()), map[float64]int{http.StatusOK: n, http.StatusBadRequest: 1})
}

// checkLog looks for what operators search logs for: one line for each request
// with its status, none for probes, and the artefact that is served.
func checkLog(t *testing.T, p *process, digest string, statuses map[float64]int) {
	t.Helper()
	var messages []string
	got := map[float64]int{}
	for _, line := range p.lines(t) {
		for _, field := range []string{"time", "level", "msg"} {
			if s, ok := line[field].(string); !ok || s == "" {
				t.Errorf("a line lacks %s: %v", field, line)
			}
		}
		if line["msg"] != "request" {
			messages = append(messages, fmt.Sprint(line["msg"]))
		}
		switch line["msg"] {
		case "ready":
			if line["addr"] != p.addr || line["models"] != 1.0 {
				t.Errorf("ready with %v", line)
			}
		case "serving":
			for field, want := range map[string]any{"model": "default", "name": "shop", "version": 7.0, "items": float64(items), "digest": digest} {
				if line[field] != want {
					t.Errorf("serving with %s %v, want %v", field, line[field], want)
				}
			}
		case "request":
			status, _ := line["status"].(float64)
			took, _ := line["took"].(float64)
			if line["method"] != "POST" || line["path"] != "/v1/recommend" || took <= 0 {
				t.Errorf("request line %v", line)
			}
			got[status]++
		}
	}
	if want := []string{"serving", "ready", "stopping", "stopped"}; !reflect.DeepEqual(messages, want) {
		t.Errorf("messages %q, want %q", messages, want)
	}
	if !reflect.DeepEqual(got, statuses) {
		t.Errorf("statuses %v in the log, want %v", got, statuses)
	}
}

// TestStopUnderLoad stops the gateway while clients ask as fast as they can:
// each request is answered in full or not at all.
func TestStopUnderLoad(t *testing.T) {
	path := write(t, build(t))
	p := serve(t, path)
	const body = `{"history":[{"item":"i5"},{"item":"i6"}],"k":50,"explain":true}`
	want := p.post(t, body).body
	var stopped atomic.Bool
	var answered atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for {
				got, err := p.try(t.Context(), http.MethodPost, "/v1/recommend", strings.NewReader(body))
				switch {
				case err != nil && got.status == 0 && stopped.Load():
					return // refused, as it should be
				case err != nil || got.status != http.StatusOK || got.body != want:
					t.Errorf("%v, status %d: %s, want %s", err, got.status, got.body, want)
					return
				}
				answered.Add(1)
			}
		})
	}
	for deadline := time.Now().Add(patience); answered.Load() < 100 && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	stopped.Store(true)
	p.stop()
	if err := p.wait(t); err != nil {
		t.Errorf("run returned %v", err)
	}
	wg.Wait()
	if answered.Load() < 100 {
		t.Errorf("only %d requests were answered", answered.Load())
	}
}

// TestGrace holds a request for longer than the gateway waits.
func TestGrace(t *testing.T) {
	p := serve(t, write(t, build(t)), "--grace", "50ms")
	h := hold(t, p, `{"history":[]}`)
	p.stop()
	err := p.wait(t)
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "--grace 50ms") {
		t.Errorf("got %v, want an error that names --grace", err)
	}
	if b, err := io.ReadAll(h.in); strings.Contains(string(b), "200 OK") {
		t.Errorf("the request that was cut off got %q (%v)", b, err)
	}
}

// TestNoGrace stops an idle gateway that may not wait: there is nothing to wait
// for.
func TestNoGrace(t *testing.T) {
	p := launch(t, "--grace", "0", "--sandboxes", "16", "--allow-unsigned", write(t, build(t)))
	for deadline := time.Now().Add(patience); !strings.Contains(p.log.String(), `"ready"`); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("not ready")
		}
	}
	p.stop()
	if err := p.wait(t); err != nil {
		t.Errorf("run returned %v", err)
	}
}
