package hostgpu_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/wisp-project/wisp/hostgpu"
)

func normal(r *rand.Rand, n int, std float64) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(r.NormFloat64() * std)
	}
	return x
}

func indices(r *rand.Rand, n, below int) []int {
	x := make([]int, n)
	for i := range x {
		x[i] = r.IntN(below)
	}
	return x
}

// slope is the central difference of a loss, by steps of h, as x moves along a direction; x is
// left as it was. Along the gradient it is the gradient's norm, and sees all of its values at
// once.
func slope(x, direction []float32, h float64, loss func() float64) float64 {
	was, unit := slices.Clone(x), length(direction)
	move := func(by float64) float64 {
		for i := range x {
			x[i] = was[i] + float32(by*float64(direction[i])/unit)
		}
		return loss()
	}
	up, down := move(h), move(-h)
	copy(x, was)
	return (up - down) / (2 * h)
}

// checkGradients compares every partial derivative of the sum of r_i·out_i with
// a central difference. The kernels work in float32, so a difference over 2h has
// an error of about 1e-7·|sum|/h, and one of h² from the curvature: h = 1e-2 and
// a tolerance of 1 % of the largest derivative are what float32 allows.
func checkGradients(t *testing.T, k hostgpu.Kernel, in []hostgpu.Arg) {
	t.Helper()
	r := rand.New(rand.NewPCG(99, 0))
	weights := normal(r, k.Size(), 1)
	objective := func() float64 {
		var s float64
		for i, y := range k.Forward(in) {
			s += float64(weights[i]) * float64(y)
		}
		return s
	}
	out := k.Forward(in)
	grads := k.Backward(weights, out, in)
	for i, a := range in {
		if a.Floats == nil {
			if grads[i] != nil {
				t.Errorf("input %d is an index and has a gradient", i)
			}
			continue
		}
		largest, worst, at := 0.0, 0.0, 0
		for j, g := range grads[i] {
			const h = 1e-2
			was := a.Floats[j]
			a.Floats[j] = was + h
			up := objective()
			a.Floats[j] = was - h
			down := objective()
			a.Floats[j] = was
			want := (up - down) / (2 * h)
			largest = max(largest, math.Abs(want))
			if e := math.Abs(float64(g) - want); e > worst || math.IsNaN(e) {
				worst, at = e, j
			}
		}
		if !(worst <= 0.01*largest+2e-4) {
			t.Errorf("input %d: derivative %d is %v, off by %.2g; the largest is %.2g", i, at, grads[i][at], worst, largest)
		}
	}
	sameOnDevice(t, k, in, weights, out, grads)
}

func TestItemVectorsGradient(t *testing.T) {
	const n, d, f = 5, 4, 3
	for _, share := range []float32{0, 0.4} {
		r := rand.New(rand.NewPCG(1, 0))
		k := hostgpu.NewItemVectors(n, d, f, normal(r, n*f, 1), hostgpu.NewDropout(share, 7, 1, 3))
		checkGradients(t, k, []hostgpu.Arg{{Floats: normal(r, n*d, 1)}, {Floats: normal(r, d*f, 1)}})
	}
}

// An item is known by its embedding and its given vector or, in the stated share
// of cases, by its given vector alone; never by anything between.
func TestItemVectorsDropout(t *testing.T) {
	const n, d, f, share = 4000, 2, 1, 0.3
	given, ids := make([]float32, n*f), make([]float32, n*d)
	for i := range ids {
		ids[i] = 5
	}
	for i := range given {
		given[i] = 1
	}
	drop := hostgpu.NewDropout(share, 7, 1, 3)
	k := hostgpu.NewItemVectors(n, d, f, given, drop)
	in := []hostgpu.Arg{{Floats: ids}, {Floats: []float32{1, 2}}}
	first := k.Forward(in)
	alone := 0
	for i := range n {
		switch [2]float32(first[i*d : (i+1)*d]) {
		case [2]float32{1, 2}:
			alone++
		case [2]float32{6, 7}:
		default:
			t.Fatalf("item %d is %v", i, first[i*d:(i+1)*d])
		}
	}
	if got := float64(alone) / n; math.Abs(got-share) > 0.03 {
		t.Errorf("%.3f of the items are without their id, want %v", got, share)
	}
	if !slices.Equal(k.Forward(in), first) {
		t.Error("the same step drew other items")
	}
	drop.SetStep(4)
	if slices.Equal(k.Forward(in), first) {
		t.Error("another step drew the same items")
	}
}

