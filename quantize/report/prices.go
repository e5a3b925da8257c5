package report

import (
	"bytes"
	_ "embed" // the example
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"
	"slices"
	"strings"

	"github.com/agnivade/levenshtein"
	"go.yaml.in/yaml/v3"
)

// Prices are the question of what serving costs, and the machines that could
// answer it. The yaml names are those of the table that users edit, the json names
// those of the report.
type Prices struct {
	Workload  Workload   `yaml:"workload" json:"workload"`
	Currency  string     `yaml:"currency" json:"currency"`
	Instances []Instance `yaml:"instances" json:"instances"`
}

// Workload says what is asked for, and what the arithmetic of other models assumes
// of a request.
type Workload struct {
	RequestsPerDay      float64 `yaml:"requests_per_day" json:"requests_per_day"`
	PeakOverMean        float64 `yaml:"peak_over_mean" json:"peak_over_mean"`
	TargetMS            float64 `yaml:"target_ms" json:"target_ms"`
	Percentile          float64 `yaml:"percentile" json:"percentile"`
	MaxUtilisation      float64 `yaml:"max_utilisation" json:"max_utilisation"`
	SpareMachines       float64 `yaml:"spare_machines" json:"spare_machines"`
	HoursPerMonth       float64 `yaml:"hours_per_month" json:"hours_per_month"`
	BERTTokens          float64 `yaml:"bert_tokens" json:"bert_tokens"`
	LLMPromptTokens     float64 `yaml:"llm_prompt_tokens" json:"llm_prompt_tokens"`
	LLMAnswerTokens     float64 `yaml:"llm_answer_tokens" json:"llm_answer_tokens"`
	RequestsPerDownload float64 `yaml:"requests_per_download" json:"requests_per_download"`
	BrowserSpeed        float64 `yaml:"browser_speed" json:"browser_speed"`
	EgressPerGB         float64 `yaml:"egress_per_gb" json:"egress_per_gb"`
	WattsPerCore        float64 `yaml:"watts_per_core" json:"watts_per_core"`
}

// Instance is a kind of machine for rent.
type Instance struct {
	Name              string  `yaml:"name" json:"name"`
	Kind              string  `yaml:"kind" json:"kind"` // CPU, GPU or TPU
	PricePerHour      float64 `yaml:"price_per_hour" json:"price_per_hour"`
	Sites             float64 `yaml:"sites" json:"sites"`
	NetworkMS         float64 `yaml:"network_ms" json:"network_ms"`
	Cores             float64 `yaml:"cores" json:"cores"`           // of a CPU
	CoreSpeed         float64 `yaml:"core_speed" json:"core_speed"` // of a CPU
	MemoryGB          float64 `yaml:"memory_gb" json:"memory_gb"`
	MemoryGBPerS      float64 `yaml:"memory_gb_per_s" json:"memory_gb_per_s"`
	MemoryEfficiency  float64 `yaml:"memory_efficiency" json:"memory_efficiency"`
	PeakTMACs         float64 `yaml:"peak_tmacs" json:"peak_tmacs"`
	ComputeEfficiency float64 `yaml:"compute_efficiency" json:"compute_efficiency"`
	OverheadMS        float64 `yaml:"overhead_ms" json:"overhead_ms"`
	Watts             float64 `yaml:"watts" json:"watts"`
}

// Kinds of instances.
const (
	CPU = "cpu"
	GPU = "gpu"
	TPU = "tpu"
)

// DefaultPrices is the text of the example, comments and all.
//
//go:embed prices.yaml
var DefaultPrices []byte

// ReadPrices reads a table of prices. name is the file's, for messages. The error
// wraps ErrPrices and names the line.
func ReadPrices(name string, content []byte) (*Prices, error) {
	d := yaml.NewDecoder(bytes.NewReader(content))
	var doc yaml.Node
	if err := d.Decode(&doc); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: %s cannot be read: %w", ErrPrices, name, err)
	}
	if len(doc.Content) == 0 {
		return nil, fmt.Errorf("%w: %s is empty; start from what wisp report prices writes", ErrPrices, name)
	}
	var p Prices
	r := priceReader{name: name, lines: map[string]int{}}
	if err := r.read(doc.Content[0], reflect.ValueOf(&p).Elem(), ""); err != nil {
		return nil, err
	}
	return &p, r.located(p.Validate())
}

