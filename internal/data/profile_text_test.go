package data_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/wisp-project/wisp/internal/data"
)

// profiled is a data set with a title for each item but the last, and the events
// of one user.
func profiled() *data.Dataset {
	types := data.EventTypes(1, 5)
	rated := func(item int32, value float32) data.Interaction {
		return data.Interaction{Item: item, Type: data.TypeOf(types, data.Rating, value), Value: value}
	}
	return &data.Dataset{
		Types: types,
		Items: []data.Item{{ID: "a", Title: "Red kettle"}, {ID: "b", Title: "Blue song"}, {ID: "c", Title: "Old drum"}, {ID: "d", Title: " Tin cup "}, {ID: "e"}},
		Users: []data.User{{ID: "u", Description: "Likes tea", Attributes: map[string]string{"age": "24"}}},
		Histories: [][]data.Interaction{{
			rated(0, 5), rated(1, 3), {Item: 2, Type: data.TypeOf(types, data.Click, 0)}, rated(3, 4), {Item: 4}, rated(0, 4),
		}},
	}
}

func TestProfileText(t *testing.T) {
	ds := profiled()
	for _, test := range []struct {
		name, template string
		liked, events  int
		user           data.User
		want           string
	}{
		{"newest first, each once", data.DefaultProfileText, 0, 6, ds.Users[0], "Likes tea. age: 24. Recently liked: Red kettle; Tin cup; Old drum."},
		{"as of an earlier day", data.DefaultProfileText, 0, 2, ds.Users[0], "Likes tea. age: 24. Recently liked: Red kettle."},
		{"the last few", data.DefaultProfileText, 2, 6, ds.Users[0], "Likes tea. age: 24. Recently liked: Red kettle; Tin cup."},
		{"only known", data.DefaultProfileText, 0, 0, ds.Users[0], "Likes tea. age: 24."},
		{"only behaviour", data.DefaultProfileText, 0, 3, data.User{ID: "v"}, "Recently liked: Old drum; Red kettle."},
		{"nothing", data.DefaultProfileText, 0, 0, data.User{ID: "v"}, ""},
		{"another template", "{{.Description}} at {{.Attributes.age}}{{range .Liked}}, {{.}}{{end}}", 1, 6, ds.Users[0], "Likes tea at 24, Red kettle"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p, err := data.NewProfileText(test.template, test.liked)
			if err != nil {
				t.Fatal(err)
			}
			got, err := p.Render(ds, &test.user, ds.Histories[0][:test.events])
			if err != nil || got != test.want {
				t.Errorf("%q, %v, want %q", got, err, test.want)
			}
		})
	}
}

func TestProfileTextRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		template string
		liked    int
		says     string
	}{
		"no template":      {"{{.User", 0, "profile"},
		"a field":          {"{{.Usr}}", 0, "Usr"},
		"a field in an if": {"{{if .Liked}}{{.Usr}}{{end}}", 0, "Usr"},
		"a function":       {"{{upper .User}}", 0, "upper"},
		"an empty list":    {"{{index .Liked 0}}", 0, "index"},
		"negative":         {data.DefaultProfileText, -1, "-1"},
	} {
		if _, err := data.NewProfileText(test.template, test.liked); !errors.Is(err, data.ErrOptions) || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: error %v, want ErrOptions that says %q", name, err, test.says)
		}
	}
	// What only some profile brings out names the user.
	p, err := data.NewProfileText(`{{if eq .Description "Likes tea"}}{{index .Liked 7}}{{end}}`, 0)
	if err != nil {
		t.Fatal(err)
	}
	ds := profiled()
	if _, err := p.Render(ds, &ds.Users[0], ds.Histories[0]); !errors.Is(err, data.ErrOptions) || !strings.Contains(err.Error(), `"u"`) {
		t.Errorf("error %v, want ErrOptions that names the user", err)
	}
}
