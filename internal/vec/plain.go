//go:build !(amd64 && goexperiment.simd)

package vec

// Without vector instructions the plain loops begin with the first element.

var wide = false

func clearUpper() {}

func expSum([]float32, float32, *[lanes]float32) int                  { return 0 }
func sumMax([]float32, *[lanes]float32, *[lanes]float32) int          { return 0 }
func affine([]float32, float32, float32) int                          { return 0 }
func scale(_, _ []float32, _ float32) int                             { return 0 }
func add(_, _ []float32) int                                          { return 0 }
func addScaled(_, _ []float32, _ float32) int                         { return 0 }
func mul(_, _, _ []float32) int                                       { return 0 }
func lerp(_, _ []float32, _, _ float32) int                           { return 0 }
func dot(_, _ []float32, _ *[lanes]float32) int                       { return 0 }
func subMul(_, _ []float32, _ float32) int                            { return 0 }
func gelu(_, _ []float32) int                                         { return 0 }
func centre(_, _ []float32, _ float32, _ *[lanes]float32) int         { return 0 }
func normalise(_, _, _, _ []float32, _ float32) int                   { return 0 }
func normaliseSums(_, _, _, _, _ []float32, _, _ *[lanes]float32) int { return 0 }
func normaliseBackward(_, _, _, _ []float32, _, _, _ float32) int     { return 0 }
func (a *Adam) step(_, _, _, _ []float32) int                         { return 0 }