// priceReader fills in structs from YAML, and says where what is wrong.
type priceReader struct {
	name  string
	lines map[string]int // of each value, by its path
}

func (r *priceReader) wrong(n *yaml.Node, format string, args ...any) error {
	return fmt.Errorf("%w: %s:%d: %w", ErrPrices, r.name, n.Line, fmt.Errorf(format, args...))
}

// read sets v to what n holds; path is where that is, for messages.
func (r *priceReader) read(n *yaml.Node, v reflect.Value, path string) error {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	r.lines[path] = n.Line
	switch v.Kind() {
	case reflect.Struct:
		return r.mapping(n, v, path)
	case reflect.Slice:
		if n.Kind != yaml.SequenceNode {
			return r.wrong(n, "%s is no list; write \"- name: …\" for each", path)
		}
		v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
		for i, entry := range n.Content {
			if err := r.read(entry, v.Index(i), fmt.Sprintf("%s[%d]", path, i)); err != nil {
				return err
			}
		}
		return nil
	default:
		if n.Kind != yaml.ScalarNode || n.ShortTag() == "!!null" || n.Decode(v.Addr().Interface()) != nil {
			want := "a number"
			if v.Kind() == reflect.String {
				want = "a text"
			}
			return r.wrong(n, "%s is %s, want %s", lastKey(path), valueOf(n), want)
		}
		return nil
	}
}

func (r *priceReader) mapping(n *yaml.Node, v reflect.Value, path string) error {
	if n.Kind != yaml.MappingNode {
		return r.wrong(n, "want \"key: value\" in each line, with the keys %s", strings.Join(keysOf(v.Type()), ", "))
	}
	keys, seen := keysOf(v.Type()), map[string]int{}
	for i := 0; i < len(n.Content); i += 2 {
		key := n.Content[i]
		at := slices.Index(keys, key.Value)
		if at < 0 {
			return r.wrong(key, "%q is no key here%s", key.Value, nearest(keys, key.Value))
		}
		if line, twice := seen[key.Value]; twice {
			return r.wrong(key, "%s is there twice, first in line %d; remove one", key.Value, line)
		}
		seen[key.Value] = key.Line
		inner := key.Value
		if path != "" {
			inner = path + "." + inner
		}
		if err := r.read(n.Content[i+1], v.Field(at), inner); err != nil {
			return err
		}
	}
	for _, k := range keys {
		if seen[k] == 0 && !optional(v, k) {
			return r.wrong(n, "%s is missing; wisp report prices writes an example with all keys", k)
		}
	}
	return nil
}

// optional says that a key may be left out of v as it was read so far.
func optional(v reflect.Value, key string) bool {
	i, ok := v.Interface().(Instance)
	return ok && i.Kind != CPU && (key == "cores" || key == "core_speed")
}

// located puts the line of the value that err is about before it.
func (r *priceReader) located(err error) error {
	var e *valueError
	if err == nil || !errors.As(err, &e) {
		return err
	}
	return fmt.Errorf("%w: %s:%d: %w", ErrPrices, r.name, r.lines[e.path], e.err)
}

func keysOf(t reflect.Type) []string {
	keys := make([]string, t.NumField())
	for i := range keys {
		keys[i] = t.Field(i).Tag.Get("yaml")
	}
	return keys
}

func lastKey(path string) string { return path[strings.LastIndexByte(path, '.')+1:] }

func valueOf(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "a mapping"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case n.ShortTag() == "!!null":
		return "empty"
	}
	return fmt.Sprintf("%q", n.Value)
}

