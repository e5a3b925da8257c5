package data

import (
	"bufio"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A table is a file of rows with named columns. The fields of a row are only
// valid until the next one is read.
type table struct {
	columns []column
	next    rows[[]string]
	listSep string // between the entries of a list field
}

type column struct {
	name string
	list bool // the field is a list, its entries parted by table.listSep
}

// listMark parts list entries where the format itself has no separator.
const listMark = "\x1f"

// lineReader returns the lines of r without their ends. Empty lines are
// skipped, a byte order mark too. Lines over MaxRow are faults.
func lineReader(r io.Reader) rows[string] {
	in := bufio.NewReaderSize(r, 1<<16)
	line := int64(0)
	var long []byte
	return func() (int64, string, *fault, error) {
		for {
			long = long[:0]
			size := 0
			for {
				part, err := in.ReadSlice('\n')
				size += len(part)
				if size <= MaxRow {
					long = append(long, part...)
				}
				if err == nil || (errors.Is(err, io.EOF) && size > 0) {
					break
				}
				if !errors.Is(err, bufio.ErrBufferFull) {
					return line + 1, "", nil, err
				}
			}
			line++
			if size > MaxRow {
				return line, "", &fault{reasonLong, fmt.Sprintf("%d bytes, at most %d are allowed", size, MaxRow)}, nil
			}
			s := strings.TrimRight(string(long), "\r\n")
			if line == 1 {
				s = strings.TrimPrefix(s, "\ufeff")
			}
			if s != "" {
				return line, s, checkUTF8(s), nil
			}
		}
	}
}

// splitRows cuts lines at sep and checks the number of fields.
func splitRows(lines rows[string], sep string, n int) rows[[]string] {
	fields := make([]string, 0, n)
	return func() (int64, []string, *fault, error) {
		line, s, bad, err := lines()
		if err != nil || bad != nil {
			return line, nil, bad, err
		}
		fields = fields[:0]
		for {
			field, rest, more := strings.Cut(s, sep)
			fields = append(fields, field)
			if !more {
				break
			}
			s = rest
		}
		if len(fields) != n {
			bad = &fault{reasonColumns, fmt.Sprintf("%d, expected %d", len(fields), n)}
		}
		return line, fields, bad, nil
	}
}

// openRecbole reads an atomic file of RecBole: a header of name:type, fields
// parted by tabs, lists (token_seq, float_seq) by spaces.
func openRecbole(s *Source, f *file) (*table, error) {
	lines := lineReader(s.text(f))
	_, head, bad, err := lines()
	if err != nil {
		return nil, headerError(f, err)
	}
	if bad != nil {
		return nil, headerError(f, bad)
	}
	t := &table{listSep: " "}
	for _, c := range strings.Split(head, "\t") {
		name, kind, ok := strings.Cut(c, ":")
		if !ok {
			return nil, headerError(f, fmt.Errorf("column %q has no type; an atomic file starts with name:type parted by tabs", short(c)))
		}
		t.columns = append(t.columns, column{name, strings.HasSuffix(kind, "_seq")})
	}
	t.next = splitRows(lines, "\t", len(t.columns))
	return t, nil
}

// openDoubleColon reads lines of fields parted by "::", without a header. Each
// line must have as many fields as names; where names is nil the first line
// says how many there are.
func openDoubleColon(s *Source, f *file, names ...string) (*table, error) {
	lines := lineReader(s.text(f))
	t := &table{listSep: "|"}
	if names == nil {
		line, first, bad, err := lines()
		if err != nil {
			return nil, headerError(f, err)
		}
		names = []string{"id"}
		for i := 1; i <= strings.Count(first, "::"); i++ {
			names = append(names, "field"+strconv.Itoa(i))
		}
		rest, read := lines, false
		lines = func() (int64, string, *fault, error) {
			if !read {
				read = true
				return line, first, bad, nil
			}
			return rest()
		}
	}
	for _, name := range names {
		t.columns = append(t.columns, column{name, name == "categories"})
	}
	t.next = splitRows(lines, "::", len(names))
	return t, nil
}

// openCSV reads comma-separated values with a header line.
func openCSV(s *Source, f *file) (*table, error) {
	limit := &recordLimit{r: s.text(f), left: MaxRow}
	in := csv.NewReader(limit)
	in.ReuseRecord = true
	head, err := in.Read()
	if err != nil {
		return nil, headerError(f, err)
	}
	t := &table{listSep: s.separator()}
	for i, name := range head {
		if i == 0 {
			name = strings.TrimPrefix(name, "\ufeff")
		}
		if bad := checkUTF8(name); bad != nil {
			return nil, headerError(f, bad)
		}
		t.columns = append(t.columns, column{name: strings.TrimSpace(name)})
	}
	last := int64(1)
	t.next = func() (int64, []string, *fault, error) {
		limit.left = MaxRow
		fields, err := in.Read()
		if len(fields) > 0 {
			line, _ := in.FieldPos(0)
			last = int64(line)
		}
		var parse *csv.ParseError
		switch {
		case errors.As(err, &parse):
			last = int64(parse.StartLine)
			if errors.Is(err, csv.ErrFieldCount) {
				return last, nil, &fault{reasonColumns, fmt.Sprintf("%d, expected %d", len(fields), len(t.columns))}, nil
			}
			return last, nil, &fault{reasonSyntax, parse.Err.Error()}, nil
		case err != nil:
			return last, nil, nil, err
		}
		for _, field := range fields {
			if !utf8.ValidString(field) {
				return last, nil, checkUTF8(field), nil
			}
		}
		return last, fields, nil, nil
	}
	return t, nil
}

// recordLimit ends a file in which one record does not: a quotation mark that
// is never closed would otherwise bring the whole rest into memory.
type recordLimit struct {
	r    io.Reader
	left int
}

func (l *recordLimit) Read(p []byte) (int, error) {
	if l.left <= 0 {
		return 0, fmt.Errorf("a record that starts here has over %d bytes; look for a quotation mark that is not closed", MaxRow)
	}
	n, err := l.r.Read(p)
	l.left -= n
	return n, err
}

func headerError(f *file, err error) error {
	if errors.Is(err, io.EOF) {
		err = errors.New("no line in it")
	}
	return fmt.Errorf("%w: %s: header: %w", ErrSource, place(f.path, 1), err)
}

func (t *table) find(name string) int {
	return slices.IndexFunc(t.columns, func(c column) bool { return c.name == name })
}

func (t *table) require(f *file, name string) (int, error) {
	i := t.find(name)
	if i < 0 {
		names := make([]string, len(t.columns))
		for i, c := range t.columns {
			names[i] = c.name
		}
		return 0, fmt.Errorf("%w: %s: no column %q among %s; check the format or name the column in the mapping", ErrSource, place(f.path, 1), name, short(strings.Join(names, ", ")))
	}
	return i, nil
}

// list cuts a list field into its entries.
func (t *table) list(s string) []string {
	var out []string
	for entry := range strings.SplitSeq(s, t.listSep) {
		if entry = strings.TrimSpace(entry); entry != "" {
			out = append(out, strings.Clone(entry))
		}
	}
	return out
}

func (s *Source) separator() string {
	if s.Mapping.CategorySeparator != "" {
		return s.Mapping.CategorySeparator
	}
	return "|"
}
