package tokenize_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"slices"
	"testing"

	"github.com/wisp-project/wisp/internal/tokenize"
)

// golden is a line of testdata/strings.jsonl: the ids of a text, as it is and
// with case kept, cut to goldenLimit.
type golden struct {
	Text  string  `json:"text"`
	IDs   []int32 `json:"ids"`
	Cased []int32 `json:"cased"`
}

const goldenLimit = 24

// vocabulary returns the tokens of testdata/vocab.txt.
func vocabulary(tb testing.TB) []string {
	tb.Helper()
	b, err := os.ReadFile("testdata/vocab.txt")
	if err != nil {
		tb.Fatal(err)
	}
	lines := bytes.Split(bytes.TrimSpace(b), []byte("\n"))
	vocab := make([]string, len(lines))
	for i, l := range lines {
		vocab[i] = string(l)
	}
	return vocab
}

// small returns a tokenizer with the vocabulary of testdata.
func small(tb testing.TB, o tokenize.Options) *tokenize.Tokenizer {
	tb.Helper()
	t, err := tokenize.New(vocabulary(tb), o)
	if err != nil {
		tb.Fatal(err)
	}
	return t
}

// readLines decodes a file of JSON lines.
func readLines[T any](tb testing.TB, file string) []T {
	tb.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		tb.Fatal(err)
	}
	var out []T
	s := bufio.NewScanner(bytes.NewReader(b))
	s.Buffer(nil, len(b)+1)
	for s.Scan() {
		var v T
		if err := json.Unmarshal(s.Bytes(), &v); err != nil {
			tb.Fatalf("%s:%d: %v", file, len(out)+1, err)
		}
		out = append(out, v)
	}
	return out
}

func TestGolden(t *testing.T) {
	t.Parallel()
	const file = "testdata/strings.jsonl"
	uncased, cased := small(t, tokenize.Options{}), small(t, tokenize.Options{Cased: true})
	lines := readLines[golden](t, file)
	if len(lines) < 60 {
		t.Fatalf("%s has %d lines", file, len(lines))
	}
	if os.Getenv("UPDATE_GOLDEN") != "" {
		var b bytes.Buffer
		enc := json.NewEncoder(&b)
		for i, l := range lines {
			lines[i].IDs, lines[i].Cased = uncased.Encode(nil, l.Text, goldenLimit), cased.Encode(nil, l.Text, goldenLimit)
			if err := enc.Encode(lines[i]); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for i, l := range lines {
		if got := uncased.Encode(nil, l.Text, goldenLimit); !slices.Equal(got, l.IDs) {
			t.Errorf("%s:%d: %q gives %v, want %v", file, i+1, l.Text, got, l.IDs)
		}
		if got := cased.Encode(nil, l.Text, goldenLimit); !slices.Equal(got, l.Cased) {
			t.Errorf("%s:%d: %q cased gives %v, want %v", file, i+1, l.Text, got, l.Cased)
		}
	}
}

func TestReference(t *testing.T) {
	t.Parallel()
	const file, folder = "../../../shared/reference/tokens.jsonl", "../../../shared/models/all-MiniLM-L6-v2"
	if _, err := os.Stat(file); err != nil {
		t.Skipf("the reference ids are absent: %v", err)
	}
	lines := readLines[golden](t, file)
	if len(lines) != 4042 {
		t.Errorf("%s has %d lines, want 4042", file, len(lines))
	}
	full, err := tokenize.Load(folder)
	if err != nil {
		t.Fatal(err)
	}
	// The same model without tokenizer.json.
	dir := t.TempDir()
	for _, name := range []string{"vocab.txt", "tokenizer_config.json"} {
		b, err := os.ReadFile(folder + "/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(dir+"/"+name, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	plain, err := tokenize.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	for name, tok := range map[string]*tokenize.Tokenizer{"tokenizer.json": full, "vocab.txt": plain} {
		var got []int32
		for i, l := range lines {
			if got = tok.Encode(got[:0], l.Text, 128); !slices.Equal(got, l.IDs) {
				t.Errorf("%s: %s:%d: %q gives %v, want %v", name, file, i+1, l.Text, got, l.IDs)
			}
		}
	}
}
