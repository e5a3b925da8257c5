// Command bench measures wisp side by side with other software on the same
// machine, in one run, and writes docs/results/peers.* (`make bench-peers`) or
// peers-games.* (`make bench-games`), peers-guest.* (`make bench-guest`) or browser.*
// (`make bench-browser`).
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"time"

	"github.com/wisp-project/wisp/hostgpu"
)

// threads is how many processors each side may use.
const threads = 2

func main() {
	var b bench
	flag.StringVar(&b.shared, "shared", "../shared", "folder with the models")
	flag.StringVar(&b.venv, "venv", "out/peers/venv", "virtual environment of the peers, made where it is missing")
	flag.StringVar(&b.peers, "peers", "bench/peers", "folder with the peers' scripts and requirements")
	flag.StringVar(&b.docs, "docs", "docs/results", "folder for the figures")
	flag.StringVar(&b.topic, "topic", "peers", "what to compare: peers (training steps), games (the quality of a training), guest (what runs in the sandbox), recipes (what others make of the encoder) or browser (the browser package)")
	flag.StringVar(&b.work, "work", "out/results", "folder for the trainings of games, that of wisp results")
	flag.DurationVar(&b.limit, "limit", 4*time.Hour, "when to break off the trainings of games; they go on the next time")
	flag.BoolVar(&b.untimed, "untimed", false, "do not wait for a quiet machine, and measure no times of games, only quality")
	flag.StringVar(&b.worker, "worker", "", "file of a module whose products are timed on demand; what a run of guest starts")
	flag.StringVar(&b.browser, "browser", "chromium", "browser of the guest's peer")
	flag.StringVar(&b.guest, "guest", "wasm/guest", "folder of the guest's source")
	flag.StringVar(&b.web, "web", "wasm/web", "folder of the browser package")
	flag.StringVar(&b.artefact, "artefact", "out/web/served/demo.wisp", "what the browser package loads first; with a small text encoder, as it would be embedded")
	flag.IntVar(&b.cycles, "cycles", 50, "how often browsers load and close it before their memory is looked at again")
	flag.IntVar(&b.rounds, "rounds", 9, "rounds, ours and theirs in each; at least 7")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := b.run(ctx); err != nil {
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		os.Exit(1)
	}
}

// bench is a run of all comparisons.
type bench struct {
	shared, venv, peers, docs, work string
	topic                           string
	rounds                          int
	limit                           time.Duration
	untimed                         bool
	worker, browser, guest          string
	web, artefact                   string
	cycles                          int
}

func (b *bench) run(ctx context.Context) error {
	if b.worker != "" {
		return productWorker(ctx, b.worker)
	}
	// The range of fewer rounds would not be a 95 % interval of their median.
	if b.rounds < 7 {
		return fmt.Errorf("-rounds is %d, must be at least 7", b.rounds)
	}
	switch b.topic {
	case "guest":
		return b.guestTopic(ctx)
	case "browser":
		return b.browserTopic(ctx)
	case "recipes":
		return b.recipes(ctx)
	}
	if info := hostgpu.BLAS(); !info.Fast {
		return fmt.Errorf("%s is no fair side of a comparison: %s", info.Name, info.Hint)
	}
	runtime.GOMAXPROCS(threads)
	python, err := environment(ctx, b.venv, filepath.Join(b.peers, "requirements.txt"))
	if err != nil {
		return err
	}
	switch b.topic {
	case "peers":
		return b.speed(ctx, python)
	case "games":
		return b.games(ctx, python)
	}
	return fmt.Errorf("-topic %q is unknown; choose peers, games, guest, recipes or browser", b.topic)
}

// speed compares training steps.
func (b *bench) speed(ctx context.Context, python string) error {
	var all []measured
	for _, open := range []func(string) (*workload, error){openMiniLM, openTower} {
		m, err := b.measure(ctx, python, open)
		if err != nil {
			return err
		}
		all = append(all, m)
	}
	return write(ctx, b.docs, "make bench-peers", page(all))
}

// measured is a workload with the seconds of a step in each round.
type measured struct {
	*workload
	version      string // of the peer
	ours, theirs []float64
}

// measure runs rounds of a workload on both sides in turn. Which side begins
// alternates too, so that a machine that gets faster or slower favours neither.
func (b *bench) measure(ctx context.Context, python string, open func(shared string) (*workload, error)) (m measured, err error) {
	if m.workload, err = open(b.shared); err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, m.close()) }()
	p, err := startPeer(ctx, python, b.peers, m.script)
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	if p.parameters != m.parameters {
		return m, fmt.Errorf("%s: the models differ: %d parameters here, %d there", m.name, m.parameters, p.parameters)
	}
	m.version = p.version
	if err := idle(ctx); err != nil {
		return m, err
	}
	for round := range b.rounds {
		ours := func() error { return once(&m.ours, m.steps, func(n int) (float64, error) { return m.run(ctx, n) }) }
		theirs := func() error { return once(&m.theirs, m.steps, p.run) }
		sides := []func() error{ours, theirs}
		for i := range sides {
			if err := sides[(round+i)%2](); err != nil {
				return m, fmt.Errorf("%s: %w", m.name, err)
			}
		}
		fmt.Fprintf(os.Stderr, "%s: round %d of %d: %.0f ms here, %.0f ms with PyTorch\n",
			m.name, round+1, b.rounds, 1e3*m.ours[round], 1e3*m.theirs[round])
	}
	return m, nil
}

// once appends the seconds that each of n steps took.
func once(to *[]float64, n int, run func(int) (float64, error)) error {
	seconds, err := run(n)
	*to = append(*to, seconds/float64(n))
	return err
}
