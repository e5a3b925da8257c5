package runlog_test

import (
	"encoding/binary"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// start is when all runs of the tests begin.
var start = time.Date(2024, 5, 6, 7, 8, 9, 500_000_000, time.UTC)

// event is what the tests read of a record.
type event struct {
	wall      float64
	step      int64
	version   string
	restart   bool
	tag       string
	scalar    float32
	histogram map[protowire.Number][]float64 // by field, nil for none
}

// crc32c is CRC-32C bit by bit, masked as TFRecord wants it.
func crc32c(b []byte) uint32 {
	c := ^uint32(0)
	for _, x := range b {
		c ^= uint32(x)
		for range 8 {
			if c&1 == 1 {
				c = c>>1 ^ 0x82f63b78
			} else {
				c >>= 1
			}
		}
	}
	c = ^c
	return c>>15 | c<<17
}

func checkCRC(t *testing.T, stored, data []byte) {
	t.Helper()
	if got, want := binary.LittleEndian.Uint32(stored), crc32c(data)+0xa282ead8; got != want {
		t.Fatalf("checksum %08x, want %08x", got, want)
	}
}

// readEvents reads all event files of dir, which must be whole.
func readEvents(t *testing.T, dir string) []event {
	t.Helper()
	var events []event
	for _, file := range eventFiles(t, dir) {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for len(b) > 0 {
			checkCRC(t, b[8:], b[:8])
			n := binary.LittleEndian.Uint64(b)
			data := b[12 : 12+n]
			checkCRC(t, b[12+n:], data)
			b = b[12+n+4:]
			events = append(events, readEvent(t, data))
		}
	}
	return events
}

func eventFiles(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "events.out.tfevents.*"))
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func readEvent(t *testing.T, b []byte) event {
	t.Helper()
	var e event
	fields(t, b, func(num protowire.Number, bits uint64, b []byte) {
		switch num {
		case 1:
			e.wall = math.Float64frombits(bits)
		case 2:
			e.step = int64(bits)
		case 3:
			e.version = string(b)
		case 7:
			fields(t, b, func(num protowire.Number, bits uint64, _ []byte) { e.restart = num == 1 && bits == 1 })
		case 5:
			fields(t, b, func(_ protowire.Number, _ uint64, b []byte) { // the one value
				fields(t, b, func(num protowire.Number, bits uint64, b []byte) {
					switch num {
					case 1:
						e.tag = string(b)
					case 2:
						e.scalar = math.Float32frombits(uint32(bits))
					case 5:
						e.histogram = map[protowire.Number][]float64{}
						fields(t, b, func(num protowire.Number, bits uint64, b []byte) {
							if b == nil {
								e.histogram[num] = []float64{math.Float64frombits(bits)}
							}
							for ; len(b) > 0; b = b[8:] {
								e.histogram[num] = append(e.histogram[num], math.Float64frombits(binary.LittleEndian.Uint64(b)))
							}
						})
					default:
						t.Errorf("value has field %d", num)
					}
				})
			})
		default:
			t.Fatalf("event has field %d", num)
		}
	})
	return e
}

// fields calls f for each field of a message, with bytes for a length-delimited
// one and bits for another.
func fields(t *testing.T, b []byte, f func(num protowire.Number, bits uint64, bytes []byte)) {
	t.Helper()
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			t.Fatal(protowire.ParseError(n))
		}
		b = b[n:]
		var bits uint64
		var bytes []byte
		switch typ {
		case protowire.VarintType:
			bits, n = protowire.ConsumeVarint(b)
		case protowire.Fixed32Type:
			var v uint32
			v, n = protowire.ConsumeFixed32(b)
			bits = uint64(v)
		case protowire.Fixed64Type:
			bits, n = protowire.ConsumeFixed64(b)
		default:
			bytes, n = protowire.ConsumeBytes(b)
		}
		if n < 0 {
			t.Fatal(protowire.ParseError(n))
		}
		f(num, bits, bytes)
		b = b[n:]
	}
}

// metric is a line of metrics.jsonl.
type metric struct {
	Step  int64     `json:"step"`
	Name  string    `json:"name"`
	Value any       `json:"value"`
	Time  time.Time `json:"time"`
}

// readMetrics reads metrics.jsonl, whose lines must be whole.
func readMetrics(t *testing.T, dir string) []metric {
	t.Helper()
	text := readFile(t, dir, "metrics.jsonl")
	if text != "" && !strings.HasSuffix(text, "\n") {
		t.Fatalf("last line is torn: %q", text)
	}
	var metrics []metric
	for line := range strings.Lines(text) {
		var m metric
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatalf("line %q: %v", line, err)
		}
		metrics = append(metrics, m)
	}
	return metrics
}

func readFile(t *testing.T, dir, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name)))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
