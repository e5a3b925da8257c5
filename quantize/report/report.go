// Package report puts side by side what a teacher and its students cost and are
// worth: sizes, multiply-accumulates, measured speed, energy, quality, the error of
// each layer, bytes over the network; and works out how many machines, and how much
// money, it takes to serve them, beside a large language model, BERT-base and the
// browser.
//
// It measures nothing itself: a Report is filled in by cmd/wisp, completed by Plan,
// and written as JSON (REPORT.md describes it) and as a page of HTML that needs
// nothing else.
package report

import (
	"encoding/json"
	"fmt"
	"math"

	"github.com/wisp-project/wisp/internal/eval"
	"github.com/wisp-project/wisp/quantize"
)

// Format is the version of the JSON. It changes when a name does, or what it means.
const Format = "wisp-report/1"

// Report is the content of the JSON and of the page.
type Report struct {
	Format  string  `json:"format"`
	Made    Made    `json:"made"`
	Data    Data    `json:"data"`
	Machine Machine `json:"machine"`
	// Models are what is compared: first the teacher.
	Models  []Model  `json:"models"`
	Prices  Prices   `json:"prices"`
	Serving []Fleet  `json:"serving"` // each way to serve on each instance that can
	Curves  []Curve  `json:"curves"`  // the cheapest of them by traffic
	Notes   []string `json:"notes"`   // what a reader has to know
}

// Made says how the report came about.
type Made struct {
	At      string `json:"at"`      // RFC 3339
	Wisp    string `json:"wisp"`    // version
	Command string `json:"command"` // without the folders of the machine
}

// Data is what the quality was measured on.
type Data struct {
	Name     string `json:"name"`
	Protocol string `json:"protocol"` // of the split
	Cases    int    `json:"cases"`    // test cases
	Items    int    `json:"items"`
	Users    int    `json:"users"`
}

// Machine is where the speed was measured.
type Machine struct {
	Description string `json:"description"`
}

// Kinds of models.
const (
	KindTeacher  = "teacher"  // in float32
	KindStudent  = "student"  // in float32
	KindArtefact = "artefact" // in int8, in a sandbox
)

// Model is one column of the comparison.
type Model struct {
	Name       string `json:"name"`
	Kind       string `json:"kind"`
	Precision  string `json:"precision"` // float32 or int8
	Parameters int64  `json:"parameters"`

	DiskBytes    int64 `json:"disk_bytes"`
	MemoryBytes  int64 `json:"memory_bytes"`            // to answer one request at a time
	SandboxBytes int64 `json:"sandbox_bytes,omitempty"` // of that, what each further sandbox takes

	Request Request               `json:"request"`
	Text    *Text                 `json:"text,omitempty"` // nil where it reads none
	Speed   Speed                 `json:"speed"`
	Energy  Energy                `json:"energy"`
	Quality Quality               `json:"quality"`
	Layers  []quantize.LayerError `json:"layers,omitempty"`  // nil where it is float32, or nobody knows of what it was made
	Network *Network              `json:"network,omitempty"` // of an artefact
}

// Request is the arithmetic of one request.
type Request struct {
	Events float64       `json:"events"` // of the history, the mean over the requests
	MACs   quantize.MACs `json:"macs"`   // the mean
	Total  int64         `json:"macs_total"`
}

// Text is the encoding of one text, once for each item or search.
type Text struct {
	Tokens     int           `json:"tokens"` // of the item text that has the median number
	MACs       quantize.MACs `json:"macs"`
	Total      int64         `json:"macs_total"`
	EachAnswer bool          `json:"each_answer"` // a request encodes one, too: the user's description
}

// Speed is what was measured.
type Speed struct {
	Latency    Latency      `json:"latency"` // of requests one after the other
	Throughput []Throughput `json:"throughput"`
}

// Latency has quantiles over requests.
type Latency struct {
	Requests int     `json:"requests"`
	P50      float64 `json:"p50_us"`
	P95      float64 `json:"p95_us"`
	P99      float64 `json:"p99_us"`
}

