package tokenize_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"testing"

	"github.com/wisp-project/wisp/internal/tokenize"
	"github.com/wisp-project/wisp/internal/tokenize/unidata"
)

// committed returns the committed tables.
func committed(tb testing.TB) []byte {
	tb.Helper()
	b, err := os.ReadFile("tables.bin")
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func TestTablesAreCurrent(t *testing.T) {
	t.Parallel()
	if unidata.Version != "15.0.0" {
		t.Skipf("the committed tables were made with Unicode 15.0.0, this Go has %s", unidata.Version)
	}
	made, err := unidata.Build()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(made.Append(nil), committed(t)) {
		t.Error("tables.bin is not what unidata makes; run go generate")
	}
	if !bytes.Equal(tokenize.DefaultTables().Append([]byte("x"))[1:], committed(t)) {
		t.Error("the tables change when they are parsed and appended")
	}
}

func TestProperties(t *testing.T) {
	t.Parallel()
	tables := tokenize.DefaultTables()
	tests := []struct {
		c         rune
		class     tokenize.Class
		combining uint8
	}{
		{'a', 0, 0},
		{' ', tokenize.Space, 0},
		{'\t', tokenize.Space, 0},
		{'\v', tokenize.Space | tokenize.Control, 0},
		{0, tokenize.Control, 0},
		{0x85, tokenize.Space | tokenize.Control, 0},
		{0xAD, tokenize.Control, 0},
		{0xE000, tokenize.Control, 0},
		{0xFFFD, tokenize.Control, 0},
		{'$', tokenize.Punctuation, 0},
		{'€', 0, 0},
		{'«', tokenize.Punctuation, 0},
		{'東', tokenize.Chinese, 0},
		{0x2B81F, tokenize.Chinese, 0},
		{0x2B820, 0, 0}, // a gap of the reference
		{'か', 0, 0},
		{0x301, tokenize.Mark, 230},
		{0x302E, 0, 224},
		{0x1734, tokenize.Mark, 9},
		{0x2E52, 0, 0},    // punctuation since Unicode 13
		{0x1E944, 0, 230}, // a mark since Unicode 9
		{0x10FFFF, 0, 0},  // not assigned
		{0x110000, 0, 0},
		{-1, 0, 0},
	}
	for _, tt := range tests {
		if class, combining := tables.Properties(tt.c); class != tt.class || combining != tt.combining {
			t.Errorf("U+%04X has class %b and combining class %d, want %b and %d", tt.c, class, combining, tt.class, tt.combining)
		}
	}
}

func TestMappings(t *testing.T) {
	t.Parallel()
	tables := tokenize.DefaultTables()
	tests := []struct {
		c                 rune
		decomposed, lower string
	}{
		{'a', "a", "a"},
		{'A', "A", "a"},
		{'é', "e\u0301", "é"},
		{'Ǖ', "U\u0308\u0304", "ǖ"},
		{'İ', "I\u0307", "i\u0307"},
		{'Σ', "Σ", "σ"},
		{'한', "\u1112\u1161\u11ab", "한"},
		{'가', "\u1100\u1161", "가"},
		{0xD7A3, "\u1112\u1175\u11c2", "\ud7a3"},
		{0xD7A4, "\ud7a4", "\ud7a4"},
		{'≠', "=\u0338", "≠"},
		{'ﬁ', "ﬁ", "ﬁ"},
		{0x2F800, "\u4e3d", "\U0002f800"},
	}
	for _, tt := range tests {
		if got := string(tables.AppendDecomposed(nil, tt.c)); got != tt.decomposed {
			t.Errorf("U+%04X decomposes to %+q, want %+q", tt.c, got, tt.decomposed)
		}
		if got := string(tables.AppendLower(nil, tt.c)); got != tt.lower {
			t.Errorf("the lower case of U+%04X is %+q, want %+q", tt.c, got, tt.lower)
		}
	}
	for _, c := range []rune{-1, 0x110000} {
		if d, l := tables.AppendDecomposed(nil, c), tables.AppendLower(nil, c); d[0] != c || l[0] != c || len(d)+len(l) != 2 {
			t.Errorf("%#x, no code point, maps to %x and %x", c, d, l)
		}
	}
}

func TestParseTablesRefuses(t *testing.T) {
	t.Parallel()
	good := committed(t)
	edit := func(at int, v uint32) func([]byte) []byte {
		return func(b []byte) []byte {
			binary.LittleEndian.PutUint32(b[at:], v)
			return b
		}
	}
	u32 := func(at int) int { return int(binary.LittleEndian.Uint32(good[at:])) }
	const header = 24
	entries := header + 2*u32(8)
	tests := map[string]func([]byte) []byte{
		"empty":                func([]byte) []byte { return nil },
		"another magic number": edit(0, 1),
		"another version":      edit(4, 2),
		"too few pages":        edit(8, 8),
		"huge length":          edit(12, 1<<31),
		"cut":                  func(b []byte) []byte { return b[:len(b)-4] },
		"trailing bytes":       func(b []byte) []byte { return append(b, 0, 0, 0, 0) },
		"page out of range":    edit(header, 0xFFFFFFFF),
		"entry out of range":   edit(entries, 0xFFFFFFFF),
		"run out of range":     edit(len(good)-4*u32(20)-4, 0xFFFFFFFF),
		"run too long":         edit(len(good)-4*u32(20)+4, 5),
		"no code point":        edit(len(good)-4, 0x110000),
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := tokenize.ParseTables(change(bytes.Clone(good))); !errors.Is(err, tokenize.ErrFormat) {
				t.Errorf("error %v, want ErrFormat", err)
			}
		})
	}
}

func FuzzParseTables(f *testing.F) {
	// Far fewer bytes than the committed tables, which fuzzing would not get through.
	tiny := &tokenize.Tables{
		Page: make([]uint16, 0x110000/128), Entry: make([]uint16, 128), Class: make([]tokenize.Class, 2),
		Combining: make([]uint8, 2), Decomposed: []uint16{0, 1}, Lower: []uint16{0, 3}, Runes: []uint32{0, 1, 'a', 2, 'b', 0x307},
	}
	tiny.Entry['A'] = 1
	good := tiny.Append(nil)
	if _, err := tokenize.ParseTables(good); err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:len(good)/2])
	f.Add(good[:24])
	f.Fuzz(func(t *testing.T, b []byte) {
		tables, err := tokenize.ParseTables(b)
		if err != nil {
			if !errors.Is(err, tokenize.ErrFormat) {
				t.Fatalf("error %v does not wrap ErrFormat", err)
			}
			return
		}
		var runes []rune
		for c := rune(0); c < 0x110000; c += 61 {
			tables.Properties(c)
			runes = tables.AppendLower(tables.AppendDecomposed(runes[:0], c), c)
			if len(runes) < 2 {
				t.Fatalf("U+%04X maps to nothing", c)
			}
		}
		again, err := tokenize.ParseTables(tables.Append(nil))
		if err != nil {
			t.Fatalf("tables that were parsed do not parse: %v", err)
		}
		if !bytes.Equal(again.Append(nil), tables.Append(nil)) {
			t.Fatal("tables change when they are appended and parsed")
		}
	})
}
