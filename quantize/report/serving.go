package report

import (
	"math"
	"slices"

	"github.com/wisp-project/wisp/model"
	"github.com/wisp-project/wisp/quantize"
)

// Fleet is what it takes to serve in one way on one kind of machine.
type Fleet struct {
	Way      string `json:"way"`      // what answers: see Ways
	Model    string `json:"model"`    // its name
	Instance string `json:"instance"` // empty for the browser
	Kind     string `json:"kind"`     // of the instance, or browser
	Basis    string `json:"basis"`    // measured or arithmetic

	MACs  float64 `json:"macs"`  // of a request
	Bytes float64 `json:"bytes"` // of weights in memory

	Batch       float64 `json:"batch"`       // requests at a time on a machine
	ServiceMS   float64 `json:"service_ms"`  // of a request, the batch being full
	FastestMS   float64 `json:"fastest_ms"`  // of a lone request, network included: no number of machines is faster
	Sites       float64 `json:"sites"`       // places where machines stand
	Machines    float64 `json:"machines"`    // at all sites, spare ones included
	Utilisation float64 `json:"utilisation"` // at the peak, spare machines apart
	LatencyMS   float64 `json:"latency_ms"`  // at the percentile of the workload, network included, at most
	Meets       bool    `json:"meets"`       // the target

	CostPerMonth   float64 `json:"cost_per_month"`
	CostPerMillion float64 `json:"cost_per_million"` // requests
	KWhPerMonth    float64 `json:"kwh_per_month"`
}

// Ways to serve.
const (
	WayLLM      = "llm"
	WayBERT     = "bert"
	WayTeacher  = "teacher"
	WayStudent  = "student"
	WayArtefact = "artefact"
	WayBrowser  = "browser"
)

// Browser is the kind of a Fleet without machines.
const Browser = "browser"

// Basis of a Fleet's service time.
const (
	Measured   = "measured"
	Arithmetic = "arithmetic"
)

// Curve is the cost of one way by traffic, on whatever instance is cheapest then.
type Curve struct {
	Way    string  `json:"way"`
	Model  string  `json:"model"`
	Basis  string  `json:"basis"`
	Points []Point `json:"points"`
}

// Point is one of a Curve.
type Point struct {
	RequestsPerDay float64 `json:"requests_per_day"`
	CostPerMonth   float64 `json:"cost_per_month"`
}

// The two models that are known by their arithmetic alone.
var (
	// LanguageModel has the dimensions that are usual for seven billion parameters.
	LanguageModel = quantize.Decoder{Layers: 32, Dim: 4096, FFN: 11008, Vocabulary: 32000}
	// BERTBase is BERT-base (Devlin et al. 2019).
	BERTBase = model.TextConfig{
		Vocabulary: 30522, Positions: 512, MaxTokens: 512, Types: 2, Dim: 768, Layers: 12, Heads: 12, FFN: 3072, NormEpsilon: 1e-12, Pooling: model.PoolCLS,
	}
)

const halfBytes = 2 // of a weight or a state in 16 bits

// server is something that can be run on instances.
type server struct {
	way, model, basis string
	macs, bytes       float64
	// options returns what an instance can do with it, nil where it does not fit.
	options func(Instance) []option
}

// batches that are tried where requests are computed together.
var batches = []float64{1, 2, 4, 8, 16, 32, 64, 128, 256}

// memoryShare is what weights and states may take of a machine's memory.
const memoryShare = 0.9

// roofline is the time of computing at a machine's reached rate or of reading at
// its reached bandwidth, whichever is longer (Williams et al. 2009).
func roofline(in Instance, macs, bytes float64) float64 {
	return max(macs/(in.PeakTMACs*1e12*in.ComputeEfficiency), bytes/(in.MemoryGBPerS*1e9*in.MemoryEfficiency))
}

// encoderOptions are those of a model that computes a batch of requests in one
// pass. A request waits for the pass that is under way, at most as long as its own.
func encoderOptions(in Instance, macs, bytes float64) []option {
	if bytes > memoryShare*in.MemoryGB*1e9 {
		return nil
	}
	var all []option
	for _, b := range batches {
		t := in.OverheadMS/1000 + roofline(in, b*macs, bytes)
		all = append(all, option{batch: b, slots: b, service: t, join: joining(b, t)})
	}
	return all
}

