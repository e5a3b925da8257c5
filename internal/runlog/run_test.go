package runlog_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/wisp-project/wisp/internal/runlog"
)

type config struct {
	LearningRate float64 `json:"learning_rate"`
}

func open(t *testing.T, dir string, step int64) *runlog.Run {
	t.Helper()
	r, err := runlog.Open(dir, config{0.002}, step, start)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() }) // where the test did not get there
	return r
}

func closeRun(t *testing.T, r *runlog.Run) {
	t.Helper()
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
}

// abandon leaves a copy of dir as a killed process would: r is never closed.
func abandon(t *testing.T, dir string) string {
	t.Helper()
	killed := filepath.Join(t.TempDir(), "killed")
	if err := os.CopyFS(killed, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return killed
}

func TestScalarRoundTrip(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made", "run")
	r := open(t, dir, 0)
	want := []struct {
		step  int64
		name  string
		value float64
		json  any
	}{
		{0, "ndcg@10", 0.1, 0.1},
		{1, "loss/train", 2.5, 2.5},
		{1, "loss/validation", -3e-12, -3e-12},
		{2, "loss/train", math.NaN(), "NaN"},
		{3, "loss/train", math.Inf(1), "Infinity"},
		{1 << 40, "loss/train", math.Inf(-1), "-Infinity"},
	}
	for i, w := range want {
		r.Scalar(w.step, w.name, w.value, start.Add(time.Duration(i)*time.Second))
	}
	// All is there before Close: a killed run can be read.
	metrics, events := readMetrics(t, dir), readEvents(t, dir)
	if len(metrics) != len(want) || len(events) != len(want)+1 {
		t.Fatalf("%d metrics and %d events, want %d and %d", len(metrics), len(events), len(want), len(want)+1)
	}
	if v := events[0]; v.version != "brain.Event:2" || v.restart {
		t.Fatalf("first event is %+v", v)
	}
	for i, w := range want {
		at := start.Add(time.Duration(i) * time.Second)
		if m := metrics[i]; m.Step != w.step || m.Name != w.name || m.Value != w.json || !m.Time.Equal(at) {
			t.Errorf("metric %d is %+v, want %+v", i, m, w)
		}
		e := events[i+1]
		if e.step != w.step || e.tag != w.name || math.Float32bits(e.scalar) != math.Float32bits(float32(w.value)) || e.wall != float64(at.UnixMilli())/1e3 {
			t.Errorf("event %d is %+v, want %+v", i, e, w)
		}
	}
	closeRun(t, r)
	if got := readFile(t, dir, "config.json"); got != "{\n  \"learning_rate\": 0.002\n}\n" {
		t.Errorf("config is %q", got)
	}
}

func TestHistogram(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	ramp := make([]float32, 1000)
	for i := range ramp {
		ramp[i] = float32(i) - 300
	}
	for _, c := range []struct {
		name             string
		values           []float32
		min, max, n, sum float64
		buckets          int
		nonfinite        float32
	}{
		{"ramp", ramp, -300, 699, 1000, 199500, 64, 0},
		{"constant", []float32{2, 2, 2}, 2, 2, 3, 6, 1, 0},
		{"broken", []float32{1, nan, 3, inf, -inf}, 1, 3, 2, 4, 64, 3},
		{"huge", []float32{-math.MaxFloat32, math.MaxFloat32}, -math.MaxFloat32, math.MaxFloat32, 2, 0, 64, 0},
		{"adjacent", []float32{1, math.Nextafter32(1, 2)}, 1, float64(math.Nextafter32(1, 2)), 2, 1 + float64(math.Nextafter32(1, 2)), 64, 0},
		{"nothing", []float32{nan}, 0, 0, 0, 0, 0, 1},
		{"empty", nil, 0, 0, 0, 0, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			r := open(t, dir, 0)
			r.Histogram(7, c.name, c.values, start)
			closeRun(t, r)
			events := readEvents(t, dir)[1:]
			if c.n > 0 {
				h := events[0].histogram
				if events[0].tag != c.name || events[0].step != 7 || h == nil {
					t.Fatalf("event is %+v", events[0])
				}
				if h[1][0] != c.min || h[2][0] != c.max || h[3][0] != c.n || h[4][0] != c.sum {
					t.Errorf("min, max, number, sum are %v %v %v %v, want %+v", h[1], h[2], h[3], h[4], c)
				}
				var square float64
				limits, counts := h[6], make([]float64, len(h[6]))
				for _, x := range c.values {
					v := float64(x)
					if math.IsNaN(v) || math.IsInf(v, 0) {
						continue
					}
					square += v * v
					// Buckets are closed to the left, the last to both sides.
					i := slices.IndexFunc(limits, func(l float64) bool { return v < l })
					if i < 0 {
						i = len(limits) - 1
					}
					counts[i]++
				}
				if h[5][0] != square || len(limits) != c.buckets || limits[len(limits)-1] != c.max || !slices.IsSorted(limits) {
					t.Errorf("squares %v, want %v; limits %v", h[5], square, limits)
				}
				if !slices.Equal(h[7], counts) {
					t.Errorf("buckets %v, want %v", h[7], counts)
				}
				events = events[1:]
			}
			if c.nonfinite > 0 {
				if len(events) != 1 || events[0].tag != c.name+"/nonfinite" || events[0].scalar != c.nonfinite {
					t.Errorf("events are %+v, want %v values that are not finite", events, c.nonfinite)
				}
			} else if len(events) > 0 {
				t.Errorf("unwanted events %+v", events)
			}
		})
	}
}

