package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wisp-project/wisp/artifact"
	"github.com/wisp-project/wisp/edge"
	"github.com/wisp-project/wisp/edge/edgetest"
	"github.com/wisp-project/wisp/internal/atomicfile"
	"github.com/wisp-project/wisp/internal/layout"
	"github.com/wisp-project/wisp/internal/results"
	"github.com/wisp-project/wisp/internal/runlog"
)

const soakText = `
What a gateway's memory does over a long time. Two models of random parameters (width 64, 2 layers, the built-in text
encoder inside) answer requests of four events for ten items in wiped sandboxes. One of them is replaced again and again,
items are inserted into both by their texts and the oldest removed, and a tenant with hostile kernels (they trap, loop,
grow, answer nonsense) sends some hundred requests a second. After each part the resident memory is read, after a garbage
collection. The slope is that of the line through all points behind the first fifth, with its 95 % interval.

![resident memory over the soak](soak.svg)
`

// soakSizes say how long it takes.
type soakSizes struct{ items, requests, points int }

// soak lets a gateway work for long, beside what should not trouble it.
func (b *bench) soak(ctx context.Context) (results.Topic, error) {
	return soakFigures(ctx, soakSizes{items: 2_000, requests: b.soaked, points: 200}, b.docs, b.p)
}

// hostile returns an artefact whose kernel answers its golden request and then does
// something bad.
func hostile(bad func(m layout.Map) []byte) (*artifact.Artifact, error) {
	a, err := randomArtefact(12)
	if err != nil {
		return nil, err
	}
	image, err := a.Image()
	if err != nil {
		return nil, err
	}
	m := image.Map
	b := *a
	b.Kernel = edgetest.Module(2, slices.Concat(
		edgetest.Says(m, 1, 0, edgetest.Word(0), edgetest.Float(0)),
		edgetest.When(edgetest.Asked(m), edgetest.Word(7), bad(m)...), edgetest.Word(0), []byte{edgetest.End})...)
	request := layout.Request{Kind: layout.KindRecommend, K: 1}
	answer := layout.Answer{Status: layout.StatusOK, Hits: []layout.Hit{{}}}
	b.Goldens = []artifact.Golden{{Request: request.Append(nil), Answer: answer.Append(nil)}}
	return &b, nil
}

