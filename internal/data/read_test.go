package data_test

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"

	"github.com/wisp-project/wisp/internal/data"
)

type pqEvent struct {
	User  int64    `parquet:"user"`
	Item  string   `parquet:"item"`
	Kind  string   `parquet:"kind"`
	Value *float64 `parquet:"value,optional"`
	Time  int64    `parquet:"time"`
}

type pqItem struct {
	ID         string            `parquet:"id"`
	Title      string            `parquet:"title"`
	Text       string            `parquet:"text"`
	Categories []string          `parquet:"categories,list"`
	Attributes map[string]string `parquet:"attributes"`
}

type pqUser struct {
	ID          string `parquet:"id"`
	Description string `parquet:"description"`
	Age         int32  `parquet:"age"`
}

func putParquet[T any](t *testing.T, rows []T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file.parquet")
	if err := parquet.WriteFile(path, rows); err != nil {
		t.Fatal(err)
	}
	return path
}

func ptr(x float64) *float64 { return &x }

// The same data in every format.
func TestFormats(t *testing.T) {
	sources := map[string]data.Source{
		"recbole": {
			Format: "recbole",
			Events: put(t, "e.inter", "user_id:token\titem_id:token\trating:float\ttimestamp:float\n7\ta\t4.5\t100\n7\tb\t1\t9.0e1\n8\ta\t2\t50\n"),
			Items:  put(t, "e.item", "item_id:token\tfilm_title:token_seq\tmaker:token\tclass:token_seq\toverview:token_seq\nb\tThe B\tM\tx y\tA text.\nc\tThe C\t\ty\t\n"),
			Users:  put(t, "e.user", "user_id:token\tage:token\tdescription:token_seq\n7\t30\tLikes x.\n9\t1\t\n"),
		},
		"double-colon": {
			Format: "double-colon",
			Events: put(t, "e.dat", "7::a::4.5::100\r\n7::b::1::90\r\n\r\n8::a::2::50"),
			Items:  put(t, "i.dat", "b::The B::x|y\nc::The C::y\n"),
		},
		"csv": {
			Format: "csv",
			Events: put(t, "e.csv", "\ufeffwho,what,stars,when\n7,a,4.5,1970-01-01 00:01:40\n7,b,1,1970-01-01 00:01:30\n8,\"a\",2,1970-01-01 00:00:50\n"),
			Items:  put(t, "i.csv", "sku,name,maker,kinds,text\nb,The B,M,x / y,A text.\nc,The C,,y,\n"),
			Users:  put(t, "u.csv", "who,age,description\n7,30,Likes x.\n"),
			Mapping: data.Mapping{
				User: "who", Item: "what", Value: "stars", Time: "when", TimeLayout: "2006-01-02 15:04:05",
				ID: "sku", Title: "name", Categories: "kinds", CategorySeparator: "/",
			},
		},
		"jsonl": {
			Format: "jsonl",
			Events: put(t, "e.jsonl", `{"user":"7","item":"a","kind":"rating","value":4.5,"time":100}
{"user":"7","item":"b","value":1,"time":90}
{"user":"8","item":"a","value":2,"time":50}
`),
			Items: put(t, "i.jsonl", `{"id":"b","title":"The B","text":"A text.","categories":["x","y"],"attributes":{"maker":"M"}}
{"id":"c","title":"The C","categories":["y"]}
`),
			Users: put(t, "u.jsonl", `{"id":"7","description":"Likes x.","attributes":{"age":"30"}}
`),
		},
		"parquet": {
			Format: "parquet",
			Events: putParquet(t, []pqEvent{{7, "a", "rating", ptr(4.5), 100}, {7, "b", "rating", ptr(1), 90}, {8, "a", "rating", ptr(2), 50}}),
			Items: putParquet(t, []pqItem{
				{"b", "The B", "A text.", []string{"x", "y"}, map[string]string{"maker": "M"}},
				{"c", "The C", "", []string{"y"}, nil},
			}),
			Users: putParquet(t, []pqUser{{"7", "Likes x.", 30}}),
		},
	}
	types := data.EventTypes(1, 4.5)
	wantEvents := [][]data.Interaction{
		{{Item: 1, Type: data.TypeOf(types, data.Rating, 1), Value: 1, Time: 90}, {Item: 0, Type: data.TypeOf(types, data.Rating, 4.5), Value: 4.5, Time: 100}},
		{{Item: 0, Type: data.TypeOf(types, data.Rating, 2), Value: 2, Time: 50}},
	}
	for name, src := range sources {
		t.Run(name, func(t *testing.T) {
			m, d := prepare(t, src, data.PrepareOptions{})
			if m.Events != 3 || m.Items != 2 || m.ColdItems != 1 || m.Users != 2 || m.From != 50 || m.To != 100 {
				t.Errorf("manifest %+v", m)
			}
			if !reflect.DeepEqual(d.Histories, wantEvents) {
				t.Errorf("histories %v, want %v", d.Histories, wantEvents)
			}
			b := data.Item{ID: "b", Title: "The B", Text: "A text.", Categories: []string{"x", "y"}, Attributes: map[string]string{"maker": "M"}}
			user := data.User{ID: "7", Description: "Likes x.", Attributes: map[string]string{"age": "30"}}
			if name == "double-colon" {
				b.Text, b.Attributes, user = "", nil, data.User{ID: "7"}
			}
			if !reflect.DeepEqual(d.Items[1], b) || d.Items[0].ID != "a" || d.Items[2].Title != "The C" {
				t.Errorf("items %+v", d.Items)
			}
			if p := d.Profile(0); !reflect.DeepEqual(p.User, user) || len(p.History) != 2 {
				t.Errorf("profile %+v, want %+v", p, user)
			}
		})
	}
}

