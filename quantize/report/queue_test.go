package report_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/wisp-project/wisp/quantize/report"
)

// simulated returns the waits of requests at c servers that take time 1.
func simulated(c int, load float64, n int) []float64 {
	rng := rand.New(rand.NewPCG(uint64(c), uint64(1000*load)))
	free := make([]float64, c) // when each server is
	waits := make([]float64, 0, n)
	now := 0.0
	for range n {
		now += rng.ExpFloat64() / (load * float64(c))
		first := 0
		for i := range free {
			if free[i] < free[first] {
				first = i
			}
		}
		start := max(now, free[first])
		waits = append(waits, start-now)
		free[first] = start + 1
	}
	slices.Sort(waits)
	return waits
}

// The bound holds in a simulation of the queue, and is not far off where requests
// do wait.
func TestWaitBound(t *testing.T) {
	const n = 400_000
	for _, c := range []int{1, 2, 8, 64} {
		for _, load := range []float64{0.3, 0.7, 0.9} {
			waits := simulated(c, load, n)
			for _, p := range []float64{0.9, 0.99, 0.999} {
				got, bound := waits[int(p*n)], report.WaitBound(float64(c), load, 1-p)
				if got > bound*1.02 { // the simulation has noise
					t.Errorf("%d servers at %v: %v of requests wait up to %.3f, the bound says %.3f", c, load, p, got, bound)
				}
				if got > 0.5 && bound > 2*got {
					t.Errorf("%d servers at %v: %v of requests wait up to %.3f, the bound %.3f says nothing", c, load, p, got, bound)
				}
			}
		}
	}
}

// M/D/1 at half load, by hand: θ solves θ = ln(1 + 2θ), which is 1.2564.
func TestWaitBoundByHand(t *testing.T) {
	if got, want := report.WaitBound(1, 0.5, 0.01), math.Log(100)/1.2564312086; math.Abs(got-want) > 1e-6 {
		t.Errorf("%v, want %v", got, want)
	}
	if got, want := report.WaitBound(10, 0.5, 0.01), math.Log(100)/12.564312086; math.Abs(got-want) > 1e-6 {
		t.Errorf("ten servers: %v, want %v", got, want)
	}
	if report.WaitBound(1, 0, 0.01) != 0 {
		t.Error("nobody comes, and somebody waits")
	}
}

func TestSizeByHand(t *testing.T) {
	w := report.Workload{RequestsPerDay: 8_640_000, PeakOverMean: 3, TargetMS: 100, Percentile: 99, MaxUtilisation: 0.7, SpareMachines: 1, HoursPerMonth: 730}
	in := report.Instance{Sites: 1, NetworkMS: 40}
	// 300 requests a second at the peak, 10 ms each on 4 cores: 400 a second a
	// machine, 280 at 70 %; two are needed, at 37.5 %.
	o := report.NewOption(1, 4, 0.01, 0)
	f := report.Size(w, in, o)
	if f.Machines != 3 || math.Abs(f.Load-0.375) > 1e-12 || !f.Meets {
		t.Errorf("%+v; want 2 machines and a spare one at 37.5 %%", f)
	}
	want := 0.04 + 0.01*(1+report.WaitBound(8, 0.375, 0.01))
	if math.Abs(f.Latency-want) > 1e-12 {
		t.Errorf("latency %v, want %v", f.Latency, want)
	}
	// Over three sites each has 100 a second: one machine and a spare one at each.
	in.Sites = 3
	if f := report.Size(w, in, o); f.Machines != 6 || math.Abs(f.Load-0.25) > 1e-12 {
		t.Errorf("three sites: %+v", f)
	}
	// With one slot of 40 ms, 12 servers' time is asked for: 18 machines keep to 70 %.
	// A target of 81 ms leaves 1 ms for waiting, which takes more than that.
	in.Sites = 1
	slow := report.NewOption(1, 1, 0.04, 0)
	w.TargetMS = 1000
	if f := report.Size(w, in, slow); f.Machines != 19 || !f.Meets {
		t.Errorf("slow: %+v, want 18 machines and a spare one", f)
	}
	w.TargetMS = 81
	f = report.Size(w, in, slow)
	if !f.Meets || f.Machines <= 19 || f.Latency > 0.081 {
		t.Errorf("a tight target: %+v", f)
	}
	fewer := f.Machines - 2 // one machine less, without the spare one
	if wait := report.WaitBound(fewer, 12/fewer, 0.01); 0.04*wait <= 0.001 {
		t.Errorf("%v machines would do: they wait %v ms", fewer, 40*wait)
	}
	// No number of machines makes 40 + 40 ms less than 79.
	w.TargetMS = 79
	if f := report.Size(w, in, slow); f.Meets || f.Machines != 19 {
		t.Errorf("out of reach: %+v", f)
	}
}

// Larger batches carry more and take longer: the target decides.
func TestCheapest(t *testing.T) {
	w := report.Workload{RequestsPerDay: 86_400_000, PeakOverMean: 1, TargetMS: 1000, Percentile: 99, MaxUtilisation: 0.5, HoursPerMonth: 730}
	in := report.Instance{Sites: 1}
	options := []report.Option{report.NewOption(1, 1, 0.01, 0), report.NewOption(8, 8, 0.02, 0.02), report.NewOption(64, 64, 0.1, 0.1)}
	// 1000 a second. A batch of 64 carries 640 a second, 320 at half load: 4 machines.
	if f := report.Cheapest(w, in, options); f.Batch != 64 || f.Machines != 4 || !f.Meets {
		t.Errorf("%+v", f)
	}
	w.TargetMS = 60 // a batch of 8 carries 400 a second, 200 at half load: 5 machines
	if f := report.Cheapest(w, in, options); f.Batch != 8 || f.Machines != 5 || !f.Meets {
		t.Errorf("%+v", f)
	}
	w.TargetMS = 5 // nothing does; the largest batch is the cheapest all the same
	if f := report.Cheapest(w, in, options); f.Batch != 64 || f.Meets {
		t.Errorf("%+v", f)
	}
}
