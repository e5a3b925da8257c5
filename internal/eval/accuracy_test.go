package eval_test

import (
	"errors"
	"math"
	"slices"
	"testing"

	"github.com/wisp-project/wisp/internal/eval"
)

func TestClassAccuracy(t *testing.T) {
	for _, test := range []struct {
		right, n         int
		value, low, high float64
	}{
		{8, 10, 0.8, 0.4901625, 0.9433178},
		{0, 5, 0, 0, 0.4344825},
		{5, 5, 1, 0.5655175, 1},
		{1, 2, 0.5, 0.0945312, 0.9054688},
	} {
		actual := slices.Repeat([]int{2}, test.n)
		predicted := slices.Clone(actual)
		for i := range test.n - test.right {
			predicted[i] = i % 2
		}
		got, err := eval.ClassAccuracy(predicted, actual)
		if err != nil {
			t.Fatal(err)
		}
		if math.Abs(got.Value-test.value)+math.Abs(got.Low-test.low)+math.Abs(got.High-test.high) > 1e-6 {
			t.Errorf("%d of %d: %v; want %v from %v to %v", test.right, test.n, got, test.value, test.low, test.high)
		}
	}
	for _, test := range [][2][]int{{nil, nil}, {{1}, {1, 2}}} {
		if _, err := eval.ClassAccuracy(test[0], test[1]); !errors.Is(err, eval.ErrInput) {
			t.Errorf("%d predicted, %d actual: %v; want ErrInput", len(test[0]), len(test[1]), err)
		}
	}
}
