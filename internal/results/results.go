// Package results keeps measured figures: records with stable names, written as
// JSON for programs and rendered as Markdown for readers.
package results

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/wisp-project/wisp/internal/atomicfile"
)

// ErrRecord reports a record that cannot be kept, or a file that holds none.
var ErrRecord = errors.New("results: invalid record")

// Record is one figure. Names are stable and dotted: quality.SET.STAGE.METRIC,
// speed.WHAT.METRIC, size.WHAT.METRIC.
type Record struct {
	Name    string  `json:"name"`
	Value   float64 `json:"value"`
	Unit    string  `json:"unit"`
	Low     float64 `json:"low"`  // of the 95 % interval; equal to Value where there is none
	High    float64 `json:"high"` // likewise
	N       int     `json:"n"`    // cases, runs or requests behind the figure
	Command string  `json:"command"`
	Commit  string  `json:"commit"`
	Machine string  `json:"machine"`
	// Note says how it was measured where the name does not.
	Note string `json:"note,omitempty"`
}

// Topic is a page of figures.
type Topic struct {
	Name    string // of the files
	Title   string
	Text    string // what the figures mean and the protocol behind them; Markdown
	Records []Record
}

// Write replaces dir/NAME.json and dir/NAME.md. Each file appears whole or not
// at all.
func (t *Topic) Write(dir string) error {
	seen := map[string]bool{}
	for _, r := range t.Records {
		if r.Name == "" || strings.ContainsAny(r.Name, " |\n") || seen[r.Name] {
			return fmt.Errorf("%w: name %q is empty, has spaces or occurs twice", ErrRecord, r.Name)
		}
		seen[r.Name] = true
	}
	b, err := json.MarshalIndent(t.Records, "", "  ")
	if err != nil {
		return fmt.Errorf("%w: %w", ErrRecord, err) // a NaN or an infinity
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("results: %w", err)
	}
	for name, content := range map[string][]byte{t.Name + ".json": append(b, '\n'), t.Name + ".md": t.markdown()} {
		if err := atomicfile.Write(filepath.Join(dir, name), content); err != nil {
			return fmt.Errorf("results: %w", err)
		}
	}
	return nil
}

// Read returns the records of dir/NAME.json, none where there is no such file.
func Read(dir, name string) ([]Record, error) {
	path := filepath.Join(dir, name+".json")
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("results: %w", err)
	}
	var records []Record
	if err := json.Unmarshal(b, &records); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrRecord, path, err)
	}
	return records, nil
}

// markdown renders the topic as one table, a row for each record.
func (t *Topic) markdown() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# %s\n\n", t.Title)
	if t.Text != "" {
		fmt.Fprintf(&b, "%s\n\n", strings.TrimSpace(t.Text))
	}
	fmt.Fprintf(&b, "| figure | value | 95 %% interval | unit | n | note |\n|---|---:|---|---|---:|---|\n")
	for _, r := range t.Records {
		interval := ""
		if r.Low != r.High {
			interval = number(r.Low) + " – " + number(r.High)
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %d | %s |\n", r.Name, number(r.Value), interval, r.Unit, r.N, strings.ReplaceAll(r.Note, "|", "/"))
	}
	if origins := t.origins(); len(origins) == 1 {
		fmt.Fprintf(&b, "\n%s.\n", origins[0].text)
	} else {
		fmt.Fprintln(&b)
		for _, o := range origins {
			fmt.Fprintf(&b, "- %s: %s.\n", o.text, strings.Join(o.of, ", "))
		}
	}
	return b.Bytes()
}

// origin is where some of the figures come from.
type origin struct {
	text string
	of   []string // what they are figures of: the second parts of their names
}

// origins lists where the figures come from, in the order of the records.
func (t *Topic) origins() []origin {
	var all []origin
	for _, r := range t.Records {
		text := fmt.Sprintf("Made by `%s` at commit %s on %s", r.Command, r.Commit, r.Machine)
		at := slices.IndexFunc(all, func(o origin) bool { return o.text == text })
		if at < 0 {
			at = len(all)
			all = append(all, origin{text: text})
		}
		if of := subject(r.Name); !slices.Contains(all[at].of, of) {
			all[at].of = append(all[at].of, of)
		}
	}
	return all
}

// subject is the second part of a figure's name, or all of it where it has one.
func subject(name string) string {
	parts := strings.Split(name, ".")
	return parts[min(1, len(parts)-1)]
}

// Keep puts those of the older records before the topic's own that are not figures of
// subjects (SET in quality.SET.STAGE.METRIC), and not measured anew.
func (t *Topic) Keep(older []Record, subjects []string) {
	anew := map[string]bool{}
	for _, r := range t.Records {
		anew[r.Name] = true
	}
	t.Records = append(slices.DeleteFunc(slices.Clone(older), func(r Record) bool {
		return anew[r.Name] || slices.Contains(subjects, subject(r.Name))
	}), t.Records...)
}

// number writes v with four significant digits, whole numbers as they are.
func number(v float64) string {
	if v == float64(int64(v)) {
		return strconv.FormatInt(int64(v), 10)
	}
	return strconv.FormatFloat(v, 'g', 4, 64)
}
