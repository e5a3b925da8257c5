package edge

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/wisp-project/wisp/artifact"
	"github.com/wisp-project/wisp/internal/atomicfile"
)

// versions is the folder that remembers the last version accepted of each name
// and tenant, in a file for each. Processes may share it.
type versions struct {
	dir   string // empty: nothing is remembered
	force bool   // accept any version
}

// accepted is the content of such a file.
type accepted struct {
	Name    string `json:"name"`
	Tenant  string `json:"tenant"`
	Version uint64 `json:"version"`
	Digest  string `json:"digest"` // of the artefact, in hexadecimal
}

// check refuses an artefact that accept would refuse, before it is run.
func (v versions) check(a *artifact.Artifact) error {
	if v.dir == "" {
		return nil
	}
	if a.Digest == [sha256.Size]byte{} {
		return fmt.Errorf("%w: a state belongs to artefacts that were read, this one has no digest", ErrOptions)
	}
	return v.compare(a)
}

// accept remembers the version of a, unless a newer one was accepted in the
// meantime. When it returns, the version outlasts a crash.
func (v versions) accept(a *artifact.Artifact) error {
	if v.dir == "" {
		return nil
	}
	if err := os.MkdirAll(v.dir, 0o755); err != nil {
		return fmt.Errorf("%w: %w", ErrState, err)
	}
	unlock, err := atomicfile.Lock(filepath.Join(v.dir, "lock"))
	if err != nil {
		return fmt.Errorf("%w: lock: %w", ErrState, err)
	}
	defer unlock()
	if err := v.compare(a); err != nil {
		return err
	}
	b, err := json.Marshal(newAccepted(a))
	if err == nil {
		err = v.sweep()
	}
	if err == nil {
		err = atomicfile.Write(v.path(a), append(b, '\n'))
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrState, err)
	}
	return nil
}

// compare refuses a version below the last one, and other content of the same.
func (v versions) compare(a *artifact.Artifact) error {
	if v.force {
		return nil
	}
	path := v.path(a)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrState, err)
	}
	now := newAccepted(a)
	var last accepted
	if err := json.Unmarshal(b, &last); err != nil || last.Name != now.Name || last.Tenant != now.Tenant || last.Version == 0 {
		return fmt.Errorf("%w: %s does not say which version of %q was accepted last; force the version that you mean, and it is written anew", ErrState, path, now.Name)
	}
	switch {
	case now.Version > last.Version, now == last:
		return nil
	case now.Version == last.Version:
		return fmt.Errorf("%w: version %d of %q was accepted with other content (digest %s); give the new content a higher version, or force it", ErrRollback, now.Version, now.Name, last.Digest)
	default:
		return fmt.Errorf("%w: version %d of %q, after version %d was accepted; fetch the latest version, or force this one", ErrRollback, now.Version, now.Name, last.Version)
	}
}

// sweep removes what processes left that were killed while they wrote. The lock
// is held, so nobody is writing.
func (v versions) sweep() error {
	left, err := filepath.Glob(filepath.Join(v.dir, ".wisp-*.tmp"))
	for _, path := range left {
		err = errors.Join(err, os.Remove(path))
	}
	return err
}

// path names the file after a digest: names and tenants may hold any character
// but control characters.
func (v versions) path(a *artifact.Artifact) string {
	d := sha256.Sum256([]byte(a.Manifest.Tenant + "\x00" + a.Manifest.Name))
	return filepath.Join(v.dir, hex.EncodeToString(d[:16])+".json")
}

func newAccepted(a *artifact.Artifact) accepted {
	m := a.Manifest
	return accepted{Name: m.Name, Tenant: m.Tenant, Version: m.Version, Digest: hex.EncodeToString(a.Digest[:])}
}
