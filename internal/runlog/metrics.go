package runlog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"time"

	"github.com/wisp-project/wisp/internal/atomicfile"
)

// record is a line of metrics.jsonl.
type record struct {
	Step  int64     `json:"step"`
	Name  string    `json:"name"`
	Value number    `json:"value"`
	Time  time.Time `json:"time"`
}

// line returns the record with its line feed.
func (r record) line() ([]byte, error) {
	b, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("%w: %q: %w", ErrInput, r.Name, err)
	}
	return append(b, '\n'), nil
}

// number is a float64 whose JSON is that of protocol buffers: what is not finite
// is one of the strings "NaN", "Infinity" and "-Infinity".
type number float64

// MarshalJSON implements json.Marshaler.
func (n number) MarshalJSON() ([]byte, error) {
	switch v := float64(n); {
	case math.IsNaN(v):
		return []byte(`"NaN"`), nil
	case math.IsInf(v, 1):
		return []byte(`"Infinity"`), nil
	case math.IsInf(v, -1):
		return []byte(`"-Infinity"`), nil
	default:
		return json.Marshal(v)
	}
}

// UnmarshalJSON implements json.Unmarshaler.
func (n *number) UnmarshalJSON(b []byte) error {
	switch string(b) {
	case `"NaN"`:
		*n = number(math.NaN())
	case `"Infinity"`:
		*n = number(math.Inf(1))
	case `"-Infinity"`:
		*n = number(math.Inf(-1))
	default:
		return json.Unmarshal(b, (*float64)(n))
	}
	return nil
}

// cutMetrics rewrites the metrics at path without the records after step (none
// stay for step 0) and without a torn last line, and returns the others by name.
// A missing file is made.
func cutMetrics(path string, step int64) (map[string][]point, error) {
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("runlog: open: %w", err)
	}
	series := map[string][]point{}
	var kept []byte
	n := 0
	for line := range bytes.Lines(text) {
		n++
		var r record
		if err := parseRecord(line, &r); err != nil {
			if !bytes.HasSuffix(line, []byte("\n")) {
				break // torn
			}
			return nil, fmt.Errorf("%w: %s:%d: %w; repair the line or choose another folder", ErrFolder, path, n, err)
		}
		if step > 0 && r.Step <= step {
			series[r.Name] = append(series[r.Name], point{r.Step, float64(r.Value)})
			kept = append(append(kept, bytes.TrimSpace(line)...), '\n')
		}
	}
	return series, atomicfile.Write(path, kept)
}

func parseRecord(text []byte, r *record) error {
	if err := json.Unmarshal(text, r); err != nil {
		return err
	}
	if r.Step < 0 {
		return fmt.Errorf("step is %d", r.Step)
	}
	return checkName(r.Name)
}
