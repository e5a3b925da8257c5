package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/internal/eval"
	"github.com/wisp-project/wisp/internal/results"
	"github.com/wisp-project/wisp/quantize"
	"github.com/wisp-project/wisp/quantize/report"
)

const (
	throughputRounds = 5
	latencyRequests  = 1000
	layerHistories   = 200 // that layers are compared on
)

// measure carries out all measurements. Quality comes first: what it takes warms
// up everything that is timed then.
func (in *reportInput) measure(ctx context.Context, prices report.Prices, p *progress) (*report.Report, error) {
	r := &report.Report{
		Format: report.Format, Prices: prices, Notes: in.notes, Machine: report.Machine{Description: results.Machine()},
		Data: report.Data{
			Name: in.ds.Name, Protocol: in.split.Protocol, Cases: len(in.split.Test), Items: len(in.ds.Items), Users: len(in.ds.Users),
		},
	}
	counts := popularity(fittingData(in.ds, in.split), len(in.ds.Items))
	var teacher *eval.Result
	for i := range in.subjects {
		s := &in.subjects[i]
		w, err := s.worker()
		if err != nil {
			return nil, err
		}
		m, err := measure(ctx, w, len(in.ds.Items), in.split.Test, counts, p)
		if err != nil {
			return nil, err
		}
		s.Quality = report.Quality{NDCG: m.ndcg, HitRate: m.hr, MRR: m.mrr, Coverage: m.covered, TiesAgainst: m.result.Pessimistic.NDCG}
		if i == 0 {
			teacher = m.result
		} else if err := s.beside(m.result, teacher, r); err != nil {
			return nil, err
		}
		s.count(in.split.Test)
		if s.image != nil && s.source != nil {
			p.stage("comparing the layers of "+s.Name, 0, 0)
			histories, _ := calibration(in.split, nil)
			if s.Layers, err = quantize.LayerErrors(s.source, s.image.Bytes(), histories[:min(len(histories), layerHistories)]); err != nil {
				return nil, err
			}
		}
	}
	for i := range in.subjects {
		s := &in.subjects[i]
		p.stage("timing "+s.Name, 0, 0)
		if err := s.time(ctx, in); err != nil {
			return nil, err
		}
		r.Models = append(r.Models, s.Model)
	}
	r.Notes = append(r.Notes,
		"Multiply-accumulates are counted from the shapes: products that are added to a sum, without padding, norms and activations. The teacher computes every block for all events within reach, the int8 model only what the answer depends on.",
		"Memory is what weights and working space take: the teacher's in float32 with its item vectors, an artefact's as one sandbox of linear memory; programs, the engine and the catalogue's names come on top of either.",
	)
	return r, nil
}

// beside compares the result of a student with the teacher's.
func (s *subject) beside(result, teacher *eval.Result, r *report.Report) error {
	ahead, err := eval.PairedBootstrap(result, teacher, eval.NDCG, eval.BootstrapOptions{})
	if err != nil {
		return err
	}
	s.Quality.Ahead = &ahead
	if s.Quality.Overlap, err = eval.Overlap(teacher, result); err != nil {
		return err
	}
	kept, err := eval.Retention(result, teacher, eval.NDCG, eval.BootstrapOptions{})
	if errors.Is(err, eval.ErrInput) {
		r.Notes = append(r.Notes, "The teacher hits no target on these cases, so nothing can be said of what a student keeps.")
		return nil
	}
	s.Quality.Retention = &kept
	return err
}

// count takes the mean of the multiply-accumulates over the cases.
func (s *subject) count(cases []data.Case) {
	var sum quantize.MACs
	events := 0
	for _, c := range cases {
		m := s.macs(c)
		sum.Linear += m.Linear
		sum.Attention += m.Attention
		sum.Items += m.Items
		events += len(c.History)
	}
	n := int64(len(cases))
	mean := quantize.MACs{Linear: sum.Linear / n, Attention: sum.Attention / n, Items: sum.Items / n}
	s.Request = report.Request{Events: float64(events) / float64(n), MACs: mean, Total: mean.Total()}
}

// time measures the latency of single requests and the rates of several threads.
// The program may use as many processors as there are threads then, so that a
// teacher does not cut one request over all of them.
func (s *subject) time(ctx context.Context, in *reportInput) error {
	before := runtime.GOMAXPROCS(1)
	defer runtime.GOMAXPROCS(before)
	workers := make([]stage, slices.Max(in.threads))
	for i := range workers {
		var err error
		if workers[i], err = s.worker(); err != nil {
			return err
		}
	}
	times, err := latencies(ctx, workers[0].request, in.split.Test, latencyRequests)
	if err != nil {
		return err
	}
	s.Speed.Latency = report.Latency{Requests: len(times), P50: micro(quantile(times, 0.5)), P95: micro(quantile(times, 0.95)), P99: micro(quantile(times, 0.99))}
	for _, n := range in.threads {
		runtime.GOMAXPROCS(n)
		t, energy, err := in.throughput(ctx, workers[:n])
		if err != nil {
			return err
		}
		s.Speed.Throughput = append(s.Speed.Throughput, t)
		if energy != nil {
			s.Energy = *energy
		}
	}
	return nil
}

func micro(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }

// throughput keeps workers asking for some rounds, and takes the energy meanwhile
// where it can be measured.
func (in *reportInput) throughput(ctx context.Context, workers []stage) (report.Throughput, *report.Energy, error) {
	t := report.Throughput{Threads: len(workers), Rounds: throughputRounds}
	var joules func() (float64, error)
	if in.meter != nil {
		var err error
		if joules, err = in.meter.Start(); err != nil {
			return t, nil, err
		}
	}
	var rates []float64
	var all []time.Duration
	for range throughputRounds {
		times := make([][]time.Duration, len(workers))
		failed := make([]error, len(workers))
		var wg sync.WaitGroup
		begin := time.Now()
		for i, w := range workers {
			wg.Go(func() {
				// The threads go through the cases at different places.
				for at := i * len(in.split.Test) / len(workers); failed[i] == nil && time.Since(begin) < in.round; at++ {
					if failed[i] = ctx.Err(); failed[i] != nil {
						return
					}
					start := time.Now()
					failed[i] = w.request(ctx, in.split.Test[at%len(in.split.Test)])
					times[i] = append(times[i], time.Since(start))
				}
			})
		}
		wg.Wait()
		took := time.Since(begin)
		if err := errors.Join(failed...); err != nil {
			return t, nil, err
		}
		answered := 0
		for _, x := range times {
			answered += len(x)
			all = append(all, x...)
		}
		rates = append(rates, float64(answered)/took.Seconds())
	}
	slices.Sort(rates)
	slices.Sort(all)
	t.PerSecond, t.Low, t.High = rates[len(rates)/2], rates[0], rates[len(rates)-1]
	t.P50, t.P99 = micro(quantile(all, 0.5)), micro(quantile(all, 0.99))
	if joules == nil {
		return t, nil, nil
	}
	j, err := joules()
	if err != nil {
		return t, nil, err
	}
	return t, &report.Energy{
		Joules: j / float64(len(all)), Source: "rapl",
		How: fmt.Sprintf("RAPL: all processor packages while %d threads asked, over %d requests; whatever else ran is in it", len(workers), len(all)),
	}, nil
}
