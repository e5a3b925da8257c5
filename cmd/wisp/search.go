package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/wisp-project/wisp/internal/atomicfile"
	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/internal/eval"
	"github.com/wisp-project/wisp/model"
	"github.com/wisp-project/wisp/quantize"
)

// search looks for the smallest pruned form of a model that keeps within limits.
type search struct {
	budget             byteSize
	latency            time.Duration
	retention          float64
	work, teacher, svg string
	epochs             int
	bits               []int // of an item's values that are tried; nil for eight, six and four
}

// asked says that any of its flags was given.
func (s *search) asked() bool { return s.budget > 0 || s.latency > 0 || s.retention > 0 }

// byteSize is a flag's number of bytes: 2MB, 300 kB, 1048576, 1MiB.
type byteSize int64

// String and the next two are those of pflag.Value.
func (b *byteSize) String() string {
	if *b == 0 {
		return ""
	}
	return strconv.FormatInt(int64(*b), 10)
}
func (b *byteSize) Type() string { return "size" }
func (b *byteSize) Set(s string) error {
	units := []struct {
		name  string
		bytes float64
	}{{"kib", 1 << 10}, {"mib", 1 << 20}, {"gib", 1 << 30}, {"kb", 1e3}, {"mb", 1e6}, {"gb", 1e9}, {"b", 1}, {"", 1}}
	lower := strings.ToLower(strings.TrimSpace(s))
	for _, u := range units {
		number, ok := strings.CutSuffix(lower, u.name)
		if !ok {
			continue
		}
		v, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
		if err != nil || !(v > 0) || v*u.bytes > math.MaxInt64/2 {
			break
		}
		*b = byteSize(v * u.bytes)
		return nil
	}
	return fmt.Errorf("%q is no size; write for instance 2MB or 300KB", s)
}

// candidate is one shape of the model and what came of it.
type candidate struct {
	prune     quantize.PruneOptions
	bits      int // of an item's values
	dir       string
	bytes     int64
	p50       time.Duration
	retention float64 // of validation NDCG@10, in eight bits, of the teacher's
	skipped   string  // why it was not trained
}

func (c *candidate) shape() string {
	return fmt.Sprintf("%d layers, ffn %d, dim %d, items in %d bits", c.prune.Layers, c.prune.FFN, c.prune.Dim, c.bits)
}

// shapesOf are the shapes that are tried, the whole model first: all or half of the
// layers, and all, three quarters or half of the widths; each with items in all the
// numbers of bits.
func shapesOf(c model.Config, bits []int) []candidate {
	var all []candidate
	layers := []int{c.Layers}
	for l := c.Layers; l > 1; {
		l = (l + 1) / 2
		layers = append(layers, l)
	}
	for _, l := range layers {
		for _, share := range []float64{1, 0.75, 0.5} {
			// Heads must divide the width, and eight lanes of the kernel like to be full.
			step := 8 * c.Heads
			dim := max(step, int(float64(c.Dim)*share)/step*step)
			if dim > c.Dim || share == 1 {
				dim = c.Dim
			}
			for _, narrow := range []float64{1, 0.5} {
				o := quantize.PruneOptions{Layers: l, FFN: max(1, int(float64(c.FFN)*share*narrow)), Dim: dim}
				if slices.ContainsFunc(all, func(x candidate) bool { return x.prune == o }) {
					continue
				}
				for _, b := range bits {
					all = append(all, candidate{prune: o, bits: b})
				}
			}
		}
	}
	return all
}

// run prunes the model in dir to each shape that the budget and the latency allow, lets
// it recover, prints the front, and returns the smallest that keeps within all limits.
func (s *search) run(ctx context.Context, out io.Writer, dir, dataDir string, p *progress) (*candidate, error) {
	defer p.done()
	m, t, ds, sp, err := trained(dir, dataDir)
	if err != nil {
		return nil, err
	}
	switch {
	case t.Refit:
		return nil, errors.New("the model knows the validation events, on which candidates are compared: give the one before --refit")
	case s.retention < 0 || s.retention > 1:
		return nil, fmt.Errorf("--min-retention is %v, must lie between 0 and 1", s.retention)
	case len(sp.Valid) == 0:
		return nil, fmt.Errorf("no validation cases: no user has %d events", minEvents)
	}
	counts := make([]int64, len(ds.Items))
	whole, err := eval.Run(ctx, teacher(m, t.users).scorer, len(ds.Items), sp.Valid, counts, eval.Options{}, nil)
	if err != nil {
		return nil, err
	}
	if s.teacher != "" {
		e, err := loadEnsemble(s.teacher)
		if err != nil {
			return nil, err
		}
		voters, _, err := e.fit(sp.Train, len(ds.Items))
		if err != nil {
			return nil, err
		}
		if whole, err = eval.Run(ctx, voters, len(ds.Items), sp.Valid, counts, eval.Options{}, nil); err != nil {
			return nil, err
		}
	}
	if err := os.MkdirAll(s.work, 0o755); err != nil {
		return nil, err
	}
	bits := s.bits
	if bits == nil {
		bits = []int{8, 6, 4}
	}
	all := shapesOf(m.Config, bits)
	for i := range all {
		c := &all[i]
		if i > 0 && all[i-1].prune == c.prune {
			c.p50 = all[i-1].p50 // the guest reads a byte a value, whatever bits it has
		}
		if c.prune == (quantize.PruneOptions{Layers: m.Config.Layers, FFN: m.Config.FFN, Dim: m.Config.Dim}) {
			c.dir = dir
		} else {
			// Size and time are those of the shape: what no training can change is looked
			// at before it.
			if err := s.untrained(ctx, c, m, t, ds, sp); err != nil {
				return nil, err
			}
			if c.skipped = s.over(c); c.skipped != "" {
				continue
			}
			if err := s.recover(ctx, c, dir, dataDir, p); err != nil {
				return nil, err
			}
		}
		if err := s.judge(ctx, c, whole, ds, sp); err != nil {
			return nil, err
		}
		p.line("%s: %d bytes, %d µs, keeps %.4f", c.shape(), c.bytes, c.p50.Microseconds(), c.retention)
	}
	if err := printFront(out, all); err != nil {
		return nil, err
	}
	if s.svg != "" {
		if err := atomicfile.Write(s.svg, frontSVG(all)); err != nil {
			return nil, err
		}
	}
	return s.choose(all)
}

