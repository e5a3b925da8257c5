package q8_test

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/tetratelabs/wazero"

	"github.com/wisp-project/wisp/internal/layout"
	"github.com/wisp-project/wisp/internal/layout/layouttest"
)

// TestAppend is the promise of the history cache: whatever the steps in which
// events come, and however many there are, the answer is that to the whole
// history, bit for bit, in the definition and in the guest. The guest gets each
// state as it wrote it, and between two steps serves somebody else.
func TestAppend(t *testing.T) {
	shapes := layouttest.Shapes()
	shapes = append(shapes, layouttest.TextShapes()[1], layouttest.TextShapes()[3]) // with descriptions
	runs := 4
	if testing.Short() {
		runs = 1
	}
	for i, s := range shapes {
		t.Run(fmt.Sprintf("%dx%d", s.Items, s.Dim), func(t *testing.T) {
			t.Parallel()
			image, m := open(t, layouttest.Params(s, uint64(i)))
			g := newGuest(t, wazero.NewRuntimeConfigCompiler(), image)
			for run := range runs {
				r := rand.New(rand.NewPCG(uint64(run), uint64(i)))
				other := layouttest.Requests(s, image.Map, 1, uint64(run))
				var history []layout.Event
				var state []byte
				for step, appended := 0, 0; appended <= min(3*s.Window, 250)+5; step++ {
					request := layout.Request{Kind: layout.KindRecommend, K: uint32(min(s.Items, 7)), Flags: layout.FlagState}
					if step%3 == 1 {
						request = layout.Request{Kind: layout.KindScore, List: []uint32{0, uint32(s.Items - 1)}[:min(2, s.Items)], Flags: layout.FlagState}
					}
					if s.Text.UserMap && r.IntN(2) == 0 {
						request.Text = layouttest.Text(r)
					}
					n := []int{0, 1, 1, 1, 2, 3, 4, 5, 9, s.Window, image.Map.MaxHistory}[r.IntN(11)]
					if step == 0 {
						n = []int{0, 1, s.Window + 1}[run%3] // an empty start, too
					}
					for range min(n, image.Map.MaxHistory) {
						e := layout.Event{Item: uint32(r.IntN(s.Items)), Type: uint32(r.IntN(s.EventTypes)), Gap: r.Uint32() >> r.IntN(32)}
						request.History, history = append(request.History, e), append(history, e)
					}
					appended += n

					whole := request
					whole.History = history[max(0, len(history)-image.Map.MaxHistory):]
					want := m.Run(whole)
					request.State = state
					if err := request.Check(s, image.Map); err != nil {
						t.Fatal(err)
					}
					got := m.Run(request)
					if a, b := got.Append(nil), want.Append(nil); !bytes.Equal(a, b) {
						t.Fatalf("run %d, step %d: %d events behind a state of %d give\n%v\nand the whole history\n%v", run, step, n, len(history)-n, got.Hits, want.Hits)
					}
					same(t, g, m, []layout.Request{whole, request})
					state = got.State
					same(t, g, m, other)
				}
			}
		})
	}
}

// TestForeignStates gives the guest states that are none, or of somebody else:
// they are refused, or answered like any, and never with a NaN.
func TestForeignStates(t *testing.T) {
	s := layouttest.Shapes()[2]
	s.Dim, s.Heads = 9, 3 // rows that do not fill whole words
	image, m := open(t, layouttest.Params(s, 1))
	g := newGuest(t, wazero.NewRuntimeConfigCompiler(), image)
	r := rand.New(rand.NewPCG(1, 1))
	var good []byte
	for len(good) != s.MaxStateLen() {
		good = layouttest.State(s, r)
	}
	ask := func(state []byte) layout.Answer {
		request := layout.Request{Kind: layout.KindRecommend, K: 3, Flags: layout.FlagState, History: []layout.Event{{Item: 1}}, State: state}
		if r.IntN(2) == 0 {
			request.History = nil
		}
		answer := m.Run(request)
		if (request.Check(s, image.Map) == nil) != (answer.Status == layout.StatusOK) {
			t.Errorf("q8 gives status %d, Check says %v", answer.Status, request.Check(s, image.Map))
		}
		same(t, g, m, []layout.Request{request})
		for _, h := range answer.Hits {
			if v := float64(h.Score); math.IsNaN(v) || math.IsInf(v, 0) {
				t.Fatalf("a score is %v", v)
			}
		}
		return answer
	}
	if a := ask(good); a.Status != layout.StatusOK {
		t.Fatalf("a good state gets status %d", a.Status)
	}
	for n := range len(good) {
		if n%7 == 0 && n > 0 {
			if a := ask(good[:n]); a.Status != layout.StatusState {
				t.Fatalf("the first %d of %d bytes get status %d", n, len(good), a.Status)
			}
		}
	}
	if a := ask(append(bytes.Clone(good), 0, 0, 0, 0)); a.Status != layout.StatusState {
		t.Errorf("a state with more behind it gets status %d", a.Status)
	}
	refused := 0
	for bit := range 8 * len(good) {
		flipped := bytes.Clone(good)
		flipped[bit/8] ^= 1 << (bit % 8)
		if ask(flipped).Status == layout.StatusState {
			refused++
		}
	}
	if refused < 100 || refused > 4*len(good) {
		t.Errorf("%d of %d flipped bits are refused", refused, 8*len(good))
	}
	for _, v := range []float32{float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1)), 1 << 59} {
		st, err := layout.ParseState(good, s)
		if err != nil {
			t.Fatal(err)
		}
		st.Last[s.Dim-1] = v
		if a := ask(st.Append(nil, s)); a.Status != layout.StatusState {
			t.Errorf("a state with %v gets status %d", v, a.Status)
		}
		for d := range st.Last {
			st.Last[d] = layout.StateMax * float32(1-2*(d&1))
		}
		if a := ask(st.Append(nil, s)); a.Status != layout.StatusOK {
			t.Errorf("a state of the largest values gets status %d", a.Status)
		}
	}
}

// BenchmarkAppend is an event and the ten best items, with the state of 50 events.
func BenchmarkAppend(b *testing.B) {
	for _, items := range []int{10, 10000} {
		b.Run(fmt.Sprint(items), func(b *testing.B) {
			s := layout.Shape{Items: items, Dim: 64, Layers: 2, Heads: 1, FFN: 64, Window: 50, EventTypes: 8, GapBuckets: 24}
			image, m := open(b, layouttest.Params(s, 1))
			g := newGuest(b, wazero.NewRuntimeConfigCompiler(), image)
			r := layout.Request{Kind: layout.KindRecommend, K: 10, Flags: layout.FlagState}
			for i := range 50 {
				r.History = append(r.History, layout.Event{Item: uint32(i * 31 % s.Items), Type: uint32(i % 8), Gap: uint32(i * 1000)})
			}
			r.State, r.History = m.Run(r).State, r.History[:1]
			request := r.Append(nil)
			for b.Loop() {
				g.answer(b, request)
			}
		})
	}
}
