package main

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/wisp-project/wisp/edge"
)

// admin is what operators may do, at an address of its own.
type admin struct{ *models }

// loopback refuses addresses that other machines could reach: whoever reaches the
// admin address may change what is served.
func loopback(addr string) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("--admin %q: %w", addr, err)
	}
	if ip := net.ParseIP(host); host == "localhost" || ip != nil && ip.IsLoopback() {
		return nil
	}
	return fmt.Errorf("--admin %q can be reached from other machines; give a loopback address such as 127.0.0.1:8081", addr)
}

func (a admin) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /stats", a.stats)
	mux.HandleFunc("POST /update", a.updateAll)
	mux.HandleFunc("POST /models/{model}/update", a.updateModel)
	mux.HandleFunc("POST /models/{model}/rollback", a.rollbackModel)
	a.itemRoutes(mux)
	mux.HandleFunc("/stats", wrongMethod("GET, HEAD"))
	mux.HandleFunc("/update", wrongMethod("POST"))
	mux.HandleFunc("/models/{model}/update", wrongMethod("POST"))
	mux.HandleFunc("/models/{model}/rollback", wrongMethod("POST"))
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fail(w, http.StatusNotFound, "not_found", fmt.Sprintf("there is no %s; GET /stats, POST /update, /models/NAME/update or /models/NAME/rollback, PUT or DELETE /models/NAME/items/ID or /models/NAME/unavailable/ID", r.URL.Path))
	})
	return logged(a.log, own(mux))
}

// own refuses what a page in a browser of this machine could send.
func own(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, err := net.SplitHostPort(r.Host)
		if err != nil {
			host = r.Host
		}
		if ip := net.ParseIP(host); r.Header.Get("Origin") != "" || host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			fail(w, http.StatusForbidden, "forbidden", "the admin address takes no requests of pages in browsers, nor by other names than localhost")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// state is what a model serves.
type state struct {
	Model   string `json:"model"`
	Version uint64 `json:"version"`
	Digest  string `json:"digest"`
	Changed bool   `json:"changed"`
}

func (a admin) respond(w http.ResponseWriter, model *edge.Model, changed bool) {
	s := model.Stats()
	writeJSON(w, http.StatusOK, state{Model: model.Name(), Version: s.Version, Digest: fmt.Sprintf("%x", s.Digest), Changed: changed})
}

func (a admin) refuse(w http.ResponseWriter, err error) {
	switch {
	case errors.Is(err, edge.ErrRollback), errors.Is(err, edge.ErrState):
		fail(w, http.StatusConflict, "refused", advice(err).Error())
	case errors.Is(err, edge.ErrModel):
		fail(w, http.StatusNotFound, "no_model", err.Error())
	default:
		fail(w, http.StatusBadGateway, "failed", advice(err).Error())
	}
}

func (a admin) updateModel(w http.ResponseWriter, r *http.Request) {
	for _, n := range a.list {
		if n.name != r.PathValue("model") {
			continue
		}
		changed, err := a.updateOne(r.Context(), n)
		if err != nil {
			a.refuse(w, err)
			return
		}
		model, err := a.find(n.name)
		if err != nil {
			a.refuse(w, err)
			return
		}
		a.respond(w, model, changed)
		return
	}
	a.refuse(w, fmt.Errorf("%w: there is none called %q", edge.ErrModel, r.PathValue("model")))
}

func (a admin) updateAll(w http.ResponseWriter, r *http.Request) {
	if _, err := a.update(r.Context()); err != nil {
		a.refuse(w, err)
		return
	}
	a.stats(w, r)
}

func (a admin) rollbackModel(w http.ResponseWriter, r *http.Request) {
	if err := a.rollback(r.Context(), r.PathValue("model")); err != nil {
		a.refuse(w, err)
		return
	}
	model, err := a.find(r.PathValue("model"))
	if err != nil {
		a.refuse(w, err)
		return
	}
	a.respond(w, model, true)
}

// counts are those of a model, for machines to read.
type counts struct {
	state
	InProgress   int                `json:"in_progress"`
	Waiting      int                `json:"waiting"`
	Idle         int                `json:"idle_sandboxes"`
	Answered     int64              `json:"answered"`
	Failed       int64              `json:"failed"`
	Refused      int64              `json:"refused"`
	Made         int64              `json:"sandboxes_made"`
	Thrown       map[string]int64   `json:"sandboxes_replaced"`
	Versions     int64              `json:"versions_replaced"`
	ImageBytes   int64              `json:"image_bytes"`
	SandboxBytes int64              `json:"sandbox_bytes"`
	LatencyMS    map[string]float64 `json:"latency_ms"`
	Failure      string             `json:"last_failure,omitempty"`
}

func (a admin) stats(w http.ResponseWriter, _ *http.Request) {
	all := []counts{}
	for _, m := range a.host.Models() {
		s := m.Stats()
		c := counts{
			state:      state{Model: m.Name(), Version: s.Version, Digest: fmt.Sprintf("%x", s.Digest), Changed: s.Replaced > 0},
			InProgress: s.InProgress, Waiting: s.Waiting, Idle: s.Idle, Answered: s.Answered, Failed: s.Failed, Refused: s.Refused, Made: s.Made,
			Thrown: map[string]int64{
				"used": s.Stats.Replaced.Used, "trapped": s.Stats.Replaced.Trapped, "timed_out": s.Stats.Replaced.TimedOut,
				"grew": s.Stats.Replaced.Grew, "answered_badly": s.Stats.Replaced.Answered, "left": s.Stats.Replaced.Left,
			},
			Versions: s.Replaced, ImageBytes: s.ImageBytes, SandboxBytes: s.SandboxBytes, LatencyMS: map[string]float64{},
		}
		for name, q := range map[string]float64{"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999} {
			c.LatencyMS[name] = float64(s.Latency.Quantile(q)) / float64(time.Millisecond)
		}
		if s.Failure != nil {
			c.Failure = s.Failure.Error()
		}
		all = append(all, c)
	}
	writeJSON(w, http.StatusOK, map[string]any{"models": all})
}
