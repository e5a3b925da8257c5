package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tetratelabs/wazero"

	"github.com/wisp-project/wisp/artifact"
	"github.com/wisp-project/wisp/edge"
	"github.com/wisp-project/wisp/edge/edgetest"
	"github.com/wisp-project/wisp/internal/layout"
	"github.com/wisp-project/wisp/internal/results"
)

const operateText = `
What an operator sees, with artefacts of random parameters: width 64, 2 layers, requests of 50 events for ten items.
In opening they have the built-in text encoder inside.

Opening is edge.Open of a signed file and a first answer: signature, digests, decompression, compiling, the golden
request. Cold has no machine code; warm takes it from the cache. Low and high are the quartiles over the rounds; files are
in the page cache.

The overshoot is how long after its deadline of 1 ms a request returned that would take far longer, queue
excluded: the median, and in a figure of its own the 99th percentile. What slicing costs is the number of slices of a request times what leaving and
entering the guest takes, over the time of the request.

Swapping replaces the version while every core asks: failed requests, and latencies beside those of the same
requests when nothing is replaced.
`

// operateSizes say how much is measured.
type operateSizes struct {
	items, rounds  int
	long           int // items of the request that runs into its deadline
	swapped, swaps int // requests and replacements
}

func (b *bench) operate(ctx context.Context) (results.Topic, error) {
	return operateFigures(ctx, operateSizes{
		items: 10_000, rounds: 40, long: 400_000, swapped: b.swapped, swaps: 100,
	}, b.p)
}

func operateFigures(ctx context.Context, n operateSizes, p *progress) (results.Topic, error) {
	t := results.Topic{Title: "Operating", Text: operateText}
	r, err := newReleases()
	if err != nil {
		return t, err
	}
	defer r.remove()
	o := operation{releases: r, n: n, p: p}
	for _, measure := range []func(context.Context) ([]results.Record, error){o.open, o.deadline, o.swap} {
		records, err := measure(ctx)
		if err != nil {
			return t, err
		}
		t.Records = append(t.Records, records...)
	}
	return t, nil
}

// operation measures.
type operation struct {
	releases
	n operateSizes
	p *progress
}

// releases are signed files in a folder.
type releases struct {
	dir string
	key ed25519.PrivateKey
}

func newReleases() (releases, error) {
	dir, err := os.MkdirTemp("", "wisp-releases-")
	return releases{dir, ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))}, err
}

func (r releases) remove() { _ = os.RemoveAll(r.dir) } // a temporary folder is cleaned by others too

// options trust what release signs.
func (r releases) options() edge.Options {
	return edge.Options{Trust: edge.Trust{Keys: []ed25519.PublicKey{r.key.Public().(ed25519.PublicKey)}}}
}

// release writes a version of a.
func (r releases) release(a *artifact.Artifact, name, tenant string, version uint64) (string, error) {
	b := *a
	b.Manifest.Name, b.Manifest.Tenant, b.Manifest.Version = name, tenant, version
	path := filepath.Join(r.dir, fmt.Sprintf("%s-%d.wisp", name, version))
	return path, artifact.WriteFile(path, &b, artifact.WriteOptions{Level: 3, Key: r.key})
}

func (o operation) open(ctx context.Context) ([]results.Record, error) {
	a, err := randomTextArtefact(o.n.items)
	if err != nil {
		return nil, err
	}
	path, err := o.release(a, "open", "", 1)
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	history := randomHistories(o.n.items)[0]
	var records []results.Record
	for _, c := range []struct{ name, cache string }{{"speed.open.ms", ""}, {"speed.open.warm-ms", filepath.Join(o.dir, "cache")}} {
		var times []float64
		for i := range o.n.rounds + 1 {
			options := o.options()
			options.Cache = c.cache
			begin := time.Now()
			r, err := edge.Open(ctx, path, options)
			if err != nil {
				return nil, err
			}
			_, err = r.Recommend(ctx, edge.Request{History: history})
			if took := time.Since(begin); i > 0 { // the first fills the cache
				times = append(times, float64(took.Microseconds())/1000)
			}
			cached, _ := r.Cached()
			if err = errors.Join(err, r.Close(ctx)); err == nil && cached != (c.cache != "" && i > 0) {
				err = fmt.Errorf("round %d: machine code from the cache: %v", i, cached)
			}
			if err != nil {
				return nil, err
			}
		}
		slices.Sort(times)
		records = append(records, results.Record{
			Name: c.name, Value: times[len(times)/2], Low: times[len(times)/4], High: times[len(times)*3/4], Unit: "ms", N: len(times),
			Note: fmt.Sprintf("%d items, a file of %d bytes", o.n.items, info.Size()),
		})
	}
	return records, nil
}

