package runlog

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"unicode"

	"github.com/wisp-project/wisp/internal/atomicfile"
)

// Embedding writes vectors, (N, dim) row-major, for TensorBoard's projector; those
// of the same name before are replaced. labels holds one line for each vector, or
// is nil; an empty label becomes the number of its row, counted from 0. The name
// is as for Scalar. Nothing is kept.
//
// Embedding wraps ErrInput for shapes that do not fit and values that are not
// finite.
func (r *Run) Embedding(name string, vectors []float32, dim int, labels []string) error {
	if errors.Is(r.err, ErrClosed) {
		return r.err
	}
	if err := checkName(name); err != nil {
		return err
	}
	if dim < 1 || len(vectors) == 0 || len(vectors)%dim != 0 {
		return fmt.Errorf("%w: embedding %q has %d values, which are not rows of %d", ErrInput, name, len(vectors), dim)
	}
	rows := len(vectors) / dim
	if labels != nil && len(labels) != rows {
		return fmt.Errorf("%w: embedding %q has %d rows and %d labels", ErrInput, name, rows, len(labels))
	}
	var tsv []byte
	for i, v := range vectors {
		if !isFinite(float64(v)) {
			return fmt.Errorf("%w: embedding %q is %v in row %d", ErrInput, name, v, i/dim)
		}
		tsv = strconv.AppendFloat(tsv, float64(v), 'g', -1, 32)
		if i%dim == dim-1 {
			tsv = append(tsv, '\n')
		} else {
			tsv = append(tsv, '\t')
		}
	}
	dir := r.path(filepath.Join(projectorDir, filepath.FromSlash(name)))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("runlog: embedding: %w", err)
	}
	// Without labels first, so that those of other rows are never beside them.
	if err := removeAll(filepath.Join(dir, labelsFile)); err != nil {
		return err
	}
	if err := atomicfile.Write(filepath.Join(dir, tensorsFile), tsv); err != nil {
		return err
	}
	if labels != nil {
		var b bytes.Buffer
		for i, l := range labels {
			b.WriteString(cleanLabel(l, i))
			b.WriteByte('\n')
		}
		if err := atomicfile.Write(filepath.Join(dir, labelsFile), b.Bytes()); err != nil {
			return err
		}
	}
	return r.writeProjectorConfig()
}

// cleanLabel returns the label as one line without tabs, which would make
// columns, and never an empty one, which TensorBoard would skip.
func cleanLabel(label string, row int) string {
	label = strings.Map(func(c rune) rune {
		if unicode.IsControl(c) {
			return ' '
		}
		return c
	}, strings.ToValidUTF8(label, "\uFFFD"))
	label = strings.Join(strings.Fields(label), " ")
	if label == "" {
		return strconv.Itoa(row)
	}
	return label
}

// writeProjectorConfig lists all embeddings of the folder, also those of sessions
// before this one, as a ProjectorConfig in protocol-buffer text.
func (r *Run) writeProjectorConfig() error {
	var b bytes.Buffer
	files := os.DirFS(r.path(projectorDir))
	err := fs.WalkDir(files, ".", func(p string, _ fs.DirEntry, err error) error {
		if err != nil || path.Base(p) != tensorsFile {
			return err
		}
		// The paths need no escapes: checkName allowed them.
		name := path.Dir(p)
		fmt.Fprintf(&b, "embeddings {\n  tensor_name: \"%s\"\n  tensor_path: \"%s\"\n", name, path.Join(projectorDir, p))
		if _, err := fs.Stat(files, path.Join(name, labelsFile)); err == nil {
			fmt.Fprintf(&b, "  metadata_path: \"%s\"\n", path.Join(projectorDir, name, labelsFile))
		}
		b.WriteString("}\n")
		return nil
	})
	if err != nil {
		return fmt.Errorf("runlog: embedding: %w", err)
	}
	return atomicfile.Write(r.path(projectorFile), b.Bytes())
}
