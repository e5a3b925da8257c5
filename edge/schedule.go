package edge

import (
	"context"
	"fmt"
	"sync"
)

// schedule decides who may work. Its shares form a tree: a host, its tenants, and
// each one's runtimes; a request works if every share above it has a place left.
// Where requests have to wait, tenants take turns, whatever they send; the requests
// of one are served in their order, past those whose own runtime is full.
type schedule struct {
	mu      sync.Mutex
	all     *share
	waiting []*share // tenants that have requests that wait, whose turn it is first
}

// share is a part of the places, and of the queue.
type share struct {
	parent  *share // nil for all
	name    string // for messages
	places  int
	queue   int
	working int
	waiting int
	waiters []*waiter // of a tenant, the first to come first
}

type waiter struct {
	ready   chan struct{}
	granted bool
	of      *share
}

func newSchedule(places, queue int) *schedule {
	return &schedule{all: &share{name: "all models", places: places, queue: queue}}
}

// share makes a part of the places of another.
func (s *schedule) share(of *share, name string, places, queue int) *share {
	return &share{parent: of, name: name, places: min(places, of.places), queue: min(queue, of.queue)}
}

// tenant returns the share below all that s belongs to.
func (s *share) tenant() *share {
	for s.parent != nil && s.parent.parent != nil {
		s = s.parent
	}
	return s
}

// fits reports whether s and all above it have a place left.
func (s *share) fits() bool {
	for ; s != nil; s = s.parent {
		if s.working >= s.places {
			return false
		}
	}
	return true
}

func (s *share) add(working, waiting int) {
	for ; s != nil; s = s.parent {
		s.working += working
		s.waiting += waiting
	}
}

// enter waits for a place in s, which leave gives back. An error wraps
// ErrOverloaded, or is ErrClosed once closed is, or the context's.
func (s *schedule) enter(ctx context.Context, of *share, closed <-chan struct{}) error {
	s.mu.Lock()
	w := &waiter{of: of}
	t := of.tenant()
	if len(t.waiters) == 0 {
		if of.fits() {
			of.add(1, 0)
			s.mu.Unlock()
			return nil
		}
		s.waiting = append(s.waiting, t)
	}
	t.waiters = append(t.waiters, w)
	of.add(0, 1)
	s.dispatch()
	if w.granted {
		s.mu.Unlock()
		return nil
	}
	for full := of; full != nil; full = full.parent {
		if full.waiting > full.queue {
			err := fmt.Errorf("%w: %s: %d requests are in progress and %d wait", ErrOverloaded, full.name, full.working, full.waiting-1)
			s.forget(w)
			s.mu.Unlock()
			return err
		}
	}
	w.ready = make(chan struct{})
	s.mu.Unlock()
	var err error
	select {
	case <-w.ready:
		return nil
	case <-ctx.Done():
		err = ctx.Err()
	case <-closed:
		err = ErrClosed
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if w.granted {
		s.free(of)
	} else {
		s.forget(w)
	}
	return err
}

// leave gives a place back, and reports whether the share is now idle.
func (s *schedule) leave(of *share) (idle bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free(of)
	return of.working == 0
}

func (s *schedule) free(of *share) {
	of.add(-1, 0)
	s.dispatch()
}

// dispatch hands out places as long as somebody can use one.
func (s *schedule) dispatch() {
	for s.all.working < s.all.places && s.next() {
	}
}

// next hands out one place.
func (s *schedule) next() bool {
	for i, t := range s.waiting {
		for j, w := range t.waiters {
			if !w.of.fits() {
				continue
			}
			s.drop(t, j)
			w.of.add(1, -1)
			w.granted = true
			if w.ready != nil {
				close(w.ready)
			}
			// The tenant's next turn is after everybody else's.
			s.waiting = append(s.waiting[:i], s.waiting[i+1:]...)
			if len(t.waiters) > 0 {
				s.waiting = append(s.waiting, t)
			}
			return true
		}
	}
	return false
}

// forget takes back a request that waits no longer.
func (s *schedule) forget(w *waiter) {
	t := w.of.tenant()
	for j := range t.waiters {
		if t.waiters[j] == w {
			s.drop(t, j)
			break
		}
	}
	w.of.add(0, -1)
	if len(t.waiters) == 0 {
		for i := range s.waiting {
			if s.waiting[i] == t {
				s.waiting = append(s.waiting[:i], s.waiting[i+1:]...)
				break
			}
		}
	}
}

// drop removes a waiter of a tenant.
func (s *schedule) drop(t *share, j int) {
	copy(t.waiters[j:], t.waiters[j+1:])
	t.waiters[len(t.waiters)-1] = nil
	t.waiters = t.waiters[:len(t.waiters)-1]
}

// counts returns the requests of a share that work and wait.
func (s *schedule) counts(of *share) (working, waiting int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return of.working, of.waiting
}
