package hostgpu

import "math"

// exp32 is the exponential in float32: reduction by multiples of ln 2 and a
// polynomial of degree 5 (Cephes expf); relative error below 2e-7. Training
// spends much of its time here, and math.Exp works in float64.
func exp32(x float32) float32 {
	if x < -87 {
		return 0
	}
	if x > 88 {
		return float32(math.Inf(1))
	}
	const magic = 12582912 // 1.5·2^23: adding it rounds to an integer
	n := x*1.4426950408889634 + magic - magic
	r := x - n*0.693359375
	r += n * 2.12194440e-4
	p := float32(1.9875691500e-4)
	p = p*r + 1.3981999507e-3
	p = p*r + 8.3334519073e-3
	p = p*r + 4.1665795894e-2
	p = p*r + 1.6666665459e-1
	p = p*r + 5.0000001201e-1
	return (p*r*r + r + 1) * math.Float32frombits(uint32(int32(n)+127)<<23)
}

// softmax turns the scores in row into probabilities, in place, and returns the
// logarithm of their normaliser: log sum exp(score).
func softmax(row []float32) float32 {
	top := row[0]
	for _, v := range row {
		top = max(top, v)
	}
	var sum float32
	for i, v := range row {
		e := exp32(v - top)
		row[i] = e
		sum += e
	}
	inv := 1 / sum
	for i := range row {
		row[i] *= inv
	}
	return top + float32(math.Log(float64(sum)))
}

// add computes y += x.
func add(y, x []float32) {
	x = x[:len(y)]
	for i := range y {
		y[i] += x[i]
	}
}

// columnSums adds the rows of x, (n, len(sum)), to sum.
func columnSums(sum, x []float32) {
	w := len(sum)
	for lo := 0; lo < len(x); lo += w {
		add(sum, x[lo:lo+w])
	}
}
