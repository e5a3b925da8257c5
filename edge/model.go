package edge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/wisp-project/wisp/artifact"
	"github.com/wisp-project/wisp/internal/atomicfile"
)

// Model is a model of a host. Its version may be replaced while it answers:
// requests that have begun end with the version that they began with. It is safe
// for concurrent use.
type Model struct {
	host   *Host
	name   string
	origin string

	mu       sync.Mutex
	closed   bool
	current  *version // nil before there is one
	retired  []*version
	past     Stats // of versions that are gone
	replaced int64
	failure  error
}

// version is a runtime with the number of those that hold it.
type version struct {
	*Runtime
	users int // the model's mu guards them
	gone  bool
}

// ModelStats are the counts of a model, over all versions that it has had.
type ModelStats struct {
	Stats
	Version  uint64
	Digest   [32]byte
	Replaced int64 // versions
	// Failure is why the last replacement, update or rollback did not succeed; nil
	// if it did.
	Failure error
}

// Name returns the name under which the model was opened.
func (m *Model) Name() string { return m.name }

func (m *Model) serves() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.current != nil && !m.closed
}

// Use calls f with the runtime of the version that serves, which stays open until f
// returns. It returns ErrClosed, or what f returns.
func (m *Model) Use(f func(*Runtime) error) error {
	m.mu.Lock()
	v := m.current
	if v == nil || m.closed {
		m.mu.Unlock()
		return ErrClosed
	}
	v.users++
	m.mu.Unlock()
	defer m.release(v)
	return f(v.Runtime)
}

// release gives up a version; the last one to hold a version that was replaced
// frees it.
func (m *Model) release(v *version) {
	m.mu.Lock()
	v.users--
	last := v.users == 0 && v.gone
	m.mu.Unlock()
	if last {
		m.bury(v)
	}
}

// bury closes a version that nobody holds.
func (m *Model) bury(v *version) {
	err := v.Close(context.Background()) // nothing is in progress
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.retired {
		if m.retired[i] == v {
			m.retired = append(m.retired[:i], m.retired[i+1:]...)
			m.past.add(v.Stats())
			break
		}
	}
	if err != nil {
		m.failure = err
	}
}

// swap makes r the version that serves, unless the model was closed meanwhile.
func (m *Model) swap(r *Runtime) bool {
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return false
	}
	old := m.current
	m.current = &version{Runtime: r}
	var idle bool
	if old != nil {
		m.replaced++
		m.retired = append(m.retired, old)
		old.gone = true
		idle = old.users == 0
	}
	m.mu.Unlock()
	if idle {
		m.bury(old)
	}
	return true
}

// ask answers a request from the version that serves.
func ask[Q, A any](ctx context.Context, m *Model, q Q, method func(*Runtime, context.Context, Q) (A, error)) (a A, err error) {
	err = m.Use(func(r *Runtime) error {
		a, err = method(r, ctx, q)
		return err
	})
	return a, err
}

// Recommend is [Runtime.Recommend] of the version that serves.
func (m *Model) Recommend(ctx context.Context, q Request) (Response, error) {
	return ask(ctx, m, q, (*Runtime).Recommend)
}

// Score is [Runtime.Score] of the version that serves.
func (m *Model) Score(ctx context.Context, q ScoreRequest) ([]Score, error) {
	return ask(ctx, m, q, (*Runtime).Score)
}

// Search is [Runtime.Search] of the version that serves.
func (m *Model) Search(ctx context.Context, q SearchRequest) (Response, error) {
	return ask(ctx, m, q, (*Runtime).Search)
}

// Similar is [Runtime.Similar] of the version that serves.
func (m *Model) Similar(ctx context.Context, q SimilarRequest) (Response, error) {
	return ask(ctx, m, q, (*Runtime).Similar)
}

// Insert is [Runtime.Insert] of the version that serves. A version that replaces it
// takes the item over, unless its catalogue has one of that id.
func (m *Model) Insert(ctx context.Context, item NewItem) error {
	return m.Use(func(r *Runtime) error { return r.Insert(ctx, item) })
}

