package main

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/wisp-project/wisp/artifact"
	"github.com/wisp-project/wisp/edge"
	"github.com/wisp-project/wisp/model"
)

// TestFitRatings takes a rating head through the commands.
func TestFitRatings(t *testing.T) {
	c := madeChain(t).copy(t)
	stdout := succeed(t, "fit-ratings", c.model, "--data", c.prepared)
	if !strings.Contains(stdout, "validation ratings") || !strings.Contains(stdout, ratingFile) {
		t.Errorf("fit-ratings wrote %q", stdout)
	}
	first := get(t, filepath.Join(c.model, ratingFile))
	out := filepath.Join(t.TempDir(), "rated.wisp")
	succeed(t, "compress", c.model, "--data", c.prepared, "--out", out)
	a, err := artifact.Open(out, artifact.ReadOptions{AllowUnsigned: true})
	if err != nil {
		t.Fatal(err)
	}
	if p := a.Manifest.Provenance; !a.Manifest.Model.Ratings || !slices.ContainsFunc(p.Commands, func(s string) bool { return strings.HasPrefix(s, "wisp fit-ratings model ") }) ||
		!slices.ContainsFunc(p.Sources, func(s artifact.Source) bool { return s.Name == ratingFile }) {
		t.Errorf("manifest %+v, %+v", a.Manifest.Model, a.Manifest.Provenance)
	}
	if s := succeed(t, "inspect", out); !strings.Contains(s, "it predicts ratings") {
		t.Errorf("inspect does not say that it predicts ratings:\n%s", s)
	}
	items := a.Items[3].ID + "," + a.Items[0].ID
	var got edge.Ratings
	if err := json.Unmarshal([]byte(succeed(t, "recommend", out, "--data", c.prepared, "--user", "u000001", "--rate", items, "--json")), &got); err != nil {
		t.Fatal(err)
	}
	h, _, err := loadRatings(c.model)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Items) != 2 || got.Items[0].Item != a.Items[3].ID || got.Items[0].Rating < h.Low || got.Items[0].Rating > h.High || got.ColdStart {
		t.Errorf("ratings %+v", got)
	}
	if s := succeed(t, "recommend", out, "--rate", a.Items[3].ID); !strings.Contains(s, a.Items[3].ID) {
		t.Errorf("recommend --rate wrote %q", s)
	}

	// The same fit gives the same file; one that knows the validation events, another.
	succeed(t, "fit-ratings", c.model, "--data", c.prepared)
	if again := get(t, filepath.Join(c.model, ratingFile)); string(again) != string(first) {
		t.Error("the same fit went another way")
	}
	rewrite(t, c.model, func(_ *model.Model, how *training) { how.Refit = true })
	if _, err := os.Stat(filepath.Join(c.model, ratingFile)); !os.IsNotExist(err) {
		t.Errorf("a new model keeps the rating head of the one before (%v)", err)
	}
	succeed(t, "fit-ratings", c.model, "--data", c.prepared)
	again, _, err := loadRatings(c.model)
	if err != nil || slices.Equal(again.Items, h.Items) {
		t.Errorf("validation ratings were not fitted to (%v)", err)
	}

	fail(t, []string{"another model", "wisp fit-ratings"}, "compress", stale(t, c.model, first), "--data", c.prepared, "--out", out)
	fail(t, []string{"rating head", "wisp prune"}, "compress", c.model, "--data", c.prepared, "--out", out, "--budget", "1MB")
	fail(t, []string{"not in the catalogue"}, "recommend", out, "--rate", "nothing")
	fail(t, []string{"--rate", "--explain"}, "recommend", out, "--rate", items, "--explain")
	fail(t, []string{"no ratings", "wisp fit-ratings"}, "recommend", c.artefact, "--rate", items)
	fail(t, []string{"l2", "must be a number"}, "fit-ratings", c.model, "--data", c.prepared, "--l2", "NaN")
}

// stale puts the rating head of another model into a folder.
func stale(t *testing.T, dir string, head []byte) string {
	t.Helper()
	own := filepath.Join(t.TempDir(), "stale")
	if err := os.CopyFS(own, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(own, ratingFile), head)
	return own
}

