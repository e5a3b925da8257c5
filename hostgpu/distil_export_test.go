package hostgpu

// NewImitation is the kernel under test.
func NewImitation(b, d, e int, weights DistilLosses, temperature float32, teacher []float32) Kernel {
	return Kernel{&imitation{b: b, d: d, e: e, weights: weights, temperature: temperature, teacher: teacher}}
}
