package hostgpu_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/wisp-project/wisp/hostgpu"
	"github.com/wisp-project/wisp/internal/data"
)

// softTargets draws distributions over items, of which top probabilities are kept, after
// each of the events.
func softTargets(t *testing.T, r *rand.Rand, events []int32, items, top int) *hostgpu.SoftTargets {
	t.Helper()
	targets := hostgpu.NewSoftTargets(items, top)
	for row := range events {
		scores := normal(r, items, 2)
		for _, i := range events[:row+1] {
			scores[i] = float32(math.Inf(-1))
		}
		if err := targets.Add(scores, 0.8); err != nil {
			t.Fatal(err)
		}
	}
	return targets
}

func TestSoftSoftmaxGradient(t *testing.T) {
	const p, n, d = 7, 9, 4
	for _, top := range []int{1, 3, n} {
		for _, term := range []hostgpu.SoftTerm{{Temperature: 1, Weight: 1}, {Temperature: 1, Weight: 0.6}, {Temperature: 2.5, Weight: 0.6}, {Temperature: 1, Weight: 0}} {
			t.Run(fmt.Sprintf("%d of %d/%+v", top, n, term), func(t *testing.T) {
				r := rand.New(rand.NewPCG(21, uint64(top)))
				events := []int32{3, 5, 3, 1}
				k := hostgpu.NewSoftSoftmax(p, n, d, term, softTargets(t, r, events, n, top), nil, events)
				targets, soft := indices(r, p, n), []int{0, 3, 1, -1, 2, -1, 0}
				targets[2], targets[5] = -1, -1 // no next item; and nothing at all
				checkGradients(t, k, []hostgpu.Arg{{Floats: normal(r, p*d, 1)}, {Floats: normal(r, n*d, 1)}, {Ints: targets}, {Ints: soft}})
			})
		}
	}
}

// The loss is the one of the definition, in float64 and item by item; items that are
// not ranked have nothing of it.
func TestSoftSoftmaxValue(t *testing.T) {
	const items, n, d = 12, 9, 4
	place := make([]int32, items)
	ranked := int32(0)
	for i := range place {
		place[i] = -1
		if i%4 != 1 {
			place[i] = ranked
			ranked++
		}
	}
	r := rand.New(rand.NewPCG(22, 0))
	events := []int32{6, 5, 6} // 5 is not ranked
	targets := softTargets(t, r, events, items, 5)
	term := hostgpu.SoftTerm{Temperature: 1.7, Weight: 0.7}
	k := hostgpu.NewSoftSoftmax(3, n, d, term, targets, place, events)
	u, v, next := normal(r, 3*d, 1), normal(r, n*d, 1), []int{4, -1, 8}
	got := k.Forward([]hostgpu.Arg{{Floats: u}, {Floats: v}, {Ints: next}, {Ints: []int{2, 0, 1}}})[0]

	var want float64
	for row, s := range []int{2, 0, 1} {
		p := targets.Distribution(s, place, n, events[:s+1])
		var sum float64
		for _, x := range p {
			sum += x
		}
		if math.Abs(sum-1) > 1e-5 {
			t.Fatalf("distribution %d sums to %v", s, sum)
		}
		z := make([]float64, n)
		for i := range z {
			for j := range d {
				z[i] += float64(u[row*d+j]) * float64(v[i*d+j])
			}
		}
		logq := func(temperature float64, without int32) []float64 {
			var sum float64
			for i, x := range z {
				if int32(i) != without {
					sum += math.Exp(x / temperature)
				}
			}
			l := make([]float64, n)
			for i, x := range z {
				l[i] = x/temperature - math.Log(sum)
			}
			return l
		}
		var kl float64
		for i, l := range logq(term.Temperature, place[6]) {
			if p[i] > 0 {
				kl += p[i] * (math.Log(p[i]) - l)
			}
		}
		kl *= term.Temperature * term.Temperature
		if next[row] < 0 {
			want += kl
		} else {
			want += term.Weight*kl - (1-term.Weight)*logq(1, -1)[next[row]]
		}
	}
	if want /= 3; math.Abs(float64(got)-want) > 1e-4 {
		t.Errorf("loss %v, want %v", got, want)
	}
}

