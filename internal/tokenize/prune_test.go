package tokenize_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/wisp-project/wisp/internal/tokenize"
)

var unpruned = []string{
	"[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "l", "a", "m", "p", "##a", "##m", "##p", "##s", "##é",
	"lamp", "red", "##ps", "lam", "never",
}

func TestPrune(t *testing.T) {
	tok, err := tokenize.New(unpruned, tokenize.Options{})
	if err != nil {
		t.Fatal(err)
	}
	counts := make([]int, len(unpruned))
	counts[18], counts[16], counts[17], counts[9] = 9, 7, 1, 8 // lam, red, ##ps, p
	p, from, err := tok.Prune(16, counts)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "lam", "p", "red", "l", "a", "m", "##a", "##m", "##p", "##s", "##é"}
	if got := p.Vocab(); !slices.Equal(got, want) {
		t.Errorf("tokens %q, want %q", got, want)
	}
	for id, old := range from {
		if want[id] != unpruned[old] {
			t.Errorf("token %d, %q, is said to have been %q", id, want[id], unpruned[old])
		}
	}
	// What was one token is two or more now, and nothing that was known is not.
	for text, pieces := range map[string][]string{
		"Lamps":  {"lam", "##p", "##s"},
		"lampa":  {"lam", "##p", "##a"},
		"red":    {"red"},
		"map p":  {"m", "##a", "##p", "p"},
		"[MASK]": {"[MASK]"},
	} {
		var ids []int32
		for _, piece := range append(append([]string{"[CLS]"}, pieces...), "[SEP]") {
			id, ok := p.ID(piece)
			if !ok {
				t.Fatalf("no token %q", piece)
			}
			ids = append(ids, id)
		}
		if got := p.Encode(nil, text, 99); !slices.Equal(got, ids) {
			t.Errorf("%q: tokens %v, want %v", text, got, ids)
		}
	}
	if _, _, err := tok.Prune(13, counts); !errors.Is(err, tokenize.ErrUnsupported) {
		t.Errorf("fewer tokens than characters: error %v, want ErrUnsupported", err)
	}
	if _, _, err := tok.Prune(16, counts[1:]); !errors.Is(err, tokenize.ErrUnsupported) {
		t.Errorf("counts of another vocabulary: error %v, want ErrUnsupported", err)
	}
}

// A tokenizer is read as it was saved.
func TestSave(t *testing.T) {
	for name, o := range map[string]tokenize.Options{
		"as BERT's": {},
		"cased":     {Cased: true},
		"accents":   {Accents: tokenize.AccentsKeep, JoinChinese: true},
	} {
		tok, err := tokenize.New(unpruned, o)
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		if err := tok.Save(dir); err != nil {
			t.Fatal(err)
		}
		got, err := tokenize.Load(dir)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got.Vocab(), tok.Vocab()) || got.Special() != tok.Special() {
			t.Errorf("%s: another vocabulary was read", name)
		}
		for _, text := range []string{"Red LAMP", "lampé", "[MASK] red", "中文 a"} {
			if a, b := got.Encode(nil, text, 99), tok.Encode(nil, text, 99); !slices.Equal(a, b) {
				t.Errorf("%s: %q is read as %v, was %v", name, text, a, b)
			}
		}
	}
	for name, o := range map[string]tokenize.Options{"prefix": {Prefix: "@@"}, "added": {Added: []string{"red"}}, "controls": {KeepControls: true}, "word": {MaxWord: 7}} {
		tok, err := tokenize.New(unpruned, o)
		if err != nil {
			t.Fatal(err)
		}
		if err := tok.Save(t.TempDir()); !errors.Is(err, tokenize.ErrUnsupported) {
			t.Errorf("%s: error %v, want ErrUnsupported", name, err)
		}
	}
}

// Any text that the pretrained vocabulary can spell is spelt by a small part of it.
func TestPrunePretrained(t *testing.T) {
	dir := filepath.Join("../../../shared", "models/all-MiniLM-L6-v2")
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("no pretrained tokenizer: %v", err)
	}
	tok, err := tokenize.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	p, _, err := tok.Prune(5000, make([]int, tok.Size()))
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"The Birth of a Nation (1915)", "Fantômas: à l'ombre de la guillotine", "名探偵コナン 東京", "Ночной дозор", "naïveté & ½ price!"} {
		whole, small := tok.Encode(nil, text, 200), p.Encode(nil, text, 200)
		if slices.Contains(small, p.Special().Unknown) && !slices.Contains(whole, tok.Special().Unknown) {
			t.Errorf("%q cannot be spelt any more: %v", text, small)
		}
		if len(small) < len(whole) {
			t.Errorf("%q: %d tokens of a small vocabulary, %d of the whole one", text, len(small), len(whole))
		}
	}
}
