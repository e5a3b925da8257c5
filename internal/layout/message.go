package layout

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"unicode/utf8"
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
	// KindSearch asks for the K items whose texts are nearest to Text, by the
	// cosine of their vectors; those in List are left out.
	KindSearch = 3
	// KindEmbed asks for the vector of Text; K is 0.
	KindEmbed = 4
	// KindSimilar asks for the K items whose rows are nearest to that of the one
	// event of History, by their cosine; it and those in List are left out.
	KindSimilar = 5
	// KindRate asks for the rating that the user would give to each item in List, in
	// its order; K is 0.
	KindRate = 6
	// KindClassify asks how likely Text is of each class, in their order; K is 0.
	KindClassify = 7
)

// ranks reports whether a kind of request asks for the K best, so that rules may
// change them.
func ranks(kind uint32) bool {
	return kind == KindRecommend || kind == KindSearch || kind == KindSimilar
}

// Flags of a request.
const (
	// FlagExcludeHistory leaves the items of the history out of a recommendation.
	FlagExcludeHistory = 1
	// FlagItemRow asks for the item row that goes with an embedding.
	FlagItemRow = 2
	// FlagState asks for the state that the next events go on from.
	FlagState = 4
	// FlagAttributes asks, beside Reasons, for as many attributes of each hit that
	// speak most for it.
	FlagAttributes = 8
)

// Request is what the guest is asked. The zero gaps, the trimming of the
// history to Map.MaxHistory events and the bounds are the host's business.
type Request struct {
	Kind, Flags uint32
	K           uint32
	History     []Event // oldest first
	List        []uint32
	// Text is what is searched for or embedded, of any content; otherwise the
	// description of the user, none where it is empty.
	Text string
	// State is what the request for the events before History left behind, with
	// FlagState; none where it is empty. For requests with a history.
	State []byte
	// Rules change a ranking: which items it may hold, and in which order.
	Rules []Rule
	// Reasons is the number of events that are to be named for each hit of a
	// recommendation or of a list, at most MaxReasons: those of the history that
	// speak most for it, see internal/q8. History may then hold one event more than
	// the answer depends on, as without another it would; and there is no state.
	Reasons uint32
}

// CutText cuts a text to MaxText bytes, before the first character that does not
// fit.
func CutText(text string) string {
	if len(text) <= MaxText {
		return text
	}
	end := MaxText
	for end > MaxText-utf8.UTFMax && !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end]
}

// Statuses of an answer, and results of the guest's run export.
const (
	StatusOK      = 0 // the answer is complete
	StatusMore    = 1 // call run again
	StatusRequest = 2 // the request is not valid: kind, flags, K or a length other than the text's
	StatusItem    = 3 // an item of the history or the list is not in the table
	StatusType    = 4 // an event type is not in the vocabulary
	StatusNoText  = 5 // the image lacks what the text is to go through
	StatusLong    = 6 // the text has more than MaxText bytes
	StatusState   = 7 // the state is none of this image, or of another version
	StatusRule    = 8 // a rule is not valid

	StatusNoAttributes = 9  // the image does not know the attributes of its items
	StatusNoHead       = 10 // the image predicts no ratings, or knows no classes of texts
)

// Hit is one scored item.
type Hit struct {
	Item  uint32
	Acc   int32   // the integer product of user vector and item row
	Score float32 // Acc times the item's scale
}

// Answer is what the guest returns: for KindRecommend and KindSearch hits by
// falling score, ties by rising item; for KindEmbed a vector. The score of KindRate is a
// rating, and Acc the product that goes into it; for KindClassify an item is a class,
// its score a probability, and Acc that before the sum of all is divided out. Behind the
// hits lie the reasons for each, as many as were asked for.
type Answer struct {
	Status uint32
	Hits   []Hit
	Vector []float32 // (D of the text encoder)
	// Row and Scale are the item row of the text, with FlagItemRow: (D of the model).
	Row   []int8
	Scale float32
	State []byte // with FlagState: see State
}

// Words of the messages.
const (
	requestWords = 10 // phase, kind, flags, K, history length, list length, bytes of text, bytes of state, words of rules, reasons
	eventWords   = 3
	answerWords  = 5 // status, hits, length of the vector, length of the row, bytes of the state
	hitWords     = 3
	stateWords   = 32

	ruleStateWords = 32
)

// requestError is an error with the status that the guest gives for it.
type requestError struct {
	status uint32
	error
}

