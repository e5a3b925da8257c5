package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/wisp-project/wisp/internal/layout"
	"github.com/wisp-project/wisp/internal/results"
)

const guestText = `
What runs in the sandbox (wazero's compiler) beside what does the same outside of one, on
one thread each, on the same machine in one run.

- gemm-32x384x384: integer products of 12-bit activations and 8-bit weights, a map of
  MiniLM at 32 tokens. Each process is started anew, and its figure is the median of its
  batches. The native ones are the same algorithm in C (clang -O3) with the vectors of SSE4.1, which
  is what a sandbox has, and with those of AVX2, twice as wide; all give the same integers.
- minilm-32: all-MiniLM-L6-v2 on a text of 32 tokens. Here with int8 weights and 12-bit
  activations, from the text on; there with ONNX Runtime's dynamic int8 quantization, from token
  ids on, in WebAssembly on one thread of a page in Chromium.
- topk-N x 64: the exact ten best of N items, for one vector, without bounds. Here a whole request
  of int8 items and a 12-bit vector; there Faiss's IndexFlatIP over float32.

The sides take turns. speedup-over-X is X's time over ours, above 1 is faster, taken within each round.
Figures are medians of the rounds or processes, intervals their range. best is the best process.
`

// guestTopic compares what runs in the sandbox.
func (b *bench) guestTopic(ctx context.Context) error {
	out := filepath.Join(filepath.Dir(b.venv), "guest")
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	python, err := b.guestEnvironment(ctx, out)
	if err != nil {
		return err
	}
	t := results.Topic{Name: "peers-guest", Title: "The guest side by side with native code and other runtimes", Text: guestText}
	for _, part := range []func(context.Context, string, string) ([]results.Record, error){b.encoders, b.searches, b.products} {
		records, err := part(ctx, python, out)
		if err != nil {
			return err
		}
		t.Records = append(t.Records, records...)
	}
	return write(ctx, b.docs, "make bench-guest", t)
}

// quiet waits for a machine that is fit for times, where that is wanted.
func (b *bench) quiet(ctx context.Context) error {
	if b.untimed {
		return nil
	}
	return idle(ctx)
}

// side is one of those that are compared.
type side struct {
	name  string
	steps int // of a round
	run   func(n int) (float64, error)
}

// turns lets the sides run for some rounds and returns the seconds of a step, for
// each side and round. Which side begins alternates.
func (b *bench) turns(ctx context.Context, what string, rounds int, sides ...side) ([][]float64, error) {
	if err := b.quiet(ctx); err != nil {
		return nil, err
	}
	all := make([][]float64, len(sides))
	for round := range rounds {
		for i := range sides {
			j := (round + i) % len(sides)
			if err := once(&all[j], sides[j].steps, sides[j].run); err != nil {
				return nil, fmt.Errorf("%s: %s: %w", what, sides[j].name, err)
			}
		}
		line := fmt.Sprintf("%s: round %d of %d:", what, round+1, rounds)
		for j, s := range sides {
			line += fmt.Sprintf(" %s %.4g ms", s.name, 1e3*all[j][round])
		}
		fmt.Fprintln(os.Stderr, line)
	}
	return all, nil
}

// record is the median of some rounds with their range.
func record(name, unit, note string, rounds []float64) results.Record {
	value, low, high := median(rounds)
	return results.Record{Name: "speed." + name, Value: value, Low: low, High: high, N: len(rounds), Unit: unit, Note: note}
}

// ratio returns the quotients of two sides' rounds.
func ratio(over, under []float64) []float64 {
	r := make([]float64, len(over))
	for i := range r {
		r[i] = over[i] / under[i]
	}
	return r
}

