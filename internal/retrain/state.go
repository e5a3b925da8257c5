package retrain

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"time"

	"github.com/wisp-project/wisp/internal/atomicfile"
	"github.com/wisp-project/wisp/internal/data"
)

// Names in the folder of a job.
const (
	lockFile     = "lock"
	stateFile    = "state.json"
	runsDir      = "runs"
	BaseDir      = "base"
	manifestFile = "manifest.json"
	BatchFile    = "batch.jsonl"
	ItemsFile    = "items.jsonl"
	UsersFile    = "users.jsonl"
	PreparedDir  = "prepared"
	ModelDir     = "model"
	StudentDir   = "student"
	ArtefactFile = "candidate.wisp"
)

// formatVersion is the version of state and manifest that this package writes, and the
// only one that it reads.
const formatVersion = 1

// Accepted is what was published last, or what all began with. Paths are relative to
// the folder of the job.
type Accepted struct {
	Run      int    `json:"run"` // 0: the beginning
	Prepared string `json:"prepared"`
	Model    string `json:"model"`
	// Student is the model that the artefact was made of, where that is not Model.
	Student  string `json:"student,omitempty"`
	Artefact string `json:"artefact"`
	// Digests of the model's weights and of the content of the artefact, which does not
	// depend on who signed it.
	ModelSHA256 string  `json:"model_sha256"`
	Digest      string  `json:"digest"`
	Version     uint64  `json:"version"`
	Horizon     int64   `json:"horizon"` // events from this moment on were not learnt
	Bots        int64   `json:"bots"`    // events of bots among those of the ledger
	NDCG        float64 `json:"ndcg"`    // @10 on the newest slice of then; 0 where it was not measured
}

// State is what a job has come to.
type State struct {
	Version  int         `json:"version"`
	Name     string      `json:"name"`    // of the data set
	Core     int         `json:"core"`    // of the k-core that is kept
	NoCold   bool        `json:"no_cold"` // items without events are left out
	RatingLo float32     `json:"rating_lo"`
	RatingHi float32     `json:"rating_hi"`
	Ledger   []data.File `json:"ledger"` // files of events that are known, in order, relative to the folder
	Cursor   Cursor      `json:"cursor"`
	Accepted Accepted    `json:"accepted"`
}

// Manifest is what a run was given, from which it can be done again, and what came of
// it.
type Manifest struct {
	Version int    `json:"version"`
	Run     int    `json:"run"`
	Now     int64  `json:"now"`  // Unix time at which it began
	Wisp    string `json:"wisp"` // version of the program
	Go      string `json:"go"`
	BLAS    string `json:"blas"`
	Threads int    `json:"threads"`

	Options Options     `json:"options"`
	Inputs  []data.File `json:"inputs"` // what was read of the feed
	Report  data.Report `json:"report"` // on the new events
	Batch   data.File   `json:"batch"`  // these, in one form
	Items   data.File   `json:"items"`  // the catalogue
	Users   data.File   `json:"users"`
	Before  State       `json:"before"`
	After   Cursor      `json:"after"`   // cursor of the feed once the run has published
	Release uint64      `json:"release"` // version of the artefact

	Outcome *Outcome `json:"outcome,omitempty"` // nil while it runs
}

// Outcome is what came of a run.
type Outcome struct {
	Published bool     `json:"published"`
	Reason    string   `json:"reason"`
	Verdict   *Verdict `json:"verdict,omitempty"` // nil where it did not come to a comparison
	// Next is what is accepted if it is published.
	Next     Accepted          `json:"next"`
	Prepared map[string]string `json:"prepared,omitempty"` // SHA-256 of the prepared files
	Student  string            `json:"student_sha256,omitempty"`
	Signed   string            `json:"signed_sha256,omitempty"` // of the artefact with its signature
}

// Same says that a run that m describes comes to the same as n does.
func (m *Manifest) Same(n *Manifest) bool {
	return m.Options == n.Options && m.Wisp == n.Wisp && m.Go == n.Go && m.BLAS == n.BLAS && m.Threads == n.Threads && reflect.DeepEqual(m.Before, n.Before)
}

// Folder is the folder of a job.
type Folder string

// Path returns the path of what lies at the given place in the folder.
func (f Folder) Path(parts ...string) string {
	return filepath.Join(append([]string{string(f)}, parts...)...)
}

// Run returns the folder of a run, relative to f.
func (f Folder) Run(n int) string { return filepath.Join(runsDir, fmt.Sprintf("%06d", n)) }