func TestSelectionGradient(t *testing.T) {
	const n, d = 6, 3
	r := rand.New(rand.NewPCG(1, 1))
	checkGradients(t, hostgpu.NewSelection(n, d, []int{0, 2, 3, 5}), []hostgpu.Arg{{Floats: normal(r, n*d, 1)}})
}

func TestDescriptionGradient(t *testing.T) {
	const users, d, f = 4, 5, 3
	for name, of := range map[string][]int{
		"runs":                 {2, 2, 2, -1, 0, 0, 2, -1, -1},
		"without padding":      {0, 1, 1, 3},
		"nothing but padding":  {-1, -1, -1},
		"from padding to user": {-1, 3},
	} {
		for _, share := range []float32{0, 0.4} {
			t.Run(name, func(t *testing.T) {
				r := rand.New(rand.NewPCG(1, 2))
				p := len(of)
				k := hostgpu.NewDescription(p, d, f, normal(r, users*f, 1), hostgpu.NewDropout(share, 7, 1, 3))
				checkGradients(t, k, []hostgpu.Arg{{Floats: normal(r, p*d, 1)}, {Floats: normal(r, d*f, 1)}, {Ints: of}})
			})
		}
	}
}

func TestEmbeddingGradient(t *testing.T) {
	const p, n, types, gaps, d = 9, 5, 3, 4, 6
	for _, share := range []float32{0, 0.4} {
		r := rand.New(rand.NewPCG(2, 0))
		k := hostgpu.NewEmbedding(p, n, types, gaps, d, hostgpu.NewDropout(share, 7, 1, 3))
		checkGradients(t, k, []hostgpu.Arg{
			{Floats: normal(r, n*d, 1)},
			{Floats: normal(r, types*d, 1)},
			{Floats: normal(r, gaps*d, 1)},
			{Ints: indices(r, p, n)},
			{Ints: indices(r, p, types)},
			{Ints: indices(r, p, gaps)},
		})
	}
}

func TestNormalisationGradient(t *testing.T) {
	const p, d = 6, 8
	for _, share := range []float32{0, 0.4} {
		r := rand.New(rand.NewPCG(3, 0))
		checkGradients(t, hostgpu.NewNormalisation(p, d, hostgpu.NewDropout(share, 7, 1, 3)), []hostgpu.Arg{
			{Floats: normal(r, p*d, 2)}, {Floats: normal(r, d, 1)}, {Floats: normal(r, d, 1)},
		})
	}
}

func TestFeedForwardGradient(t *testing.T) {
	const p, d, f = 6, 4, 7
	for _, share := range []float32{0, 0.3} {
		r := rand.New(rand.NewPCG(4, 0))
		// Biases of the hidden units keep them away from the corner of the relu.
		up := make([]float32, f)
		for i := range up {
			up[i] = 4 * float32(1-2*(i%2))
		}
		checkGradients(t, hostgpu.NewFeedForward(p, d, f, hostgpu.NewDropout(share, 7, 2, 3)), []hostgpu.Arg{
			{Floats: normal(r, p*d, 1)},
			{Floats: normal(r, d, 1)},
			{Floats: normal(r, d, 1)},
			{Floats: normal(r, f*d, 0.4)},
			{Floats: up},
			{Floats: normal(r, d*f, 0.5)},
			{Floats: normal(r, d, 1)},
		})
	}
}

// attentionInput draws inputs; starts are the positions at which sequences
// start in a row of t events.
func attentionInput(r *rand.Rand, b, t, d, heads, window int, starts ...int) []hostgpu.Arg {
	in := []hostgpu.Arg{{Floats: normal(r, b*t*d, 1)}, {Floats: normal(r, d, 1)}, {Floats: normal(r, d, 1)}}
	for range 4 {
		in = append(in, hostgpu.Arg{Floats: normal(r, d*d, 0.5)}, hostgpu.Arg{Floats: normal(r, d, 0.5)})
	}
	start := make([]int, b*t)
	for i := range start {
		for _, s := range starts {
			if i%t >= s {
				start[i] = s
			}
		}
	}
	return append(in, hostgpu.Arg{Floats: normal(r, heads*window, 1)}, hostgpu.Arg{Ints: start})
}

