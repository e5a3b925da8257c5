package edge

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/wisp-project/wisp/internal/layout"
)

// Isolation says what a request may find of the requests before it.
type Isolation int

// The kinds of isolation. Whatever they are, a sandbox that failed is replaced.
const (
	// Shared hands a sandbox from request to request as it is. A correct kernel
	// shows nothing of one to the next.
	Shared Isolation = iota
	// Wiped brings the memory of a sandbox back to what it was at its start after
	// each request. A kernel that is not trusted may keep something elsewhere than
	// in memory, so that its requests get what Fresh gives them.
	Wiped
	// Fresh makes a sandbox for each request and throws it away afterwards.
	Fresh
)

var isolations = []string{Shared: "shared", Wiped: "wiped", Fresh: "fresh"}

// Validate reports a value that is none of the constants.
func (i Isolation) Validate() error {
	if i < 0 || int(i) >= len(isolations) {
		return fmt.Errorf("%w: there is no isolation %d", ErrOptions, int(i))
	}
	return nil
}

// MarshalText returns the name: shared, wiped or fresh.
func (i Isolation) MarshalText() ([]byte, error) {
	if err := i.Validate(); err != nil {
		return nil, err
	}
	return []byte(isolations[i]), nil
}

// UnmarshalText reads a name.
func (i *Isolation) UnmarshalText(name []byte) error {
	for j, n := range isolations {
		if n == string(name) {
			*i = Isolation(j)
			return nil
		}
	}
	return fmt.Errorf("%w: there is no isolation %q; choose among %q", ErrOptions, name, isolations)
}

// pool is the part of a runtime that hands out sandboxes.
type pool struct {
	isolation Isolation
	seat      seat
	now       func() time.Time // nil: nothing is timed
	mu        sync.Mutex
	idle      []*sandbox // they wait; one is made when a request finds none
	stats     Stats      // those that only grow

	closing sync.Once
	closed  chan struct{} // no request starts any more
	freeing sync.Once
	freed   chan struct{} // nothing is left
	freeErr error
}

// seat is a runtime's place among others.
type seat struct {
	schedule *schedule
	share    *share
	freed    func() // is called once nothing is left of the runtime; may be nil
}

func newPool(at seat, isolation Isolation, now func() time.Time) pool {
	return pool{isolation: isolation, seat: at, now: now, closed: make(chan struct{}), freed: make(chan struct{})}
}

// enter waits for the turn of a request, which leave ends.
func (r *Runtime) enter(ctx context.Context) error {
	select {
	case <-r.closed:
		return ErrClosed
	default:
	}
	if err := r.seat.schedule.enter(ctx, r.seat.share, r.closed); err != nil {
		if errors.Is(err, ErrOverloaded) {
			r.count(func(s *Stats) { s.Refused++ })
		}
		return err
	}
	select {
	case <-r.closed:
		r.leave()
		return ErrClosed
	default:
		return nil
	}
}

// leave ends a turn; the last request of a closed runtime frees the rest.
func (r *Runtime) leave() {
	idle := r.seat.schedule.leave(r.seat.share)
	select {
	case <-r.closed:
		if idle {
			r.free()
		}
	default:
	}
}

// with runs f with a sandbox of its own, and waits for one while all are busy.
func (r *Runtime) with(ctx context.Context, f func(context.Context, *sandbox) error) error {
	var begin time.Time
	if r.now != nil {
		begin = r.now()
	}
	if err := r.enter(ctx); err != nil {
		return err
	}
	defer r.leave()
	err := r.work(ctx, f)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.stats.Failed++
	} else {
		r.stats.Answered++
	}
	if r.now != nil {
		r.stats.Latency.record(r.now().Sub(begin))
	}
	return err
}

// work runs f with a sandbox and within the time limit.
func (r *Runtime) work(ctx context.Context, f func(context.Context, *sandbox) error) error {
	if r.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, r.timeout, fmt.Errorf("%w: no answer within %v", ErrTimeout, r.timeout))
		defer cancel()
	}
	s, err := r.take(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return err
	}
	err = f(ctx, s)
	r.put(ctx, s, err)
	return err
}

