package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/internal/results"
)

// madeGames writes a folder like the shared one: users who go round a catalogue.
func madeGames(t *testing.T) string {
	t.Helper()
	shared := t.TempDir()
	dir := filepath.Join(shared, "data", "games")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	const users, items, events = 40, 30, 7
	inter, catalogue := "user_id:token\titem_id_list:token_seq\titem_id:token\n", "item_id:token\ttitle:token_seq\n"
	for i := range items {
		catalogue += fmt.Sprintf("%d\tGame %d\n", i, i)
	}
	for u := range users {
		var history []string
		for i := range events {
			history = append(history, fmt.Sprint((u+i)%items))
		}
		inter += fmt.Sprintf("%d\t%s\t%d\n", u, strings.Join(history, " "), (u+events)%items)
	}
	put(t, filepath.Join(dir, "Games-6k.test.inter"), []byte(inter))
	put(t, filepath.Join(dir, "Games-6k.item"), []byte(catalogue))
	return shared
}

func TestGames(t *testing.T) {
	b := bench{shared: madeGames(t), work: t.TempDir(), docs: t.TempDir(), seeds: 3, p: &progress{w: io.Discard}}
	peer := results.Record{Name: "quality.games.sasrec-pytorch.ndcg10", Value: 0.5, Low: 0.5, High: 0.5, N: 1}
	text, err := json.Marshal([]results.Record{peer})
	if err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(b.docs, "peers-games.json"), text)
	topic, err := b.games(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	values := valuesOf(t, topic.Records)
	for _, stage := range []string{"popularity", "itemknn", "itemknn-recency", "markov", "ids-teacher", "single-teacher", "best-teacher"} {
		if v, ok := values["quality.games."+stage+".ndcg10"]; !ok || v < 0 || v > 1 {
			t.Errorf("%s: %v (there: %v)", stage, v, ok)
		}
	}
	// The next item has followed that of the history for most users.
	if v := values["quality.games.markov.ndcg10"]; v < 0.5 {
		t.Errorf("Markov reaches %.3f", v)
	}
	for _, stage := range []string{"single", "best"} {
		name := "quality.games." + stage + "-teacher.ndcg10"
		if got, want := values[name+"-ratio-to-pytorch"], values[name]/0.5; math.Abs(got-want) > 1e-12 {
			t.Errorf("%s: ratio %v, want %v", stage, got, want)
		}
	}
}

func TestSequencesHaveNoTimes(t *testing.T) {
	games := filepath.Join(madeGames(t), "data", "games")
	out := filepath.Join(t.TempDir(), "prepared")
	said := succeed(t, "prepare", "--format", "sequences", "--events", filepath.Join(games, "Games-6k.test.inter"), "--items", filepath.Join(games, "Games-6k.item"), "--out", out)
	if !strings.Contains(said, "40 users, 30 items (0 more without events), 320 events") {
		t.Errorf("said %q", said)
	}
	fail(t, []string{"prepared", "no times", leaveOneOut}, "eval", "--data", out, "--split", byTime)
}

func TestSpread(t *testing.T) {
	for _, test := range []struct {
		n, most int
		want    string
	}{{0, 3, "[]"}, {3, 3, "[0 1 2]"}, {4, 3, "[0 2]"}, {10, 3, "[0 4 8]"}} {
		cases := make([]data.Case, test.n)
		for i := range cases {
			cases[i].User = int32(i)
		}
		got := []int32{}
		for _, c := range spread(cases, test.most) {
			got = append(got, c.User)
		}
		if fmt.Sprint(got) != test.want {
			t.Errorf("%d of %d: %v, want %s", test.most, test.n, got, test.want)
		}
	}
}
