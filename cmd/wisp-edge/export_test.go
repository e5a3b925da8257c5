package main

import (
	"log/slog"
	"net/http"

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