func (e requestError) Unwrap() error { return e.error }

// StatusOf returns the status that the guest gives to a request of which Check
// says err.
func StatusOf(err error) uint32 {
	var e requestError
	if errors.As(err, &e) {
		return e.status
	}
	return StatusOK
}

// Check reports what of r does not fit s and m. The guest gives a status for
// the same mistakes, see StatusOf; this names them.
func (r *Request) Check(s Shape, m Map) error {
	bad := func(status uint32, format string, args ...any) error {
		return requestError{status, fmt.Errorf("%w: "+format, append([]any{ErrRequest}, args...)...)}
	}
	explains := r.Kind == KindRecommend || r.Kind == KindScore
	takesHistory := explains || r.Kind == KindRate
	ofText := r.Kind == KindEmbed || r.Kind == KindClassify
	ranks, words := ranks(r.Kind), ruleWords(r.Rules)
	maxHistory := m.MaxHistory
	if r.Reasons > 0 {
		maxHistory++
	}
	switch {
	case r.Kind < KindRecommend || r.Kind > KindClassify:
		return bad(StatusRequest, "kind %d is unknown", r.Kind)
	case r.Flags&^flagsOf(r.Kind) != 0:
		return bad(StatusRequest, "flags %#x are unknown", r.Flags)
	case ranks && (r.K < 1 || int64(r.K) > int64(m.MaxK)):
		return bad(StatusRequest, "k is %d, must lie between 1 and %d", r.K, m.MaxK)
	case r.Reasons > MaxReasons:
		return bad(StatusRequest, "it asks for %d reasons, at most %d are possible", r.Reasons, MaxReasons)
	case r.Reasons > 0 && (!explains || r.asked() > m.MaxExplained):
		return bad(StatusRequest, "it asks for reasons of %d items and kind %d; those of %d that are recommended or scored are possible", r.asked(), r.Kind, m.MaxExplained)
	case r.Reasons > 0 && (len(r.State) > 0 || r.Flags&FlagState != 0):
		return bad(StatusRequest, "it has to do with a state, but reasons are looked for in the events themselves")
	case r.Flags&FlagAttributes != 0 && r.Reasons == 0:
		return bad(StatusRequest, "it asks for attributes and for no reasons")
	case !ranks && r.K != 0:
		return bad(StatusRequest, "k is %d, a request for scores, ratings, a vector or classes has none", r.K)
	case r.Kind == KindSimilar && (len(r.History) != 1 || len(r.Text)+len(r.State) > 0):
		return bad(StatusRequest, "similar items are those of one event, without a text and a state")
	case ofText && len(r.List) > 0, r.Kind == KindRate && len(r.State) > 0, !takesHistory && r.Kind != KindSimilar && len(r.History)+len(r.State) > 0:
		return bad(StatusRequest, "it has a history, a state or a list that its kind does not take")
	case len(r.History) > maxHistory:
		return bad(StatusRequest, "the history has %d events, at most %d are looked at", len(r.History), maxHistory)
	case len(r.List) > m.MaxList:
		return bad(StatusRequest, "the list has %d items, at most %d are possible", len(r.List), m.MaxList)
	case words > 0 && !ranks:
		return bad(StatusRequest, "rules change rankings, of kind %d there is none", r.Kind)
	case words > m.MaxRuleWords:
		return bad(StatusRequest, "its rules have %d words, at most %d are possible", words, m.MaxRuleWords)
	case r.Flags&FlagAttributes != 0 && s.Attributes.Count == 0:
		return bad(StatusNoAttributes, "the image does not know the attributes of its items")
	case r.Kind == KindRate && !s.Ratings:
		return bad(StatusNoHead, "the image does not predict ratings")
	case r.Kind == KindClassify && s.Text.Classes == 0:
		return bad(StatusNoHead, "the image does not know classes of texts")
	case !s.answersText(r):
		return bad(StatusNoText, "the image lacks what its text is to go through")
	case len(r.Text) > MaxText:
		return bad(StatusLong, "the text has %d bytes, at most %d are possible", len(r.Text), MaxText)
	}
	if len(r.State) > 0 {
		if err := s.CheckState(r.State); err != nil {
			return bad(StatusState, "%w", err)
		}
	}
	for i, e := range r.History {
		if int64(e.Item) >= int64(m.Items) {
			return bad(StatusItem, "event %d has item %d, there are %d", i, e.Item, m.Items)
		}
		if int64(e.Type) >= int64(s.EventTypes) {
			return bad(StatusType, "event %d has type %d, the vocabulary has %d", i, e.Type, s.EventTypes)
		}
	}
	for i, item := range r.List {
		if int64(item) >= int64(m.Items) {
			return bad(StatusItem, "entry %d of the list is item %d, there are %d", i, item, m.Items)
		}
	}
	if err := checkRules(r.Rules, r.K, m); err != nil {
		return bad(StatusRule, "%w", err)
	}
	return nil
}