// record logs a loss and weights for steps first to last.
func record(r *runlog.Run, first, last int64) {
	for step := first; step <= last; step++ {
		r.Scalar(step, "loss", 1/float64(step), start)
		r.Histogram(step, "weights", []float32{1, 2, float32(step)}, start)
	}
}

func TestResume(t *testing.T) {
	dir := t.TempDir()
	r := open(t, dir, 0)
	r.Scalar(0, "loss", 9, start)
	record(r, 1, 12)
	if err := r.Embedding("items", []float32{1, 2}, 2, nil); err != nil {
		t.Fatal(err)
	}
	killed := abandon(t, dir)

	// Twice, with the same clock: the checkpoint is of step 10, later of step 14.
	for _, step := range []int64{10, 14} {
		r := open(t, killed, step)
		record(r, step+1, step+5)
		closeRun(t, r)
	}
	var steps, scalars, histograms []int64
	for _, m := range readMetrics(t, killed) {
		steps = append(steps, m.Step)
	}
	versions, restarts := 0, []int64{}
	for _, e := range readEvents(t, killed) {
		switch {
		case e.version != "":
			versions++
		case e.restart:
			restarts = append(restarts, e.step)
		case e.histogram != nil:
			histograms = append(histograms, e.step)
		default:
			scalars = append(scalars, e.step)
		}
	}
	var want []int64
	for s := range int64(20) {
		want = append(want, s)
	}
	if !slices.Equal(steps, want) || !slices.Equal(scalars, want) || !slices.Equal(histograms, want[1:]) {
		t.Errorf("metrics of steps %v, scalars %v, histograms %v", steps, scalars, histograms)
	}
	if versions != 3 || !slices.Equal(restarts, []int64{11, 15}) {
		t.Errorf("%d sessions, restarts at %v", versions, restarts)
	}
	if got := len(points(t, killed, "loss")); got != 20 {
		t.Errorf("the curve has %d points, want 20", got)
	}
	if !strings.Contains(readFile(t, killed, "projector_config.pbtxt"), `"items"`) {
		t.Error("the embedding of the first session is lost")
	}

	// A new run in the same folder takes nothing over.
	r = open(t, killed, 0)
	r.Scalar(1, "accuracy", 0.5, start)
	closeRun(t, r)
	if m := readMetrics(t, killed); len(m) != 1 || m[0].Name != "accuracy" {
		t.Errorf("metrics are %+v", m)
	}
	if e := readEvents(t, killed); len(e) != 2 || e[1].tag != "accuracy" {
		t.Errorf("events are %+v", e)
	}
	for _, name := range []string{"curves/loss.svg", "projector", "projector_config.pbtxt"} {
		if _, err := os.Stat(filepath.Join(killed, name)); err == nil {
			t.Errorf("%s is still there", name)
		}
	}
}

