package tokenize_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/wisp-project/wisp/internal/tokenize"
)

// pack returns the packed form of a tokenizer.
func pack(tb testing.TB, tok *tokenize.Tokenizer) []byte {
	tb.Helper()
	b, err := tokenize.Pack(tok)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// open returns the tokenizer of a packed form.
func open(tb testing.TB, b []byte) *tokenize.Tokenizer {
	tb.Helper()
	tok, err := tokenize.OpenPacked(b)
	if err != nil {
		tb.Fatal(err)
	}
	return tok
}

// packable are tokenizers of every kind of option and vocabulary.
func packable(tb testing.TB) map[string]*tokenize.Tokenizer {
	tb.Helper()
	toks := map[string]*tokenize.Tokenizer{}
	for i := range 24 {
		o := tokenize.Options{Cased: i&1 > 0, JoinChinese: i&2 > 0, KeepControls: i&4 > 0, Accents: tokenize.Accents(i / 8)}
		toks[fmt.Sprintf("options %+v", o)] = small(tb, o)
	}
	toks["added tokens"] = small(tb, tokenize.Options{Added: []string{"<z>", "<a>", "<a>b", "tea", "é", "한", "東京", "\ufffd", strings.Repeat("<long", 60)}})
	toks["no added tokens"] = small(tb, tokenize.Options{Added: []string{}})
	toks["short words"] = small(tb, tokenize.Options{MaxWord: 3})
	toks["another prefix"] = small(tb, tokenize.Options{Prefix: "x"})
	toks["a prefix of no token"] = small(tb, tokenize.Options{Prefix: "\xff"})
	toks["another mask"] = small(tb, tokenize.Options{Special: tokenize.SpecialTokens{Mask: "none", Unknown: "#"}})
	marks, err := tokenize.New(slices.Concat(vocabulary(tb), []string{
		"\u302e", "##\u302e", "##\u302f", "##\U0001d165", "##\U0001d16d", "##\U0001e944", "##\u302e\U0001d16d", "\ufffd", "##\ufffd",
	}), tokenize.Options{KeepControls: true})
	if err != nil {
		tb.Fatal(err)
	}
	toks["spacing marks"] = marks
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 6 {
		vocab := []string{"[UNK]", "[CLS]", "[SEP]", "[PAD]"}
		for range 20 << (2 * (i % 3)) {
			for _, token := range []string{randomText(r, 1+r.IntN(4)), "##" + randomText(r, 1+r.IntN(3))} {
				if token = strings.ToValidUTF8(token, ""); !slices.Contains(vocab, token) {
					vocab = append(vocab, token)
				}
			}
		}
		tok, err := tokenize.New(vocab, tokenize.Options{Cased: i%2 > 0, Accents: tokenize.Accents(i % 3)})
		if err != nil {
			tb.Fatal(err)
		}
		toks[fmt.Sprintf("random vocabulary %d", i)] = tok
	}
	return toks
}

// randomText returns n random characters, of which some are not UTF-8: letters,
// what pieces are made of, marks of every kind, ideographs, Hangul, controls, and
// any code point.
func randomText(r *rand.Rand, n int) string {
	alphabets := []string{
		"abcdefghijklmnopqrstuvwxyzABCXYZ0123456789", "tea cup shoes the red xx", " \t\n\v\u0085\u3000",
		".,!?'\"-–[]#$<>«。", "ÀÉîõüÇñÅİßΣςǕﬁ½≠Ἀ", "\u0301\u0308\u0316\u0327\u0345\u1734\u0f39\u034f",
		"\u302e\u302f\U0001d165\U0001d16d\U0001e944\U0001e94a\u034fxa", "東京音楽豈\U0002f800\U0002b820", "한국가각\ud7a3\u1100\u1161\u11a8",
		"\x00\u200b\u00ad\ufffd\ue000\ufeff", "приветМИР", "🎵👟\ufe0f",
	}
	words := []string{"[CLS]", "[SEP]", "[MASK]", "[MASK", "<a>", "<a>b", "unbelievable", "café", "listening", "\xff", "\xed\xa0\x80", "\xe6\x9d", "\xf4\x90\x80\x80", "\xc0\xaf", "\xf0\x9f", strings.Repeat("<long", 60)}
	var b strings.Builder
	alphabet := []rune(alphabets[r.IntN(len(alphabets))])
	for range n {
		switch k := r.IntN(40); {
		case k == 0:
			b.WriteRune(rune(r.IntN(0x110000)))
		case k == 1:
			b.WriteString(words[r.IntN(len(words))])
		case k == 2:
			b.WriteByte(byte(r.IntN(256)))
		case k < 8:
			alphabet = []rune(alphabets[r.IntN(len(alphabets))])
			fallthrough
		default:
			b.WriteRune(alphabet[r.IntN(len(alphabet))])
		}
	}
	return b.String()
}

// characters returns a text in which characters of all planes, and all of those
// with most properties, stand in a word, among marks and alone.
func characters() string {
	var b strings.Builder
	for c := rune(0); c < 0x110000; c++ {
		fmt.Fprintf(&b, "te%ca \u302e%c\U0001d165 %c ", c, c, c)
		switch {
		case c >= 0x20000:
			c += 210
		case c >= 0x3000:
			c += 4
		}
	}
	return b.String()
}

func TestPackKeepsTheTokenizer(t *testing.T) {
	t.Parallel()
	all := characters()
	for name, tok := range packable(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := open(t, pack(t, tok))
			if !slices.Equal(got.Vocab(), tok.Vocab()) || got.Special() != tok.Special() {
				t.Fatalf("%d tokens, special %+v, want %d, %+v", got.Size(), got.Special(), tok.Size(), tok.Special())
			}
			if a, b := got.Encode(nil, all, 0), tok.Encode(nil, all, 0); !slices.Equal(a, b) {
				t.Errorf("%d ids of all characters differ from %d", len(a), len(b))
			}
			r := rand.New(rand.NewPCG(3, 4))
			for range 300 {
				text := randomText(r, r.IntN(60))
				a, b := got.Encode(nil, text, 0), tok.Encode(nil, text, 0)
				if !slices.Equal(a, b) {
					t.Fatalf("%q gives %v, want %v", text, a, b)
				}
				if got.Decode(a) != tok.Decode(b) {
					t.Fatalf("%v decode to %q, want %q", a, got.Decode(a), tok.Decode(b))
				}
			}
		})
	}
}