// soakFigures soaks, and draws the memory of it into docs.
func soakFigures(ctx context.Context, n soakSizes, docs string, p *progress) (t results.Topic, err error) {
	t = results.Topic{Title: "A long time at work", Text: soakText}
	if _, ok := resident(); !ok {
		p.line("skipped: this system does not tell the resident memory of a process")
		return t, nil
	}
	o, err := newReleases()
	if err != nil {
		return t, err
	}
	defer o.remove()
	a, err := randomTextArtefact(n.items)
	if err != nil {
		return t, err
	}
	options := edge.HostOptions{Options: o.options(), Tenants: map[string]edge.TenantLimits{"hostile": {Sandboxes: 1, Queue: 8, Timeout: 5 * time.Millisecond}}}
	options.State, options.Cache, options.Isolation = filepath.Join(o.dir, "soak-state"), filepath.Join(o.dir, "cache"), edge.Wiped
	h, err := edge.NewHost(options)
	if err != nil {
		return t, err
	}
	defer func() { err = errors.Join(err, h.Close(ctx)) }()
	var models, enemies []*edge.Model
	open := func(a *artifact.Artifact, name, tenant string) (*edge.Model, error) {
		path, err := o.release(a, name, tenant, 1)
		if err != nil {
			return nil, err
		}
		return h.Open(ctx, name, path)
	}
	for _, name := range []string{"swapped", "kept"} {
		m, err := open(a, name, "good")
		if err != nil {
			return t, err
		}
		models = append(models, m)
	}
	for name, bad := range map[string]func(m layout.Map) []byte{
		"traps": func(layout.Map) []byte { return []byte{edgetest.Unreachable} },
		"loops": func(layout.Map) []byte { return []byte{edgetest.Loop, edgetest.Void, edgetest.Br, 0, edgetest.End} },
		"grows": func(layout.Map) []byte {
			return slices.Concat(edgetest.Word(1), edgetest.MemoryGrow, []byte{edgetest.Drop})
		},
		"nonsense": func(m layout.Map) []byte { return edgetest.Says(m, 1<<30, 0, edgetest.Word(0), edgetest.Float(0)) },
	} {
		a, err := hostile(bad)
		if err != nil {
			return t, err
		}
		m, err := open(a, name, "hostile")
		if err != nil {
			return t, err
		}
		enemies = append(enemies, m)
	}

	histories := randomHistories(n.items)
	for i, h := range histories {
		histories[i] = h[:min(len(h), 4)]
	}
	part := max(1, n.requests/n.points)
	var x, y []float64
	var attacks, inserted atomic.Int64
	var refused atomic.Pointer[error] // the first error of an insertion
	failed, answered := 0, 0
	begin := time.Now()
	for answered < n.requests {
		attacking, stop := context.WithCancel(ctx)
		var flood sync.WaitGroup
		for _, m := range enemies {
			flood.Go(func() {
				for attacking.Err() == nil {
					_, _ = m.Recommend(attacking, edge.Request{K: 7}) // it fails
					attacks.Add(1)
					time.Sleep(20 * time.Millisecond)
				}
			})
		}
		for _, m := range models {
			flood.Go(func() {
				if err := insertOften(attacking, m, &inserted); err != nil && attacking.Err() == nil {
					refused.CompareAndSwap(nil, &err)
				}
			})
		}
		var done atomic.Int64
		for _, m := range models {
			times, bad := load(ctx, m, histories, part/len(models), &done)
			failed += bad
			answered += len(times)
		}
		stop()
		flood.Wait()
		if err := ctx.Err(); err != nil {
			return t, err
		}
		if err := refused.Load(); err != nil {
			return t, *err
		}
		version := uint64(len(x) + 2)
		path, err := o.release(a, "swapped", "good", version)
		if err == nil {
			_, err = models[0].Replace(ctx, path)
		}
		if err = errors.Join(err, os.Remove(path)); err != nil {
			return t, err
		}
		debug.FreeOSMemory()
		bytes, _ := resident()
		x, y = append(x, float64(answered)/1e6), append(y, float64(bytes)/(1<<20))
		p.stage("soak", int64(answered), int64(n.requests))
	}
	took := time.Since(begin)
	from := len(x) / 5
	slope, low, high := line(x[from:], y[from:])
	note := fmt.Sprintf("two models of %d items, %d replacements, %d insertions, %d hostile requests, %v", n.items, len(x), inserted.Load(), attacks.Load(), took.Round(time.Second))
	svg, err := runlog.Picture(runlog.Chart{
		Title: "Resident memory, MiB", Axis: fmt.Sprintf("thousands of requests, times %d", max(1, part/1000)),
		Curves: []runlog.Curve{{Name: "resident", Values: y}},
	})
	if err == nil {
		err = os.MkdirAll(docs, 0o755)
	}
	if err == nil {
		err = atomicfile.Write(filepath.Join(docs, "soak.svg"), svg)
	}
	if err != nil {
		return t, err
	}
	t.Records = []results.Record{
		{Name: "soak.failed", Value: float64(failed), Low: float64(failed), High: float64(failed), Unit: "requests", N: answered, Note: note},
		{Name: "soak.memory-slope", Value: slope, Low: low, High: high, Unit: "MiB a million requests", N: len(x) - from, Note: note},
		{Name: "soak.memory", Value: y[len(y)-1], Low: slices.Min(y[from:]), High: slices.Max(y[from:]), Unit: "MiB", N: len(x) - from, Note: "resident at the end; low and high are the extremes"},
	}
	return t, nil
}

// insertOften inserts an item into m some tens of times a second, and removes those
// that were inserted before the last few, until the context ends.
func insertOften(ctx context.Context, m *edge.Model, inserted *atomic.Int64) error {
	const kept = 16
	id := func(i int64) string { return fmt.Sprintf("new-%s-%d", m.Name(), i) }
	var mine []string
	for ctx.Err() == nil {
		n := inserted.Add(1)
		if err := m.Insert(ctx, edge.NewItem{ID: id(n), Text: fmt.Sprintf("thing %d of a kind %d", n, n%7)}); err != nil {
			return err
		}
		if mine = append(mine, id(n)); len(mine) > kept {
			if err := m.Remove(mine[0]); err != nil {
				return err
			}
			mine = mine[1:]
		}
		time.Sleep(50 * time.Millisecond)
	}
	for _, id := range mine {
		if err := m.Remove(id); err != nil {
			return err
		}
	}
	return nil
}

// resident returns the resident memory of this process, in bytes.
func resident() (int64, bool) {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil || !strings.Contains(string(b), "VmRSS:") {
		return 0, false
	}
	return procBytes(b, "VmRSS:"), true
}

// line returns the slope of the least-squares line through points, and the ends of
// its 95 % interval: residuals taken to be independent, two standard errors to each
// side.
func line(x, y []float64) (slope, low, high float64) {
	n := float64(len(x))
	var mx, my float64
	for i := range x {
		mx += x[i] / n
		my += y[i] / n
	}
	var sxx, sxy float64
	for i := range x {
		sxx += (x[i] - mx) * (x[i] - mx)
		sxy += (x[i] - mx) * (y[i] - my)
	}
	if sxx == 0 || n < 3 {
		return 0, 0, 0
	}
	slope = sxy / sxx
	var rest float64
	for i := range x {
		d := y[i] - my - slope*(x[i]-mx)
		rest += d * d
	}
	e := 2 * math.Sqrt(rest/(n-2)/sxx)
	return slope, slope - e, slope + e
}
