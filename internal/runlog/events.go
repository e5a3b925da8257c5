package runlog

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/wisp-project/wisp/internal/atomicfile"
)

// eventsPrefix is how TensorBoard knows an event file. What follows is the time
// in seconds, by which it orders the files of a run.
const eventsPrefix = "events.out.tfevents."

// Field numbers of tensorflow/core/util/event.proto, framework/summary.proto and
// framework/histogram.proto, and the one value of SessionLog.SessionStatus used.
const (
	eventWallTime, eventStep, eventFileVersion, eventSummary, eventSessionLog = 1, 2, 3, 5, 7

	sessionStatus, sessionStart = 1, 1

	summaryValue, valueTag, valueSimple, valueHistogram = 1, 1, 2, 5

	histogramMin, histogramMax, histogramNum, histogramSum, histogramSumSquares, histogramLimits, histogramBuckets = 1, 2, 3, 4, 5, 6, 7
)

// cutEvents removes the records after step from the event files of dir, and the
// files themselves for step 0. It returns the paths of all it met, in order. What
// follows an unreadable record is lost, as it is for TensorBoard.
func cutEvents(dir string, step int64) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("runlog: open: %w", err)
	}
	var files []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), eventsPrefix) {
			files = append(files, filepath.Join(dir, e.Name()))
		}
	}
	if step == 0 {
		return files, removeAll(files...)
	}
	for _, file := range files {
		all, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("runlog: open: %w", err)
		}
		if kept := cutRecords(all, step); len(kept) < len(all) {
			if err := atomicfile.Write(file, kept); err != nil {
				return nil, err
			}
		}
	}
	return files, nil
}

// cutRecords returns the readable records up to step.
func cutRecords(all []byte, step int64) []byte {
	kept := make([]byte, 0, len(all))
	for {
		event, n := unframe(all)
		if n == 0 {
			return kept
		}
		if s, ok := stepOf(event); ok && s <= step {
			kept = append(kept, all[:n]...)
		}
		all = all[n:]
	}
}

// createEvents makes the event file of a session that begins after step; files
// are those of the sessions before it.
func createEvents(dir string, files []string, step int64, now time.Time) (*os.File, error) {
	seconds := max(now.Unix(), 0)
	for _, file := range files {
		var s int64
		// After those before it, even where the clock was set back. A name that is
		// not ours reads as 0.
		_, _ = fmt.Sscanf(filepath.Base(file), eventsPrefix+"%d", &s)
		seconds = max(seconds, s+1)
	}
	f, err := os.OpenFile(filepath.Join(dir, fmt.Sprintf("%s%010d.wisp", eventsPrefix, seconds)), os.O_WRONLY|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("runlog: open: %w", err)
	}
	head := frame(versionEvent(now))
	if step > 0 {
		head = append(head, frame(restartEvent(step+1, now))...)
	}
	if _, err := f.Write(head); err != nil {
		return nil, errors.Join(fmt.Errorf("runlog: open: %w", err), f.Close(), os.Remove(f.Name()))
	}
	return f, nil
}

// newEvent begins an Event message.
func newEvent(step int64, now time.Time) []byte {
	b := appendDouble(nil, eventWallTime, float64(now.UnixNano())/1e9)
	b = protowire.AppendTag(b, eventStep, protowire.VarintType)
	return protowire.AppendVarint(b, uint64(step))
}

// versionEvent is the first record of every event file.
func versionEvent(now time.Time) []byte {
	b := appendDouble(nil, eventWallTime, float64(now.UnixNano())/1e9)
	b = protowire.AppendTag(b, eventFileVersion, protowire.BytesType)
	return protowire.AppendString(b, "brain.Event:2")
}

// restartEvent tells a TensorBoard that has seen records from step on, since cut
// off, to forget them.
func restartEvent(step int64, now time.Time) []byte {
	s := protowire.AppendTag(nil, sessionStatus, protowire.VarintType)
	s = protowire.AppendVarint(s, sessionStart)
	return appendMessage(newEvent(step, now), eventSessionLog, s)
}

func scalarEvent(step int64, tag string, value float64, now time.Time) []byte {
	v := protowire.AppendTag(nil, valueSimple, protowire.Fixed32Type)
	v = protowire.AppendFixed32(v, math.Float32bits(float32(value)))
	return summaryEvent(step, tag, v, now)
}

func histogramEvent(step int64, tag string, h histogram, now time.Time) []byte {
	m := appendDouble(nil, histogramMin, h.min)
	m = appendDouble(m, histogramMax, h.max)
	m = appendDouble(m, histogramNum, float64(h.count))
	m = appendDouble(m, histogramSum, h.sum)
	m = appendDouble(m, histogramSumSquares, h.sumSquares)
	m = appendDoubles(m, histogramLimits, h.limits)
	m = appendDoubles(m, histogramBuckets, h.buckets)
	return summaryEvent(step, tag, appendMessage(nil, valueHistogram, m), now)
}

// summaryEvent wraps the content of one summary value.
func summaryEvent(step int64, tag string, content []byte, now time.Time) []byte {
	v := protowire.AppendTag(nil, valueTag, protowire.BytesType)
	v = append(protowire.AppendString(v, tag), content...)
	return appendMessage(newEvent(step, now), eventSummary, appendMessage(nil, summaryValue, v))
}

func appendDouble(b []byte, field protowire.Number, v float64) []byte {
	return protowire.AppendFixed64(protowire.AppendTag(b, field, protowire.Fixed64Type), math.Float64bits(v))
}

func appendDoubles(b []byte, field protowire.Number, vs []float64) []byte {
	var packed []byte
	for _, v := range vs {
		packed = protowire.AppendFixed64(packed, math.Float64bits(v))
	}
	return appendMessage(b, field, packed)
}

func appendMessage(b []byte, field protowire.Number, m []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, field, protowire.BytesType), m)
}

// stepOf returns the step of an Event message, and false where it is none.
func stepOf(event []byte) (int64, bool) {
	var step int64
	for len(event) > 0 {
		num, typ, n := protowire.ConsumeTag(event)
		if n < 0 {
			return 0, false
		}
		event = event[n:]
		if num == eventStep && typ == protowire.VarintType {
			v, _ := protowire.ConsumeVarint(event)
			step = int64(v)
		}
		if n = protowire.ConsumeFieldValue(num, typ, event); n < 0 {
			return 0, false
		}
		event = event[n:]
	}
	return step, true
}