// Remove is [Runtime.Remove] of the version that serves.
func (m *Model) Remove(id string) error {
	return m.Use(func(r *Runtime) error { return r.Remove(id) })
}

// SetAvailable is [Runtime.SetAvailable] of the version that serves. A version that
// replaces it takes over what is unavailable.
func (m *Model) SetAvailable(available bool, ids ...string) error {
	return m.Use(func(r *Runtime) error { return r.SetAvailable(available, ids...) })
}

// Embed is [Runtime.Embed] of the version that serves.
func (m *Model) Embed(ctx context.Context, text string) (Embedding, error) {
	return ask(ctx, m, text, (*Runtime).Embed)
}

// Stats returns the counts of this moment.
func (m *Model) Stats() ModelStats {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := ModelStats{Stats: m.past, Replaced: m.replaced, Failure: m.failure}
	all := m.retired
	if m.current != nil {
		s.Version, s.Digest = m.current.manifest.Version, m.current.digest
		all = append(all[:len(all):len(all)], m.current)
	}
	for _, v := range all {
		t := v.Stats()
		s.add(t)
		s.InProgress += t.InProgress
		s.Waiting += t.Waiting
		s.Idle += t.Idle
		s.ImageBytes += t.ImageBytes
		s.SandboxBytes += t.SandboxBytes
	}
	return s
}

// Close ends the model: its name is free, requests get ErrClosed, and what they use
// is freed when the last has ended. ctx bounds the wait for that, as in
// [Runtime.Close].
func (m *Model) Close(ctx context.Context) error {
	m.host.mu.Lock()
	if m.host.models[m.name] == m {
		delete(m.host.models, m.name)
	}
	m.host.mu.Unlock()
	m.mu.Lock()
	m.closed = true
	all := append([]*version(nil), m.retired...)
	if m.current != nil {
		all = append(all, m.current)
	}
	m.mu.Unlock()
	var err error
	for _, v := range all {
		err = errors.Join(err, v.Close(ctx))
	}
	return err
}

// Update looks for another version at the model's origin, and replaces the one that
// serves if it is higher. Only what is not held already is fetched, the signature
// first. Whatever goes wrong, the version that serves stays. changed says whether
// it was replaced.
func (m *Model) Update(ctx context.Context) (changed bool, err error) {
	return m.Replace(ctx, m.origin)
}

// Replace is Update from another origin.
func (m *Model) Replace(ctx context.Context, origin string) (changed bool, err error) {
	changed, err = m.replace(ctx, origin, false)
	if err != nil {
		err = fmt.Errorf("edge: replace %s: %w", m.name, err)
	}
	return changed, err
}

// Force is Replace by an operator who knows better: it goes back to a lower version,
// and to another model altogether. The signature has to be right all the same.
func (m *Model) Force(ctx context.Context, origin string) (changed bool, err error) {
	changed, err = m.replace(ctx, origin, true)
	if err != nil {
		err = fmt.Errorf("edge: force %s: %w", m.name, err)
	}
	return changed, err
}

func (m *Model) replace(ctx context.Context, origin string, force bool) (changed bool, err error) {
	err = m.bring(ctx, func(ctx context.Context) (*Runtime, error) {
		r, err := m.fetch(ctx, origin, force)
		if err != nil {
			return nil, fmt.Errorf("from %s: %w", origin, err)
		}
		return r, nil
	}, &changed)
	return changed, err
}

// Rollback goes back to the version that served before the present one, which the
// state has kept. Until there is a higher version than any before, the state
// accepts no other: an update does not bring back what an operator has sent away.
func (m *Model) Rollback(ctx context.Context) error {
	err := m.bring(ctx, m.previous, nil)
	if err != nil {
		err = fmt.Errorf("edge: roll back %s: %w", m.name, err)
	}
	return err
}

