package tokenize_test

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/wisp-project/wisp/internal/tokenize"
)

func TestTokens(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		options tokenize.Options
		text    string
		want    string
	}{
		{"lower case and pieces", tokenize.Options{}, "Listening to RED jackets", "listen ##ing [UNK] red jacket ##s"},
		{"accents", tokenize.Options{}, "CAFÉ naïve", "cafe naive"},
		{"case kept", tokenize.Options{Cased: true}, "Red red PARIS Paris É", "Red red [UNK] Paris É"},
		{"case kept, accents stripped", tokenize.Options{Cased: true, Accents: tokenize.AccentsStrip}, "É Red", "[UNK] Red"},
		{"lower case, accents kept", tokenize.Options{Accents: tokenize.AccentsKeep}, "É RED İ", "é red [UNK]"},
		{"ideographs", tokenize.Options{}, "東京タワ", "東 京 タ ##ワ"},
		{"ideographs joined", tokenize.Options{JoinChinese: true}, "東京 東", "[UNK] 東"},
		{"controls dropped", tokenize.Options{}, "t\u200bea\x00 cup", "tea cup"},
		{"controls kept", tokenize.Options{KeepControls: true}, "t\u200bea cup", "[UNK] cup"},
		{"controls that are spaces", tokenize.Options{KeepControls: true}, "tea\u0085cup\vtea", "tea cup tea"},
		{"not UTF-8", tokenize.Options{}, "te\xffa\xc3 \xe6\x9dcup\xed\xa0\x80", "tea cup"},
		{"word of the longest length", tokenize.Options{MaxWord: 4}, "xxxx xxxxx tea", "xx ##xx [UNK] tea"},
		{"another prefix", tokenize.Options{Prefix: "#"}, "xx xxx", "xx [UNK]"},
		{"special tokens", tokenize.Options{}, "tea[SEP]cup [sep]", "tea [SEP] cup [ [UNK] ]"},
		{"no added tokens", tokenize.Options{Added: []string{}}, "[SEP]", "[ [UNK] ]"},
		{"added tokens", tokenize.Options{Added: []string{"<a>", "<a>b", "tea"}}, "<a>b<a>TEAtea<a", "<a>b <a> tea tea < a"},
		{"other special tokens", tokenize.Options{Special: tokenize.SpecialTokens{Unknown: "#"}}, "zzz", "#"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := strings.Join(small(t, tt.options).Tokens(tt.text), " "); got != tt.want {
				t.Errorf("%q gives %q, want %q", tt.text, got, tt.want)
			}
		})
	}
}

