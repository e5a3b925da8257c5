package data_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/wisp-project/wisp/internal/data"
)

const sequenceHead = "user_id:token\titem_id_list:token_seq\titem_id:token\n"

// asked returns a case as a row of a sequential file.
func asked(d *data.Dataset, c data.Case) string {
	history := make([]string, len(c.History))
	for i, e := range c.History {
		history[i] = d.Items[e.Item].ID
	}
	return d.Users[c.User].ID + "\t" + strings.Join(history, " ") + "\t" + d.Items[c.Target.Item].ID
}

func TestSequences(t *testing.T) {
	const test = "7\ta b c d\te\n8\tf b\ta\n9\te a c b f\td\n"
	src := data.Source{
		Format: "sequences", Events: put(t, "e.inter", sequenceHead+test),
		Items: put(t, "e.item", "item_id:token\ttitle:token_seq\nb\tThe B\ng\tThe G\n"),
	}
	m, d := prepare(t, src, data.PrepareOptions{})
	if m.Users != 3 || m.Items != 6 || m.ColdItems != 1 || m.Events != 14 || m.EventReport.Rows != 14 || !m.OrderOnly || !d.OrderOnly {
		t.Errorf("manifest %+v", m)
	}
	var ids []string
	for _, item := range d.Items {
		ids = append(ids, item.ID)
	}
	if got := strings.Join(ids, " "); got != "a b c d e f g" || d.Items[1].Title != "The B" {
		t.Errorf("items %s, want the order of the file; %+v", got, d.Items[1])
	}
	for u, h := range d.Histories {
		for i, gap := range data.Gaps(h) {
			if i > 0 && gap != data.Gaps(d.Histories[0])[1] {
				t.Errorf("user %d: gap %d is %d s, want the same everywhere", u, i, gap)
			}
			if h[i].Type != data.TypeOf(d.Types, data.Click, 0) || h[i].Value != 0 {
				t.Errorf("user %d: event %d is %+v, want a click", u, i, h[i])
			}
		}
	}
	s := data.LeaveOneOut(d, 3)
	var valid, again string
	for i := range s.Test {
		valid, again = valid+asked(d, s.Valid[i])+"\n", again+asked(d, s.Test[i])+"\n"
	}
	if want := "7\ta b c\td\n8\tf\tb\n9\te a c b\tf\n"; again != test || valid != want {
		t.Errorf("test\n%s, want\n%svalidation\n%s, want\n%s", again, test, valid, want)
	}
}

// A long sequence is no bot's, however many clicks it has, and an item may come
// again.
func TestLongSequence(t *testing.T) {
	src := data.Source{
		Format: "sequences", Events: put(t, "e.inter", sequenceHead+"u\t"+strings.Repeat("a b ", 5000)+"\ta\n"),
		Mapping: data.Mapping{DefaultKind: "favourite"},
	}
	m, d := prepare(t, src, data.PrepareOptions{})
	if m.Events != 10001 || m.Items != 2 || d.Histories[0][0].Type != data.TypeOf(d.Types, data.Favourite, 0) {
		t.Errorf("manifest %+v", m)
	}
}

func TestBrokenSequences(t *testing.T) {
	for name, test := range map[string]struct {
		rows, kind string
		target     error
		words      []string
	}{
		"windows":      {"1\ta b\tc\n1\ta b c\td\n", "", data.ErrSource, []string{"e.inter:3", `user "1" had a row before`, "one row for each user"}},
		"no target":    {"1\ta b\n2\tb c\n", "", data.ErrSource, []string{"e.inter:2", "2, expected 3"}},
		"no user":      {"\ta b\tc\n", "", data.ErrSource, []string{"e.inter:2", "the user is empty"}},
		"empty target": {"1\t\t\n", "", data.ErrSource, []string{"e.inter:2", "the item is empty"}},
		"ratings":      {"1\ta b\tc\n", "rating", data.ErrOptions, []string{"sequences have no ratings"}},
	} {
		t.Run(name, func(t *testing.T) {
			src := data.Source{Format: "sequences", Events: put(t, "e.inter", sequenceHead+test.rows), Mapping: data.Mapping{DefaultKind: test.kind}}
			_, err := data.Prepare(t.Context(), src, data.PrepareOptions{}, filepath.Join(t.TempDir(), "out"), nil)
			wantError(t, err, test.target, test.words...)
		})
	}
	src := data.Source{Format: "sequences", Events: put(t, "e.inter", "user_id:token\titem_id:token\n1\ta\n")}
	_, err := data.Prepare(t.Context(), src, data.PrepareOptions{}, filepath.Join(t.TempDir(), "out"), nil)
	wantError(t, err, data.ErrSource, "e.inter:1", "item_id_list")
}

// The split of the prepared games is that of its own files: the test file holds
// the validation file.
func TestGames(t *testing.T) {
	dir := filepath.Join("..", "..", "..", "shared", "data", "games")
	want := map[string][]string{}
	for _, part := range []string{"valid", "test"} {
		b, err := os.ReadFile(filepath.Join(dir, "Games-6k."+part+".inter"))
		if err != nil {
			t.Skipf("no games: %v", err)
		}
		want[part] = strings.Split(strings.TrimSpace(string(b)), "\n")[1:]
	}
	m, d := prepare(t, data.Source{
		Format: "sequences", Events: filepath.Join(dir, "Games-6k.test.inter"), Items: filepath.Join(dir, "Games-6k.item"),
	}, data.PrepareOptions{})
	if m.Users != 50546 || m.Items != 16859 || m.ColdItems != 0 || m.Events != 440264 {
		t.Errorf("%d users, %d items, %d cold, %d events", m.Users, m.Items, m.ColdItems, m.Events)
	}
	s := data.LeaveOneOut(d, 5)
	for part, cases := range map[string][]data.Case{"valid": s.Valid, "test": s.Test} {
		var got []string
		for _, c := range cases {
			got = append(got, asked(d, c))
		}
		if !slices.Equal(got, want[part]) {
			t.Errorf("%s: %d cases that differ from the %d rows of the file", part, len(got), len(want[part]))
		}
	}
}