// bring replaces the version by what get returns, nil for no change, while nobody
// else, in this process or another of the same state, does such a thing.
func (m *Model) bring(ctx context.Context, get func(context.Context) (*Runtime, error), changed *bool) (err error) {
	defer func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.failure = err
	}()
	select {
	case m.host.updating <- struct{}{}:
		defer func() { <-m.host.updating }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if m.host.store != nil {
		unlock, err := atomicfile.Lock(ctx, filepath.Join(m.host.options.State, "updates"))
		if err != nil {
			return fmt.Errorf("%w: %w", ErrState, err)
		}
		defer unlock()
	}
	r, err := get(ctx)
	if err != nil || r == nil {
		return err
	}
	var was *Runtime
	_ = m.Use(func(old *Runtime) error { // none serves before the first
		was = old
		return nil
	})
	// Once before it serves, and once more for what came in between.
	r.takeOver(ctx, was)
	if !m.swap(r) {
		return errors.Join(ErrClosed, r.Close(context.WithoutCancel(ctx)))
	}
	r.takeOver(ctx, was)
	if changed != nil {
		*changed = true
	}
	return m.tidy(ctx)
}

// fetch brings a version from an origin, and remembers it. It returns nil if that is
// the one that serves.
func (m *Model) fetch(ctx context.Context, origin string, force bool) (*Runtime, error) {
	h, o := m.host, m.host.options
	if h.store == nil {
		if strings.Contains(origin, "://") {
			return nil, fmt.Errorf("%w: to serve %s takes a State, where it is kept", ErrOptions, origin)
		}
		a, err := artifact.Open(origin, m.reads())
		if err != nil {
			return nil, err
		}
		if _, err := m.wanted(&a.Manifest, a.Digest, a.Signature, force); err != nil {
			return nil, m.unchanged(err)
		}
		return h.runtime(ctx, a)
	}
	t, err := h.store.Fetch(ctx, artifact.NewOrigin(origin), artifact.FetchOptions{
		ReadOptions: m.reads(),
		Accept: func(t *artifact.Table, manifest *artifact.Manifest) error {
			_, err := m.wanted(manifest, t.Digest, t.Signature, force)
			return err
		},
	})
	if err != nil {
		return nil, m.unchanged(err)
	}
	a, err := h.store.Read(t.Digest, m.reads())
	if err != nil {
		return nil, err
	}
	v, err := m.wanted(&a.Manifest, a.Digest, a.Signature, force)
	if err != nil {
		return nil, m.unchanged(err)
	}
	r, err := h.runtime(ctx, a)
	if err != nil {
		return nil, err
	}
	// From here on a restart serves it.
	model := named(&a.Manifest)
	if err = v.accept(ctx, model, newRelease(a.Manifest.Version, a.Digest)); err == nil {
		err = m.point(o.State, model)
	}
	if err != nil {
		return nil, errors.Join(err, r.Close(context.WithoutCancel(ctx)))
	}
	return r, nil
}

// errUnchanged stops the fetching of what serves already.
var errUnchanged = errors.New("edge: nothing has changed")

func (m *Model) unchanged(err error) error {
	if errors.Is(err, errUnchanged) {
		return nil
	}
	return err
}

func (m *Model) reads() artifact.ReadOptions {
	o := m.host.options
	return artifact.ReadOptions{Limits: o.Limits, Keys: o.Trust.keys(), AllowUnsigned: o.AllowUnsigned}
}

// wanted reports whether a version may replace the one that serves: errUnchanged if
// it is that one.
func (m *Model) wanted(manifest *artifact.Manifest, digest [32]byte, s artifact.Signature, force bool) (versions, error) {
	v := versions{dir: m.host.options.State, force: force}
	if err := m.host.admits(manifest.Tenant, s); err != nil {
		return v, err
	}
	m.mu.Lock()
	current := m.current
	m.mu.Unlock()
	is, known := modelName{}, false
	if current == nil {
		if r, err := m.remembered(); err == nil {
			is, known = r.modelName, true
		}
	} else {
		if current.digest == digest && current.signed == s {
			return v, errUnchanged
		}
		is, known = named(&current.manifest), true
	}
	if known && is != named(manifest) && !force {
		return v, fmt.Errorf("%w: %q of tenant %q is served here, and this is %q of tenant %q; open it under a name of its own, or force it",
			ErrModel, is.Name, is.Tenant, manifest.Name, manifest.Tenant)
	}
	return v, v.check(named(manifest), newRelease(manifest.Version, digest))
}

