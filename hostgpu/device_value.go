package hostgpu

import (
	"fmt"
	"unsafe"

	"github.com/chewxy/hm"
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// deviceValue is a vector or an index in a GPU's memory as the tape machine sees it,
// which stores it and hands it on and never looks inside.
type deviceValue struct {
	argument
	shape tensor.Shape
}

func (v *deviceValue) Shape() tensor.Shape { return v.shape }
func (v *deviceValue) Size() int           { return v.shape.TotalSize() }
func (v *deviceValue) MemSize() uintptr    { return uintptr(4 * v.Size()) }

// Data has nothing to give: values leave a GPU by device.pull alone.
func (v *deviceValue) Data() any { return nil }

func (v *deviceValue) Dtype() tensor.Dtype {
	if v.ints.host != nil {
		return tensor.Int
	}
	return tensor.Float32
}

// Type is gorgonia's hook for values that are not its own.
func (v *deviceValue) Type() hm.Type { return typeOf(v.shape, v.Dtype()) }

func (v *deviceValue) Uintptr() uintptr        { return uintptr(v.floats.at) }
func (v *deviceValue) Pointer() unsafe.Pointer { return nil }

// Format writes where the value is.
func (v *deviceValue) Format(s fmt.State, _ rune) {
	fmt.Fprintf(s, "GPU%v@%#x", v.shape, uintptr(v.floats.at))
}

// Clone is what reading a node gives: the same memory.
func (v *deviceValue) Clone() (any, error) { return v, nil }

var _ gorgonia.Value = (*deviceValue)(nil)
