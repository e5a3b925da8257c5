package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/wisp-project/wisp/hostgpu"
	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/model"
)

// tasteData prepares a data set in which only text helps: items say of what kind
// they are by one word, users what they are after by another.
func tasteData(t *testing.T) string {
	t.Helper()
	const kinds, items, users, events = 6, 72, 120, 6
	r := rand.New(rand.NewPCG(42, 0))
	var files [3]bytes.Buffer
	for i := range items {
		fmt.Fprintf(&files[0], `{"id":"i%d","title":"thing%d kind%d"}`+"\n", i, i, i%kinds)
	}
	for u := range users {
		k := r.IntN(kinds)
		fmt.Fprintf(&files[1], `{"id":"u%d","description":"taste%d"}`+"\n", u, k)
		for at, n := range r.Perm(items / kinds)[:events] {
			fmt.Fprintf(&files[2], `{"user":"u%d","item":"i%d","kind":"click","time":%d}`+"\n", u, n*kinds+k, 1600000000+3600*at)
		}
	}
	dir := t.TempDir()
	out := filepath.Join(dir, "prepared")
	args := []string{"prepare", "--format", "jsonl", "--name", "tastes", "--out", out}
	for i, name := range []string{"items", "users", "events"} {
		args = append(args, "--"+name, put(t, filepath.Join(dir, name), files[i].Bytes()))
	}
	succeed(t, args...)
	return out
}

// tinyEncoder writes a random encoder that knows the words of a data set.
func tinyEncoder(t *testing.T, prepared string) string {
	t.Helper()
	ds, err := data.Load(prepared)
	if err != nil {
		t.Fatal(err)
	}
	texts := []string{data.DefaultProfileText}
	for i := range ds.Items {
		texts = append(texts, data.ItemText(&ds.Items[i]))
	}
	for i := range ds.Users {
		texts = append(texts, data.UserText(&ds.Users[i]))
	}
	words := regexp.MustCompile(`[a-z0-9]+|[.,:;]`).FindAllString(strings.ToLower(strings.Join(texts, " ")), -1)
	slices.Sort(words)
	vocab := append([]string{"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"}, slices.Compact(words)...)

	from, dir := t.TempDir(), t.TempDir()
	put(t, filepath.Join(from, "vocab.txt"), []byte(strings.Join(vocab, "\n")))
	c := model.TextConfig{
		Vocabulary: len(vocab), Positions: 64, MaxTokens: 48, Types: 2, Dim: 16, Layers: 2, Heads: 2, FFN: 32,
		NormEpsilon: 1e-12, Pooling: model.PoolMean, Normalise: true,
	}
	r := rand.New(rand.NewPCG(41, 0))
	w := model.Weights{}
	for _, s := range c.Specs() {
		x := model.NewTensor(s.Shape...)
		w[s.Name] = x
		for i := range x.Data {
			x.Data[i] = float32(r.NormFloat64() * 0.2)
			if strings.HasSuffix(s.Name, "norm.weight") {
				x.Data[i]++
			}
		}
	}
	m, err := model.NewText(c, w)
	if err != nil {
		t.Fatal(err)
	}
	if err := model.SaveText(dir, m, from); err != nil {
		t.Fatal(err)
	}
	return dir
}

// finetune runs the command by itself.
func finetune(ctx context.Context, args ...string) (stdout, stderr string, err error) {
	return alone(ctx, newFinetune(), args)
}

// alone runs a command by itself.
func alone(ctx context.Context, c *cobra.Command, args []string) (stdout, stderr string, err error) {
	var out, errs bytes.Buffer
	c.SetOut(&out)
	c.SetErr(&errs)
	c.SetArgs(args)
	c.SilenceUsage, c.SilenceErrors = true, true
	err = c.ExecuteContext(ctx)
	return out.String(), errs.String(), err
}

func quickFinetune(prepared, encoder, out string, more ...string) []string {
	return append([]string{
		prepared, "--encoder", encoder, "--out", out, "--epochs", "3", "--batch", "16", "--max-pairs", "320", "--lr", "0.005", "--titles", "3",
	}, more...)
}