// untrained measures the shape of a candidate: the first rows and columns of m will do.
func (s *search) untrained(ctx context.Context, c *candidate, m *model.Model, t training, ds *data.Dataset, sp *data.Split) error {
	flat := model.Weights{}
	for name, x := range m.Weights {
		flat[name] = model.NewTensor(x.Shape...)
	}
	cfg, w, err := quantize.Prune(m, flat, c.prune)
	if err != nil {
		return err
	}
	cut, err := model.New(cfg, w, t.items)
	if err != nil {
		return err
	}
	return c.measure(ctx, cut, t, ds, sp, filepath.Join(s.work, "shape.wisp"), nil)
}

// over says which limit a candidate's shape breaks.
func (s *search) over(c *candidate) string {
	switch {
	case s.budget > 0 && c.bytes > int64(s.budget):
		return "over the budget"
	case s.latency > 0 && c.p50 > s.latency:
		return "too slow"
	}
	return ""
}

// recover prunes for real and trains, unless that was done before.
func (s *search) recover(ctx context.Context, c *candidate, dir, dataDir string, p *progress) error {
	c.dir = filepath.Join(s.work, fmt.Sprintf("layers-%d-ffn-%d-dim-%d", c.prune.Layers, c.prune.FFN, c.prune.Dim))
	r := pruneRun{modelDir: dir, teacher: s.teacher, prune: c.prune, batches: 64}
	r.data, r.out = dataDir, c.dir
	r.options.Epochs, r.options.LearningRate, r.options.Dropout, r.options.Seed = s.epochs, studentRate, studentDropout, 1
	from, err := r.from()
	if err != nil {
		return err
	}
	if _, t, err := loadModel(c.dir); err == nil && t.Pruned != nil && *t.Pruned == *from {
		return nil
	}
	p.line("recovering %s", c.shape())
	_, _, _, err = r.run(ctx, p)
	return err
}

// judge measures what a trained candidate keeps.
func (s *search) judge(ctx context.Context, c *candidate, whole *eval.Result, ds *data.Dataset, sp *data.Split) error {
	m, t, err := loadModel(c.dir)
	if err != nil {
		return err
	}
	return c.measure(ctx, m, t, ds, sp, filepath.Join(s.work, "candidate.wisp"), whole)
}

// measure compresses a model to path and measures its size, the time of a request, unless
// that is known of its shape, and, unless whole is nil, what it keeps of that.
func (c *candidate) measure(ctx context.Context, m *model.Model, t training, ds *data.Dataset, sp *data.Split, path string, whole *eval.Result) error {
	x, err := build(ctx, m, t, ds, sp, quantize.BuildOptions{ItemBits: c.bits}, path)
	if err != nil {
		return err
	}
	defer x.close()
	plain, boxed := x.stages[1], x.stages[2]
	c.bytes = boxed.bytes
	if c.p50 == 0 {
		times, err := latencies(ctx, boxed.request, sp.Valid, 200)
		if err != nil {
			return err
		}
		c.p50 = quantile(times, 0.5)
	}
	if whole == nil {
		return nil
	}
	// Plain Go gives the same bits.
	result, err := eval.Run(ctx, plain.scorer, len(ds.Items), sp.Valid, make([]int64, len(ds.Items)), eval.Options{}, nil)
	if err != nil {
		return err
	}
	kept, err := eval.Retention(result, whole, eval.NDCG, eval.BootstrapOptions{Resamples: 1})
	c.retention = kept.Value
	return err
}

