package tokenize_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/wisp-project/wisp/internal/tokenize"
)

// built is the module of testdata/guest.c.
var built = sync.OnceValues(func() (wasm []byte, err error) {
	source, err := filepath.Abs("testdata/guest.c")
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "wordpiece")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	out := filepath.Join(dir, "guest.wasm")
	if b, err := exec.Command("make", "-s", "-C", "../../wasm/guest", "module", "SOURCE="+source, "OUT="+out).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, b)
	}
	return os.ReadFile(out)
})

// guest is the tokenizer of wordpiece.h with a packed form in its memory.
type guest struct {
	memory     api.Memory
	begin      api.Function
	step       api.Function
	count      api.Function
	at         api.Function
	blob, text uint32 // addresses
	steps      int    // calls of step that the last text took
}

// guestBase is the first address that a test may use: behind the module's own.
const guestBase = 1 << 17

// newGuest returns a guest, or skips the test where none can be built.
func newGuest(tb testing.TB, blob []byte) *guest {
	tb.Helper()
	for _, tool := range []string{"make", "clang-19", "wasm-ld-19"} {
		if _, err := exec.LookPath(tool); err != nil {
			tb.Skipf("%s is missing: the guest's tokenizer cannot be built", tool)
		}
	}
	wasm, err := built()
	if err != nil {
		tb.Fatal(err)
	}
	ctx := context.Background()
	r := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfig())
	tb.Cleanup(func() { _ = r.Close(ctx) })
	m, err := r.Instantiate(ctx, wasm)
	if err != nil {
		tb.Fatal(err)
	}
	g := &guest{
		memory: m.Memory(), blob: guestBase,
		begin: m.ExportedFunction("begin"), step: m.ExportedFunction("step"), count: m.ExportedFunction("count"), at: m.ExportedFunction("at"),
	}
	g.text = g.blob + uint32(len(blob)+15)&^15
	g.write(tb, g.blob, blob)
	return g
}

// write puts bytes at an address, and grows the memory to hold them.
func (g *guest) write(tb testing.TB, at uint32, b []byte) {
	tb.Helper()
	if end := at + uint32(len(b)); end > g.memory.Size() {
		if _, ok := g.memory.Grow((end - g.memory.Size() + 1<<16 - 1) >> 16); !ok {
			tb.Fatalf("memory does not grow to %d bytes", end)
		}
	}
	if !g.memory.Write(at, b) {
		tb.Fatalf("%d bytes do not fit at %d", len(b), at)
	}
}

func (g *guest) call(tb testing.TB, f api.Function, args ...uint64) uint32 {
	tb.Helper()
	out, err := f.Call(context.Background(), args...)
	if err != nil {
		tb.Fatal(err)
	}
	if len(out) == 0 {
		return 0
	}
	return uint32(out[0])
}

// encode returns the ids of a text as the guest sees it.
func (g *guest) encode(tb testing.TB, text string, limit int) []int32 {
	tb.Helper()
	// The ids lie behind the text, between guards.
	const guard = 0xA5A5A5A5
	n := max(limit, 2)
	ids := g.text + uint32(len(text)+15)&^15
	places := binary.LittleEndian.AppendUint32(nil, guard)
	places = append(places, make([]byte, 4*n)...)
	places = binary.LittleEndian.AppendUint32(places, guard)
	g.write(tb, g.text, []byte(text))
	g.write(tb, ids, places)
	g.call(tb, g.begin, uint64(g.blob), uint64(g.text), uint64(len(text)), uint64(ids+4), uint64(limit))
	read := uint32(0)
	for g.steps = 1; g.call(tb, g.step) != 0; g.steps++ {
		at := g.call(tb, g.at)
		if at <= read || at-read > 64*512 {
			tb.Fatalf("a step reads %d to %d of %d bytes", read, at, len(text))
		}
		read = at
	}
	if g.call(tb, g.step) != 0 {
		tb.Fatal("there is more to do behind the end")
	}
	count := g.call(tb, g.count)
	b, ok := g.memory.Read(ids, uint32(len(places)))
	if !ok || int(count) > n || binary.LittleEndian.Uint32(b) != guard || binary.LittleEndian.Uint32(b[4*n+4:]) != guard {
		tb.Fatalf("%d ids of at most %d, or others written", count, n)
	}
	out := make([]int32, count)
	for i := range out {
		out[i] = int32(binary.LittleEndian.Uint32(b[4+4*i:]))
	}
	return out
}

