package main

import (
	"runtime"
	"slices"
	"time"

	"github.com/wisp-project/wisp/edge"
	"github.com/wisp-project/wisp/internal/results"
)

// timed is a kind of request and the times that it took, in rounds.
type timed struct {
	name       string // of its figures, empty for none
	p99        bool   // is a figure too
	ask        func(history []edge.Event) error
	times      []time.Duration
	p50s, p99s []float64 // of each round, in microseconds
}

// round asks as often as there are requests; warm says that it does not count.
func (k *timed) round(histories [][]edge.Event, requests int, warm bool) error {
	var these []time.Duration
	for i := range requests {
		begin := time.Now()
		if err := k.ask(histories[i%len(histories)]); err != nil {
			return err
		}
		these = append(these, time.Since(begin))
	}
	if !warm {
		k.count(these)
	}
	return nil
}

// count takes in the times of a round.
func (k *timed) count(these []time.Duration) {
	k.p50s, k.p99s = append(k.p50s, microseconds(these, 0.5)), append(k.p99s, microseconds(these, 0.99))
	k.times = append(k.times, these...)
}

// records returns the percentiles over all rounds, between the least and the greatest of the
// rounds' own.
func (k *timed) records(note string) []results.Record {
	if k.name == "" {
		return nil
	}
	records := []results.Record{{
		Name: "speed." + k.name + ".p50-us", Value: microseconds(k.times, 0.5), Low: slices.Min(k.p50s), High: slices.Max(k.p50s),
		Unit: "µs", N: len(k.times), Note: note,
	}}
	if k.p99 {
		records = append(records, results.Record{
			Name: "speed." + k.name + ".p99-us", Value: microseconds(k.times, 0.99), Low: slices.Min(k.p99s), High: slices.Max(k.p99s),
			Unit: "µs", N: len(k.times),
		})
	}
	return records
}

// allocated returns how often a request allocates, and how many bytes, in the mean.
func (k *timed) allocated(histories [][]edge.Event, requests int) (times, bytes float64, err error) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for i := range requests {
		if err := k.ask(histories[i%len(histories)]); err != nil {
			return 0, 0, err
		}
	}
	runtime.ReadMemStats(&after)
	n := float64(requests)
	return float64(after.Mallocs-before.Mallocs) / n, float64(after.TotalAlloc-before.TotalAlloc) / n, nil
}
