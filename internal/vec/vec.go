// Package vec has the loops of training that are no matrix products: softmax, GELU,
// layer normalisation, AdamW and what they are made of, over slices of float32.
//
// Element i of a slice belongs to lane i mod 8, and a sum is one of the sums of the
// lanes. That is what eight-wide vector instructions do, so that [Wide] loops, which a
// build with GOEXPERIMENT=simd has for amd64 processors with AVX2, and the plain ones
// give the same bits: no product is fused with a sum, and both use the polynomial of
// the same exponential. The plain loops are the definition, and they finish what is left
// of a slice after the last eight.
//
// Slices of one call have the same length and do not overlap, unless it says otherwise.
package vec

import "math"

// lanes is the number of elements of a vector.
const lanes = 8

// Wide reports whether this program uses the vector instructions of this machine.
func Wide() bool { return wide }

// ClearUpper says that the upper halves of vector registers are not in use, which
// every function here does when it is done. Loops around math.Exp say it now and then:
// as of Go 1.26, a program with vector instructions has those halves in use after each
// preemption, and math.Exp, which mixes old and new instructions, is then 150 times
// slower on the Xeons that it was measured on (plain arithmetic is as fast as ever).
func ClearUpper() { clearUpper() }

// fold is the sum of the lanes' sums.
func fold(l *[lanes]float32) float32 {
	return ((l[0] + l[4]) + (l[2] + l[6])) + ((l[1] + l[5]) + (l[3] + l[7]))
}

// The exponential: with n the integer nearest to 8x/ln 2, exp(x) is 2^(n/8)·exp(r),
// where |r| <= ln 2/16 needs three terms after the one. ln 2/8 comes in two parts, the
// first with so few bits that its product is exact.
const (
	expSteps  = lanes
	expScale  = expSteps / math.Ln2
	expHigh   = 0.08660888671875
	expLow    = 3.45108512e-05
	expFloor  = -87        // below, the exponential is 0
	roundBias = 12582912   // 1.5·2^23: adding it rounds to an integer, kept in the low bits
	roundBits = 0x4b400000 // its bits
)

// expTable holds 2^(i/8).
var expTable = func() (t [expSteps]float32) {
	for i := range t {
		t[i] = float32(math.Exp2(float64(i) / expSteps))
	}
	return t
}()

// Exp is the exponential of x <= 0, with a relative error below 3e-7. Below -87 it is 0.
func Exp(x float32) float32 {
	if x < expFloor {
		return 0
	}
	n := float32(x*expScale) + roundBias
	i := int32(math.Float32bits(n)) - roundBits
	n -= roundBias
	r := x - float32(n*expHigh)
	r -= float32(n * expLow)
	p := float32(r*(1.0/6)) + 0.5
	p = float32(p*r) + 1
	p = float32(p*r) + 1
	return float32(expTable[i&(expSteps-1)]*p) * math.Float32frombits(uint32(i>>3+127)<<23)
}

// ExpSum turns each x into exp(x-top), top being no smaller than any of them, and
// returns the sum.
func ExpSum(x []float32, top float32) float32 {
	var sum [lanes]float32
	n := expSum(x, top, &sum)
	for i, v := range x[n:] {
		e := Exp(v - top)
		x[n+i] = e
		sum[i%lanes] += e
	}
	return fold(&sum)
}

// SumMax returns the sum of x and its largest element; the latter is -Inf where x is
// empty.
func SumMax(x []float32) (sum, top float32) {
	var s, t [lanes]float32
	for i := range t {
		t[i] = float32(math.Inf(-1))
	}
	n := sumMax(x, &s, &t)
	for i, v := range x[n:] {
		s[i%lanes] += v
		if v > t[i%lanes] {
			t[i%lanes] = v
		}
	}
	top = t[0]
	for _, v := range t[1:] {
		top = max(top, v)
	}
	return fold(&s), top
}

// Affine turns each x into factor·x + shift.
func Affine(x []float32, factor, shift float32) {
	n := affine(x, factor, shift)
	x = x[n:]
	for i, v := range x {
		x[i] = float32(v*factor) + shift
	}
}

// Scale writes factor·x to y, which may be x.
func Scale(y, x []float32, factor float32) {
	n := scale(y, x, factor)
	y, x = y[n:], x[n:]
	for i := range y {
		y[i] = x[i] * factor
	}
}

// Add adds x to y.
func Add(y, x []float32) {
	n := add(y, x)
	y, x = y[n:], x[n:]
	for i := range y {
		y[i] += x[i]
	}
}

// AddScaled adds factor·x to y.
func AddScaled(y, x []float32, factor float32) {
	n := addScaled(y, x, factor)
	y, x = y[n:], x[n:]
	for i := range y {
		y[i] += float32(x[i] * factor)
	}
}

// Mul writes x·y to z, element by element; z may be x or y.
func Mul(z, x, y []float32) {
	n := mul(z, x, y)
	z, x, y = z[n:], x[n:], y[n:]
	for i := range z {
		z[i] = x[i] * y[i]
	}
}

// Lerp moves y towards x: keep·y + (1-keep)·x.
func Lerp(y, x []float32, keep float32) {
	n := lerp(y, x, keep, 1-keep)
	y, x = y[n:], x[n:]
	for i := range y {
		y[i] = float32(y[i]*keep) + float32(x[i]*(1-keep))
	}
}