// flagsOf returns the flags that a kind of request may have.
func flagsOf(kind uint32) uint32 {
	switch kind {
	case KindRecommend:
		return FlagExcludeHistory | FlagState | FlagAttributes
	case KindScore:
		return FlagState | FlagAttributes
	case KindEmbed:
		return FlagItemRow
	}
	return 0
}

// answersText reports whether an image of shape s has what the text of r, if
// there is one, is to go through.
func (s Shape) answersText(r *Request) bool {
	switch r.Kind {
	case KindSearch:
		return s.Text.ItemTexts
	case KindClassify:
		return s.Text.Classes > 0
	case KindEmbed:
		return s.Text.Dim > 0 && (r.Flags&FlagItemRow == 0 || s.Text.ItemMap)
	}
	return r.Text == "" || s.Text.UserMap
}

// Append encodes r behind dst, in the form that is written to Map.Request.
func (r *Request) Append(dst []byte) []byte {
	word := binary.LittleEndian.AppendUint32
	for _, w := range [requestWords]uint32{0, r.Kind, r.Flags, r.K, uint32(len(r.History)), uint32(len(r.List)), uint32(len(r.Text)), uint32(len(r.State)), uint32(ruleWords(r.Rules)), r.Reasons} {
		dst = word(dst, w)
	}
	for _, e := range r.History {
		dst = word(word(word(dst, e.Item), e.Type), e.Gap)
	}
	for _, item := range r.List {
		dst = word(dst, item)
	}
	dst = fill(append(fill(append(dst, r.Text...), len(r.Text)), r.State...), len(r.State))
	return appendRules(dst, r.Rules)
}

// fill appends the zeros that fill up n bytes to whole words.
func fill(dst []byte, n int) []byte { return append(dst, "\x00\x00\x00"[:roundUp(n, 4)-n]...) }

// ParseRequest decodes what Append wrote. The state is a part of b.
func ParseRequest(b []byte) (Request, error) {
	if len(b) < 4*requestWords {
		return Request{}, fmt.Errorf("%w: %d bytes are too few for a request", ErrRequest, len(b))
	}
	word := func(i int) uint32 { return binary.LittleEndian.Uint32(b[4*i:]) }
	events, list, text, state, rules := uint64(word(4)), uint64(word(5)), uint64(word(6)), uint64(word(7)), uint64(word(8))
	if uint64(len(b)) != 4*(requestWords+eventWords*events+list+(text+3)/4+(state+3)/4+rules) || word(0) != 0 {
		return Request{}, fmt.Errorf("%w: %d bytes do not hold %d events, %d items, a text of %d bytes, a state of %d and %d words of rules",
			ErrRequest, len(b), events, list, text, state, rules)
	}
	r := Request{Kind: word(1), Flags: word(2), K: word(3), Reasons: word(9)}
	at := requestWords
	for range events {
		r.History = append(r.History, Event{Item: word(at), Type: word(at + 1), Gap: word(at + 2)})
		at += eventWords
	}
	for range list {
		r.List = append(r.List, word(at))
		at++
	}
	rest, end := b[4*at:], uint64(len(b))-4*uint64(at)-4*rules
	var err error
	if r.Rules, err = parseRules(rest[end:]); err != nil {
		return Request{}, err
	}
	rest = rest[:end]
	padded := (text + 3) / 4 * 4
	r.Text = string(rest[:text])
	if state > 0 {
		r.State = rest[padded:][:state]
	}
	for _, padding := range [][]byte{rest[text:padded], rest[padded+state:]} {
		for _, c := range padding {
			if c != 0 {
				return Request{}, fmt.Errorf("%w: the padding behind the text or the state is not zero", ErrRequest)
			}
		}
	}
	return r, nil
}

// AnswerHeader is the beginning of an answer: its status and what follows.
type AnswerHeader struct {
	Status            uint32
	Hits, Vector, Row int
	State             int // bytes
}

