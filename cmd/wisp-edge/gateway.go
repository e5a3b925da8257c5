package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/wisp-project/wisp/edge"
)

// maxBody bounds a request: about ten thousand events.
const maxBody = 1 << 20

// gateway answers HTTP requests from the models of a host.
type gateway struct {
	log      *slog.Logger
	timeout  time.Duration
	models   *models
	ready    atomic.Bool
	stopping atomic.Bool
}

func (g *gateway) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if !g.ready.Load() || g.stopping.Load() {
			http.Error(w, "not ready", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ready")
	})
	for kind, handler := range map[string]http.HandlerFunc{
		"recommend": answer(g, (*edge.Runtime).Recommend),
		"search":    answer(g, (*edge.Runtime).Search),
		"similar":   answer(g, (*edge.Runtime).Similar),
		"score":     answer(g, score),
		"rate":      answer(g, (*edge.Runtime).Rate),
		"classify":  answer(g, (*edge.Runtime).Classify),
	} {
		for _, path := range []string{"/v1/" + kind, "/v1/models/{model}/" + kind} {
			mux.HandleFunc("POST "+path, handler)
			mux.HandleFunc(path, wrongMethod("POST"))
		}
	}
	mux.HandleFunc("GET /v1/models", g.list)
	// What is left over gets the same form of error as the rest.
	mux.HandleFunc("/v1/models", wrongMethod("GET, HEAD"))
	mux.HandleFunc("/healthz", wrongMethod("GET, HEAD"))
	mux.HandleFunc("/readyz", wrongMethod("GET, HEAD"))
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fail(w, http.StatusNotFound, "not_found", fmt.Sprintf("there is no %s; POST to /v1/recommend, /v1/search, /v1/similar, /v1/score, /v1/rate or /v1/classify, or to /v1/models/NAME/recommend", r.URL.Path))
	})
	return logged(g.log, mux)
}

// list names the models that are served.
func (g *gateway) list(w http.ResponseWriter, _ *http.Request) {
	type entry struct {
		Name    string `json:"name"`
		Version uint64 `json:"version"`
		Items   int    `json:"items"`
	}
	all := []entry{}
	for _, m := range g.models.host.Models() {
		_ = m.Use(func(r *edge.Runtime) error { // one that was closed meanwhile is left out
			all = append(all, entry{m.Name(), r.Manifest().Version, len(r.Items())})
			return nil
		})
	}
	writeJSON(w, http.StatusOK, map[string]any{"models": all})
}

func wrongMethod(allow string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Allow", allow)
		fail(w, http.StatusMethodNotAllowed, "method_not_allowed", fmt.Sprintf("%s does not take %s; use %s", r.URL.Path, r.Method, allow))
	}
}

// failure is the body of an answer that is not 200.
type failure struct {
	Error struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	} `json:"error"`
}

// answer returns the handler of requests that one method of the runtime answers.
func answer[Q, A any](g *gateway, method func(*edge.Runtime, context.Context, Q) (A, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		model, err := g.models.find(r.PathValue("model"))
		switch {
		case err != nil && !g.ready.Load():
			w.Header().Set("Retry-After", "1")
			fail(w, http.StatusServiceUnavailable, "not_ready", "the artefact is being checked; ask again in a second")
			return
		case err != nil:
			fail(w, http.StatusNotFound, "no_model", err.Error())
			return
		}
		var q Q
		if err := decode(http.MaxBytesReader(w, r.Body, maxBody), &q); err != nil {
			var tooLarge *http.MaxBytesError
			if errors.As(err, &tooLarge) {
				fail(w, http.StatusRequestEntityTooLarge, "too_large", fmt.Sprintf("a request may have %d bytes; send the latest events only", maxBody))
				return
			}
			fail(w, http.StatusBadRequest, "bad_json", err.Error())
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), g.timeout)
		defer cancel()
		var response A
		err = model.Use(func(runtime *edge.Runtime) (err error) {
			response, err = method(runtime, ctx, q)
			return err
		})
		g.respond(w, response, err)
	}
}

// respond writes a response, or what its error means to a client.
func (g *gateway) respond(w http.ResponseWriter, response any, err error) {
	switch {
	case err == nil:
		var body bytes.Buffer
		if err := json.NewEncoder(&body).Encode(response); err != nil {
			g.log.Error("encode", "error", err)
			fail(w, http.StatusInternalServerError, "internal", "the answer could not be written as JSON")
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(body.Bytes()) // the client may be gone; there is nobody to tell
	case errors.Is(err, edge.ErrRequest):
		fail(w, http.StatusBadRequest, "bad_request", err.Error())
	case errors.Is(err, edge.ErrNoText):
		fail(w, http.StatusBadRequest, "no_text", err.Error())
	case errors.Is(err, edge.ErrNoHead):
		fail(w, http.StatusBadRequest, "no_head", err.Error())
	case errors.Is(err, edge.ErrSession):
		fail(w, http.StatusConflict, "session", err.Error())
	case errors.Is(err, context.DeadlineExceeded):
		fail(w, http.StatusGatewayTimeout, "timeout", fmt.Sprintf("no answer within %v", g.timeout))
	case errors.Is(err, context.Canceled):
		fail(w, 499, "cancelled", "the client closed the request")
	case errors.Is(err, edge.ErrOverloaded):
		w.Header().Set("Retry-After", "1")
		fail(w, http.StatusServiceUnavailable, "overloaded", "too many requests wait already; ask again in a second")
	case errors.Is(err, edge.ErrClosed):
		fail(w, http.StatusServiceUnavailable, "stopping", "the gateway is stopping")
	default:
		g.log.Error("sandbox", "error", err)
		fail(w, http.StatusInternalServerError, "sandbox", "the sandbox failed; it was replaced")
	}
}

// decode reads one JSON object into q and nothing behind it. Unknown fields are
// errors, so that a misspelt one is not silently ignored.
func decode(body io.Reader, q any) error {
	d := json.NewDecoder(body)
	d.DisallowUnknownFields()
	if err := d.Decode(q); err != nil {
		return fmt.Errorf("the body is not a request: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		if err == nil {
			err = errors.New("more follows the JSON object")
		}
		return fmt.Errorf("the body is not a request: %w", err)
	}
	return nil
}

func fail(w http.ResponseWriter, status int, code, message string) {
	var f failure
	f.Error.Code, f.Error.Message = code, message
	writeJSON(w, status, f)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client may be gone; there is nobody to tell
}

// recorder remembers the status for the log.
type recorder struct {
	http.ResponseWriter
	status int
}

func (r *recorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

// Unwrap gives http.ResponseController the writer beneath.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

func logged(log *slog.Logger, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begin := time.Now()
		rec := &recorder{ResponseWriter: w, status: http.StatusOK}
		next.ServeHTTP(rec, r)
		level := slog.LevelInfo
		if r.URL.Path == "/healthz" || r.URL.Path == "/readyz" {
			level = slog.LevelDebug
		}
		log.Log(r.Context(), level, "request", "method", r.Method, "path", r.URL.Path, "status", rec.status, "took", time.Since(begin))
	})
}
