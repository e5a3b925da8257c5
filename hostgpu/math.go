package hostgpu

import "math"

// exp2Steps is the number of values of expTable.
const exp2Steps = 64

// expTable holds 2^(i/64).
var expTable = func() (t [exp2Steps]float32) {
	for i := range t {
		t[i] = float32(math.Exp2(float64(i) / exp2Steps))
	}
	return t
}()

// exp32 is the exponential in float32 for x <= 0: with n the integer nearest to
// 64x/ln 2, exp(x) = 2^(n/64)·exp(r), where |r| <= ln 2/128 needs two terms after
// the one; relative error below 3e-7. Below -87 it is 0. Training spends much of
// its time here, and math.Exp works in float64.
func exp32(x float32) float32 {
	if x < -87 {
		return 0
	}
	const magic = 12582912 // 1.5·2^23: adding it rounds to an integer, kept in the low bits
	n := x*(exp2Steps/math.Ln2) + magic
	i := int32(math.Float32bits(n)) - 0x4b400000
	n -= magic
	// ln 2/64 in two parts, the first with few bits, so that its product is exact.
	r := x - n*0.01082611083984375 - n*4.313856405e-06
	return expTable[i&(exp2Steps-1)] * (1 + r + 0.5*r*r) * math.Float32frombits(uint32(i>>6+127)<<23)
}

// softmax turns the scores in row into probabilities times factor, in place, and
// returns the logarithm of their normaliser: log sum exp(score).
func softmax(row []float32, factor float32) float32 {
	top := row[0]
	for _, v := range row {
		if v > top {
			top = v
		}
	}
	var sum float32
	for i, v := range row {
		e := exp32(v - top)
		row[i] = e
		sum += e
	}
	factor /= sum
	for i := range row {
		row[i] *= factor
	}
	return top + float32(math.Log(float64(sum)))
}

// gelu replaces each x by its Gaussian error linear unit x·Φ(x), Φ being the
// standard normal distribution, and writes the derivative Φ(x) + x·φ(x) to slope.
// Both are within 1e-6. The upper tail of Φ comes from formula 7.1.26 of Abramowitz
// and Stegun (1964), which needs one exponential, that of the density φ.
func gelu(x, slope []float32) {
	slope = slope[:len(x)]
	const sign = 1 << 31
	for i, v := range x {
		bits := math.Float32bits(v)
		e := exp32(-0.5 * v * v)
		t := 1 / (1 + 0.3275911/math.Sqrt2*math.Float32frombits(bits&^sign))
		tail := ((((1.061405429*t-1.453152027)*t+1.421413741)*t-0.284496736)*t + 0.254829592) * t * e * 0.5
		// Half plus or minus the rest, by the sign of v, without a branch.
		cdf := 0.5 + math.Float32frombits(math.Float32bits(0.5-tail)^bits&sign)
		x[i] = v * cdf
		slope[i] = cdf + v*e*(1/(math.Sqrt2*math.SqrtPi))
	}
}

// add computes y += x.
func add(y, x []float32) {
	x = x[:len(y)]
	for i := range y {
		y[i] += x[i]
	}
}

// addRows is add on all processors.
func addRows(y, x []float32) {
	parallel(len(y), func(_, lo, hi int) { add(y[lo:hi], x[lo:hi]) })
}

// scaledRows is scaled on all processors.
func scaledRows(y, x []float32, factor float32) {
	parallel(len(y), func(_, lo, hi int) { scaled(y[lo:hi], x[lo:hi], factor) })
}

// addScaled adds factor·x to y on all processors.
func addScaled(y, x []float32, factor float32) {
	parallel(len(y), func(_, lo, hi int) {
		for i, v := range x[lo:hi] {
			y[lo+i] += factor * v
		}
	})
}

// columnSums writes the sum of the rows of x, (n, len(sum)), to sum.
func columnSums(sum, x []float32) {
	w := len(sum)
	parallel(w, func(_, lo, hi int) {
		clear(sum[lo:hi])
		for r := 0; r < len(x); r += w {
			add(sum[lo:hi], x[r+lo:r+hi])
		}
	})
}
