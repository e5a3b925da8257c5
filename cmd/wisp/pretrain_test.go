package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/wisp-project/wisp/hostgpu"
	"github.com/wisp-project/wisp/model"
)

// pretrain runs the command by itself.
func pretrain(ctx context.Context, args ...string) (stdout, stderr string, err error) {
	return alone(ctx, newPretrain(), args)
}

func quickPretrain(encoder, out string, more ...string) []string {
	return append([]string{"--encoder", encoder, "--out", out, "--epochs", "2", "--batch", "16", "--lr", "0.01"}, more...)
}

func TestPretrain(t *testing.T) {
	prepared := tasteData(t)
	encoder, out := tinyEncoder(t, prepared), filepath.Join(t.TempDir(), "out")
	lines := put(t, filepath.Join(t.TempDir(), "lines"), []byte("thing1 kind1 taste1\n\n thing2 kind2 taste2 \nthing3 kind3 taste3"))
	before := snapshot(t, encoder, prepared)
	stdout, stderr, err := pretrain(t.Context(), quickPretrain(encoder, out, prepared, "--texts", lines, "--epochs", "6")...)
	if err != nil {
		t.Fatal(err)
	}
	if snapshot(t, encoder, prepared) != before {
		t.Error("it changed what it read")
	}
	for _, want := range []string{"on 195 texts", "as it came  validation loss", "epoch   6  loss"} { // 72 items, 120 users, 3 lines
		if !strings.Contains(stderr, want) {
			t.Errorf("progress does not say %q:\n%s", want, stderr)
		}
	}
	if !strings.Contains(stdout, "held out") {
		t.Errorf("output %q", stdout)
	}
	t.Log(stdout)

	var how struct {
		Before, Best float64
		Data         string
		Texts        []string
		BestEpoch    int `json:"best_epoch"`
		Options      hostgpu.TextTrainOptions
	}
	if err := json.Unmarshal(get(t, filepath.Join(out, "pretrain.json")), &how); err != nil {
		t.Fatal(err)
	}
	if how.Data != "tastes" || len(how.Texts) != 1 || how.BestEpoch < 1 || how.Options.Pairs != 16 || !(how.Best < 0.9*how.Before) {
		t.Errorf("it says %+v; want a loss clearly below that before\n%s", how, stderr)
	}
	for _, name := range []string{"config.json", "metrics.jsonl", filepath.Join("curves", "loss.svg")} {
		if _, err := os.Stat(filepath.Join(out, runFolder, "pretrain", name)); err != nil {
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
	if _, _, err := finetune(t.Context(), quickFinetune(prepared, out, filepath.Join(t.TempDir(), "tuned"), "--epochs", "1", "--max-pairs", "32")...); err != nil {
		t.Error(err)
	}
}

func TestPretrainResumes(t *testing.T) {
	c := madeChain(t)
	encoder, whole, out := tinyEncoder(t, c.prepared), filepath.Join(t.TempDir(), "whole"), filepath.Join(t.TempDir(), "out")
	more := []string{c.prepared, "--frozen-layers", "1"}
	if _, _, err := pretrain(t.Context(), quickPretrain(encoder, whole, more...)...); err != nil {
		t.Fatal(err)
	}
	args := quickPretrain(encoder, out, more...)
	for _, nth := range []int64{1, 3} {
		_, _, err := pretrain(interruptAt(t, nth), args...)
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("error %v, want that of the context", err)
		}
		if hint := interruptedHint(err); !strings.Contains(hint, filepath.Join(out, "pretrain.safetensors")) || !strings.Contains(hint, "--resume") {
			t.Errorf("hint %q", hint)
		}
		if _, err := model.LoadText(out); err == nil {
			t.Error("an unfinished run left an encoder")
		}
		args = quickPretrain(encoder, out, append(more, "--resume")...)
	}
	if _, stderr, err := pretrain(t.Context(), args...); err != nil || strings.Contains(stderr, "as it came  ") {
		t.Fatalf("%v: it does not go on:\n%s", err, stderr)
	}
	for _, name := range []string{"model.safetensors", "pretrain.json"} {
		if !bytes.Equal(get(t, filepath.Join(out, name)), get(t, filepath.Join(whole, name))) {
			t.Errorf("%s of the resumed run differs from that of the unbroken one", name)
		}
	}
}

func TestPretrainRefuses(t *testing.T) {
	c := madeChain(t)
	encoder := tinyEncoder(t, c.prepared)
	dir := t.TempDir()
	latin := put(t, filepath.Join(dir, "latin"), []byte("plain\ncaf\xe9\n"))
	single := put(t, filepath.Join(dir, "single"), []byte("one text\n"))
	taken := t.TempDir()
	put(t, filepath.Join(taken, "thesis.txt"), []byte("x"))
	tuned := t.TempDir()
	put(t, filepath.Join(tuned, "finetune.safetensors"), []byte("x"))
	for name, test := range map[string]struct {
		out  string
		more []string
		says []string
	}{
		"no texts":              {"", nil, []string{"no texts", "--texts"}},
		"an absent file":        {"", []string{"--texts", filepath.Join(dir, "none")}, []string{"--texts", "none", "check the path"}},
		"a file in Latin-1":     {"", []string{"--texts", latin}, []string{latin + ":2", "UTF-8"}},
		"a single text":         {"", []string{"--texts", single}, []string{"different texts"}},
		"no data":               {"", []string{filepath.Join(dir, "none")}, []string{"none"}},
		"two folders of data":   {"", []string{c.prepared, c.prepared}, []string{"at most 1 arg"}},
		"too many tokens":       {"", []string{c.prepared, "--max-tokens", "65"}, []string{"--max-tokens is 65", "64"}},
		"nothing to resume":     {"", []string{c.prepared, "--resume"}, []string{"pretrain.safetensors", "without --resume"}},
		"frozen altogether":     {"", []string{c.prepared, "--frozen-layers", "2"}, []string{"frozen layers is 2"}},
		"something else's":      {taken, []string{c.prepared}, []string{"thesis.txt", "another folder"}},
		"a fine-tuned encoder":  {tuned, []string{c.prepared}, []string{"wisp pretrain", "another folder"}},
		"a flag of fine-tuning": {"", []string{c.prepared, "--temperature", "1"}, []string{"--temperature"}},
	} {
		t.Run(name, func(t *testing.T) {
			out := test.out
			if out == "" {
				out = filepath.Join(t.TempDir(), "out")
			}
			_, _, err := pretrain(t.Context(), quickPretrain(encoder, out, test.more...)...)
			if err == nil {
				t.Fatal("no error")
			}
			for _, s := range test.says {
				if !strings.Contains(err.Error(), s) {
					t.Errorf("error %v does not say %q", err, s)
				}
			}
		})
	}
}
