package edge

import (
	"context"
	"fmt"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/wisp-project/wisp/internal/layout"
)

// sandbox is one instance of the kernel with the image in its memory. It serves
// one request at a time.
type sandbox struct {
	module  api.Module
	memory  api.Memory
	run     api.Function
	request []byte       // the encoded request; reused
	hits    []layout.Hit // of the last answer; reused
	stack   [1]uint64
}

// newSandbox instantiates the kernel and copies the image into its memory.
func newSandbox(ctx context.Context, r wazero.Runtime, kernel wazero.CompiledModule, image *layout.Image) (*sandbox, error) {
	module, err := r.InstantiateModule(ctx, kernel, wazero.NewModuleConfig().WithName(""))
	if err != nil {
		return nil, fmt.Errorf("%w: instantiate: %w", ErrSandbox, err)
	}
	s := &sandbox{module: module, memory: module.Memory(), run: module.ExportedFunction("run")}
	pages := s.memory.Size() >> 16
	if pages < image.Map.Pages {
		if _, ok := s.memory.Grow(image.Map.Pages - pages); !ok {
			_ = module.Close(ctx)
			return nil, fmt.Errorf("%w: memory does not grow from %d to %d pages of 64 KiB", ErrSandbox, pages, image.Map.Pages)
		}
	}
	if !s.memory.Write(layout.ImageBase, image.Bytes()) {
		_ = module.Close(ctx)
		return nil, fmt.Errorf("%w: the image does not fit into the memory", ErrSandbox)
	}
	return s, nil
}

// answer runs an encoded request and returns the bytes of the answer, a view
// into the guest's memory that is valid until the next call. limit is the
// largest answer that makes sense.
//
// The kernel works in slices; between two of them ctx is looked at. A sandbox
// whose answer returned an error must be closed.
func (s *sandbox) answer(ctx context.Context, m layout.Map, request []byte, limit layout.AnswerHeader) ([]byte, error) {
	if !s.memory.Write(m.Request, request) {
		return nil, fmt.Errorf("%w: a request of %d bytes does not fit", ErrSandbox, len(request))
	}
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := s.run.CallWithStack(ctx, s.stack[:]); err != nil {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			return nil, fmt.Errorf("%w: %w", ErrSandbox, err)
		}
		if uint32(s.stack[0]) != layout.StatusMore {
			break
		}
	}
	head, ok := s.memory.Read(m.Answer, layout.AnswerHeaderLen)
	if !ok {
		return nil, fmt.Errorf("%w: the answer lies outside the memory", ErrSandbox)
	}
	h := layout.ParseAnswerHeader(head)
	if !h.Within(limit) {
		return nil, fmt.Errorf("%w: it answers with %d hits, %d values and a row of %d where at most %d, %d and %d were asked for",
			ErrSandbox, h.Hits, h.Vector, h.Row, limit.Hits, limit.Vector, limit.Row)
	}
	b, ok := s.memory.Read(m.Answer, uint32(h.Len()))
	if !ok {
		return nil, fmt.Errorf("%w: the answer lies outside the memory", ErrSandbox)
	}
	return b, nil
}

// do answers a request; the hits are valid until the next call.
func (s *sandbox) do(ctx context.Context, image *layout.Image, r *layout.Request) (layout.Answer, error) {
	limit := r.AnswerLimits(image.Shape)
	s.request = r.Append(s.request[:0])
	b, err := s.answer(ctx, image.Map, s.request, limit)
	if err != nil {
		return layout.Answer{}, err
	}
	a, err := layout.ParseAnswer(b, limit, s.hits[:0])
	if err != nil {
		return layout.Answer{}, fmt.Errorf("%w: %w", ErrSandbox, err)
	}
	s.hits = a.Hits
	if a.Status != layout.StatusOK {
		return layout.Answer{}, fmt.Errorf("%w: it refuses a valid request with status %d", ErrSandbox, a.Status)
	}
	return a, nil
}

func (s *sandbox) close() { _ = s.module.Close(context.Background()) }
