// Package edge runs .wisp artefacts: requests are answered by the artefact's
// WebAssembly kernel in a pool of wazero sandboxes, and by nothing else.
//
//	r, err := edge.Open(ctx, "shop.wisp", edge.Options{AllowUnsigned: true})
//	...
//	defer r.Close(ctx)
//	answer, err := r.Recommend(ctx, edge.Request{History: events, K: 10})
package edge

import (
	"bytes"
	"context"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/tetratelabs/wazero"

	"github.com/wisp-project/wisp/artifact"
	"github.com/wisp-project/wisp/internal/layout"
	"github.com/wisp-project/wisp/wasm"
)

// Options say how an artefact is run. The zero value is a good default, and the
// strict one: it refuses artefacts without a signature.
type Options struct {
	// Sandboxes is the largest number of requests that are worked on at once, and
	// of instances of the kernel. Each takes the memory that Manifest().Limits
	// states. 0 means runtime.GOMAXPROCS(0).
	Sandboxes int
	// Timeout bounds a request to a kernel that is not the one this package was
	// built with; 0 means one second. The own kernel always ends: a request to
	// it is bounded by the context alone.
	Timeout time.Duration
	// Interpreter runs the kernel in wazero's interpreter, some fifty times
	// slower, where machine code may not be made at run time. It is also used
	// where wazero has no compiler for the machine.
	Interpreter bool
	// AllowUnsigned accepts artefacts without a signature.
	AllowUnsigned bool
	// Limits bound the artefact's declared sizes; zero fields mean defaults.
	Limits artifact.Limits
}

// Validate reports the first option that has no meaning.
func (o Options) Validate() error {
	if o.Sandboxes < 0 || o.Timeout < 0 {
		return fmt.Errorf("%w: sandboxes and timeout must not be negative", ErrOptions)
	}
	return nil
}

// Runtime answers requests from one artefact. It is safe for concurrent use.
type Runtime struct {
	manifest artifact.Manifest
	digest   [32]byte
	items    []artifact.Item
	index    map[string]uint32 // item by id
	image    *layout.Image
	kernel   wazero.CompiledModule
	wazero   wazero.Runtime
	timeout  time.Duration // of an untrusted kernel, 0 for the own one

	// slots holds a token for each request in progress, idle the sandboxes that
	// wait; a sandbox is made when a request finds none.
	slots chan struct{}
	mu    sync.Mutex
	idle  []*sandbox
	close sync.Once
	done  chan struct{}
}

// Open reads the artefact at path, checks all of it, compiles its kernel and
// answers its golden requests; a runtime it returns is ready for traffic.
func Open(ctx context.Context, path string, o Options) (*Runtime, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	a, err := artifact.Open(path, artifact.ReadOptions{Limits: o.Limits, AllowUnsigned: o.AllowUnsigned})
	if err != nil {
		return nil, fmt.Errorf("edge: open: %w", err) // it names the file
	}
	r, err := New(ctx, a, o)
	if err != nil {
		return nil, fmt.Errorf("edge: open %s: %w", path, err)
	}
	return r, nil
}

// New makes a runtime of an artefact that was read before. It shares the
// catalogue with a, which must not change any more.
func New(ctx context.Context, a *artifact.Artifact, o Options) (_ *Runtime, err error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if err := a.Validate(); err != nil {
		return nil, err
	}
	image, err := a.Image()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrArtefact, err)
	}
	n := o.Sandboxes
	if n == 0 {
		n = runtime.GOMAXPROCS(0)
	}
	r := &Runtime{
		manifest: a.Manifest, digest: a.Digest, items: a.Items, index: make(map[string]uint32, len(a.Items)), image: image,
		slots: make(chan struct{}, n), done: make(chan struct{}),
	}
	for i, item := range a.Items {
		r.index[item.ID] = uint32(i)
	}
	config := wazero.NewRuntimeConfig()
	if o.Interpreter {
		config = wazero.NewRuntimeConfigInterpreter()
	}
	if !bytes.Equal(a.Kernel, wasm.Kernel) {
		// The own kernel returns after each slice of work. Any other may not:
		// wazero then watches the context at every loop, which costs speed.
		config = config.WithCloseOnContextDone(true)
		r.timeout = o.Timeout
		if r.timeout == 0 {
			r.timeout = time.Second
		}
	}
	r.wazero = wazero.NewRuntimeWithConfig(ctx, config.WithMemoryLimitPages(image.Map.Pages))
	defer func() {
		if err != nil {
			_ = r.wazero.Close(ctx)
		}
	}()
	r.kernel, err = r.wazero.CompileModule(ctx, a.Kernel)
	if err != nil {
		return nil, fmt.Errorf("%w: its kernel is not a WebAssembly module of the expected form: %w", ErrArtefact, err)
	}
	if err := checkKernel(r.kernel); err != nil {
		return nil, err
	}
	if err := r.goldens(ctx, a.Goldens); err != nil {
		return nil, err
	}
	return r, nil
}

