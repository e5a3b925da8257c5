package edge

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/wisp-project/wisp/internal/layout"
)

// sessionMagic opens a saved session; the digest of the artefact follows it. All
// numbers are little-endian.
const sessionMagic = "wisp session 1\x00\x00"

// Save returns the session as bytes, for ResumeSession of any runtime with the
// same artefact: in another process, or on another machine. They are as private as
// the history is.
func (s *Session) Save() ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	return s.save(), nil
}

func (s *Session) save() []byte {
	le := binary.LittleEndian
	b := append([]byte(sessionMagic), s.r.digest[:]...)
	dropped := uint32(0)
	if s.dropped {
		dropped = 1
	}
	for _, w := range []uint32{uint32(s.count), uint32(s.pending), dropped, uint32(len(s.kept.events)), uint32(len(s.seen)), uint32(len(s.state))} {
		b = le.AppendUint32(b, w)
	}
	b = le.AppendUint64(b, uint64(s.before))
	for i, e := range s.kept.events {
		for _, w := range []uint32{e.Item, e.Type, e.Gap, uint32(s.kept.index[i])} {
			b = le.AppendUint32(b, w)
		}
		b = le.AppendUint64(b, uint64(s.kept.times[i]))
	}
	for _, item := range s.seen {
		b = le.AppendUint32(b, item)
	}
	return append(b, s.state...)
}

// ResumeSession goes on with a saved session. It returns an error that wraps
// ErrSession for bytes that are none or of another artefact, and ErrSessions.
func (r *Runtime) ResumeSession(saved []byte) (*Session, error) {
	p, state, pending, err := r.parseSession(saved)
	if err != nil {
		return nil, err
	}
	s, err := r.NewSession()
	if err != nil {
		return nil, err
	}
	s.past, s.state, s.pending = p, state, pending
	return s, nil
}

// parseSession checks every number: what comes from outside may be anybody's.
func (r *Runtime) parseSession(b []byte) (p past, state []byte, pending int, err error) {
	bad := func(format string, args ...any) (past, []byte, int, error) {
		return past{}, nil, 0, fmt.Errorf("%w: "+format+"; start anew with the whole history", append([]any{ErrSession}, args...)...)
	}
	const head, event = len(sessionMagic) + 32 + 4*6 + 8, 4*4 + 8
	if len(b) < head || string(b[:len(sessionMagic)]) != sessionMagic {
		return bad("%d bytes are none", len(b))
	}
	if string(b[len(sessionMagic):][:32]) != string(r.digest[:]) {
		return bad("it is of another artefact or version")
	}
	at := len(sessionMagic) + 32
	word := func() uint32 { at += 4; return binary.LittleEndian.Uint32(b[at-4:]) }
	long := func() int64 { at += 8; return int64(binary.LittleEndian.Uint64(b[at-8:])) }
	count, wait, dropped, kept, seen, stateLen := word(), word(), word(), uint64(word()), uint64(word()), uint64(word())
	shape, limit, items := r.image.Shape, r.image.Map.MaxHistory, r.view().m.Items
	p.count, p.dropped, p.before = int(count), dropped == 1, long()
	if uint64(len(b)) != uint64(head)+kept*uint64(event)+4*seen+stateLen || kept > uint64(limit)+1 || uint64(wait) > min(kept, uint64(limit)) || dropped > 1 || p.before < 0 {
		return bad("its lengths make no sense")
	}
	last := p.before
	for range kept {
		e := layout.Event{Item: word(), Type: word(), Gap: word()}
		index, time := word(), long()
		if int64(e.Item) >= int64(items) || int64(e.Type) >= int64(shape.EventTypes) || index >= count || time < last {
			return bad("an event makes no sense")
		}
		p.kept.events, p.kept.index, p.kept.times = append(p.kept.events, e), append(p.kept.index, int(index)), append(p.kept.times, time)
		last = time
	}
	for range seen {
		item := word()
		if int64(item) >= int64(items) || len(p.seen) > 0 && item <= p.seen[len(p.seen)-1] {
			return bad("the items seen make no sense")
		}
		p.seen = append(p.seen, item)
	}
	if stateLen == 0 {
		return p, nil, min(len(p.kept.events), limit), nil
	}
	state = slices.Clone(b[at:])
	if err := shape.CheckState(state); err != nil {
		return bad("%w", err)
	}
	return p, state, int(wait), nil
}

// resumed answers a request that goes on with a session, or begins one, that the
// caller holds.
func (r *Runtime) resumed(ctx context.Context, q Request) (Response, error) {
	s := &Session{r: r}
	if len(q.Session) > 0 {
		var err error
		if s.past, s.state, s.pending, err = r.parseSession(q.Session); err != nil {
			return Response{}, err
		}
	}
	response, err := s.Recommend(ctx, q)
	if err != nil {
		return Response{}, err
	}
	response.Session = s.save()
	return response, nil
}
