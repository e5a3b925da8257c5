package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/wisp-project/wisp/hostgpu"
	"github.com/wisp-project/wisp/internal/tokenize"
	"github.com/wisp-project/wisp/model"
	"github.com/wisp-project/wisp/quantize"
)

// distil runs the command by itself.
func distil(ctx context.Context, args ...string) (stdout, stderr string, err error) {
	return alone(ctx, newDistilEncoder(), args)
}

// madeTitles writes a catalogue of films in the words that tinyEncoder knows.
func madeTitles(t *testing.T) string {
	t.Helper()
	var lines strings.Builder
	for i := range 160 {
		fmt.Fprintf(&lines, "%d::Thing%d kind%d (%d)::taste%d|kind%d\n", i, i%36, i%7, 1950+i, i%3, i%2)
	}
	return put(t, filepath.Join(t.TempDir(), "titles"), []byte(lines.String()))
}

func quickDistil(teacher, titles, out string, more ...string) []string {
	return append([]string{
		"--teacher", teacher, "--titles", titles, "--out", out, "--augment", "100", "--dim", "8", "--heads", "2", "--layers", "1", "--ffn", "16",
		"--vocabulary", "60", "--steps", "15", "--epochs", "3", "--batch", "24", "--lr", "0.01",
	}, more...)
}

func TestDistilEncoder(t *testing.T) {
	teacher, titles, out := tinyEncoder(t, tasteData(t)), madeTitles(t), filepath.Join(t.TempDir(), "out")
	stdout, stderr, err := distil(t.Context(), quickDistil(teacher, titles, out)...)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(stdout, "overlap of neighbours") || !strings.Contains(stderr, "27 titles held out") {
		t.Errorf("output %q, progress\n%s", stdout, stderr)
	}
	tok, m, err := loadEncoder(out)
	if err != nil {
		t.Fatal(err)
	}
	if c := m.Config; c.Dim != 8 || c.Layers != 1 || c.Vocabulary != tok.Size() || tok.Size() > 60 {
		t.Errorf("made %+v with %d tokens", c, tok.Size())
	}
	small, smallTok, err := quantize.UnpackText(get(t, filepath.Join(out, packedEncoder)))
	if err != nil {
		t.Fatal(err)
	}
	if small.Config != m.Config || !slices.Equal(smallTok.Vocab(), tok.Vocab()) {
		t.Error("the packed encoder is another")
	}
	if _, _, err := distil(t.Context(), quickDistil(teacher, titles, teacher)...); err == nil {
		t.Error("the teacher's own folder was taken for the student's")
	}
	v, err := sandboxVectors(t.Context(), small, smallTok, []string{"thing1 kind1"})
	if err != nil || len(v.Data) != 8 {
		t.Errorf("in int8: %v, %v", v, err)
	}
}

// What is left of the teacher is nearer to it than a new encoder, trained or not.
func TestDistilEncoderPruned(t *testing.T) {
	teacher, titles, out := tinyEncoder(t, tasteData(t)), madeTitles(t), filepath.Join(t.TempDir(), "out")
	if _, _, err := distil(t.Context(), quickDistil(teacher, titles, out, "--prune")...); err != nil {
		t.Fatal(err)
	}
	var how distilled
	if err := json.Unmarshal(get(t, filepath.Join(out, "distil-encoder.json")), &how); err != nil {
		t.Fatal(err)
	}
	if !how.Pruned || !(how.Best > how.Before) {
		t.Errorf("overlap %v before and %v after, pruned %v", how.Before, how.Best, how.Pruned)
	}
	_, m, err := loadEncoder(out)
	if err != nil {
		t.Fatal(err)
	}
	_, was, err := loadEncoder(teacher)
	if err != nil {
		t.Fatal(err)
	}
	if c := m.Config; c.Dim != 8 || c.Heads != 2 || c.Layers != 1 || c.FFN != 16 || c.Types != was.Config.Types {
		t.Errorf("made %+v of %+v", c, was.Config)
	}
	// It can be gone on with, as it is.
	next := filepath.Join(t.TempDir(), "next")
	if _, _, err := distil(t.Context(), quickDistil(teacher, titles, next, "--start", out, "--dim", "12")...); err != nil {
		t.Fatal(err)
	}
	first := how
	if err := json.Unmarshal(get(t, filepath.Join(next, "distil-encoder.json")), &how); err != nil {
		t.Fatal(err)
	}
	if how.Before < first.Best-1e-9 || how.Best < how.Before || how.Student.Dim != 8 || how.Start != out {
		t.Errorf("it began with overlap %v, and ended with %v, after one that ended with %v: %+v", how.Before, how.Best, first.Best, how.Student)
	}
	if _, _, err := distil(t.Context(), quickDistil(teacher, titles, filepath.Join(t.TempDir(), "both"), "--prune", "--start", out)...); err == nil {
		t.Error("--prune and --start go together")
	}
	if _, _, err := distil(t.Context(), quickDistil(teacher, titles, filepath.Join(t.TempDir(), "wide"), "--prune", "--dim", "32")...); err == nil || !strings.Contains(err.Error(), "only takes away") {
		t.Errorf("wider than the teacher: %v", err)
	}
}