// Dot returns the sum of x·y.
func Dot(x, y []float32) float32 {
	var sum [lanes]float32
	n := dot(x, y, &sum)
	x, y = x[n:], y[n:]
	for i, v := range x {
		sum[i%lanes] += float32(v * y[i])
	}
	return fold(&sum)
}

// SubMul turns each y into x·(y - shift): the gradient of probabilities x into that of
// their scores, where shift is the product of both.
func SubMul(y, x []float32, shift float32) {
	n := subMul(y, x, shift)
	y, x = y[n:], x[n:]
	for i := range y {
		y[i] = x[i] * (y[i] - shift)
	}
}

// The normal distribution's upper tail, by formula 7.1.26 of Abramowitz and Stegun
// (1964).
const (
	tailScale = 0.3275911 / math.Sqrt2
	tail1     = 0.254829592
	tail2     = -0.284496736
	tail3     = 1.421413741
	tail4     = -1.453152027
	tail5     = 1.061405429
	density   = 1 / (math.Sqrt2 * math.SqrtPi)
	signBit   = 1 << 31
)

// GELU replaces each x by its Gaussian error linear unit x·Φ(x), Φ being the standard
// normal distribution, and writes the derivative Φ(x) + x·φ(x) to slope. Both are within
// 1e-6. Φ's tail needs one exponential, that of the density φ.
func GELU(x, slope []float32) {
	n := gelu(x, slope)
	x, slope = x[n:], slope[n:]
	for i, v := range x {
		bits := math.Float32bits(v)
		e := Exp(float32(v*v) * -0.5)
		t := 1 / (float32(math.Float32frombits(bits&^signBit)*tailScale) + 1)
		p := float32(t*tail5) + tail4
		p = float32(p*t) + tail3
		p = float32(p*t) + tail2
		p = float32(p*t) + tail1
		p = float32(float32(p*t)*e) * 0.5
		// Half plus or minus the rest, by the sign of v, without a branch.
		cdf := math.Float32frombits(math.Float32bits(0.5-p)^bits&signBit) + 0.5
		x[i] = v * cdf
		slope[i] = float32(float32(v*e)*density) + cdf
	}
}

// Centre writes x - mean to y and returns the sum of its squares.
func Centre(y, x []float32, mean float32) float32 {
	var sum [lanes]float32
	n := centre(y, x, mean, &sum)
	y, x = y[n:], x[n:]
	for i, v := range x {
		v -= mean
		y[i] = v
		sum[i%lanes] += float32(v * v)
	}
	return fold(&sum)
}

// Normalise scales x by factor, in place, and writes x·gain + bias to y.
func Normalise(y, x, gain, bias []float32, factor float32) {
	n := normalise(y, x, gain, bias, factor)
	y, x, gain, bias = y[n:], x[n:], gain[n:], bias[n:]
	for i, v := range x {
		v *= factor
		x[i] = v
		y[i] = float32(v*gain[i]) + bias[i]
	}
}

// NormaliseSums takes the gradient dy of what [Normalise] wrote, adds dy·x to dgain and
// dy to dbias, and returns the sums of dy·gain and of dy·gain·x.
func NormaliseSums(dgain, dbias, dy, x, gain []float32) (sum, along float32) {
	var s, a [lanes]float32
	n := normaliseSums(dgain, dbias, dy, x, gain, &s, &a)
	dgain, dbias, dy, x, gain = dgain[n:], dbias[n:], dy[n:], x[n:], gain[n:]
	for i, v := range dy {
		dgain[i] += float32(v * x[i])
		dbias[i] += v
		v *= gain[i]
		s[i%lanes] += v
		a[i%lanes] += float32(v * x[i])
	}
	return fold(&s), fold(&a)
}

// NormaliseBackward adds to dx the gradient of what [Centre] read: factor·(dy·gain - mean
// - x·along).
func NormaliseBackward(dx, dy, x, gain []float32, factor, mean, along float32) {
	n := normaliseBackward(dx, dy, x, gain, factor, mean, along)
	dx, dy, x, gain = dx[n:], dy[n:], x[n:], gain[n:]
	for i, v := range dy {
		dx[i] += float32((float32(v*gain[i]) - mean - float32(x[i]*along)) * factor)
	}
}

// Adam is a step of AdamW (Loshchilov and Hutter 2019).
type Adam struct {
	Scale        float32 // of the gradient
	Beta1, Beta2 float32 // decay of the moments
	Rate         float32 // learning rate, over the first moment's correction
	Correct2     float32 // factor of the second moment, for its start at 0
	Epsilon      float32
	Keep         float32 // share of a weight that the decay leaves
}

// Step moves the weights w along the gradient g and updates the moments m and v.
func (a *Adam) Step(w, m, v, g []float32) {
	n := a.step(w, m, v, g)
	w, m, v, g = w[n:], m[n:], v[n:], g[n:]
	b1, b2 := 1-a.Beta1, 1-a.Beta2
	for i, d := range g {
		d *= a.Scale
		first := float32(m[i]*a.Beta1) + float32(d*b1)
		second := float32(v[i]*a.Beta2) + float32(float32(d*d)*b2)
		m[i], v[i] = first, second
		root := float32(math.Sqrt(float64(second * a.Correct2)))
		w[i] = float32(w[i]*a.Keep) - float32(first*a.Rate)/(root+a.Epsilon)
	}
}
