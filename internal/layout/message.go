package layout

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Event is one past event as a request carries it.
type Event struct {
	Item uint32 // row of the item table
	Type uint32 // entry of the event type vocabulary
	Gap  uint32 // seconds since the event before
}

// Kinds of request.
const (
	// KindRecommend asks for the K best items; those in List are left out.
	KindRecommend = 1
	// KindScore asks for the score of each item in List, in its order; K is 0.
	KindScore = 2
)

// FlagExcludeHistory leaves the items of the history out of a recommendation.
const FlagExcludeHistory = 1

// Request is what the guest is asked. The zero gaps, the trimming of the
// history to Map.MaxHistory events and the bounds are the host's business.
type Request struct {
	Kind, Flags uint32
	K           uint32
	History     []Event // oldest first
	List        []uint32
}

// Statuses of an answer, and results of the guest's run export.
const (
	StatusOK      = 0 // the answer is complete
	StatusMore    = 1 // call run again
	StatusRequest = 2 // the request is not valid: kind, flags, K or a length
	StatusItem    = 3 // an item of the history or the list is not in the table
	StatusType    = 4 // an event type is not in the vocabulary
)

// Hit is one scored item.
type Hit struct {
	Item  uint32
	Acc   int32   // the integer product of user vector and item row
	Score float32 // Acc times the item's scale
}

// Answer is what the guest returns: for KindRecommend hits by falling score,
// ties by rising item.
type Answer struct {
	Status uint32
	Hits   []Hit
}

// Words of the messages.
const (
	requestWords = 8 // phase, kind, flags, K, history length, list length, two zeros
	eventWords   = 3
	answerWords  = 4 // status, hits, two zeros
	hitWords     = 3
	stateWords   = 16
)

// Check reports what of r does not fit s and m. The guest gives a status for
// the same mistakes; this names them.
func (r *Request) Check(s Shape, m Map) error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: "+format, append([]any{ErrRequest}, args...)...)
	}
	switch {
	case r.Kind != KindRecommend && r.Kind != KindScore:
		return bad("kind %d is unknown", r.Kind)
	case r.Kind == KindRecommend && r.Flags&^FlagExcludeHistory != 0, r.Kind == KindScore && r.Flags != 0:
		return bad("flags %#x are unknown", r.Flags)
	case r.Kind == KindRecommend && (r.K < 1 || int64(r.K) > int64(m.MaxK)):
		return bad("k is %d, must lie between 1 and %d", r.K, m.MaxK)
	case r.Kind == KindScore && r.K != 0:
		return bad("k is %d, a request for scores has none", r.K)
	case len(r.History) > m.MaxHistory:
		return bad("the history has %d events, the model looks at %d", len(r.History), m.MaxHistory)
	case len(r.List) > m.MaxList:
		return bad("the list has %d items, at most %d are possible", len(r.List), m.MaxList)
	}
	for i, e := range r.History {
		if int64(e.Item) >= int64(s.Items) {
			return bad("event %d has item %d, the table has %d", i, e.Item, s.Items)
		}
		if int64(e.Type) >= int64(s.EventTypes) {
			return bad("event %d has type %d, the vocabulary has %d", i, e.Type, s.EventTypes)
		}
	}
	for i, item := range r.List {
		if int64(item) >= int64(s.Items) {
			return bad("entry %d of the list is item %d, the table has %d", i, item, s.Items)
		}
	}
	return nil
}

// Append encodes r behind dst, in the form that is written to Map.Request.
func (r *Request) Append(dst []byte) []byte {
	word := binary.LittleEndian.AppendUint32
	for _, w := range [requestWords]uint32{0, r.Kind, r.Flags, r.K, uint32(len(r.History)), uint32(len(r.List))} {
		dst = word(dst, w)
	}
	for _, e := range r.History {
		dst = word(word(word(dst, e.Item), e.Type), e.Gap)
	}
	for _, item := range r.List {
		dst = word(dst, item)
	}
	return dst
}

// ParseRequest decodes what Append wrote.
func ParseRequest(b []byte) (Request, error) {
	if len(b) < 4*requestWords {
		return Request{}, fmt.Errorf("%w: %d bytes are too few for a request", ErrRequest, len(b))
	}
	word := func(i int) uint32 { return binary.LittleEndian.Uint32(b[4*i:]) }
	events, list := uint64(word(4)), uint64(word(5))
	if uint64(len(b)) != 4*(requestWords+eventWords*events+list) || word(0) != 0 || word(6) != 0 || word(7) != 0 {
		return Request{}, fmt.Errorf("%w: %d bytes do not hold %d events and %d items", ErrRequest, len(b), events, list)
	}
	r := Request{Kind: word(1), Flags: word(2), K: word(3)}
	at := requestWords
	for range events {
		r.History = append(r.History, Event{Item: word(at), Type: word(at + 1), Gap: word(at + 2)})
		at += eventWords
	}
	for range list {
		r.List = append(r.List, word(at))
		at++
	}
	return r, nil
}

// AnswerLen returns the number of bytes of an answer with the given number of hits.
func AnswerLen(hits int) int { return 4 * (answerWords + hitWords*hits) }

// AnswerHeader decodes the first bytes of an answer (AnswerLen(0) of them).
func AnswerHeader(b []byte) (status uint32, hits int) {
	return binary.LittleEndian.Uint32(b), int(binary.LittleEndian.Uint32(b[4:]))
}

// Append encodes a behind dst, as the guest writes it to Map.Answer.
func (a *Answer) Append(dst []byte) []byte {
	word := binary.LittleEndian.AppendUint32
	dst = word(word(word(word(dst, a.Status), uint32(len(a.Hits))), 0), 0)
	for _, h := range a.Hits {
		dst = word(word(word(dst, h.Item), uint32(h.Acc)), math.Float32bits(h.Score))
	}
	return dst
}

// ParseAnswer decodes an answer of at most limit hits and appends them to hits.
// b may be longer than the answer.
func ParseAnswer(b []byte, limit int, hits []Hit) (Answer, error) {
	if len(b) < AnswerLen(0) {
		return Answer{}, fmt.Errorf("%w: %d bytes are too few", ErrAnswer, len(b))
	}
	status, n := AnswerHeader(b)
	if n > limit || len(b) < AnswerLen(n) {
		return Answer{}, fmt.Errorf("%w: %d hits where at most %d were asked for", ErrAnswer, n, limit)
	}
	for i := range n {
		at := b[AnswerLen(i):]
		hits = append(hits, Hit{
			Item: binary.LittleEndian.Uint32(at), Acc: int32(binary.LittleEndian.Uint32(at[4:])),
			Score: math.Float32frombits(binary.LittleEndian.Uint32(at[8:])),
		})
	}
	return Answer{Status: status, Hits: hits}, nil
}
