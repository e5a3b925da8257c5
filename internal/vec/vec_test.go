package vec_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/wisp-project/wisp/internal/vec"
)

// calls are all functions over slices, on six slices of the same length that they may
// change. Each returns what the function does.
var calls = map[string]func(x [6][]float32, factor, shift float32) []float32{
	"ExpSum": func(x [6][]float32, _, _ float32) []float32 {
		_, top := vec.SumMax(x[0])
		return []float32{vec.ExpSum(x[0], top)}
	},
	"SumMax": func(x [6][]float32, _, _ float32) []float32 {
		sum, top := vec.SumMax(x[0])
		return []float32{sum, top}
	},
	"Affine":    func(x [6][]float32, f, s float32) []float32 { vec.Affine(x[0], f, s); return nil },
	"Scale":     func(x [6][]float32, f, _ float32) []float32 { vec.Scale(x[0], x[1], f); return nil },
	"Add":       func(x [6][]float32, _, _ float32) []float32 { vec.Add(x[0], x[1]); return nil },
	"AddScaled": func(x [6][]float32, f, _ float32) []float32 { vec.AddScaled(x[0], x[1], f); return nil },
	"Mul":       func(x [6][]float32, _, _ float32) []float32 { vec.Mul(x[0], x[0], x[1]); return nil },
	"Lerp":      func(x [6][]float32, f, _ float32) []float32 { vec.Lerp(x[0], x[1], f); return nil },
	"Dot":       func(x [6][]float32, _, _ float32) []float32 { return []float32{vec.Dot(x[0], x[1])} },
	"SubMul":    func(x [6][]float32, _, s float32) []float32 { vec.SubMul(x[0], x[1], s); return nil },
	"GELU":      func(x [6][]float32, _, _ float32) []float32 { vec.GELU(x[0], x[1]); return nil },
	"Centre":    func(x [6][]float32, _, s float32) []float32 { return []float32{vec.Centre(x[0], x[1], s)} },
	"Normalise": func(x [6][]float32, f, _ float32) []float32 { vec.Normalise(x[0], x[1], x[2], x[3], f); return nil },
	"NormaliseSums": func(x [6][]float32, _, _ float32) []float32 {
		sum, along := vec.NormaliseSums(x[0], x[1], x[2], x[3], x[4])
		return []float32{sum, along}
	},
	"NormaliseBackward": func(x [6][]float32, f, s float32) []float32 {
		vec.NormaliseBackward(x[0], x[1], x[2], x[3], f, s, -s)
		return nil
	},
	"Adam": func(x [6][]float32, f, _ float32) []float32 {
		for i, v := range x[2] {
			x[2][i] = v * v // as a mean of squares is
		}
		a := vec.Adam{Scale: f, Beta1: 0.9, Beta2: 0.999, Rate: 0.01, Correct2: 3, Epsilon: 1e-8, Keep: 0.99}
		a.Step(x[0], x[1], x[2], x[3])
		return nil
	},
}

// some returns six slices of n elements: ordinary ones, small and large ones, zeroes.
func some(n int, chance *rand.Rand) (x [6][]float32) {
	for i := range x {
		x[i] = make([]float32, n)
		for j := range x[i] {
			switch v := float32(chance.NormFloat64()); chance.IntN(10) {
			case 0:
				x[i][j] = v * 50
			case 1:
				x[i][j] = v * 1e-20
			case 2:
				x[i][j] = 0
			default:
				x[i][j] = v
			}
		}
	}
	return x
}

// TestWide compares the vector instructions with the plain loops, to the bit.
func TestWide(t *testing.T) {
	if !vec.Wide() {
		t.Skip("this build has no vector instructions of this machine: build for amd64 with GOEXPERIMENT=simd, as make does")
	}
	for name, call := range calls {
		t.Run(name, func(t *testing.T) {
			for n := range 70 {
				for seed := range uint64(20) {
					got, want := some(n, rand.New(rand.NewPCG(seed, 1))), some(n, rand.New(rand.NewPCG(seed, 1)))
					returned := call(got, 0.75, 0.3)
					var expected []float32
					vec.Plain(func() { expected = call(want, 0.75, 0.3) })
					if !same(returned, expected) {
						t.Fatalf("of %d elements: returns %v, the plain loop %v", n, returned, expected)
					}
					for i := range got {
						if !same(got[i], want[i]) {
							t.Fatalf("of %d elements: slice %d is\n%v, after the plain loop\n%v", n, i, got[i], want[i])
						}
					}
				}
			}
		})
	}
}

