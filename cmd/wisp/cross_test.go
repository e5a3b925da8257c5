package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// cross runs the command by itself.
func cross(ctx context.Context, args ...string) (stdout, stderr string, err error) {
	return alone(ctx, newCross(), args)
}

func quickCross(prepared, encoder, ranker, out string, more ...string) []string {
	return append([]string{
		prepared, "--encoder", encoder, "--model", ranker, "--out", out, "--profile", "{{.User}}", "--max-tokens", "16",
		"--epochs", "3", "--batch", "32", "--negatives", "3", "--max-lists", "64", "--max-cases", "40", "--lr", "0.01",
	}, more...)
}

// tasteRanker trains a first stage on a data set of tastes, too little to know
// them.
func tasteRanker(t *testing.T, prepared string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "model")
	succeed(t, "train", prepared, "--out", dir, "--epochs", "1", "--dim", "8", "--layers", "1", "--features", "0", "--lr", "0.0001")
	return dir
}

func TestCross(t *testing.T) {
	prepared := tasteData(t)
	ranker, encoder, out := tasteRanker(t, prepared), tinyEncoder(t, prepared), filepath.Join(t.TempDir(), "out")
	before := snapshot(t, encoder, prepared, ranker)
	stdout, stderr, err := cross(t.Context(), quickCross(prepared, encoder, ranker, out, "--epochs", "15", "--patience", "15", "--max-lists", "160")...)
	if err != nil {
		t.Fatal(err)
	}
	if snapshot(t, encoder, prepared, ranker) != before {
		t.Error("it changed what it read")
	}
	for _, want := range []string{"as it came  validation NDCG@10", "epoch   3  loss"} {
		if !strings.Contains(stderr, want) {
			t.Errorf("progress does not say %q:\n%s", want, stderr)
		}
	}
	if !strings.Contains(stdout, "by the model alone") {
		t.Errorf("output %q", stdout)
	}
	t.Log(stdout)
	var how struct {
		Before, Best, Weight float64
		Candidates           int
		BestEpoch            int `json:"best_epoch"`
	}
	if err := json.Unmarshal(get(t, filepath.Join(out, "cross.json")), &how); err != nil {
		t.Fatal(err)
	}
	if how.BestEpoch < 1 || how.Weight == 0 || how.Candidates != 30 || !(how.Best > how.Before+0.05) {
		t.Errorf("it says %+v; want NDCG@10 clearly above that before\n%s", how, stderr)
	}
	for _, name := range []string{crossHead, "model.safetensors", "vocab.txt", filepath.Join(runFolder, "cross", "curves", "NDCG@10.svg")} {
		if _, err := os.Stat(filepath.Join(out, name)); err != nil {
			t.Error(err)
		}
	}

	// The same on test events, beside the model alone.
	figures := filepath.Join(t.TempDir(), "figures.json")
	succeed(t, "eval", "--data", prepared, "--model", ranker, "--cross", out, "--json", figures)
	var rows []struct {
		Stage string
		NDCG  struct{ Value float64 } `json:"ndcg10"`
	}
	if err := json.Unmarshal(get(t, figures), &rows); err != nil {
		t.Fatal(err)
	}
	n := len(rows)
	if rows[n-2].Stage != teacherStage || rows[n-1].Stage != rerankedStage || !(rows[n-1].NDCG.Value > rows[n-2].NDCG.Value+0.03) {
		t.Errorf("rows %+v; want the last two to be of the model and of what is re-ranked, the latter clearly better", rows)
	}
	fail(t, []string{"--cross", "--model"}, "eval", "--data", prepared, "--cross", out)
	fail(t, []string{"no cross-encoder", "wisp cross"}, "eval", "--data", prepared, "--model", ranker, "--cross", encoder)
	fail(t, []string{"preparation"}, "eval", "--data", madeChain(t).prepared, "--model", madeChain(t).model, "--cross", out)
}

func TestCrossResumes(t *testing.T) {
	prepared := tasteData(t)
	ranker, encoder := tasteRanker(t, prepared), tinyEncoder(t, prepared)
	whole, out := filepath.Join(t.TempDir(), "whole"), filepath.Join(t.TempDir(), "out")
	if _, _, err := cross(t.Context(), quickCross(prepared, encoder, ranker, whole, "--pool", "-1")...); err != nil {
		t.Fatal(err)
	}
	args := quickCross(prepared, encoder, ranker, out, "--pool", "-1")
	// The model is asked for 40 cases.
	for _, part := range []struct {
		nth  int64
		ends string
	}{{40 + 5, "step 3 of epoch 1"}, {40 + 3, "step 5 of epoch 1"}} {
		_, _, err := cross(interruptAt(t, part.nth), args...)
		if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), part.ends) || !strings.Contains(interruptedHint(err), "--resume") {
			t.Fatalf("error %v, hint %q; want that of the context after %s", err, interruptedHint(err), part.ends)
		}
		args = quickCross(prepared, encoder, ranker, out, "--pool", "-1", "--resume")
	}
	if _, stderr, err := cross(t.Context(), args...); err != nil || strings.Contains(stderr, "as it came  ") {
		t.Fatalf("%v: it does not go on:\n%s", err, stderr)
	}
	for _, name := range []string{"model.safetensors", crossHead, "cross.json"} {
		if !bytes.Equal(get(t, filepath.Join(out, name)), get(t, filepath.Join(whole, name))) {
			t.Errorf("%s of the resumed run differs from that of the unbroken one", name)
		}
	}
}

func TestCrossRefuses(t *testing.T) {
	c := madeChain(t)
	encoder := tinyEncoder(t, c.prepared)
	for name, test := range map[string]struct {
		model      string
		more, says []string
	}{
		"no model":                    {t.TempDir(), nil, []string{"no model", "wisp train"}},
		"candidates":                  {c.model, []string{"--candidates", "1"}, []string{"candidates"}},
		"more tokens than it can see": {c.model, []string{"--max-tokens", "65"}, []string{"65", "64"}},
		"negatives":                   {c.model, []string{"--negatives", "-1"}, []string{"negatives"}},
		"nothing to resume":           {c.model, []string{"--resume"}, []string{"cross.safetensors", "without --resume"}},
		"a template with a typo":      {c.model, []string{"--profile", "{{.Usr}}"}, []string{"profile", "Usr"}},
		"frozen altogether":           {c.model, []string{"--frozen-layers", "2"}, []string{"frozen layers is 2"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := cross(t.Context(), quickCross(c.prepared, encoder, test.model, filepath.Join(t.TempDir(), "out"), test.more...)...)
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
