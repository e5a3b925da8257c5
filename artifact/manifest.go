package artifact

import (
	"crypto/sha256"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Manifest says what an artefact is and where it comes from.
type Manifest struct {
	// Name is the name of the model, without control characters.
	Name string `json:"name"`
	// Version counts the releases of Name, from 1 to 2^53-1.
	Version uint64 `json:"version"`
	// Tenant says whom the model serves; it may be empty.
	Tenant string `json:"tenant,omitempty"`
	// ABI is the version of the contract between host and kernel.
	ABI   int       `json:"abi"`
	Model ModelInfo `json:"model"`
	// EventTypes is the vocabulary of events, in the order of the model's
	// embedding; its length is Model.EventTypes.
	EventTypes []EventType `json:"event_types"`
	// Classes are the names of the classes that texts are sorted into, in the order of
	// the model; there are Model.Text.Classes.
	Classes []string       `json:"classes,omitempty"`
	Limits  ManifestLimits `json:"limits"`
	// Metrics are the figures measured when the model was built.
	Metrics []Metric `json:"metrics,omitempty"`
	// Licences are those of the data, the weights and the kernel.
	Licences []Licence `json:"licences,omitempty"`
	// Created is a time in the form of RFC 3339, or empty.
	Created string `json:"created,omitempty"`
	// Provenance says what the artefact was made of and how; nil where nothing is
	// said.
	Provenance *Provenance `json:"provenance,omitempty"`
}

// ModelInfo holds the dimensions of the model.
type ModelInfo struct {
	Items      int `json:"items"`                // N: size of the catalogue
	Dim        int `json:"dim"`                  // D: model width
	Layers     int `json:"layers"`               // transformer blocks
	Heads      int `json:"heads"`                // H: attention heads; divides Dim
	FFN        int `json:"ffn"`                  // width of the feed-forward layers
	Window     int `json:"window"`               // W: events that an event attends to
	EventTypes int `json:"event_types"`          // E: entries of the event vocabulary
	GapBuckets int `json:"gap_buckets"`          // G: buckets of the time between events
	Attributes int `json:"attributes,omitempty"` // that items are known to be made of
	// Ratings says that the model predicts them.
	Ratings bool `json:"ratings,omitempty"`
	// Text is the text encoder; the zero value stands for a model without one.
	Text TextInfo `json:"text,omitzero"`
}

// TextInfo holds the dimensions of a text encoder, and says what texts are for.
type TextInfo struct {
	Vocabulary int  `json:"vocabulary"`           // V: tokens
	Tokens     int  `json:"tokens"`               // longest text that is read whole
	Dim        int  `json:"dim"`                  // D: width of the vector of a text
	Layers     int  `json:"layers"`               // transformer blocks
	Heads      int  `json:"heads"`                // H: attention heads; divides Dim
	FFN        int  `json:"ffn"`                  // width of the feed-forward layers
	ItemMap    bool `json:"item_map,omitempty"`   // a text gives the vector of an item
	UserMap    bool `json:"user_map,omitempty"`   // a text can describe a user
	ItemTexts  bool `json:"item_texts,omitempty"` // a text finds items by theirs
	Classes    int  `json:"classes,omitempty"`    // that texts are sorted into
}

// EventType is an entry of the event vocabulary. An event belongs to the last
// entry with its Name whose AtLeast does not exceed its value.
type EventType struct {
	Name    string  `json:"name"`
	AtLeast float32 `json:"at_least"`
}

// ManifestLimits bounds what the kernel is asked for.
type ManifestLimits struct {
	MaxHistory  int    `json:"max_history"`  // events in a request
	MaxK        int    `json:"max_k"`        // items in an answer
	MemoryPages uint32 `json:"memory_pages"` // WebAssembly memory, in pages of 64 KiB
}

// Metric is a measured figure with its interval.
type Metric struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Low   float64 `json:"low"`  // lower end of the interval
	High  float64 `json:"high"` // upper end of the interval
	N     int     `json:"n"`    // number of cases
	// Protocol says how it was measured.
	Protocol string `json:"protocol,omitempty"`
}

