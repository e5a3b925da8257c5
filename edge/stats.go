package edge

import (
	"math/bits"
	"time"
)

// Stats are counts of a runtime, the golden requests included.
type Stats struct {
	InProgress int // requests that have a sandbox
	Waiting    int // requests that wait for one
	Idle       int // sandboxes that wait for a request

	Made     int64 // sandboxes
	Wiped    int64 // requests after which a sandbox was wiped
	Replaced Replaced
	Refused  int64 // requests that got ErrOverloaded
	Answered int64 // requests
	Failed   int64 // requests that got another error, once they had their turn

	// ImageBytes is the size of the image, which is in memory once; SandboxBytes is
	// the address space of all sandboxes that there are, of which the image is a
	// part. Of the rest, memory is used where a request has been.
	ImageBytes, SandboxBytes int64
	// Latency is how long requests took, from their arrival on; it is empty without
	// Options.Now.
	Latency Latency
}

// Replaced counts the sandboxes that were thrown away, by reason.
type Replaced struct {
	Used     int64 // as a matter of course, see Isolation
	Trapped  int64 // ErrSandbox that is none of the following
	TimedOut int64 // ErrTimeout
	Grew     int64 // ErrMemory
	Answered int64 // ErrAnswer
	Left     int64 // the context of a request to a kernel that is not trusted ended
}

// add adds to s what t has counted. What there is at the moment stays as it is.
func (s *Stats) add(t Stats) {
	s.Made += t.Made
	s.Wiped += t.Wiped
	s.Refused += t.Refused
	s.Answered += t.Answered
	s.Failed += t.Failed
	s.Replaced.Used += t.Replaced.Used
	s.Replaced.Trapped += t.Replaced.Trapped
	s.Replaced.TimedOut += t.Replaced.TimedOut
	s.Replaced.Grew += t.Replaced.Grew
	s.Replaced.Answered += t.Replaced.Answered
	s.Replaced.Left += t.Replaced.Left
	s.Latency.add(&t.Latency)
}

// Latency is a distribution of times, in classes that are an eighth wide or less.
type Latency struct {
	Count   int64
	Sum     time.Duration
	classes [8 * 41]int64 // of nanoseconds: eight to each power of two, up to 2^43
}

// class returns the class of d.
func class(d time.Duration) int {
	v := uint64(max(d, 0))
	if v < 8 {
		return int(v)
	}
	e := bits.Len64(v) - 4
	return min(8*e+int(v>>e), len(Latency{}.classes)-1)
}

// bound returns the least time above class i.
func bound(i int) time.Duration {
	if i < 8 {
		return time.Duration(i + 1)
	}
	e := i/8 - 1
	return time.Duration(uint64(i%8+9) << e)
}

func (l *Latency) record(d time.Duration) {
	l.Count++
	l.Sum += d
	l.classes[class(d)]++
}

func (l *Latency) add(m *Latency) {
	l.Count += m.Count
	l.Sum += m.Sum
	for i, n := range m.classes {
		l.classes[i] += n
	}
}

// Quantile returns a time that the share q of the requests stayed below, at most an
// eighth more than the least such time; 0 where nothing was counted.
func (l *Latency) Quantile(q float64) time.Duration {
	rank := int64(q * float64(l.Count))
	for i, n := range l.classes {
		if rank -= n; n > 0 && rank < 0 {
			return bound(i)
		}
	}
	for i := len(l.classes) - 1; i >= 0; i-- {
		if l.classes[i] > 0 {
			return bound(i)
		}
	}
	return 0
}
