package hostgpu_test

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/wisp-project/wisp/hostgpu"
	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/internal/tokenize"
	"github.com/wisp-project/wisp/model"
)

// The whole of a small task: what is asked, with which text, and what is left
// out.
func TestProfileTask(t *testing.T) {
	tok, err := tokenize.New(strings.Fields("[PAD] [UNK] [CLS] [SEP] [MASK] . : ; recently liked red blue tin old tea"), tokenize.Options{})
	if err != nil {
		t.Fatal(err)
	}
	words := func(ids []int32) string { return tok.Decode(ids) }
	c := model.TextConfig{Vocabulary: tok.Size(), Positions: 32, MaxTokens: 10}
	at := func(items ...int32) (h []data.Interaction) {
		for i, item := range items {
			h = append(h, data.Interaction{Item: item, Type: 1, Time: int64(i)})
		}
		return h
	}
	ds := &data.Dataset{
		Types:     data.EventTypes(1, 5),
		Items:     []data.Item{{ID: "a", Title: "red"}, {ID: "b", Title: "blue"}, {ID: "c"}, {ID: "d", Title: "tin"}, {ID: "e", Title: "old"}},
		Users:     []data.User{{ID: "u", Description: "tea"}, {ID: "v"}, {ID: "w"}},
		Histories: [][]data.Interaction{at(0, 1, 2, 3), at(4, 0), at(1, 3, 0, 2, 4)},
	}
	// The first user trains on the first two events, and so does the third, of
	// whom nothing is known before the first; the second trains whole.
	task, err := hostgpu.NewProfileTask(ds, data.LeaveOneOut(ds, 4), tok, c, hostgpu.ProfileTaskOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := words(task.Items[0]), "red."; got != want || task.Items[2] != nil {
		t.Errorf("items %q and %v, want %q and nil", got, task.Items[2], want)
	}
	pairs := func(task hostgpu.TextTask, epoch int) (all []string) {
		ps, err := task.Pairs(epoch)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range ps {
			all = append(all, words(p.Query)+" > "+ds.Items[p.Item].ID)
		}
		return all
	}
	want := []string{
		"recently liked : tin ; blue. > a", "recently liked : blue. > d", "recently liked : old. > a",
		"tea. > a", "tea. recently liked : red. > b",
	}
	slices.Sort(want)
	first, second := pairs(task, 0), pairs(task, 1)
	if slices.Equal(first, second) || !slices.Equal(first, pairs(task, 0)) {
		t.Errorf("epochs are in the order %q and %q; the first comes again as %q", first, second, pairs(task, 0))
	}
	for _, got := range [][]string{first, second} {
		if slices.Sort(got); !slices.Equal(got, want) {
			t.Errorf("pairs %q, want %q", got, want)
		}
	}
	var cases []string
	for _, v := range task.Valid {
		var seen []string
		for _, item := range v.Seen {
			seen = append(seen, ds.Items[item].ID)
		}
		cases = append(cases, fmt.Sprintf("%s > %s, not %v", words(v.Query), ds.Items[v.Item].ID, seen))
	}
	slices.Sort(cases)
	// Texts are cut to ten tokens, two of which are special.
	if want := []string{"recently liked : red ; tin ; blue > c, not [b d a]", "tea. recently liked : blue ; red > c, not [a b]"}; !slices.Equal(cases, want) {
		t.Errorf("cases %q, want %q", cases, want)
	}

	fewer, err := hostgpu.NewProfileTask(ds, data.LeaveOneOut(ds, 4), tok, c, hostgpu.ProfileTaskOptions{MaxPairs: 2, MaxCases: 1, MaxTokens: 4, Seed: 3})
	if err != nil {
		t.Fatal(err)
	}
	drawn := map[string]bool{}
	for epoch := range 30 {
		ps := pairs(fewer, epoch)
		if len(ps) != 2 || ps[0] == ps[1] && ps[0] != "recently liked > a" {
			t.Fatalf("epoch %d: pairs %q, want two", epoch, ps)
		}
		for _, p := range ps {
			drawn[p] = true
		}
	}
	if len(drawn) != 4 { // two are the same once they are cut
		t.Errorf("over the epochs, the pairs were %v", drawn)
	}
	if len(fewer.Valid) != 1 {
		t.Errorf("%d cases, want 1", len(fewer.Valid))
	}
	all, err := hostgpu.NewProfileTask(ds, data.LeaveOneOut(ds, 4), tok, c, hostgpu.ProfileTaskOptions{MaxPairs: -1, MaxCases: -1})
	if err != nil || !reflect.DeepEqual(pairs(all, 0), pairs(task, 0)) || len(all.Valid) != 2 {
		t.Errorf("without limits: %v", err)
	}
}

func TestProfileTaskRefuses(t *testing.T) {
	ds, tok := tastes(t)
	m := tasteModel(t, tok)
	split := data.LeaveOneOut(ds, 3)
	bare := *ds
	bare.Items = make([]data.Item, len(ds.Items))
	odd, err := data.NewProfileText(`{{if .Liked}}{{index .Liked 1}}{{end}}`, 0)
	if err != nil {
		t.Fatal(err)
	}
	smaller := m.Config
	smaller.Vocabulary--
	for name, test := range map[string]struct {
		ds   *data.Dataset
		c    model.TextConfig
		o    hostgpu.ProfileTaskOptions
		want error
	}{
		"too long":          {ds, m.Config, hostgpu.ProfileTaskOptions{MaxTokens: 33}, hostgpu.ErrOptions},
		"too short":         {ds, m.Config, hostgpu.ProfileTaskOptions{MaxTokens: 2}, hostgpu.ErrOptions},
		"no texts":          {&bare, m.Config, hostgpu.ProfileTaskOptions{}, hostgpu.ErrData},
		"another tokenizer": {ds, smaller, hostgpu.ProfileTaskOptions{}, tokenize.ErrVocab},
	} {
		if _, err := hostgpu.NewProfileTask(test.ds, split, tok, test.c, test.o); !errors.Is(err, test.want) {
			t.Errorf("%s: error %v, want %v", name, err, test.want)
		}
	}
	// What a template cannot render shows when the pair is drawn.
	task, err := hostgpu.NewProfileTask(ds, &data.Split{Train: split.Train}, tok, m.Config, hostgpu.ProfileTaskOptions{Profile: odd})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := task.Pairs(0); !errors.Is(err, data.ErrOptions) {
		t.Errorf("error %v, want data.ErrOptions", err)
	}
}