// Licence names the licence of something that went into the artefact.
type Licence struct {
	What    string `json:"what"`    // what is licensed
	Licence string `json:"licence"` // its licence, as an SPDX identifier where there is one
	// Notice is the text that has to accompany it; it may have several lines.
	Notice string `json:"notice,omitempty"`
}

// Provenance is what somebody needs who wants to make an artefact again.
type Provenance struct {
	Wisp     string   `json:"wisp,omitempty"`     // version of the program that made it
	Go       string   `json:"go,omitempty"`       // version of Go that built the program
	BLAS     string   `json:"blas,omitempty"`     // library and version that it was trained with
	Sources  []Source `json:"sources,omitempty"`  // what it was made of
	Commands []string `json:"commands,omitempty"` // how, in their order, without the paths of the machine
}

// Source is a file that went into the artefact, directly or through others.
type Source struct {
	Name   string `json:"name"`
	SHA256 string `json:"sha256"` // of its content, in lower-case hexadecimal
}

// Limits on what a manifest may say. They keep arithmetic on its numbers far
// from overflow; the image's own checks are narrower.
const (
	maxVersion     = 1<<53 - 1 // what a JSON number carries exactly everywhere
	maxItems       = 1 << 26
	maxDimension   = 1 << 16
	maxVocabulary  = 1 << 20
	maxRequest     = 1 << 20
	maxMemoryPages = 1 << 16
	maxClasses     = 1 << 8
	maxText        = 1 << 10
	maxNotice      = 1 << 18
	maxCommand     = 1 << 14
)

// Validate reports the first field that is missing, out of range or
// contradicts another. The error wraps ErrManifest.
func (m *Manifest) Validate() error {
	v := validator{}
	v.text("name", m.Name, true)
	v.check(m.Version >= 1 && m.Version <= maxVersion, "version is %d, must lie between 1 and 2^53-1", m.Version)
	v.text("tenant", m.Tenant, false)
	v.size("abi", m.ABI, math.MaxInt32)
	v.model(m.Model)
	v.check(len(m.EventTypes) == m.Model.EventTypes, "event_types has %d entries, model.event_types is %d", len(m.EventTypes), m.Model.EventTypes)
	seen := make(map[EventType]bool, len(m.EventTypes))
	for i, t := range m.EventTypes {
		v.text(fmt.Sprintf("event_types[%d].name", i), t.Name, true)
		v.finite(fmt.Sprintf("event_types[%d].at_least", i), float64(t.AtLeast))
		v.check(!seen[t], "event_types[%d] repeats %q at least %v", i, t.Name, t.AtLeast)
		seen[t] = true
	}
	v.check(len(m.Classes) == m.Model.Text.Classes, "classes has %d entries, model.text.classes is %d", len(m.Classes), m.Model.Text.Classes)
	for i, name := range m.Classes {
		v.text(fmt.Sprintf("classes[%d]", i), name, true)
		v.check(!slices.Contains(m.Classes[:i], name), "classes[%d] repeats %q", i, name)
	}
	v.size("limits.max_history", m.Limits.MaxHistory, maxRequest)
	v.size("limits.max_k", m.Limits.MaxK, maxRequest)
	v.size("limits.memory_pages", int(m.Limits.MemoryPages), maxMemoryPages)
	for i, x := range m.Metrics {
		name := fmt.Sprintf("metrics[%d]", i)
		v.text(name+".name", x.Name, true)
		v.text(name+".protocol", x.Protocol, false)
		v.finite(name+".value", x.Value)
		v.finite(name+".low", x.Low)
		v.finite(name+".high", x.High)
		v.check(x.Low <= x.High, "%s.low is %v, above high %v", name, x.Low, x.High)
		v.check(x.N >= 0, "%s.n is %d, must not be negative", name, x.N)
	}
	for i, l := range m.Licences {
		name := fmt.Sprintf("licences[%d]", i)
		v.text(name+".what", l.What, true)
		v.text(name+".licence", l.Licence, true)
		v.check(len(l.Notice) <= maxNotice && printable(l.Notice, "\n\t"),
			"%s.notice is longer than %d bytes, not UTF-8, or has control characters other than tabs and newlines", name, maxNotice)
	}
	if m.Created != "" {
		_, err := time.Parse(time.RFC3339, m.Created)
		v.check(err == nil, "created is %q, must be empty or a time such as 2006-01-02T15:04:05Z", m.Created)
	}
	if m.Provenance != nil {
		v.provenance(m.Provenance)
	}
	if v.err != nil {
		return fmt.Errorf("%w: %w", ErrManifest, v.err)
	}
	return nil
}

