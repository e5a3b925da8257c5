package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/wisp-project/wisp/artifact"
	"github.com/wisp-project/wisp/internal/guest"
	"github.com/wisp-project/wisp/internal/layout"
	"github.com/wisp-project/wisp/internal/layout/layouttest"
	"github.com/wisp-project/wisp/internal/results"
	"github.com/wisp-project/wisp/wasm"
)

const browserText = `
The browser package in headless Chromium and Firefox, in pages without cross-origin isolation, beside
onnxruntime-web on one thread, all in one run on the same machine. Figures without a browser's name
are Chromium's.

- cold-first-recommendation: from the start of the navigation to the first recommendation, in a profile
  with nothing in it: page, scripts, worker, artefact over the loopback interface, every check, the golden
  requests. warm: the same at the second visit, where the artefact comes from the device.
- minilm-32: all-MiniLM-L6-v2 in int8 on a text of 32 tokens, called from the page. Here in the worker, from the text on;
  there on the page, from token ids on. onnxruntime-web-session: the time to create its session.
- encoder-16: the text encoder of the artefact on 16 tokens, called from the page.
- recommend-h50-10000: a whole history of 50 events, ten of 10,000 items, called from the page.
- load-close.memory-ratio: memory of the browser's processes (PSS) after 50 times loading and closing over that after the
  first few; in Chromium after a garbage collection of the page.

The sides take turns. speedup-over-X is X's time over ours, above 1 is faster, taken within each round. Figures are medians of the
rounds, intervals their range; p50 of calls is that of rounds of calls one after the other.

Short of what was aimed at: a warm start of 150 ms, twice onnxruntime-web's speed with MiniLM, 1,000 us for encoder-16 and 500
us for recommend. The machine's own speed varied by half meanwhile (peers-guest.md has native code beside it). Two fifths of
a warm start pass before the worker runs; the server's word that nothing is new, image and catalogue, and the golden requests
share the rest. The text encoder is left out of it, the worker is one file, and the kernel is compiled meanwhile. Of MiniLM's
time four fifths are integer products at the speed of native SSE4.1, so that twice would take wider vectors than WebAssembly has.
`

// browserTopic compares the browser package with ONNX Runtime's.
func (b *bench) browserTopic(ctx context.Context) error {
	out := filepath.Join(filepath.Dir(b.venv), "guest") // the peer is the same
	served := filepath.Join(out, "browser")
	if err := os.MkdirAll(served, 0o755); err != nil {
		return err
	}
	if _, err := os.Stat(b.artefact); err != nil {
		return fmt.Errorf("%w: `make web` makes one, or name one with -artefact", err)
	}
	web := filepath.Join(out, "web")
	if err := webPackages(ctx, filepath.Join(b.peers, "web", "package.json"), web); err != nil {
		return err
	}
	onnx, err := b.minilmONNX(ctx, out)
	if err != nil {
		return err
	}
	ids, err := b.browserArtefacts(ctx, served)
	if err != nil {
		return err
	}
	if err := command(ctx, "npm", "run", "--prefix", b.web, "--silent", "build"); err != nil {
		return err
	}
	t := results.Topic{Name: "browser", Title: "In the browser", Text: browserText}
	t.Records, err = sizes(b.web, web)
	if err != nil {
		return err
	}
	for _, browser := range []string{"chromium", "firefox-esr"} {
		if _, err := exec.LookPath(browser); err != nil {
			return err
		}
		if err := b.quiet(ctx); err != nil {
			return err
		}
		records, err := b.inBrowser(ctx, browser, web, onnx, served, ids)
		if err != nil {
			return fmt.Errorf("%s: %w", browser, err)
		}
		t.Records = append(t.Records, records...)
	}
	return write(ctx, b.docs, "make bench-browser", t)
}

// browserArtefacts writes the models that only this comparison has, and returns the
// ids of the text that both encoders get.
func (b *bench) browserArtefacts(ctx context.Context, served string) ([]string, error) {
	content, err := os.ReadFile(b.artefact)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(served, "embedded.wisp"), content, 0o644); err != nil {
		return nil, err
	}
	minilm, ids, err := openEncoder(ctx, b.shared, textOf(32))
	if err != nil {
		return nil, err
	}
	shape := layout.Shape{Items: 10_000, Dim: 64, Layers: 2, Heads: 1, FFN: 64, Window: 50, EventTypes: 1, GapBuckets: 24}
	large, err := guest.Open(ctx, layouttest.Params(shape, 1))
	if err != nil {
		return nil, err
	}
	for name, g := range map[string]*guest.Guest{"minilm.wisp": minilm, "large.wisp": large} {
		if err := errors.Join(saveGuest(ctx, filepath.Join(served, name), g), g.Close(ctx)); err != nil {
			return nil, err
		}
	}
	list := make([]string, len(ids))
	for i, id := range ids {
		list[i] = strconv.Itoa(int(id))
	}
	return list, nil
}

// saveGuest writes an artefact with the image of a guest.
func saveGuest(ctx context.Context, path string, g *guest.Guest) error {
	a := &artifact.Artifact{Manifest: artifact.Manifest{Name: "bench", Version: 1, EventTypes: []artifact.EventType{{Name: "click"}}}, Kernel: wasm.Kernel}
	a.SetImage(g.Image)
	for i := range g.Image.Shape.Items {
		a.Items = append(a.Items, artifact.Item{ID: strconv.Itoa(i)})
	}
	request := layout.Request{Kind: layout.KindRecommend, K: 1}
	answer, err := g.Answer(ctx, request)
	if err != nil {
		return err
	}
	a.Goldens = []artifact.Golden{{Request: request.Append(nil), Answer: answer.Append(nil)}}
	return artifact.WriteFile(path, a, artifact.WriteOptions{Level: 1})
}

