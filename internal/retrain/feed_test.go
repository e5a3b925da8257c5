package retrain_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/internal/retrain"
)

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// lines are JSON lines of clicks of one user on items, a second apart.
func lines(from int, items ...string) string {
	var b strings.Builder
	for i, it := range items {
		fmt.Fprintf(&b, `{"user":"u","item":%q,"time":%d}`+"\n", it, 1000+from+i)
	}
	return b.String()
}

// read returns the items of what is new.
func read(t *testing.T, path string, from retrain.Cursor) ([]string, *retrain.News) {
	t.Helper()
	items, n, err := tryRead(t.Context(), path, filepath.Join(t.TempDir(), "work"), from)
	if err != nil {
		t.Fatal(err)
	}
	return items, n
}

func tryRead(ctx context.Context, path, work string, from retrain.Cursor) (items []string, n *retrain.News, err error) {
	n, err = retrain.Feed{Source: data.Source{Format: "jsonl", Events: path}}.Read(ctx, from, work, func(e data.Event) string {
		items = append(items, e.Item)
		return ""
	})
	return items, n, err
}

func want(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: read %q, want %q", what, got, want)
	}
}

func TestFeedFolder(t *testing.T) {
	dir := t.TempDir()
	var c retrain.Cursor
	got, _ := read(t, dir, c)
	want(t, "an empty folder", got)

	write(t, filepath.Join(dir, "b"), lines(0, "1", "2"))
	write(t, filepath.Join(dir, "a"), lines(9, "3"))
	write(t, filepath.Join(dir, "c.tmp"), "not there yet")
	write(t, filepath.Join(dir, ".d"), "hidden")
	write(t, filepath.Join(dir, "e"), "")
	got, n := read(t, dir, c)
	want(t, "by name", got, "3", "1", "2")
	if len(n.Inputs) != 3 || n.Report.Rows != 3 || n.Report.Kept != 3 {
		t.Errorf("inputs %v, report %v", n.Inputs, &n.Report)
	}
	c = n.After

	got, n = read(t, dir, c)
	want(t, "nothing new", got)
	if len(n.Inputs) != 0 || len(n.After.Files) != 3 {
		t.Errorf("inputs %v, after %v", n.Inputs, n.After)
	}
	if err := os.Remove(filepath.Join(dir, "b")); err != nil { // it may be put away
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "0"), lines(20, "4"))
	got, n = read(t, dir, c)
	want(t, "a name before those read", got, "4")
	c = n.After

	write(t, filepath.Join(dir, "a"), lines(9, "3", "5"))
	_, _, err := tryRead(t.Context(), dir, "", c)
	if !errors.Is(err, retrain.ErrEvents) || !strings.Contains(err.Error(), "a has") {
		t.Errorf("a file that grew: %v", err)
	}
	skipped, err := retrain.Feed{Source: data.Source{Format: "jsonl", Events: dir}}.Skip(c)
	if err != nil {
		t.Fatal(err)
	}
	got, _ = read(t, dir, skipped)
	want(t, "what was skipped", got)
}

func TestFeedGrowingFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.jsonl")
	whole := lines(0, "1", "2") + `{"user":"u","item":"3",`
	write(t, path, whole)
	got, n := read(t, path, retrain.Cursor{})
	want(t, "whole lines", got, "1", "2")
	c := n.After

	got, n = read(t, path, c)
	want(t, "half a line", got)
	if n.After.Offset != c.Offset {
		t.Errorf("the cursor went from %d to %d", c.Offset, n.After.Offset)
	}
	whole += `"time":1002}` + "\n" + lines(3, "4")
	write(t, path, whole)
	got, n = read(t, path, c)
	want(t, "the rest of it", got, "3", "4")
	if len(n.Inputs) != 1 || !strings.Contains(n.Inputs[0].Name, fmt.Sprintf("from byte %d to %d", c.Offset, len(whole))) {
		t.Errorf("inputs %v", n.Inputs)
	}
	c = n.After

	for name, content := range map[string]string{
		"cut off":  whole[:len(whole)-5],
		"replaced": strings.ReplaceAll(whole, `"2"`, `"9"`) + lines(5, "5"),
	} {
		write(t, path, content)
		if _, _, err := tryRead(t.Context(), path, path+".work", c); !errors.Is(err, retrain.ErrEvents) {
			t.Errorf("%s: %v", name, err)
		}
	}
	write(t, path, whole+"{broken\n{\n")
	_, _, err := tryRead(t.Context(), path, path+".work", c)
	if !errors.Is(err, retrain.ErrEvents) || !strings.Contains(err.Error(), fmt.Sprintf("from byte %d on", len(whole))) {
		t.Errorf("broken: %v", err)
	}
	if _, err := os.Stat(path + ".work"); err == nil {
		t.Error("the copy is left")
	}
	skipped, err := retrain.Feed{Source: data.Source{Format: "jsonl", Events: path}}.Skip(c)
	if err != nil {
		t.Fatal(err)
	}
	write(t, path, whole+"{broken\n{\n"+lines(9, "6"))
	got, _ = read(t, path, skipped)
	want(t, "after what was skipped", got, "6")
}

func TestFeedRefuses(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "events")
	write(t, path, lines(0, "1"))
	_, folder := read(t, dir, retrain.Cursor{})
	_, file := read(t, path, retrain.Cursor{})
	if _, _, err := tryRead(t.Context(), path, "", folder.After); !errors.Is(err, retrain.ErrState) {
		t.Errorf("a file that was a folder: %v", err)
	}
	if _, _, err := tryRead(t.Context(), dir, "", file.After); !errors.Is(err, retrain.ErrState) {
		t.Errorf("a folder that was a file: %v", err)
	}
	if _, _, err := tryRead(t.Context(), filepath.Join(dir, "absent"), "", retrain.Cursor{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	_, err := retrain.Feed{Source: data.Source{Format: "csv", Events: path}}.Read(t.Context(), retrain.Cursor{}, "", nil)
	if !errors.Is(err, retrain.ErrOptions) {
		t.Errorf("a growing table: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := tryRead(ctx, dir, "", retrain.Cursor{}); !errors.Is(err, context.Canceled) || errors.Is(err, retrain.ErrEvents) {
		t.Errorf("interrupted: %v", err)
	}
}
