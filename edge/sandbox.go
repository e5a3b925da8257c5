package edge

import (
	"bytes"
	"context"
	"fmt"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"

	"github.com/wisp-project/wisp/internal/layout"
)

// guestImage is what the sandboxes of a runtime have in common.
type guestImage struct {
	Shape  layout.Shape
	Map    layout.Map
	shared *sharedImage
	// maxAnswer is the largest answer that a request may have, in bytes; 0 for any.
	maxAnswer int
	// start holds the kernel's own data as it is before the first request, without
	// the zeros behind it.
	start []byte
}

// sandbox is one instance of the kernel with the image in its memory. It serves
// one request at a time.
type sandbox struct {
	module  api.Module
	memory  api.Memory
	pages   *memory
	run     api.Function
	request []byte       // the encoded request; reused
	hits    []layout.Hit // of the last answer; reused
	stack   [1]uint64
	over    *overlay // what lies over the image; nil for nothing
}

// newSandbox instantiates the kernel in a memory that holds the image.
func newSandbox(ctx context.Context, r wazero.Runtime, kernel wazero.CompiledModule, image *guestImage) (_ *sandbox, err error) {
	pages, err := image.shared.newMemory(int(image.Map.End))
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			pages.release()
		}
	}()
	with := experimental.WithMemoryAllocator(ctx, experimental.MemoryAllocatorFunc(func(uint64, uint64) experimental.LinearMemory { return pages }))
	module, err := r.InstantiateModule(with, kernel, wazero.NewModuleConfig().WithName(""))
	if err != nil {
		return nil, fmt.Errorf("%w: instantiate: %w", ErrSandbox, err)
	}
	s := &sandbox{module: module, memory: module.Memory(), pages: pages, run: module.ExportedFunction("run")}
	if err := s.grow(image.Map.Pages); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// grow gives the guest all the memory it is to have. Before that it must have no
// more than lies below the image, or its data might hide the image.
func (s *sandbox) grow(pages uint32) error {
	if s.memory.Size() > layout.ImageBase {
		return fmt.Errorf("%w: it took %d bytes before its first request, %d are its own", ErrMemory, s.memory.Size(), layout.ImageBase)
	}
	has := s.memory.Size() >> 16
	if _, ok := s.memory.Grow(pages - has); !ok {
		return fmt.Errorf("%w: its kernel does not let the memory grow from %d to %d pages of 64 KiB", ErrMemory, has, pages)
	}
	return nil
}

// data returns a copy of the kernel's own data.
func (s *sandbox) data() []byte {
	return bytes.Clone(bytes.TrimRight(s.pages.bytes[:layout.ImageBase], "\x00"))
}

// wipe brings the memory back to what it was before the first request: stack, the
// kernel's data and scratch area. The image needs it not, as no trusted kernel
// writes there; and the only global of one, the stack pointer, is back in its
// place when run returns.
func (s *sandbox) wipe(image *guestImage) {
	s.pages.zero(0, layout.ImageBase)
	s.pages.zero(image.Map.Scratch, image.Map.End)
	copy(s.pages.bytes, image.start)
}

// answer runs an encoded request and returns the bytes of the answer, a view
// into the guest's memory that is valid until the next call. limit is the
// largest answer that makes sense.
//
// The kernel works in slices; between two of them ctx is looked at. A sandbox
// whose answer returned an error that wraps ErrSandbox must be closed.
func (s *sandbox) answer(ctx context.Context, m layout.Map, request []byte, limit layout.AnswerHeader) ([]byte, error) {
	if !s.memory.Write(m.Request, request) {
		return nil, fmt.Errorf("%w: a request of %d bytes does not fit", ErrSandbox, len(request))
	}
	for {
		if err := ctx.Err(); err != nil {
			return nil, context.Cause(ctx)
		}
		err := s.run.CallWithStack(ctx, s.stack[:])
		switch {
		case err != nil && ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case s.pages.refused:
			return nil, fmt.Errorf("%w: it asked for more than its %d bytes", ErrMemory, len(s.pages.bytes))
		case err != nil:
			return nil, fmt.Errorf("%w: %w", ErrSandbox, err)
		}
		if uint32(s.stack[0]) != layout.StatusMore {
			break
		}
	}
	head, ok := s.memory.Read(m.Answer, layout.AnswerHeaderLen)
	if !ok {
		return nil, fmt.Errorf("%w: it lies outside the memory", ErrAnswer)
	}
	h := layout.ParseAnswerHeader(head)
	if !h.Within(limit) {
		return nil, fmt.Errorf("%w: it has %d hits, %d values, a row of %d and a state of %d where at most %d, %d, %d and %d were asked for",
			ErrAnswer, h.Hits, h.Vector, h.Row, h.State, limit.Hits, limit.Vector, limit.Row, limit.State)
	}
	b, ok := s.memory.Read(m.Answer, uint32(h.Len()))
	if !ok {
		return nil, fmt.Errorf("%w: it lies outside the memory", ErrAnswer)
	}
	return b, nil
}

