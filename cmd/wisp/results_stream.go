package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/wisp-project/wisp/hostgpu"
	"github.com/wisp-project/wisp/internal/atomicfile"
	"github.com/wisp-project/wisp/internal/results"
	"github.com/wisp-project/wisp/internal/runlog"
)

const streamText = `
What more events, and more items, cost a training.

Memory: made data sets of 2,000 users and 2,000 items (wisp simulate) with a hundred thousand events, a million and ten
million; wisp prepare, and an epoch of wisp train with its validation (width 16, one layer: memory is what is asked, not
quality), each a process of its own; the largest resident set that either had. Events are read from disk when they are
wanted; memory grows with users and items. growth is the figure at the largest number of events over that at the
smallest.

Sampled softmax: training by the loss over the target and so many negatives, drawn in proportion to popularity to the
power of 3/4 and corrected by the logarithm of their probability, beside that over all items; both with the protocol of
quality.md and the same seeds. adds is the mean difference of test NDCG@10, sampled less full, seed by seed, with Student's
t. The full softmax is smoothed (0.1), which the sampled one cannot be: full-unsmoothed is without.

![memory by the number of events](stream.svg)
`

// streamSizes say how much is measured.
type streamSizes struct {
	users, items int
	events       []int
}

// stream measures what more events and items cost.
func (b *bench) stream(ctx context.Context) (results.Topic, error) {
	t := results.Topic{Title: "Many events, many items", Text: streamText}
	if len(b.only) == 0 || slices.Contains(b.only, "simulated") {
		self, err := os.Executable()
		if err != nil {
			return t, err
		}
		n := streamSizes{users: 2000, items: 2000, events: []int{100_000, 1_000_000, 10_000_000}}
		if t.Records, err = streamFigures(ctx, self, n, filepath.Join(b.work, "stream"), b.docs, b.p); err != nil {
			return t, err
		}
	}
	for _, set := range b.present(b.sets()...) {
		records, err := b.sampled(ctx, set)
		if err != nil {
			return t, err
		}
		t.Records = append(t.Records, records...)
	}
	return t, nil
}

// streamFigures measures the memory that the commands of the program self need.
func streamFigures(ctx context.Context, self string, n streamSizes, work, docs string, p *progress) ([]results.Record, error) {
	prepare, train := runlog.Curve{Name: "wisp prepare"}, runlog.Curve{Name: "wisp train"}
	var records []results.Record
	for _, events := range n.events {
		dir := filepath.Join(work, strconv.Itoa(events))
		if err := os.RemoveAll(dir); err != nil { // of a run that was broken off
			return nil, err
		}
		raw, prepared := filepath.Join(dir, "raw"), filepath.Join(dir, "prepared")
		var peaks []float64
		for _, args := range [][]string{
			{"simulate", "--out", raw, "--users", strconv.Itoa(n.users), "--items", strconv.Itoa(n.items), "--events", strconv.Itoa(events)},
			{"prepare", "--format", "jsonl", "--events", filepath.Join(raw, "events.jsonl"), "--items", filepath.Join(raw, "items.jsonl"), "--out", prepared},
			{"train", prepared, "--out", filepath.Join(dir, "model"), "--epochs", "1", "--dim", "16", "--layers", "1", "--features", "0"},
		} {
			p.line("wisp %s", strings.Join(args, " "))
			var said strings.Builder
			cmd := exec.CommandContext(ctx, self, args...)
			cmd.Stderr = &said
			peak, err := runMeasured(cmd)
			if err != nil {
				return nil, cmp.Or(ctx.Err(), fmt.Errorf("wisp %s: %w: %s", args[0], err, said.String()))
			}
			peaks = append(peaks, float64(peak))
		}
		if err := os.RemoveAll(dir); err != nil {
			return nil, err
		}
		for i, name := range []string{"prepare", "train"} {
			records = append(records, results.Record{
				Name: fmt.Sprintf("memory.simulated.%s-%d-events.peak-bytes", name, events), Value: peaks[i+1], Low: peaks[i+1], High: peaks[i+1], N: 1, Unit: "bytes",
			})
		}
		prepare.Values, train.Values = append(prepare.Values, peaks[1]/(1<<20)), append(train.Values, peaks[2]/(1<<20))
	}
	last := len(n.events) - 1
	for _, c := range []struct {
		name  string
		curve runlog.Curve
	}{{"prepare", prepare}, {"train", train}} {
		if c.curve.Values[0] == 0 {
			return nil, errors.New("this system does not tell how much memory a process has")
		}
		growth := c.curve.Values[last] / c.curve.Values[0]
		records = append(records, results.Record{
			Name: "memory.simulated." + c.name + ".growth", Value: growth, Low: growth, High: growth, N: 1, Unit: "ratio",
			Note: fmt.Sprintf("%d events over %d", n.events[last], n.events[0]),
		})
	}
	first := int(math.Round(math.Log10(float64(n.events[0]))))
	prepare.First, train.First = first, first
	svg, err := runlog.Picture(runlog.Chart{Title: "Largest resident memory, MiB", Axis: "decimal logarithm of the number of events", Curves: []runlog.Curve{prepare, train}})
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(docs, 0o755); err != nil {
		return nil, err
	}
	return records, atomicfile.Write(filepath.Join(docs, "stream.svg"), svg)
}

// sampled compares the sampled softmax with the full one.
func (b *bench) sampled(ctx context.Context, set set) ([]results.Record, error) {
	ds, fingerprint, s, err := b.preparedAndSplit(ctx, set)
	if err != nil {
		return nil, err
	}
	c := contest{
		bench: b, ds: ds, fingerprint: fingerprint, s: s, prefix: "quality." + set.name + ".",
		counts: popularity(fittingData(ds, s), len(ds.Items)),
	}
	full := make([]float64, b.seeds)
	for _, v := range []variant{
		{name: "full-"},
		{name: "full-unsmoothed-", options: hostgpu.TrainOptions{Smoothing: -1}},
		{name: "sampled-128-", options: hostgpu.TrainOptions{Samples: 128}},
		{name: "sampled-512-", options: hostgpu.TrainOptions{Samples: 512}},
	} {
		v.vectors = usual(0).vectors
		var values, adds []float64
		for i := range b.seeds {
			v.seed = i + 1
			m, t, _, err := c.trained(ctx, ds, fingerprint, s, v)
			if err != nil {
				return nil, err
			}
			ndcg, err := c.test(ctx, teacher(m, t.users).scorer)
			if err != nil {
				return nil, err
			}
			if v.options == (hostgpu.TrainOptions{}) {
				full[i] = ndcg
			}
			values, adds = append(values, ndcg), append(adds, ndcg-full[i])
		}
		if err := c.add(v.name+"softmax.ndcg10", values, ""); err != nil {
			return nil, err
		}
		if v.options == (hostgpu.TrainOptions{}) {
			continue
		}
		if err := c.add(v.name+"softmax.adds-ndcg10", adds, ""); err != nil {
			return nil, err
		}
	}
	return c.records, nil
}
