package edge

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"time"

	"github.com/wisp-project/wisp/artifact"
)

// HostOptions say how a host runs its models.
type HostOptions struct {
	// Options hold for each artefact, except that Sandboxes and Queue bound the
	// requests of all models together. With State the host also keeps the content of
	// what it accepted there, so that it can serve without the origin, and roll back;
	// ForceVersion holds for what Host.Open finds at the origin.
	Options
	// Tenants are the limits of tenants, by the name in their artefacts' manifests;
	// Others are those of each tenant that is not listed.
	Tenants map[string]TenantLimits
	Others  TenantLimits
}

// TenantLimits bound what the models of one tenant use together. A zero field is no
// limit beyond the host's. Requests of tenants that wait take turns in any case, so
// that one tenant's flood does not hold up another's requests.
type TenantLimits struct {
	// Sandboxes is the largest number of requests that are worked on at once, and
	// Queue of those that wait; less than 0 is none.
	Sandboxes, Queue int
	// Memory is the largest number of bytes that images and sandboxes may take, had
	// each sandbox written to all that is its own. A version that is being replaced
	// counts until its last request has ended.
	Memory int64
	// Timeout bounds the work on a request, and MaxAnswer the bytes of its answer,
	// where they are less than those of the host's Options.
	Timeout   time.Duration
	MaxAnswer int
	// Keys are those that may sign for this tenant, among the ones that the host
	// trusts. None means all of them.
	Keys []ed25519.PublicKey
}

func (l TenantLimits) validate(name string) error {
	if l.Sandboxes < 0 || l.Memory < 0 || l.Timeout < 0 || l.MaxAnswer < 0 {
		return fmt.Errorf("%w: limits of %s must not be negative, but for Queue", ErrOptions, name)
	}
	return nil
}

// Validate reports the first option that has no meaning.
func (o HostOptions) Validate() error {
	for name, l := range o.Tenants {
		if err := l.validate(fmt.Sprintf("tenant %q", name)); err != nil {
			return err
		}
	}
	if err := o.Others.validate("other tenants"); err != nil {
		return err
	}
	return o.Options.Validate()
}

// Host serves models of many tenants side by side. It is safe for concurrent use.
type Host struct {
	options  HostOptions
	schedule *schedule
	store    *artifact.Store // nil without a state
	// updating is held while a version is brought in: one at a time, as each takes
	// memory of its own and a core.
	updating chan struct{}

	mu      sync.Mutex
	closed  bool
	models  map[string]*Model
	tenants map[string]*tenant
}

// tenant is what the models of a tenant have in common.
type tenant struct {
	name   string
	limits TenantLimits
	share  *share
	memory int64 // bytes in use; the host's mu guards them
}

// NewHost makes a host without models.
func NewHost(o HostOptions) (*Host, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	h := &Host{
		options: o, schedule: newSchedule(o.places()), updating: make(chan struct{}, 1),
		models: map[string]*Model{}, tenants: map[string]*tenant{},
	}
	if o.State != "" {
		var err error
		if h.store, err = artifact.OpenStore(filepath.Join(o.State, "store")); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrState, err)
		}
	}
	return h, nil
}

// modelPattern is what a model may be called: part of a path, and a file.
var modelPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// Open adds a model under a name, which begins with a letter or digit and goes on
// with those, points, dashes and underscores. It serves the last version that the
// state remembers for that name, or a newer one from the origin, which is what
// [artifact.NewOrigin] reads; without a state, the path of a file. An error means
// that there is nothing to serve; why something newer could not be had is in the
// model's Stats.
func (h *Host) Open(ctx context.Context, name, origin string) (*Model, error) {
	fail := func(err error) (*Model, error) { return nil, fmt.Errorf("edge: open %s: %w", name, err) }
	if !modelPattern.MatchString(name) {
		return fail(fmt.Errorf("%w: a model's name has up to 64 letters, digits, points, dashes and underscores, and begins with one of the first two", ErrModel))
	}
	m := &Model{host: h, name: name, origin: origin}
	h.mu.Lock()
	switch {
	case h.closed:
		h.mu.Unlock()
		return fail(ErrClosed)
	case h.models[name] != nil:
		h.mu.Unlock()
		return fail(fmt.Errorf("%w: there is one of that name already; replace its version, or name this one otherwise", ErrModel))
	}
	h.models[name] = m
	h.mu.Unlock()
	if err := m.open(ctx); err != nil {
		h.mu.Lock()
		delete(h.models, name)
		h.mu.Unlock()
		return fail(errors.Join(err, m.Close(context.WithoutCancel(ctx))))
	}
	return m, nil
}