// sizes are what the two runtimes weigh.
func sizes(ours, peers string) ([]results.Record, error) {
	dist := filepath.Join(peers, "node_modules", "onnxruntime-web", "dist")
	scripts, err := filepath.Glob(filepath.Join(ours, "dist", "*.js"))
	if err != nil {
		return nil, err
	}
	size := func(name, note string, pack func([]byte) (int, error), files ...string) (results.Record, error) {
		total := 0
		for _, f := range files {
			content, err := os.ReadFile(f)
			if err != nil {
				return results.Record{}, err
			}
			n, err := pack(content)
			if err != nil {
				return results.Record{}, err
			}
			total += n
		}
		v := float64(total)
		return results.Record{Name: "size." + name, Value: v, Low: v, High: v, N: len(files), Unit: "bytes", Note: note}, nil
	}
	raw := func(b []byte) (int, error) { return len(b), nil }
	kernel := filepath.Join(filepath.Dir(ours), "kernel.wasm")
	theirs := []string{filepath.Join(dist, "ort.wasm.min.mjs"), filepath.Join(dist, "ort-wasm-simd-threaded.mjs"), filepath.Join(dist, "ort-wasm-simd-threaded.wasm")}
	var records []results.Record
	for _, s := range []struct {
		name, note string
		pack       func([]byte) (int, error)
		files      []string
	}{
		{"browser-runtime.gzip-bytes", "kernel and all JavaScript, fallbacks for older browsers included", gzipped, append(scripts, kernel)},
		{"browser-runtime.bytes", "", raw, append(scripts, kernel)},
		{"onnxruntime-web-runtime.gzip-bytes", "what a page with its WebAssembly back end loads", gzipped, theirs},
		{"onnxruntime-web-runtime.bytes", "", raw, theirs},
	} {
		r, err := size(s.name, s.note, s.pack, s.files...)
		if err != nil {
			return nil, err
		}
		records = append(records, r)
	}
	return records, nil
}

func gzipped(b []byte) (int, error) {
	var out bytes.Buffer
	w, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		return 0, err
	}
	_, err = w.Write(b)
	err = errors.Join(err, w.Close())
	return out.Len(), err
}

// inBrowser runs bench/peers/web/browser.mjs, which prints the samples of each
// figure.
func (b *bench) inBrowser(ctx context.Context, browser, web, onnx, served string, ids []string) ([]results.Record, error) {
	var stdout bytes.Buffer
	c := exec.CommandContext(ctx, "node", filepath.Join(b.peers, "web", "browser.mjs"), web, b.web, onnx, served, browser, strings.Join(ids, ","), textOf(32), textOf(16), strconv.Itoa(b.rounds), strconv.Itoa(b.cycles))
	c.Stdout, c.Stderr = &stdout, os.Stderr
	if err := c.Run(); err != nil {
		return nil, err
	}
	var got struct {
		Version string // of the peer
		Vectors [2][]float32
		Samples map[string][]float64 // in seconds, and bytes of memory
	}
	d := json.NewDecoder(&stdout)
	if err := d.Decode(&got); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if x := cosine(got.Vectors[0], got.Vectors[1]); x < 0.95 {
		return nil, fmt.Errorf("minilm: the cosine of the two vectors is %.3f: it is not the same model", x)
	}
	prefix := "browser-"
	if browser != "chromium" {
		prefix = "browser-firefox-"
	}
	s := got.Samples
	scaled := func(x []float64, by float64) []float64 {
		y := slices.Clone(x)
		for i := range y {
			y[i] *= by
		}
		return y
	}
	records := []results.Record{
		record(prefix+"cold-first-recommendation.ms", "ms", "", scaled(s["cold"], 1e3)),
		record(prefix+"warm-first-recommendation.ms", "ms", "", scaled(s["warm"], 1e3)),
		record(prefix+"onnxruntime-web-session.ms", "ms", "onnxruntime-web "+got.Version, scaled(s["session"], 1e3)),
		record(prefix+"minilm-32.speedup-over-onnxruntime-web", "ratio", "onnxruntime-web "+got.Version, ratio(s["onnx"], s["minilm"])),
		record(prefix+"minilm-32.ms", "ms", "", scaled(s["minilm"], 1e3)),
		record(prefix+"minilm-32.onnxruntime-web-ms", "ms", "", scaled(s["onnx"], 1e3)),
		record(prefix+"recommend-h50-10000.p50-us", "us", "", scaled(s["recommend"], 1e6)),
	}
	if len(s["encoder"]) > 0 {
		records = append(records, record(prefix+"encoder-16.p50-us", "us", "", scaled(s["encoder"], 1e6)))
	}
	memory := record(prefix+"load-close.memory-ratio", "ratio", fmt.Sprintf("after %d times", b.cycles), ratio(s["memory-after"], s["memory-before"]))
	memory.Name = strings.Replace(memory.Name, "speed.", "memory.", 1)
	return append(records, memory), nil
}