// Interrupted while it trains and resumed, it ends with the same bytes.
func TestDistilEncoderResume(t *testing.T) {
	teacher, titles, dir := tinyEncoder(t, tasteData(t)), madeTitles(t), t.TempDir()
	whole, broken := filepath.Join(dir, "whole"), filepath.Join(dir, "broken")
	if _, _, err := distil(t.Context(), quickDistil(teacher, titles, whole)...); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c := newDistilEncoder()
	c.SetErr(&cancelAt{"epoch   1", cancel})
	c.SetArgs(quickDistil(teacher, titles, broken))
	c.SilenceUsage, c.SilenceErrors = true, true
	if err := c.ExecuteContext(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("error %v, want an interruption", err)
	}
	if _, _, err := distil(t.Context(), quickDistil(teacher, titles, broken, "--resume")...); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(get(t, filepath.Join(whole, packedEncoder)), get(t, filepath.Join(broken, packedEncoder))) {
		t.Error("it ends with another encoder than an unbroken run")
	}
}

// cancelAt cancels when what it is written holds a text.
type cancelAt struct {
	text   string
	cancel func()
}

func (c *cancelAt) Write(b []byte) (int, error) {
	if strings.Contains(string(b), c.text) {
		c.cancel()
	}
	return len(b), nil
}

func TestDistilEncoderRefuses(t *testing.T) {
	teacher, titles := tinyEncoder(t, tasteData(t)), madeTitles(t)
	empty := put(t, filepath.Join(t.TempDir(), "empty"), []byte("no title here\n"))
	for name, c := range map[string]struct {
		more []string
		says string
	}{
		"size":       {[]string{"--size", "huge"}, "nano, micro or small"},
		"heads":      {[]string{"--heads", "3"}, "heads"},
		"vocabulary": {[]string{"--vocabulary", "3"}, "too few"},
		"no titles":  {[]string{"--titles", empty}, "parted by"},
		"wordnet":    {[]string{"--wordnet", t.TempDir()}, "wordnet-base"},
		"no file":    {[]string{"--texts", "absent"}, "absent"},
		"tokens":     {[]string{"--max-tokens", "1"}, "--max-tokens"},
	} {
		_, _, err := distil(t.Context(), quickDistil(teacher, titles, filepath.Join(t.TempDir(), "out"), c.more...)...)
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: error %v, want one that says %q", name, err, c.says)
		}
	}
}

func TestWordNet(t *testing.T) {
	dir := t.TempDir()
	put(t, filepath.Join(dir, "data.noun"), []byte("  1 This software is licensed | not a gloss\n"+
		"00001740 03 n 02 entity 0 physical_entity 0 001 ~ 00001930 n 0000 | that which is; \"an example\"  \n"))
	put(t, filepath.Join(dir, "data.adj"), []byte("00001741 00 a 01 galore(ip) 0 000 | in great numbers  \n"))
	put(t, filepath.Join(dir, "data.verb"), nil)
	put(t, filepath.Join(dir, "data.adv"), nil)
	glosses, lemmas, err := wordNet(dir)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"that which is", "in great numbers"}; !slices.Equal(glosses, want) {
		t.Errorf("definitions %q, want %q", glosses, want)
	}
	if want := []string{"entity", "physical entity", "galore"}; !slices.Equal(lemmas, want) {
		t.Errorf("lemmas %q, want %q", lemmas, want)
	}
}

func TestReadTitles(t *testing.T) {
	dir := t.TempDir()
	colons := put(t, filepath.Join(dir, "a"), []byte("7::Film: Part 2 (1999)::Drama|War\n8::Other (2000)::\n"))
	semicolons := put(t, filepath.Join(dir, "b"), []byte("id;title;genre;uri\n7;\"Film: Part 2 (1999)\";Drama|War;x\n8;Other (2000);;\n"))
	want := []title{{"7", "Film: Part 2 (1999)", []string{"Drama", "War"}}, {"8", "Other (2000)", []string{}}}
	for _, path := range []string{colons, semicolons} {
		got, err := readTitles(path)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q, %v, want %q", got, err, want)
		}
	}
	if got := want[0].withGenres(); got != "Film: Part 2 (1999). Drama, War." {
		t.Errorf("with genres %q", got)
	}
}