func TestAttentionGradient(t *testing.T) {
	for _, c := range []struct {
		b, t, d, heads, window int
		starts                 []int
		share                  float32
	}{
		{2, 6, 4, 2, 3, nil, 0},
		{1, 7, 6, 3, 4, []int{0, 1, 3}, 0.3},
		{2, 3, 4, 1, 8, nil, 0}, // a window wider than the row
		{1, 5, 4, 2, 1, nil, 0}, // an event that sees itself alone
	} {
		r := rand.New(rand.NewPCG(5, 0))
		k := hostgpu.NewAttention(c.b, c.t, c.d, c.heads, c.window, hostgpu.NewDropout(c.share, 7, 3, 3))
		checkGradients(t, k, attentionInput(r, c.b, c.t, c.d, c.heads, c.window, c.starts...))
	}
}

// Two sequences in one row give what they give in rows of their own.
func TestAttentionKeepsSequencesApart(t *testing.T) {
	const length, d, heads, window = 4, 6, 2, 3
	r := rand.New(rand.NewPCG(6, 0))
	apart := attentionInput(r, 2, length, d, heads, window)
	together := slices.Clone(apart)
	start := make([]int, 2*length)
	for i := range length {
		start[length+i] = length
	}
	together[len(together)-1] = hostgpu.Arg{Ints: start}
	want := hostgpu.NewAttention(2, length, d, heads, window, nil).Forward(apart)
	got := hostgpu.NewAttention(1, 2*length, d, heads, window, nil).Forward(together)
	for i := range want {
		if math.Abs(float64(got[i]-want[i])) > 1e-5 {
			t.Fatalf("value %d is %v, apart %v", i, got[i], want[i])
		}
	}
}

func TestFullSoftmaxGradient(t *testing.T) {
	const p, n, d = 7, 9, 4
	for _, smoothing := range []float32{0, 0.2} {
		r := rand.New(rand.NewPCG(7, 0))
		targets := indices(r, p, n)
		targets[2], targets[5] = -1, -1
		checkGradients(t, hostgpu.NewFullSoftmax(p, n, d, smoothing), []hostgpu.Arg{
			{Floats: normal(r, p*d, 1)}, {Floats: normal(r, n*d, 1)}, {Ints: targets},
		})
	}
}

// The loss against one computed in float64, over more rows than one chunk.
func TestFullSoftmaxValue(t *testing.T) {
	const p, n, d = 1100, 13, 4
	r := rand.New(rand.NewPCG(8, 0))
	u, v, targets := normal(r, p*d, 2), normal(r, n*d, 2), indices(r, p, n)
	targets[700] = -1
	for _, smoothing := range []float64{0, 0.1} {
		var want float64
		for row, target := range targets {
			if target < 0 {
				continue
			}
			var z [n]float64
			var sum, all float64
			for i := range z {
				for c := range d {
					z[i] += float64(u[row*d+c]) * float64(v[i*d+c])
				}
				sum += math.Exp(z[i])
				all += z[i]
			}
			want += math.Log(sum) - (1-smoothing)*z[target] - smoothing*all/n
		}
		want /= p - 1
		got := hostgpu.NewFullSoftmax(p, n, d, float32(smoothing)).Forward([]hostgpu.Arg{{Floats: u}, {Floats: v}, {Ints: targets}})
		if math.Abs(float64(got[0])-want) > 1e-5*want {
			t.Errorf("smoothing %v: loss %v, want %v", smoothing, got[0], want)
		}
	}
}

func TestSampledSoftmaxGradient(t *testing.T) {
	const p, n, d, s = 7, 9, 4, 5
	r := rand.New(rand.NewPCG(9, 0))
	logq := normal(r, n, 1)
	samples := indices(r, s, n)
	samples[1] = samples[0]
	targets := indices(r, p, n)
	targets[3], targets[4] = -1, samples[0] // one that was drawn, twice
	checkGradients(t, hostgpu.NewSampledSoftmax(p, n, d, s, logq), []hostgpu.Arg{
		{Floats: normal(r, p*d, 1)}, {Floats: normal(r, n*d, 1)}, {Ints: targets}, {Ints: samples},
	})
}