// nearest asks for the key that is most like the given one, if one is.
func nearest(keys []string, key string) string {
	best, least := "", 1+len(key)/2
	for _, k := range keys {
		if d := levenshtein.ComputeDistance(strings.ReplaceAll(strings.ToLower(key), "-", "_"), k); d < least {
			best, least = k, d
		}
	}
	if best == "" {
		return fmt.Sprintf("; the keys are %s", strings.Join(keys, ", "))
	}
	return fmt.Sprintf(" (did you mean %q?)", best)
}

// valueError is about the value at a path of the table.
type valueError struct {
	path string
	err  error
}

func (e *valueError) Error() string { return e.err.Error() }
func (e *valueError) Unwrap() error { return e.err }

// Validate reports the first value that cannot be. The error wraps ErrPrices.
func (p *Prices) Validate() error {
	if len(p.Instances) == 0 {
		return fmt.Errorf("%w: there is no instance; without one nothing can be said of cost", ErrPrices)
	}
	if err := checkNumbers(reflect.ValueOf(p.Workload), "workload"); err != nil {
		return err
	}
	names := map[string]bool{}
	for i, in := range p.Instances {
		path := fmt.Sprintf("instances[%d]", i)
		bad := func(key, format string, args ...any) error {
			return fmt.Errorf("%w: %w", ErrPrices, &valueError{path + "." + key, fmt.Errorf(format, args...)})
		}
		switch {
		case in.Kind != CPU && in.Kind != GPU && in.Kind != TPU:
			return bad("kind", "kind is %q, must be %s, %s or %s", in.Kind, CPU, GPU, TPU)
		case strings.TrimSpace(in.Name) == "":
			return bad("name", "the name is empty")
		case names[in.Name]:
			return bad("name", "two instances have the name %q", in.Name)
		}
		names[in.Name] = true
		if err := checkNumbers(reflect.ValueOf(in), path); err != nil {
			return err
		}
	}
	return nil
}

const tiny, large = 1e-9, 1e15 // where nothing narrower bounds a value

// limits of the numbers of a table, by their keys.
var limits = map[string]struct {
	low, high float64
	whole     bool
}{
	"requests_per_day": {1, large, false}, "peak_over_mean": {1, 1000, false}, "target_ms": {0.001, 1e7, false},
	"percentile": {50, 99.999, false}, "max_utilisation": {0.01, 0.99, false}, "spare_machines": {0, 1000, true},
	"hours_per_month": {1, 744, false}, "bert_tokens": {1, 512, true},
	"llm_prompt_tokens": {1, 1e6, true}, "llm_answer_tokens": {1, 1e6, true}, "requests_per_download": {0.001, large, false},
	"browser_speed": {0.001, 100, false}, "egress_per_gb": {0, large, false}, "watts_per_core": {0, 1e4, false},

	"price_per_hour": {0, large, false}, "sites": {1, 1e6, true}, "network_ms": {0, 1e6, false}, "cores": {1, 1e5, true},
	"core_speed": {0.001, 1000, false}, "memory_gb": {tiny, large, false}, "memory_gb_per_s": {tiny, large, false},
	"memory_efficiency": {0.01, 1, false}, "peak_tmacs": {tiny, large, false}, "compute_efficiency": {0.01, 1, false},
	"overhead_ms": {0, 1e6, false}, "watts": {0, 1e6, false},
}

// checkNumbers checks those of a struct at a path of the table.
func checkNumbers(v reflect.Value, path string) error {
	for i, key := range keysOf(v.Type()) {
		if v.Field(i).Kind() != reflect.Float64 || optional(v, key) {
			continue
		}
		x, l := v.Field(i).Float(), limits[key]
		var err error
		switch {
		case !(x >= l.low && x <= l.high): // a NaN too
			err = fmt.Errorf("%s is %g, must lie between %g and %g", key, x, l.low, l.high)
		case l.whole && x != math.Trunc(x):
			err = fmt.Errorf("%s is %g, must be a whole number", key, x)
		default:
			continue
		}
		return fmt.Errorf("%w: %w", ErrPrices, &valueError{path + "." + key, err})
	}
	return nil
}