// validator keeps the first complaint.
type validator struct{ err error }

func (v *validator) check(ok bool, format string, args ...any) {
	if !ok && v.err == nil {
		v.err = fmt.Errorf(format, args...)
	}
}

func (v *validator) size(name string, n, most int) {
	v.check(n >= 1 && n <= most, "%s is %d, must lie between 1 and %d", name, n, most)
}

func (v *validator) finite(name string, x float64) {
	v.check(!math.IsNaN(x) && !math.IsInf(x, 0), "%s is %v, must be finite", name, x)
}

func (v *validator) text(name, s string, required bool) {
	v.check(s != "" || !required, "%s is empty", name)
	v.check(len(s) <= maxText, "%s has %d bytes, at most %d are allowed", name, len(s), maxText)
	v.check(printable(s, ""), "%s is %q, must be UTF-8 without control characters", name, s)
}

func (v *validator) provenance(p *Provenance) {
	v.text("provenance.wisp", p.Wisp, false)
	v.text("provenance.go", p.Go, false)
	v.text("provenance.blas", p.BLAS, false)
	for i, s := range p.Sources {
		name := fmt.Sprintf("provenance.sources[%d]", i)
		v.text(name+".name", s.Name, true)
		v.check(len(s.SHA256) == 2*sha256.Size && strings.Trim(s.SHA256, "0123456789abcdef") == "",
			"%s.sha256 is %q, must have %d characters of 0-9 and a-f", name, s.SHA256, 2*sha256.Size)
	}
	for i, c := range p.Commands {
		v.check(c != "" && len(c) <= maxCommand && printable(c, ""),
			"provenance.commands[%d] is empty, longer than %d bytes, not UTF-8, or has control characters", i, maxCommand)
	}
}

func (v *validator) model(m ModelInfo) {
	v.size("model.items", m.Items, maxItems)
	v.size("model.dim", m.Dim, maxDimension)
	v.size("model.layers", m.Layers, maxDimension)
	v.size("model.heads", m.Heads, maxDimension)
	v.size("model.ffn", m.FFN, maxDimension)
	v.size("model.window", m.Window, maxDimension)
	v.size("model.event_types", m.EventTypes, maxDimension)
	v.size("model.gap_buckets", m.GapBuckets, maxDimension)
	v.check(v.err != nil || m.Dim%m.Heads == 0, "model.dim %d is not a multiple of model.heads %d", m.Dim, m.Heads)
	v.check(m.Attributes >= 0 && m.Attributes <= 1<<24, "model.attributes is %d, must lie between 0 and %d", m.Attributes, 1<<24)
	t := m.Text
	if t == (TextInfo{}) {
		return
	}
	v.size("model.text.vocabulary", t.Vocabulary, maxVocabulary)
	v.size("model.text.tokens", t.Tokens, maxDimension)
	v.size("model.text.dim", t.Dim, maxDimension)
	v.size("model.text.layers", t.Layers, maxDimension)
	v.size("model.text.heads", t.Heads, maxDimension)
	v.size("model.text.ffn", t.FFN, maxDimension)
	v.check(t.Classes >= 0 && t.Classes <= maxClasses, "model.text.classes is %d, must lie between 0 and %d", t.Classes, maxClasses)
	v.check(v.err != nil || t.Dim%t.Heads == 0, "model.text.dim %d is not a multiple of model.text.heads %d", t.Dim, t.Heads)
}

// printable reports whether s is UTF-8 without control characters other than
// those in except.
func printable(s, except string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool {
		return unicode.IsControl(r) && !strings.ContainsRune(except, r)
	})
}