func TestUserFileWithoutHeader(t *testing.T) {
	_, d := prepare(t, data.Source{
		Format: "double-colon",
		Events: put(t, "e.dat", "7::a::4::100\n"),
		Users:  put(t, "u.dat", "7::F::30\n8::M::25\n"),
	}, data.PrepareOptions{})
	if want := map[string]string{"field1": "F", "field2": "30"}; !reflect.DeepEqual(d.Users[0].Attributes, want) {
		t.Errorf("attributes %v, want %v", d.Users[0].Attributes, want)
	}
}

func TestKinds(t *testing.T) {
	_, d := prepare(t, data.Source{
		Format:  "csv",
		Events:  put(t, "e.csv", "user,item,kind,time\n1,a,view,1\n1,b,,2\n1,c,favourite,3\n1,d,browse,4\n"),
		Mapping: data.Mapping{Kinds: map[string]string{"view": "browse"}, DefaultKind: "click"},
	}, data.PrepareOptions{})
	var got []uint8
	for _, e := range d.Histories[0] {
		got = append(got, e.Type)
	}
	if want := []uint8{0, 1, 2, 0}; !reflect.DeepEqual(got, want) {
		t.Errorf("types %v, want %v", got, want)
	}
}

func TestLatin1(t *testing.T) {
	src := data.Source{Format: "double-colon", Events: put(t, "e.dat", "1::a::5::9\n"), Items: put(t, "i.dat", "a::Caf\xe9::x\n")}
	_, err := data.Prepare(t.Context(), src, data.PrepareOptions{}, filepath.Join(t.TempDir(), "o"), nil)
	wantError(t, err, data.ErrSource, "i.dat:1", "latin1")
	src.Encoding = "latin1"
	if _, d := prepare(t, src, data.PrepareOptions{}); d.Items[0].Title != "Café" {
		t.Errorf("title %q", d.Items[0].Title)
	}
}