func TestOpenRepairsTornFiles(t *testing.T) {
	dir := t.TempDir()
	r := open(t, dir, 0)
	record(r, 1, 3)
	closeRun(t, r)
	whole := map[string]string{"metrics.jsonl": readFile(t, dir, "metrics.jsonl")}
	eventFile := filepath.Base(eventFiles(t, dir)[0])
	whole[eventFile] = readFile(t, dir, eventFile)

	// count returns how many records are kept of a file that now holds content.
	count := func(t *testing.T, name, content string) (kept int) {
		torn := filepath.Join(t.TempDir(), "torn")
		if err := os.CopyFS(torn, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(torn, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		r := open(t, torn, 3)
		r.Scalar(4, "loss", 4, start)
		if name == "metrics.jsonl" {
			m := readMetrics(t, torn)
			if m[len(m)-1].Step != 4 {
				t.Fatalf("metrics are %+v", m)
			}
			return len(m) - 1
		}
		e := readEvents(t, torn)
		if e[len(e)-1].step != 4 {
			t.Fatalf("events are %+v", e)
		}
		return len(e) - 3 // version and restart of the new session, and step 4
	}
	zeros := strings.Repeat("\x00", 40) // what a power cut may leave
	for name, content := range whole {
		for _, tail := range []string{"", zeros} {
			ends := recordEnds(name, content, tail)
			for n := 0; n <= len(content); n += max(1, len(content)/30) {
				want := 0
				for want < len(ends) && ends[want] <= n {
					want++
				}
				if kept := count(t, name, content[:n]+tail); kept != want {
					t.Errorf("%s cut at %d of %d, tail %q: %d records are kept, want %d", name, n, len(content), tail, kept, want)
				}
			}
		}
	}
	if got := count(t, "metrics.jsonl", strings.TrimSuffix(whole["metrics.jsonl"], "\n")); got != 3 {
		t.Errorf("a line torn of its line feed only: %d records, want 3", got)
	}
	if got := count(t, eventFile, whole[eventFile]); got != 7 {
		t.Errorf("a whole file: %d records, want 7", got)
	}
	flipped := []byte(whole[eventFile])
	flipped[len(flipped)-8] ^= 1
	if got := count(t, eventFile, string(flipped)); got != 6 {
		t.Errorf("a flipped bit in the last record: %d records, want 6", got)
	}
}

// recordEnds returns how many bytes of a file hold its first record, its first
// two, and so on, where tail follows them.
func recordEnds(name, content, tail string) []int {
	var ends []int
	if name == "metrics.jsonl" {
		for i, c := range content {
			if c == '\n' && tail != "" {
				ends = append(ends, i+1)
			} else if c == '\n' {
				ends = append(ends, i) // can do without its line feed
			}
		}
		return ends
	}
	for at := 0; at < len(content); {
		at += 16 + int(binary.LittleEndian.Uint64([]byte(content[at:])))
		ends = append(ends, at)
	}
	return ends
}

func TestOpenErrors(t *testing.T) {
	good := `{"step":1,"name":"loss","value":2,"time":"2024-01-02T03:04:05Z"}` + "\n"
	for _, c := range []struct {
		name   string
		files  map[string]string
		config any
		step   int64
		want   error
		says   string
	}{
		{name: "config of a model", files: map[string]string{"config.json": "{}"}, want: runlog.ErrFolder, says: "config.json"},
		{name: "events of another", files: map[string]string{"events.out.tfevents.1.host": ""}, want: runlog.ErrFolder, says: "another folder"},
		{name: "metrics of another", files: map[string]string{"metrics.jsonl": `{"epoch":1}` + "\n"}, want: runlog.ErrFolder, says: "metrics.jsonl:1"},
		{name: "damaged line", files: map[string]string{"metrics.jsonl": good + "{\n" + good}, step: 1, want: runlog.ErrFolder, says: "metrics.jsonl:2"},
		{name: "bad value", files: map[string]string{"metrics.jsonl": strings.Replace(good, "2,", `"big",`, 1)}, step: 1, want: runlog.ErrFolder, says: "metrics.jsonl:1"},
		{name: "negative step", step: -1, want: runlog.ErrInput, says: "-1"},
		{name: "config", config: math.NaN(), want: runlog.ErrInput, says: "configuration"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, content := range c.files {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			_, err := runlog.Open(dir, c.config, c.step, start)
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("error is %v, want %v with %q", err, c.want, c.says)
			}
			for name, content := range c.files {
				if got := readFile(t, dir, name); got != content {
					t.Errorf("%s was changed to %q", name, got)
				}
			}
			if entries, err := os.ReadDir(dir); err != nil || len(entries) != len(c.files) {
				t.Errorf("the folder holds %v (%v)", entries, err)
			}
		})
	}
	t.Run("a file in the way", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(file, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := runlog.Open(file, nil, 0, start); err == nil {
			t.Fatal("a file was opened as a folder")
		}
	})
}

func TestRecordErrors(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(*runlog.Run)
	}{
		{"negative step", func(r *runlog.Run) { r.Scalar(-1, "loss", 1, start) }},
		{"negative step of a histogram", func(r *runlog.Run) { r.Histogram(-1, "w", []float32{1}, start) }},
		{"time", func(r *runlog.Run) { r.Scalar(1, "loss", 1, time.Date(12345, 1, 1, 0, 0, 0, 0, time.UTC)) }},
	} {
		t.Run(c.name, func(t *testing.T) { wantSticky(t, c.do) })
	}
	for _, name := range []string{"", ".", "..", "../loss", "/loss", "loss/", "a//b", "a b", "a\"b", "a\nb", "ä", `a\b`, strings.Repeat("x", 201)} {
		t.Run(fmt.Sprintf("name %.10q", name), func(t *testing.T) {
			wantSticky(t, func(r *runlog.Run) { r.Scalar(1, name, 1, start) })
			wantSticky(t, func(r *runlog.Run) { r.Histogram(1, name, []float32{1}, start) })
			if err := open(t, t.TempDir(), 0).Embedding(name, []float32{1}, 1, nil); !errors.Is(err, runlog.ErrInput) {
				t.Errorf("embedding: error is %v", err)
			}
		})
	}
}

