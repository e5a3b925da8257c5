package data

import (
	"maps"
	"slices"
	"strings"
)

// ItemText renders what is known of an item as text for a language model: the
// title, the categories, the text and the attributes in the order of their
// names, as short sentences. It is empty for an item that has only an id.
func ItemText(it *Item) string {
	parts := []string{it.Title}
	if len(it.Categories) > 0 {
		parts = append(parts, strings.Join(it.Categories, ", "))
	}
	parts = append(parts, it.Text)
	return sentences(append(parts, attributes(it.Attributes)...))
}

// UserText renders what is known of a user, apart from behaviour, as text for a
// language model: the description, then the attributes in the order of their
// names.
func UserText(u *User) string {
	return sentences(append([]string{u.Description}, attributes(u.Attributes)...))
}

func attributes(a map[string]string) []string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(a)) {
		if v := strings.TrimSpace(a[name]); v != "" {
			parts = append(parts, strings.ReplaceAll(name, "_", " ")+": "+v)
		}
	}
	return parts
}

// sentences joins the parts that are not empty, each with a full stop.
func sentences(parts []string) string {
	var b strings.Builder
	for _, p := range parts {
		p = strings.TrimSpace(p)
		if p == "" {
			continue
		}
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(p)
		if !strings.ContainsAny(p[len(p)-1:], ".!?") {
			b.WriteByte('.')
		}
	}
	return b.String()
}