// Lock takes the folder, which it makes where there is none, for this process. who is
// told to those who come meanwhile: they get an error that wraps ErrLocked.
func (f Folder) Lock(ctx context.Context, who string) (unlock func(), err error) {
	if err := os.MkdirAll(string(f), 0o755); err != nil {
		return nil, fmt.Errorf("retrain: state: %w", err)
	}
	const moment = 100 * time.Millisecond
	short, cancel := context.WithTimeout(ctx, moment)
	defer cancel()
	unlock, err = atomicfile.Lock(short, f.Path(lockFile))
	switch {
	case err == nil:
		_ = os.WriteFile(f.Path(lockFile), []byte(who+"\n"), 0o644) // it locks without a word, too
		return unlock, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.Is(err, context.DeadlineExceeded):
		b, err := os.ReadFile(f.Path(lockFile))
		if err != nil {
			b = []byte("unknown")
		}
		return nil, fmt.Errorf("%w on %s: %s; wait until it has ended, or give this one a state of its own", ErrLocked, string(f), bytes.TrimSpace(b))
	}
	return nil, fmt.Errorf("retrain: state: %w", err)
}

// Load reads the state. Where there is none the error wraps fs.ErrNotExist.
func (f Folder) Load() (*State, error) {
	s := &State{}
	if err := readJSON(f.Path(stateFile), s); err != nil {
		return nil, err
	}
	if s.Version != formatVersion {
		return nil, fmt.Errorf("%w: %s has version %d, not %d; begin a new state", ErrState, f.Path(stateFile), s.Version, formatVersion)
	}
	return s, nil
}

// Save replaces the state.
func (f Folder) Save(s *State) error {
	s.Version = formatVersion
	return writeJSON(f.Path(stateFile), s)
}

// LoadManifest reads the manifest of a run at path.
func LoadManifest(path string) (*Manifest, error) {
	m := &Manifest{}
	if err := readJSON(path, m); err != nil {
		return nil, err
	}
	if m.Version != formatVersion || m.Run < 1 {
		return nil, fmt.Errorf("%w: %s is no manifest of version %d; name the manifest.json of a run", ErrState, path, formatVersion)
	}
	return m, nil
}

// Manifest returns the path of the manifest of a run.
func (f Folder) Manifest(run int) string { return f.Path(f.Run(run), manifestFile) }

// SaveManifest replaces the manifest of a run.
func (f Folder) SaveManifest(m *Manifest) error {
	m.Version = formatVersion
	return writeJSON(f.Manifest(m.Run), m)
}

// Runs returns the numbers of all runs, in order.
func (f Folder) Runs() ([]int, error) {
	entries, err := os.ReadDir(f.Path(runsDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("retrain: state: %w", err)
	}
	var runs []int
	for _, e := range entries {
		if n, err := strconv.Atoi(e.Name()); err == nil && e.IsDir() {
			runs = append(runs, n)
		}
	}
	slices.Sort(runs)
	return runs, nil
}

// Latest returns the manifest of the last run, nil where there is none. A run that was
// killed before it had one is removed.
func (f Folder) Latest() (*Manifest, error) {
	runs, err := f.Runs()
	if err != nil {
		return nil, err
	}
	for i := len(runs) - 1; i >= 0; i-- {
		m, err := LoadManifest(f.Manifest(runs[i]))
		if !errors.Is(err, fs.ErrNotExist) {
			return m, err
		}
		if err := f.Remove(runs[i]); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// Remove removes a run.
func (f Folder) Remove(run int) error {
	// The manifest goes first, so that what an interruption leaves is no run.
	err := os.Remove(f.Manifest(run))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err = errors.Join(err, os.RemoveAll(f.Path(f.Run(run)))); err != nil {
		return fmt.Errorf("retrain: state: %w", err)
	}
	return nil
}

// Prune removes from all runs but the last keep ones, and but those that accepted
// names, what can be made again: only manifests and events stay.
func (f Folder) Prune(keep int, accepted Accepted) error {
	runs, err := f.Runs()
	if err != nil {
		return err
	}
	for _, run := range runs[:max(0, len(runs)-max(keep, 1))] {
		if run == accepted.Run {
			continue
		}
		for _, name := range []string{PreparedDir, ModelDir, StudentDir, ArtefactFile} {
			if err := os.RemoveAll(f.Path(f.Run(run), name)); err != nil {
				return fmt.Errorf("retrain: state: %w", err)
			}
		}
	}
	return nil
}

// Check compares a file of the folder with what is known of it; its Name is its place.
func (f Folder) Check(want data.File) error {
	got, err := data.Describe(f.Path(want.Name))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrState, err)
	}
	if got.Bytes != want.Bytes || got.SHA256 != want.SHA256 {
		return fmt.Errorf("%w: %s is not what it was: it has %d bytes with SHA-256 %s, and had %d with %s", ErrState, f.Path(want.Name), got.Bytes, got.SHA256, want.Bytes, want.SHA256)
	}
	return nil
}

func readJSON(path string, v any) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrState, err)
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrState, path, err)
	}
	return nil
}

func writeJSON(path string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("retrain: state: %w", err)
	}
	return atomicfile.Write(path, append(b, '\n'))
}
