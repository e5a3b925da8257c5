package data

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/text/encoding/charmap"
)

// Source names the files of a data set and how they are written.
type Source struct {
	// Format is one of Formats.
	Format string
	// Events, Items and Users are paths. Items and Users may be empty.
	Events, Items, Users string
	// Encoding is "utf8" (also where empty) or "latin1".
	Encoding string
	// Mapping names the columns of csv and parquet files; other formats use
	// only its DefaultKind, Kinds and CategorySeparator.
	Mapping Mapping
}

// Mapping says which column means what. An empty name stands for the default
// given with each field. Columns of item and user files that no field names
// become attributes.
type Mapping struct {
	// Columns of the event file. User, Item and Time must be there, Kind and
	// Value need not.
	User  string `json:"user,omitempty"`  // default "user"; also the id in the user file, where default "id"
	Item  string `json:"item,omitempty"`  // default "item"
	Kind  string `json:"kind,omitempty"`  // default "kind"
	Value string `json:"value,omitempty"` // default "value"
	Time  string `json:"time,omitempty"`  // default "time"

	// TimeLayout is a layout of package time, read as UTC where it has no
	// zone; empty means Unix seconds.
	TimeLayout string `json:"timeLayout,omitempty"`
	// DefaultKind is the kind of events without one: where empty, "rating" if
	// the file has a value column and "click" if not.
	DefaultKind string `json:"defaultKind,omitempty"`
	// Kinds translates the file's words into kinds of event, for example
	// {"purchase": "favourite", "view": "browse"}.
	Kinds map[string]string `json:"kinds,omitempty"`

	// Columns of the item and user files. Only the id must be there.
	ID          string `json:"id,omitempty"`          // default "id"
	Title       string `json:"title,omitempty"`       // default "title"
	Text        string `json:"text,omitempty"`        // default "text"
	Categories  string `json:"categories,omitempty"`  // default "categories"
	Description string `json:"description,omitempty"` // default "description"

	// CategorySeparator stands between categories; default "|".
	CategorySeparator string `json:"categorySeparator,omitempty"`
}

// Limits of what a row may hold.
const (
	// MaxID is the longest id in bytes.
	MaxID = 1 << 10
	// MaxRow is the longest row of a text file in bytes.
	MaxRow = 1 << 20
	// MaxTime is the first moment that is too late for an event: the year 2200.
	MaxTime = 7258118400
)

// sequences is the format whose rows are whole histories, without times.
const sequences = "sequences"

// Formats returns the formats that a Source may have.
func Formats() []string {
	return []string{"recbole", sequences, "double-colon", "csv", "jsonl", "parquet"}
}

// LoadMapping reads a Mapping from a JSON file. Unknown fields are errors.
func LoadMapping(path string) (Mapping, error) {
	var m Mapping
	f, err := os.Open(path)
	if err != nil {
		return m, fmt.Errorf("%w: mapping: %w; check the path", ErrSource, err)
	}
	defer f.Close() //nolint:errcheck // only read from
	d := json.NewDecoder(f)
	d.DisallowUnknownFields()
	if err := d.Decode(&m); err != nil {
		return m, fmt.Errorf("%w: mapping %s: %w; it is a JSON object like {\"user\": \"customer\", \"item\": \"sku\"}", ErrSource, path, err)
	}
	return m, nil
}

// A fault says why a single row is broken. The row is dropped and counted.
type fault struct {
	reason string // the class that is counted
	detail string // more about this row; may be empty
}

func (f *fault) Error() string {
	if f.detail == "" {
		return f.reason
	}
	return f.reason + ": " + f.detail
}

// Reasons for dropping a row, as they stand in reports.
const (
	reasonColumns  = "wrong number of columns"
	reasonEncoding = "not valid UTF-8"
	reasonSyntax   = "syntax error"
	reasonLong     = "row too long"
	reasonID       = "empty or overlong id"
	reasonValue    = "rating is not a finite number"
	reasonScale    = "rating outside the given scale"
	reasonKind     = "unknown kind of event"
	reasonTime     = "bad timestamp"
	reasonRepeatID = "id given before"
)

// file is an open source file.
type file struct {
	*os.File
	path string
	size int64
	done int64 // bytes read so far
}

func openFile(path string) (*file, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w; check the path", ErrSource, err)
	}
	info, err := f.Stat()
	switch {
	case err != nil:
	case info.IsDir():
		err = fmt.Errorf("%w: %s is a folder; name a file in it", ErrSource, path)
	case info.Size() == 0:
		err = fmt.Errorf("%w: %s is empty; export it again", ErrSource, path)
	default:
		return &file{File: f, path: path, size: info.Size()}, nil
	}
	return nil, closeAfter(err, f)
}

func (f *file) Read(p []byte) (int, error) {
	n, err := f.File.Read(p)
	f.done += int64(n)
	return n, err
}

func (f *file) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.File.ReadAt(p, off)
	f.done += int64(n)
	return n, err
}

// text returns f decoded to UTF-8.
func (s *Source) text(f *file) io.Reader {
	if s.Encoding == "latin1" {
		return charmap.ISO8859_1.NewDecoder().Reader(f)
	}
	return f
}