// observed counts how often the context is looked at: before each slice.
type observed struct {
	context.Context
	n int
}

func (c *observed) Err() error {
	c.n++
	return c.Context.Err()
}

func (o operation) deadline(ctx context.Context) (_ []results.Record, err error) {
	a, err := randomArtefact(o.n.long)
	if err != nil {
		return nil, err
	}
	r, err := edge.New(ctx, a, edge.Options{Sandboxes: 1})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.Close(ctx)) }()
	history := randomHistories(o.n.long)[0]
	q := edge.Request{History: history, Explain: true}
	c := &observed{Context: ctx}
	begin := time.Now()
	if _, err := r.Recommend(c, q); err != nil {
		return nil, err
	}
	whole := time.Since(begin)
	var over []float64
	for range 20 * o.n.rounds {
		// As net/http would: the deadline is known, and a timer ends the context.
		deadline := time.Now().Add(time.Millisecond)
		limited, cancel := context.WithDeadline(ctx, deadline)
		_, err := r.Recommend(limited, q)
		late := time.Since(deadline)
		cancel()
		if err == nil && whole > 20*time.Millisecond {
			return nil, fmt.Errorf("a request that takes %v was answered within a millisecond", whole)
		}
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			return nil, err
		}
		over = append(over, max(0, float64(late.Nanoseconds())/1000))
	}
	slices.Sort(over)
	entering, err := sliceCost(ctx)
	if err != nil {
		return nil, err
	}
	usual := &observed{Context: ctx}
	begin = time.Now()
	const requests = 50
	for range requests {
		if _, err := r.Recommend(usual, edge.Request{History: history}); err != nil {
			return nil, err
		}
	}
	took := time.Since(begin)
	lost := 100 * float64(usual.n) * entering / float64(took.Nanoseconds())
	at := func(q float64) float64 { return over[int(q*float64(len(over)-1))] }
	note := fmt.Sprintf("%d items, each recommendation explained, %v without a deadline", o.n.long, whole.Round(time.Millisecond))
	return []results.Record{
		{Name: "speed.deadline.overshoot-us", Value: at(0.5), Low: at(0.25), High: at(0.75), Unit: "µs", N: len(over), Note: note},
		{Name: "speed.deadline.overshoot-p99-us", Value: at(0.99), Low: at(0.99), High: over[len(over)-1], Unit: "µs", N: len(over), Note: note + "; high is the largest"},
		{
			Name: "speed.slicing.lost-percent", Value: lost, Low: lost, High: lost, Unit: "%", N: usual.n,
			Note: fmt.Sprintf("%d items, %.0f slices a request, %.0f ns to leave and enter the guest", o.n.long, float64(usual.n)/requests, entering),
		},
	}, nil
}

// sliceCost returns how long it takes to leave a guest, look at the context, and
// enter it again, in nanoseconds.
func sliceCost(ctx context.Context) (_ float64, err error) {
	r := wazero.NewRuntime(ctx)
	defer func() { err = errors.Join(err, r.Close(ctx)) }()
	m, err := r.Instantiate(ctx, edgetest.Module(1, append(edgetest.Word(layout.StatusMore), edgetest.End)...))
	if err != nil {
		return 0, err
	}
	run := m.ExportedFunction("run")
	const n = 200_000
	var stack [1]uint64
	begin := time.Now()
	for range n {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		if err := run.CallWithStack(ctx, stack[:]); err != nil {
			return 0, err
		}
	}
	return float64(time.Since(begin).Nanoseconds()) / n, nil
}

