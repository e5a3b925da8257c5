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

  wisp-edge --trust shop.key.pub --state /var/lib/wisp shop.wisp
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
	f.StringVar(&c.options.State, "state", "", "`folder` to remember the last version in; a lower one is refused from then on")
	f.BoolVar(&c.options.ForceVersion, "force-version", false, "accept a version that --state would refuse, this once: leave it out of scripts")
	f.IntVar(&c.options.Sandboxes, "sandboxes", 0, "requests worked on at once (0: one for each CPU)")
	f.IntVar(&c.options.Queue, "queue", 0, "requests that wait for a sandbox; one more is turned away (0: 64 for each sandbox, -1: none)")
	f.TextVar(&c.options.Isolation, "isolation", edge.Shared, "what a request may find of those before it: `shared`, wiped or fresh sandboxes")
	f.Int64Var(&c.options.MaxMemory, "max-memory", 0, "largest memory of a sandbox, in `bytes` (0: 4 GiB)")
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
		case errors.Is(err, artifact.ErrUntrusted):
			err = fmt.Errorf("%w; on this command line that is --trust FILE.pub", err)
		case errors.Is(err, edge.ErrRollback), errors.Is(err, edge.ErrState):
			err = fmt.Errorf("%w; on this command line --force-version does that", err)
		}
		return errors.Join(err, closed)
	}
	m := runtime.Manifest()
	log.Info("ready", "addr", listener.Addr().String(), "artefact", c.artefact, "name", m.Name, "version", m.Version,
		"digest", fmt.Sprintf("%x", runtime.Digest()), "signer", signer(runtime.Signature()), "items", m.Model.Items, "took", time.Since(begin))
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