// products compares the product in the sandbox with native ones: processes of
// all three in turn.
func (b *bench) products(ctx context.Context, _, out string) ([]results.Record, error) {
	const processes, batches, batch = 10, 15, 100
	module := filepath.Join(out, "product.wasm")
	absolute, err := filepath.Abs(module)
	if err != nil {
		return nil, err
	}
	if err := command(ctx, "make", "-s", "-C", b.guest, "module", "SOURCE=bench/product.c", "OUT="+absolute); err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	names, flags := []string{"wazero", "sse4.1", "avx2"}, []string{"", "-msse4.1", "-mavx2"}
	programs := [][]string{{self, "-worker", module}}
	for i, name := range names[1:] {
		program := filepath.Join(out, "product-"+name)
		if err := command(ctx, "clang-19", "-O3", flags[i+1], "-o", program, filepath.Join(b.guest, "bench", "native.c")); err != nil {
			return nil, err
		}
		programs = append(programs, []string{program})
	}
	if err := b.quiet(ctx); err != nil {
		return nil, err
	}
	rates := make([][]float64, len(programs)) // GMAC/s of each process
	sums := map[int]bool{}
	for round := range processes {
		for i := range programs {
			j := (round + i) % len(programs)
			rate, sum, err := productRate(ctx, programs[j], batches, batch)
			if err != nil {
				return nil, err
			}
			rates[j] = append(rates[j], rate)
			sums[sum] = true
		}
		fmt.Fprintf(os.Stderr, "gemm: process %d of %d: wazero %.1f, SSE4.1 %.1f, AVX2 %.1f GMAC/s\n", round+1, processes, rates[0][round], rates[1][round], rates[2][round])
	}
	if len(sums) != 1 {
		return nil, fmt.Errorf("gemm: the sides computed %d different results", len(sums))
	}
	const name = "gemm-32x384x384."
	var records []results.Record
	for i, n := range names {
		n = strings.ReplaceAll(n, ".", "")
		records = append(records, record(name+n+".gmacs", "GMAC/s", "median and range of processes", rates[i]))
		_, _, best := median(rates[i])
		records = append(records, results.Record{Name: "speed." + name + n + ".best-gmacs", Value: best, Low: best, High: best, N: processes, Unit: "GMAC/s"})
	}
	return append(records,
		record(name+"time-ratio-to-sse41", "ratio", "our time over that of native C", ratio(rates[1], rates[0])),
		record(name+"time-ratio-to-avx2", "ratio", "likewise", ratio(rates[2], rates[0]))), nil
}

// productRate starts a process and returns the median of its batches, and the
// checksum of its result.
func productRate(ctx context.Context, program []string, batches, batch int) (gmacs float64, sum int, err error) {
	p, err := startProcess(ctx, program...)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	var rates []float64
	for range batches {
		seconds, err := p.run(batch)
		if err != nil {
			return 0, 0, err
		}
		rates = append(rates, productM*productN*productK*float64(batch)/seconds/1e9)
	}
	gmacs, _, _ = median(rates)
	return gmacs, p.parameters, nil
}

