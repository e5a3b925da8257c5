package hostgpu_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/wisp-project/wisp/hostgpu"
	"github.com/wisp-project/wisp/model"
)

func TestTextAttentionGradient(t *testing.T) {
	for _, c := range []struct {
		t, short, u int
		d, h        int
		lengths     []int
		share       float32
	}{
		{5, 0, 0, 4, 2, []int{5, 3}, 0},
		{4, 0, 0, 6, 3, []int{1, 4, 0}, 0.3},
		{3, 0, 0, 4, 1, []int{2}, 0},
		{4, 2, 3, 4, 2, []int{4, 3, 2}, 0.2},
	} {
		r := rand.New(rand.NewPCG(11, 0))
		b := len(c.lengths) - c.short
		in := []hostgpu.Arg{{Floats: normal(r, (b*c.t+c.short*c.u)*c.d, 1)}, {Floats: normal(r, c.d, 1)}, {Floats: normal(r, c.d, 1)}}
		for range 4 {
			in = append(in, hostgpu.Arg{Floats: normal(r, c.d*c.d, 0.5)}, hostgpu.Arg{Floats: normal(r, c.d, 0.5)})
		}
		k := hostgpu.NewTextAttention(hostgpu.NewBatchRows(b, c.t, c.short, c.u), c.d, c.h, hostgpu.NewDropout(c.share, 7, 4, 3))
		checkGradients(t, k, append(in, hostgpu.Arg{Ints: c.lengths}))
	}
}

// What stands beyond the end of a text does not change its tokens.
func TestTextAttentionIgnoresPadding(t *testing.T) {
	const b, length, d, h = 2, 6, 8, 2
	r := rand.New(rand.NewPCG(12, 0))
	in := []hostgpu.Arg{{Floats: normal(r, b*length*d, 1)}, {Floats: normal(r, d, 1)}, {Floats: normal(r, d, 1)}}
	for range 4 {
		in = append(in, hostgpu.Arg{Floats: normal(r, d*d, 0.5)}, hostgpu.Arg{Floats: normal(r, d, 0.5)})
	}
	lengths := []int{4, 6}
	in = append(in, hostgpu.Arg{Ints: lengths})
	k := hostgpu.NewTextAttention(hostgpu.NewBatchRows(b, length, 0, 0), d, h, nil)
	want := k.Forward(in)
	for i := lengths[0] * d; i < length*d; i++ {
		in[0].Floats[i] += 3
	}
	got := k.Forward(in)
	for i := range want {
		if padding := i >= lengths[0]*d && i < length*d; got[i] != want[i] && !padding {
			t.Fatalf("value %d is %v, with other padding %v", i, want[i], got[i])
		}
	}
}

func TestTextFeedForwardGradient(t *testing.T) {
	const p, d, f = 6, 4, 7
	for _, share := range []float32{0, 0.3} {
		r := rand.New(rand.NewPCG(13, 0))
		checkGradients(t, hostgpu.NewTextFeedForward(p, d, f, hostgpu.NewDropout(share, 7, 5, 3)), []hostgpu.Arg{
			{Floats: normal(r, p*d, 1)},
			{Floats: normal(r, d, 1)},
			{Floats: normal(r, d, 1)},
			{Floats: normal(r, f*d, 0.7)},
			{Floats: normal(r, f, 0.7)},
			{Floats: normal(r, d*f, 0.7)},
			{Floats: normal(r, d, 1)},
		})
	}
}

func TestPoolingGradient(t *testing.T) {
	const length, d = 4, 5
	lengths := []int{4, 1, 0, 3}
	for _, kind := range []model.Pooling{model.PoolMean, model.PoolCLS} {
		for _, unit := range []bool{false, true} {
			r := rand.New(rand.NewPCG(14, 0))
			x := normal(r, len(lengths)*length*d, 1)
			k := hostgpu.NewPooling(hostgpu.NewBatchRows(len(lengths), length, 0, 0), d, kind, unit)
			checkGradients(t, k, []hostgpu.Arg{{Floats: x}, {Ints: lengths}})
			k = hostgpu.NewPooling(hostgpu.NewBatchRows(3, length, 1, 3), d, kind, unit)
			checkGradients(t, k, []hostgpu.Arg{{Floats: x[:(3*length+3)*d]}, {Ints: lengths}})
		}
	}
}

func TestContrastiveGradient(t *testing.T) {
	const pairs, d = 4, 5
	full, apart := []int{3, 1, 2, 4, 1, 1, 5, 2}, []int{0, 1, 2, 3}
	for name, test := range map[string]struct{ lengths, groups []int }{
		"full":                 {full, apart},
		"two of 4":             {[]int{3, 1, 0, 0, 1, 1, 0, 0}, apart},
		"none":                 {make([]int, 8), apart},
		"one item twice":       {full, []int{5, 1, 5, 0}},
		"only one item":        {full, []int{2, 2, 2, 2}},
		"padded with the same": {[]int{3, 1, 2, 0, 1, 1, 5, 0}, []int{0, 1, 2, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			for _, smoothing := range []float32{0, 0.3} {
				r := rand.New(rand.NewPCG(15, 0))
				checkGradients(t, hostgpu.NewContrastive(pairs, d, 0.7, smoothing), []hostgpu.Arg{
					{Floats: normal(r, 2*pairs*d, 0.5)}, {Ints: test.lengths}, {Ints: test.groups},
				})
			}
		})
	}
}

// Pairs worked by hand: the cosines of a query are 1 with its own item and 0 with
// another, over a temperature of a half. Where the others are the same item as
// its own, there is nothing to confuse it with.
func TestContrastiveByHand(t *testing.T) {
	two := []float32{1, 0, 0, 1, 1, 0, 0, 1}
	three := []float32{1, 0, 0, 1, 1, 0, 1, 0, 0, 1, 1, 0}
	for name, test := range map[string]struct {
		x         []float32
		groups    []int
		smoothing float32
		want      float64
	}{
		"two":            {two, []int{0, 1}, 0, math.Log1p(math.Exp(-2))},
		"one item twice": {three, []int{0, 1, 0}, 0, (2*math.Log1p(math.Exp(-2)) + math.Log1p(2*math.Exp(-2))) / 3},
		"not masked":     {three, []int{0, 1, 2}, 0, (2*math.Log(2+math.Exp(-2)) + math.Log1p(2*math.Exp(-2))) / 3},
		"only one item":  {two, []int{4, 4}, 0, 0},
		// A tenth of the mass lies on the wrong answer, whose logit is 2 lower.
		"two, smoothed":           {two, []int{0, 1}, 0.2, math.Log1p(math.Exp(-2)) + 0.1*2},
		"only one item, smoothed": {two, []int{4, 4}, 0.2, 0},
	} {
		n := len(test.groups)
		lengths := make([]int, 2*n)
		for i := range lengths {
			lengths[i] = 1
		}
		got := hostgpu.NewContrastive(n, 2, 0.5, test.smoothing).Forward([]hostgpu.Arg{{Floats: test.x}, {Ints: lengths}, {Ints: test.groups}})
		if math.Abs(float64(got[0])-test.want) > 1e-6 {
			t.Errorf("%s: loss %v, want %v", name, got[0], test.want)
		}
	}
}