// A student that is its teacher has no loss.
func TestSoftSoftmaxOfItself(t *testing.T) {
	const n, d = 30, 5
	r := rand.New(rand.NewPCG(23, 0))
	u, v := normal(r, d, 1), normal(r, n*d, 1)
	events := []int32{11}
	scores := make([]float32, n)
	for i := range scores {
		for j := range d {
			scores[i] += u[j] * v[i*d+j]
		}
	}
	scores[11] = float32(math.Inf(-1))
	targets := hostgpu.NewSoftTargets(n, n)
	if err := targets.Add(scores, 1); err != nil {
		t.Fatal(err)
	}
	k := hostgpu.NewSoftSoftmax(1, n, d, hostgpu.SoftTerm{Temperature: 1, Weight: 1}, targets, nil, events)
	if loss := k.Forward([]hostgpu.Arg{{Floats: u}, {Floats: v}, {Ints: []int{-1}}, {Ints: []int{0}}})[0]; math.Abs(float64(loss)) > 1e-5 {
		t.Errorf("loss %v", loss)
	}
}

// A user who has had everything teaches nothing.
func TestSoftSoftmaxNothingLeft(t *testing.T) {
	const n, d = 3, 2
	r := rand.New(rand.NewPCG(24, 0))
	targets := hostgpu.NewSoftTargets(n, 2)
	for range 3 {
		if err := targets.Add(normal(r, n, 1), 1); err != nil {
			t.Fatal(err)
		}
	}
	k := hostgpu.NewSoftSoftmax(1, n, d, hostgpu.SoftTerm{Temperature: 1, Weight: 1}, targets, nil, []int32{2, 0, 1})
	in := []hostgpu.Arg{{Floats: normal(r, d, 1)}, {Floats: normal(r, n*d, 1)}, {Ints: []int{-1}}, {Ints: []int{2}}}
	out := k.Forward(in)
	if out[0] != 0 {
		t.Errorf("loss %v", out[0])
	}
	for _, g := range k.Backward([]float32{1}, out, in)[:2] {
		for _, x := range g {
			if x != 0 {
				t.Fatalf("gradient %v", g)
			}
		}
	}
}

