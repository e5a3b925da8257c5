package baseline_test

import (
	"cmp"
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/wisp-project/wisp/internal/baseline"
	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/internal/eval"
)

// shared is where public data sets lie beside the repository.
const shared = "../../../shared/data"

// TestReferenceFigures compares every baseline with an independent
// implementation, on the same files, with the same protocol: leave-one-out over
// users with at least five events, the whole catalogue ranked.
func TestReferenceFigures(t *testing.T) {
	if testing.Short() {
		t.Skip("fits every baseline on two public data sets")
	}
	type figures struct{ ndcg, hitRate float64 }
	for _, set := range []struct {
		name, file, separator string
		minEvents             int // of users and items, the others are dropped
		want                  map[string]figures
	}{
		{"ml-100k", "ml-100k/ml-100k.inter", "\t", 0, map[string]figures{
			"popularity":      {0.0450, 0.0859},
			"itemknn":         {0.0563, 0.1092},
			"itemknn-recency": {0.0920, 0.1644},
			"ease":            {0.0737, 0.1453},
			"ease-recency":    {0.1099, 0.2036},
			"markov":          {0.1048, 0.2004},
		}},
		{"movietweetings", "movietweetings/ratings.dat", "::", 5, map[string]figures{
			"popularity":      {0.0868, 0.1590},
			"itemknn":         {0.1145, 0.2098},
			"itemknn-recency": {0.1302, 0.2296},
			"ease":            {0.1124, 0.2118},
			"ease-recency":    {0.1299, 0.2378},
			"markov":          {0.1498, 0.2650},
		}},
	} {
		t.Run(set.name, func(t *testing.T) {
			d := readEvents(t, filepath.Join(shared, set.file), set.separator, set.minEvents)
			cases := data.LeaveOneOut(d, 5).Test
			histories := make([][]data.Interaction, len(cases))
			popularity := make([]int64, len(d.Items))
			for i, c := range cases {
				histories[i] = c.History
				for _, e := range c.History {
					popularity[e.Item]++
				}
			}
			scorers := all(t, histories, len(d.Items))
			if len(scorers) != len(set.want) {
				t.Fatalf("%d scorers for %d reference figures", len(scorers), len(set.want))
			}
			for _, s := range scorers {
				r, err := eval.Run(t.Context(), s, len(d.Items), cases, popularity, eval.Options{}, nil)
				if err != nil {
					t.Fatal(err)
				}
				got, want := r.Accuracy, set.want[s.Name()]
				t.Logf("%-16s NDCG@10 %.4f HR@10 %.4f coverage %.3f", s.Name(), got.NDCG, got.HitRate, r.Coverage)
				if math.Abs(got.NDCG-want.ndcg) > 0.0005 || math.Abs(got.HitRate-want.hitRate) > 0.001 {
					t.Errorf("%s: NDCG@10 %.4f HR@10 %.4f; want %.4f and %.4f", s.Name(), got.NDCG, got.HitRate, want.ndcg, want.hitRate)
				}
			}
		})
	}
}

// all fits every baseline that reads histories.
func all(t *testing.T, histories [][]data.Interaction, items int) []eval.Scorer {
	t.Helper()
	popularity, err := baseline.NewPopularity(histories, items)
	must(t, err)
	knn, err := baseline.NewItemKNN(histories, items, baseline.ItemKNNOptions{})
	must(t, err)
	recent, err := baseline.NewItemKNN(histories, items, baseline.ItemKNNOptions{Recency: true})
	must(t, err)
	ease, err := baseline.NewEASE(histories, items, baseline.EASEOptions{})
	must(t, err)
	markov, err := baseline.NewMarkov(histories, items)
	must(t, err)
	return []eval.Scorer{popularity, knn, recent, ease, ease.WithRecency(true), markov}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// readEvents reads rows of user, item, rating and time, and keeps users and items
// of at least minEvents events until all others are gone.
func readEvents(t *testing.T, path, separator string, minEvents int) *data.Dataset {
	t.Helper()
	file, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		t.Skipf("no public data beside the repository: %v", err)
	}
	must(t, err)
	type row struct {
		user, item string
		time       int64
	}
	var rows []row
	for line := range strings.Lines(string(file)) {
		f := strings.Split(strings.TrimSpace(line), separator)
		if len(f) < 4 {
			t.Fatalf("%s: row %q", path, line)
		}
		if seconds, err := strconv.ParseFloat(f[3], 64); err == nil { // else the header
			rows = append(rows, row{f[0], f[1], int64(seconds)})
		}
	}
	for before := -1; before != len(rows); {
		before = len(rows)
		users, items := map[string]int{}, map[string]int{}
		for _, r := range rows {
			users[r.user]++
			items[r.item]++
		}
		rows = slices.DeleteFunc(rows, func(r row) bool { return users[r.user] < minEvents || items[r.item] < minEvents })
	}
	d := new(data.Dataset)
	users, items := map[string]int{}, map[string]int{}
	for _, r := range rows {
		if _, ok := users[r.user]; !ok {
			users[r.user] = len(d.Users)
			d.Users = append(d.Users, data.User{ID: r.user})
			d.Histories = append(d.Histories, nil)
		}
		if _, ok := items[r.item]; !ok {
			items[r.item] = len(d.Items)
			d.Items = append(d.Items, data.Item{ID: r.item})
		}
		u := users[r.user]
		d.Histories[u] = append(d.Histories[u], data.Interaction{Item: int32(items[r.item]), Time: r.time})
	}
	for _, h := range d.Histories {
		slices.SortStableFunc(h, func(a, b data.Interaction) int { return cmp.Compare(a.Time, b.Time) })
	}
	return d
}