// AnswerHeaderLen is the number of bytes that an AnswerHeader is read from.
const AnswerHeaderLen = 4 * answerWords

// ParseAnswerHeader decodes the first AnswerHeaderLen bytes of an answer.
func ParseAnswerHeader(b []byte) AnswerHeader {
	word := func(i int) int { return int(binary.LittleEndian.Uint32(b[4*i:])) }
	return AnswerHeader{Status: uint32(word(0)), Hits: word(1), Vector: word(2), Row: word(3), State: word(4)}
}

// Len returns the number of bytes of the whole answer. A row comes with its
// scale and is filled up to whole words.
func (h AnswerHeader) Len() int {
	n := AnswerHeaderLen + 4*hitWords*h.Hits + 4*h.Vector
	if h.Row > 0 {
		n += 4 + roundUp(h.Row, 4)
	}
	return n + h.State
}

// AnswerLimits returns the header of the largest answer that r can have from an
// image of shape s.
func (r *Request) AnswerLimits(s Shape) AnswerHeader {
	state := 0
	if r.Flags&FlagState != 0 {
		state = s.MaxStateLen()
	}
	switch r.Kind {
	case KindScore, KindRate:
		return AnswerHeader{Hits: len(r.List) * (1 + r.ReasonsEach()), State: state}
	case KindClassify:
		return AnswerHeader{Hits: s.Text.Classes}
	case KindEmbed:
		h := AnswerHeader{Vector: s.Text.Dim}
		if r.Flags&FlagItemRow != 0 {
			h.Row = s.Dim
		}
		return h
	}
	return AnswerHeader{Hits: int(r.K) * (1 + r.ReasonsEach()), State: state}
}

// Within reports whether h promises no more than limit.
func (h AnswerHeader) Within(limit AnswerHeader) bool {
	return h.Hits <= limit.Hits && h.Vector <= limit.Vector && h.Row <= limit.Row && h.State <= limit.State
}

// Append encodes a behind dst, as the guest writes it to Map.Answer.
func (a *Answer) Append(dst []byte) []byte {
	word := binary.LittleEndian.AppendUint32
	for _, w := range [answerWords]uint32{a.Status, uint32(len(a.Hits)), uint32(len(a.Vector)), uint32(len(a.Row)), uint32(len(a.State))} {
		dst = word(dst, w)
	}
	for _, h := range a.Hits {
		dst = word(word(word(dst, h.Item), uint32(h.Acc)), math.Float32bits(h.Score))
	}
	for _, v := range a.Vector {
		dst = word(dst, math.Float32bits(v))
	}
	if len(a.Row) > 0 {
		dst = word(dst, math.Float32bits(a.Scale))
		for _, v := range a.Row {
			dst = append(dst, byte(v))
		}
		dst = fill(dst, len(a.Row))
	}
	return append(dst, a.State...)
}

// ParseAnswer decodes an answer that is within limit and appends its hits to
// hits. b may be longer than the answer; the state is a part of it.
func ParseAnswer(b []byte, limit AnswerHeader, hits []Hit) (Answer, error) {
	if len(b) < AnswerHeaderLen {
		return Answer{}, fmt.Errorf("%w: %d bytes are too few", ErrAnswer, len(b))
	}
	h := ParseAnswerHeader(b)
	if !h.Within(limit) || len(b) < h.Len() {
		return Answer{}, fmt.Errorf("%w: %+v where at most %+v was asked for", ErrAnswer, h, limit)
	}
	a := Answer{Status: h.Status}
	at := b[AnswerHeaderLen:]
	for range h.Hits {
		hits = append(hits, Hit{
			Item: binary.LittleEndian.Uint32(at), Acc: int32(binary.LittleEndian.Uint32(at[4:])),
			Score: getFloat(at, 8),
		})
		at = at[4*hitWords:]
	}
	a.Hits = hits
	if h.Vector > 0 {
		a.Vector = getFloats(at, 0, h.Vector)
		at = at[4*h.Vector:]
	}
	if h.Row > 0 {
		a.Scale, a.Row = getFloat(at, 0), make([]int8, h.Row)
		for i := range a.Row {
			a.Row[i] = int8(at[4+i])
		}
		at = at[4+roundUp(h.Row, 4):]
	}
	if h.State > 0 {
		a.State = at[:h.State]
	}
	return a, nil
}
