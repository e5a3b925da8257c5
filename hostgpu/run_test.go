package hostgpu_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/wisp-project/wisp/hostgpu"
	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/model"
)

// finish runs a new trainer to its end and returns its model.
func finish(t *testing.T, tr *hostgpu.Trainer, checkpoint string) *model.Model {
	t.Helper()
	if err := tr.Run(t.Context(), checkpoint, nil); err != nil {
		t.Fatal(err)
	}
	m, err := tr.Model()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// interrupt runs tr until it has made n steps.
func interrupt(t *testing.T, tr *hostgpu.Trainer, checkpoint string, n int) error {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if n == 0 {
		cancel()
	}
	return tr.Run(ctx, checkpoint, func(p hostgpu.Progress) {
		if !p.Done {
			n--
		}
		if n == 0 {
			cancel()
		}
	})
}

// A run that never gets further than three steps at a time ends where an
// unbroken one does, and the checkpoint is all that it carries over.
func TestResumeAgainAndAgain(t *testing.T) {
	d, s := chain(40, 40, 10)
	o := quick()
	o.Epochs = 2
	want := finish(t, newTrainer(t, d, s, hostgpu.Vectors{}, o), "")
	path := filepath.Join(t.TempDir(), "checkpoint.safetensors")
	tr := newTrainer(t, d, s, hostgpu.Vectors{}, o)
	breaks := 0
	for ; ; breaks++ {
		err := interrupt(t, tr, path, 3*min(breaks, 1)) // the first before the first step
		if err == nil {
			break
		}
		if !errors.Is(err, context.Canceled) || breaks > 100 {
			t.Fatalf("interruption %d: %v", breaks, err)
		}
		tr = newTrainer(t, d, s, hostgpu.Vectors{}, o)
		if err := tr.Resume(path); err != nil {
			t.Fatal(err)
		}
	}
	if breaks < 3 {
		t.Errorf("only %d interruptions", breaks)
	}
	got, err := tr.Model()
	if err != nil {
		t.Fatal(err)
	}
	sameWeights(t, fmt.Sprintf("after %d interruptions", breaks), want.Weights, got.Weights)
}

// A trainer that was interrupted can itself go on.
func TestRunGoesOn(t *testing.T) {
	d, s := chain(40, 40, 10)
	want := finish(t, newTrainer(t, d, s, hostgpu.Vectors{}, quick()), "")
	tr := newTrainer(t, d, s, hostgpu.Vectors{}, quick())
	if err := interrupt(t, tr, "", 4); !errors.Is(err, context.Canceled) {
		t.Fatalf("error %v, want context.Canceled", err)
	}
	sameWeights(t, "gone on", want.Weights, finish(t, tr, "").Weights)
}

// A run of one epoch that is given three later is a run of three.
func TestResumeWithMoreEpochs(t *testing.T) {
	d, s := chain(40, 40, 10)
	short, long := quick(), quick()
	short.Epochs, long.Epochs = 1, 3
	path := filepath.Join(t.TempDir(), "checkpoint.safetensors")
	finish(t, newTrainer(t, d, s, hostgpu.Vectors{}, short), path)
	tr := newTrainer(t, d, s, hostgpu.Vectors{}, long)
	if err := tr.Resume(path); err != nil {
		t.Fatal(err)
	}
	sameWeights(t, "prolonged", finish(t, newTrainer(t, d, s, hostgpu.Vectors{}, long), "").Weights, finish(t, tr, path).Weights)
}

// A run whose patience ran out does nothing more when it is resumed, and keeps
// its best model.
func TestResumeAfterPatience(t *testing.T) {
	d, s := chain(40, 40, 10)
	o := quick()
	o.Epochs, o.Patience, o.LearningRate = 100, 2, 0.03
	path := filepath.Join(t.TempDir(), "checkpoint.safetensors")
	first := newTrainer(t, d, s, hostgpu.Vectors{}, o)
	want := finish(t, first, path)
	second := newTrainer(t, d, s, hostgpu.Vectors{}, o)
	if err := second.Resume(path); err != nil {
		t.Fatal(err)
	}
	err := second.Run(t.Context(), path, func(p hostgpu.Progress) { t.Errorf("it went on: %+v", p) })
	if err != nil {
		t.Fatal(err)
	}
	got, err := second.Model()
	if err != nil {
		t.Fatal(err)
	}
	sameWeights(t, "resumed at its end", want.Weights, got.Weights)
	best, epoch := first.Best()
	if b, e := second.Best(); b != best || e != epoch || epoch == 0 {
		t.Errorf("best %v at %d, before %v at %d", b, e, best, epoch)
	}
}

func TestInterruption(t *testing.T) {
	d, s := chain(40, 40, 10)
	folder := t.TempDir()
	for name, test := range map[string]struct {
		checkpoint string
		saved      bool
		want       []error
	}{
		"saves":                 {filepath.Join(folder, "checkpoint"), true, []error{context.Canceled}},
		"without a checkpoint":  {"", false, []error{context.Canceled}},
		"that cannot be stored": {filepath.Join(folder, "absent", "checkpoint"), false, []error{context.Canceled, hostgpu.ErrCheckpoint, os.ErrNotExist}},
	} {
		t.Run(name, func(t *testing.T) {
			err := interrupt(t, newTrainer(t, d, s, hostgpu.Vectors{}, quick()), test.checkpoint, 2)
			for _, want := range test.want {
				if !errors.Is(err, want) {
					t.Errorf("error %v, want %v", err, want)
				}
			}
			if len(test.want) == 1 && !strings.Contains(err.Error(), "after step 2 of epoch 1") {
				t.Errorf("error %q does not say where", err)
			}
			if _, err := os.Stat(test.checkpoint); (err == nil) != test.saved {
				t.Errorf("checkpoint: %v, want one: %v", err, test.saved)
			}
		})
	}
}

// A checkpoint that cannot be written at an epoch's end stops the run: nobody
// should train for hours and find nothing.
func TestRunStopsWhereItCannotSave(t *testing.T) {
	d, s := chain(40, 40, 10)
	tr := newTrainer(t, d, s, hostgpu.Vectors{}, quick())
	epochs := 0
	err := tr.Run(t.Context(), filepath.Join(t.TempDir(), "absent", "checkpoint"), func(p hostgpu.Progress) { epochs = p.Epoch })
	if !errors.Is(err, hostgpu.ErrCheckpoint) || epochs != 1 {
		t.Errorf("error %v in epoch %d, want ErrCheckpoint in epoch 1", err, epochs)
	}
}

// The seed decides everything.
func TestSeed(t *testing.T) {
	d, s := chain(30, 40, 8)
	o := quick()
	o.Epochs, o.Samples = 1, 15
	a, b := finish(t, newTrainer(t, d, s, hostgpu.Vectors{}, o), ""), finish(t, newTrainer(t, d, s, hostgpu.Vectors{}, o), "")
	sameWeights(t, "the same seed", a.Weights, b.Weights)
	o.Seed++
	c := finish(t, newTrainer(t, d, s, hostgpu.Vectors{}, o), "")
	if a.Weights[model.ItemEmbedding].Data[0] == c.Weights[model.ItemEmbedding].Data[0] {
		t.Error("another seed gave the same weights")
	}
}

func TestOptionsAndConfig(t *testing.T) {
	catalogue := func(items int) (*data.Dataset, *data.Split) {
		d := &data.Dataset{Types: data.EventTypes(1, 5), Items: make([]data.Item, items), Users: make([]data.User, 1)}
		d.Histories = [][]data.Interaction{{{Item: 0}, {Item: 1, Time: 5}}}
		return d, &data.Split{Train: d.Histories}
	}
	small := hostgpu.TrainOptions{Dim: 4, Layers: 1, FFN: 4, Window: 2, Rows: 1, Length: 4}
	for _, test := range []struct {
		items, samples, want int
	}{
		{50, 0, 0},        // the full softmax
		{50, 30, 30},      // sampled where asked for
		{50, 1000, 50},    // never more than there are items
		{20000, 0, 0},     // the largest full softmax
		{20001, 0, 4096},  // sampled by itself
		{20001, 100, 100}, // as asked for
	} {
		d, s := catalogue(test.items)
		o := small
		o.Samples = test.samples
		if got := newTrainer(t, d, s, hostgpu.Vectors{}, o).Options().Samples; got != test.want {
			t.Errorf("%d items, %d samples asked for: %d, want %d", test.items, test.samples, got, test.want)
		}
	}
	d, s := catalogue(3)
	tr := newTrainer(t, d, s, hostgpu.Vectors{Items: &model.Tensor{Shape: []int{3, 2}, Data: make([]float32, 6)}}, hostgpu.TrainOptions{Length: 16, Dropout: -1})
	o := tr.Options()
	if o.Dim != 64 || o.Layers != 2 || o.FFN != 64 || o.Epochs != 50 || o.Patience != 8 || o.LearningRate != 0.002 || o.Dropout != 0 || o.Average != 0.998 {
		t.Errorf("defaults %+v", o)
	}
	want := model.Config{Items: 3, Features: 2, Dim: 64, Layers: 2, Heads: 1, FFN: 64, Window: 50, EventTypes: 8, GapBuckets: 24}
	if tr.Config() != want {
		t.Errorf("config %+v, want %+v", tr.Config(), want)
	}
}