// Throughput is the rate of a number of threads that ask without a break.
type Throughput struct {
	Threads   int     `json:"threads"`
	PerSecond float64 `json:"per_second"` // the median of the rounds
	Low       float64 `json:"low"`        // the slowest round
	High      float64 `json:"high"`       // the fastest
	Rounds    int     `json:"rounds"`
	P50       float64 `json:"p50_us"` // of the requests then
	P99       float64 `json:"p99_us"`
}

// Best returns the measurement with the most threads.
func (s Speed) Best() Throughput {
	if len(s.Throughput) == 0 {
		return Throughput{}
	}
	return s.Throughput[len(s.Throughput)-1]
}

// CoreSeconds is the time of one core that a request takes when all are busy.
func (s Speed) CoreSeconds() float64 {
	b := s.Best()
	if b.PerSecond <= 0 {
		return 0
	}
	return float64(b.Threads) / b.PerSecond
}

// Energy is that of one request.
type Energy struct {
	Joules float64 `json:"joules"`
	Source string  `json:"source"` // rapl or model
	How    string  `json:"how"`    // in words
}

// Quality is that on the test cases, ties counted as Rank does unless said.
type Quality struct {
	NDCG        eval.Interval `json:"ndcg10"`
	HitRate     eval.Interval `json:"hr10"`
	MRR         eval.Interval `json:"mrr"`
	Coverage    eval.Interval `json:"coverage10"`
	TiesAgainst float64       `json:"ties_against_ndcg10"`
	// Of a student, beside the teacher.
	Ahead     *eval.Difference `json:"ahead_ndcg10,omitempty"` // its NDCG less the teacher's
	Retention *eval.Interval   `json:"retention,omitempty"`    // its NDCG, ties counted against it, over the teacher's
	Overlap   float64          `json:"overlap10,omitempty"`    // share of its ten items that are among the teacher's
}

// Network is what travels to a gateway or a browser.
type Network struct {
	Sections []Section `json:"sections"`
	Updates  []Update  `json:"updates"`
}

// Section is a part of an artefact that is fetched by itself.
type Section struct {
	Name   string `json:"name"`
	Stored int64  `json:"stored_bytes"`
	Raw    int64  `json:"raw_bytes"`
}

// Update is what is fetched where the sections that did not change are held.
type Update struct {
	What     string   `json:"what"`
	Bytes    int64    `json:"bytes"`
	Sections []string `json:"sections"` // that are fetched, beside header and table
}

// Marshal writes the report as JSON. A report with an infinity or a NaN in it is
// refused.
func (r *Report) Marshal() ([]byte, error) {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrReport, err)
	}
	return append(b, '\n'), nil
}

// Unmarshal reads what Marshal wrote. name is the file's, for messages.
func Unmarshal(name string, b []byte) (*Report, error) {
	var r Report
	if err := json.Unmarshal(b, &r); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrReport, name, err)
	}
	if r.Format != Format {
		return nil, fmt.Errorf("%w: %s has the format %q, this version reads %q; measure again", ErrReport, name, r.Format, Format)
	}
	if len(r.Models) == 0 || r.Models[0].Kind != KindTeacher {
		return nil, fmt.Errorf("%w: %s has no teacher; measure again", ErrReport, name)
	}
	if err := r.Prices.Validate(); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrReport, name, err)
	}
	return &r, nil
}

// Smallest returns the artefact with the fewest bytes, or nil.
func (r *Report) Smallest() *Model {
	var best *Model
	for i := range r.Models {
		if m := &r.Models[i]; m.Kind == KindArtefact && (best == nil || m.DiskBytes < best.DiskBytes) {
			best = m
		}
	}
	return best
}

// finite returns x, and 0 for an infinity or a NaN.
func finite(x float64) float64 {
	if math.IsInf(x, 0) || math.IsNaN(x) {
		return 0
	}
	return x
}