// lay brings what lies over the image up to date. It stays when the sandbox is wiped:
// it is of the runtime, not of a request.
func (s *sandbox) lay(v view) error {
	o := v.overlay
	if s.over == o {
		return nil
	}
	var patches []layout.Patch
	if o != nil {
		patches = o.patches
	} else { // the request came before the first insertion, and had to wait
		var err error
		if patches, err = v.layout.Patches(&layout.Overlay{}); err != nil {
			return fmt.Errorf("%w: %w", ErrSandbox, err)
		}
	}
	for _, p := range patches {
		if !s.memory.Write(p.At, p.Bytes) {
			return fmt.Errorf("%w: what lies over the image does not fit", ErrSandbox)
		}
	}
	s.over = o
	return nil
}

// do answers a request; the hits and the state are valid until the next call.
func (s *sandbox) do(ctx context.Context, v view, r *layout.Request) (layout.Answer, error) {
	if err := s.lay(v); err != nil {
		return layout.Answer{}, err
	}
	limit := r.AnswerLimits(v.image.Shape)
	if n := limit.Len(); v.image.maxAnswer > 0 && n > v.image.maxAnswer {
		return layout.Answer{}, fmt.Errorf("%w: its answer may have %d bytes, %d are allowed; ask for fewer items", ErrRequest, n, v.image.maxAnswer)
	}
	s.request = r.Append(s.request[:0])
	b, err := s.answer(ctx, v.m, s.request, limit)
	if err != nil {
		return layout.Answer{}, err
	}
	a, err := layout.ParseAnswer(b, limit, s.hits[:0])
	if err != nil {
		return layout.Answer{}, fmt.Errorf("%w: %w", ErrAnswer, err)
	}
	s.hits = a.Hits
	if err := believable(&a, r, v.image.Shape, v.m.Items); err != nil {
		return layout.Answer{}, fmt.Errorf("%w: %w", ErrAnswer, err)
	}
	return a, nil
}

func finite(v float32) bool { return v-v == 0 }

// believable checks what the rest of the package takes for granted in an answer
// to r, whatever the kernel is like.
func believable(a *layout.Answer, r *layout.Request, s layout.Shape, items int) error {
	if a.Status != layout.StatusOK {
		return fmt.Errorf("it refuses a valid request with status %d", a.Status)
	}
	if limit := r.AnswerLimits(s); len(a.Vector) != limit.Vector || len(a.Row) != limit.Row {
		return fmt.Errorf("it has %d values and a row of %d, not %d and %d", len(a.Vector), len(a.Row), limit.Vector, limit.Row)
	}
	if r.Flags&layout.FlagState != 0 {
		if err := s.CheckState(a.State); err != nil {
			return err
		}
	}
	hits, reasons, attributes := r.Parts(a.Hits)
	if n := len(reasons) + len(attributes); n != len(hits)*r.ReasonsEach() {
		return fmt.Errorf("it has %d reasons for %d hits, not %d for each", n, len(hits), r.ReasonsEach())
	}
	if err := believableReasons(reasons, attributes, r, s); err != nil {
		return err
	}
	scored := r.Kind == layout.KindScore || r.Kind == layout.KindRate
	if scored && len(hits) != len(r.List) {
		return fmt.Errorf("it has %d scores of %d", len(hits), len(r.List))
	}
	if r.Kind == layout.KindClassify {
		if items = s.Text.Classes; len(hits) != items {
			return fmt.Errorf("it has %d classes of %d", len(hits), items)
		}
	}
	for i, hit := range hits {
		if int64(hit.Item) >= int64(items) || scored && hit.Item != r.List[i] || r.Kind == layout.KindClassify && int(hit.Item) != i {
			return fmt.Errorf("hit %d is item %d, which was not asked for", i, hit.Item)
		}
		if !finite(hit.Score) {
			return fmt.Errorf("hit %d has the score %v", i, hit.Score)
		}
	}
	for i, v := range a.Vector {
		if !finite(v) {
			return fmt.Errorf("value %d is %v", i, v)
		}
	}
	if !finite(a.Scale) {
		return fmt.Errorf("the scale of the row is %v", a.Scale)
	}
	return nil
}

// close ends the instance and releases its memory. Whoever it served must have
// copied what is to be kept.
func (s *sandbox) close() {
	_ = s.module.Close(context.Background())
	s.pages.release()
}
