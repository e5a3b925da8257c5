package data_test

import (
	"testing"

	"github.com/wisp-project/wisp/internal/data"
)

func TestText(t *testing.T) {
	item := data.Item{
		ID: "1", Title: "Red kettle", Text: "Boils fast!", Categories: []string{"kitchen", "tea"},
		Attributes: map[string]string{"release_year": "1995", "brand": "Acme", "empty": " "},
	}
	if got, want := data.ItemText(&item), "Red kettle. kitchen, tea. Boils fast! brand: Acme. release year: 1995."; got != want {
		t.Errorf("item: %q, want %q", got, want)
	}
	if got := data.ItemText(&data.Item{ID: "2"}); got != "" {
		t.Errorf("an item with an id only: %q", got)
	}
	user := data.User{ID: "7", Description: "Likes tea", Attributes: map[string]string{"occupation": "writer", "age": "24"}}
	if got, want := data.UserText(&user), "Likes tea. age: 24. occupation: writer."; got != want {
		t.Errorf("user: %q, want %q", got, want)
	}
}
