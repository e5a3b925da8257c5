package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strconv"
	"time"

	"github.com/wisp-project/wisp/hostgpu"
	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/model"
)

// workload is training of one model, here and by a peer.
type workload struct {
	name       string
	note       string
	script     []string // of the peer, with its arguments
	steps      int      // of a round
	parameters int
	// run takes one step that does not count and n that do, and returns the
	// seconds that those took.
	run   func(ctx context.Context, n int) (float64, error)
	close func() error
}

// openMiniLM is fine-tuning of MiniLM on 16 pairs of texts of 32 tokens.
func openMiniLM(shared string) (*workload, error) {
	const pairs, tokens = 16, 32
	dir := filepath.Join(shared, "models", "all-MiniLM-L6-v2")
	m, err := model.LoadText(dir)
	if err != nil {
		return nil, err
	}
	trainer, err := hostgpu.NewTextTrainer(m, hostgpu.TextTrainOptions{Pairs: pairs})
	if err != nil {
		return nil, err
	}
	rng := rand.New(rand.NewPCG(1, 0))
	texts := func() [][]int32 {
		all := make([][]int32, pairs)
		for i := range all {
			all[i] = make([]int32, tokens)
			for j := range all[i] {
				all[i][j] = rng.Int32N(int32(m.Config.Vocabulary))
			}
		}
		return all
	}
	queries, items := texts(), texts()
	return &workload{
		name:       "train-minilm-32x32",
		note:       "MiniLM (6 layers, 384 wide), 32 texts of 32 tokens as 16 pairs, contrastive loss, dropout 0.1",
		script:     []string{"minilm.py", dir, strconv.Itoa(pairs), strconv.Itoa(tokens)},
		steps:      4,
		parameters: values(m.Config.Specs()),
		run: func(ctx context.Context, n int) (float64, error) {
			var start time.Time
			for i := range n + 1 {
				if err := ctx.Err(); err != nil {
					return 0, err
				}
				if i == 1 {
					start = time.Now()
				}
				if _, err := trainer.Step(queries, items, 1e-5); err != nil {
					return 0, err
				}
			}
			return time.Since(start).Seconds(), nil
		},
		close: trainer.Close,
	}, nil
}

// openTower is training of the user tower on rows that are full: one user of 51
// events each.
func openTower(string) (*workload, error) {
	const items, rows, events, types, batches = 2000, 128, 50, 2, 256
	ds := &data.Dataset{Name: "made", Types: make([]data.EventType, types), Items: make([]data.Item, items)}
	rng := rand.New(rand.NewPCG(1, 0))
	split := &data.Split{}
	for range rows * batches {
		h := make([]data.Interaction, events+1)
		for i := range h {
			h[i] = data.Interaction{Item: rng.Int32N(items), Type: uint8(rng.IntN(types)), Time: int64(i) << rng.IntN(20)}
		}
		split.Train = append(split.Train, h)
	}
	trainer, err := hostgpu.NewTrainer(ds, split, hostgpu.Vectors{}, hostgpu.TrainOptions{
		Rows: rows, Length: events, Window: events, Epochs: 1, Average: -1,
	})
	if err != nil {
		return nil, err
	}
	c, o := trainer.Config(), trainer.Options()
	w := &workload{
		name: "train-user-tower",
		note: fmt.Sprintf("%d wide, %d layers, %d head, %d events, batch %d, softmax over %d items at every event, dropout %g, label smoothing %g",
			c.Dim, c.Layers, c.Heads, events, rows, items, o.Dropout, o.Smoothing),
		script: []string{"tower.py"},
		steps:  8,
		// The cold-start vector is fitted afterwards.
		parameters: values(c.Specs()) - c.Dim,
		run:        func(ctx context.Context, n int) (float64, error) { return timeSteps(ctx, trainer, n) },
		close:      trainer.Close,
	}
	for _, n := range []int{items, rows, events, c.Dim, c.Layers, types, c.GapBuckets} {
		w.script = append(w.script, strconv.Itoa(n))
	}
	return w, nil
}

// timeSteps lets the run go on for n steps after a first, and interrupts it.
func timeSteps(ctx context.Context, trainer *hostgpu.Trainer, n int) (float64, error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var first, last time.Time
	done := 0
	err := trainer.Run(ctx, "", func(hostgpu.Progress) {
		last = time.Now()
		if done == 0 {
			first = last
		}
		if done == n {
			stop()
		}
		done++
	})
	if done != n+1 {
		return 0, errors.Join(fmt.Errorf("the run ended after %d steps, want %d", done, n+1), err)
	}
	if !errors.Is(err, context.Canceled) {
		return 0, err
	}
	return last.Sub(first).Seconds(), nil
}

// values counts the numbers in tensors.
func values(specs []model.Spec) int {
	total := 0
	for _, s := range specs {
		n := 1
		for _, d := range s.Shape {
			n *= d
		}
		total += n
	}
	return total
}
