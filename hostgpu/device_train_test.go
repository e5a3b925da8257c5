package hostgpu_test

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"

	"github.com/wisp-project/wisp/hostgpu"
	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/model"
)

// towerTrainings are trainings that between them have every kernel of the towers.
func towerTrainings(t *testing.T) map[string]func(t *testing.T, d *hostgpu.Device) *hostgpu.Trainer {
	ds, s := chain(60, 40, 12)
	r := rand.New(rand.NewPCG(2, 0))
	given := hostgpu.Vectors{
		Items: &model.Tensor{Shape: []int{40, 6}, Data: normal(r, 40*6, 1)}, Users: &model.Tensor{Shape: []int{60, 5}, Data: normal(r, 60*5, 1)},
	}
	// An item that nobody has had is left out by the softmax.
	without := &data.Split{Valid: s.Valid}
	for _, h := range s.Train {
		var kept []data.Interaction
		for _, e := range h {
			if e.Item != 7 {
				kept = append(kept, e)
			}
		}
		without.Train = append(without.Train, kept)
	}
	plain := func(s *data.Split, change func(*hostgpu.TrainOptions)) func(t *testing.T, d *hostgpu.Device) *hostgpu.Trainer {
		return func(t *testing.T, d *hostgpu.Device) *hostgpu.Trainer {
			o := quick()
			o.Device = d
			change(&o)
			return newTrainer(t, ds, s, given, o)
		}
	}
	// A model that has learnt nothing of that item, which now comes.
	ancestor := sync.OnceValue(func() *hostgpu.Ancestor {
		a := &hostgpu.Ancestor{Model: finish(t, plain(without, func(*hostgpu.TrainOptions) {})(t, nil), "")}
		for i := range ds.Items {
			a.Items = append(a.Items, int32(i))
		}
		return a
	})
	return map[string]func(t *testing.T, d *hostgpu.Device) *hostgpu.Trainer{
		"full":    plain(s, func(o *hostgpu.TrainOptions) { o.Smoothing = 0.1 }),
		"ranked":  plain(without, func(o *hostgpu.TrainOptions) { o.IDDropout = 0.2 }),
		"sampled": plain(s, func(o *hostgpu.TrainOptions) { o.Samples = 20 }),
		"taught": func(t *testing.T, d *hostgpu.Device) *hostgpu.Trainer {
			o := quick()
			o.Device = d
			return newDistiller(t, ds, s, chainLessons(t, ds, s), o)
		},
		"adapters": func(t *testing.T, d *hostgpu.Device) *hostgpu.Trainer {
			o, l := quick(), nextItems(s.Train)
			o.Device, o.AdapterRank = d, 3
			l.From = ancestor()
			return newContinuation(t, ds, s, given, l, o)
		},
	}
}

// lossesOf trains and returns the mean loss of each epoch's steps, and what crossed
// between host and GPU in each step after the first.
func lossesOf(t *testing.T, tr *hostgpu.Trainer, checkpoint string) (losses []float64, sent, received []int) {
	t.Helper()
	s, r := 0, 0
	err := tr.Run(t.Context(), checkpoint, func(p hostgpu.Progress) {
		nowSent, nowReceived := tr.Traffic()
		if p.Done {
			losses = append(losses, p.Loss)
		} else if p.Total > 1 && p.Step > 1 {
			sent, received = append(sent, nowSent-s), append(received, nowReceived-r)
		}
		s, r = nowSent, nowReceived
	})
	if err != nil {
		t.Fatal(err)
	}
	return losses, sent, received
}

// Towers trained on a GPU learn what they learn on the host, step by step, with the
// same dropout; weights, activations and gradients stay there.
func TestTrainerOnDevice(t *testing.T) {
	for name, training := range towerTrainings(t) {
		t.Run(name, func(t *testing.T) {
			want, _, _ := lossesOf(t, training(t, nil), "")
			tr := training(t, gpu(t))
			got, sent, received := lossesOf(t, tr, "")
			for i, w := range want {
				if math.Abs(got[i]-w) > 2e-3*w {
					t.Errorf("epoch %d: loss %v, on the host %v", i+1, got[i], w)
				}
			}
			m, err := tr.Model()
			if err != nil {
				t.Fatal(err)
			}
			// Of the batch's places go seven indices and, sorted by each table and once
			// more by users or samples, their order; the loss and a norm for each
			// parameter come back.
			o := tr.Options()
			places, tables := o.Rows*o.Length, m.Config.Items+m.Config.EventTypes+m.Config.GapBuckets
			most := 4 * (16*places + 4*tables + 4*o.Samples + 4*len(m.Weights))
			for i := range sent {
				if sent[i] > most || received[i] > 4+8*len(m.Weights) {
					t.Fatalf("step %d: %d bytes to the GPU and %d from it, want at most %d of indices and %d of scalars", i, sent[i], received[i], most, 4+8*len(m.Weights))
				}
			}
		})
	}
}

// A run on a GPU can be repeated and resumed to the last bit.
func TestTrainerOnDeviceResumes(t *testing.T) {
	for name, training := range towerTrainings(t) {
		t.Run(name, func(t *testing.T) {
			d := gpu(t)
			folder := t.TempDir()
			unbroken := training(t, d)
			lossesOf(t, unbroken, filepath.Join(folder, "unbroken"))
			want, err := unbroken.Model()
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(folder, "broken")
			ctx, cancel := context.WithCancel(t.Context())
			err = training(t, d).Run(ctx, path, func(p hostgpu.Progress) {
				if p.Epoch == 2 && p.Step == 1 {
					cancel()
				}
			})
			if !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
			again := training(t, d)
			if err := again.Resume(path); err != nil {
				t.Fatal(err)
			}
			lossesOf(t, again, path)
			got, err := again.Model()
			if err != nil {
				t.Fatal(err)
			}
			sameWeights(t, name, want.Weights, got.Weights)
			// What was saved there goes on here, too.
			if err := training(t, nil).Resume(path); err != nil {
				t.Errorf("resuming on the host: %v", err)
			}
		})
	}
}
