package quantize_test

import (
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/wisp-project/wisp/model"
	"github.com/wisp-project/wisp/quantize"
)

// site is where a model that is zero but for the bias of q passes that bias on.
const site = "user.layer.0.attn.q"

// atSite calibrates a model that has the given values, and no others, at site.
func atSite(t *testing.T, values []float32) *quantize.Calibration {
	t.Helper()
	c := model.Config{Items: 1, Dim: len(values), Layers: 1, Heads: 1, FFN: 1, Window: 1, EventTypes: 1, GapBuckets: 1}
	cal, err := quantize.Calibrate(zero(t, c, map[string][]float32{"user.layer.0.attn.q.bias": values}), [][]model.Event{{{}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return cal
}

// filled returns n values: the first is top, the others are rest.
func filled(n int, top, rest float32) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = rest
	}
	x[0] = top
	return x
}

// One value of 1 among n of a tenth: with L levels a side, clipping at c costs
// n·(c/L)²/12 by rounding and (1-c)² by clipping, which is least at
// c = 1/(1+n/12L²). The search goes in steps of 1/128 from 1 to a quarter.
func TestScaleClipsWhereTheErrorIsLeast(t *testing.T) {
	for _, test := range []struct {
		n, levels int
		clip      float64
	}{
		{63, 127, 1},
		{1023, 20, 0.824},
		{63, 7, 0.903},
		{63, 4, 0.753},
		{240, 7, 0.710},
		{1023, 7, 0.365},
		{63, 1, 0.258}, // 0.16 would be best: the search ends before
	} {
		for _, sign := range []float32{1, -1} {
			scale, err := atSite(t, filled(test.n+1, sign, 0.1)).Scale(site, test.levels)
			if err != nil {
				t.Fatal(err)
			}
			if clip := float64(scale) * float64(test.levels); math.Abs(clip-test.clip) > 0.008 {
				t.Errorf("%v among %d small values, %d levels: clipped at %.4f, want %.3f", sign, test.n, test.levels, clip, test.clip)
			}
		}
	}
}

// The search may stop one step, 1/128, short of the largest value.
func TestScale(t *testing.T) {
	for name, test := range map[string]struct {
		values []float32
		levels int
		want   float32
	}{
		"all zero":                     {make([]float32, 8), 127, 1},
		"one value":                    {[]float32{-12.7}, 127, 0.1},
		"the largest negative":         {filled(8, -254, 1), 127, 2},
		"zeros ask for no finer step":  {filled(1024, 3, 0), 3, 1},
		"too small for a reciprocal":   {filled(8, 1e-9, 0), 127, 1.0 / (1 << 20)},
		"smallest float there is":      {[]float32{math.SmallestNonzeroFloat32}, 127, 1.0 / (1 << 20)},
		"the largest is not too large": {[]float32{math.MaxFloat32}, 127, math.MaxFloat32 / 127},
	} {
		got, err := atSite(t, test.values).Scale(site, test.levels)
		if err != nil || math.Abs(float64(got/test.want)-1) > 0.008 {
			t.Errorf("%s: step %v (%v), want %v", name, got, err, test.want)
		}
	}
}

func TestMax(t *testing.T) {
	cal := atSite(t, []float32{1, -7, 3})
	if got := cal.Max(site); got != 7 {
		t.Errorf("largest magnitude %v, want 7", got)
	}
	if got := cal.Max("user.layer.9.attn.q"); got != 0 {
		t.Errorf("at a site that is none: %v, want 0", got)
	}
	if _, err := cal.Scale("user.layer.9.attn.q", 127); !errors.Is(err, quantize.ErrCalibration) {
		t.Errorf("step of a site that is none: %v, want ErrCalibration", err)
	}
}

// Every history counts, whichever comes first.
func TestCalibrateTakesAllHistories(t *testing.T) {
	c := model.Config{Items: 2, Dim: 2, Layers: 1, Heads: 1, FFN: 1, Window: 2, EventTypes: 3, GapBuckets: 1}
	// Types 0 and 1 normalise to (1, -1) and (-1, 1), which q passes on times 1 and
	// 5: its bias of 4 shows on one side only.
	m := zero(t, c, map[string][]float32{
		model.UserType:                  {100, -100, -100, 100},
		"user.layer.0.attn.norm.weight": {1, 1},
		"user.layer.0.attn.q.weight":    {1, 0},
		"user.layer.0.attn.q.bias":      {4},
	})
	small, large := []model.Event{{Type: 1}}, []model.Event{{Type: 1}, {Type: 0}}
	for name, h := range map[string][][]model.Event{
		"small first": {small, nil, large}, "large first": {large, small}, "one after the other": {{{Type: 0}}},
	} {
		cal, err := quantize.Calibrate(m, h, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := cal.Max(site); math.Abs(got-5) > 1e-4 {
			t.Errorf("%s: largest magnitude %v, want 5", name, got)
		}
	}
	cal, err := quantize.Calibrate(m, [][]model.Event{small}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := cal.Max(site); math.Abs(got-3) > 1e-4 {
		t.Errorf("the small one alone: largest magnitude %v, want 3", got)
	}
}

// A description is in the range of the user vector, after every event and before
// the first.
func TestCalibrateDescriptions(t *testing.T) {
	c := model.Config{Items: 1, Descriptions: 2, Dim: 2, Layers: 1, Heads: 1, FFN: 1, Window: 1, EventTypes: 1, GapBuckets: 1}
	h := [][]model.Event{{{}}, nil}
	for name, test := range map[string]struct {
		cold         []float32
		descriptions [][]float32
		want         float64
	}{
		"none":          {[]float32{9, 0}, nil, 3}, // Params looks at the cold-start vector itself
		"of nothing":    {[]float32{1, 0}, [][]float32{{0, 0}, {0, 0}}, 3},
		"of events":     {[]float32{1, 0}, [][]float32{{1, 0}, {0, 0}}, 7},
		"against them":  {[]float32{1, 0}, [][]float32{{-0.5, 0}, {0, 0}}, 3},
		"of no history": {[]float32{1, 0}, [][]float32{{0, 0}, {0, 2}}, 8},
		"cold":          {[]float32{4, 0}, [][]float32{{1, 0}, {0, 0}}, 8},
	} {
		m := zero(t, c, map[string][]float32{
			model.UserNormBias: {3, -1}, model.UserCold: test.cold, model.UserDescription: {4, 0, 0, -4},
		})
		cal, err := quantize.Calibrate(m, h, test.descriptions)
		if err != nil {
			t.Fatal(err)
		}
		if got := cal.Max(model.SiteUserOut); got != test.want {
			t.Errorf("%s: largest magnitude %v, want %v", name, got, test.want)
		}
	}
	m := zero(t, c, nil)
	for name, test := range map[string]struct {
		descriptions [][]float32
		want         error
	}{
		"too few":     {[][]float32{{1, 2}}, quantize.ErrCalibration},
		"none at all": {[][]float32{}, quantize.ErrCalibration},
		"too narrow":  {[][]float32{{1}, {1}}, model.ErrInput},
	} {
		if _, err := quantize.Calibrate(m, h, test.descriptions); !errors.Is(err, test.want) {
			t.Errorf("%s: error %v, want %v", name, err, test.want)
		}
	}
}

func TestCalibrateRefuses(t *testing.T) {
	c := model.Config{Items: 2, Dim: 2, Layers: 1, Heads: 1, FFN: 1, Window: 2, EventTypes: 1, GapBuckets: 1}
	plain := zero(t, c, nil)
	// Finite weights, but q overflows float32 while nothing before it does.
	huge := zero(t, c, map[string][]float32{
		model.ItemEmbedding:             {1, -1, 1, -1},
		"user.layer.0.attn.norm.weight": {1, 1},
		"user.layer.0.attn.q.weight":    {3e38, -3e38},
	})
	// Here the residual stream overflows, and the normalisation gives NaN.
	nan := zero(t, c, map[string][]float32{
		model.ItemEmbedding:             {3e38, -3e38, 3e38, -3e38},
		"user.layer.0.attn.norm.weight": {1, 1},
	})
	for name, test := range map[string]struct {
		m         *model.Model
		histories [][]model.Event
		want      error
		says      string
	}{
		"no history":       {plain, nil, quantize.ErrCalibration, "0 histories"},
		"empty histories":  {plain, [][]model.Event{nil, {}}, quantize.ErrCalibration, "2 histories"},
		"unknown item":     {plain, [][]model.Event{{{}}, {{Item: 2}}}, model.ErrInput, "history 1"},
		"unknown type":     {plain, [][]model.Event{{{Type: 1}}}, quantize.ErrCalibration, "history 0"},
		"infinite values":  {huge, [][]model.Event{{{}}}, quantize.ErrCalibration, "too large"},
		"not even numbers": {nan, [][]model.Event{{{}}}, quantize.ErrCalibration, "too large"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := quantize.Calibrate(test.m, test.histories, nil)
			if !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.says) {
				t.Errorf("error %v, want %v that says %q", err, test.want, test.says)
			}
		})
	}
}
