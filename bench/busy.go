package main

import (
	"context"
	"fmt"
	"os"
	"time"
)

// idle waits for up to three minutes until other programs leave the processors
// alone: PyTorch's threads wait for each other, and one that is held up costs
// both. Where the system does not tell, it does not wait.
func idle(ctx context.Context) error {
	const most = 0.1 // share of the processors' time
	var share float64
	for range 180 {
		b0, all0, err := processorTime()
		if err != nil {
			return nil //nolint:nilerr // not Linux: whoever runs it must look
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
		}
		b1, all1, err := processorTime()
		if err != nil {
			return err
		}
		if share = float64(b1-b0) / float64(max(all1-all0, 1)); share <= most {
			return nil
		}
	}
	return fmt.Errorf("other programs use %.0f %% of the processors; end them and run it again", 100*share)
}

// processorTime returns how long all processors were busy since the system
// started, and in all, in ticks.
func processorTime() (busy, all uint64, err error) {
	f, err := os.Open("/proc/stat")
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = f.Close() }()
	var user, nice, system, free, wait uint64
	if _, err := fmt.Fscanf(f, "cpu %d %d %d %d %d", &user, &nice, &system, &free, &wait); err != nil {
		return 0, 0, fmt.Errorf("/proc/stat: %w", err)
	}
	busy = user + nice + system
	return busy, busy + free + wait, nil
}
