package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/wisp-project/wisp/hostgpu"
	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/internal/tokenize"
	"github.com/wisp-project/wisp/model"
)

func quickTune(prepared, encoder, out string, more ...string) []string {
	return quickTrain(prepared, out, append([]string{"--encoder", encoder, "--tune-encoder", "--encoder-lr", "0.01", "--encoder-frozen-layers", "-1"}, more...)...)
}

// TestTuneEncoder trains an encoder together with the towers: what is left is a
// model and the encoder that made its vectors.
func TestTuneEncoder(t *testing.T) {
	prepared := tasteData(t)
	encoder, out := tinyEncoder(t, prepared), filepath.Join(t.TempDir(), "out")
	before := snapshot(t, encoder, prepared)
	o := wisp(t.Context(), quickTune(prepared, encoder, out, "--refit", "--losses", "contrastive=0.1,masked-lm=0.05", "--encoder-every", "2")...)
	if snapshot(t, encoder, prepared) != before {
		t.Error("it changed what it read")
	}
	if o.code != 0 || !strings.Contains(o.stderr, "training the encoder") {
		t.Fatalf("progress\n%s", o.stderr)
	}
	m, how, err := loadModel(out)
	if err != nil {
		t.Fatal(err)
	}
	if l := how.Options.Encoder.Losses; !how.Vectors.Tuned || l != (hostgpu.TextLosses{NextItem: 1, Contrastive: 0.1, MaskedLM: 0.05}) {
		t.Errorf("it says %+v", how)
	}
	tuned, err := model.LoadText(filepath.Join(out, encoderFolder))
	if err != nil {
		t.Fatal(err)
	}
	old, err := model.LoadText(encoder)
	if err != nil {
		t.Fatal(err)
	}
	if tuned.Config != old.Config || slices.Equal(tuned.Weights[model.TextWord].Data, old.Weights[model.TextWord].Data) {
		t.Errorf("configuration %+v, want %+v and other weights", tuned.Config, old.Config)
	}
	// The features are the words, and the embeddings by the new encoder.
	given, err := loadVectors(out, how.FeaturesFile, m.Config)
	if err != nil {
		t.Fatal(err)
	}
	ds, err := data.Load(prepared)
	if err != nil {
		t.Fatal(err)
	}
	tok, err := tokenize.Load(filepath.Join(out, encoderFolder))
	if err != nil {
		t.Fatal(err)
	}
	for i := range ds.Items {
		want, err := tuned.Embed(tok.Encode(nil, data.ItemText(&ds.Items[i]), tuned.Config.MaxTokens))
		if err != nil {
			t.Fatal(err)
		}
		got := given.Items.Row(i)[m.Config.Features-len(want):]
		for j, w := range want {
			if d := got[j] - w; d > 1e-5 || d < -1e-5 {
				t.Fatalf("value %d of the vector of item %d is %v, the encoder gives %v", j, i, got[j], w)
			}
		}
	}
	// The next commands take both.
	artefact := filepath.Join(t.TempDir(), "made.wisp")
	succeed(t, "compress", out, "--data", prepared, "--out", artefact)
	succeed(t, "eval", "--data", prepared, "--model", out)
	succeed(t, quickTrain(prepared, filepath.Join(t.TempDir(), "next"), "--encoder", filepath.Join(out, encoderFolder))...)
	// Another training into the same folder must not write what it reads.
	fail(t, []string{filepath.Join(out, encoderFolder), "another --out"}, quickTune(prepared, filepath.Join(out, encoderFolder), out)...)
}

func TestTuneEncoderResumes(t *testing.T) {
	c := madeChain(t)
	encoder, whole, out := tinyEncoder(t, c.prepared), filepath.Join(t.TempDir(), "whole"), filepath.Join(t.TempDir(), "out")
	succeed(t, quickTune(c.prepared, encoder, whole)...)
	args := quickTune(c.prepared, encoder, out)
	// In the first epoch; in the pass that follows; and after that.
	for _, at := range []int64{4, 12, 24} {
		wantInterrupted(t, wisp(interruptAt(t, at), args...), "--resume")
		args = quickTune(c.prepared, encoder, out, "--resume")
	}
	fail(t, []string{checkpointFile, "without --resume"}, quickTrain(c.prepared, out, "--encoder", encoder, "--resume")...)
	succeed(t, args...)
	for _, name := range []string{modelFile, filepath.Join(encoderFolder, "model.safetensors")} {
		if !bytes.Equal(get(t, filepath.Join(out, name)), get(t, filepath.Join(whole, name))) {
			t.Errorf("%s of the resumed training differs from that of the unbroken one", name)
		}
	}
}

func TestTuneEncoderRefuses(t *testing.T) {
	c := madeChain(t)
	encoder := tinyEncoder(t, c.prepared)
	for name, test := range map[string]struct {
		args []string
		says []string
	}{
		"no encoder":              {[]string{"--tune-encoder"}, []string{"--encoder", "start from"}},
		"a rate for nothing":      {[]string{"--encoder", encoder, "--encoder-lr", "0.1"}, []string{"--encoder-lr", "--tune-encoder"}},
		"losses for nothing":      {[]string{"--encoder", encoder, "--losses", "contrastive=1"}, []string{"--losses", "--tune-encoder"}},
		"an unknown loss":         {[]string{"--encoder", encoder, "--tune-encoder", "--losses", "next=1"}, []string{`"next"`, "next-item"}},
		"no loss":                 {[]string{"--encoder", encoder, "--tune-encoder", "--losses", "next-item=0"}, []string{"--losses", "weight 0"}},
		"everything is frozen":    {[]string{"--encoder", encoder, "--tune-encoder", "--encoder-frozen-layers", "2"}, []string{"frozen layers is 2"}},
		"passes below zero":       {[]string{"--encoder", encoder, "--tune-encoder", "--encoder-every", "-1"}, []string{"encoder every is -1"}},
		"an encoder not there":    {[]string{"--encoder", filepath.Join(encoder, "x"), "--tune-encoder"}, []string{"x"}},
		"a rate that is too high": {[]string{"--encoder", encoder, "--tune-encoder", "--encoder-lr", "2"}, []string{"learning rate is 2"}},
	} {
		t.Run(name, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "out")
			fail(t, test.says, quickTrain(c.prepared, out, test.args...)...)
			if _, err := os.Stat(filepath.Join(out, modelFile)); err == nil {
				t.Error("it left a model")
			}
		})
	}
}