// pointer is the file that says which model is served under a name.
func (m *Model) pointer() string {
	return filepath.Join(m.host.options.State, "models", m.name+".json")
}

func (m *Model) point(state string, to modelName) error {
	b, err := json.Marshal(to)
	if err == nil {
		err = os.MkdirAll(filepath.Join(state, "models"), 0o755)
	}
	if err == nil {
		if old, readErr := os.ReadFile(m.pointer()); readErr == nil && string(old) == string(b)+"\n" {
			return nil
		}
		err = atomicfile.Write(m.pointer(), append(b, '\n'))
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrState, err)
	}
	return nil
}

// remembered returns the record of the model that is served under the name, or an
// error that wraps fs.ErrNotExist.
func (m *Model) remembered() (record, error) {
	if m.host.store == nil {
		return record{}, fmt.Errorf("%w: nothing is remembered without a State", fs.ErrNotExist)
	}
	b, err := os.ReadFile(m.pointer())
	if err != nil {
		return record{}, fmt.Errorf("%w: %w", ErrState, err)
	}
	var name modelName
	if err := json.Unmarshal(b, &name); err != nil {
		return record{}, fmt.Errorf("%w: %s: %w", ErrState, m.pointer(), err)
	}
	r, known, err := versions{dir: m.host.options.State}.read(name)
	if err == nil && !known {
		err = fmt.Errorf("%w: no version of %q: %w", ErrState, name.Name, fs.ErrNotExist)
	}
	return r, err
}

// kept makes a runtime of a version that the state has kept.
func (m *Model) kept(ctx context.Context, v release) (*Runtime, error) {
	digest, ok := v.digest()
	if !ok {
		return nil, fmt.Errorf("%w: %q is no digest", ErrState, v.Digest)
	}
	a, err := m.host.store.Read(digest, m.reads())
	if err != nil {
		return nil, err
	}
	if err := m.host.admits(a.Manifest.Tenant, a.Signature); err != nil {
		return nil, err
	}
	return m.host.runtime(ctx, a)
}

// open serves what the state remembers, and what the origin has if it is newer.
func (m *Model) open(ctx context.Context) error {
	err := m.bring(ctx, func(ctx context.Context) (*Runtime, error) {
		r, err := m.remembered()
		if err != nil {
			return nil, err
		}
		return m.kept(ctx, r.current())
	}, nil)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if m.origin != "" && ctx.Err() == nil {
		_, updated := m.replace(ctx, m.origin, m.host.options.ForceVersion)
		err = errors.Join(err, updated)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.current != nil {
		m.failure = err
		return nil
	}
	if ctx.Err() != nil {
		return errors.Join(ctx.Err(), err)
	}
	if err == nil {
		err = fmt.Errorf("%w: the state remembers no version of it; name an origin", ErrModel)
	}
	return err
}

// previous makes a runtime of the version before the present one, and remembers
// that it serves.
func (m *Model) previous(ctx context.Context) (*Runtime, error) {
	rec, err := m.remembered()
	if err != nil {
		return nil, err
	}
	if rec.Previous == nil {
		return nil, fmt.Errorf("%w: there is no version before %d of %q; it was the first, or was rolled back to", ErrState, rec.current().Version, rec.Name)
	}
	r, err := m.kept(ctx, *rec.Previous)
	if err != nil {
		return nil, err
	}
	v := versions{dir: m.host.options.State}
	if err := v.rollback(ctx, rec.modelName, *rec.Previous); err != nil {
		return nil, errors.Join(err, r.Close(context.WithoutCancel(ctx)))
	}
	return r, nil
}

// tidy removes from the store what no record needs.
func (m *Model) tidy(ctx context.Context) error {
	if m.host.store == nil {
		return nil
	}
	all, err := versions{dir: m.host.options.State}.all()
	if err != nil {
		return err
	}
	var keep [][32]byte
	for _, r := range all {
		for _, v := range r.releases() {
			if d, ok := v.digest(); ok {
				keep = append(keep, d)
			}
		}
	}
	if err := m.host.store.Keep(ctx, keep...); err != nil {
		return fmt.Errorf("%w: %w", ErrState, err)
	}
	return nil
}
