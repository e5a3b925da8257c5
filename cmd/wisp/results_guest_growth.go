package main

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/wisp-project/wisp/internal/atomicfile"
	"github.com/wisp-project/wisp/internal/guest"
	"github.com/wisp-project/wisp/internal/layout"
	"github.com/wisp-project/wisp/internal/layout/layouttest"
	"github.com/wisp-project/wisp/internal/results"
	"github.com/wisp-project/wisp/internal/runlog"
	"github.com/wisp-project/wisp/quantize"
)

// growth draws how times grow.
func (b *bench) growth(ctx context.Context, t *results.Topic, n guestSizes) error {
	median := func(p layout.Params, r layout.Request, count int) (float64, error) {
		g, err := guest.Open(ctx, p)
		if err != nil {
			return 0, err
		}
		times, err := g.Timed(ctx, r, count)
		if err != nil {
			return 0, err
		}
		return microseconds(times, 0.5), g.Close(ctx)
	}
	ten := layout.Request{Kind: layout.KindRecommend, K: 10}

	// Items, on logarithmic axes.
	items := []runlog.Curve{{Name: "all items looked at"}, {Name: "with bounds, where they pay"}}
	rng := rand.New(rand.NewPCG(1, 0x6e0))
	for size := 1000; size <= n.most; size *= 2 {
		p, users := decaying(size, rng)
		for i := range items {
			if i == 1 {
				quantize.AddBounds(&p, users)
			}
			us, err := median(p, ten, max(n.growth*10_000/size, 5))
			if err != nil {
				return err
			}
			items[i].Values = append(items[i].Values, math.Log2(us))
		}
	}
	// Events of the history.
	history := []runlog.Curve{{Name: "a request", First: 1, Step: 10}}
	tower := layouttest.Params(layout.Shape{Items: 10_000, Dim: 64, Layers: 2, Heads: 1, FFN: 64, Window: 50, EventTypes: 1, GapBuckets: 24}, 1)
	for events := 1; events <= 200; events += 10 {
		r := ten
		for i := range min(events, tower.Shape.Reach()) {
			r.History = append(r.History, layout.Event{Item: uint32(i * 31 % tower.Shape.Items)})
		}
		us, err := median(tower, r, n.growth)
		if err != nil {
			return err
		}
		history[0].Values = append(history[0].Values, us)
	}
	charts := []runlog.Chart{
		{Title: "log2 of microseconds, by items", Axis: "doublings of 1,000 items", Curves: items},
		{Title: "microseconds, by events of the history", Axis: "events", Curves: history},
	}
	// Tokens.
	if folder := filepath.Join(b.shared, "models", "all-MiniLM-L6-v2"); exists(folder) {
		g, err := openTextGuest(ctx, folder)
		if err != nil {
			return err
		}
		tokens := runlog.Curve{Name: "MiniLM", First: 4, Step: 4}
		for count := 4; count <= 128; count += 4 {
			times, err := g.Timed(ctx, layout.Request{Kind: layout.KindEmbed, Text: wordsOf(count)}, max(n.growth/10, 3))
			if err != nil {
				return err
			}
			tokens.Values = append(tokens.Values, microseconds(times, 0.5)/1000)
		}
		if err := g.Close(ctx); err != nil {
			return err
		}
		charts = append(charts, runlog.Chart{Title: "milliseconds, by tokens of a text", Axis: "tokens", Curves: []runlog.Curve{tokens}})
	}
	// Cores.
	cores := []runlog.Curve{{Name: "requests of 50 events each millisecond", First: 1}}
	for count := 1; count <= 2; count++ {
		rate, err := parallel(ctx, tower, count, n.growth)
		if err != nil {
			return err
		}
		cores[0].Values = append(cores[0].Values, rate)
		t.Records = append(t.Records, results.Record{Name: fmt.Sprintf("speed.guest-requests-per-ms.%d-cores", count), Value: rate, Unit: "1/ms", N: count * n.growth})
	}
	charts = append(charts, runlog.Chart{Title: "requests each millisecond, by sandboxes at once", Axis: "sandboxes, each on a core", Curves: cores})

	svg, err := runlog.Picture(charts...)
	if err != nil {
		return err
	}
	t.Text += "\n![How the time of a request grows](guest-growth.svg)\n"
	if err := os.MkdirAll(b.docs, 0o755); err != nil {
		return err
	}
	return atomicfile.Write(filepath.Join(b.docs, "guest-growth.svg"), svg)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// decaying returns a catalogue whose directions count less and less, and users
// to whom the same directions matter.
func decaying(items int, rng *rand.Rand) (layout.Params, [][]int16) {
	const dim = 64
	turn := make([][]float64, dim)
	for j := range turn {
		turn[j] = make([]float64, dim)
		for d := range turn[j] {
			turn[j][d] = rng.NormFloat64() / math.Sqrt(dim) * math.Pow(float64(1+j), -0.7)
		}
	}
	draw := func(x []float64) (top float64) {
		clear(x)
		for j := range turn {
			g := rng.NormFloat64()
			if j == 0 {
				g = math.Abs(g)
			}
			for d, v := range turn[j] {
				x[d] += g * v
			}
		}
		for _, v := range x {
			top = max(top, math.Abs(v))
		}
		return top
	}
	x := make([]float64, dim)
	rows, scale := make([]int8, items*dim), make([]float32, items)
	for i := range items {
		top := draw(x)
		scale[i] = float32(top / layout.WeightMax)
		for d, v := range x {
			rows[i*dim+d] = int8(math.RoundToEven(v / top * layout.WeightMax))
		}
	}
	users := make([][]int16, 256)
	for i := range users {
		top := draw(x)
		users[i] = make([]int16, dim)
		for d, v := range x {
			users[i][d] = int16(math.RoundToEven(v / top * layout.UserMax))
		}
	}
	p := searchParams(rows, scale, dim)
	p.Cold = users[0]
	return p, users
}

// parallel returns the requests that sandboxes, each with a goroutine, answer in a
// millisecond together.
func parallel(ctx context.Context, p layout.Params, sandboxes, requests int) (float64, error) {
	r := layout.Request{Kind: layout.KindRecommend, K: 10}
	for i := range min(50, p.Shape.Reach()) {
		r.History = append(r.History, layout.Event{Item: uint32(i)})
	}
	rates, errs := make([]float64, sandboxes), make([]error, sandboxes)
	var wait sync.WaitGroup
	for i := range sandboxes {
		g, err := guest.Open(ctx, p)
		if err != nil {
			return 0, err
		}
		defer func() { _ = g.Close(ctx) }()
		wait.Go(func() {
			var times []time.Duration
			if times, errs[i] = g.Timed(ctx, r, requests); errs[i] == nil {
				rates[i] = 1000 / microseconds(times, 0.5)
			}
		})
	}
	wait.Wait()
	var sum float64
	for i, rate := range rates {
		if errs[i] != nil {
			return 0, errs[i]
		}
		sum += rate
	}
	return sum, nil
}
