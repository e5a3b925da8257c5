package layout

import (
	"encoding/binary"
	"fmt"
)

// State is what a run over a history leaves for the run that goes on with it: the
// keys and values that later events still attend to, and what the blocks made of
// the last event. Hosts hold it as the bytes that the guest wrote.
//
// A state of other weights, or of anybody's making, gives a wrong answer to whom
// it belongs, and does no other harm: its values are checked for their range.
type State struct {
	Events int       // of the history, at most W: later ones depend on no more
	Last   []float32 // (D) the residual stream of the last event; zeros without one
	// Keys and Values are those of the last min(Events, W-1) events at each
	// block, oldest first: (L, events, D).
	Keys, Values [][][]int8
}

const (
	stateTag       = 0x31747377 // "wst1": the version of this form
	stateHeadWords = 4          // tag, events, zero, zero
	// StateMax bounds the residual stream of a state. No image leads there, and
	// the squares of larger values might have no finite sum.
	StateMax = 1 << 58
)

// cached returns how many events a state of the given number holds keys of.
func (s Shape) cached(events int) int { return min(events, s.Window-1) }

// StateLen returns the number of bytes of a state after events, at most W.
func (s Shape) StateLen(events int) int {
	return s.stateRowsAt() + roundUp(s.stateRowBytes(events), 4)
}

// stateRowsAt is the place of the first key, stateRowBytes the number of bytes of
// all keys and values.
func (s Shape) stateRowsAt() int             { return 4 * (stateHeadWords + s.Dim) }
func (s Shape) stateRowBytes(events int) int { return 2 * s.Layers * s.cached(events) * s.Dim }

// MaxStateLen is StateLen of a long history.
func (s Shape) MaxStateLen() int { return s.StateLen(s.Window) }

// Append encodes a state of an image of shape s behind dst: tag, events and two
// zeros; Last; then for each block the keys and the values; zeros up to a whole word.
func (st *State) Append(dst []byte, s Shape) []byte {
	at := len(dst)
	dst = append(dst, make([]byte, s.StateLen(st.Events))...)
	b := dst[at:]
	binary.LittleEndian.PutUint32(b, stateTag)
	binary.LittleEndian.PutUint32(b[4:], uint32(st.Events))
	putFloats(b, 4*stateHeadWords, st.Last)
	s.stateRows(st, func(row []int8, at int) {
		for i, v := range row {
			b[at+i] = byte(v)
		}
	})
	return dst
}

// stateRows calls f for each row of keys and values and its place.
func (s Shape) stateRows(st *State, f func(row []int8, at int)) {
	at := s.stateRowsAt()
	for l := range s.Layers {
		for _, rows := range [][][]int8{st.Keys[l], st.Values[l]} {
			for _, row := range rows {
				f(row, at)
				at += s.Dim
			}
		}
	}
}

// ParseState decodes what Append, or a guest with an image of shape s, wrote.
func ParseState(b []byte, s Shape) (State, error) {
	if err := s.CheckState(b); err != nil {
		return State{}, err
	}
	st := State{
		Events: int(binary.LittleEndian.Uint32(b[4:])), Last: getFloats(b, 4*stateHeadWords, s.Dim),
		Keys: make([][][]int8, s.Layers), Values: make([][][]int8, s.Layers),
	}
	n := s.cached(st.Events)
	for l := range s.Layers {
		st.Keys[l], st.Values[l] = int8Rows(n, s.Dim), int8Rows(n, s.Dim)
	}
	s.stateRows(&st, func(row []int8, at int) {
		for i := range row {
			row[i] = int8(b[at+i])
		}
	})
	return st, nil
}

func int8Rows(n, width int) [][]int8 {
	rows := make([][]int8, n)
	for i := range rows {
		rows[i] = make([]int8, width)
	}
	return rows
}

// CheckState reports what makes b no state of an image of shape s, as the guest
// does; its error wraps ErrState.
func (s Shape) CheckState(b []byte) error {
	if len(b) < 4*stateHeadWords {
		return fmt.Errorf("%w: %d bytes are too few", ErrState, len(b))
	}
	word := func(i int) uint32 { return binary.LittleEndian.Uint32(b[4*i:]) }
	switch events := word(1); {
	case word(0) != stateTag:
		return fmt.Errorf("%w: its first word is %#x, this program writes %#x", ErrState, word(0), uint32(stateTag))
	case int64(events) > int64(s.Window) || word(2) != 0 || word(3) != 0:
		return fmt.Errorf("%w: it is of %d events, the model looks back over %d", ErrState, events, s.Window)
	case len(b) != s.StateLen(int(events)):
		return fmt.Errorf("%w: it has %d bytes, one of %d events has %d", ErrState, len(b), events, s.StateLen(int(events)))
	}
	for _, c := range b[s.stateRowsAt()+s.stateRowBytes(int(word(1))):] {
		if c != 0 {
			return fmt.Errorf("%w: the padding behind its rows is not zero", ErrState)
		}
	}
	for i, v := range getFloats(b, 4*stateHeadWords, s.Dim) {
		if !(v >= -StateMax && v <= StateMax) {
			return fmt.Errorf("%w: value %d is %v", ErrState, i, v)
		}
	}
	return nil
}
