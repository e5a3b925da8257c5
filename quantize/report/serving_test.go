package report_test

import (
	"math"
	"testing"

	"github.com/wisp-project/wisp/quantize"
	"github.com/wisp-project/wisp/quantize/report"
)

func near(t *testing.T, what string, got, want float64) {
	t.Helper()
	if math.Abs(got-want) > 1e-9*math.Abs(want) {
		t.Errorf("%s is %v, want %v", what, got, want)
	}
}

// An encoder of 10^9 MACs and 10^8 bytes, on a machine that reaches 10^12 MACs and
// 10^11 bytes a second: 1 ms of either at batch 1, and computing grows with the batch.
func TestEncoderOptions(t *testing.T) {
	in := report.Instance{MemoryGB: 1, MemoryGBPerS: 200, MemoryEfficiency: 0.5, PeakTMACs: 2, ComputeEfficiency: 0.5, OverheadMS: 3}
	options := report.EncoderOptions(in, 1e9, 1e8)
	if len(options) != 9 {
		t.Fatalf("%d options", len(options))
	}
	for i, want := range []float64{0.003 + 0.001, 0.003 + 0.002, 0.003 + 0.004} {
		batch, slots, service, join := options[i].Values()
		if batch != math.Pow(2, float64(i)) || slots != batch || join != service && batch > 1 || join != 0 && batch == 1 {
			t.Errorf("option %d: batch %v, slots %v, join %v", i, batch, slots, join)
		}
		near(t, "service", service, want)
	}
	// Reading bounds a model of ten times the weights until a batch of 16.
	for i, o := range report.EncoderOptions(in, 1e9, 0.5e9) {
		_, _, service, _ := o.Values()
		near(t, "service", service, 0.003+max(0.005, 0.001*math.Pow(2, float64(i))))
	}
	if report.EncoderOptions(in, 1e9, 0.91e9) != nil {
		t.Error("weights that take more than nine tenths of the memory fit")
	}
}

// A decoder of two layers, width 4, feed-forward 6, vocabulary 10 has 272 weights in
// its blocks, 372 parameters, and 32 bytes of keys and values for each token.
func TestDecoderOptions(t *testing.T) {
	d := quantize.Decoder{Layers: 2, Dim: 4, FFN: 6, Vocabulary: 10}
	// 1000 bytes and 10^6 MACs a second: reading bounds everything.
	in := report.Instance{MemoryGB: 1, MemoryGBPerS: 1e-6, MemoryEfficiency: 1, PeakTMACs: 1e-6, ComputeEfficiency: 1}
	options := report.DecoderOptions(in, d, 3, 3)
	const weights = 2 * 372
	for _, o := range options[:2] {
		b, slots, service, join := o.Values()
		prompt := b * weights / 1000
		second, third := (weights+b*32*5)/1000, (weights+b*32*6)/1000 // contexts of 5 and 6 tokens
		near(t, "service", service, prompt+second+third)
		if b > 1 {
			near(t, "join", join, third)
		} else if join != 0 {
			t.Errorf("a lone request joins a batch for %v s", join)
		}
		if slots != b {
			t.Errorf("%v slots in a batch of %v", slots, b)
		}
	}
	// Where computing bounds: 3·272 + 2·6·8 + 40 = 952 MACs of the prompt, then 272 +
	// 2·2·4·5 + 40 = 392 and 272 + 2·2·4·6 + 40 = 408 for each request of the batch.
	in.MemoryGBPerS, in.PeakTMACs, in.OverheadMS = 1, 1e-9, 2
	_, _, service, _ := report.DecoderOptions(in, d, 3, 3)[2].Values()
	near(t, "service", service, 4*(0.952+0.002)+4*0.392+4*0.408)
	// Weights and a batch of two take 744 + 2·32·6 = 1128 bytes.
	in.MemoryGB = 1128 / 0.9e9
	if n := len(report.DecoderOptions(in, d, 3, 3)); n != 2 {
		t.Errorf("%d batches fit, want 2", n)
	}
}

