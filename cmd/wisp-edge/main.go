// Command wisp-edge serves a .wisp artefact over HTTP. It is pure Go and links
// statically; every answer comes out of a WebAssembly sandbox.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/wisp-project/wisp/artifact"
	"github.com/wisp-project/wisp/edge"
)

const usage = `usage: wisp-edge [flags] FILE.wisp

Serves the artefact:

  POST /v1/recommend   {"history":[{"item":"a","type":"click","time":1700000000}],"k":10}
  POST /v1/search      {"text":"a rainy night in Paris","k":10}, where the artefact has a text encoder
  GET  /healthz        200 while the process lives
  GET  /readyz         200 while requests are answered, 503 before and while stopping

Example:

  wisp-edge --addr 127.0.0.1:8080 --allow-unsigned shop.wisp
  curl -d '{"history":[{"item":"50"}],"k":3}' http://127.0.0.1:8080/v1/recommend

Flags:
`

type config struct {
	artefact  string
	addr      string
	options   edge.Options
	timeout   time.Duration // of a request
	grace     time.Duration // for requests in progress when stopping
	logFormat string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	if err := run(ctx, os.Args[1:], os.Stderr, nil); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return
		}
		fmt.Fprintln(os.Stderr, "wisp-edge:", err)
		os.Exit(1)
	}
}

func parse(args []string, stderr io.Writer) (config, error) {
	var c config
	f := flag.NewFlagSet("wisp-edge", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.Usage = func() {
		fmt.Fprint(stderr, usage)
		f.PrintDefaults()
	}
	f.StringVar(&c.addr, "addr", "127.0.0.1:8080", "`host:port` to listen on")
	f.BoolVar(&c.options.AllowUnsigned, "allow-unsigned", false, "accept an artefact without a signature")
	f.IntVar(&c.options.Sandboxes, "sandboxes", 0, "requests worked on at once (0: one for each CPU)")
	f.BoolVar(&c.options.Interpreter, "interpreter", false, "run the kernel without compiling it")
	f.DurationVar(&c.timeout, "timeout", 2*time.Second, "longest time for a request")
	f.DurationVar(&c.grace, "grace", 10*time.Second, "longest wait for requests in progress when stopping")
	f.StringVar(&c.logFormat, "log", "json", "form of the log: json or text")
	if err := f.Parse(args); err != nil {
		return c, err
	}
	if f.NArg() != 1 {
		f.Usage()
		return c, fmt.Errorf("give one artefact, not %d", f.NArg())
	}
	if c.logFormat != "json" && c.logFormat != "text" {
		return c, fmt.Errorf("--log is %q, must be json or text", c.logFormat)
	}
	if c.timeout <= 0 || c.grace < 0 {
		return c, errors.New("--timeout must be positive, --grace must not be negative")
	}
	c.artefact = f.Arg(0)
	return c, nil
}

// run serves until ctx ends, then lets requests in progress finish. listening,
// unless nil, is told the address.
func run(ctx context.Context, args []string, stderr io.Writer, listening func(net.Addr)) error {
	c, err := parse(args, stderr)
	if err != nil {
		return err
	}
	var handler slog.Handler = slog.NewJSONHandler(stderr, nil)
	if c.logFormat == "text" {
		handler = slog.NewTextHandler(stderr, nil)
	}
	log := slog.New(handler)

	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", c.addr)
	if err != nil {
		return fmt.Errorf("listen on %s: %w; choose another --addr", c.addr, err)
	}
	g := &gateway{log: log, timeout: c.timeout}
	server := &http.Server{
		Handler: g.handler(), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 15 * time.Second,
		WriteTimeout: c.timeout + 15*time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(handler, slog.LevelWarn),
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	if listening != nil {
		listening(listener.Addr())
	}

	// The process answers /healthz while the artefact is checked, and is ready
	// after the golden requests.
	begin := time.Now()
	runtime, err := edge.Open(ctx, c.artefact, c.options)
	if err != nil {
		closed := server.Close()
		switch {
		case ctx.Err() != nil && errors.Is(err, ctx.Err()):
			log.Info("stopped before it was ready")
			return closed
		case errors.Is(err, artifact.ErrUnsigned):
			err = fmt.Errorf("%w; on this command line that is --allow-unsigned", err)
		}
		return errors.Join(err, closed)
	}
	m := runtime.Manifest()
	log.Info("ready", "addr", listener.Addr().String(), "artefact", c.artefact, "name", m.Name, "version", m.Version,
		"digest", fmt.Sprintf("%x", runtime.Digest()), "items", m.Model.Items, "took", time.Since(begin))
	g.runtime.Store(runtime)

	select {
	case err = <-served:
	case <-ctx.Done():
	}
	g.stopping.Store(true)
	log.Info("stopping", "grace", c.grace)
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.grace)
	defer cancel()
	if cut := server.Shutdown(stopping); cut != nil {
		err = errors.Join(err, fmt.Errorf("requests were cut off, they took longer than --grace %v: %w", c.grace, cut), server.Close())
	}
	err = errors.Join(err, runtime.Close(stopping))
	log.Info("stopped")
	return err
}