// Every kind of broken row is dropped and counted, with its place.
func TestBrokenRows(t *testing.T) {
	long := strings.Repeat("x", data.MaxID+1)
	tests := []struct {
		name, format, rows, reason, place string
	}{
		{"columns", "recbole", "1\ta\t5\n", "wrong number of columns", "e:4"},
		{"encoding", "recbole", "1\ta\xff\t5\t3\n", "not valid UTF-8", "e:4"},
		{"rating text", "recbole", "1\ta\tfive\t3\n", "rating is not a finite number", "e:4"},
		{"rating NaN", "recbole", "1\ta\tNaN\t3\n", "rating is not a finite number", "e:4"},
		{"rating infinite", "recbole", "1\ta\t-Inf\t3\n", "rating is not a finite number", "e:4"},
		{"rating over float32", "recbole", "1\ta\t1e300\t3\n", "rating is not a finite number", "e:4"},
		{"no user", "recbole", "\ta\t5\t3\n", "empty or overlong id", "e:4"},
		{"no item", "recbole", "1\t\t5\t3\n", "empty or overlong id", "e:4"},
		{"long id", "recbole", long + "\ta\t5\t3\n", "empty or overlong id", "e:4"},
		{"long row", "recbole", "1\ta\t5\t" + strings.Repeat(" ", data.MaxRow) + "\n", "row too long", "e:4"},
		{"time text", "recbole", "1\ta\t5\tnoon\n", "bad timestamp", "e:4"},
		{"time NaN", "recbole", "1\ta\t5\tNaN\n", "bad timestamp", "e:4"},
		{"time negative", "recbole", "1\ta\t5\t-1\n", "bad timestamp", "e:4"},
		{"time 2200", "recbole", "1\ta\t5\t7258118400\n", "bad timestamp", "e:4"},
		{"time float", "recbole", "1\ta\t5\t1e300\n", "bad timestamp", "e:4"},
		{"double-colon columns", "double-colon", "1::a::5\n", "wrong number of columns", "e:3"},
		{"csv columns", "csv", "1,a,5\n", "wrong number of columns", "e:4"},
		{"csv quote", "csv", "1,a\"b,5,3,click\n", "syntax error", "e:4"},
		{"csv encoding", "csv", "1,a\xff,5,3,click\n", "not valid UTF-8", "e:4"},
		{"csv kind", "csv", "1,a,5,3,stare\n", "unknown kind of event", "e:4"},
		{"json syntax", "jsonl", "{\"user\":\n", "syntax error", "e:3"},
		{"json type", "jsonl", "{\"user\":1,\"item\":\"a\",\"time\":3}\n", "syntax error", "e:3"},
		{"json encoding", "jsonl", "{\"user\":\"\xff\",\"item\":\"a\",\"time\":3}\n", "not valid UTF-8", "e:3"},
		{"json no time", "jsonl", "{\"user\":\"1\",\"item\":\"a\"}\n", "bad timestamp", "e:3"},
		{"json no item", "jsonl", "{\"user\":\"1\",\"time\":1}\n", "empty or overlong id", "e:3"},
		{"json no rating", "jsonl", "{\"user\":\"1\",\"item\":\"a\",\"kind\":\"rating\",\"time\":1}\n", "rating is not a finite number", "e:3"},
	}
	good := map[string]string{
		"recbole":      "user_id:token\titem_id:token\trating:float\ttimestamp:float\n1\ta\t5\t1\n2\tb\t4\t2\n",
		"double-colon": "1::a::5::1\n2::b::4::2\n",
		"csv":          "user,item,value,time,kind\n1,a,5,1,rating\n2,b,4,2,rating\n",
		"jsonl":        "{\"user\":\"1\",\"item\":\"a\",\"value\":5,\"time\":1}\n{\"user\":\"2\",\"item\":\"b\",\"value\":4,\"time\":2}\n",
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m, _ := prepare(t, data.Source{Format: tt.format, Events: put(t, "e", good[tt.format]+tt.rows)}, data.PrepareOptions{Partitions: 1})
			r := m.EventReport
			if r.Rows != 3 || r.Kept != 2 || len(r.Dropped) != 1 || r.Count(tt.reason) != 1 {
				t.Fatalf("report %+v, want one row dropped for %q", r, tt.reason)
			}
			if ex := r.Dropped[0].Examples; len(ex) != 1 || !strings.HasPrefix(ex[0], tt.place+": "+tt.reason) {
				t.Errorf("examples %q, want %s", ex, tt.place)
			}
		})
	}
}

func TestExamplesAreFew(t *testing.T) {
	rows := strings.Repeat("1::a::5::1\n2::b::x::2\n", 20)
	m, _ := prepare(t, data.Source{Format: "double-colon", Events: put(t, "e", rows)}, data.PrepareOptions{})
	for _, d := range m.EventReport.Dropped {
		if len(d.Examples) != data.MaxExamples {
			t.Errorf("%s: %d examples of %d", d.Reason, len(d.Examples), d.Count)
		}
	}
}