// Where each item is drawn as often as its probability says, the sampled loss
// and its gradients are those of the full softmax: the correction is exact.
func TestSampledSoftmaxEqualsFull(t *testing.T) {
	const p, n, d = 6, 5, 4
	r := rand.New(rand.NewPCG(10, 0))
	var samples []int
	logq := make([]float32, n)
	for i := range n {
		logq[i] = float32(math.Log(float64(i+1) / 15)) // 1+2+3+4+5
		for range i + 1 {
			samples = append(samples, i)
		}
	}
	in := []hostgpu.Arg{{Floats: normal(r, p*d, 1)}, {Floats: normal(r, n*d, 1)}, {Ints: indices(r, p, n)}}
	full, sampled := hostgpu.NewFullSoftmax(p, n, d, 0), hostgpu.NewSampledSoftmax(p, n, d, len(samples), logq)
	withSamples := append(slices.Clone(in), hostgpu.Arg{Ints: samples})
	want, got := full.Forward(in), sampled.Forward(withSamples)
	if math.Abs(float64(got[0]-want[0])) > 1e-5 {
		t.Errorf("sampled loss %v, full %v", got[0], want[0])
	}
	wants, gots := full.Backward([]float32{1}, want, in), sampled.Backward([]float32{1}, got, withSamples)
	for i := range 2 {
		for j, w := range wants[i] {
			if math.Abs(float64(gots[i][j]-w)) > 1e-5 {
				t.Fatalf("gradient of input %d at %d: sampled %v, full %v", i, j, gots[i][j], w)
			}
		}
	}
}

func TestDropout(t *testing.T) {
	const n = 1 << 17
	ones := func() []float32 { return slices.Repeat([]float32{1}, n) }
	for _, share := range []float32{0.1, 0.5, 0.8} {
		d := hostgpu.NewDropout(share, 1, 2, 3)
		x := ones()
		d.Apply(x)
		var sum float64
		kept := 0
		for _, v := range x {
			sum += float64(v)
			if v != 0 {
				kept++
			}
		}
		// Six standard deviations of a binomial share.
		if tol := 6 * math.Sqrt(float64(share*(1-share))/n); math.Abs(float64(kept)/n-float64(1-share)) > tol {
			t.Errorf("share %v: kept %v", share, float64(kept)/n)
		}
		if math.Abs(sum/n-1) > 0.03 {
			t.Errorf("share %v: the mean of ones became %v", share, sum/n)
		}
		back := make([]float32, n)
		d.Backward(back, ones())
		if !slices.Equal(back, x) {
			t.Errorf("share %v: forward and backward use different masks", share)
		}
		again := ones()
		hostgpu.NewDropout(share, 1, 2, 3).Apply(again)
		if !slices.Equal(again, x) {
			t.Errorf("share %v: the mask is not a function of seed, site and step", share)
		}
		for what, other := range map[string]*hostgpu.Dropout{
			"seed": hostgpu.NewDropout(share, 9, 2, 3), "site": hostgpu.NewDropout(share, 1, 9, 3), "step": hostgpu.NewDropout(share, 1, 2, 9),
		} {
			y := ones()
			other.Apply(y)
			same := 0
			for i := range y {
				if (y[i] == 0) == (x[i] == 0) {
					same++
				}
			}
			independent := float64(share*share + (1-share)*(1-share))
			if math.Abs(float64(same)/n-independent) > 0.01 {
				t.Errorf("share %v: masks of another %s agree at %v of the places, independent ones at %v", share, what, float64(same)/n, independent)
			}
		}
	}
}

func TestSoftmax(t *testing.T) {
	row := []float32{1000, 1001, 999, -1e30}
	norm := hostgpu.Softmax(row, 1)
	want := []float64{0.24472847, 0.66524096, 0.09003057, 0}
	for i, w := range want {
		if math.Abs(float64(row[i])-w) > 1e-6 {
			t.Errorf("softmax %v, want %v", row, want)
		}
	}
	if math.Abs(float64(norm)-1001.40760596) > 1e-3 {
		t.Errorf("log of the normaliser %v, want 1001.4076", norm)
	}
}
