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

// write makes the page of the figures.
func write(ctx context.Context, docs string, all []measured) error {
	t := results.Topic{Name: "peers", Title: "Side by side with other software", Text: text}
	command, machine, commit := "make bench-peers", results.Machine(), results.Commit(ctx)
	for _, m := range all {
		add := func(what, unit, note string, rounds []float64) {
			value, low, high := median(rounds)
			t.Records = append(t.Records, results.Record{
				Name: "speed." + m.name + "." + what, Value: value, Low: low, High: high, N: len(rounds), Unit: unit, Note: note,
				Command: command, Commit: commit, Machine: machine,
			})
		}
		ratios := make([]float64, len(m.ours))
		for i := range ratios {
			ratios[i] = m.ours[i] / m.theirs[i]
		}
		add("time-ratio-to-pytorch", "ratio", m.note, ratios)
		add("step-time", "s", "wisp with "+hostgpu.BLAS().Name, m.ours)
		add("pytorch-step-time", "s", "PyTorch "+m.version, m.theirs)
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
