package hostgpu_test

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/wisp-project/wisp/hostgpu"
	"github.com/wisp-project/wisp/internal/tokenize"
	"github.com/wisp-project/wisp/model"
)

// unitRows draws n unit vectors.
func unitRows(r *rand.Rand, n, d int) []float32 {
	x := normal(r, n*d, 1)
	for i := range n {
		row := x[i*d : (i+1)*d]
		var square float64
		for _, v := range row {
			square += float64(v) * float64(v)
		}
		for j := range row {
			row[j] /= float32(math.Sqrt(square))
		}
	}
	return x
}

func TestImitationGradient(t *testing.T) {
	const b, d, e = 5, 4, 6
	for name, weights := range map[string]hostgpu.DistilLosses{
		"rank":   {Rank: 1},
		"cosine": {Cosine: 3},
		"vector": {Vector: 1},
		"all":    {Rank: 1, Cosine: 3, Vector: 0.5},
	} {
		for missing := range 3 {
			if missing == 2 {
				missing = b - 1 // one text alone, which has no others
			}
			r := rand.New(rand.NewPCG(31, uint64(missing)))
			lengths := []int{3, 1, 4, 2, 5}
			clear(lengths[b-missing:])
			k := hostgpu.NewImitation(b, d, e, weights, 0.7, unitRows(r, b, e))
			t.Run(name, func(t *testing.T) {
				checkGradients(t, k, []hostgpu.Arg{{Floats: unitRows(r, b, d)}, {Ints: lengths}, {Floats: normal(r, e*d, 0.5)}, {Floats: normal(r, e, 0.5)}})
			})
		}
	}
}

// A student that is its teacher has no loss, and one whose vectors are turned has
// none but that of the vectors; one that is not has some of each kind.
func TestImitationOfItself(t *testing.T) {
	const b, d = 6, 3
	r := rand.New(rand.NewPCG(32, 0))
	teacher := unitRows(r, b, d)
	turned, other := make([]float32, b*d), unitRows(r, b, d)
	for i := range b { // the coordinates change places
		for j := range d {
			turned[i*d+(j+1)%d] = teacher[i*d+j]
		}
	}
	identity := []float32{1, 0, 0, 0, 1, 0, 0, 0, 1}
	for name, c := range map[string]struct {
		weights hostgpu.DistilLosses
		student []float32
		zero    bool
	}{
		"itself":         {hostgpu.DistilLosses{Rank: 1, Cosine: 1, Vector: 1}, teacher, true},
		"turned":         {hostgpu.DistilLosses{Rank: 1, Cosine: 1}, turned, true},
		"turned vectors": {hostgpu.DistilLosses{Vector: 1}, turned, false},
		"other ranks":    {hostgpu.DistilLosses{Rank: 1}, other, false},
		"other cosines":  {hostgpu.DistilLosses{Cosine: 1}, other, false},
	} {
		k := hostgpu.NewImitation(b, d, d, c.weights, 0.1, teacher)
		loss := k.Forward([]hostgpu.Arg{{Floats: c.student}, {Ints: []int{1, 1, 1, 1, 1, 1}}, {Floats: identity}, {Floats: make([]float32, d)}})[0]
		if c.zero && (loss > 1e-5 || loss < -1e-5) || !c.zero && loss < 1e-2 {
			t.Errorf("%s: loss %v", name, loss)
		}
	}
}

// distilTask is a small teacher's opinion of random texts, and a student of it.
func distilTask(t *testing.T) (*model.TextModel, hostgpu.DistilTask) {
	t.Helper()
	teacher := tinyTextModel(t, 41)
	r := rand.New(rand.NewPCG(42, 0))
	texts := randomTexts(r, teacher.Config, 400, 12)
	task := hostgpu.DistilTask{Texts: texts[:340], Held: texts[340:], Targets: hostgpu.NewTextTargets(12), Given: make([]float32, 60*12)}
	all := make([]float32, len(texts)*12)
	if err := hostgpu.NewTextEncoder(teacher, 0).Embed(t.Context(), all, texts); err != nil {
		t.Fatal(err)
	}
	for i := range task.Texts {
		task.Targets.Add(all[i*12 : (i+1)*12])
	}
	copy(task.Given, all[340*12:])
	tokens := make([]int32, teacher.Config.Vocabulary)
	for i := range tokens {
		tokens[i] = int32(i)
	}
	words, err := hostgpu.TokenVectors(t.Context(), teacher, tokenize.SpecialIDs{Class: 1, Separator: 2}, tokens, 8)
	if err != nil {
		t.Fatal(err)
	}
	student, err := hostgpu.NewStudent(words, hostgpu.StudentOptions{Dim: 8, Layers: 1, Heads: 2, FFN: 16, Positions: 16})
	if err != nil {
		t.Fatal(err)
	}
	return student, task
}

