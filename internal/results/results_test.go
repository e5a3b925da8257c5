package results_test

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/wisp-project/wisp/internal/results"
)

func TestWriteRead(t *testing.T) {
	dir := t.TempDir()
	records := []results.Record{
		{Name: "quality.a.b.ndcg10", Value: 0.123456, Low: 0.1, High: 0.15, N: 943, Unit: "", Command: "make results", Commit: "abc", Machine: "two cores"},
		{Name: "size.a.bytes", Value: 1234567, Low: 1234567, High: 1234567, N: 1, Unit: "bytes"},
	}
	topic := results.Topic{Name: "t", Title: "Things", Text: "About things.", Records: records}
	if err := topic.Write(dir); err != nil {
		t.Fatal(err)
	}
	got, err := results.Read(dir, "t")
	if err != nil || !reflect.DeepEqual(got, records) {
		t.Errorf("read %+v (%v), want %+v", got, err, records)
	}
	md, err := os.ReadFile(filepath.Join(dir, "t.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"# Things\n", "| `quality.a.b.ndcg10` | 0.1235 | 0.1 – 0.15 |", "| `size.a.bytes` | 1234567 |  | bytes |", "`make results` at commit abc on two cores"} {
		if !strings.Contains(string(md), want) {
			t.Errorf("no %q in\n%s", want, md)
		}
	}
	if got, err := results.Read(dir, "absent"); got != nil || err != nil {
		t.Errorf("absent topic: %v, %v", got, err)
	}
}

func TestKeep(t *testing.T) {
	older := []results.Record{
		{Name: "quality.films.x.ndcg10", Command: "c", Commit: "old", Machine: "m"},
		{Name: "quality.films-2.x.ndcg10", Command: "c", Commit: "old", Machine: "m"},
		{Name: "quality.shop.x.ndcg10", Command: "c", Commit: "old", Machine: "m"},
		{Name: "speed.guest.p50-us", Command: "c", Commit: "old", Machine: "m"},
	}
	topic := results.Topic{Name: "t", Records: []results.Record{
		{Name: "speed.guest.p50-us", Value: 1, Command: "c", Commit: "new", Machine: "m"},
		{Name: "quality.films.x.ndcg10", Value: 1, Command: "c", Commit: "new", Machine: "m"},
	}}
	topic.Keep(older, []string{"films"})
	var names []string
	for _, r := range topic.Records {
		names = append(names, r.Commit+" "+r.Name)
	}
	if want := []string{"old quality.films-2.x.ndcg10", "old quality.shop.x.ndcg10", "new speed.guest.p50-us", "new quality.films.x.ndcg10"}; !reflect.DeepEqual(names, want) {
		t.Errorf("kept %q, want %q", names, want)
	}
	dir := t.TempDir()
	if err := topic.Write(dir); err != nil {
		t.Fatal(err)
	}
	md, err := os.ReadFile(filepath.Join(dir, "t.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"- Made by `c` at commit old on m: films-2, shop.\n", "- Made by `c` at commit new on m: guest, films.\n"} {
		if !strings.Contains(string(md), want) {
			t.Errorf("no %q in\n%s", want, md)
		}
	}
}

func TestWriteRefuses(t *testing.T) {
	dir := t.TempDir()
	good := results.Topic{Name: "t", Records: []results.Record{{Name: "a"}}}
	if err := good.Write(dir); err != nil {
		t.Fatal(err)
	}
	for name, records := range map[string][]results.Record{
		"no name": {{}},
		"space":   {{Name: "a b"}},
		"twice":   {{Name: "a"}, {Name: "a"}},
		"nan":     {{Name: "a", Value: math.NaN()}},
	} {
		bad := results.Topic{Name: "t", Records: records}
		if err := bad.Write(dir); !errors.Is(err, results.ErrRecord) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if got, err := results.Read(dir, "t"); err != nil || len(got) != 1 {
		t.Errorf("the page before is damaged: %v, %v", got, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "t.json"), []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := results.Read(dir, "t"); !errors.Is(err, results.ErrRecord) {
		t.Errorf("a damaged page: %v", err)
	}
}