func TestAddedTokenIDs(t *testing.T) {
	t.Parallel()
	size := len(vocabulary(t))
	tok := small(t, tokenize.Options{Added: []string{"tea", "<new>"}})
	if id, ok := tok.ID("<new>"); !ok || int(id) != size {
		t.Errorf("the new token has id %d (%v), want %d", id, ok, size)
	}
	if tok.Size() != size+1 || tok.Vocab()[size] != "<new>" {
		t.Errorf("%d tokens, the last %q", tok.Size(), tok.Vocab()[tok.Size()-1])
	}
	if err := tok.CheckSize(size + 1); err != nil {
		t.Errorf("a model of the same size is refused: %v", err)
	}
	for _, n := range []int{size, 0, -1} {
		if err := tok.CheckSize(n); !errors.Is(err, tokenize.ErrVocab) {
			t.Errorf("a model for %d tokens: error %v, want ErrVocab", n, err)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	bert := []string{"[PAD]", "[UNK]", "[CLS]", "[SEP]"}
	tests := []struct {
		name    string
		vocab   []string
		options tokenize.Options
		want    error
		says    string
	}{
		{"no vocabulary", nil, tokenize.Options{}, tokenize.ErrVocab, `"[UNK]"`},
		{"no separator", bert[:3], tokenize.Options{}, tokenize.ErrVocab, `"[SEP]"`},
		{"special token of another name", bert, tokenize.Options{Special: tokenize.SpecialTokens{Class: "<s>"}}, tokenize.ErrVocab, `"<s>"`},
		{"duplicate", append(slices.Clone(bert), "a", "b", "a"), tokenize.Options{}, tokenize.ErrVocab, `"a" is token 4 and token 6`},
		{"not UTF-8", append(slices.Clone(bert), "\xff"), tokenize.Options{}, tokenize.ErrVocab, `token 4`},
		{"empty added token", bert, tokenize.Options{Added: []string{""}}, tokenize.ErrVocab, "added token 0"},
		{"token added twice", bert, tokenize.Options{Added: []string{"a", "a"}}, tokenize.ErrVocab, `"a" is added twice`},
		{"negative word", bert, tokenize.Options{MaxWord: -1}, tokenize.ErrUnsupported, "-1 characters"},
		{"accents out of range", bert, tokenize.Options{Accents: 3}, tokenize.ErrUnsupported, "option 3"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tok, err := tokenize.New(tt.vocab, tt.options)
			if !errors.Is(err, tt.want) || tok != nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("error %v, want %v that says %q", err, tt.want, tt.says)
			}
		})
	}
	tok, err := tokenize.New(bert, tokenize.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if want := (tokenize.SpecialIDs{Unknown: 1, Class: 2, Separator: 3, Pad: 0, Mask: -1}); tok.Special() != want {
		t.Errorf("special ids %+v, want %+v", tok.Special(), want)
	}
}

func TestEncodeLimit(t *testing.T) {
	t.Parallel()
	tok := small(t, tokenize.Options{})
	tests := []struct {
		limit, words int
	}{{-1, 5}, {0, 5}, {1, 0}, {2, 0}, {3, 1}, {6, 4}, {7, 5}, {8, 5}}
	tea, _ := tok.ID("tea")
	s := tok.Special()
	for _, tt := range tests {
		want := append([]int32{7, s.Class}, slices.Repeat([]int32{tea}, tt.words)...)
		want = append(want, s.Separator)
		if got := tok.Encode([]int32{7}, "tea tea tea tea tea", tt.limit); !slices.Equal(got, want) {
			t.Errorf("limit %d gives %v, want %v", tt.limit, got, want)
		}
	}
}

func TestEncodePair(t *testing.T) {
	t.Parallel()
	tok := small(t, tokenize.Options{})
	s := tok.Special()
	tea, _ := tok.ID("tea")
	cup, _ := tok.ID("cup")
	tests := []struct {
		na, nb, limit, ka, kb int
	}{
		{2, 3, 0, 2, 3},
		{2, 3, 8, 2, 3},
		{0, 4, 5, 0, 2},
		{4, 0, 5, 2, 0},
		{2, 8, 10, 2, 5},
		{8, 2, 10, 5, 2},
		{4, 4, 10, 3, 4},
		{8, 8, 10, 3, 4},
		{4, 8, 10, 3, 4},
		{8, 4, 10, 4, 3},
		{3, 3, 1, 0, 0},
		{3, 3, 4, 0, 1},
		{0, 0, 3, 0, 0},
	}
	for _, tt := range tests {
		ids, types := tok.EncodePair([]int32{9}, []int32{8}, strings.Repeat("tea ", tt.na), strings.Repeat("cup ", tt.nb), tt.limit)
		wantIDs := slices.Concat([]int32{9, s.Class}, slices.Repeat([]int32{tea}, tt.ka), []int32{s.Separator}, slices.Repeat([]int32{cup}, tt.kb), []int32{s.Separator})
		wantTypes := slices.Concat([]int32{8}, make([]int32, tt.ka+2), slices.Repeat([]int32{1}, tt.kb+1))
		if !slices.Equal(ids, wantIDs) || !slices.Equal(types, wantTypes) {
			t.Errorf("%d and %d words, limit %d: %v and %v, want %v and %v", tt.na, tt.nb, tt.limit, ids, types, wantIDs, wantTypes)
		}
	}
}

func TestDecode(t *testing.T) {
	t.Parallel()
	tok := small(t, tokenize.Options{})
	tests := []struct{ text, want string }{
		{"", ""},
		{"Listening, watching!", "listening, watching!"},
		{"the zzz [MASK] song.", "the [UNK] song."},
	}
	for _, tt := range tests {
		if got := tok.Decode(tok.Encode(nil, tt.text, 0)); got != tt.want {
			t.Errorf("%q comes back as %q, want %q", tt.text, got, tt.want)
		}
	}
	ing, _ := tok.ID("##ing")
	if got := tok.Decode([]int32{-1, ing, 1 << 30, ing}); got != "##inging" {
		t.Errorf("pieces and ids out of range give %q", got)
	}
}

func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	tok := small(t, tokenize.Options{})
	want := tok.Encode(nil, "Listening to music, café in Paris", 0)
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for range 200 {
				if got := tok.Encode(nil, "Listening to music, café in Paris", 0); !slices.Equal(got, want) {
					t.Errorf("%v, want %v", got, want)
				}
			}
		})
	}
	group.Wait()
}

