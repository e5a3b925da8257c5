package q8

// Exp gives tests the exponential.
func Exp(x float32) float32 { return exp(x) }