// Model returns the model of a name that is being served.
func (h *Host) Model(name string) (*Model, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if m := h.models[name]; m != nil && m.serves() {
		return m, nil
	}
	return nil, fmt.Errorf("%w: there is none called %q", ErrModel, name)
}

// Models returns all models that are being served, by name.
func (h *Host) Models() []*Model {
	h.mu.Lock()
	defer h.mu.Unlock()
	var all []*Model
	for _, m := range h.models {
		if m.serves() {
			all = append(all, m)
		}
	}
	slices.SortFunc(all, func(a, b *Model) int { return cmp.Compare(a.name, b.name) })
	return all
}

// Close closes all models; see [Model.Close].
func (h *Host) Close(ctx context.Context) error {
	h.mu.Lock()
	h.closed = true
	var all []*Model
	for _, m := range h.models {
		all = append(all, m)
	}
	h.mu.Unlock()
	var err error
	for _, m := range all {
		err = errors.Join(err, m.Close(ctx))
	}
	return err
}

// limits returns those of a tenant.
func (h *Host) limits(name string) TenantLimits {
	if l, ok := h.options.Tenants[name]; ok {
		return l
	}
	return h.options.Others
}

// admits reports a signature that is not good enough for the tenant.
func (h *Host) admits(name string, s artifact.Signature) error {
	keys := h.limits(name).Keys
	if len(keys) == 0 || s.Trusted && slices.ContainsFunc(keys, func(k ed25519.PublicKey) bool { return artifact.NewKeyID(k) == s.Key }) {
		return nil
	}
	return fmt.Errorf("%w: key %v may not sign for tenant %q; add it to the tenant's keys if it should", artifact.ErrUntrusted, s.Key, name)
}

// runtime makes a runtime of an artefact within the limits of its tenant.
func (h *Host) runtime(ctx context.Context, a *artifact.Artifact) (*Runtime, error) {
	if err := a.Validate(); err != nil {
		return nil, err
	}
	name := a.Manifest.Tenant
	limits, o := h.limits(name), h.options.Options
	o.Timeout = least(o.Timeout, limits.Timeout)
	o.MaxAnswer = least(o.MaxAnswer, limits.MaxAnswer)
	places, queue := h.schedule.all.places, h.schedule.all.queue
	if limits.Sandboxes > 0 {
		places = min(places, limits.Sandboxes)
	}
	if limits.Queue != 0 {
		queue = min(queue, limits.Queue)
	}
	// The image once, and of each sandbox what its guest may write to.
	var image int64
	for _, s := range a.Segments {
		image += int64(len(s.Data))
	}
	own := int64(a.Manifest.Limits.MemoryPages) << 16
	if o.Trust.kernel(a) {
		own -= image // never written to
	}
	if own > (math.MaxInt64-image)/int64(places) {
		return nil, fmt.Errorf("%w: %d sandboxes of %d bytes", ErrLimit, places, own)
	}
	need := image + int64(places)*own

	h.mu.Lock()
	t := h.tenants[name]
	if t == nil {
		t = &tenant{name: name, limits: limits, share: h.schedule.share(h.schedule.all, fmt.Sprintf("tenant %q", name), places, queue)}
		h.tenants[name] = t
	}
	if limits.Memory > 0 && need > limits.Memory-t.memory {
		used := t.memory
		h.mu.Unlock()
		return nil, fmt.Errorf("%w: tenant %q may have %d bytes of memory and uses %d; this artefact takes %d (an image of %d, %d sandboxes with %d each); allow more, or fewer sandboxes",
			ErrLimit, name, limits.Memory, used, need, image, places, own)
	}
	t.memory += need
	h.mu.Unlock()
	free := sync.OnceFunc(func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		t.memory -= need
	})
	at := seat{schedule: h.schedule, share: h.schedule.share(t.share, fmt.Sprintf("model %q", a.Manifest.Name), places, queue), freed: free}
	r, err := newRuntime(ctx, a, o, at)
	if err != nil {
		free()
		return nil, err
	}
	return r, nil
}

// least returns the lesser of two limits, of which 0 is none.
func least[T int | time.Duration](a, b T) T {
	if a == 0 || b > 0 && b < a {
		return b
	}
	return a
}
