// Package data reads interactions, cleans them, splits them and keeps them in
// prepared form: columnar files on disk, histories of item indices in memory.
// Nothing in it knows what an item is: films, goods and songs are read alike.
package data

import (
	"cmp"
	"slices"
)

// Kind says what a user did with an item.
type Kind uint8

// The kinds of event. Rating is the only one with a value.
const (
	Browse Kind = iota
	Click
	Favourite
	Rating
)

// Event is one interaction as it was read.
type Event struct {
	User, Item string
	Kind       Kind
	Value      float32 // the rating in the data set's own scale; 0 for other kinds
	Time       int64   // Unix time in seconds
}

// Item is one entry of the catalogue. Only ID is required.
type Item struct {
	ID         string
	Title      string
	Text       string // free text: description, review, tags
	Categories []string
	Attributes map[string]string
}

// User is what is known of a user apart from the events. Only ID is required.
type User struct {
	ID          string
	Description string
	Attributes  map[string]string
}

// Profile is a user as a model sees one: the description and the behaviour.
type Profile struct {
	User    User
	History []Interaction // in order of time
}

// EventType is one entry of a data set's vocabulary of event types: an event
// belongs to the last entry with its Kind whose AtLeast does not exceed its
// value. Ratings are cut into levels this way; other kinds have AtLeast 0.
type EventType struct {
	Name    string // "browse", "click", "favourite", "rating"
	AtLeast float32
}

// String returns the name of k as it is written in files and requests.
func (k Kind) String() string {
	switch k {
	case Browse:
		return "browse"
	case Click:
		return "click"
	case Favourite:
		return "favourite"
	case Rating:
		return "rating"
	}
	return "unknown"
}

// RatingLevels is the number of levels that the scale of ratings is cut into.
const RatingLevels = 5

// EventTypes returns the vocabulary for ratings between lo and hi: one entry
// for each of the other kinds, then RatingLevels of equal width. The first
// level has no lower bound of its own; it is written as lo.
func EventTypes(lo, hi float32) []EventType {
	types := []EventType{{Name: Browse.String()}, {Name: Click.String()}, {Name: Favourite.String()}}
	for i := range RatingLevels {
		types = append(types, EventType{Name: Rating.String(), AtLeast: lo + (hi-lo)*float32(i)/RatingLevels})
	}
	return types
}

// TypeOf returns the index in types of an event of kind k and the given value,
// or 0 where types has no entry for k. A value below the first bound of its
// kind belongs to the first entry of that kind.
func TypeOf(types []EventType, k Kind, value float32) uint8 {
	name, found := k.String(), -1
	for i, t := range types {
		if t.Name == name && (found < 0 || t.AtLeast <= value) {
			found = i
		}
	}
	return uint8(max(found, 0))
}

// Interaction is an event of a user's history in the form models read.
type Interaction struct {
	Item  int32   // index into Dataset.Items
	Type  uint8   // index into Dataset.Types
	Value float32 // the rating, 0 for other kinds
	Time  int64   // Unix time in seconds
}

// Dataset is a prepared data set in memory.
type Dataset struct {
	Name  string
	Types []EventType
	Items []Item
	Users []User
	// OrderOnly says that times order the events of one user and mean nothing
	// else, so that ByTime has nothing to cut at.
	OrderOnly bool
	// Histories holds, for each user (same index as Users), the events in order
	// of time, ties in the order of the source file. Readers must not write to it.
	Histories [][]Interaction
}

// Events returns the number of interactions.
func (d *Dataset) Events() int {
	n := 0
	for _, h := range d.Histories {
		n += len(h)
	}
	return n
}

// Gaps returns the seconds between each event of h and the one before it, as
// models read them: 0 for the first event, and clamped to the range of uint32.
func Gaps(h []Interaction) []uint32 {
	gaps := make([]uint32, len(h))
	for i := 1; i < len(h); i++ {
		gaps[i] = uint32(min(max(h[i].Time-h[i-1].Time, 0), 1<<32-1))
	}
	return gaps
}

// Case is one question of an evaluation: given History, which item is Target?
type Case struct {
	User    int32
	History []Interaction // every event before the target, oldest first
	Target  Interaction
}

// Split is a data set divided for training and evaluation. Train, Valid and
// Test share the arrays of the Dataset's Histories.
type Split struct {
	Protocol string          // "leave-one-out" or "time"
	Train    [][]Interaction // by user, same index as Dataset.Users; may be empty
	Valid    []Case
	Test     []Case
}

// LeaveOneOut makes the last event of each user with at least minEvents events
// the test target and the one before it the validation target. Train holds what
// comes before both; users with fewer events than minEvents train whole.
func LeaveOneOut(d *Dataset, minEvents int) *Split {
	minEvents = max(minEvents, 3)
	s := &Split{Protocol: "leave-one-out", Train: make([][]Interaction, len(d.Histories))}
	for u, h := range d.Histories {
		n := len(h)
		if n < minEvents {
			s.Train[u] = h
			continue
		}
		s.Train[u] = h[:n-2]
		s.Valid = append(s.Valid, Case{User: int32(u), History: h[:n-2], Target: h[n-2]})
		s.Test = append(s.Test, Case{User: int32(u), History: h[:n-1], Target: h[n-1]})
	}
	return s
}

// ByTime cuts all histories at the same two moments, so that nothing a model
// was fitted on happened after anything it is asked about: events before
// validFrom train; each user's first event in [validFrom, testFrom) is a
// validation target and each user's first event from testFrom on a test target.
// The history of a case is everything the user did before its target. Targets
// whose item was not seen before the cut are kept: a model that cannot rank
// them has missed them.
func ByTime(d *Dataset, validFrom, testFrom int64) *Split {
	s := &Split{Protocol: "time", Train: make([][]Interaction, len(d.Histories))}
	first := func(h []Interaction, from int64) int {
		i, _ := slices.BinarySearchFunc(h, from, func(e Interaction, t int64) int { return cmp.Compare(e.Time, t) })
		return i
	}
	for u, h := range d.Histories {
		v, t := first(h, validFrom), first(h, testFrom)
		s.Train[u] = h[:v]
		if v < t && v > 0 {
			s.Valid = append(s.Valid, Case{User: int32(u), History: h[:v], Target: h[v]})
		}
		if t < len(h) && t > 0 {
			s.Test = append(s.Test, Case{User: int32(u), History: h[:t], Target: h[t]})
		}
	}
	return s
}

// Quantile returns the moment before which the given share of all events lies.
func (d *Dataset) Quantile(share float64) int64 {
	times := make([]int64, 0, d.Events())
	for _, h := range d.Histories {
		for _, e := range h {
			times = append(times, e.Time)
		}
	}
	if len(times) == 0 {
		return 0
	}
	slices.Sort(times)
	return times[min(int(share*float64(len(times))), len(times)-1)]
}
