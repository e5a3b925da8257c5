package edge

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/wisp-project/wisp/internal/layout"
)

// Session follows the history of one user. What the model made of the events so
// far is kept, so that a new event costs one step through the model and not the
// history again; the answers are those to the whole history, bit for bit. It is
// safe for concurrent use: its requests go one after the other.
//
// What is kept lies with the host and goes through a sandbox with each request, so
// that sandboxes can be shared, wiped or thrown away as before.
type Session struct {
	r       *Runtime
	counted bool // against Options.Sessions

	mu     sync.Mutex
	closed bool
	past
	// state is what the guest left after all events but the last pending ones;
	// nil where it starts from what is in past.
	state   []byte
	pending int
}

// past is what a session knows of its user.
type past struct {
	// kept are the last events, one more than the model looks at: an event that
	// comes late may change the gap of the one behind it.
	kept history
	// before is the time of the last event before those kept, where any was
	// dropped.
	before  int64
	dropped bool
	seen    []uint32 // items of all events, rising
	count   int      // events ever, unknown ones included
}

// NewSession starts a session without events. ErrSessions reports that
// Options.Sessions are open.
func (r *Runtime) NewSession() (*Session, error) {
	select {
	case <-r.closed:
		return nil, ErrClosed
	default:
	}
	if n := r.sessions.Add(1); n > r.maxSessions {
		r.sessions.Add(-1)
		return nil, fmt.Errorf("%w: %d are open; close some, or set Options.Sessions", ErrSessions, r.maxSessions)
	}
	return &Session{r: r, counted: true}, nil
}

// Close ends the session; later calls get ErrClosed.
func (s *Session) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.counted && !s.closed {
		s.r.sessions.Add(-1)
	}
	s.closed = true
	s.past, s.state = past{}, nil
}

// Append adds events to the history and returns the ids that the catalogue does
// not have. Nothing runs until the next request, which takes the new events in
// one step. An event with an earlier time than the last is put in its place, and
// the next request costs as much as the whole history. Errors wrap ErrRequest, and
// no event was added then.
func (s *Session) Append(events ...Event) (unknown []string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.append(events)
}

func (s *Session) append(events []Event) ([]string, error) {
	if s.closed {
		return nil, ErrClosed
	}
	h, err := s.r.view().history(events)
	if err != nil {
		return nil, err
	}
	for i, e := range h.events {
		s.insert(e, h.times[i], s.count+h.index[i])
	}
	s.count += len(events)
	return h.unknown, nil
}

// insert puts an event behind all that are not later.
func (s *Session) insert(e layout.Event, time int64, index int) {
	if i, found := slices.BinarySearch(s.seen, e.Item); !found {
		s.seen = slices.Insert(s.seen, i, e.Item)
	}
	h, limit := &s.kept, s.r.image.Map.MaxHistory
	at := len(h.events)
	for at > 0 && h.times[at-1] > time {
		at--
	}
	if at == 0 && s.dropped { // it is older than what the model looks at
		if time >= s.before {
			s.before, h.events[0].Gap = time, gap(h.times[0]-time)
		}
		return
	}
	h.events, h.times, h.index = slices.Insert(h.events, at, e), slices.Insert(h.times, at, time), slices.Insert(h.index, at, index)
	if known := len(h.events) - 1 - s.pending; at < known {
		s.state, s.pending = nil, len(h.events)
	} else {
		s.pending++
	}
	for i := at; i <= at+1 && i < len(h.events); i++ {
		h.events[i].Gap = 0
		if i > 0 {
			h.events[i].Gap = gap(h.times[i] - h.times[i-1])
		}
	}
	if over := len(h.events) - limit - 1; over > 0 {
		s.before, s.dropped = h.times[over-1], true
		h.events, h.times, h.index = slices.Delete(h.events, 0, over), slices.Delete(h.times, 0, over), slices.Delete(h.index, 0, over)
	}
	if s.pending >= limit { // nothing before them counts
		s.state, s.pending = nil, min(limit, len(h.events))
	}
}

// Recommend adds the events of q to the history and returns the best items for
// all of it, as Runtime.Recommend does; in reasons events are counted from the
// start of the session. The events stay in the history when the request fails for
// want of time or of a sandbox.
func (s *Session) Recommend(ctx context.Context, q Request) (Response, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.r.view()
	k, err := v.checked(&q)
	if err != nil {
		return Response{}, err
	}
	unknown, err := s.append(q.History)
	if err != nil {
		return Response{}, err
	}
	request := layout.Request{Kind: layout.KindRecommend, K: k, Text: layout.CutText(q.Description)}
	if !q.IncludeSeen {
		request.List = append(request.List, s.seen...)
	}
	if err := v.leaveOut(&request, q.Exclude); err != nil {
		return Response{}, err
	}
	if request.Rules, err = v.rules(q.Rules, k, q.K); err != nil {
		return Response{}, err
	}
	response := Response{Unknown: unknown, ColdStart: len(s.kept.events) == 0, NoAttributes: q.Explain && len(s.r.attributes) == 0}
	err = s.r.with(ctx, func(ctx context.Context, sb *sandbox) error {
		answer, err := s.do(ctx, sb, v, &request)
		if err != nil {
			return err
		}
		response.Items = v.recommendations(answer.Hits)
		return v.explain(ctx, sb, q, s.kept, slices.Clone(answer.Hits), response.Items)
	})
	if err != nil {
		return Response{}, err
	}
	return response, nil
}

// Score adds the events of q to the history and returns the scores of its items,
// as Runtime.Score does.
func (s *Session) Score(ctx context.Context, q ScoreRequest) ([]Score, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.r.view()
	list, err := v.scored(q)
	if err != nil {
		return nil, err
	}
	if _, err := s.append(q.History); err != nil {
		return nil, err
	}
	var scores []Score
	err = s.r.with(ctx, func(ctx context.Context, sb *sandbox) (err error) {
		scores, err = v.score(list, func(r *layout.Request) (layout.Answer, error) {
			r.Text = layout.CutText(q.Description)
			return s.do(ctx, sb, v, r)
		})
		return err
	})
	return scores, err
}

// do answers a request for the history, and keeps the state that comes of it.
func (s *Session) do(ctx context.Context, sb *sandbox, v view, request *layout.Request) (layout.Answer, error) {
	request.Flags |= layout.FlagState
	request.State, request.History = s.state, s.kept.last(s.pending)
	answer, err := sb.do(ctx, v, request)
	if err != nil {
		return answer, err
	}
	s.state, s.pending = append(s.state[:0], answer.State...), 0
	return answer, nil
}
