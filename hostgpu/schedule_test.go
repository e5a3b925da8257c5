package hostgpu_test

import (
	"math"
	"testing"

	"github.com/wisp-project/wisp/hostgpu"
)

func TestSchedule(t *testing.T) {
	for _, test := range []struct {
		s    hostgpu.Schedule
		step int
		want float64
	}{
		{hostgpu.Schedule{Peak: 8, Warmup: 4, Steps: 12}, 0, 2},
		{hostgpu.Schedule{Peak: 8, Warmup: 4, Steps: 12}, 3, 8},
		{hostgpu.Schedule{Peak: 8, Warmup: 4, Steps: 12}, 4, 8},
		{hostgpu.Schedule{Peak: 8, Warmup: 4, Steps: 12}, 6, 4 + 2*math.Sqrt2}, // an eighth of a turn
		{hostgpu.Schedule{Peak: 8, Warmup: 4, Steps: 12}, 8, 4},
		{hostgpu.Schedule{Peak: 8, Warmup: 4, Steps: 12}, 10, 4 - 2*math.Sqrt2},
		{hostgpu.Schedule{Peak: 8, Warmup: 4, Steps: 12}, 12, 0},
		{hostgpu.Schedule{Peak: 8, Warmup: 4, Steps: 12}, 99, 0},
		{hostgpu.Schedule{Peak: 8, Steps: 2}, 0, 8},
		{hostgpu.Schedule{Peak: 8, Steps: 2}, 1, 4},
		{hostgpu.Schedule{Peak: 8, Warmup: 2, Steps: 2}, 1, 8}, // nothing but a rise
		{hostgpu.Schedule{Peak: 8, Warmup: 2, Steps: 2}, 2, 0},
		{hostgpu.Schedule{}, 0, 0},
	} {
		if got := test.s.Rate(test.step); !(math.Abs(got-test.want) < 1e-12) {
			t.Errorf("%+v: rate of step %d is %v, want %v", test.s, test.step, got, test.want)
		}
	}
}
