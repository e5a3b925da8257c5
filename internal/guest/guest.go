// Package guest runs the kernel over an image with nothing around it: for
// measurements of the guest itself. Package edge is what serves requests.
package guest

import (
	"context"
	"fmt"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/wisp-project/wisp/internal/layout"
	"github.com/wisp-project/wisp/wasm"
)

// Guest is an instance of the kernel. It is for one goroutine.
type Guest struct {
	Image   *layout.Image
	runtime wazero.Runtime
	memory  api.Memory
	run     api.Function
}

// Open packs p and starts a kernel over it. Close frees it.
func Open(ctx context.Context, p layout.Params) (*Guest, error) {
	b, err := layout.Pack(p)
	if err != nil {
		return nil, fmt.Errorf("guest: %w", err)
	}
	image, err := layout.Open(b)
	if err != nil {
		return nil, fmt.Errorf("guest: %w", err)
	}
	g := &Guest{Image: image, runtime: wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigCompiler())}
	module, err := g.runtime.Instantiate(ctx, wasm.Kernel)
	if err != nil {
		return nil, fmt.Errorf("guest: %w", err)
	}
	g.memory, g.run = module.Memory(), module.ExportedFunction("run")
	if _, ok := g.memory.Grow(image.Map.Pages - g.memory.Size()>>16); !ok || !g.memory.Write(layout.ImageBase, b) {
		return nil, fmt.Errorf("guest: the image of %d bytes does not fit", len(b))
	}
	return g, nil
}

// Close frees the guest.
func (g *Guest) Close(ctx context.Context) error { return g.runtime.Close(ctx) }

// Answer runs a request to its end and returns its answer.
func (g *Guest) Answer(ctx context.Context, r layout.Request) (layout.Answer, error) {
	if err := g.finish(ctx, r.Append(nil)); err != nil {
		return layout.Answer{}, err
	}
	limits := r.AnswerLimits(g.Image.Shape)
	b, ok := g.memory.Read(g.Image.Map.Answer, uint32(limits.Len()))
	if !ok {
		return layout.Answer{}, fmt.Errorf("guest: the answer lies outside of the memory")
	}
	return layout.ParseAnswer(b[:layout.ParseAnswerHeader(b).Len()], limits, nil)
}

// Timed runs a request once, and n times, and returns the time that each of
// those took.
func (g *Guest) Timed(ctx context.Context, r layout.Request, n int) ([]time.Duration, error) {
	request, times := r.Append(nil), make([]time.Duration, 0, n)
	for i := range n + 1 {
		start := time.Now() //nolint:forbidigo // to measure is what this is for
		if err := g.finish(ctx, request); err != nil {
			return nil, err
		}
		if i > 0 {
			times = append(times, time.Since(start)) //nolint:forbidigo // likewise
		}
	}
	return times, nil
}

func (g *Guest) finish(ctx context.Context, request []byte) error {
	if !g.memory.Write(g.Image.Map.Request, request) {
		return fmt.Errorf("guest: a request of %d bytes does not fit", len(request))
	}
	for {
		status, err := g.run.Call(ctx)
		if err != nil {
			return fmt.Errorf("guest: %w", err)
		}
		switch status[0] {
		case layout.StatusOK:
			return nil
		case layout.StatusMore:
		default:
			return fmt.Errorf("guest: the kernel gives status %d", status[0])
		}
	}
}