var distilOptions = hostgpu.DistilOptions{Batch: 48, Steps: 60, Train: hostgpu.TextTrainOptions{Epochs: 4, LearningRate: 0.01}}

// A student learns to find the neighbours that its teacher finds.
func TestDistil(t *testing.T) {
	student, task := distilTask(t)
	run, err := hostgpu.NewDistilRun(student, task, distilOptions)
	if err != nil {
		t.Fatal(err)
	}
	defer run.Close() //nolint:errcheck // nothing hangs on it
	if err := run.Run(t.Context(), "", nil); err != nil {
		t.Fatal(err)
	}
	before, best, _ := run.Best()
	if best < before+0.1 || best < 0.55 {
		t.Errorf("overlap of neighbours %.3f, %.3f before", best, before)
	}
}

// An interrupted distillation that is resumed ends where an unbroken one does.
func TestDistilResume(t *testing.T) { eachDevice(t, distilResume) }

func distilResume(t *testing.T, d *hostgpu.Device) {
	o := distilOptions
	o.Steps, o.Train.Epochs, o.Train.Device = 10, 2, d
	weights := func(stop int) model.Weights {
		path := filepath.Join(t.TempDir(), "checkpoint.safetensors")
		for resume := false; ; resume = true {
			student, task := distilTask(t)
			run, err := hostgpu.NewDistilRun(student, task, o)
			if err != nil {
				t.Fatal(err)
			}
			defer run.Close() //nolint:errcheck // nothing hangs on it
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if resume {
				if err := run.Resume(path); err != nil {
					t.Fatal(err)
				}
			}
			err = run.Run(ctx, path, func(p hostgpu.TextProgress) {
				if !resume && p.Total == stop {
					cancel()
				}
			})
			switch {
			case err == nil:
				return run.Model().Weights
			case !errors.Is(err, context.Canceled):
				t.Fatal(err)
			}
		}
	}
	if whole, broken := weights(-1), weights(13); !reflect.DeepEqual(whole, broken) {
		t.Error("it ends with other weights than an unbroken run")
	}
}

func TestDistilRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*hostgpu.DistilTask, *hostgpu.DistilOptions)
		want   error
	}{
		"a text without target": {func(task *hostgpu.DistilTask, _ *hostgpu.DistilOptions) { task.Texts = task.Texts[1:] }, hostgpu.ErrData},
		"few texts held out": {func(task *hostgpu.DistilTask, _ *hostgpu.DistilOptions) {
			task.Held, task.Given = task.Held[:5], task.Given[:5*12]
		}, hostgpu.ErrData},
		"another vocabulary": {func(task *hostgpu.DistilTask, _ *hostgpu.DistilOptions) { task.Held[3] = []int32{99} }, model.ErrInput},
		"a batch of one":     {func(_ *hostgpu.DistilTask, o *hostgpu.DistilOptions) { o.Batch = 1 }, hostgpu.ErrOptions},
		"temperature":        {func(_ *hostgpu.DistilTask, o *hostgpu.DistilOptions) { o.Temperature = math.NaN() }, hostgpu.ErrOptions},
		"loss":               {func(_ *hostgpu.DistilTask, o *hostgpu.DistilOptions) { o.Losses.Rank = -1 }, hostgpu.ErrOptions},
	} {
		student, task := distilTask(t)
		o := distilOptions
		c.change(&task, &o)
		if _, err := hostgpu.NewDistilRun(student, task, o); !errors.Is(err, c.want) {
			t.Errorf("%s: error %v, want %v", name, err, c.want)
		}
	}
	if _, err := hostgpu.NewStudent(model.NewTensor(5, 8), hostgpu.StudentOptions{Dim: 8, Heads: 3}); !errors.Is(err, hostgpu.ErrOptions) {
		t.Errorf("three heads of a width of 8: error %v, want ErrOptions", err)
	}
}

// Packed embeddings keep their directions.
func TestTextTargets(t *testing.T) {
	x := unitRows(rand.New(rand.NewPCG(43, 0)), 1, 64)
	targets := hostgpu.NewTextTargets(64)
	targets.Add(x)
	values, step := targets.Packed(0)
	var dot, square float64
	for j, v := range values {
		dot += float64(v) * float64(step) * float64(x[j])
		square += math.Pow(float64(v)*float64(step), 2)
	}
	if cos := dot / math.Sqrt(square); cos < 0.9999 {
		t.Errorf("cosine %v with what was packed", cos)
	}
	again := hostgpu.NewTextTargets(64)
	again.AddPacked(values, step)
	if !reflect.DeepEqual(again, targets) {
		t.Error("unpacked, it is another")
	}
}
