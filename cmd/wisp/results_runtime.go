package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/wisp-project/wisp/artifact"
	"github.com/wisp-project/wisp/edge"
	"github.com/wisp-project/wisp/internal/layout"
	"github.com/wisp-project/wisp/internal/layout/layouttest"
	"github.com/wisp-project/wisp/internal/q8"
	"github.com/wisp-project/wisp/internal/results"
	"github.com/wisp-project/wisp/model"
	"github.com/wisp-project/wisp/quantize"
	"github.com/wisp-project/wisp/wasm"
)

const runtimeText = `
What isolation costs, with artefacts of random parameters: width 64, 2 layers, requests of
50 events for ten items. The kinds of isolation take turns, one sandbox and one goroutine
each. Where the system happens to put an image decides more about the time of a request
than wiping does, so each round opens the artefact anew. What a kind adds is the median over
the rounds of the difference of the medians of a round, page faults included; low and
high are the quartiles. Requests each second are
those of as many goroutines as there are cores, divided by the cores; high is the best round.

The memory of many sandboxes is the proportional set size of the process while
all of them are there, each wiped after an answer, less that before the runtime was
opened: the image is in it, and what Go keeps. Page tables, which the system keeps
beside it, have a figure of their own.
`

// runtimeSizes say how much is measured.
type runtimeSizes struct {
	items, requests, rounds int // for times
	many, sandboxes         int // for memory: items, and sandboxes over them
	second                  time.Duration
}

func (b *bench) runtime(ctx context.Context) (results.Topic, error) {
	return runtimeFigures(ctx, runtimeSizes{items: 10_000, requests: 300, rounds: 40, many: 735_000, sandboxes: 1000, second: time.Second})
}

func runtimeFigures(ctx context.Context, n runtimeSizes) (results.Topic, error) {
	t := results.Topic{Title: "What isolation costs", Text: runtimeText}
	// Memory first, while the process has little of its own.
	for _, measure := range []func(context.Context, runtimeSizes) ([]results.Record, error){density, isolationCost, throughput} {
		records, err := measure(ctx, n)
		if err != nil {
			return t, err
		}
		t.Records = append(t.Records, records...)
	}
	return t, nil
}

// randomArtefact returns an artefact of random parameters.
func randomArtefact(items int) (*artifact.Artifact, error) {
	return artefactOf(layouttest.Params(randomShape(items), 1))
}

// randomTextArtefact returns one with the built-in text encoder inside, which finds and
// places items by a random map.
func randomTextArtefact(items int) (*artifact.Artifact, error) {
	encoder, tok, err := quantize.Builtin(builtinEncoder)
	if err != nil {
		return nil, err
	}
	p := layouttest.Params(randomShape(items), 1)
	itemMap, rng := model.NewTensor(p.Shape.Dim, encoder.Config.Dim), rand.New(rand.NewPCG(1, 3))
	for i := range itemMap.Data {
		itemMap.Data[i] = float32(rng.NormFloat64())
	}
	if p.Shape.Text, p.Text, err = quantize.TextParams(quantize.Text{Encoder: encoder, Tokenizer: tok, ItemMap: itemMap}); err != nil {
		return nil, err
	}
	return artefactOf(p)
}

func randomShape(items int) layout.Shape {
	return layout.Shape{Items: items, Dim: 64, Layers: 2, Heads: 1, FFN: 64, Window: 50, EventTypes: 1, GapBuckets: 24}
}

func artefactOf(p layout.Params) (*artifact.Artifact, error) {
	items := p.Shape.Items
	packed, err := layout.Pack(p)
	if err != nil {
		return nil, err
	}
	image, err := layout.Open(packed)
	if err != nil {
		return nil, err
	}
	exact, err := q8.New(packed)
	if err != nil {
		return nil, err
	}
	a := &artifact.Artifact{
		Manifest: artifact.Manifest{Name: "random", Version: 1, EventTypes: []artifact.EventType{{Name: edge.DefaultType}}},
		Kernel:   wasm.Kernel,
	}
	a.SetImage(image)
	labels := image.Labels()
	for i := range items {
		a.Items = append(a.Items, artifact.Item{ID: strconv.Itoa(i)})
		if labels != nil {
			for _, l := range labels[i] {
				a.Items[i].Categories = append(a.Items[i].Categories, randomCategory(int(l)))
			}
		}
	}
	request := layout.Request{Kind: layout.KindRecommend, K: 10, History: []layout.Event{{Item: uint32(items - 1)}}}
	answer := exact.Run(request)
	a.Goldens = []artifact.Golden{{Request: request.Append(nil), Answer: answer.Append(nil)}}
	return a, nil
}

// randomCategory is the name of label l of a random artefact, in the order of the labels.
func randomCategory(l int) string { return fmt.Sprintf("c%03d", l) }

// randomHistories returns histories of 50 events.
func randomHistories(items int) [][]edge.Event {
	rng := rand.New(rand.NewPCG(1, 2))
	histories := make([][]edge.Event, 64)
	for i := range histories {
		for j := range 50 {
			histories[i] = append(histories[i], edge.Event{Item: strconv.Itoa(rng.IntN(items)), Time: int64(60 * j)})
		}
	}
	return histories
}