// wantSticky checks that do makes the run keep ErrInput and record nothing.
func wantSticky(t *testing.T, do func(*runlog.Run)) {
	t.Helper()
	dir := t.TempDir()
	r := open(t, dir, 0)
	do(r)
	r.Scalar(2, "loss", 1, start)
	if !errors.Is(r.Err(), runlog.ErrInput) {
		t.Errorf("error is %v", r.Err())
	}
	if err := r.Close(); !errors.Is(err, runlog.ErrInput) {
		t.Errorf("error of Close is %v", err)
	}
	if m, e := readMetrics(t, dir), readEvents(t, dir); len(m) != 0 || len(e) != 1 {
		t.Errorf("recorded %+v and %+v", m, e)
	}
}

func TestClosed(t *testing.T) {
	dir := t.TempDir()
	r := open(t, dir, 0)
	record(r, 1, 2)
	closeRun(t, r)
	record(r, 3, 4)
	if !errors.Is(r.Err(), runlog.ErrClosed) || !errors.Is(r.Embedding("items", []float32{1}, 1, nil), runlog.ErrClosed) {
		t.Errorf("error is %v", r.Err())
	}
	if err := r.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	if got := len(readMetrics(t, dir)); got != 2 {
		t.Errorf("%d metrics, want 2", got)
	}
}

func TestFullDisk(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skipf("nothing here is always full: %v", err)
	}
	dir := t.TempDir()
	r := open(t, dir, 0)
	record(r, 1, 3)
	old := r.SetMetricsFile(full)
	record(r, 4, 4)
	r.SetMetricsFile(old)
	record(r, 5, 5) // there is room again, but what is missing in between would not be seen
	if !errors.Is(r.Err(), syscall.ENOSPC) {
		t.Errorf("error is %v", r.Err())
	}
	if err := r.Close(); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("error of Close is %v", err)
	}
	if m, e := readMetrics(t, dir), readEvents(t, dir); len(m) != 3 || len(e) != 7 {
		t.Errorf("%d metrics and %d events, want 3 and 7", len(m), len(e))
	}
	if err := full.Close(); err != nil {
		t.Error(err)
	}
}

func TestCloseTellsThatCurvesCannotBeDrawn(t *testing.T) {
	dir := t.TempDir()
	r := open(t, dir, 0)
	record(r, 1, 3)
	if err := os.WriteFile(filepath.Join(dir, "curves"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err == nil || !strings.Contains(err.Error(), "curves") {
		t.Errorf("error is %v", err)
	}
}

func BenchmarkScalar(b *testing.B) {
	r, err := runlog.Open(b.TempDir(), nil, 0, start)
	if err != nil {
		b.Fatal(err)
	}
	var step int64
	for b.Loop() {
		step++
		r.Scalar(step, "loss/train", 1/float64(step), start)
	}
	if err := r.Close(); err != nil {
		b.Fatal(err)
	}
}

func BenchmarkHistogram(b *testing.B) {
	r, err := runlog.Open(b.TempDir(), nil, 0, start)
	if err != nil {
		b.Fatal(err)
	}
	values := make([]float32, 1<<20)
	for i := range values {
		values[i] = float32(math.Sin(float64(i)))
	}
	for b.Loop() {
		r.Histogram(1, "weights", values, start)
	}
	if err := r.Close(); err != nil {
		b.Fatal(err)
	}
}