// load sends requests to a model from as many goroutines as there are cores, and
// returns how long they took, sorted, and how many failed.
func load(ctx context.Context, m *edge.Model, histories [][]edge.Event, requests int, done *atomic.Int64) (times []time.Duration, failed int) {
	cores := runtime.GOMAXPROCS(0)
	all, bad := make([][]time.Duration, cores), make([]int, cores)
	var wg sync.WaitGroup
	for c := range cores {
		wg.Go(func() {
			for i := c; i < requests && ctx.Err() == nil; i += cores {
				begin := time.Now()
				if _, err := m.Recommend(ctx, edge.Request{History: histories[i%len(histories)]}); err != nil && ctx.Err() == nil {
					bad[c]++
				}
				all[c] = append(all[c], time.Since(begin))
				done.Add(1)
			}
		})
	}
	wg.Wait()
	for c := range cores {
		times = append(times, all[c]...)
		failed += bad[c]
	}
	slices.Sort(times)
	return times, failed
}

func (o operation) swap(ctx context.Context) (_ []results.Record, err error) {
	a, err := randomArtefact(o.n.items)
	if err != nil {
		return nil, err
	}
	paths := make([]string, o.n.swaps+1)
	for v := range paths {
		if paths[v], err = o.release(a, "swap", "", uint64(v+1)); err != nil {
			return nil, err
		}
	}
	options := edge.HostOptions{Options: o.options()}
	options.State, options.Cache = filepath.Join(o.dir, "swap-state"), filepath.Join(o.dir, "cache")
	h, err := edge.NewHost(options)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, h.Close(ctx)) }()
	m, err := h.Open(ctx, "swap", paths[0])
	if err != nil {
		return nil, err
	}
	histories := randomHistories(o.n.items)
	var done atomic.Int64
	load(ctx, m, histories, min(1000, o.n.swapped), &done) // it is warm
	quiet, failedQuiet := load(ctx, m, histories, o.n.swapped, &done)
	done.Store(0)
	replaced := make(chan error, 1)
	go func() {
		for i, path := range paths[1:] {
			// Spread over the requests.
			for done.Load() < int64(i*o.n.swapped/(o.n.swaps+1)) && ctx.Err() == nil {
				time.Sleep(time.Millisecond)
			}
			if _, err := m.Replace(ctx, path); err != nil {
				replaced <- err
				return
			}
			o.p.stage("replacements under load", int64(i+1), int64(o.n.swaps))
		}
		replaced <- nil
	}()
	busy, failed := load(ctx, m, histories, o.n.swapped, &done)
	if err := errors.Join(<-replaced, ctx.Err()); err != nil {
		return nil, err
	}
	record := func(name string, v float64, unit string, n int) results.Record {
		return results.Record{Name: name, Value: v, Low: v, High: v, Unit: unit, N: n, Note: fmt.Sprintf("%d items, %d replacements", o.n.items, o.n.swaps)}
	}
	us := func(times []time.Duration, q float64) float64 {
		return float64(quantile(times, q).Nanoseconds()) / 1000
	}
	return []results.Record{
		record("speed.swap.failed", float64(failed), "requests", len(busy)),
		record("speed.swap.p50-us", us(busy, 0.5), "µs", len(busy)),
		record("speed.swap.p99-us", us(busy, 0.99), "µs", len(busy)),
		record("speed.swap.quiet-failed", float64(failedQuiet), "requests", len(quiet)),
		record("speed.swap.quiet-p50-us", us(quiet, 0.5), "µs", len(quiet)),
		record("speed.swap.quiet-p99-us", us(quiet, 0.99), "µs", len(quiet)),
	}, nil
}