// joining is how long a request may wait for a pass of a batch that it cannot enter
// any more; alone it waits in the queue, and nowhere else.
func joining(batch, pass float64) float64 {
	if batch == 1 {
		return 0
	}
	return pass
}

// decoderOptions are those of a language model that takes requests into its batch
// as others end (continuous batching, Yu et al. 2022): each step writes a token for
// every request of the batch, and every request's prompt is read in between. A step
// reads all weights, and the keys and values of every request.
func decoderOptions(in Instance, d quantize.Decoder, prompt, answer int) []option {
	weights := halfBytes * float64(d.Parameters())
	state := float64(d.StateBytes())
	var all []option
	for _, b := range batches {
		if weights+b*state*float64(prompt+answer) > memoryShare*in.MemoryGB*1e9 {
			break
		}
		reading := roofline(in, float64(d.PromptMACs(prompt)), weights)
		total := b * (reading + in.OverheadMS/1000)
		var step float64
		for t := 2; t <= answer; t++ { // the first token comes with the prompt
			context := prompt + t
			step = roofline(in, b*float64(d.TokenMACs(context)), weights+b*state*float64(context))
			total += step
		}
		all = append(all, option{batch: b, slots: b, service: total, join: joining(b, step)})
	}
	return all
}

// decoderMACs counts a request to a language model.
func decoderMACs(d quantize.Decoder, prompt, answer int) float64 {
	n := d.PromptMACs(prompt)
	for t := 2; t <= answer; t++ {
		n += d.TokenMACs(prompt + t)
	}
	return float64(n)
}

// servers returns what is compared: two models by their arithmetic, the float32
// models as measured on CPUs and by their arithmetic elsewhere, artefacts as
// measured.
func (r *Report) servers() []server {
	w := r.Prices.Workload
	prompt, answer := int(w.LLMPromptTokens), int(w.LLMAnswerTokens)
	bert := float64(quantize.TextMACs(BERTBase, int(w.BERTTokens)).Total())
	catalogue := float64(r.Data.Items) * float64(BERTBase.Dim)
	bertBytes := halfBytes * (float64(parameters(BERTBase)) + catalogue)
	all := []server{
		{
			way: WayLLM, model: "Language model, 7 B", basis: Arithmetic,
			macs: decoderMACs(LanguageModel, prompt, answer), bytes: halfBytes * float64(LanguageModel.Parameters()),
			options: func(in Instance) []option { return decoderOptions(in, LanguageModel, prompt, answer) },
		},
		{
			way: WayBERT, model: "BERT-base", basis: Arithmetic, macs: bert + catalogue, bytes: bertBytes,
			options: func(in Instance) []option { return encoderOptions(in, bert+catalogue, bertBytes) },
		},
	}
	for _, m := range r.Models {
		macs, bytes, measured := float64(m.Request.Total), float64(m.MemoryBytes), m.Speed.CoreSeconds()
		onCPU := func(in Instance) []option {
			if in.Kind != CPU || measured == 0 || bytes+(in.Cores-1)*float64(m.SandboxBytes) > memoryShare*in.MemoryGB*1e9 {
				return nil
			}
			return []option{{batch: in.Cores, slots: in.Cores, service: in.OverheadMS/1000 + measured/in.CoreSpeed}}
		}
		s := server{way: m.Kind, model: m.Name, basis: Measured, macs: macs, bytes: bytes, options: onCPU}
		all = append(all, s)
		if m.Kind != KindArtefact {
			s.basis = Arithmetic
			s.options = func(in Instance) []option {
				if in.Kind == CPU {
					return nil
				}
				return encoderOptions(in, macs, bytes)
			}
			all = append(all, s)
		}
	}
	return all
}

// parameters counts those of a configuration.
func parameters(c model.Shaped) (n int64) {
	for _, s := range c.Specs() {
		p := int64(1)
		for _, d := range s.Shape {
			p *= int64(d)
		}
		n += p
	}
	return n
}

