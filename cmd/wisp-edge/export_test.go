package main

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/wisp-project/wisp/edge"
)

// Run is run: what the command does, short of signals and the exit status.
var Run = run

// MaxBody is the largest body of a request in bytes.
const MaxBody = maxBody

// Respond answers a request that failed with err.
func Respond(w http.ResponseWriter, err error) {
	g := &gateway{log: slog.New(slog.DiscardHandler)}
	g.respond(w, edge.Response{}, err)
}

// Handler is what answers from the artefact at path, without an address and a log.
func Handler(ctx context.Context, path string) http.Handler {
	log := slog.New(slog.DiscardHandler)
	host, err := edge.NewHost(edge.HostOptions{Options: edge.Options{AllowUnsigned: true, Sandboxes: 1}})
	if err != nil {
		panic(err)
	}
	m := &models{log: log, host: host, list: []named{{defaultModel, path}}}
	if _, err := m.update(ctx); err != nil {
		panic(err)
	}
	g := &gateway{log: log, timeout: time.Minute, models: m}
	g.ready.Store(true)
	return g.handler()
}