func TestGuestGolden(t *testing.T) {
	t.Parallel()
	uncased, cased := newGuest(t, pack(t, small(t, tokenize.Options{}))), newGuest(t, pack(t, small(t, tokenize.Options{Cased: true})))
	for i, l := range readLines[golden](t, "testdata/strings.jsonl") {
		if got := uncased.encode(t, l.Text, goldenLimit); !slices.Equal(got, l.IDs) {
			t.Errorf("line %d: %q gives %v, want %v", i+1, l.Text, got, l.IDs)
		}
		if got := cased.encode(t, l.Text, goldenLimit); !slices.Equal(got, l.Cased) {
			t.Errorf("line %d: %q cased gives %v, want %v", i+1, l.Text, got, l.Cased)
		}
	}
}

func TestGuestReference(t *testing.T) {
	t.Parallel()
	const file, folder = "../../../shared/reference/tokens.jsonl", "../../../shared/models/all-MiniLM-L6-v2"
	if _, err := os.Stat(file); err != nil {
		t.Skipf("the reference ids are absent: %v", err)
	}
	tok, err := tokenize.Load(folder)
	if err != nil {
		t.Fatal(err)
	}
	g := newGuest(t, pack(t, tok))
	for i, l := range readLines[golden](t, file) {
		if got := g.encode(t, l.Text, 128); !slices.Equal(got, l.IDs) {
			t.Errorf("%s:%d: %q gives %v, want %v", file, i+1, l.Text, got, l.IDs)
		}
	}
	r := rand.New(rand.NewPCG(7, 8))
	for range 2000 {
		text, limit := randomText(r, r.IntN(200)), 2+r.IntN(128)
		if got, want := g.encode(t, text, limit), tok.Encode(nil, text, limit); !slices.Equal(got, want) {
			t.Fatalf("%q, limit %d, gives %v, want %v", text, limit, got, want)
		}
	}
}

func TestGuestRandom(t *testing.T) {
	t.Parallel()
	all := characters()
	for name, tok := range packable(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGuest(t, pack(t, tok))
			want := tok.Encode(nil, all, 0)
			if got := g.encode(t, all, len(want)); !slices.Equal(got, want) {
				t.Errorf("%d ids of all characters differ from %d", len(got), len(want))
			}
			r := rand.New(rand.NewPCG(9, 10))
			for i := range 500 {
				text, limit := randomText(r, r.IntN(80)), 1+r.IntN(40)
				if i%50 == 0 {
					text = randomText(r, 1000)
				}
				if got, want := g.encode(t, text, limit), tok.Encode(nil, text, limit); !slices.Equal(got, want) {
					t.Fatalf("%q, limit %d, gives %v, want %v", text, limit, got, want)
				}
			}
		})
	}
}

func TestGuestManyTokens(t *testing.T) {
	t.Parallel()
	vocab := []string{"[UNK]", "[CLS]", "[SEP]", "[PAD]"}
	for i := len(vocab); i < 1<<16+4000; i++ {
		vocab = append(vocab, fmt.Sprintf("w%d", i))
	}
	tok, err := tokenize.New(vocab, tokenize.Options{})
	if err != nil {
		t.Fatal(err)
	}
	g := newGuest(t, pack(t, tok))
	for i := 4; i < len(vocab); i += 50 {
		if got, want := g.encode(t, vocab[i], 3), []int32{1, int32(i), 2}; !slices.Equal(got, want) {
			t.Errorf("%q gives %v, want %v", vocab[i], got, want)
		}
	}
}