func TestFinetune(t *testing.T) {
	prepared := tasteData(t)
	encoder, out := tinyEncoder(t, prepared), filepath.Join(t.TempDir(), "out")
	before := snapshot(t, encoder, prepared)
	stdout, stderr, err := finetune(t.Context(), quickFinetune(prepared, encoder, out, "--profile", "{{.User}}", "--temperature", "0.1", "--lr", "0.01")...)
	if err != nil {
		t.Fatal(err)
	}
	if snapshot(t, encoder, prepared) != before {
		t.Error("it changed what it read")
	}
	if !strings.Contains(stdout, "recall@10") || !strings.Contains(stderr, "as it came") || !strings.Contains(stderr, "epoch   3  loss") {
		t.Errorf("output %q, progress\n%s", stdout, stderr)
	}
	t.Log(stdout)

	var how struct {
		Before, Best float64
		Data         string
		BestEpoch    int `json:"best_epoch"`
		Options      hostgpu.TextTrainOptions
	}
	if err := json.Unmarshal(get(t, filepath.Join(out, "finetune.json")), &how); err != nil {
		t.Fatal(err)
	}
	if how.Data != "tastes" || how.BestEpoch < 1 || how.Options.Pairs != 16 || !(how.Best > how.Before+0.3) {
		t.Errorf("it says %+v; want recall@10 clearly above that before\n%s", how, stderr)
	}
	for _, name := range []string{"config.json", "metrics.jsonl", filepath.Join("curves", "loss.svg"), filepath.Join("curves", "recall@10.svg")} {
		if _, err := os.Stat(filepath.Join(out, runFolder, "finetune", name)); err != nil {
			t.Error(err)
		}
	}
	m, err := model.LoadText(out)
	if err != nil {
		t.Fatal(err)
	}
	old, err := model.LoadText(encoder)
	if err != nil {
		t.Fatal(err)
	}
	if m.Config != old.Config || slices.Equal(m.Weights[model.TextWord].Data, old.Weights[model.TextWord].Data) {
		t.Errorf("configuration %+v, want %+v and other weights", m.Config, old.Config)
	}
	// The next command takes it.
	succeed(t, quickTrain(prepared, filepath.Join(t.TempDir(), "model"), "--encoder", out)...)
}

func TestFinetuneResumes(t *testing.T) {
	c := madeChain(t)
	encoder, whole, out := tinyEncoder(t, c.prepared), filepath.Join(t.TempDir(), "whole"), filepath.Join(t.TempDir(), "out")
	more := []string{"--frozen-layers", "1", "--epochs", "2"}
	if _, _, err := finetune(t.Context(), quickFinetune(c.prepared, encoder, whole, more...)...); err != nil {
		t.Fatal(err)
	}
	args := quickFinetune(c.prepared, encoder, out, more...)
	for _, part := range []struct {
		nth  int64
		ends string
	}{{2, "step 0 of epoch 1"}, {15, "step 8 of epoch 1"}} {
		_, _, err := finetune(interruptAt(t, part.nth), args...)
		if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), part.ends) {
			t.Fatalf("error %v, want that of the context after %s", err, part.ends)
		}
		if hint := interruptedHint(err); !strings.Contains(hint, filepath.Join(out, "finetune.safetensors")) || !strings.Contains(hint, "--resume") {
			t.Errorf("hint %q", hint)
		}
		if _, err := model.LoadText(out); err == nil {
			t.Error("an unfinished run left an encoder")
		}
		args = quickFinetune(c.prepared, encoder, out, append(more, "--resume")...)
	}
	if _, stderr, err := finetune(t.Context(), args...); err != nil || strings.Contains(stderr, "as it came  ") {
		t.Fatalf("%v: it does not go on:\n%s", err, stderr)
	}
	for _, name := range []string{"model.safetensors", "finetune.json"} {
		if !bytes.Equal(get(t, filepath.Join(out, name)), get(t, filepath.Join(whole, name))) {
			t.Errorf("%s of the resumed run differs from that of the unbroken one", name)
		}
	}
}

// Losses may be named by the flag or by a file.
func TestFinetuneLosses(t *testing.T) {
	c := madeChain(t)
	encoder := tinyEncoder(t, c.prepared)
	short := []string{"--epochs", "1", "--max-pairs", "32"}
	trained := func(out string) *model.Tensor { // best or not
		tensors, _, err := model.LoadTensors(filepath.Join(out, "finetune.safetensors"))
		if err != nil {
			t.Fatal(err)
		}
		return tensors["weights/"+model.TextWord]
	}
	var words [2]*model.Tensor
	for i, more := range [][]string{
		{"--losses", "contrastive=1", "--losses", "masked-lm=0.25", "--smoothing", "0.1"},
		{"--config", put(t, filepath.Join(t.TempDir(), "losses.yaml"), []byte("losses:\n  masked-lm: 0.25\n  contrastive: 1\nsmoothing: 0.1\n"))},
	} {
		out := filepath.Join(t.TempDir(), "out")
		succeed(t, append([]string{"finetune"}, quickFinetune(c.prepared, encoder, out, append(short, more...)...)...)...)
		var how struct{ Options hostgpu.TextTrainOptions }
		if err := json.Unmarshal(get(t, filepath.Join(out, "finetune.json")), &how); err != nil {
			t.Fatal(err)
		}
		if o := how.Options; o.Losses != (hostgpu.TextLosses{Contrastive: 1, MaskedLM: 0.25}) || o.Smoothing != 0.1 || o.Special.Mask != 4 {
			t.Errorf("options %+v", o)
		}
		words[i] = trained(out)
	}
	if !slices.Equal(words[0].Data, words[1].Data) {
		t.Error("the file gives another encoder than its flags")
	}
	plain := filepath.Join(t.TempDir(), "out")
	if _, _, err := finetune(t.Context(), quickFinetune(c.prepared, encoder, plain, append(short, "--smoothing", "0.1")...)...); err != nil {
		t.Fatal(err)
	}
	if slices.Equal(trained(plain).Data, words[0].Data) {
		t.Error("the masked-language loss makes no difference")
	}
}

