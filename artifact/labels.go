package artifact

import (
	"cmp"
	"fmt"
	"slices"
	"unicode/utf8"
)

// Attribute is what is known of an item beside its categories: a name and a value,
// such as brand and Acme.
type Attribute struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Label is a category or an attribute of items, as rules name it.
type Label struct {
	// Name is that of the attribute; empty for a category.
	Name  string
	Value string
}

// Compare puts labels in order, by name and then by value.
func (l Label) Compare(o Label) int {
	return cmp.Or(cmp.Compare(l.Name, o.Name), cmp.Compare(l.Value, o.Value))
}

// labelsOf returns the labels of an item, rising, none twice.
func labelsOf(it *Item) []Label {
	labels := make([]Label, 0, len(it.Categories)+len(it.Attributes))
	for _, c := range it.Categories {
		labels = append(labels, Label{Value: c})
	}
	for _, a := range it.Attributes {
		labels = append(labels, Label(a))
	}
	slices.SortFunc(labels, Label.Compare)
	return slices.Compact(labels)
}

// Labels numbers the labels of a catalogue, by name and then by value in the order of
// bytes, so that categories come first and those of one name lie together. It
// returns them, and the numbers of each item's, rising; both nil where no item has
// any.
func Labels(items []Item) (labels []Label, of [][]uint32) {
	for i := range items {
		labels = append(labels, labelsOf(&items[i])...)
	}
	if len(labels) == 0 {
		return nil, nil
	}
	slices.SortFunc(labels, Label.Compare)
	labels = slices.Clip(slices.Compact(labels))
	number := make(map[Label]uint32, len(labels))
	for i, l := range labels {
		number[l] = uint32(i)
	}
	of = make([][]uint32, len(items))
	for i := range items {
		for _, l := range labelsOf(&items[i]) {
			of[i] = append(of[i], number[l])
		}
	}
	return labels, of
}

// ValidateItem reports what makes an item none that a catalogue can have. The error
// wraps ErrContent.
func ValidateItem(it Item) error {
	if !validID(it.ID) {
		return fmt.Errorf("%w: the id %q must be UTF-8 without control characters and not empty", ErrContent, it.ID)
	}
	if !utf8.ValidString(it.Title) {
		return fmt.Errorf("%w: item %q: the title %q is not UTF-8", ErrContent, it.ID, it.Title)
	}
	for _, c := range it.Categories {
		if c == "" || !utf8.ValidString(c) {
			return fmt.Errorf("%w: item %q: the category %q is empty or not UTF-8", ErrContent, it.ID, c)
		}
	}
	for _, a := range it.Attributes {
		if a.Name == "" || a.Value == "" || !utf8.ValidString(a.Name) || !utf8.ValidString(a.Value) {
			return fmt.Errorf("%w: item %q: the attribute %q has the value %q, both must be UTF-8 and not empty", ErrContent, it.ID, a.Name, a.Value)
		}
	}
	return nil
}

func validID(id string) bool { return id != "" && printable(id, "") }
