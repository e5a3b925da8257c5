package q8_test

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"testing"

	"github.com/tetratelabs/wazero"

	"github.com/wisp-project/wisp/internal/layout"
	"github.com/wisp-project/wisp/internal/layout/layouttest"
)

// FuzzGuestRequest writes arbitrary bytes where requests go. The guest must not trap,
// end after a bounded number of slices, write nowhere but into the scratch area and
// its stack, and give the status that layout's Check stands for; to a valid request,
// the answer of the definition.
func FuzzGuestRequest(f *testing.F) {
	s := layouttest.TextShapes()[1]
	image, m := open(f, layouttest.Params(s, 1))
	o := layouttest.Overlay(s, image.Map, 6, 1)
	m = m.WithOverlay(o)
	limits := image.Map.With(&o)
	g := newGuest(f, wazero.NewRuntimeConfigCompiler(), image)
	g.lay(f, image, o)
	for _, r := range append(layouttest.RankRequests(s, limits, 60, 3), layouttest.TextRequests(s, image.Map, 10, 4)...) {
		b := r.Append(nil)
		f.Add(b)
		f.Add(b[:len(b)/2])
	}
	all := g.memory.Size()
	// What lies outside stack and scratch area: the kernel's data, image and overlay.
	kept := func() uint32 {
		b, _ := g.memory.Read(layout.StackSize, image.Map.Scratch-layout.StackSize)
		return crc32.ChecksumIEEE(b)
	}
	before := kept()
	room := int(image.Map.Answer - image.Map.Request)
	f.Fuzz(func(t *testing.T, b []byte) {
		b = b[:min(len(b), room)]
		b = bytes.Clone(b)
		clear(b[:min(4, len(b))]) // a new request
		g.memory.Write(g.m.Request, make([]byte, room))
		g.memory.Write(g.m.Request, b)
		slices := 0
		for ; ; slices++ {
			status, err := g.run.Call(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if status[0] != layout.StatusMore {
				break
			}
			if slices == 1000 {
				t.Fatal("it does not end")
			}
		}
		if g.memory.Size() != all || kept() != before {
			t.Fatal("it wrote where it must not")
		}
		head, _ := g.memory.Read(g.m.Answer, layout.AnswerHeaderLen)
		h := layout.ParseAnswerHeader(head)
		r, ok := requestIn(b, room)
		if !ok {
			if h.Status == layout.StatusOK {
				t.Fatalf("a request whose parts do not fit together is answered: %x", b)
			}
			return
		}
		if want := layout.StatusOf(r.Check(s, limits)); h.Status != want {
			t.Fatalf("status %d, Check means %d: %v of %+v", h.Status, want, r.Check(s, limits), r)
		}
		answer, _ := g.memory.Read(g.m.Answer, uint32(h.Len()))
		want := m.Run(r)
		if !bytes.Equal(answer, want.Append(nil)) {
			t.Fatalf("the answer to %+v is not the definition's", r)
		}
	})
}

// requestIn returns the request at the beginning of b, with zeros behind it, or
// false where its lengths go beyond the room for it or its rules are cut off.
func requestIn(b []byte, room int) (layout.Request, bool) {
	b = append(bytes.Clone(b), make([]byte, room-len(b))...)
	word := func(i int) uint64 { return uint64(binary.LittleEndian.Uint32(b[4*i:])) }
	size := 4 * (10 + 3*word(4) + word(5) + (word(6)+3)/4 + (word(7)+3)/4 + word(8))
	if size > uint64(room) {
		return layout.Request{}, false
	}
	b = b[:size]
	// Whatever fills up the last word of a text or a state: the guest looks at neither.
	text := 4 * (10 + 3*word(4) + word(5))
	clear(b[text+word(6) : text+(word(6)+3)/4*4])
	state := text + (word(6)+3)/4*4
	clear(b[state+word(7) : state+(word(7)+3)/4*4])
	r, err := layout.ParseRequest(b)
	return r, err == nil
}