// made is the report of the made data with fixed times.
func made(t *testing.T) *report.Report {
	t.Helper()
	r, err := report.Unmarshal("made.json", read(t, "made.json"))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func find(t *testing.T, r *report.Report, way, instance string) report.Fleet {
	t.Helper()
	for _, f := range r.Serving {
		if f.Way == way && f.Instance == instance {
			return f
		}
	}
	t.Fatalf("no %s on %q", way, instance)
	return report.Fleet{}
}

func TestPlan(t *testing.T) {
	r := made(t)
	r.Plan()
	w := r.Prices.Workload

	// 23,000 requests a second with two threads: 2/23000 s each on a core, at 0.8 of
	// the speed. Ten sites have 10^7·3/86400/10 a second each: one machine does, and
	// one is spare.
	f := find(t, r, report.WayArtefact, "edge gateway, 2 cores")
	near(t, "service", f.ServiceMS, 1000*2.0/23000/0.8)
	near(t, "machines", f.Machines, 20)
	near(t, "utilisation", f.Utilisation, 1e7*3/86400/10*(2.0/23000/0.8)/2)
	near(t, "cost", f.CostPerMonth, 20*0.04*730)
	near(t, "cost of a million", f.CostPerMillion, 20*0.04*730/(1e7*730/24)*1e6)
	near(t, "energy", f.KWhPerMonth, 20*20*0.73)
	if !f.Meets || f.Batch != 2 || f.Basis != report.Measured {
		t.Errorf("%+v", f)
	}
	for _, f := range r.Serving {
		if f.Way == report.WayArtefact && f.Kind != report.CPU {
			t.Errorf("a sandbox on a %s", f.Kind)
		}
	}

	// The browser: a download for 20 requests, at 0.05 a GB.
	f = find(t, r, report.WayBrowser, "")
	artefact := r.Models[1]
	near(t, "downloads", f.CostPerMonth, 1e7*730/24/20*float64(artefact.DiskBytes)/1e9*0.05)
	near(t, "time in the browser", f.ServiceMS, 0.08/0.5)

	// The teacher on a GPU, by its arithmetic: overhead alone counts, its bytes take
	// less than a microsecond.
	f = find(t, r, report.WayTeacher, "inference GPU, 24 GB")
	if f.Basis != report.Arithmetic || f.ServiceMS < 3 || f.ServiceMS > 3.1 {
		t.Errorf("the teacher on a GPU: %+v", f)
	}
	f = find(t, r, report.WayTeacher, "cloud CPU, 16 cores")
	near(t, "the teacher on a core", f.ServiceMS, 1000*2.0/4600)

	// No machine of the table writes 120 tokens of seven billion parameters in time.
	for _, f := range r.Serving {
		if f.Way == report.WayLLM && (f.Meets || f.FastestMS <= w.TargetMS) {
			t.Errorf("a language model within %v ms: %+v", w.TargetMS, f)
		}
	}
	// Its fastest answer on the large GPU: a prompt of 700 tokens by computing, then
	// 119 steps that read 13.48 GB and the keys and values.
	f = find(t, r, report.WayLLM, "large GPU, 80 GB")
	d := report.LanguageModel
	seconds := float64(d.PromptMACs(700))/(480e12*0.4) + 0.003
	for context := 702; context <= 820; context++ {
		seconds += (2*6738415616 + float64(context)*524288) / (3000e9 * 0.7)
	}
	near(t, "the fastest answer of a language model", f.FastestMS, 40+1000*seconds)

	// Energy: measured for one, by the model for the other, 8 W a core.
	near(t, "energy by RAPL", r.Models[0].Energy.Joules, 0.004)
	near(t, "energy by the model", r.Models[1].Energy.Joules, 2.0/23000*8)

	// Cost never falls as traffic grows, and starts at the smallest fleet.
	for _, c := range r.Curves {
		for i, p := range c.Points {
			if i > 0 && p.CostPerMonth < c.Points[i-1].CostPerMonth {
				t.Errorf("%s %s: cheaper at %v requests a day", c.Way, c.Model, p.RequestsPerDay)
			}
		}
	}

	// A target that an edge gateway meets and the cloud's 40 ms do not.
	r.Prices.Workload.TargetMS = 30
	r.Plan()
	if !find(t, r, report.WayArtefact, "edge gateway, 2 cores").Meets || find(t, r, report.WayArtefact, "cloud CPU, 16 cores").Meets {
		t.Error("30 ms are met in the cloud or missed at the edge")
	}
	for _, f := range r.Ways() {
		if f.Way == report.WayArtefact && f.Instance != "edge gateway, 2 cores" {
			t.Errorf("the best way misses the target: %+v", f)
		}
	}

	// A sandbox that does not fit the memory of an instance is not planned on it.
	r.Models[1].MemoryBytes = 10e9
	r.Plan()
	for _, f := range r.Serving {
		if f.Way == report.WayArtefact && f.Instance == "edge gateway, 2 cores" {
			t.Error("10 GB on a machine of 4")
		}
	}
}
