package data

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// ManifestVersion is the version of the prepared form that this package
// writes, and the only one that it reads.
const ManifestVersion = 1

const manifestFormat = "wisp prepared data"

// The files of a prepared data set.
const (
	manifestFile = "manifest.json"
	eventsFile   = "events.parquet"
	itemsFile    = "items.parquet"
	usersFile    = "users.parquet"
)

// Manifest describes a prepared data set. It is kept in manifest.json.
type Manifest struct {
	Format  string `json:"format"`
	Version int    `json:"version"`
	Name    string `json:"name"`

	Users     int   `json:"users"`     // with at least one event
	Items     int   `json:"items"`     // with at least one event; they come first
	ColdItems int   `json:"coldItems"` // of the item file, without events
	Events    int64 `json:"events"`
	From      int64 `json:"from"` // Unix time of the first event
	To        int64 `json:"to"`   // Unix time of the last event
	// OrderOnly says that the times were made up to keep the order of each
	// user's events and compare nothing else.
	OrderOnly bool `json:"orderOnly,omitempty"`

	Types    []EventType `json:"types"` // the EventTypes of RatingLo and RatingHi
	RatingLo float32     `json:"ratingLo"`
	RatingHi float32     `json:"ratingHi"`
	Core     int         `json:"core"`

	// Command is the command line that made it, where it was one.
	Command string `json:"command,omitempty"`

	Files   []File `json:"files"`   // of this folder
	Sources []File `json:"sources"` // that it was made from

	EventReport Report  `json:"eventReport"`
	ItemReport  *Report `json:"itemReport,omitempty"` // nil without an item file
	UserReport  *Report `json:"userReport,omitempty"` // nil without a user file
}

// ReadManifest reads the manifest of the prepared data set in dir. The other
// files are not looked at. Errors wrap ErrPrepared.
func ReadManifest(dir string) (*Manifest, error) {
	path := filepath.Join(dir, manifestFile)
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w; prepare it first", ErrPrepared, err)
	}
	m := new(Manifest)
	if err := json.Unmarshal(b, m); err != nil {
		return nil, fmt.Errorf("%w: %s: %w; prepare the data again", ErrPrepared, path, err)
	}
	switch {
	case m.Format != manifestFormat:
		return nil, fmt.Errorf("%w: %s is the manifest of something else; name a folder that wisp prepare wrote", ErrPrepared, path)
	case m.Version != ManifestVersion:
		return nil, fmt.Errorf("%w: %s has version %d, not %d; prepare the data again", ErrPrepared, path, m.Version, ManifestVersion)
	case m.Users < 0 || m.Items < 0 || m.ColdItems < 0 || m.Events < 0 || len(m.Types) == 0 || len(m.Types) > 1<<8:
		return nil, fmt.Errorf("%w: %s has impossible counts; prepare the data again", ErrPrepared, path)
	}
	for _, f := range append(append([]File(nil), m.Files...), m.Sources...) {
		if len(f.SHA256) != 64 || strings.Trim(f.SHA256, "0123456789abcdef") != "" {
			return nil, fmt.Errorf("%w: %s has %q for the SHA-256 of %s; prepare the data again", ErrPrepared, path, f.SHA256, f.Name)
		}
	}
	return m, nil
}

// verify checks size and hash of a file of the data set in dir.
func (m *Manifest) verify(dir, name string) error {
	for _, want := range m.Files {
		if want.Name != name {
			continue
		}
		got, err := describe(filepath.Join(dir, name))
		if err != nil {
			return fmt.Errorf("%w: %w; prepare the data again", ErrPrepared, err)
		}
		if got != want {
			return fmt.Errorf("%w: %s is damaged: it has %d bytes with SHA-256 %s, the manifest says %d with %s; prepare the data again",
				ErrPrepared, filepath.Join(dir, name), got.Bytes, got.SHA256, want.Bytes, want.SHA256)
		}
		return nil
	}
	return fmt.Errorf("%w: the manifest in %s does not list %s; prepare the data again", ErrPrepared, dir, name)
}
