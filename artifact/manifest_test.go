package artifact_test

import (
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/wisp-project/wisp/artifact"
)

func TestValidate(t *testing.T) {
	type a = artifact.Artifact
	for _, c := range []struct {
		name   string
		change func(a *a)
		want   error // nil: valid
		says   string
	}{
		{name: "unchanged", change: func(*a) {}},
		{name: "nothing optional", change: func(a *a) {
			a.Manifest.Tenant, a.Manifest.Created, a.Manifest.Metrics, a.Manifest.Licences = "", "", nil, nil
			a.Manifest.Provenance = nil
		}},
		{name: "no text encoder", change: func(a *a) { a.Manifest.Model.Text = artifact.TextInfo{} }},
		{name: "classes and ratings", change: classes("bad", "good")},
		{name: "largest version", change: func(a *a) { a.Manifest.Version = 1<<53 - 1 }},
		{name: "joined emoji and a no-break space", change: func(a *a) { a.Items[0].ID = "👩\u200d🍳\u00a0" }},
		{name: "tab in a title", change: func(a *a) { a.Items[0].Title = "a\tb" }},

		{"no name", func(a *a) { a.Manifest.Name = "" }, artifact.ErrManifest, "name is empty"},
		{"name with a newline", func(a *a) { a.Manifest.Name = "a\nb" }, artifact.ErrManifest, `name is "a\nb"`},
		{"name not UTF-8", func(a *a) { a.Manifest.Name = "\xff" }, artifact.ErrManifest, "UTF-8"},
		{"long name", func(a *a) { a.Manifest.Name = strings.Repeat("x", 1025) }, artifact.ErrManifest, "1025 bytes"},
		{"escape in the tenant", func(a *a) { a.Manifest.Tenant = "\x1b[2J" }, artifact.ErrManifest, "tenant"},
		{"version 0", func(a *a) { a.Manifest.Version = 0 }, artifact.ErrManifest, "version is 0"},
		{"version beyond JSON", func(a *a) { a.Manifest.Version = 1 << 53 }, artifact.ErrManifest, "2^53-1"},
		{"abi 0", func(a *a) { a.Manifest.ABI = 0 }, artifact.ErrManifest, "abi is 0"},
		{"negative dim", func(a *a) { a.Manifest.Model.Dim = -8 }, artifact.ErrManifest, "model.dim is -8"},
		{"no heads", func(a *a) { a.Manifest.Model.Heads = 0 }, artifact.ErrManifest, "model.heads is 0"},
		{"heads", func(a *a) { a.Manifest.Model.Heads = 3 }, artifact.ErrManifest, "multiple of model.heads 3"},
		{"text without layers", func(a *a) { a.Manifest.Model.Text.Layers = 0 }, artifact.ErrManifest, "model.text.layers is 0"},
		{"text of no width", func(a *a) { a.Manifest.Model.Text = artifact.TextInfo{UserMap: true} }, artifact.ErrManifest, "model.text.vocabulary is 0"},
		{"text vocabulary", func(a *a) { a.Manifest.Model.Text.Vocabulary = 1<<20 + 1 }, artifact.ErrManifest, "model.text.vocabulary"},
		{"text tokens", func(a *a) { a.Manifest.Model.Text.Tokens = -1 }, artifact.ErrManifest, "model.text.tokens is -1"},
		{"text heads", func(a *a) { a.Manifest.Model.Text.Heads = 4 }, artifact.ErrManifest, "multiple of model.text.heads 4"},
		{"a class too few", func(a *a) { a.Manifest.Model.Text.Classes = 2 }, artifact.ErrManifest, "classes has 0 entries, model.text.classes is 2"},
		{"class twice", classes("good", "good"), artifact.ErrManifest, `classes[1] repeats "good"`},
		{"class without name", classes("good", ""), artifact.ErrManifest, "classes[1] is empty"},
		{"class with a newline", classes("go\nod", "bad"), artifact.ErrManifest, "classes[0]"},
		{"too many classes", classes(make([]string, 257)...), artifact.ErrManifest, "model.text.classes is 257"},
		{"too many items", func(a *a) { a.Manifest.Model.Items = 1<<26 + 1 }, artifact.ErrManifest, "model.items"},
		{"event types", func(a *a) { a.Manifest.Model.EventTypes = 2 }, artifact.ErrManifest, "has 3 entries, model.event_types is 2"},
		{"event type twice", func(a *a) { a.Manifest.EventTypes[2].AtLeast = 0.5 }, artifact.ErrManifest, `event_types[2] repeats "rating"`},
		{"event type NaN", func(a *a) { a.Manifest.EventTypes[1].AtLeast = float32(math.NaN()) }, artifact.ErrManifest, "event_types[1].at_least"},
		{"event type without name", func(a *a) { a.Manifest.EventTypes[0].Name = "" }, artifact.ErrManifest, "event_types[0].name"},
		{"max_history", func(a *a) { a.Manifest.Limits.MaxHistory = 0 }, artifact.ErrManifest, "limits.max_history"},
		{"max_k", func(a *a) { a.Manifest.Limits.MaxK = 1<<20 + 1 }, artifact.ErrManifest, "limits.max_k"},
		{"memory_pages", func(a *a) { a.Manifest.Limits.MemoryPages = 1<<16 + 1 }, artifact.ErrManifest, "limits.memory_pages"},
		{"metric infinite", func(a *a) { a.Manifest.Metrics[0].High = math.Inf(1) }, artifact.ErrManifest, "metrics[0].high"},
		{"metric NaN", func(a *a) { a.Manifest.Metrics[0].Value = math.NaN() }, artifact.ErrManifest, "metrics[0].value"},
		{"metric interval", func(a *a) { a.Manifest.Metrics[0].Low = 0.4 }, artifact.ErrManifest, "above high"},
		{"metric count", func(a *a) { a.Manifest.Metrics[0].N = -1 }, artifact.ErrManifest, "metrics[0].n"},
		{"licence", func(a *a) { a.Manifest.Licences[0].Licence = "" }, artifact.ErrManifest, "licences[0].licence"},
		{"licence notice", func(a *a) { a.Manifest.Licences[0].Notice = "\x00" }, artifact.ErrManifest, "licences[0].notice"},
		{"created", func(a *a) { a.Manifest.Created = "yesterday" }, artifact.ErrManifest, "created"},

		{"source without name", func(a *a) { a.Manifest.Provenance.Sources[0].Name = "" }, artifact.ErrManifest, "provenance.sources[0].name"},
		{"short digest", func(a *a) { a.Manifest.Provenance.Sources[0].SHA256 = "00" }, artifact.ErrManifest, "provenance.sources[0].sha256"},
		{"digest in capitals", func(a *a) { a.Manifest.Provenance.Sources[0].SHA256 = strings.Repeat("F", 64) }, artifact.ErrManifest, "0-9 and a-f"},
		{"empty command", func(a *a) { a.Manifest.Provenance.Commands[0] = "" }, artifact.ErrManifest, "provenance.commands[0]"},
		{"command with an escape", func(a *a) { a.Manifest.Provenance.Commands[0] = "\x1b[2J" }, artifact.ErrManifest, "provenance.commands[0]"},
		{"version of Go", func(a *a) { a.Manifest.Provenance.Go = "\n" }, artifact.ErrManifest, "provenance.go"},

		{"no kernel", func(a *a) { a.Kernel = nil }, artifact.ErrContent, "kernel is empty"},
		{"no segments", func(a *a) { a.Segments = nil }, artifact.ErrContent, "no image segment"},
		{"empty segment", func(a *a) { a.Segments[1].Data = nil }, artifact.ErrContent, `"user" is empty`},
		{"segment name", func(a *a) { a.Segments[0].Name = "seventeen-letters" }, artifact.ErrContent, "segment 0"},
		{"segment name twice", func(a *a) { a.Segments[0].Name = "user" }, artifact.ErrContent, `two segments have the name "user"`},
		{"items", func(a *a) { a.Items = a.Items[:2] }, artifact.ErrContent, "2 items"},
		{"item id twice", func(a *a) { a.Items[2].ID = a.Items[0].ID }, artifact.ErrContent, "items 0 and 2"},
		{"item id not UTF-8", func(a *a) { a.Items[2].ID = "\xff" }, artifact.ErrContent, "item 2"},
		{"item title not UTF-8", func(a *a) { a.Items[2].Title = "\xff" }, artifact.ErrContent, `item "3"`},
		{"item category", func(a *a) { a.Items[0].Categories[1] = "" }, artifact.ErrContent, `item "sku-1"`},
		{"no goldens", func(a *a) { a.Goldens = nil }, artifact.ErrContent, "no golden"},
		{"golden request", func(a *a) { a.Goldens[1].Request = nil }, artifact.ErrContent, "golden 1"},
		{"golden answer", func(a *a) { a.Goldens[0].Answer = nil }, artifact.ErrContent, "golden 0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := small()
			c.change(x)
			err := x.Validate()
			if c.want == nil {
				if err != nil {
					t.Fatalf("refused: %v", err)
				}
				if _, err := read(encode(t, x, artifact.WriteOptions{})); err != nil {
					t.Errorf("written but not read: %v", err)
				}
				return
			}
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %v, want %v that says %q", err, c.want, c.says)
			}
		})
	}
}

// classes returns a change to an artefact that sorts texts into some and predicts ratings.
func classes(names ...string) func(*artifact.Artifact) {
	return func(a *artifact.Artifact) {
		a.Manifest.Classes, a.Manifest.Model.Text.Classes, a.Manifest.Model.Ratings = names, len(names), true
	}
}