func TestPackRefuses(t *testing.T) {
	t.Parallel()
	vocab := append(vocabulary(t), strings.Repeat("a", 513))
	long, err := tokenize.New(vocab, tokenize.Options{})
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]*tokenize.Tokenizer{
		"long words":       small(t, tokenize.Options{MaxWord: 101}),
		"long token":       long,
		"long added token": small(t, tokenize.Options{Added: []string{strings.Repeat("é", 257)}}),
	}
	for name, tok := range tests {
		if _, err := tokenize.Pack(tok); !errors.Is(err, tokenize.ErrUnsupported) {
			t.Errorf("%s: error %v, want ErrUnsupported", name, err)
		}
	}
}

// Every word of the header is read by the guest, as is nearly every byte behind
// it: whatever changes is noticed.
func TestOpenPackedRefuses(t *testing.T) {
	t.Parallel()
	good := pack(t, small(t, tokenize.Options{}))
	refused := func(what string, b []byte) {
		t.Helper()
		if _, err := tokenize.OpenPacked(b); !errors.Is(err, tokenize.ErrFormat) {
			t.Errorf("%s: error %v, want ErrFormat", what, err)
		}
	}
	refused("empty", nil)
	refused("header only", good[:160])
	refused("cut", good[:len(good)-16])
	refused("trailing bytes", append(bytes.Clone(good), make([]byte, 16)...))
	for word := range 40 {
		old := binary.LittleEndian.Uint32(good[4*word:])
		for _, v := range []uint32{old + 1, old - 1, old + 16, 0x7FFFFFFF, 0xFFFFFFFE} {
			// The special tokens and the longest word are any in range.
			if word == 4 && v <= 100 || word > 4 && word < 10 && v < 100 {
				continue
			}
			b := bytes.Clone(good)
			binary.LittleEndian.PutUint32(b[4*word:], v)
			refused(fmt.Sprintf("word %d is %#x", word, v), b)
		}
	}
	r := rand.New(rand.NewPCG(5, 6))
	for range 150 {
		b := bytes.Clone(good)
		b[160+r.IntN(len(b)-160)] ^= 1 << r.IntN(8)
		if tok, err := tokenize.OpenPacked(b); err != nil && !errors.Is(err, tokenize.ErrFormat) {
			t.Errorf("error %v, want ErrFormat", err)
		} else if err == nil && !bytes.Equal(pack(t, tok), b) {
			t.Error("bytes that Pack does not make are accepted")
		}
	}
}

func FuzzOpenPacked(f *testing.F) {
	good := pack(f, small(f, tokenize.Options{}))
	f.Add(uint32(0), []byte{})
	f.Add(uint32(92), good[92:160])
	f.Add(uint32(160), bytes.Repeat([]byte{0xFF}, 64))
	f.Add(uint32(len(good)-64), []byte{1, 2, 3})
	// What is changed is small, so that fuzzing gets through it.
	f.Fuzz(func(t *testing.T, at uint32, change []byte) {
		b := bytes.Clone(good)
		copy(b[min(int(at), len(b)):], change)
		tok, err := tokenize.OpenPacked(b)
		if err != nil {
			if !errors.Is(err, tokenize.ErrFormat) {
				t.Fatalf("error %v does not wrap ErrFormat", err)
			}
			return
		}
		if !bytes.Equal(pack(t, tok), b) {
			t.Fatal("bytes that Pack does not make are accepted")
		}
		for _, id := range tok.Encode(nil, "Listening to café music, 東京 [MASK]", 0) {
			if id < 0 || int(id) >= tok.Size() {
				t.Fatalf("id %d of %d", id, tok.Size())
			}
		}
	})
}