// same reports whether x and y have the same bits.
func same(x, y []float32) bool {
	return slices.EqualFunc(x, y, func(a, b float32) bool { return math.Float32bits(a) == math.Float32bits(b) })
}

func TestExp(t *testing.T) {
	worst := 0.0
	for x := float32(0); x > -87; x -= 0.0007 {
		want := math.Exp(float64(x))
		worst = max(worst, math.Abs(float64(vec.Exp(x))-want)/want)
	}
	if worst > 3e-7 {
		t.Errorf("relative error %g, want at most 3e-7", worst)
	}
	if v := vec.Exp(float32(math.NaN())); v == v {
		t.Errorf("exp of what is not a number is %v", v)
	}
	if vec.Exp(0) != 1 || vec.Exp(-88) != 0 || vec.Exp(-200) != 0 || vec.Exp(float32(math.Inf(-1))) != 0 {
		t.Errorf("exp of 0, -88, -Inf is %v, %v, %v", vec.Exp(0), vec.Exp(-88), vec.Exp(float32(math.Inf(-1))))
	}
}

// TestNaN: a loss that is not a number has to be seen.
func TestNaN(t *testing.T) {
	for at := range 20 {
		x := make([]float32, 20)
		x[at] = float32(math.NaN())
		_, top := vec.SumMax(x)
		if sum := vec.ExpSum(x, top); sum == sum {
			t.Errorf("NaN at %d: the sum of exponentials is %v", at, sum)
		}
	}
}

func TestInfinite(t *testing.T) {
	x := make([]float32, 20)
	for i := range x {
		x[i] = float32(math.Inf(-1))
	}
	x[3], x[17] = 2, 2
	sum, top := vec.SumMax(x)
	if !math.IsInf(float64(sum), -1) || top != 2 {
		t.Errorf("sum %v and largest %v, want -Inf and 2", sum, top)
	}
	if total := vec.ExpSum(x, top); total != 2 || x[0] != 0 || x[17] != 1 {
		t.Errorf("exponentials %v of sum %v", x, total)
	}
}

func TestGELU(t *testing.T) {
	var x []float32
	for v := -14.0; v < 14; v += 0.00173 {
		x = append(x, float32(v))
	}
	x = append(x, 0, float32(math.Copysign(0, -1)), -100, 100)
	y, slope := slices.Clone(x), make([]float32, len(x))
	vec.GELU(y, slope)
	for i, v := range x {
		v := float64(v)
		cdf, pdf := 0.5*math.Erfc(-v/math.Sqrt2), math.Exp(-v*v/2)/math.Sqrt(2*math.Pi)
		if math.Abs(float64(y[i])-v*cdf) > 1e-6*max(1, math.Abs(v)) {
			t.Fatalf("gelu(%v) = %v, want %v", v, y[i], v*cdf)
		}
		if math.Abs(float64(slope[i])-(cdf+v*pdf)) > 1e-6 {
			t.Fatalf("derivative at %v is %v, want %v", v, slope[i], cdf+v*pdf)
		}
	}
}

func Benchmark(b *testing.B) {
	for _, name := range []string{"ExpSum", "SumMax", "Affine", "GELU", "Dot", "AddScaled", "Adam", "NormaliseSums"} {
		x, chance := [6][]float32{}, rand.New(rand.NewPCG(1, 1))
		for i := range x {
			for range 4096 {
				x[i] = append(x[i], float32(chance.NormFloat64()))
			}
		}
		run := func(b *testing.B) {
			b.SetBytes(int64(4 * len(x[0])))
			for b.Loop() {
				calls[name](x, 0.75, 0.3)
			}
		}
		b.Run(name+"/wide", run)
		b.Run(name+"/plain", func(b *testing.B) { vec.Plain(func() { run(b) }) })
	}
}