// take returns an idle sandbox or makes one.
func (r *Runtime) take(ctx context.Context) (*sandbox, error) {
	r.mu.Lock()
	if n := len(r.idle); n > 0 {
		s := r.idle[n-1]
		r.idle = r.idle[:n-1]
		r.mu.Unlock()
		return s, nil
	}
	r.stats.Made++
	r.mu.Unlock()
	return newSandbox(ctx, r.wazero, r.kernel, r.image)
}

// put takes a sandbox back after a request that ended with err: for the next one,
// or to throw it away.
func (r *Runtime) put(ctx context.Context, s *sandbox, err error) {
	if why := r.replaces(ctx, err); why != nil {
		s.close()
		r.count(func(s *Stats) { *why(&s.Replaced)++ })
		return
	}
	if r.isolation == Wiped {
		s.wipe(r.image)
	}
	r.mu.Lock()
	if r.isolation == Wiped {
		r.stats.Wiped++
	}
	r.idle = append(r.idle, s)
	r.mu.Unlock()
}

// replaces returns where to count a sandbox that must not serve again, nil for one
// that may. A trusted kernel that was left between two slices is as good as before:
// its next request starts afresh.
func (r *Runtime) replaces(ctx context.Context, err error) func(*Replaced) *int64 {
	switch {
	case errors.Is(err, ErrTimeout):
		return func(c *Replaced) *int64 { return &c.TimedOut }
	case errors.Is(err, ErrMemory):
		return func(c *Replaced) *int64 { return &c.Grew }
	case errors.Is(err, ErrAnswer):
		return func(c *Replaced) *int64 { return &c.Answered }
	case errors.Is(err, ErrSandbox):
		return func(c *Replaced) *int64 { return &c.Trapped }
	case !r.sliced && (err != nil || ctx.Err() != nil): // wazero may have ended it, or be about to
		return func(c *Replaced) *int64 { return &c.Left }
	case r.isolation == Fresh || r.isolation == Wiped && !r.sliced:
		return func(c *Replaced) *int64 { return &c.Used }
	}
	return nil
}

func (r *Runtime) count(f func(*Stats)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f(&r.stats)
}

// recordStart keeps the kernel's own data as they are in a sandbox that was never
// used, for wipe.
func (r *Runtime) recordStart(ctx context.Context) error {
	return r.with(ctx, func(_ context.Context, s *sandbox) error {
		r.image.start = s.data()
		return nil
	})
}

// Stats returns the counts of this moment.
func (r *Runtime) Stats() Stats {
	working, waiting := r.seat.schedule.counts(r.seat.share)
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.stats
	s.InProgress, s.Waiting, s.Idle = working, waiting, len(r.idle)
	s.ImageBytes = int64(r.image.Map.Overlay - layout.ImageBase)
	s.SandboxBytes = int64(working+len(r.idle)) * int64(r.image.Map.End)
	return s
}

// Close waits for the requests in progress and frees the sandboxes. Later
// requests get ErrClosed. ctx bounds the wait; where it ends first, the last
// request frees what is left.
func (r *Runtime) Close(ctx context.Context) error {
	r.closing.Do(func() { close(r.closed) })
	if working, _ := r.seat.schedule.counts(r.seat.share); working == 0 {
		r.free()
	}
	select {
	case <-r.freed: // needs no wait, so an ended ctx is no error
		return r.freeErr
	default:
	}
	select {
	case <-r.freed:
		return r.freeErr
	case <-ctx.Done():
		return fmt.Errorf("edge: close: requests are still in progress: %w", ctx.Err())
	}
}

// free gives everything back. No request is in progress.
func (r *Runtime) free() {
	r.freeing.Do(func() {
		r.mu.Lock()
		for _, s := range r.idle {
			s.close()
		}
		r.idle = nil
		r.mu.Unlock()
		if err := r.end(context.Background()); err != nil {
			r.freeErr = fmt.Errorf("edge: close: %w", err)
		}
		if r.image.shared != nil {
			r.image.shared.close()
		}
		if r.seat.freed != nil {
			r.seat.freed()
		}
		close(r.freed)
	})
}
