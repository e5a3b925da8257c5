package data

import (
	"fmt"
	"io"
	"strconv"

	"github.com/parquet-go/parquet-go"
)

// openParquet reads a Parquet file as a table. Each leaf is a column with the
// name of its outermost field; the leaves of an outermost "attributes" (a map,
// or a list of pairs) are named attributes.key and attributes.value. Repeated
// leaves become lists. Lines are rows, counted from 1.
func openParquet(f *file) (t *table, err error) {
	defer recoverParquet(&err)
	file, err := parquet.OpenFile(f, f.size)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: not a whole Parquet file: %w; export it again", ErrSource, f.path, err)
	}
	t = &table{listSep: listMark}
	for _, path := range file.Schema().Columns() {
		name := path[0]
		if last := path[len(path)-1]; name == "attributes" && len(path) > 1 {
			name += "." + last
		}
		leaf, _ := file.Schema().Lookup(path...)
		t.columns = append(t.columns, column{name, leaf.MaxRepetitionLevel > 0})
	}
	in := parquet.NewReader(file)
	fields := make([]string, len(t.columns))
	buffer := make([]parquet.Row, 64)
	var have []parquet.Row
	line := int64(0)
	fill := func() (err error) {
		defer recoverParquet(&err)
		n, err := in.ReadRows(buffer)
		if n > 0 {
			err = nil // it comes again with the next call
		} else if err == nil {
			err = io.ErrNoProgress
		}
		have = buffer[:n]
		return err
	}
	t.next = func() (int64, []string, *fault, error) {
		if len(have) == 0 {
			if err := fill(); err != nil {
				return line + 1, nil, nil, err
			}
		}
		row := have[0]
		have = have[1:]
		line++
		clear(fields)
		for _, v := range row {
			c := v.Column()
			if c < 0 || c >= len(fields) {
				continue
			}
			if v.RepetitionLevel() > 0 {
				fields[c] += listMark
			}
			if !v.IsNull() {
				fields[c] += parquetText(v)
			}
		}
		for _, field := range fields {
			if bad := checkUTF8(field); bad != nil {
				return line, nil, bad, nil
			}
		}
		return line, fields, nil, nil
	}
	return t, nil
}

func parquetText(v parquet.Value) string {
	switch v.Kind() {
	case parquet.Int32:
		return strconv.FormatInt(int64(v.Int32()), 10)
	case parquet.Int64:
		return strconv.FormatInt(v.Int64(), 10)
	case parquet.ByteArray, parquet.FixedLenByteArray:
		return string(v.ByteArray())
	default:
		return v.String()
	}
}

// recoverParquet turns a panic of the Parquet reader, which damaged files can
// cause, into an error.
func recoverParquet(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("%w: damaged Parquet file: %v", ErrSource, p)
	}
}