// TestFitClasses takes classes of texts through the commands.
func TestFitClasses(t *testing.T) {
	c := madeChain(t)
	encoder := tinyEncoder(t, c.prepared)
	texts := func(words ...string) []byte {
		var b []byte
		for i := range 30 {
			b = append(b, words[i%len(words)]+" "+words[i/3%len(words)]+"\n"...)
		}
		return b
	}
	dir := t.TempDir()
	good, bad := put(t, filepath.Join(dir, "good.txt"), texts("garden", "wood", "light")), put(t, filepath.Join(dir, "bad.txt"), texts("the", "and", "of"))
	head := filepath.Join(dir, "classes.safetensors")
	stdout := succeed(t, "fit-classes", "bad="+bad, "good="+good, "--encoder", encoder, "--out", head, "--l2", "0.01")
	if !strings.Contains(stdout, "bad, good") {
		t.Errorf("fit-classes wrote %q", stdout)
	}
	var table strings.Builder
	table.WriteString("label\ttext\n")
	for _, class := range []struct{ name, path string }{{"bad", bad}, {"good", good}} {
		for line := range strings.Lines(string(get(t, class.path))) {
			table.WriteString(class.name + "\t" + line)
		}
	}
	tsv := put(t, filepath.Join(dir, "texts.tsv"), []byte(table.String()))
	other := filepath.Join(dir, "other.safetensors")
	succeed(t, "fit-classes", tsv, "--encoder", encoder, "--out", other, "--l2", "0.01")
	x, _, err := model.LoadTextClasses(head)
	y, _, err2 := model.LoadTextClasses(other)
	if err != nil || err2 != nil || !slices.Equal(x.Weight.Data, y.Weight.Data) || !slices.Equal(x.Names, y.Names) {
		t.Errorf("lines and a table of the same texts lead to other heads (%v, %v)", err, err2)
	}

	trained, out := filepath.Join(t.TempDir(), "model"), filepath.Join(t.TempDir(), "sorts.wisp")
	succeed(t, quickTrain(c.prepared, trained, "--features", "0", "--encoder", encoder)...)
	succeed(t, "compress", trained, "--data", c.prepared, "--encoder", encoder, "--classes", head, "--out", out)
	if s := succeed(t, "inspect", out); !strings.Contains(s, "it sorts texts into bad, good") {
		t.Errorf("inspect does not name the classes:\n%s", s)
	}
	tok, m, err := loadEncoder(encoder)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"wood light", "of the"} {
		var got edge.Classification
		if err := json.Unmarshal([]byte(succeed(t, "recommend", out, "--classify", text, "--json")), &got); err != nil {
			t.Fatal(err)
		}
		e, err := m.Embed(tok.Encode(nil, text, m.Config.MaxTokens))
		if err != nil {
			t.Fatal(err)
		}
		want := make([]float32, 2)
		x.Predict(want, e)
		for i, class := range got.Classes {
			if class.Name != x.Names[i] || math.Abs(float64(class.Probability-want[i])) > 0.03 {
				t.Errorf("%q: %+v, want %v", text, class, want[i])
			}
		}
	}
	if s := succeed(t, "recommend", out, "--classify", "wood"); !strings.Contains(s, "good") {
		t.Errorf("recommend --classify wrote %q", s)
	}

	latin1 := put(t, filepath.Join(dir, "latin1.txt"), []byte("clich\xe9\n"))
	fail(t, []string{"--latin1"}, "fit-classes", "bad="+latin1, "good="+good, "--encoder", encoder, "--out", head)
	succeed(t, "fit-classes", "bad="+latin1, "good="+good, "--latin1", "--encoder", encoder, "--out", filepath.Join(dir, "latin1.safetensors"), "--l2", "0.1")
	fail(t, []string{"1 classes", "2 to 256"}, "fit-classes", "good="+good, "--encoder", encoder, "--out", head)
	fail(t, []string{"there twice"}, "fit-classes", "good="+good, "good="+bad, "--encoder", encoder, "--out", head)
	fail(t, []string{"CLASS=FILE"}, "fit-classes", good, bad, "--encoder", encoder, "--out", head)
	fail(t, []string{"no texts"}, "fit-classes", "bad="+put(t, filepath.Join(dir, "empty"), nil), "good="+good, "--encoder", encoder, "--out", head)
	fail(t, []string{"label and text"}, "fit-classes", put(t, filepath.Join(dir, "x.csv"), []byte("a,b\n1,2\n")), "--encoder", encoder, "--out", head)
	fail(t, []string{"line 2", "no label"}, "fit-classes", put(t, filepath.Join(dir, "y.csv"), []byte("text,label\n1,\n")), "--encoder", encoder, "--out", head)
	fail(t, []string{"--encoder"}, "compress", c.model, "--data", c.prepared, "--classes", head, "--out", out)
	h, metadata, err := model.LoadTextClasses(head)
	if err != nil {
		t.Fatal(err)
	}
	metadata[fittedKey] = `{"encoder":"another"}`
	if err := model.SaveTextClasses(head, h, metadata); err != nil {
		t.Fatal(err)
	}
	fail(t, []string{"another text encoder"}, "compress", trained, "--data", c.prepared, "--encoder", encoder, "--classes", head, "--out", out)
	fail(t, []string{"no classes", "wisp fit-classes"}, "recommend", c.artefact, "--classify", "a")
}
