package report_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/wisp-project/wisp/internal/eval"
	"github.com/wisp-project/wisp/quantize"
	"github.com/wisp-project/wisp/quantize/report"
)

func read(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func html(t *testing.T, r *report.Report) string {
	t.Helper()
	r.Plan()
	b, err := r.HTML()
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestPageGolden compares the page of the made data, with fixed times, with the one
// that was looked at.
func TestPageGolden(t *testing.T) {
	got, path := html(t, made(t)), filepath.Join("testdata", "made.html")
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want := string(read(t, "made.html"))
	if got == want {
		return
	}
	a, b := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			t.Fatalf("line %d of the page is\n%s\nwant\n%s\n(UPDATE_GOLDEN=1 rewrites it; look at it in a browser)", i+1, a[i], b[i])
		}
	}
	t.Fatalf("the page has %d lines, want %d", len(a), len(b))
}

// full is a report with everything that one can have: odd names, two students, an
// encoder, an update.
func full(t *testing.T) *report.Report {
	t.Helper()
	r := made(t)
	student := r.Models[0]
	student.Kind, student.Name = report.KindStudent, `<script>alert("x")</script> & co`
	student.Quality.Retention = &eval.Interval{Value: 0.97, Low: 0.9, High: 1.02}
	student.Quality.Ahead = &eval.Difference{Interval: eval.Interval{Value: -0.01, Low: -0.02, High: 0.001}, P: 0.06}
	r.Models[0].Text = &report.Text{Tokens: 12, MACs: quantize.MACs{Linear: 1e8}, Total: 1e8}
	second := r.Models[1]
	second.Name = "a name that is much longer than there is room for.wisp"
	second.DiskBytes *= 3
	second.Network = &report.Network{
		Sections: r.Models[1].Network.Sections,
		Updates:  append(r.Models[1].Network.Updates, report.Update{What: "from old.wisp", Bytes: 4000, Sections: []string{"user"}}),
	}
	r.Models = []report.Model{r.Models[0], student, r.Models[1], second}
	return r
}

// bare has only a teacher that nothing was timed of.
func bare(t *testing.T) *report.Report {
	t.Helper()
	r := made(t)
	r.Models = r.Models[:1]
	r.Models[0].Speed = report.Speed{}
	r.Notes = nil
	return r
}

var void = regexp.MustCompile(`<(meta|br|hr)\b([^>]*)>`)

// tokens parses a page strictly, as XML once void elements are closed: every tag is
// closed where it should be, and every text escaped.
func tokens(t *testing.T, page string) []xml.Token {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(void.ReplaceAllString(page, "<$1$2/>")))
	d.Entity = xml.HTMLEntity
	var all []xml.Token
	for {
		tok, err := d.Token()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			line, _ := d.InputPos()
			t.Fatalf("the page is not well formed at line %d: %v", line, err)
		}
		all = append(all, xml.CopyToken(tok))
	}
}

func TestPageIsWellFormedAndSelfContained(t *testing.T) {
	for name, r := range map[string]*report.Report{"made": made(t), "full": full(t), "bare": bare(t)} {
		t.Run(name, func(t *testing.T) {
			page := html(t, r)
			seen := map[string]int{}
			for _, tok := range tokens(t, page) {
				start, ok := tok.(xml.StartElement)
				if !ok {
					continue
				}
				seen[start.Name.Local]++
				for _, a := range start.Attr {
					switch strings.ToLower(a.Name.Local) {
					case "href", "src", "srcset", "data", "action", "poster":
						t.Errorf("<%s %s=%q> refers to something", start.Name.Local, a.Name.Local, a.Value)
					}
					if strings.HasPrefix(a.Name.Local, "on") {
						t.Errorf("<%s> has a handler", start.Name.Local)
					}
				}
			}
			for _, tag := range []string{"script", "link", "img", "iframe", "object", "embed", "base", "form"} {
				if seen[tag] > 0 {
					t.Errorf("the page has a <%s>", tag)
				}
			}
			if seen["html"] != 1 || seen["h1"] != 1 || seen["svg"] < 3 {
				t.Errorf("elements %v", seen)
			}
			for _, bad := range []string{"http:", "https:", "//", "url(", "@import", "NaN", "Inf", "%!", "<nil>", "ZgotmplZ"} {
				if strings.Contains(page, bad) {
					t.Errorf("the page contains %q", bad)
				}
			}
		})
	}
}

func TestPageSays(t *testing.T) {
	page := html(t, full(t))
	for _, want := range []string{"&lt;script&gt;alert", "Language model, 7 B", "BERT-base", "the visitor's browser", "from old.wisp", "of 12 tokens", "97", "misses", "prefers-color-scheme: dark", "@media print", "max-width: 720px"} {
		if !strings.Contains(strings.ReplaceAll(page, "&#39;", "'"), want) {
			t.Errorf("the page does not say %q", want)
		}
	}
}

func TestReportRoundTrip(t *testing.T) {
	for name, r := range map[string]*report.Report{"full": full(t), "bare": bare(t)} {
		r.Plan()
		b, err := r.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		again, err := report.Unmarshal("r.json", b)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(again, r) {
			t.Errorf("%s: it changed on the way", name)
		}
		c, err := again.Marshal()
		if err != nil || !bytes.Equal(b, c) {
			t.Errorf("%s: the JSON changed on the way (%v)", name, err)
		}
	}
}

func TestUnmarshalRefuses(t *testing.T) {
	good := string(read(t, "made.json"))
	for name, content := range map[string]string{
		"no JSON":      "{",
		"other format": strings.Replace(good, report.Format, "wisp-report/0", 1),
		"no teacher":   `{"format":"wisp-report/1"}`,
		"bad prices":   strings.Replace(good, `"percentile": 99`, `"percentile": 200`, 1),
	} {
		if _, err := report.Unmarshal("r.json", []byte(content)); !errors.Is(err, report.ErrReport) || !strings.Contains(err.Error(), "r.json") {
			t.Errorf("%s: %v", name, err)
		}
	}
	r := made(t)
	r.Models[0].Speed.Latency.P50 = math.NaN()
	if _, err := r.Marshal(); !errors.Is(err, report.ErrReport) {
		t.Errorf("a NaN: %v", err)
	}
}

// Every name of the JSON is described in REPORT.md.
func TestSchemaIsDescribed(t *testing.T) {
	text, err := os.ReadFile("REPORT.md")
	if err != nil {
		t.Fatal(err)
	}
	r := full(t)
	r.Plan()
	b, err := r.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	var value any
	if err := json.Unmarshal(b, &value); err != nil {
		t.Fatal(err)
	}
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			for name, inner := range v {
				if !bytes.Contains(text, []byte("`"+name+"`")) {
					t.Errorf("REPORT.md does not describe %q", name)
				}
				walk(inner)
			}
		case []any:
			for _, inner := range v {
				walk(inner)
			}
		}
	}
	walk(value)
}