// choose returns the smallest candidate within all limits, or says which
// limit binds and what comes closest.
func (s *search) choose(all []candidate) (*candidate, error) {
	var best, closest *candidate
	for i := range all {
		c := &all[i]
		fits := s.over(c) == ""
		if fits && c.dir != "" && c.retention >= s.retention && (best == nil || c.bytes < best.bytes) {
			best = c
		}
		if fits && c.dir != "" && (closest == nil || c.retention > closest.retention) {
			closest = c
		}
	}
	if best != nil {
		return best, nil
	}
	if closest != nil {
		return nil, fmt.Errorf("nothing within the size and the time keeps %.4f: --min-retention binds; the closest is %s, which keeps %.4f with %d bytes and %d µs",
			s.retention, closest.shape(), closest.retention, closest.bytes, closest.p50.Microseconds())
	}
	small := slices.MinFunc(all, func(a, b candidate) int { return cmp.Compare(a.bytes, b.bytes) })
	if s.budget > 0 && small.bytes > int64(s.budget) {
		return nil, fmt.Errorf("--budget binds: the smallest shape, %s, has %d bytes of the %d allowed; allow more, or start from a smaller model", small.shape(), small.bytes, s.budget)
	}
	fast := slices.MinFunc(all, func(a, b candidate) int { return cmp.Compare(a.p50, b.p50) })
	if fast.p50 > s.latency {
		return nil, fmt.Errorf("--max-latency binds: the fastest shape, %s, takes %d µs of the %d allowed", fast.shape(), fast.p50.Microseconds(), s.latency.Microseconds())
	}
	return nil, fmt.Errorf("--budget and --max-latency bind together: %s has %d bytes and takes %d µs, %s has %d bytes and takes %d µs",
		small.shape(), small.bytes, small.p50.Microseconds(), fast.shape(), fast.bytes, fast.p50.Microseconds())
}

// onFront says that no other candidate that was trained is smaller and keeps as much.
func onFront(c *candidate, all []candidate) bool {
	return c.skipped == "" && !slices.ContainsFunc(all, func(o candidate) bool {
		return o.skipped == "" && o.bytes <= c.bytes && o.retention >= c.retention && (o.bytes < c.bytes || o.retention > c.retention)
	})
}

// printFront writes the table of candidates, those of the Pareto front marked.
func printFront(out io.Writer, all []candidate) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "layers\tffn\tdim\tbits\tbytes\tp50 µs\tretention\t\t")
	for i := range all {
		c := &all[i]
		kept, mark := fmt.Sprintf("%.4f", c.retention), ""
		if c.skipped != "" {
			kept, mark = "", c.skipped
		} else if onFront(c, all) {
			mark = "front"
		}
		fmt.Fprintf(w, "%d\t%d\t%d\t%d\t%d\t%d\t%s\t%s\t\n", c.prune.Layers, c.prune.FFN, c.prune.Dim, c.bits, c.bytes, c.p50.Microseconds(), kept, mark)
	}
	return w.Flush()
}

// frontSVG draws retention over bytes, the Pareto front as a line.
func frontSVG(all []candidate) []byte {
	const width, height, margin = 640, 400, 60
	var tried []candidate
	for i := range all {
		if all[i].skipped == "" {
			tried = append(tried, all[i])
		}
	}
	slices.SortFunc(tried, func(a, b candidate) int { return cmp.Compare(a.bytes, b.bytes) })
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n", width, height)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="white"/><text x="%d" y="24" font-size="14">What is kept of the validation NDCG@10, by bytes of the artefact</text>`+"\n", width, height, margin)
	if len(tried) > 0 {
		least, most := float64(tried[0].bytes), float64(tried[len(tried)-1].bytes)
		low, high := tried[0].retention, tried[0].retention
		for _, c := range tried {
			low, high = min(low, c.retention), max(high, c.retention)
		}
		x := func(c candidate) float64 {
			return margin + (float64(c.bytes)-least)/max(most-least, 1)*(width-2*margin)
		}
		y := func(c candidate) float64 {
			return height - margin - (c.retention-low)/max(high-low, 1e-9)*(height-2*margin)
		}
		fmt.Fprintf(&b, `<path d="M%d %dV%dH%d" fill="none" stroke="#888"/>`+"\n", margin-10, margin-10, height-margin+10, width-margin+10)
		fmt.Fprintf(&b, `<text x="%d" y="%d">%.0f</text><text x="%d" y="%d" text-anchor="end">%.0f bytes</text>`+"\n", margin, height-margin+28, least, width-margin, height-margin+28, most)
		fmt.Fprintf(&b, `<text x="6" y="%d">%.4f</text><text x="6" y="%d">%.4f</text>`+"\n", height-margin, low, margin, high)
		var line []string
		for i, c := range tried {
			fill := "#bbb"
			if onFront(&tried[i], tried) {
				fill = "#06c"
				line = append(line, fmt.Sprintf("%.1f,%.1f", x(c), y(c)))
			}
			fmt.Fprintf(&b, `<circle cx="%.1f" cy="%.1f" r="4" fill="%s"><title>%s: %d bytes, %d µs, keeps %.4f</title></circle>`+"\n", x(c), y(c), fill, c.shape(), c.bytes, c.p50.Microseconds(), c.retention)
		}
		fmt.Fprintf(&b, `<polyline points="%s" fill="none" stroke="#06c"/>`+"\n", strings.Join(line, " "))
	}
	b.WriteString("</svg>\n")
	return []byte(b.String())
}