// Every way in which bytes can fail to be UTF-8 gives U+FFFD as often as in Go.
func TestGuestUTF8(t *testing.T) {
	t.Parallel()
	tok := packable(t)["spacing marks"]
	g := newGuest(t, pack(t, tok))
	edges := []byte{'x', 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0}
	var text []byte
	for lead := range 256 {
		for i := range len(edges) * len(edges) * len(edges) {
			text = append(text, byte(lead), edges[i%8], edges[i/8%8], edges[i/64], ' ')
		}
	}
	for _, text := range []string{string(text), "x\xe6", "x\xe6\x9d", "x\xf0\x9f\x8e", "\xc3"} {
		want := tok.Encode(nil, text, 0)
		if got := g.encode(t, text, len(want)+1); !slices.Equal(got, want) {
			t.Errorf("%.8q gives %d ids that differ from %d", text, len(got), len(want))
		}
	}
}

// One long word, long runs of marks, pieces that nearly match, added tokens that
// never end: all in steps of bounded work.
func TestGuestLongTexts(t *testing.T) {
	t.Parallel()
	const n = 1 << 20
	vocab := append(vocabulary(t), "\u302e", "##\u302e", "##\U0001d165", "##\U0001d16d", strings.Repeat("[a", 200))
	tok, err := tokenize.New(vocab, tokenize.Options{Added: []string{"[MASK]", strings.Repeat("[a", 20) + "!"}})
	if err != nil {
		t.Fatal(err)
	}
	g := newGuest(t, pack(t, tok))
	for _, unit := range []string{
		"x", "xz", " ", "x ", "\u0316\u0301", "\u302e", "\U0001d16d\u302e\U0001d165", "\U0001d16d\u302e\U0001d165 ", "[MASK", "[MASK]", "[a", "\xff", "\xe6\x9d", "東", "한", "\x00",
		strings.Repeat("x", 100) + " ", strings.Repeat("x", 101) + " ", strings.Repeat("\U0001d165\u302e", 50) + " ", strings.Repeat("\U0001d165\u302e", 50) + "x ",
	} {
		text := strings.Repeat(unit, n/len(unit))
		want := tok.Encode(nil, text, 0)
		if got := g.encode(t, text, len(want)+1); !slices.Equal(got, want) {
			t.Errorf("%q repeated gives %d ids that differ from %d", unit, len(got), len(want))
		}
		if g.steps < n/(64*512) {
			t.Errorf("%q repeated takes %d steps", unit, g.steps)
		}
		for _, limit := range []int{2, 128} {
			want := tok.Encode(nil, text, limit)
			if got := g.encode(t, text, limit); !slices.Equal(got, want) {
				t.Errorf("%q repeated, limit %d, gives %v, want %v", unit, limit, got, want)
			}
		}
	}
}

func FuzzGuest(f *testing.F) {
	for _, l := range readLines[golden](f, "testdata/strings.jsonl") {
		f.Add(l.Text, uint8(24), uint8(0))
	}
	f.Add("te\xffa\xc3", uint8(3), uint8(1))
	f.Add("tea cup", uint8(0), uint8(0))
	var toks []*tokenize.Tokenizer
	var guests []*guest
	for i := range 8 {
		toks = append(toks, small(f, tokenize.Options{Cased: i&1 > 0, JoinChinese: i&2 > 0, Accents: tokenize.Accents(i % 3), KeepControls: i&4 > 0, MaxWord: 100 - 97*(i&1)}))
		guests = append(guests, newGuest(f, pack(f, toks[i])))
	}
	f.Fuzz(func(t *testing.T, text string, limit, kind uint8) {
		i := int(kind) % len(toks)
		if got, want := guests[i].encode(t, text, int(limit)), toks[i].Encode(nil, text, max(int(limit), 1)); !slices.Equal(got, want) {
			t.Fatalf("%q, limit %d, gives %v, want %v", text, limit, got, want)
		}
	})
}
