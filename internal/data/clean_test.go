package data_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/wisp-project/wisp/internal/data"
)

func TestDuplicatesAndConflicts(t *testing.T) {
	tests := []struct {
		name                  string
		rows                  []string // user::item::rating::time
		duplicates, conflicts int64
		want                  []float32 // of user 1, in order
	}{
		{"nothing", []string{"1::a::5::1", "1::b::5::1", "2::a::5::1"}, 0, 0, []float32{5, 5}},
		{"duplicate", []string{"1::a::5::1", "1::b::4::1", "1::a::5::1"}, 1, 0, []float32{4, 5}},
		{"rated again later", []string{"1::a::5::1", "1::a::3::2"}, 0, 0, []float32{5, 3}},
		{"last wins", []string{"1::a::5::1", "1::a::3::1"}, 0, 1, []float32{3}},
		{"last wins again", []string{"1::a::3::1", "1::a::5::1"}, 0, 1, []float32{5}},
		{"last of three", []string{"1::a::2::1", "1::a::5::1", "1::a::3::1"}, 0, 2, []float32{3}},
		{"both", []string{"1::a::5::1", "1::a::3::1", "1::a::5::1"}, 1, 1, []float32{5}},
		{"ties in file order", []string{"1::b::1::7", "1::a::2::7", "1::c::3::7"}, 0, 0, []float32{1, 2, 3}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m, d := prepare(t, data.Source{Format: "double-colon", Events: put(t, "e", strings.Join(tt.rows, "\n"))}, data.PrepareOptions{})
			if dup, con := m.EventReport.Count("exact duplicate"), m.EventReport.Count("conflicting rating at the same time"); dup != tt.duplicates || con != tt.conflicts {
				t.Errorf("%d duplicates and %d conflicts, want %d and %d", dup, con, tt.duplicates, tt.conflicts)
			}
			var got []float32
			for _, e := range d.Histories[0] {
				got = append(got, e.Value)
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("ratings %v, want %v", got, tt.want)
			}
		})
	}
}

// Clicks at one moment on one item are duplicates; click and rating are not.
func TestKindsDoNotConflict(t *testing.T) {
	m, _ := prepare(t, data.Source{Format: "csv", Events: put(t, "e", "user,item,kind,value,time\n1,a,click,,1\n1,a,click,,1\n1,a,rating,3,1\n")}, data.PrepareOptions{})
	if m.Events != 2 || m.EventReport.Count("exact duplicate") != 1 {
		t.Errorf("report %+v", m.EventReport)
	}
}

func TestBots(t *testing.T) {
	// burst writes n events of one kind, gap seconds apart, for user b, beside
	// one event of user a.
	burst := func(n, gap int, kind string) string {
		s := "user,item,kind,value,time\na,x,click,,5\n"
		for i := range n {
			s += fmt.Sprintf("b,i%d,%s,3,%d\n", i, kind, 1000+i*gap)
		}
		return s
	}
	tests := []struct {
		name string
		csv  string
		opts data.PrepareOptions
		want int64 // events dropped
	}{
		{"at the limit", burst(60, 0, "click"), data.PrepareOptions{}, 0},
		{"over the limit", burst(61, 0, "click"), data.PrepareOptions{}, 61},
		{"over it in 59 s", burst(7, 9, "click"), data.PrepareOptions{BotPerMinute: 6}, 7},
		{"in 60 s", burst(7, 10, "click"), data.PrepareOptions{BotPerMinute: 6}, 0},
		{"off", burst(300, 0, "browse"), data.PrepareOptions{BotPerMinute: -1}, 0},
		{"ratings in bulk", burst(500, 0, "rating"), data.PrepareOptions{}, 0},
		{"too many ratings", burst(501, 0, "rating"), data.PrepareOptions{}, 501},
		{"ratings off", burst(501, 0, "rating"), data.PrepareOptions{RatingsPerMinute: -1}, 0},
		{"ratings do not count", burst(30, 0, "rating") + strings.TrimPrefix(burst(40, 0, "click"), "user,item,kind,value,time\na,x,click,,5\n"), data.PrepareOptions{}, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m, _ := prepare(t, data.Source{Format: "csv", Events: put(t, "e", tt.csv)}, tt.opts)
			if got := m.EventReport.Count("user faster than a person"); got != tt.want {
				t.Errorf("%d events dropped, want %d", got, tt.want)
			}
		})
	}
}