// isolationCost compares the kinds of isolation.
func isolationCost(ctx context.Context, n runtimeSizes) ([]results.Record, error) {
	a, err := randomArtefact(n.items)
	if err != nil {
		return nil, err
	}
	histories := randomHistories(n.items)
	kinds := []edge.Isolation{edge.Shared, edge.Wiped, edge.Fresh}
	took := []timed{{name: "shared-sandbox"}, {}, {}} // by kind
	for range n.rounds {
		for j, kind := range kinds {
			times, err := isolated(ctx, a, kind, histories, n.requests)
			if err != nil {
				return nil, err
			}
			took[j].count(times)
		}
	}
	note := fmt.Sprintf("%d items, history 50; %d rounds of %d", n.items, n.rounds, n.requests)
	records := took[0].records(note)
	for j, name := range []string{"wiped", "new"} {
		var added []float64
		for i := range n.rounds {
			added = append(added, took[j+1].p50s[i]-took[0].p50s[i])
		}
		slices.Sort(added)
		records = append(records, results.Record{
			Name: "speed." + name + "-sandbox.added-p50-us", Value: added[n.rounds/2], Low: added[n.rounds/4], High: added[n.rounds*3/4],
			Unit: "µs", N: len(took[j+1].times), Note: note,
		})
	}
	return records, nil
}

// isolated times requests to a new runtime.
func isolated(ctx context.Context, a *artifact.Artifact, kind edge.Isolation, histories [][]edge.Event, requests int) (_ []time.Duration, err error) {
	r, err := edge.New(ctx, a, edge.Options{Sandboxes: 1, Isolation: kind})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.Close(ctx)) }()
	var times []time.Duration
	for i := range 2 * requests {
		begin := time.Now()
		if _, err := r.Recommend(ctx, edge.Request{History: histories[i%len(histories)]}); err != nil {
			return nil, err
		}
		if i >= requests { // it is warm
			times = append(times, time.Since(begin))
		}
	}
	return times, nil
}

// throughput keeps all cores busy.
func throughput(ctx context.Context, n runtimeSizes) (_ []results.Record, err error) {
	a, err := randomArtefact(n.items)
	if err != nil {
		return nil, err
	}
	cores := runtime.GOMAXPROCS(0)
	r, err := edge.New(ctx, a, edge.Options{Sandboxes: cores})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.Close(ctx)) }()
	histories := randomHistories(n.items)
	var rates []float64
	for range n.rounds {
		counts, failed := make([]int, cores), make([]error, cores)
		var wg sync.WaitGroup
		begin := time.Now()
		for c := range cores {
			wg.Go(func() {
				for failed[c] == nil && time.Since(begin) < n.second {
					_, failed[c] = r.Recommend(ctx, edge.Request{History: histories[(counts[c]+c)%len(histories)]})
					counts[c]++
				}
			})
		}
		wg.Wait()
		took, answered := time.Since(begin), 0
		for _, n := range counts {
			answered += n
		}
		if err := errors.Join(failed...); err != nil {
			return nil, err
		}
		rates = append(rates, float64(answered)/took.Seconds()/float64(cores))
	}
	slices.Sort(rates)
	return []results.Record{{
		Name: "speed.requests-per-second-per-core", Value: rates[len(rates)/2], Low: rates[0], High: rates[len(rates)-1], N: len(rates),
		Note: fmt.Sprintf("%d items, history 50, %d cores; rounds of %v", n.items, cores, n.second),
	}}, nil
}

// density makes many sandboxes over one artefact.
func density(ctx context.Context, n runtimeSizes) (_ []results.Record, err error) {
	a, err := randomArtefact(n.many)
	if err != nil {
		return nil, err
	}
	history := randomHistories(n.many)[0]
	before, ok := proportional()
	if !ok {
		return nil, nil // the system does not tell
	}
	tables := pageTables()
	r, err := edge.New(ctx, a, edge.Options{Sandboxes: n.sandboxes, Isolation: edge.Wiped})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.Close(ctx)) }()
	var wg, entered sync.WaitGroup
	entered.Add(n.sandboxes)
	failed := make([]error, n.sandboxes)
	for i := range n.sandboxes {
		wg.Go(func() {
			_, failed[i] = r.Recommend(&together{Context: ctx, all: &entered}, edge.Request{History: history})
		})
	}
	wg.Wait()
	if err := errors.Join(failed...); err != nil {
		return nil, err
	}
	if s := r.Stats(); s.Idle != n.sandboxes {
		return nil, fmt.Errorf("%d sandboxes are there, not %d", s.Idle, n.sandboxes)
	}
	after, _ := proportional()
	name := fmt.Sprintf("size.%d-sandboxes.", n.sandboxes)
	image := 0
	for _, s := range a.Segments {
		image += len(s.Data)
	}
	note := fmt.Sprintf("%d items, an image of %d bytes", n.many, image)
	return []results.Record{
		{Name: name + "pss-bytes", Value: float64(after - before), Unit: "bytes", N: n.sandboxes, Note: note},
		{Name: name + "page-table-bytes", Value: float64(pageTables() - tables), Unit: "bytes", N: n.sandboxes},
	}, nil
}

// together is a context that holds its request up where the runtime first looks at
// it, in a sandbox, until all are there: so no sandbox serves two of them.
type together struct {
	context.Context
	once sync.Once
	all  *sync.WaitGroup
}

func (t *together) Err() error {
	t.once.Do(func() {
		t.all.Done()
		t.all.Wait()
	})
	return t.Context.Err()
}

// proportional returns the proportional set size of this process after a garbage
// collection, in bytes, where the system tells.
func proportional() (int64, bool) {
	debug.FreeOSMemory()
	b, err := os.ReadFile("/proc/self/smaps_rollup")
	if err != nil {
		return 0, false
	}
	return procBytes(b, "Pss:"), true
}

// pageTables returns what the system keeps to translate addresses, in bytes.
func pageTables() int64 {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	return procBytes(b, "VmPTE:")
}
