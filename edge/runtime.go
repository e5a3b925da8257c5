// Package edge runs .wisp artefacts: requests are answered by the artefact's
// WebAssembly kernel in a pool of wazero sandboxes, and by nothing else.
//
//	key, err := artifact.ReadPublicKey("shop.key.pub")
//	...
//	r, err := edge.Open(ctx, "shop.wisp", edge.Options{Trust: edge.Trust{Keys: []ed25519.PublicKey{key}}})
//	...
//	defer r.Close(ctx)
//	answer, err := r.Recommend(ctx, edge.Request{History: events, K: 10})
//
// A [Runtime] is one version of one model. A [Host] serves several models side by
// side, keeps what it accepts, and replaces their versions while they answer.
package edge

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tetratelabs/wazero"

	"github.com/wisp-project/wisp/artifact"
	"github.com/wisp-project/wisp/internal/layout"
)

// Options say how an artefact is run. The zero value is a good default, and the
// strict one: it refuses artefacts without a signature.
type Options struct {
	// Sandboxes is the largest number of requests that are worked on at once, and
	// of instances of the kernel. Each has the memory that Manifest().Limits states,
	// of which the image is shared. 0 means runtime.GOMAXPROCS(0).
	Sandboxes int
	// Queue is the largest number of requests that wait for a sandbox; one more
	// gets ErrOverloaded at once. 0 means 64 for each sandbox, less than 0 none.
	Queue int
	// Sessions is the largest number of sessions that are open at once. Each keeps
	// the keys and values of the events in the window, 2·layers·window·dim bytes,
	// and the items that its user has seen. 0 means 10,000, less than 0 none.
	Sessions int
	// Isolation says what a request may find of those before it.
	Isolation Isolation
	// MaxMemory is the largest memory of a sandbox, in bytes; an artefact that
	// needs more is refused. 0 means the 4 GiB of the format.
	MaxMemory int64
	// Timeout bounds the work on a request, not its wait for a sandbox. 0 means one
	// second for a kernel that is not trusted, and nothing for one that is: it
	// always ends, and the context bounds a request to it. See Trust.
	Timeout time.Duration
	// MaxAnswer is the largest answer of the kernel, in bytes; a request that could
	// have a larger one gets ErrRequest. An item takes twelve bytes. 0 means what the
	// artefact's own limits allow.
	MaxAnswer int
	// Now, unless nil, is the clock that requests are timed with, for Stats.
	Now func() time.Time
	// Interpreter runs the kernel in wazero's interpreter, some fifty times
	// slower, where machine code may not be made at run time. It is also used
	// where wazero has no compiler for the machine.
	Interpreter bool
	// Trust says whose artefacts are accepted, and whose kernels are trusted.
	Trust Trust
	// AllowUnsigned accepts artefacts without a signature, and with one of a key
	// that is not trusted.
	AllowUnsigned bool
	// State is a folder in which the last version accepted of each name and
	// tenant is remembered, over restarts; it is made where there is none, and
	// processes may share it. A lower version is refused, and so is other content
	// of the same version. Empty means that every version is accepted.
	State string
	// ForceVersion accepts a version that State would refuse, and remembers it as
	// the last one.
	ForceVersion bool
	// Cache is a folder for the machine code of kernels, so that a later process
	// need not compile them; it is made where there is none. It must belong to the
	// user of this process, or to root, and nobody else may write to it. Entries
	// that are damaged or of another machine, compiler or kernel are made anew.
	// Empty means none.
	Cache string
	// Limits bound the artefact's declared sizes; zero fields mean defaults.
	Limits artifact.Limits
}

// Validate reports the first option that has no meaning.
func (o Options) Validate() error {
	if o.Sandboxes < 0 || o.Timeout < 0 || o.MaxMemory < 0 || o.MaxAnswer < 0 {
		return fmt.Errorf("%w: sandboxes, timeout, memory and answers must not be negative", ErrOptions)
	}
	if err := o.Isolation.Validate(); err != nil {
		return err
	}
	if o.ForceVersion && o.State == "" {
		return fmt.Errorf("%w: a version can be forced only where a state remembers versions", ErrOptions)
	}
	return o.Trust.validate()
}

// Runtime answers requests from one artefact. It is safe for concurrent use.
type Runtime struct {
	manifest   artifact.Manifest
	digest     [32]byte
	signed     artifact.Signature
	items      []artifact.Item
	index      map[string]uint32 // item by id
	attributes []string          // names
	image      *guestImage
	compiled
	timeout time.Duration // 0 for none
	sliced  bool          // the kernel is trusted to return after each slice of work

	labels    []artifact.Label // by number
	layout    layout.Layout    // of the image
	inserting sync.Mutex       // held while over is replaced
	over      atomic.Pointer[overlay]

	sessions    atomic.Int64 // that are open
	maxSessions int64

	pool
}

// Open reads the artefact at path, checks all of it, compiles its kernel and
// answers its golden requests; a runtime it returns is ready for traffic.
func Open(ctx context.Context, path string, o Options) (*Runtime, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	a, err := artifact.Open(path, artifact.ReadOptions{Limits: o.Limits, Keys: o.Trust.keys(), AllowUnsigned: o.AllowUnsigned})
	if err != nil {
		return nil, fmt.Errorf("edge: open: %w", err) // it names the file
	}
	r, err := New(ctx, a, o)
	if err != nil {
		return nil, fmt.Errorf("edge: open %s: %w", path, err)
	}
	return r, nil
}

