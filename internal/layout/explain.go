package layout

import "math"

// Limits on requests for reasons.
const (
	// MaxReasons is the largest number of reasons for an item.
	MaxReasons = 16
	// MaxExplained is the largest number of items that a request asks about.
	MaxExplained = 100
	// NoReason stands in the place of an item or an event where there is none.
	NoReason = math.MaxUint32

	explainSpare = 20
	explainEvent = 4
)

// ExplainRows bounds the work of reasons among T events: how many events may
// be run again for the histories that lack one. It is one and a half times what the
// history itself takes, so that short ones are tried event by event.
func ExplainRows(events int) int { return events + events/2 + explainSpare }

// ExplainCost is what trying event i of T takes of ExplainRows: the events behind
// it, and something for blocks of four that are not filled.
func ExplainCost(events, i int) int { return events - 1 - i + explainEvent }

// Without returns a history without event i, the gap of the one behind it made up
// for. earlier says that there were events before the first one given.
func Without(events []Event, i int, earlier bool) []Event {
	h := append(append(make([]Event, 0, len(events)), events[:i]...), events[i+1:]...)
	if i < len(h) {
		h[i].Gap = GapWithout(events, i, earlier)
	}
	return h
}

// GapWithout is the gap of the event behind event i in a history that lacks i.
func GapWithout(events []Event, i int, earlier bool) uint32 {
	if i == 0 && !earlier {
		return 0
	}
	return uint32(min(uint64(events[i].Gap)+uint64(events[i+1].Gap), math.MaxUint32))
}

// asked is the number of items that reasons are asked for.
func (r *Request) asked() int {
	if r.Kind == KindScore {
		return len(r.List)
	}
	return int(r.K)
}

// ReasonsEach is the number of events and attributes that stand in an answer for
// each item.
func (r *Request) ReasonsEach() int {
	if r.Flags&FlagAttributes != 0 {
		return 2 * int(r.Reasons)
	}
	return int(r.Reasons)
}

// Parts cuts the hits of an answer to r in three: the items; the reasons for each, in
// groups of r.Reasons; and the attributes of each, in groups of as many. A reason is
// an event of the history, the integer product of the history without it, and what
// the score loses; an attribute is its number or OwnPart, its integer product with
// the user vector, and what it brings to the score. NoReason stands in places that
// are not used.
func (r *Request) Parts(hits []Hit) (items, reasons, attributes []Hit) {
	n := len(hits) / (1 + r.ReasonsEach())
	m := n * int(1+r.Reasons)
	return hits[:n:n], hits[n:m:m], hits[m:]
}