func (s *Source) check() error {
	if !slices.Contains(Formats(), s.Format) {
		return fmt.Errorf("%w: unknown format %q; use one of %s", ErrOptions, s.Format, strings.Join(Formats(), ", "))
	}
	switch s.Encoding {
	case "", "utf8", "latin1":
	default:
		return fmt.Errorf("%w: unknown encoding %q; use utf8 or latin1", ErrOptions, s.Encoding)
	}
	if s.Events == "" {
		return fmt.Errorf("%w: no event file named", ErrOptions)
	}
	if k := s.Mapping.DefaultKind; k != "" {
		if _, ok := parseKind(k); !ok {
			return fmt.Errorf("%w: default kind %q; use browse, click, favourite or rating", ErrOptions, k)
		}
	}
	for word, k := range s.Mapping.Kinds {
		if _, ok := parseKind(k); !ok {
			return fmt.Errorf("%w: kind %q of %q; use browse, click, favourite or rating", ErrOptions, k, word)
		}
	}
	return nil
}

// scan calls row for every row of the file at path, with either a value or the
// fault that breaks it, and with the number of its line (of its row, where the
// format has no lines). Values are only valid during the call. It fails if most
// rows are broken. Ticks get the bytes read so far, now and then.
func scan[T any](path string, open func(*file) (rows[T], error), rep *Report, tick func(done, total int64) error, row func(line int64, v T) *fault) error {
	f, err := openFile(path)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // only read from
	next, err := open(f)
	if err != nil {
		return err
	}
	broken, first := int64(0), ""
	before := rep.Rows
	for {
		line, v, bad, err := next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("%w: %s: %w", ErrSource, place(path, line), err)
		}
		if bad == nil {
			bad = row(line, v)
		}
		if bad != nil {
			if broken++; first == "" {
				first = place(path, line) + ": " + bad.Error()
			}
			rep.drop(bad.reason, 1, place(path, line)+": "+bad.Error())
		}
		if rep.Rows++; rep.Rows%4096 == 0 {
			if err := tick(f.done, f.size); err != nil {
				return err
			}
		}
	}
	n := rep.Rows - before
	if n == 0 {
		return fmt.Errorf("%w: %s %w; export it again", ErrSource, path, errNoRows)
	}
	if 2*broken > n {
		return fmt.Errorf("%w: %d of %d rows of %s are broken, the first at %s; check the format, encoding and mapping", ErrSource, broken, n, path, first)
	}
	return tick(f.size, f.size)
}

// rows reads the next row of a file; at the end it returns io.EOF. An error
// ends the file, a fault only the row.
type rows[T any] func() (line int64, value T, bad *fault, err error)

func place(path string, line int64) string {
	return filepath.Base(path) + ":" + strconv.FormatInt(line, 10)
}

func parseKind(s string) (Kind, bool) {
	for k := Browse; k <= Rating; k++ {
		if s == k.String() {
			return k, true
		}
	}
	return 0, false
}

func checkID(what, id string) *fault {
	if id == "" {
		return &fault{reasonID, "the " + what + " is empty"}
	}
	if len(id) > MaxID {
		return &fault{reasonID, fmt.Sprintf("the %s has %d bytes, at most %d are allowed", what, len(id), MaxID)}
	}
	return nil
}

func checkUTF8(b string) *fault {
	if !utf8.ValidString(b) {
		return &fault{reasonEncoding, "export the file as UTF-8 or, if it is Latin-1, set the encoding to latin1"}
	}
	return nil
}

func parseTime(s, layout string) (int64, *fault) {
	var t int64
	if layout != "" {
		at, err := time.Parse(layout, s)
		if err != nil {
			return 0, &fault{reasonTime, fmt.Sprintf("%q does not fit the layout %q", short(s), layout)}
		}
		t = at.Unix()
	} else if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		t = n
	} else {
		x, err := strconv.ParseFloat(s, 64)
		if err != nil {
			return 0, &fault{reasonTime, fmt.Sprintf("%q is not a number", short(s))}
		}
		return checkTime(x)
	}
	if t < 0 || t >= MaxTime {
		return 0, &fault{reasonTime, fmt.Sprintf("%s is not between 1970 and 2200", short(s))}
	}
	return t, nil
}

func checkTime(x float64) (int64, *fault) {
	if math.IsNaN(x) {
		return 0, &fault{reasonTime, "missing or not a number"}
	}
	if x < 0 || x >= MaxTime {
		return 0, &fault{reasonTime, fmt.Sprintf("%g is not between 1970 and 2200", x)}
	}
	return int64(x), nil
}

func checkValue(x float64) (float32, *fault) {
	if v := float32(x); !math.IsNaN(x) && !math.IsInf(float64(v), 0) {
		return v, nil
	}
	return 0, &fault{reasonValue, fmt.Sprint(x)}
}

func short(s string) string {
	if len(s) > 40 {
		return strings.ToValidUTF8(s[:40], "") + "…"
	}
	return s
}

// closeAfter closes c and returns the first error.
func closeAfter(err error, c io.Closer) error {
	if cerr := c.Close(); err == nil {
		return cerr
	}
	return err
}
