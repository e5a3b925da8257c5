package q8

// Exp gives tests the exponential.
func Exp(x float32) float32 { return exp(x) }

// GELU gives tests the activation of the text encoder.
func GELU(x float32) float32 { return gelu(x) }

// QuantRow gives tests the quantizer of its rows.
func QuantRow(dst []int16, x []float32, limit float32) float32 { return quantRow(dst, x, limit) }
