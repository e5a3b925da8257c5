// Package runlog keeps the folder in which a training can be watched:
//
//	config.json                    how the run was started
//	metrics.jsonl                  one scalar a line
//	curves/NAME.svg                pictures of the scalars
//	events.out.tfevents.*          scalars and histograms for TensorBoard
//	projector_config.pbtxt         embeddings for TensorBoard
//	projector/NAME/tensors.tsv
//	projector/NAME/metadata.tsv
//
// Every record is written at once and whole, so that the folder can be read while
// the run goes on. Where writing was cut off, Open repairs the end.
package runlog

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/wisp-project/wisp/internal/atomicfile"
)

const (
	configFile    = "config.json"
	metricsFile   = "metrics.jsonl"
	curvesDir     = "curves"
	projectorDir  = "projector"
	projectorFile = "projector_config.pbtxt"
	tensorsFile   = "tensors.tsv"
	labelsFile    = "metadata.tsv"
)

// Run is an open run folder. It is not safe for concurrent use, and a folder
// must not be open twice.
type Run struct {
	dir     string
	metrics *os.File
	events  *os.File
	series  map[string][]point // by name, in the order of recording
	err     error              // the first failure of Scalar or Histogram
}

// Open opens the run folder dir, made where it is missing, for a run that has
// finished step steps: 0 for a new one, else the step of the checkpoint that is
// resumed. Records of later steps, which will come again, are cut off; with step
// 0 all of an earlier run is removed. config is written as JSON. now names the
// event file.
//
// Open wraps ErrInput for a config that JSON cannot hold and for a negative step,
// and ErrFolder where dir holds files of these names that no run wrote.
func Open(dir string, config any, step int64, now time.Time) (_ *Run, err error) {
	if step < 0 {
		return nil, fmt.Errorf("%w: step is %d, must not be negative", ErrInput, step)
	}
	js, err := json.MarshalIndent(config, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("%w: the configuration cannot be written as JSON: %w", ErrInput, err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("runlog: open: %w", err)
	}
	if err := checkOwned(dir); err != nil {
		return nil, err
	}
	r := &Run{dir: dir}
	if r.series, err = cutMetrics(r.path(metricsFile), step); err != nil {
		return nil, err
	}
	files, err := cutEvents(dir, step)
	if err != nil {
		return nil, err
	}
	if step == 0 {
		if err := removeAll(r.path(curvesDir), r.path(projectorDir), r.path(projectorFile)); err != nil {
			return nil, err
		}
	}
	if err := atomicfile.Write(r.path(configFile), append(js, '\n')); err != nil {
		return nil, err
	}
	r.metrics, err = os.OpenFile(r.path(metricsFile), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return nil, fmt.Errorf("runlog: open: %w", err)
	}
	if r.events, err = createEvents(dir, files, step, now); err != nil {
		return nil, errors.Join(err, r.metrics.Close())
	}
	return r, nil
}

// checkOwned refuses a folder that holds files of our names but no metrics: it is
// another program's.
func checkOwned(dir string) error {
	if _, err := os.Stat(filepath.Join(dir, metricsFile)); !errors.Is(err, fs.ErrNotExist) {
		return nil // cutMetrics reports what cannot be read
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("runlog: open: %w", err)
	}
	for _, e := range entries {
		switch name := e.Name(); {
		case name == configFile, name == curvesDir, name == projectorDir, name == projectorFile, strings.HasPrefix(name, eventsPrefix):
			return fmt.Errorf("%w: %s holds %s but no %s; choose another folder", ErrFolder, dir, name, metricsFile)
		}
	}
	return nil
}

// Scalar records a value of a step, counted from 1 (0 is before the first), under
// a name of letters, digits and "._@-", with slashes between parts. Values whose
// names agree up to the last slash, as in loss/train and loss/validation, share a
// picture. NaN and infinities are recorded as such; the event file rounds to
// float32.
//
// The first failure ends the recording, not the run that is recorded: Err tells
// it, and Close returns it.
func (r *Run) Scalar(step int64, name string, value float64, now time.Time) {
	if r.err != nil {
		return
	}
	if r.err = r.check(step, name); r.err != nil {
		return
	}
	line, err := record{Step: step, Name: name, Value: number(value), Time: now.UTC()}.line()
	if err != nil {
		r.err = err
		return
	}
	r.series[name] = append(r.series[name], point{step, value})
	r.append(r.metrics, line)
	r.append(r.events, frame(scalarEvent(step, name, value, now)))
}

// Histogram records how values are distributed at a step, for TensorBoard only.
// Values that are not finite fall in no bucket; their number, if any, is recorded
// as the scalar NAME/nonfinite. The values are not kept. Failures are those of
// Scalar.
func (r *Run) Histogram(step int64, name string, values []float32, now time.Time) {
	if r.err != nil {
		return
	}
	if r.err = r.check(step, name); r.err != nil {
		return
	}
	h := newHistogram(values)
	if h.count > 0 {
		r.append(r.events, frame(histogramEvent(step, name, h, now)))
	}
	if n := len(values) - h.count; n > 0 {
		r.Scalar(step, name+"/nonfinite", float64(n), now)
	}
}

// Err returns the first failure of Scalar or Histogram: ErrInput, or an error of
// the file system such as a full disk.
func (r *Run) Err() error { return r.err }

// Close draws the curves and closes the files. It returns the first failure of
// Scalar or Histogram too. A closed run records nothing more.
func (r *Run) Close() error {
	if errors.Is(r.err, ErrClosed) {
		return nil
	}
	err := errors.Join(r.err, r.Draw(), r.metrics.Sync(), r.metrics.Close(), r.events.Sync(), r.events.Close())
	r.err = ErrClosed
	return err
}

func (r *Run) path(name string) string { return filepath.Join(r.dir, name) }

func (r *Run) check(step int64, name string) error {
	if step < 0 {
		return fmt.Errorf("%w: step of %q is %d, must not be negative", ErrInput, name, step)
	}
	return checkName(name)
}

// append writes b in one call, so that only the end of a file is ever torn.
func (r *Run) append(f *os.File, b []byte) {
	if r.err != nil {
		return
	}
	if _, err := f.Write(b); err != nil {
		r.err = fmt.Errorf("runlog: record: %w", err)
	}
}

// checkName allows what is a tag, a path and a word of a picture all at once.
func checkName(name string) error {
	const marks = "._@-/"
	ok := func(c rune) bool {
		return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune(marks, c)
	}
	if name == "." || len(name) > 200 || !fs.ValidPath(name) || strings.ContainsFunc(name, func(c rune) bool { return !ok(c) }) {
		return fmt.Errorf("%w: name %.200q; use parts of letters, digits and %q with single slashes between them", ErrInput, name, marks[:4])
	}
	return nil
}
