package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/wisp-project/wisp/hostgpu"
	"github.com/wisp-project/wisp/internal/results"
)

const text = `
Training steps of wisp and of PyTorch, on the same machine in one run: forward,
backward, clipping of the gradient and AdamW (PyTorch's fused one), in float32, on two
threads each. The models have the same parameters and dropout in the same places.

The two sides take turns: in each round each takes one step that does not count and
then several that do, while the other waits. time-ratio-to-pytorch is our time over
PyTorch's, below 1 is faster; it is taken within each round. Figures are medians of the
rounds, intervals their range, which holds the true median with a probability above
95 % from six rounds on. A step-time is that of one step.
`

// page makes the page of the figures.
func page(all []measured) results.Topic {
	t := results.Topic{Name: "peers", Title: "Side by side with other software", Text: text}
	for _, m := range all {
		t.Records = append(t.Records, timeRecords(m.name, "step", m.note, m.version, m.ours, m.theirs)...)
	}
	return t
}

// timeRecords are the figures of what took both sides some seconds in each round.
func timeRecords(name, what, note, version string, ours, theirs []float64) []results.Record {
	var records []results.Record
	add := func(figure, unit, note string, rounds []float64) {
		value, low, high := median(rounds)
		records = append(records, results.Record{Name: "speed." + name + "." + figure, Value: value, Low: low, High: high, N: len(rounds), Unit: unit, Note: note})
	}
	ratios := make([]float64, len(ours))
	for i := range ratios {
		ratios[i] = ours[i] / theirs[i]
	}
	add("time-ratio-to-pytorch", "ratio", note, ratios)
	add(what+"-time", "s", "wisp with "+hostgpu.BLAS().Name, ours)
	add("pytorch-"+what+"-time", "s", "PyTorch "+version, theirs)
	return records
}

// write writes a page that the command made.
func write(ctx context.Context, docs, command string, t results.Topic) error {
	machine, commit := results.Machine(), results.Commit(ctx)
	for i := range t.Records {
		t.Records[i].Command, t.Records[i].Commit, t.Records[i].Machine = command, commit, machine
	}
	if err := t.Write(docs); err != nil {
		return err
	}
	for _, r := range t.Records {
		fmt.Fprintf(os.Stderr, "%s %.3g (%.3g to %.3g)\n", r.Name, r.Value, r.Low, r.High)
	}
	fmt.Fprintf(os.Stderr, "bench: wrote %s\n", filepath.Join(docs, t.Name+".md"))
	return nil
}

// median returns the median of x and its range.
func median(x []float64) (value, low, high float64) {
	s := slices.Sorted(slices.Values(x))
	n := len(s)
	return (s[(n-1)/2] + s[n/2]) / 2, s[0], s[n-1]
}