// New makes a runtime of an artefact that was read before, with the keys of
// o.Trust where it was to be signed: New itself refuses nobody's. It shares the
// catalogue with a, which must not change any more.
func New(ctx context.Context, a *artifact.Artifact, o Options) (*Runtime, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if err := a.Validate(); err != nil {
		return nil, err
	}
	v := versions{dir: o.State, force: o.ForceVersion}
	now := newRelease(a.Manifest.Version, a.Digest)
	if err := v.check(named(&a.Manifest), now); err != nil {
		return nil, err
	}
	s := newSchedule(o.places())
	r, err := newRuntime(ctx, a, o, seat{schedule: s, share: s.all})
	if err != nil {
		return nil, err
	}
	// Last of all: what cannot run must not keep out what could.
	if err := v.accept(ctx, named(&a.Manifest), now); err != nil {
		return nil, errors.Join(err, r.Close(context.WithoutCancel(ctx)))
	}
	return r, nil
}

// places returns how many requests are worked on, and how many may wait.
func (o Options) places() (places, queue int) {
	if places = o.Sandboxes; places == 0 {
		places = runtime.GOMAXPROCS(0)
	}
	if queue = o.Queue; queue == 0 {
		queue = 64 * places
	}
	return places, queue
}

// newRuntime makes a runtime with a place among others, whatever its version.
func newRuntime(ctx context.Context, a *artifact.Artifact, o Options, at seat) (_ *Runtime, err error) {
	image, err := a.Image()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrArtefact, err)
	}
	if o.MaxMemory > 0 && int64(image.Map.End) > o.MaxMemory {
		return nil, fmt.Errorf("%w: %w: a sandbox needs %d bytes of memory for an image of %d, MaxMemory allows %d; allow more, or compress a smaller model",
			ErrArtefact, ErrLimit, image.Map.End, image.Map.Scratch-layout.ImageBase, o.MaxMemory)
	}
	r := &Runtime{
		manifest: a.Manifest, digest: a.Digest, signed: a.Signature, items: a.Items, index: make(map[string]uint32, len(a.Items)),
		attributes: image.AttributeNames(),
		image:      &guestImage{Shape: image.Shape, Map: image.Map, maxAnswer: o.MaxAnswer}, timeout: o.Timeout, sliced: o.Trust.kernel(a),
		maxSessions: max(0, int64(cmp.Or(o.Sessions, 10000))),
		pool:        newPool(at, o.Isolation, o.Now),
	}
	for i, item := range a.Items {
		r.index[item.ID] = uint32(i)
	}
	r.labels, _ = artifact.Labels(a.Items)
	r.layout = image.Layout()
	config := wazero.NewRuntimeConfig()
	if o.Interpreter {
		config = wazero.NewRuntimeConfigInterpreter()
	}
	if !r.sliced && r.timeout == 0 {
		r.timeout = time.Second
	}
	defer func() {
		if err != nil {
			_ = r.Close(context.WithoutCancel(ctx))
		}
	}()
	if r.image.shared, err = shareImage(image.Bytes()); err != nil {
		return nil, err
	}
	if err := checkModule(a.Kernel, r.image.Map.End, r.sliced); err != nil {
		return nil, err
	}
	// A trusted kernel returns after each slice of work. Any other may not: wazero
	// then watches the context at every loop and call, which costs speed.
	if r.compiled, err = compile(ctx, a.Kernel, config, r.sliced, o.Cache); err != nil {
		return nil, err
	}
	if err := checkKernel(r.kernel); err != nil {
		return nil, err
	}
	if r.sliced && r.isolation == Wiped {
		if err := r.recordStart(ctx); err != nil {
			return nil, err
		}
	}
	if err := r.goldens(ctx, a.Goldens); err != nil {
		return nil, err
	}
	return r, nil
}

// goldens answers the golden requests and compares every bit.
func (r *Runtime) goldens(ctx context.Context, goldens []artifact.Golden) error {
	for i, g := range goldens {
		request, err := layout.ParseRequest(g.Request)
		if err == nil {
			err = request.Check(r.image.Shape, r.image.Map)
		}
		if err != nil {
			return fmt.Errorf("%w: golden request %d: %w", ErrArtefact, i, err)
		}
		var got []byte
		err = r.with(ctx, func(ctx context.Context, s *sandbox) error {
			b, err := s.answer(ctx, r.image.Map, g.Request, request.AnswerLimits(r.image.Shape))
			got = bytes.Clone(b)
			return err
		})
		if err != nil {
			return fmt.Errorf("%w: request %d: %w", ErrGolden, i, err)
		}
		if !bytes.Equal(got, g.Answer) {
			return fmt.Errorf("%w: request %d of %d: the answer differs from the exact one; "+
				"the kernel, this machine or its engine is not to be trusted with this artefact", ErrGolden, i, len(goldens))
		}
	}
	return nil
}

// Manifest returns what the artefact says of itself.
func (r *Runtime) Manifest() artifact.Manifest { return r.manifest }

// Digest returns the SHA-256 that identifies the artefact.
func (r *Runtime) Digest() [32]byte { return r.digest }

// Cached reports whether the machine code of the kernel came out of Options.Cache.
// The error is why it could not be put there: the runtime works all the same.
func (r *Runtime) Cached() (bool, error) { return r.cached, r.missed }

// Signature returns who signed the artefact.
func (r *Runtime) Signature() artifact.Signature { return r.signed }

// Items returns the catalogue in the order of the item table. Callers must not
// change it.
func (r *Runtime) Items() []artifact.Item { return r.items }
