// Command wisp-edge serves a .wisp artefact over HTTP. It is pure Go and links
// statically; every answer comes out of a WebAssembly sandbox.
package main

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/wisp-project/wisp/artifact"
	"github.com/wisp-project/wisp/edge"
)

const usage = `usage: wisp-edge [flags] FILE.wisp|ADDRESS
       wisp-edge [flags] --model NAME=FILE.wisp|ADDRESS ...

Serves the artefacts; the first where a request names none:

  POST /v1/recommend   {"history":[{"item":"a","type":"click","time":1700000000}],"k":10}
  POST /v1/search      {"text":"a rainy night in Paris","k":10}, where the artefact has a text encoder
  POST /v1/similar     {"item":"a","k":10}
  POST /v1/score       {"history":[{"item":"a"}],"items":["b","c"]}
  POST /v1/rate        {"history":[{"item":"a","type":"rating","value":4}],"items":["b"]}, where it predicts ratings
  POST /v1/classify    {"text":"what a film"}, where it sorts texts into classes
  POST /v1/models/NAME/recommend and so on, from the model of that name
  GET  /v1/models      the models
  GET  /healthz        200 while the process lives
  GET  /readyz         200 while requests are answered, 503 before and while stopping

With --state it keeps what it accepts: it starts without the origin, goes back to the
version before, and refuses lower ones. SIGHUP looks for new versions, as --poll does;
so do, at the address of --admin, POST /update and /models/NAME/update. POST
/models/NAME/rollback goes back, GET /stats counts. There, too, PUT /models/NAME/items/ID
{"title":"A kettle","text":"for the camp fire","categories":["kitchen"]} inserts an item,
PUT /models/NAME/unavailable/ID keeps one out of all answers; DELETE undoes either. Rankings
take "rules": see the documentation of package edge.

Example:

  wisp-edge --trust shop.key.pub --state /var/lib/wisp shop.wisp
  wisp-edge --trust a.pub --state /var/lib/wisp --admin 127.0.0.1:8081 --poll 5m \
    --model shop=https://models.example/shop.wisp --model films=films.wisp
  curl -d '{"history":[{"item":"50"}],"k":3}' http://127.0.0.1:8080/v1/recommend

Flags:
`

type config struct {
	models    []named
	addr      string
	admin     string
	poll      time.Duration
	options   edge.HostOptions
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
	f.Func("model", "`NAME=ORIGIN` of a model, a file or an http(s) address; may be repeated", func(s string) error {
		n, err := parseModel(s)
		c.models = append(c.models, n)
		return err
	})
	var tenants string
	f.StringVar(&tenants, "tenants", "", "`file` of limits of tenants, as JSON (see the README)")
	f.StringVar(&c.admin, "admin", "", "loopback `host:port` to be administered at (default none)")
	f.DurationVar(&c.poll, "poll", 0, "how often to look for new versions (0: on SIGHUP and at --admin only)")
	f.StringVar(&c.addr, "addr", "127.0.0.1:8080", "`host:port` to listen on")
	trust := &c.options.Trust
	f.Func("trust", "`file` of a public key whose artefacts are accepted; may be repeated", keys(&trust.Keys))
	f.Func("trust-kernels", "`file` of a public key whose artefacts are accepted, and their kernels trusted; may be repeated", keys(&trust.KernelKeys))
	f.Func("trust-kernel", "`SHA-256` of a kernel that is trusted whoever signed it, as wisp inspect shows it; may be repeated", func(s string) error {
		digest, err := hex.DecodeString(s)
		if err != nil || len(digest) != sha256.Size {
			return fmt.Errorf("a SHA-256 has %d characters of 0-9 and a-f", 2*sha256.Size)
		}
		trust.Kernels = append(trust.Kernels, [sha256.Size]byte(digest))
		return nil
	})
	f.BoolVar(&c.options.AllowUnsigned, "allow-unsigned", false, "accept an artefact without a signature, or of a key that is not trusted")
	f.StringVar(&c.options.State, "state", "", "`folder` to keep what was accepted in; a lower version is refused from then on")
	f.StringVar(&c.options.Cache, "cache", "", "`folder` for machine code, which nobody else may write to; saves compiling at the next start")
	f.BoolVar(&c.options.ForceVersion, "force-version", false, "accept a version that --state would refuse, this once: leave it out of scripts")
	f.IntVar(&c.options.Sandboxes, "sandboxes", 0, "requests worked on at once (0: one for each CPU)")
	f.IntVar(&c.options.Queue, "queue", 0, "requests that wait for a sandbox; one more is turned away (0: 64 for each sandbox, -1: none)")
	f.TextVar(&c.options.Isolation, "isolation", edge.Shared, "what a request may find of those before it: `shared`, wiped or fresh sandboxes")
	f.Int64Var(&c.options.MaxMemory, "max-memory", 0, "largest memory of a sandbox, in `bytes` (0: 4 GiB)")
	f.IntVar(&c.options.MaxAnswer, "max-answer", 0, "largest answer of a kernel, in `bytes` (0: as the artefact has it)")
	f.BoolVar(&c.options.Interpreter, "interpreter", false, "run the kernel without compiling it")
	f.DurationVar(&c.timeout, "timeout", 2*time.Second, "longest time for a request")
	f.DurationVar(&c.grace, "grace", 10*time.Second, "longest wait for requests in progress when stopping")
	f.StringVar(&c.logFormat, "log", "json", "form of the log: json or text")
	if err := f.Parse(args); err != nil {
		return c, err
	}
	switch {
	case f.NArg() == 1 && len(c.models) == 0:
		c.models = []named{{defaultModel, f.Arg(0)}}
	case f.NArg() > 0 || len(c.models) == 0:
		f.Usage()
		if len(c.models) > 0 {
			return c, fmt.Errorf("%q: give one artefact, or --model NAME=ORIGIN for each, behind flags nothing else", f.Args())
		}
		return c, fmt.Errorf("give one artefact, not %d", f.NArg())
	}
	for i, m := range c.models {
		if slices.ContainsFunc(c.models[:i], func(n named) bool { return n.name == m.name }) {
			return c, fmt.Errorf("--model %s is given twice", m.name)
		}
	}
	if c.logFormat != "json" && c.logFormat != "text" {
		return c, fmt.Errorf("--log is %q, must be json or text", c.logFormat)
	}
	if c.timeout <= 0 || c.grace < 0 || c.poll < 0 {
		return c, errors.New("--timeout must be positive, --grace must not be negative, nor --poll")
	}
	if c.admin != "" {
		if err := loopback(c.admin); err != nil {
			return c, err
		}
	}
	if tenants != "" {
		if err := readTenants(tenants, &c.options); err != nil {
			return c, fmt.Errorf("--tenants: %w", err)
		}
	}
	c.options.Now = time.Now
	return c, nil
}