// A step of every loop that could be quadratic: one long word, long runs of marks
// to reorder, pieces that nearly match, unfinished added tokens. Quadratic time
// would be minutes; the test only has to end.
func TestLongTexts(t *testing.T) {
	t.Parallel()
	const n = 1 << 20
	s := tokenize.SpecialIDs{Unknown: 1}
	tests := []struct {
		name, unit string
		options    tokenize.Options
		ids        int
		last       int32
	}{
		{"a word", "x", tokenize.Options{}, 1, s.Unknown},
		{"a word without a limit", "x", tokenize.Options{MaxWord: n}, n/4 + 1, -1},
		{"a word that ends badly", "xz", tokenize.Options{MaxWord: n}, 1, s.Unknown},
		{"spacing marks", "\U0001d16d\u302e\U0001d165", tokenize.Options{MaxWord: n}, 1, s.Unknown},
		{"dropped marks", "\u0316\u0301", tokenize.Options{}, 0, -1},
		{"added tokens", "[MASK", tokenize.Options{}, 2 * (n / 5), s.Unknown},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tok := small(t, tt.options)
			ids := tok.Encode(nil, strings.Repeat(tt.unit, n/len(tt.unit)), 0)
			if got := len(ids) - 2; got < tt.ids || got > tt.ids+1 {
				t.Errorf("%d ids, want %d", got, tt.ids)
			}
			if tt.last >= 0 && ids[len(ids)-2] != tt.last {
				t.Errorf("the last id is %d, want %d", ids[len(ids)-2], tt.last)
			}
		})
	}
}

func TestEncodeAllocatesNothing(t *testing.T) {
	tok := small(t, tokenize.Options{})
	dst := make([]int32, 0, 256)
	text := strings.Repeat("Listening to café music, İstanbul 東京タワー 한국! ", 4)
	if n := testing.AllocsPerRun(20, func() { dst = tok.Encode(dst[:0], text, 128) }); n != 0 {
		t.Errorf("%v allocations for a text, want 0", n)
	}
}

func FuzzEncode(f *testing.F) {
	for _, l := range readLines[golden](f, "testdata/strings.jsonl") {
		f.Add(l.Text, 24, uint8(0))
		f.Add(l.Text, 0, uint8(7))
	}
	f.Add("te\xffa\xc3", 3, uint8(1))
	var toks []*tokenize.Tokenizer
	for i := range 16 {
		toks = append(toks, small(f, tokenize.Options{Cased: i&1 > 0, JoinChinese: i&2 > 0, KeepControls: i&4 > 0, Accents: tokenize.Accents(i >> 3), MaxWord: 100 - 97*(i&1)}))
	}
	f.Fuzz(func(t *testing.T, text string, limit int, kind uint8) {
		tok := toks[int(kind)%len(toks)]
		s := tok.Special()
		ids := tok.Encode(nil, text, limit)
		if ids[0] != s.Class || ids[len(ids)-1] != s.Separator {
			t.Fatalf("%v does not start and end with special tokens", ids)
		}
		if limit > 0 && len(ids) > max(limit, 2) || len(ids) > 3*len(text)+2 {
			t.Fatalf("%d ids from %d bytes, limit %d", len(ids), len(text), limit)
		}
		for _, id := range ids {
			if id < 0 || int(id) >= tok.Size() {
				t.Fatalf("id %d of %d", id, tok.Size())
			}
		}
		all := tok.Encode([]int32{5}, text, 0)[1:]
		if n := len(ids) - 1; !slices.Equal(all[:n], ids[:n]) {
			t.Fatalf("%v with limit %d is no prefix of %v", ids, limit, all)
		}
		if tokens := tok.Tokens(text); len(tokens) != len(all)-2 {
			t.Fatalf("%d tokens, %d ids", len(tokens), len(all))
		}
		pair, types := tok.EncodePair(nil, nil, text, "tea cup", limit)
		if len(pair) != len(types) || limit > 0 && len(pair) > max(limit, 3) || pair[len(pair)-1] != s.Separator {
			t.Fatalf("pair %v of types %v, limit %d", pair, types, limit)
		}
		tok.Decode(all)
	})
}

func BenchmarkEncode(b *testing.B) {
	texts := map[string]string{
		"short": "Blue wool jacket for walking",
		"long":  strings.Repeat("Listening to new music live in Paris, unbelievable songs! ", 20),
		"mixed": "Café naïve 東京タワー Привет 한국 İstanbul — “new” €20",
	}
	tok := small(b, tokenize.Options{})
	for name, text := range texts {
		b.Run(name, func(b *testing.B) {
			dst := make([]int32, 0, 128)
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				dst = tok.Encode(dst[:0], text, 128)
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "texts/s")
		})
	}
}