// checkKernel refuses modules that want something of the host or lack an export.
func checkKernel(k wazero.CompiledModule) error {
	if f := k.ImportedFunctions(); len(f) > 0 {
		module, name, _ := f[0].Import()
		return fmt.Errorf("%w: its kernel imports %s.%s; a kernel imports nothing", ErrArtefact, module, name)
	}
	if len(k.ImportedMemories()) > 0 || k.ExportedMemories()["memory"] == nil {
		return fmt.Errorf("%w: its kernel does not export a memory of its own", ErrArtefact)
	}
	run, ok := k.ExportedFunctions()["run"]
	if !ok || len(run.ParamTypes()) != 0 || len(run.ResultTypes()) != 1 {
		return fmt.Errorf("%w: its kernel has no function run that returns a status", ErrArtefact)
	}
	return nil
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

// with runs f with a sandbox of its own, and waits for one while all are busy.
func (r *Runtime) with(ctx context.Context, f func(context.Context, *sandbox) error) error {
	select {
	case <-r.done:
		return ErrClosed
	default:
	}
	select {
	case r.slots <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	case <-r.done:
		return ErrClosed
	}
	defer func() { <-r.slots }()
	if r.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, r.timeout, fmt.Errorf("%w: no answer within %v", ErrSandbox, r.timeout))
		defer cancel()
	}
	s, err := r.take(ctx)
	if err != nil {
		return err
	}
	if err := f(ctx, s); err != nil {
		s.close()
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		return err
	}
	r.mu.Lock()
	r.idle = append(r.idle, s)
	r.mu.Unlock()
	return nil
}

// take returns an idle sandbox or makes one.
func (r *Runtime) take(ctx context.Context) (*sandbox, error) {
	r.mu.Lock()
	if n := len(r.idle); n > 0 {
		s := r.idle[n-1]
		r.idle = r.idle[:n-1]
		r.mu.Unlock()
		return s, nil
	}
	r.mu.Unlock()
	return newSandbox(ctx, r.wazero, r.kernel, r.image)
}

// Manifest returns what the artefact says of itself.
func (r *Runtime) Manifest() artifact.Manifest { return r.manifest }

// Digest returns the SHA-256 that identifies the artefact.
func (r *Runtime) Digest() [32]byte { return r.digest }

// Items returns the catalogue in the order of the item table. Callers must not
// change it.
func (r *Runtime) Items() []artifact.Item { return r.items }

// Close waits for the requests in progress and frees the sandboxes. Later
// requests get ErrClosed. ctx bounds the wait.
func (r *Runtime) Close(ctx context.Context) error {
	var err error
	r.close.Do(func() {
		close(r.done)
		for range cap(r.slots) {
			select {
			case r.slots <- struct{}{}: // a free slot needs no wait, so an ended ctx is no error
				continue
			default:
			}
			select {
			case r.slots <- struct{}{}:
			case <-ctx.Done():
				err = fmt.Errorf("edge: close: requests are still in progress: %w", ctx.Err())
			}
		}
		if e := r.wazero.Close(context.WithoutCancel(ctx)); err == nil && e != nil {
			err = fmt.Errorf("edge: close: %w", e)
		}
	})
	return err
}