func TestCoreMatchesNaive(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for trial := range 20 {
		type edge struct{ user, item string }
		var edges []edge
		rows := ""
		for i := range 50 + rng.IntN(400) {
			e := edge{fmt.Sprint("u", rng.IntN(40)), fmt.Sprint("i", rng.IntN(60))}
			edges = append(edges, e)
			rows += fmt.Sprintf("%s::%s::%d::%d\n", e.user, e.item, 1+rng.IntN(5), i)
		}
		k := 2 + trial%5
		total := len(edges)
		for {
			users, items := map[string]int{}, map[string]int{}
			for _, e := range edges {
				users[e.user]++
				items[e.item]++
			}
			n := len(edges)
			edges = slices.DeleteFunc(edges, func(e edge) bool { return users[e.user] < k || items[e.item] < k })
			if len(edges) == n {
				break
			}
		}
		src := data.Source{Format: "double-colon", Events: put(t, "e", rows)}
		if len(edges) == 0 {
			_, err := data.Prepare(t.Context(), src, data.PrepareOptions{Core: k}, filepath.Join(t.TempDir(), "o"), nil)
			wantError(t, err, data.ErrEmpty, "outside the k-core")
			continue
		}
		m, d := prepare(t, src, data.PrepareOptions{Core: k, Partitions: 3})
		users, items := map[string]int{}, map[string]int{}
		for _, e := range edges {
			users[e.user]++
			items[e.item]++
		}
		got := map[string]int{}
		for u, h := range d.Histories {
			got[d.Users[u].ID] = len(h)
		}
		if !maps.Equal(got, users) || m.Items != len(items) || m.EventReport.Count("outside the k-core") != int64(total-len(edges)) {
			t.Errorf("core %d: %d users, %d items, %d dropped; want %d, %d, %d", k, m.Users, m.Items,
				m.EventReport.Count("outside the k-core"), len(users), len(items), total-len(edges))
		}
	}
}

// What the core leaves out leaves the catalogue; what nobody touched is cold.
func TestCoreAndColdItems(t *testing.T) {
	m, d := prepare(t, data.Source{
		Format: "double-colon",
		Events: put(t, "e", "1::a::5::1\n1::b::5::2\n2::a::5::1\n2::b::5::2\n2::rare::5::3\n"),
		Items:  put(t, "i", "rare::R::x\nnew::N::x\nb::B::x\nb::Again::x\na::A::x\n"),
	}, data.PrepareOptions{Core: 2})
	var ids []string
	for _, it := range d.Items {
		ids = append(ids, it.ID+it.Title)
	}
	if !slices.Equal(ids, []string{"aA", "bB", "newN"}) || m.Items != 2 || m.ColdItems != 1 {
		t.Errorf("items %v; %d with events, %d cold", ids, m.Items, m.ColdItems)
	}
	if r := m.ItemReport; r.Rows != 5 || r.Kept != 3 || r.Count("id given before") != 1 || r.Count("outside the k-core") != 1 {
		t.Errorf("item report %+v", r)
	}
}

func TestRatingScale(t *testing.T) {
	src := data.Source{Format: "double-colon", Events: put(t, "e", "1::a::0::1\n1::b::5::2\n1::c::10::3\n")}
	m, d := prepare(t, src, data.PrepareOptions{RatingLo: 1, RatingHi: 10})
	if m.Events != 2 || m.EventReport.Count("rating outside the given scale") != 1 || m.RatingLo != 1 || m.RatingHi != 10 {
		t.Errorf("manifest %+v", m)
	}
	if want := data.TypeOf(data.EventTypes(1, 10), data.Rating, 5); d.Histories[0][0].Type != want {
		t.Errorf("type %d, want %d", d.Histories[0][0].Type, want)
	}
	if m, _ = prepare(t, src, data.PrepareOptions{}); m.RatingLo != 0 || m.RatingHi != 10 {
		t.Errorf("scale %g to %g, want that of the data", m.RatingLo, m.RatingHi)
	}
}

// Where all ratings are the same, levels differ all the same and it is the highest.
func TestOneRating(t *testing.T) {
	for _, value := range []string{"1", "0", "-3", "5", "1e30"} {
		m, d := prepare(t, data.Source{Format: "double-colon", Events: put(t, "e", "1::a::"+value+"::1\n1::b::"+value+"::2\n")}, data.PrepareOptions{})
		for i, a := range m.Types {
			if slices.Contains(m.Types[:i], a) {
				t.Errorf("%s: event type %+v twice", value, a)
			}
		}
		if e := d.Histories[0][0]; int(e.Type) != len(m.Types)-1 || !d.Likes(e) {
			t.Errorf("%s is of type %d of %+v", value, e.Type, m.Types)
		}
	}
}
