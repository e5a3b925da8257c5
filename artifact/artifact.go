package artifact

import (
	"crypto/sha256"
	"fmt"
)

// Artifact is the content of a .wisp file.
type Artifact struct {
	Manifest Manifest
	// Kernel is the WebAssembly module that runs the model.
	Kernel []byte
	// Segments are the parts of the model's image, in the order in which they
	// lie in it.
	Segments []Segment
	// Items is the catalogue; the position of an item is its number in the
	// model. Its length is Manifest.Model.Items.
	Items []Item
	// Goldens are requests with their exact answers; there is at least one.
	Goldens []Golden

	// Digest identifies the content: SHA-256 of the header and the table. It,
	// Signature and Sections are set by Read; Write ignores them.
	Digest    [sha256.Size]byte
	Signature Signature
	Sections  []SectionInfo
}

// Segment is a named part of the model's image, packed as the kernel reads it.
type Segment struct {
	Name string // 1 to 16 of a-z, 0-9, _ and -; unique
	Data []byte // not empty
}

// Item is an entry of the catalogue.
type Item struct {
	ID         string      `json:"id"` // unique, not empty, without control characters
	Title      string      `json:"title,omitempty"`
	Categories []string    `json:"categories,omitempty"`
	Attributes []Attribute `json:"attributes,omitempty"`
}

// Golden is a request and the exact bytes that every machine must answer.
type Golden struct {
	Request []byte // not empty
	Answer  []byte // not empty
}

// Validate reports the first part of a that is missing, malformed or does not
// fit the manifest. The error wraps ErrManifest or ErrContent.
func (a *Artifact) Validate() error {
	if err := a.Manifest.Validate(); err != nil {
		return err
	}
	if len(a.Kernel) == 0 {
		return fmt.Errorf("%w: the kernel is empty", ErrContent)
	}
	if err := validateSegments(a.Segments); err != nil {
		return err
	}
	if err := validateItems(a.Items, a.Manifest.Model.Items); err != nil {
		return err
	}
	if len(a.Goldens) == 0 {
		return fmt.Errorf("%w: there is no golden request, at least one is needed to check the machine that runs the model", ErrContent)
	}
	for i, g := range a.Goldens {
		if len(g.Request) == 0 || len(g.Answer) == 0 {
			return fmt.Errorf("%w: golden %d has an empty request or answer", ErrContent, i)
		}
	}
	return nil
}

func validateSegments(segments []Segment) error {
	if len(segments) == 0 {
		return fmt.Errorf("%w: there is no image segment", ErrContent)
	}
	seen := make(map[string]bool, len(segments))
	for i, s := range segments {
		switch {
		case !validSegmentName(s.Name):
			return fmt.Errorf("%w: segment %d has the name %q, want 1 to %d of a-z, 0-9, _ and -", ErrContent, i, s.Name, nameSize)
		case seen[s.Name]:
			return fmt.Errorf("%w: two segments have the name %q", ErrContent, s.Name)
		case len(s.Data) == 0:
			return fmt.Errorf("%w: segment %q is empty", ErrContent, s.Name)
		}
		seen[s.Name] = true
	}
	return nil
}

func validateItems(items []Item, want int) error {
	if len(items) != want {
		return fmt.Errorf("%w: %d items, the manifest's model has %d", ErrContent, len(items), want)
	}
	numbers := make(map[string]int, len(items))
	for i, it := range items {
		if !validID(it.ID) {
			return fmt.Errorf("%w: item %d has the id %q, must be UTF-8 without control characters and not empty", ErrContent, i, it.ID)
		}
		if err := ValidateItem(it); err != nil {
			return err
		}
		if j, ok := numbers[it.ID]; ok {
			return fmt.Errorf("%w: items %d and %d have the id %q", ErrContent, j, i, it.ID)
		}
		numbers[it.ID] = i
	}
	return nil
}