func TestSoftTargetsRefuse(t *testing.T) {
	targets := hostgpu.NewSoftTargets(3, 2)
	none := float32(math.Inf(-1))
	for name, scores := range map[string][]float32{
		"too few": {1, 2}, "no number": {1, float32(math.NaN()), 2}, "infinite": {1, float32(math.Inf(1)), 2}, "nothing left": {none, none, none},
	} {
		if err := targets.Add(scores, 1); !errors.Is(err, hostgpu.ErrData) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if targets.Len() != 0 {
		t.Errorf("%d distributions of none", targets.Len())
	}
	if err := targets.Append(hostgpu.NewSoftTargets(3, 1)); !errors.Is(err, hostgpu.ErrData) {
		t.Errorf("lists of different kinds: %v", err)
	}
}

// chainLessons are what somebody who knows the chain expects after each event: the
// item that follows.
func chainLessons(t *testing.T, d *data.Dataset, s *data.Split) hostgpu.Lessons {
	t.Helper()
	items := len(d.Items)
	l := hostgpu.Lessons{Targets: hostgpu.NewSoftTargets(items, 4)}
	for u, h := range s.Train {
		lesson := hostgpu.Lesson{User: u, Events: h}
		for i, e := range h {
			next := int32(-1)
			if i+1 < len(h) {
				next = h[i+1].Item
			}
			lesson.Next = append(lesson.Next, next)
			scores := make([]float32, items)
			scores[(int(e.Item)+1)%items] = 5
			if err := l.Targets.Add(scores, 1); err != nil {
				t.Fatal(err)
			}
		}
		l.Lessons = append(l.Lessons, lesson)
	}
	return l
}

func newDistiller(t *testing.T, d *data.Dataset, s *data.Split, l hostgpu.Lessons, o hostgpu.TrainOptions) *hostgpu.Trainer {
	t.Helper()
	run, err := hostgpu.NewDistiller(d, s, hostgpu.Vectors{}, l, o)
	return opened(t, run, err)
}

// A student of somebody who knows learns more from so few users than their events
// teach.
func TestDistillerLearns(t *testing.T) {
	d, s := chain(30, 25, 10)
	o := quick()
	o.Epochs, o.Dropout = 8, -1
	alone := newTrainer(t, d, s, hostgpu.Vectors{}, o)
	taught := newDistiller(t, d, s, chainLessons(t, d, s), o)
	for _, tr := range []*hostgpu.Trainer{alone, taught} {
		if err := tr.Run(t.Context(), "", nil); err != nil {
			t.Fatal(err)
		}
	}
	a, _ := alone.Best()
	b, _ := taught.Best()
	if b < a+0.02 {
		t.Errorf("taught %v, alone %v", b, a)
	}
}

func TestDistillerResumes(t *testing.T) {
	d, s := chain(40, 40, 10)
	o := quick()
	l := chainLessons(t, d, s)
	want := finish(t, newDistiller(t, d, s, l, o), "")
	path := filepath.Join(t.TempDir(), "checkpoint.safetensors")
	if err := interrupt(t, newDistiller(t, d, s, l, o), path, 7); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	tr := newDistiller(t, d, s, l, o)
	if err := tr.Resume(path); err != nil {
		t.Fatal(err)
	}
	sameWeights(t, "resumed", want.Weights, finish(t, tr, path).Weights)

	other := chainLessons(t, d, s)
	other.Targets = softTargets(t, rand.New(rand.NewPCG(1, 2)), make([]int32, other.Targets.Len()), len(d.Items), 4)
	if err := newDistiller(t, d, s, other, o).Resume(path); !errors.Is(err, hostgpu.ErrCheckpoint) {
		t.Errorf("another teacher: %v", err)
	}
	if err := newTrainer(t, d, s, hostgpu.Vectors{}, o).Resume(path); !errors.Is(err, hostgpu.ErrCheckpoint) {
		t.Errorf("no teacher: %v", err)
	}
}

func TestDistillerRefuses(t *testing.T) {
	d, s := chain(40, 40, 10)
	sound := chainLessons(t, d, s)
	for name, change := range map[string]func(l *hostgpu.Lessons, o *hostgpu.TrainOptions){
		"no targets": func(l *hostgpu.Lessons, _ *hostgpu.TrainOptions) { l.Targets = nil },
		"no lessons": func(l *hostgpu.Lessons, _ *hostgpu.TrainOptions) {
			l.Lessons, l.Targets = nil, hostgpu.NewSoftTargets(40, 4)
		},
		"a lesson too many": func(l *hostgpu.Lessons, _ *hostgpu.TrainOptions) { l.Lessons = append(l.Lessons, l.Lessons[0]) },
		"other items": func(l *hostgpu.Lessons, _ *hostgpu.TrainOptions) {
			l.Targets = softTargets(t, rand.New(rand.NewPCG(1, 2)), make([]int32, l.Targets.Len()), 39, 4)
		},
		"a temperature of 0": func(_ *hostgpu.Lessons, o *hostgpu.TrainOptions) { o.Soft.Temperature = 0.01 },
		"more than all":      func(_ *hostgpu.Lessons, o *hostgpu.TrainOptions) { o.Soft.Weight = 1.5 },
	} {
		l, o := sound, quick()
		change(&l, &o)
		if _, err := hostgpu.NewDistiller(d, s, hostgpu.Vectors{}, l, o); !errors.Is(err, hostgpu.ErrData) && !errors.Is(err, hostgpu.ErrOptions) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
