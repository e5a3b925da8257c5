package data

import (
	"cmp"
	"slices"
	"strings"
)

// roles says which columns of a table mean what; -1 where none does.
type roles struct {
	id, title, text, categories int
	keys, values                int   // lists of attributes, side by side
	rest                        []int // one attribute each
}

// openItems opens an item file of any format.
func (s *Source) openItems(f *file) (rows[Item], error) {
	var t *table
	var err error
	m := s.Mapping
	switch s.Format {
	case "jsonl":
		return s.jsonItems(f), nil
	case "recbole", sequences:
		if t, err = openRecbole(s, f); err == nil {
			m = recboleItems(t)
		}
	case "double-colon":
		m = Mapping{}
		t, err = openDoubleColon(s, f, "id", "title", "categories")
	case "csv":
		t, err = openCSV(s, f)
	case "parquet":
		t, err = openParquet(f)
	}
	if err != nil {
		return nil, err
	}
	r, err := t.roles(f, cmp.Or(m.ID, "id"), cmp.Or(m.Title, "title"), cmp.Or(m.Text, "text"), cmp.Or(m.Categories, "categories"))
	if err != nil {
		return nil, err
	}
	return func() (int64, Item, *fault, error) {
		line, fields, bad, err := t.next()
		if err != nil || bad != nil {
			return line, Item{}, bad, err
		}
		it := Item{ID: r.get(fields, r.id), Title: r.get(fields, r.title), Text: r.get(fields, r.text)}
		if r.categories >= 0 {
			it.Categories = t.list(fields[r.categories])
		}
		it.Attributes = r.attributes(t, fields)
		return line, it, checkID("item", it.ID), nil
	}, nil
}

// openUsers opens a user file of any format.
func (s *Source) openUsers(f *file) (rows[User], error) {
	var t *table
	var err error
	id, description := "id", cmp.Or(s.Mapping.Description, "description")
	switch s.Format {
	case "jsonl":
		return s.jsonUsers(f), nil
	case "recbole", sequences:
		id, description = "user_id", "description"
		t, err = openRecbole(s, f)
	case "double-colon":
		description = ""
		t, err = openDoubleColon(s, f)
	case "csv":
		id = cmp.Or(s.Mapping.User, id)
		t, err = openCSV(s, f)
	case "parquet":
		id = cmp.Or(s.Mapping.User, id)
		t, err = openParquet(f)
	}
	if err != nil {
		return nil, err
	}
	r, err := t.roles(f, id, "", description, "")
	if err != nil {
		return nil, err
	}
	return func() (int64, User, *fault, error) {
		line, fields, bad, err := t.next()
		if err != nil || bad != nil {
			return line, User{}, bad, err
		}
		u := User{ID: r.get(fields, r.id), Description: r.get(fields, r.text), Attributes: r.attributes(t, fields)}
		return line, u, checkID("user", u.ID), nil
	}, nil
}

// recboleItems guesses the columns of an atomic item file, whose names differ
// from data set to data set.
func recboleItems(t *table) Mapping {
	m := Mapping{ID: "item_id"}
	for _, c := range t.columns {
		name := strings.ToLower(c.name)
		switch {
		case name == m.ID:
		case m.Text == "" && slices.Contains([]string{"description", "text", "overview", "summary"}, name):
			m.Text = c.name
		case m.Categories == "" && slices.Contains([]string{"class", "genre", "genres", "category", "categories", "tags"}, name):
			m.Categories = c.name
		case m.Title == "" && (strings.Contains(name, "title") || strings.Contains(name, "name")):
			m.Title = c.name
		}
	}
	if m.Categories == "" {
		for _, c := range t.columns {
			if c.list && c.name != m.Title && c.name != m.Text {
				m.Categories = c.name
				break
			}
		}
	}
	return m
}

// roles finds the columns with the given names; only the id must be there.
func (t *table) roles(f *file, id, title, text, categories string) (roles, error) {
	at, err := t.require(f, id)
	if err != nil {
		return roles{}, err
	}
	r := roles{
		id: at, title: t.find(title), text: t.find(text), categories: t.find(categories),
		keys: t.find("attributes.key"), values: t.find("attributes.value"),
	}
	for i, c := range t.columns {
		if c.name != "" && !slices.Contains([]int{r.id, r.title, r.text, r.categories, r.keys, r.values}, i) {
			r.rest = append(r.rest, i)
		}
	}
	return r, nil
}

// get copies a field, so that it does not keep the whole row in memory.
func (r *roles) get(fields []string, i int) string {
	if i < 0 {
		return ""
	}
	return strings.Clone(fields[i])
}

func (r *roles) attributes(t *table, fields []string) map[string]string {
	m := map[string]string{}
	for _, i := range r.rest {
		if fields[i] != "" {
			m[t.columns[i].name] = strings.Clone(strings.ReplaceAll(fields[i], listMark, " "))
		}
	}
	if r.keys >= 0 && r.values >= 0 {
		keys, values := strings.Split(fields[r.keys], listMark), strings.Split(fields[r.values], listMark)
		for i, k := range keys {
			if k != "" && i < len(values) {
				m[strings.Clone(k)] = strings.Clone(values[i])
			}
		}
	}
	if len(m) == 0 {
		return nil
	}
	return m
}
