package hostgpu

// NewLowRank is the kernel under test.
func NewLowRank(out, in, r int, scale float32, base []float32) Kernel {
	return Kernel{&lowRank{out: out, in: in, r: r, scale: scale, base: base}}
}

// NewFreshRows is the kernel under test.
func NewFreshRows(n, d int, rows []int, base []float32) Kernel {
	return Kernel{&freshRows{n: n, d: d, rows: rows, base: base}}
}