// keys returns what reads the file of a public key and adds the key to the list.
func keys(to *[]ed25519.PublicKey) func(path string) error {
	return func(path string) error {
		key, err := artifact.ReadPublicKey(path)
		*to = append(*to, key)
		return err
	}
}

// signer returns the id of the trusted key that signed, or the empty string.
func signer(s artifact.Signature) string {
	if !s.Trusted {
		return ""
	}
	return s.Key.String()
}

// run serves until ctx ends, then lets requests in progress finish. listening,
// unless nil, is told the address.
func run(ctx context.Context, args []string, stderr io.Writer, listening func(net.Addr)) error {
	c, err := parse(args, stderr)
	if err != nil {
		return err
	}
	var lines slog.Handler = slog.NewJSONHandler(stderr, nil)
	if c.logFormat == "text" {
		lines = slog.NewTextHandler(stderr, nil)
	}
	log := slog.New(lines)

	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP) // from now on it does not end the process
	defer signal.Stop(hangup)
	listen := func(name, addr string) (net.Listener, error) {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
		if err != nil {
			return nil, fmt.Errorf("listen on %s: %w; choose another --%s", addr, err, name)
		}
		return l, nil
	}
	listener, err := listen("addr", c.addr)
	if err != nil {
		return err
	}
	defer listener.Close() //nolint:errcheck // the server closes it as well
	host, err := edge.NewHost(c.options)
	if err != nil {
		return err
	}
	m := &models{log: log, host: host, list: c.models}
	g := &gateway{log: log, timeout: c.timeout, models: m}
	serve := func(l net.Listener, handler http.Handler, timeout time.Duration) (*http.Server, chan error) {
		server := &http.Server{
			Handler: handler, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 15 * time.Second,
			WriteTimeout: timeout, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10,
			ErrorLog: slog.NewLogLogger(lines, slog.LevelWarn),
		}
		served := make(chan error, 1)
		go func() { served <- server.Serve(l) }()
		return server, served
	}
	server, served := serve(listener, g.handler(), c.timeout+15*time.Second)
	if listening != nil {
		listening(listener.Addr())
	}

	// The process answers /healthz while the artefacts are checked, and is ready
	// after the golden requests.
	serves, err := m.update(ctx)
	if !serves {
		closed := errors.Join(server.Close(), host.Close(context.WithoutCancel(ctx)))
		if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
			log.Info("stopped before it was ready")
			return closed
		}
		return errors.Join(advice(err), closed)
	}
	var operators *http.Server
	if c.admin != "" {
		l, err := listen("admin", c.admin)
		if err != nil {
			return errors.Join(err, server.Close(), host.Close(context.WithoutCancel(ctx)))
		}
		log.Info("admin", "addr", l.Addr().String())
		operators, _ = serve(l, admin{m}.handler(), 0)
	}
	log.Info("ready", "addr", listener.Addr().String(), "models", len(host.Models()))
	g.ready.Store(true)

	working, stop := context.WithCancel(ctx)
	updates := make(chan struct{})
	go func() {
		defer close(updates)
		m.follow(working, hangup, c.poll)
	}()
	err = nil // what could not be served is in the log
	select {
	case err = <-served:
	case <-ctx.Done():
	}
	g.stopping.Store(true)
	log.Info("stopping", "grace", c.grace)
	stop()
	<-updates
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.grace)
	defer cancel()
	if cut := server.Shutdown(stopping); cut != nil {
		err = errors.Join(err, fmt.Errorf("requests were cut off, they took longer than --grace %v: %w", c.grace, cut), server.Close())
	}
	if operators != nil {
		err = errors.Join(err, operators.Close())
	}
	err = errors.Join(err, host.Close(stopping))
	log.Info("stopped")
	return err
}
