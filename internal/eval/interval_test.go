package eval_test

import (
	"errors"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/wisp-project/wisp/internal/eval"
)

// TestBootstrap compares with the normal approximation, which the bootstrap of a
// mean of many values comes near to.
func TestBootstrap(t *testing.T) {
	const n = 2000
	rng := rand.New(rand.NewPCG(5, 6))
	values := make([]float64, n)
	mean, squares := 0.0, 0.0
	for i := range values {
		values[i] = 3 + 2*rng.NormFloat64()
		mean += values[i] / n
	}
	for _, v := range values {
		squares += (v - mean) * (v - mean)
	}
	half := 1.96 * math.Sqrt(squares) / n
	got, err := eval.Bootstrap(values, eval.BootstrapOptions{Resamples: 4000})
	if err != nil {
		t.Fatal(err)
	}
	if math.Abs(got.Value-mean) > 1e-12 || math.Abs(got.Low-mean+half) > half/10 || math.Abs(got.High-mean-half) > half/10 {
		t.Errorf("interval %+v; want %g, %g to %g", got, mean, mean-half, mean+half)
	}
	again, err := eval.Bootstrap(values, eval.BootstrapOptions{Resamples: 4000})
	if err != nil || again != got {
		t.Errorf("second interval %+v, %v; first %+v", again, err, got)
	}
	other, err := eval.Bootstrap(values, eval.BootstrapOptions{Resamples: 4000, Seed: 1})
	if err != nil || other == got {
		t.Errorf("another seed gives the same interval %+v, %v", other, err)
	}
}

func TestBootstrapConstant(t *testing.T) {
	got, err := eval.Bootstrap([]float64{2, 2, 2}, eval.BootstrapOptions{})
	if want := (eval.Interval{Value: 2, Low: 2, High: 2}); err != nil || got != want {
		t.Errorf("interval %+v, %v; want %+v", got, err, want)
	}
}

func TestIntervalErrors(t *testing.T) {
	if _, err := eval.Bootstrap(nil, eval.BootstrapOptions{}); !errors.Is(err, eval.ErrInput) {
		t.Errorf("bootstrap of nothing: %v", err)
	}
	if _, err := eval.Bootstrap([]float64{1}, eval.BootstrapOptions{Resamples: -1}); !errors.Is(err, eval.ErrInput) {
		t.Errorf("bootstrap with -1 resamples: %v", err)
	}
	if _, err := new(eval.Result).CoverageInterval(eval.BootstrapOptions{}); !errors.Is(err, eval.ErrInput) {
		t.Errorf("coverage of nothing: %v", err)
	}
	if _, err := eval.StudentT([]float64{1}); !errors.Is(err, eval.ErrInput) {
		t.Errorf("Student's t of one value: %v", err)
	}
}

func TestCoverageInterval(t *testing.T) {
	// Two cases with disjoint lists: a resample covers 0.25 or 0.5, each with
	// probability 1/2, so that the standard error is 0.125.
	r := &eval.Result{Items: 8, Coverage: 0.5, Lists: [][]int32{{0, 1}, {2, 3}}}
	got, err := r.CoverageInterval(eval.BootstrapOptions{Resamples: 10000})
	if err != nil || got.Value != 0.5 || math.Abs(got.Low-(0.5-1.96*0.125)) > 0.005 || math.Abs(got.High-(0.5+1.96*0.125)) > 0.005 {
		t.Errorf("interval %+v, %v; want 0.5 with 0.255 to 0.745", got, err)
	}
}

// ranked returns a Result with the given ranks.
func ranked(ranks ...int32) *eval.Result {
	r := &eval.Result{Items: 100, TopK: 10, Rank: ranks}
	for i := range ranks {
		r.Users = append(r.Users, int32(i))
		r.Targets = append(r.Targets, int32(i))
	}
	return r
}

func TestPairedBootstrap(t *testing.T) {
	const n = 400
	rng := rand.New(rand.NewPCG(7, 8))
	ranks, better, noisy := make([]int32, n), make([]int32, n), make([]int32, n)
	for i := range ranks {
		ranks[i] = rng.Int32N(60)
		better[i] = max(ranks[i]-3, 0)
		noisy[i] = ranks[i] + rng.Int32N(2)*5
		if ranks[i] >= 5 && noisy[i] == ranks[i] {
			noisy[i] -= 5
		}
	}
	base := ranked(ranks...)
	for _, test := range []struct {
		name       string
		other      *eval.Result
		value      func(float64) bool
		excludes0  bool
		pLow, pTop float64
	}{
		{"same", base, func(v float64) bool { return v == 0 }, false, 1, 1},
		{"better", ranked(better...), func(v float64) bool { return v > 0.02 }, true, 2. / 1001, 2. / 1001},
		{"noise", ranked(noisy...), func(v float64) bool { return math.Abs(v) < 0.03 }, false, 0.05, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			d, err := eval.PairedBootstrap(test.other, base, eval.HitRate, eval.BootstrapOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if !test.value(d.Value) || d.Low > d.Value || d.High < d.Value {
				t.Errorf("difference %+v", d)
			}
			if excludes := d.Low > 0 || d.High < 0; excludes != test.excludes0 || d.P < test.pLow || d.P > test.pTop {
				t.Errorf("difference %+v; want 0 outside: %v, p from %g to %g", d, test.excludes0, test.pLow, test.pTop)
			}
			back, err := eval.PairedBootstrap(base, test.other, eval.HitRate, eval.BootstrapOptions{})
			if err != nil || back.Value != -d.Value || back.P != d.P {
				t.Errorf("the other way round %+v, %v; one way %+v", back, err, d)
			}
		})
	}
}

func TestPairedBootstrapRefusesOtherCases(t *testing.T) {
	base := ranked(1, 2, 3)
	targets, cut, items := ranked(1, 2, 3), ranked(1, 2, 3), ranked(1, 2, 3)
	targets.Targets[1] = 50
	cut.TopK = 5
	items.Items = 99
	for name, other := range map[string]*eval.Result{"length": ranked(1, 2), "targets": targets, "cut": cut, "items": items} {
		if _, err := eval.PairedBootstrap(base, other, eval.NDCG, eval.BootstrapOptions{}); !errors.Is(err, eval.ErrNotPaired) {
			t.Errorf("other %s: error %v; want %v", name, err, eval.ErrNotPaired)
		}
	}
}

func TestStudentT(t *testing.T) {
	// Mean 2, deviation 1, and the table's 4.3027 for two degrees of freedom.
	got, err := eval.StudentT([]float64{1, 2, 3})
	half := 4.302652729911275 / math.Sqrt(3)
	if err != nil || got.Value != 2 || math.Abs(got.Low-(2-half)) > 1e-6 || math.Abs(got.High-(2+half)) > 1e-6 {
		t.Errorf("interval %+v, %v; want 2 plus or minus %g", got, err, half)
	}
}
