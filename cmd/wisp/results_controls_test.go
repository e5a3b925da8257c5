package main

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/wisp-project/wisp/internal/results"
)

func TestControlsAreValid(t *testing.T) {
	names := map[string]bool{}
	for _, c := range controls() {
		o := c.without
		c.add(&o)
		if err := errors.Join(c.without.Validate(), o.Validate()); err != nil || o == c.without || names[c.name] {
			t.Errorf("%s: %v, changes %v, twice %v", c.name, err, o != c.without, names[c.name])
		}
		names[c.name] = true
	}
}

func TestJudge(t *testing.T) {
	nan := float32(math.NaN())
	loss, accuracy := judge([]float32{0.5, 0.5, 0.25, 0.75, nan, nan, 1, 0}, []int{0, 1, 0, 0})
	want := (-math.Log(0.5) - math.Log(0.75) - math.Log(1e-7)) / 4
	if math.Abs(loss-want) > 1e-9 || accuracy != 0.5 {
		t.Errorf("loss %v and accuracy %v, want %v and 0.5", loss, accuracy, want)
	}
}

func TestStopEarly(t *testing.T) {
	second := []float64{1, 2, 3, 4, 5, 6}
	for name, test := range map[string]struct {
		first, want []float64
		says        string
	}{
		"in the middle":     {[]float64{5, 4, 6, 6, 1, 1}, []float64{1, 2, 2, 2, 2, 2}, " 2 of 4"},
		"just in time":      {[]float64{5, 6, 4, 6, 3, 6}, []float64{1, 1, 3, 3, 5, 5}, " 5 of 6"},
		"better and better": {[]float64{6, 5, 4, 3, 2, 1}, second, " 6 of 6"},
		"worse and worse":   {[]float64{1, 2, 3, 4, 5, 6}, []float64{1, 1, 1, 1, 1, 1}, " 1 of 3"},
	} {
		c := learningCurve{Train: second, Loss: [2][]float64{test.first, second}, Accuracy: [2][]float64{test.first, second}}
		got, note := stopEarly([]learningCurve{c})
		if !slices.Equal(got[0].loss, test.want) || !slices.Equal(got[0].accuracy, test.want) || !strings.HasSuffix(note, test.says) {
			t.Errorf("%s: %v (%s), want %v and%s", name, got[0].loss, note, test.want, test.says)
		}
		if !slices.Equal(c.Loss[1], second) {
			t.Errorf("%s: it changed what it read", name)
		}
	}
}

// Figures are those of the last and of the best epoch, a verdict needs an interval
// without zero, and the page shows the picture.
func TestControlsCompare(t *testing.T) {
	c := controlBench{bench: &bench{docs: t.TempDir()}}
	curves := func(last ...float64) []judged {
		var all []judged
		for _, x := range last {
			all = append(all, judged{train: []float64{1, 0.5}, loss: []float64{0.7, 1 - x}, accuracy: []float64{0.75, x}})
		}
		return all
	}
	without := curves(0.6, 0.61, 0.62)
	for name, test := range map[string]struct {
		with    []judged
		verdict string
	}{
		"good":    {curves(0.7, 0.711, 0.719), "helps"},
		"bad":     {curves(0.5, 0.511, 0.519), "does harm"},
		"neither": {curves(0.5, 0.61, 0.73), "no difference that counts"},
		"nothing": {without, "no difference that counts"},
	} {
		var topic results.Topic
		if err := c.compare(&topic, name, "a note", test.with, without); err != nil {
			t.Fatal(err)
		}
		figures := map[string]results.Record{}
		for _, r := range topic.Records {
			figures[strings.TrimPrefix(r.Name, "quality.controls."+name+".")] = r
		}
		if len(figures) != 8 || figures["with.accuracy"].Note != "a note" || figures["without.accuracy"].Note != "" {
			t.Errorf("%s: figures %v", name, figures)
		}
		if f := figures["without.accuracy"]; math.Abs(f.Value-0.61) > 1e-9 || !(f.Low < 0.6 && f.High > 0.62) || f.N != 3 {
			t.Errorf("%s: accuracy %+v", name, f)
		}
		if f := figures["without.best-accuracy"]; f.Value != 0.75 {
			t.Errorf("%s: best accuracy %+v", name, f)
		}
		for _, metric := range []string{"accuracy", "loss"} {
			if f := figures["difference."+metric]; f.Note != test.verdict {
				t.Errorf("%s: %s: %+v, want %q", name, metric, f, test.verdict)
			}
		}
		file := "controls-" + name + ".svg"
		if _, err := os.Stat(filepath.Join(c.docs, file)); err != nil || !strings.Contains(topic.Text, "]("+file+")") {
			t.Errorf("%s: %v; the page says %q", name, err, topic.Text)
		}
	}
}

// Where the data are not there, the topic is left out.
func TestControlsWithoutData(t *testing.T) {
	var said strings.Builder
	b := bench{shared: t.TempDir(), work: t.TempDir(), docs: t.TempDir(), seeds: 2, p: &progress{w: &said}}
	topic, err := b.controls(t.Context())
	if err != nil || len(topic.Records) > 0 || !strings.Contains(said.String(), "skipped") {
		t.Errorf("%v, %d figures, %q", err, len(topic.Records), said.String())
	}
}

func TestKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "folder", "kept.json")
	made := 0
	get := func(key string) ([]float64, error) {
		return kept(path, key, func() ([]float64, error) { made++; return []float64{float64(made)}, nil })
	}
	for i, test := range []struct {
		key  string
		want float64
	}{{"a", 1}, {"a", 1}, {"b", 2}, {"b", 2}, {"a", 3}} {
		if got, err := get(test.key); err != nil || !slices.Equal(got, []float64{test.want}) {
			t.Errorf("call %d: %v, %v; want %v", i, got, err, test.want)
		}
	}
	put(t, path, []byte(`{"key":"a","val`))
	if got, err := get("a"); err != nil || got[0] != 4 {
		t.Errorf("after damage: %v, %v", got, err)
	}
	spoilt := errors.New("spoilt")
	if _, err := kept(path, "c", func() (int, error) { return 0, spoilt }); !errors.Is(err, spoilt) {
		t.Errorf("error %v", err)
	}
	if got, err := get("a"); err != nil || got[0] != 4 {
		t.Errorf("a failure replaced what was kept: %v, %v", got, err)
	}
}
