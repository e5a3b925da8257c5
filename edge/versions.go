package edge

import (
	"context"
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

// modelName is what versions are counted for.
type modelName struct {
	Name   string `json:"name"`
	Tenant string `json:"tenant"`
}

// release is one version of a model.
type release struct {
	Version uint64 `json:"version"`
	Digest  string `json:"digest"` // of the artefact, in hexadecimal
}

// record is the content of such a file.
type record struct {
	modelName
	release // the highest version accepted, or the one that was forced
	// Serving is the release that a rollback went back to, nil where the highest
	// serves. Until a higher one comes, it is the only one that is accepted.
	Serving *release `json:"serving,omitempty"`
	// Previous is the one that a rollback would go back to.
	Previous *release `json:"previous,omitempty"`
}

// current is the release that serves.
func (r record) current() release {
	if r.Serving != nil {
		return *r.Serving
	}
	return r.release
}

// releases are all that may serve again without being fetched.
func (r record) releases() []release {
	all := []release{r.current()}
	if r.Previous != nil {
		all = append(all, *r.Previous)
	}
	return all
}

func (r release) digest() (d [sha256.Size]byte, ok bool) {
	b, err := hex.DecodeString(r.Digest)
	return d, copy(d[:], b) == len(d) && len(b) == len(d) && err == nil
}

func newRelease(version uint64, digest [sha256.Size]byte) release {
	return release{Version: version, Digest: hex.EncodeToString(digest[:])}
}

func named(m *artifact.Manifest) modelName { return modelName{Name: m.Name, Tenant: m.Tenant} }

// check refuses a release that accept would refuse, before it is run.
func (v versions) check(m modelName, now release) error {
	if v.dir == "" {
		return nil
	}
	if d, ok := now.digest(); !ok || d == [sha256.Size]byte{} {
		return fmt.Errorf("%w: a state belongs to artefacts that were read, this one has no digest", ErrOptions)
	}
	_, err := v.accepted(m, now)
	return err
}

// accept remembers a release, unless a newer one was accepted in the meantime. When
// it returns, the release outlasts a crash.
func (v versions) accept(ctx context.Context, m modelName, now release) error {
	if v.dir == "" {
		return nil
	}
	return v.change(ctx, m, func() (record, error) { return v.accepted(m, now) })
}

// accepted returns what is to be remembered once a release is accepted. It refuses
// versions that are not above the last one, but for the release that serves.
func (v versions) accepted(m modelName, now release) (record, error) {
	next := record{modelName: m, release: now}
	last, known, err := v.read(m)
	switch {
	case err != nil && v.force:
		return next, nil // what cannot be read is written anew
	case err != nil:
		return last, err
	case !known:
		return next, nil
	}
	serving := last.current()
	if next.Previous = &serving; serving == now {
		next.Previous = last.Previous
	}
	// A rollback may have gone to a higher version: to the one before a forced one.
	top := last.release
	if serving.Version > top.Version {
		top = serving
	}
	switch {
	case v.force, now.Version > top.Version:
		return next, nil
	case now == serving:
		return last, nil
	case now.Version == top.Version && now.Digest != top.Digest:
		return last, fmt.Errorf("%w: version %d of %q was accepted with other content (digest %s); give the new content a higher version, or force it", ErrRollback, now.Version, m.Name, top.Digest)
	case now == last.release:
		return last, fmt.Errorf("%w: version %d of %q was rolled back to version %d; give what is to follow a higher version, or force this one", ErrRollback, now.Version, m.Name, serving.Version)
	default:
		return last, fmt.Errorf("%w: version %d of %q, after version %d was accepted; fetch the latest version, or force this one", ErrRollback, now.Version, m.Name, top.Version)
	}
}

// rollback remembers that the previous release serves again; it must be that one.
func (v versions) rollback(ctx context.Context, m modelName, to release) error {
	return v.change(ctx, m, func() (record, error) {
		last, _, err := v.read(m)
		if err == nil && (last.Previous == nil || *last.Previous != to) {
			err = fmt.Errorf("%w: version %d of %q is not the previous one any more", ErrRollback, to.Version, m.Name)
		}
		last.Serving, last.Previous = &to, nil
		return last, err
	})
}

// change replaces the record of a model by what next returns, while the lock is
// held.
func (v versions) change(ctx context.Context, m modelName, next func() (record, error)) error {
	if err := os.MkdirAll(v.dir, 0o755); err != nil {
		return fmt.Errorf("%w: %w", ErrState, err)
	}
	unlock, err := atomicfile.Lock(ctx, filepath.Join(v.dir, "lock"))
	if err != nil {
		return fmt.Errorf("%w: lock: %w", ErrState, err)
	}
	defer unlock()
	r, err := next()
	if err != nil {
		return err
	}
	b, err := json.Marshal(r)
	if err == nil {
		err = v.sweep()
	}
	if err == nil {
		err = atomicfile.Write(v.path(m), append(b, '\n'))
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrState, err)
	}
	return nil
}

// read returns the record of a model, where there is one.
func (v versions) read(m modelName) (r record, known bool, err error) {
	path := v.path(m)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return r, false, nil
	}
	if err != nil {
		return r, false, fmt.Errorf("%w: %w", ErrState, err)
	}
	if err := json.Unmarshal(b, &r); err != nil || r.modelName != m || r.Version == 0 {
		return r, false, fmt.Errorf("%w: %s does not say which version of %q was accepted last; force the version that you mean, and it is written anew", ErrState, path, m.Name)
	}
	return r, true, nil
}

// all returns every record; one that cannot be read is an error.
func (v versions) all() ([]record, error) {
	paths, err := filepath.Glob(filepath.Join(v.dir, "*.json"))
	if err != nil {
		return nil, err
	}
	var all []record
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrState, err)
		}
		var r record
		if err := json.Unmarshal(b, &r); err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrState, path, err)
		}
		all = append(all, r)
	}
	return all, nil
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
func (v versions) path(m modelName) string {
	d := sha256.Sum256([]byte(m.Tenant + "\x00" + m.Name))
	return filepath.Join(v.dir, hex.EncodeToString(d[:16])+".json")
}
