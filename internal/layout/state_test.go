package layout_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/wisp-project/wisp/internal/layout"
	"github.com/wisp-project/wisp/internal/layout/layouttest"
)

func TestStates(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for _, s := range layouttest.Shapes() {
		for range 20 {
			b := layouttest.State(s, r)
			st, err := layout.ParseState(b, s)
			if err != nil {
				t.Fatalf("%+v: %v", s, err)
			}
			if len(b) != s.StateLen(st.Events) || len(b) > s.MaxStateLen() {
				t.Errorf("%+v: %d bytes for %d events", s, len(b), st.Events)
			}
			if !bytes.Equal(st.Append(nil, s), b) {
				t.Errorf("%+v: a state changed on its way", s)
			}
			other := s
			other.Window++
			again, err := layout.ParseState(st.Append(nil, other), other)
			if st.Events < s.Window && (err != nil || !reflect.DeepEqual(again, st)) {
				t.Errorf("%+v: a state of %d events depends on the window (%v)", s, st.Events, err)
			}
		}
	}
	s := layouttest.Shapes()[1]
	good := layouttest.State(s, r)
	for name, b := range map[string][]byte{
		"nothing": nil, "head": good[:12], "short": good[:len(good)-4], "long": append(bytes.Clone(good), 0, 0, 0, 0),
		"other version": append([]byte{0}, good[1:]...),
	} {
		if err := s.CheckState(b); !errors.Is(err, layout.ErrState) {
			t.Errorf("%s: got %v", name, err)
		}
		if _, err := layout.ParseState(b, s); !errors.Is(err, layout.ErrState) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
