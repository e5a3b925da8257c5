package report

import (
	"math"
	"sort"
)

// waitBound returns a time, in units of the service time, that a request waits
// longer for with at most the given probability: in front of slots servers, each
// taking the same time for every request, in order of arrival, requests arriving at
// random (a Poisson process) and taking the share load of the servers' time, below 1.
//
// As all requests take the same time, the servers take turns, and each of them sees
// a queue of its own whose arrivals are Erlang-distributed: M/D/c waits as
// E_c/D/1 does (Crommelin 1932). For that, Kingman's bound (1970) says
// P(W > t) ≤ e^(-θt), θ being the positive root of E[e^(θ(S-A))] = 1 for the service
// time S and the time A between arrivals. With x = θ/slots and S = 1 that is
// x = ln(1 + x/load).
func waitBound(slots, load, probability float64) float64 {
	if load <= 0 {
		return 0
	}
	// x - ln(1 + x/load) falls from 0 to its minimum at x = 1-load and then rises.
	low, high := 1-load, 2.0
	for high-math.Log1p(high/load) < 0 {
		high *= 2
	}
	for range 60 {
		if x := (low + high) / 2; x-math.Log1p(x/load) < 0 {
			low = x
		} else {
			high = x
		}
	}
	return -math.Log(probability) / (slots * low)
}

// option is a way to run something on a machine: slots requests at a time, each
// of which takes service seconds when all are taken. A request that comes may have
// to wait up to join seconds beside the queue, for the batch that is under way.
type option struct {
	batch, slots  float64
	service, join float64
}

// fleet is how many machines it takes.
type fleet struct {
	option
	machines float64 // at all sites, spare ones included
	load     float64 // share of the machines' time that the peak takes, spare ones apart
	latency  float64 // seconds, at the percentile of the workload, at most
	meets    bool    // the target
}

// size returns the least machines of a kind that o takes to answer requestsPerDay.
// Where no number of machines is fast enough it keeps to the utilisation alone.
func size(w Workload, in Instance, o option, requestsPerDay float64) fleet {
	arrivals := requestsPerDay / (24 * 3600) * w.PeakOverMean / in.Sites // each second at a site
	at := func(machines float64) fleet {
		f := fleet{option: o, machines: (machines + w.SpareMachines) * in.Sites, load: arrivals * o.service / (machines * o.slots)}
		f.latency = math.Inf(1)
		if f.load < 1 {
			wait := waitBound(machines*o.slots, f.load, 1-w.Percentile/100)
			f.latency = in.NetworkMS/1000 + o.join + o.service*(1+wait)
		}
		f.meets = f.load <= w.MaxUtilisation && f.latency <= w.TargetMS/1000
		return f
	}
	least := max(1, math.Ceil(arrivals*o.service/(o.slots*w.MaxUtilisation)-1e-9))
	// More machines wait less: the first number that is fast enough lies below a power
	// of two that is. Where service alone takes too long there is none.
	more := 1
	for !at(least + float64(more)).meets {
		if more *= 2; more > 1<<30 {
			return at(least)
		}
	}
	return at(least + float64(sort.Search(more, func(i int) bool { return at(least + float64(i)).meets })))
}

// cheapest returns the fleet of the option that costs least among those that meet
// the target, or among all where none does; of equals the faster one.
func cheapest(w Workload, in Instance, options []option, requestsPerDay float64) fleet {
	best := size(w, in, options[0], requestsPerDay)
	for _, o := range options[1:] {
		f := size(w, in, o, requestsPerDay)
		switch {
		case f.meets != best.meets:
			if f.meets {
				best = f
			}
		case f.machines < best.machines || f.machines == best.machines && f.latency < best.latency:
			best = f
		}
	}
	return best
}