func TestFinetuneRefuses(t *testing.T) {
	c := madeChain(t)
	encoder := tinyEncoder(t, c.prepared)
	taken, copied := t.TempDir(), filepath.Join(t.TempDir(), "encoder")
	put(t, filepath.Join(taken, "thesis.txt"), []byte("x"))
	if err := os.CopyFS(copied, os.DirFS(encoder)); err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(copied, "finetune.safetensors"), []byte("x"))
	bare := t.TempDir()
	for name, test := range map[string]struct {
		encoder, out string
		more, says   []string
	}{
		"a folder of something else":  {encoder, taken, nil, []string{"thesis.txt", "another folder"}},
		"the encoder itself":          {copied, copied, nil, []string{"same folder"}},
		"no encoder":                  {bare, "", nil, []string{bare}},
		"a recommender's folder":      {encoder, c.model, nil, []string{"something else", "another folder"}},
		"nothing to resume":           {encoder, "", []string{"--resume"}, []string{"finetune.safetensors", "without --resume"}},
		"frozen altogether":           {encoder, "", []string{"--frozen-layers", "2"}, []string{"frozen layers is 2"}},
		"a template with a typo":      {encoder, "", []string{"--profile", "{{.Usr}}"}, []string{"profile", "Usr"}},
		"a split":                     {encoder, "", []string{"--split", "half"}, []string{"half", "leave-one-out"}},
		"a flag with a typo":          {encoder, "", []string{"--epoch", "2"}, []string{"--epoch"}},
		"more tokens than it can see": {encoder, "", []string{"--max-tokens", "65"}, []string{"65", "64"}},
		"a temperature":               {encoder, "", []string{"--temperature", "-1"}, []string{"temperature is -1"}},
		"a batch":                     {encoder, "", []string{"--batch", "-3"}, []string{"pairs is -3"}},
		"a loss with a typo":          {encoder, "", []string{"--losses", "contrastive=1,masked=1"}, []string{`"masked"`, "contrastive and masked-lm"}},
		"a loss without a weight":     {encoder, "", []string{"--losses", "contrastive"}, []string{`"contrastive"`, "masked-lm=0.1"}},
		"a loss with an odd weight":   {encoder, "", []string{"--losses", "contrastive=x"}, []string{`"contrastive=x"`, "masked-lm=0.1"}},
		"a loss below zero":           {encoder, "", []string{"--losses", "masked-lm=-1"}, []string{"masked-language loss is -1"}},
		"no loss":                     {encoder, "", []string{"--losses", "contrastive=0"}, []string{"--losses", "weight 0"}},
		"all smoothed":                {encoder, "", []string{"--smoothing", "1"}, []string{"smoothing is 1"}},
	} {
		t.Run(name, func(t *testing.T) {
			out := test.out
			if out == "" {
				out = filepath.Join(t.TempDir(), "out")
			}
			before := snapshot(t, test.encoder)
			_, _, err := finetune(t.Context(), quickFinetune(c.prepared, test.encoder, out, test.more...)...)
			if err == nil {
				t.Fatal("no error")
			}
			for _, s := range test.says {
				if !strings.Contains(err.Error(), s) {
					t.Errorf("error %v does not say %q", err, s)
				}
			}
			if snapshot(t, test.encoder) != before {
				t.Error("the encoder was changed")
			}
		})
	}
	if _, _, err := finetune(t.Context(), c.prepared, "--out", "x"); err == nil || !strings.Contains(err.Error(), "encoder") {
		t.Errorf("error %v does not name the flag that is missing", err)
	}
}