// No text that is learnt from is a title that is held out, whatever its year,
// case, punctuation or genres.
func TestCorpusHoldsOut(t *testing.T) {
	var titles []title
	for i := range 90 {
		titles = append(titles, title{text: fmt.Sprintf("A Film, no. %d (1999)", i), genres: []string{"Drama"}})
	}
	test, valid := holdOut(titles)
	if len(test) != 30 || len(valid) != 15 {
		t.Fatalf("%d and %d titles are held out of 90, want 30 and 15", len(test), len(valid))
	}
	for i, other := range test {
		if slices.ContainsFunc(valid, func(v title) bool { return v.text == other.text }) {
			t.Errorf("title %d of the test is one of validation", i)
		}
	}
	c := newCorpus(slices.Concat(test, valid)...)
	for _, x := range titles {
		c.addTitles(x)
		c.add(x.text, bare(x.text), strings.ToUpper(bare(x.text)), strings.ReplaceAll(x.text, "1999", "2005"))
	}
	c.addTitles(recombined(titles, []string{"entity"}, 3000, rand.New(rand.NewPCG(1, 1)))...)
	for _, held := range slices.Concat(test, valid) {
		for _, text := range c.all {
			name, _, _ := strings.Cut(text, " (")
			if name = strings.TrimSuffix(name, ". Drama."); strings.EqualFold(name, bare(held.text)) {
				t.Fatalf("%q is learnt from, %q is held out", text, held.text)
			}
		}
	}
	if len(c.all) < 45*5 {
		t.Errorf("%d texts are left", len(c.all))
	}
}

// A static embedding finds words that texts share.
func TestStaticVectors(t *testing.T) {
	tok, err := tokenize.New([]string{"[PAD]", "[UNK]", "[CLS]", "[SEP]", "red", "lamp"}, tokenize.Options{})
	if err != nil {
		t.Fatal(err)
	}
	table := &model.Tensor{Shape: []int{6, 2}, Data: []float32{9, 9, 9, 9, 9, 9, 9, 9, 1, 2, 3, 5}}
	if v := staticVectors(table, tok, []string{"red lamp", ""}); !slices.Equal(v.Data, []float32{4, 7, 0, 0}) {
		t.Errorf("vectors %v", v.Data)
	}
}

// Without the files that it needs, nothing is measured.
func TestEncoderTopicSkips(t *testing.T) {
	b := bench{shared: t.TempDir(), work: filepath.Join(t.TempDir(), "results"), p: &progress{w: os.Stderr}}
	if topic, err := b.encoder(t.Context()); err != nil || len(topic.Records) > 0 {
		t.Errorf("%v, %v", topic.Records, err)
	}
}

// The default size takes less than four megabytes, even where its weights have no
// order that compression could use, and no more multiply-accumulates for a token
// than a sandbox does for 16 of them in a millisecond.
func TestMicroFits(t *testing.T) {
	p := encoderPresets["micro"]
	r := rand.New(rand.NewPCG(1, 2))
	words := model.NewTensor(p.vocabulary, p.Dim)
	for i := range words.Data {
		words.Data[i] = float32(r.NormFloat64())
	}
	m, err := hostgpu.NewStudent(words, p.StudentOptions)
	if err != nil {
		t.Fatal(err)
	}
	vocab := []string{"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"}
	for len(vocab) < p.vocabulary {
		vocab = append(vocab, fmt.Sprintf("##%x", r.Uint32()))
	}
	tok, err := tokenize.New(vocab, tokenize.Options{})
	if err != nil {
		t.Fatal(err)
	}
	b, err := quantize.PackText(m, tok, p.levels)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d bytes", len(b))
	if len(b) > 4_000_000 {
		t.Errorf("%d bytes, want at most 4,000,000", len(b))
	}
	macs := 0
	for _, s := range m.Config.Specs() {
		if strings.Contains(s.Name, ".layer.") && len(s.Shape) == 2 {
			macs += s.Shape[0] * s.Shape[1]
		}
	}
	if macs > 1_250_000 {
		t.Errorf("%d multiply-accumulates for a token, want at most 1,250,000", macs)
	}
}