// Whole files that cannot be read say which, where and what to do.
func TestUnusableFiles(t *testing.T) {
	rec := "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
	broken, err := os.ReadFile(putParquet(t, []pqEvent{{7, "a", "rating", ptr(4), 100}}))
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, format, content string
		mapping               data.Mapping
		words                 []string
	}{
		{"empty", "recbole", "", data.Mapping{}, []string{"empty"}},
		{"blank", "recbole", "\n\n", data.Mapping{}, []string{"e:1"}},
		{"header only", "recbole", rec, data.Mapping{}, []string{"no rows"}},
		{"untyped header", "recbole", "user,item\n1,2\n", data.Mapping{}, []string{"e:1", "name:type"}},
		{"no timestamp", "recbole", "user_id:token\titem_id:token\n1\ta\n", data.Mapping{}, []string{"e:1", `"timestamp"`, "user_id, item_id"}},
		{"mostly broken", "recbole", rec + "1\ta\t5\t1\n1\ta\n1\tb\n", data.Mapping{}, []string{"2 of 3", "e:3", "check the format"}},
		{"all broken", "double-colon", "a,b\nc,d\n", data.Mapping{}, []string{"2 of 2", "e:1"}},
		{"csv column", "csv", "user,item,time\n1,a,1\n", data.Mapping{User: "who"}, []string{"e:1", `"who"`, "mapping"}},
		{"csv value column", "csv", "user,item,time\n1,a,1\n", data.Mapping{Value: "stars"}, []string{"e:1", `"stars"`}},
		{"csv open quote", "csv", "user,item,time\n1,\"a,1\n" + strings.Repeat("1,a,1\n", 300000), data.Mapping{}, []string{"e:2", "quotation mark"}},
		{"not parquet", "parquet", "user,item\n", data.Mapping{}, []string{"Parquet"}},
		{"cut parquet", "parquet", string(broken[:len(broken)/2]), data.Mapping{}, []string{"Parquet"}},
		{"garbled parquet", "parquet", string(broken[:4]) + strings.Repeat("\xff", 60) + string(broken[64:]), data.Mapping{}, nil},
		{"mostly broken json", "jsonl", "[]\n[]\n", data.Mapping{}, []string{"2 of 2", "e:1"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "out")
			_, err := data.Prepare(t.Context(), data.Source{Format: tt.format, Events: put(t, "e", tt.content), Mapping: tt.mapping}, data.PrepareOptions{}, out, nil)
			wantError(t, err, data.ErrSource, tt.words...)
			if _, err := os.Stat(out); !os.IsNotExist(err) {
				t.Errorf("the output is there: %v", err)
			}
		})
	}
	t.Run("missing", func(t *testing.T) {
		_, err := data.Prepare(t.Context(), data.Source{Format: "csv", Events: "nowhere.csv"}, data.PrepareOptions{}, filepath.Join(t.TempDir(), "out"), nil)
		wantError(t, err, data.ErrSource, "nowhere.csv")
	})
	t.Run("folder", func(t *testing.T) {
		_, err := data.Prepare(t.Context(), data.Source{Format: "csv", Events: t.TempDir()}, data.PrepareOptions{}, filepath.Join(t.TempDir(), "out"), nil)
		wantError(t, err, data.ErrSource, "folder")
	})
}

func TestInvalidOptions(t *testing.T) {
	sound := data.Source{Format: "double-colon", Events: put(t, "e", "1::a::5::1\n")}
	change := func(f func(*data.Source)) data.Source {
		s := sound
		f(&s)
		return s
	}
	tests := []struct {
		name string
		src  data.Source
		opts data.PrepareOptions
	}{
		{"format", change(func(s *data.Source) { s.Format = "xml" }), data.PrepareOptions{}},
		{"encoding", change(func(s *data.Source) { s.Encoding = "ebcdic" }), data.PrepareOptions{}},
		{"no events", change(func(s *data.Source) { s.Events = "" }), data.PrepareOptions{}},
		{"default kind", change(func(s *data.Source) { s.Mapping.DefaultKind = "stare" }), data.PrepareOptions{}},
		{"kinds", change(func(s *data.Source) { s.Mapping.Kinds = map[string]string{"a": "b"} }), data.PrepareOptions{}},
		{"core", sound, data.PrepareOptions{Core: -1}},
		{"partitions", sound, data.PrepareOptions{Partitions: 5000}},
		{"ratings", sound, data.PrepareOptions{RatingLo: 5, RatingHi: 1}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := data.Prepare(t.Context(), tt.src, tt.opts, filepath.Join(t.TempDir(), "out"), nil)
			wantError(t, err, data.ErrOptions)
		})
	}
}

func TestLoadMapping(t *testing.T) {
	m, err := data.LoadMapping(put(t, "m.json", `{"user":"who","kinds":{"buy":"favourite"}}`))
	if err != nil || m.User != "who" || m.Kinds["buy"] != "favourite" {
		t.Errorf("mapping %+v, %v", m, err)
	}
	_, err = data.LoadMapping(put(t, "m.json", `{"usr":"who"}`))
	wantError(t, err, data.ErrSource, "m.json", "usr")
	_, err = data.LoadMapping("nowhere.json")
	wantError(t, err, data.ErrSource, "nowhere.json")
}