// Plan works out Serving, Curves and the energy that was not measured, from what was
// measured and the prices.
func (r *Report) Plan() {
	r.Serving, r.Curves = nil, nil
	r.estimateEnergy()
	w := r.Prices.Workload
	for _, s := range r.servers() {
		for _, in := range r.Prices.Instances {
			options := s.options(in)
			if len(options) == 0 {
				continue
			}
			f := cheapest(w, in, options, w.RequestsPerDay)
			cost := f.machines * in.PricePerHour * w.HoursPerMonth
			fastest := options[0].service
			for _, o := range options {
				fastest = min(fastest, o.service)
			}
			r.Serving = append(r.Serving, Fleet{
				Way: s.way, Model: s.model, Instance: in.Name, Kind: in.Kind, Basis: s.basis, MACs: s.macs, Bytes: s.bytes,
				Batch: f.batch, ServiceMS: 1000 * f.service, FastestMS: in.NetworkMS + 1000*fastest, Sites: in.Sites, Machines: f.machines, Utilisation: f.load, LatencyMS: finite(1000 * f.latency), Meets: f.meets,
				CostPerMonth: cost, CostPerMillion: perMillion(w, cost), KWhPerMonth: f.machines * in.Watts / 1000 * w.HoursPerMonth,
			})
		}
	}
	for _, m := range r.Models {
		if m.Kind == KindArtefact {
			r.Serving = append(r.Serving, r.browser(m))
		}
	}
	r.curves()
}

// browser is the fleet that a visitor's device is: it costs the download.
func (r *Report) browser(m Model) Fleet {
	w := r.Prices.Workload
	f := Fleet{
		Way: WayBrowser, Model: m.Name, Kind: Browser, Basis: Measured, MACs: float64(m.Request.Total), Bytes: float64(m.MemoryBytes), Batch: 1,
		ServiceMS: m.Speed.Latency.P50 / 1000 / w.BrowserSpeed, LatencyMS: m.Speed.Latency.P99 / 1000 / w.BrowserSpeed,
	}
	f.FastestMS, f.Meets = f.ServiceMS, f.LatencyMS <= w.TargetMS
	f.CostPerMonth = w.RequestsPerDay * w.HoursPerMonth / 24 / w.RequestsPerDownload * float64(m.DiskBytes) / 1e9 * w.EgressPerGB
	f.CostPerMillion = perMillion(w, f.CostPerMonth)
	return f
}

// perMillion is the part of a month's cost that a million requests have.
func perMillion(w Workload, cost float64) float64 {
	return cost / (w.RequestsPerDay * w.HoursPerMonth / 24) * 1e6
}

// Ways returns the cheapest fleet of each way, model and basis, those that meet the
// target before those that do not.
func (r *Report) Ways() []Fleet {
	var best []Fleet
	for _, f := range r.Serving {
		i := slices.IndexFunc(best, func(b Fleet) bool { return b.Way == f.Way && b.Model == f.Model && b.Basis == f.Basis })
		switch {
		case i < 0:
			best = append(best, f)
		case f.Meets != best[i].Meets:
			if f.Meets {
				best[i] = f
			}
		case f.CostPerMonth < best[i].CostPerMonth:
			best[i] = f
		}
	}
	return best
}

// curves follows each way from ten thousand to a billion requests a day.
func (r *Report) curves() {
	const from, to, steps = 4, 9, 25
	servers := r.servers()
	for _, f := range r.Ways() {
		c := Curve{Way: f.Way, Model: f.Model, Basis: f.Basis}
		for i := range steps + 1 {
			n := math.Pow(10, from+float64(i)*(to-from)/steps)
			p := Point{RequestsPerDay: math.Round(n), CostPerMonth: f.CostPerMillion * n * r.Prices.Workload.HoursPerMonth / 24 / 1e6}
			if f.Way != WayBrowser {
				p.CostPerMonth = r.cheapestCost(servers, f, n)
			}
			c.Points = append(c.Points, p)
		}
		r.Curves = append(r.Curves, c)
	}
}

// cheapestCost is what the way of f costs at a traffic; where f meets the target, on
// instances that meet it.
func (r *Report) cheapestCost(servers []server, f Fleet, requestsPerDay float64) float64 {
	best := math.Inf(1)
	w := r.Prices.Workload
	for _, s := range servers {
		if s.way != f.Way || s.model != f.Model || s.basis != f.Basis {
			continue
		}
		for _, in := range r.Prices.Instances {
			options := s.options(in)
			if len(options) == 0 {
				continue
			}
			if g := cheapest(w, in, options, requestsPerDay); g.meets || !f.Meets {
				best = min(best, g.machines*in.PricePerHour*w.HoursPerMonth)
			}
		}
	}
	return finite(best)
}
