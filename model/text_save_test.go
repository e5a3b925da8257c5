package model_test

import (
	"bytes"
	"errors"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/wisp-project/wisp/internal/tokenize"
	"github.com/wisp-project/wisp/model"
)

const tinyVocab = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nred\nlamp\n##s\nblue\nsong\na\n"

// names lists the files at and below dir.
func names(t *testing.T, dir string) []string {
	t.Helper()
	var all []string
	err := fs.WalkDir(os.DirFS(dir), ".", func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			all = append(all, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestSaveText(t *testing.T) {
	for name, change := range map[string]func(*model.TextConfig){
		"as it is":             func(*model.TextConfig) {},
		"with the first token": func(c *model.TextConfig) { c.Pooling = model.PoolCLS },
		"not normalised":       func(c *model.TextConfig) { c.Normalise = false },
		"one type, as of DistilBERT": func(c *model.TextConfig) {
			c.Types, c.NormEpsilon = 1, 1e-5
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := tinyText()
			change(&c)
			m, err := model.NewText(c, randomText(c, 3))
			if err != nil {
				t.Fatal(err)
			}
			from := folder{files: map[string]string{"vocab.txt": tinyVocab, "tokenizer_config.json": `{"do_lower_case":false}`, "README.md": "x"}}.write(t)
			dir := filepath.Join(t.TempDir(), "a", "b")
			if err := model.SaveText(dir, m, from); err != nil {
				t.Fatal(err)
			}
			got, err := model.LoadText(dir)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, m) {
				t.Errorf("configuration %+v, want %+v with the same weights", got.Config, m.Config)
			}
			tok, err := tokenize.Load(dir)
			if err != nil {
				t.Fatal(err)
			}
			if ids, want := tok.Encode(nil, "red lamps RED", 9), []int32{2, 5, 6, 7, 1, 3}; !slices.Equal(ids, want) {
				t.Errorf("tokens %v, want %v", ids, want)
			}
			want := []string{
				"1_Pooling/config.json", "config.json", "model.safetensors", "modules.json", "sentence_bert_config.json", "tokenizer_config.json", "vocab.txt",
			}
			if files := names(t, dir); !slices.Equal(files, want) {
				t.Errorf("files %v, want %v", files, want)
			}
		})
	}
}

// Saved over another encoder, what is left is the new one, and what is no part
// of an encoder is still there.
func TestSaveTextReplaces(t *testing.T) {
	f := bertFolder(randomText(tinyText(), 1))
	maps.Copy(f.files, map[string]string{
		"tokenizer.json": "not that of the new one", "notes.txt": "kept", "model.safetensors.index.json": `{"weight_map":{"x":"y"}}`,
	})
	dir, from := f.write(t), folder{files: map[string]string{"vocab.txt": tinyVocab}}.write(t)
	c := tinyText()
	c.Normalise = false
	m, err := model.NewText(c, randomText(c, 2))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time onto itself
		if err := model.SaveText(dir, m, from); err != nil {
			t.Fatal(err)
		}
		got, err := model.LoadText(dir)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, m) {
			t.Error("it reads as another encoder")
		}
		if _, err := tokenize.Load(dir); err != nil {
			t.Errorf("the tokenizer of the encoder before is in the way: %v", err)
		}
		if b, err := os.ReadFile(filepath.Join(dir, "notes.txt")); err != nil || string(b) != "kept" {
			t.Errorf("notes.txt: %q, %v", b, err)
		}
		from = dir
	}
	if files := names(t, dir); slices.ContainsFunc(files, func(s string) bool { return strings.Contains(s, "tmp") || strings.Contains(s, "index") }) {
		t.Errorf("left over: %v", files)
	}
}

// What cannot be saved leaves the encoder that was there.
func TestSaveTextRefuses(t *testing.T) {
	c := tinyText()
	good, err := model.NewText(c, randomText(c, 2))
	if err != nil {
		t.Fatal(err)
	}
	spoilt := &model.TextModel{Config: c, Weights: randomText(c, 2)}
	spoilt.Weights[model.TextWord].Data[3] = float32(math.NaN())
	odd := &model.TextModel{Config: c, Weights: good.Weights}
	odd.Config.Heads = 3
	vocab := folder{files: map[string]string{"vocab.txt": tinyVocab}}.write(t)
	for name, test := range map[string]struct {
		m    *model.TextModel
		from string
		want error
		says string
	}{
		"no tokenizer": {good, t.TempDir(), fs.ErrNotExist, "vocab.txt"},
		"not finite":   {spoilt, vocab, model.ErrWeights, model.TextWord},
		"config":       {odd, vocab, model.ErrConfig, "heads"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := bertFolder(randomText(c, 1)).write(t)
			before, err := os.ReadFile(filepath.Join(dir, "model.safetensors"))
			if err != nil {
				t.Fatal(err)
			}
			files := names(t, dir)
			err = model.SaveText(dir, test.m, test.from)
			if !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.says) {
				t.Errorf("error %v, want %v that says %q", err, test.want, test.says)
			}
			after, err := os.ReadFile(filepath.Join(dir, "model.safetensors"))
			if err != nil || !bytes.Equal(after, before) || !slices.Equal(names(t, dir), files) {
				t.Errorf("the folder was changed: %v, %v", err, names(t, dir))
			}
		})
	}
}