// command runs a program that is silent where all is well.
func command(ctx context.Context, args ...string) error {
	c := exec.CommandContext(ctx, args[0], args[1:]...)
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

// guestEnvironment returns the Python with what the guest is compared with, in folder out.
func (b *bench) guestEnvironment(ctx context.Context, out string) (python string, err error) {
	return environment(ctx, filepath.Join(out, "venv"), filepath.Join(b.peers, "guest-requirements.txt"))
}

// minilmONNX returns the path of MiniLM as ONNX Runtime quantizes it, made unless it is
// in folder out.
func (b *bench) minilmONNX(ctx context.Context, out string) (string, error) {
	path := filepath.Join(out, "minilm-int8.onnx")
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	python, err := b.guestEnvironment(ctx, out)
	if err != nil {
		return "", err
	}
	return path, command(ctx, python, filepath.Join(b.peers, "minilm_onnx.py"), filepath.Join(b.shared, "models", "all-MiniLM-L6-v2"), path)
}

// encoders compares MiniLM in the sandbox with ONNX Runtime in a browser.
func (b *bench) encoders(ctx context.Context, python, out string) (records []results.Record, err error) {
	const tokens = 32
	web := filepath.Join(out, "web")
	if err := webPackages(ctx, filepath.Join(b.peers, "web", "package.json"), web); err != nil {
		return nil, err
	}
	onnx, err := b.minilmONNX(ctx, out)
	if err != nil {
		return nil, err
	}
	browser, err := exec.LookPath(b.browser)
	if err != nil {
		return nil, fmt.Errorf("%w; name one with -browser", err)
	}
	text := textOf(tokens)
	s, ids, err := openEncoder(ctx, b.shared, text)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close(ctx)) }()
	list := make([]string, len(ids))
	for i, id := range ids {
		list[i] = strconv.Itoa(int(id))
	}
	p, err := startProcess(ctx, "node", filepath.Join(b.peers, "web", "minilm.mjs"), web, onnx, browser, strings.Join(list, ","))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	if p.parameters != tokens {
		return nil, fmt.Errorf("minilm: %d tokens there, %d wanted", p.parameters, tokens)
	}
	line, err := p.out.ReadString('\n')
	if err != nil {
		return nil, err
	}
	var theirs []float32
	if err := json.Unmarshal([]byte(line), &theirs); err != nil {
		return nil, err
	}
	request := layout.Request{Kind: layout.KindEmbed, Text: text}
	answer, err := s.Answer(ctx, request)
	if err != nil {
		return nil, err
	}
	if c := cosine(answer.Vector, theirs); c < 0.95 {
		return nil, fmt.Errorf("minilm: the cosine of the two vectors is %.3f: it is not the same model", c)
	}
	times, err := b.turns(ctx, "minilm", b.rounds,
		side{"here", 20, func(n int) (float64, error) { return timed(ctx, s, request, n) }},
		side{"onnxruntime-web", 20, p.run})
	if err != nil {
		return nil, err
	}
	const name = "minilm-32."
	return []results.Record{
		record(name+"speedup-over-onnxruntime-web", "ratio", "onnxruntime-web "+p.version+" in Chromium", ratio(times[1], times[0])),
		record(name+"time", "s", "", times[0]),
		record(name+"onnxruntime-web-time", "s", "", times[1]),
	}, nil
}

// webPackages installs what a package.json asks for in folder web, where it is not
// there already.
func webPackages(ctx context.Context, file, web string) error {
	wanted, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	copied := filepath.Join(web, "package.json")
	if there, err := os.ReadFile(copied); err == nil && string(there) == string(wanted) {
		if _, err := os.Stat(filepath.Join(web, "node_modules")); err == nil {
			return nil
		}
	}
	if err := os.MkdirAll(web, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(copied, wanted, 0o644); err != nil {
		return err
	}
	return command(ctx, "npm", "install", "--prefix", web, "--no-audit", "--no-fund", "--no-package-lock", "--silent")
}

// searches compares exact search with Faiss's.
func (b *bench) searches(ctx context.Context, python, _ string) ([]results.Record, error) {
	var all []results.Record
	for _, n := range []int{100_000, 1_000_000} {
		records, err := b.search(ctx, python, n)
		if err != nil {
			return nil, err
		}
		all = append(all, records...)
	}
	return all, nil
}

func (b *bench) search(ctx context.Context, python string, n int) (records []results.Record, err error) {
	s, err := randomItems(ctx, n)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close(ctx)) }()
	p, err := startPeer(ctx, python, b.peers, []string{"topk.py", strconv.Itoa(n)})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	if p.parameters != n {
		return nil, fmt.Errorf("topk: %d items there, %d here", p.parameters, n)
	}
	request := layout.Request{Kind: layout.KindRecommend, K: 10}
	steps := 20_000_000 / n
	times, err := b.turns(ctx, fmt.Sprintf("topk-%dx64", n), b.rounds,
		side{"here", steps, func(n int) (float64, error) { return timed(ctx, s, request, n) }},
		side{"faiss", steps, p.run})
	if err != nil {
		return nil, err
	}
	name := fmt.Sprintf("topk-%dx64.", n)
	return []results.Record{
		record(name+"speedup-over-faiss", "ratio", "Faiss "+p.version+", IndexFlatIP", ratio(times[1], times[0])),
		record(name+"time", "s", "", times[0]),
		record(name+"faiss-time", "s", "", times[1]),
	}, nil
}

func cosine(a, b []float32) float64 {
	var ab, aa, bb float64
	for i := range min(len(a), len(b)) {
		x, y := float64(a[i]), float64(b[i])
		ab, aa, bb = ab+x*y, aa+x*x, bb+y*y
	}
	return ab / math.Sqrt(aa*bb)
}
