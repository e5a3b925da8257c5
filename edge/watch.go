package edge

import (
	"context"

	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"
)

// watch looks at the context where a kernel that is not trusted calls a function.
// wazero's own switch looks at the heads of loops only: functions that call each
// other need none to keep a core busy for years, and nothing could end them.
type watch struct{}

// NewFunctionListener watches every function.
func (w watch) NewFunctionListener(api.FunctionDefinition) experimental.FunctionListener { return w }

// Before ends the call, as a trap does, once the context has ended.
func (watch) Before(ctx context.Context, _ api.Module, _ api.FunctionDefinition, _ []uint64, _ experimental.StackIterator) {
	if ctx.Err() != nil {
		panic(context.Cause(ctx))
	}
}

// After does nothing.
func (watch) After(context.Context, api.Module, api.FunctionDefinition, []uint64) {}

// Abort does nothing.
func (watch) Abort(context.Context, api.Module, api.FunctionDefinition, error) {}
