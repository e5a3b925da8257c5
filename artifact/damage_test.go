package artifact_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"runtime"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/wisp-project/wisp/artifact"
)

// damaged reports whether err is one that damage of a file may give.
func damaged(err error) bool {
	for _, e := range []error{
		artifact.ErrFormat, artifact.ErrVersion, artifact.ErrDigest, artifact.ErrLimit, artifact.ErrSignature, artifact.ErrUntrusted,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func TestEveryFlippedBit(t *testing.T) {
	for name, opts := range map[string]artifact.WriteOptions{"zstd": {}, "raw": {Raw: true}, "signed": {Key: key(1)}} {
		t.Run(name, func(t *testing.T) {
			b := encode(t, small(), opts)
			read := read
			if opts.Key != nil {
				read = func(b []byte) (*artifact.Artifact, error) { return readSigned(b, opts.Key) }
			}
			for i := range 8 * len(b) {
				b[i/8] ^= 1 << (i % 8)
				if _, err := read(b); !damaged(err) {
					t.Errorf("byte %d, bit %d flipped: error %v", i/8, i%8, err)
				}
				b[i/8] ^= 1 << (i % 8)
			}
			if _, err := read(b); err != nil {
				t.Errorf("with every bit restored: %v", err)
			}
		})
	}
}

func TestEveryLength(t *testing.T) {
	b := encode(t, small(), artifact.WriteOptions{})
	for n := range b {
		if _, err := read(b[:n]); !errors.Is(err, artifact.ErrFormat) {
			t.Errorf("cut to %d bytes: error %v", n, err)
		}
		// A file that shrinks while it is read.
		_, err := artifact.Read(bytes.NewReader(b[:n]), int64(len(b)), artifact.ReadOptions{AllowUnsigned: true})
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("cut to %d bytes behind the reader's back: error %v", n, err)
		}
	}
	for _, tail := range []string{"\x00", "x", strings.Repeat("\x00", 64), string(b)} {
		if _, err := read(append(b[:len(b):len(b)], tail...)); !errors.Is(err, artifact.ErrFormat) {
			t.Errorf("%d bytes appended: error %v", len(tail), err)
		}
	}
}

// TestForged changes files whose digests are right: what a broken or hostile
// writer gives.
func TestForged(t *testing.T) {
	le := binary.LittleEndian
	const table = 256 // of the table; entries have 96 bytes
	entry := func(b []byte, i int) []byte { return b[table+96*i : table+96*(i+1)] }
	zeros := make([]byte, 1000)
	bomb := bytes.Repeat([]byte{7}, 1<<20)
	for _, c := range []struct {
		name  string
		parts func(p []part) []part // before the file is laid out
		bytes func(b []byte) []byte // afterwards; the digest is set again
		want  error                 // nil: accepted
		says  string
	}{
		{name: "unchanged"},
		{name: "wide alignment", parts: func(p []part) []part { p[1].align, p[2].align = 4096, 65536; return p }},
		{name: "zstd frame of other settings", parts: func(p []part) []part {
			f := frame(t, zeros, zstd.WithEncoderCRC(true), zstd.WithEncoderLevel(zstd.SpeedFastest))
			p[2] = part{typ: 3, name: "image", stored: f, raw: int64(len(zeros))}
			return p
		}},
		{name: "unknown manifest field", parts: func(p []part) []part {
			p[0].stored = []byte(strings.Replace(string(p[0].stored), "{", `{"later":{"name":1,"x":[{"name":2}]},`, 1))
			return p
		}},

		{name: "text transfer", bytes: func(b []byte) []byte { copy(b[4:], "\x89\n\n\n"); return b }, want: artifact.ErrFormat, says: "as text"},
		{name: "other file", bytes: func(b []byte) []byte { copy(b, "PK\x03\x04"); return b }, want: artifact.ErrFormat, says: "not a .wisp file"},
		{name: "version", bytes: func(b []byte) []byte { b[8] = 2; return b }, want: artifact.ErrVersion, says: "version 2"},
		{name: "file length", bytes: func(b []byte) []byte { b[16]++; return b }, want: artifact.ErrFormat, says: "the header declares"},
		{name: "table offset", bytes: func(b []byte) []byte { b[24]++; return b }, want: artifact.ErrFormat, says: "at offset"},
		{name: "table length", bytes: func(b []byte) []byte { b[32]++; return b }, want: artifact.ErrFormat, says: "a table of"},
		{name: "reserved", bytes: func(b []byte) []byte { b[40] = 1; return b }, want: artifact.ErrFormat, says: "reserved"},
		{name: "reserved after the signature", bytes: func(b []byte) []byte { b[255] = 1; return b }, want: artifact.ErrFormat, says: "reserved"},
		{name: "signature algorithm", bytes: func(b []byte) []byte { b[96] = 2; return b }, want: artifact.ErrSignature, says: "unsupported"},
		{name: "algorithm without key id", bytes: func(b []byte) []byte { b[96] = 1; return b }, want: artifact.ErrFormat, says: "without the id of a key"},
		{name: "reserved in the signature place", bytes: func(b []byte) []byte { b[96], b[103], b[104] = 1, 1, 1; return b }, want: artifact.ErrFormat, says: "reserved"},
		{name: "key id without algorithm", bytes: func(b []byte) []byte { b[104] = 1; return b }, want: artifact.ErrFormat, says: "signature place"},
		{name: "signature without algorithm", bytes: func(b []byte) []byte { b[199] = 1; return b }, want: artifact.ErrFormat, says: "signature place"},
		{name: "no sections", parts: func([]part) []part { return nil }, want: artifact.ErrFormat, says: "no manifest"},
		{name: "table beyond the file", bytes: func(b []byte) []byte {
			b = b[:300]
			le.PutUint64(b[16:], 300)
			return b
		}, want: artifact.ErrFormat, says: "does not fit"},

		{name: "type 0", parts: func(p []part) []part { p[0].typ = 0; return p }, want: artifact.ErrFormat, says: "unknown section type"},
		{name: "type 6", parts: func(p []part) []part { return append(p, part{typ: 6, stored: zeros}) }, want: artifact.ErrFormat, says: "unknown section type"},
		{name: "order", parts: func(p []part) []part { p[0], p[1] = p[1], p[0]; return p }, want: artifact.ErrFormat, says: "ordered by type"},
		{name: "two kernels", parts: func(p []part) []part { return append(p[:2:2], p[1:]...) }, want: artifact.ErrFormat, says: "second section"},
		{name: "two segments of a name", parts: func(p []part) []part { return append(p[:3:3], p[2:]...) }, want: artifact.ErrFormat, says: "second segment"},
		{name: "no segment", parts: func(p []part) []part { return append(p[:2:2], p[3:]...) }, want: artifact.ErrFormat, says: "no segment"},
		{name: "no golden section", parts: func(p []part) []part { return p[:4] }, want: artifact.ErrFormat, says: "no golden"},
		{name: "name of a kernel", parts: func(p []part) []part { p[1].name = "k"; return p }, want: artifact.ErrFormat, says: "only segments"},
		{name: "segment without name", parts: func(p []part) []part { p[2].name = ""; return p }, want: artifact.ErrFormat, says: "the name is not"},
		{name: "capital in a name", parts: func(p []part) []part { p[2].name = "Image"; return p }, want: artifact.ErrFormat, says: "the name is not"},
		{name: "zero within a name", parts: func(p []part) []part { p[2].name = "a\x00b"; return p }, want: artifact.ErrFormat, says: "the name is not"},
		{name: "codec 2", bytes: func(b []byte) []byte { entry(b, 1)[4] = 2; return b }, want: artifact.ErrFormat, says: "unknown codec 2"},
		{name: "flags", bytes: func(b []byte) []byte { entry(b, 1)[12] = 1; return b }, want: artifact.ErrFormat, says: "flags"},
		{name: "reserved in an entry", bytes: func(b []byte) []byte { entry(b, 4)[95] = 1; return b }, want: artifact.ErrFormat, says: "reserved"},
		{name: "alignment 32", bytes: func(b []byte) []byte { entry(b, 0)[8] = 32; return b }, want: artifact.ErrFormat, says: "alignment 32"},
		{name: "alignment 96", bytes: func(b []byte) []byte { entry(b, 0)[8] = 96; return b }, want: artifact.ErrFormat, says: "alignment 96"},
		{name: "alignment 0", bytes: func(b []byte) []byte { entry(b, 0)[8] = 0; return b }, want: artifact.ErrFormat, says: "alignment 0"},
		{name: "alignment 2^17", bytes: func(b []byte) []byte { le.PutUint32(entry(b, 0)[8:], 1<<17); return b }, want: artifact.ErrFormat, says: "alignment 131072"},
		{name: "overlap", bytes: func(b []byte) []byte { copy(entry(b, 2)[16:24], entry(b, 1)[16:24]); return b }, want: artifact.ErrFormat, says: "must lie at"},
		{name: "section in the table", bytes: func(b []byte) []byte { le.PutUint64(entry(b, 0)[16:], 0); return b }, want: artifact.ErrFormat, says: "must lie at"},
		{name: "gap", bytes: func(b []byte) []byte { le.PutUint64(entry(b, 0)[16:], le.Uint64(entry(b, 0)[16:])+64); return b }, want: artifact.ErrFormat, says: "must lie at"},
		{name: "empty section", parts: func(p []part) []part { p[1].stored = nil; return p }, want: artifact.ErrFormat, says: "is empty"},
		{name: "raw lengths differ", bytes: func(b []byte) []byte { entry(b, 1)[32]++; return b }, want: artifact.ErrFormat, says: "stored as it is"},
		{name: "beyond the file", bytes: func(b []byte) []byte {
			le.PutUint64(entry(b, 4)[24:], math.MaxInt64)
			le.PutUint64(entry(b, 4)[32:], math.MaxInt64)
			return b
		}, want: artifact.ErrFormat, says: "ends after the file"},
		{name: "beyond int64", bytes: func(b []byte) []byte { entry(b, 0)[39] = 0x80; return b }, want: artifact.ErrFormat, says: "2^63"},
		{name: "padding", bytes: func(b []byte) []byte { b[le.Uint64(entry(b, 1)[16:])-1] = 1; return b }, want: artifact.ErrFormat, says: "padding before kernel"},
		{name: "bytes after the last section", bytes: func(b []byte) []byte {
			b = append(b, 0)
			le.PutUint64(b[16:], uint64(len(b)))
			return b
		}, want: artifact.ErrFormat, says: "the last section ends"},

		{name: "zstd: more than declared", parts: zip(frame(t, bomb), 1<<19), want: artifact.ErrFormat, says: "the table 524288"},
		{name: "zstd: less than declared", parts: zip(frame(t, bomb), 1<<21), want: artifact.ErrFormat, says: "the table 2097152"},
		{name: "zstd: more than declared, frame lies too", parts: zip(lie(frame(t, bomb), 1<<19), 1<<19), want: artifact.ErrFormat},
		{name: "zstd: less than declared, frame lies too", parts: zip(lie(frame(t, bomb), 1<<30), 1<<30), want: artifact.ErrFormat, says: "holds at most"},
		{name: "zstd: one byte less", parts: zip(lie(frame(t, bomb), 1<<20-1), 1<<20-1), want: artifact.ErrFormat},
		{name: "zstd: no size in the frame, more", parts: zip(stream(t, bomb), 1<<20-1), want: artifact.ErrFormat},
		{name: "zstd: no size in the frame, less", parts: zip(stream(t, bomb[1:]), 1<<20), want: artifact.ErrFormat},
		{name: "zstd: no size in the frame", parts: zip(stream(t, bomb), 1<<20)},
		{name: "zstd: two frames", parts: zip(append(frame(t, zeros), frame(t, zeros)...), int64(2*len(zeros))), want: artifact.ErrFormat, says: "the table 2000"},
		{name: "zstd: bytes behind the frame", parts: zip(append(frame(t, zeros), 0), int64(len(zeros))), want: artifact.ErrFormat, says: "follow the last block"},
		{name: "zstd: empty frame behind", parts: zip(append(frame(t, zeros), frame(t, nil, zstd.WithZeroFrames(true))...), int64(len(zeros))), want: artifact.ErrFormat, says: "follow the last block"},
		{name: "zstd: skippable frame", parts: zip([]byte("\x50\x2a\x4d\x18\x00\x00\x00\x00"), 9), want: artifact.ErrFormat, says: "skippable"},
		{name: "zstd: no frame", parts: zip([]byte("nothing"), 9), want: artifact.ErrFormat},
		{name: "zstd: cut off", parts: zip(frame(t, zeros)[:10], int64(len(zeros))), want: artifact.ErrFormat, says: "cut off"},
		{name: "zstd: not smaller", parts: zip(frame(t, []byte("ab")), 2), want: artifact.ErrFormat, says: "compressed, but"},
		{name: "zstd: wide window", parts: zip([]byte("\x28\xb5\x2f\xfd\x00\xa0\x03\x00\x00\x00"), 99), want: artifact.ErrFormat, says: "window"},
		{name: "zstd: dictionary", parts: zip([]byte("\x28\xb5\x2f\xfd\x01\x00\x09\x01\x00\x00"), 99), want: artifact.ErrFormat, says: "dictionary"},
		{name: "zstd: reserved block", parts: zip([]byte("\x28\xb5\x2f\xfd\x00\x00\x07\x00\x00"), 99), want: artifact.ErrFormat, says: "reserved type"},
		{name: "zstd: long block", parts: zip([]byte("\x28\xb5\x2f\xfd\x00\x00\xf9\xff\xff\x00"), 99), want: artifact.ErrFormat, says: "a block of 2097151"},

		{name: "goldens: cut count", parts: set(4, "\x01\x00"), want: artifact.ErrContent, says: "count"},
		{name: "goldens: none", parts: set(4, "\x00\x00\x00\x00"), want: artifact.ErrContent, says: "no golden"},
		{name: "goldens: count too large", parts: set(4, "\xff\xff\xff\xff\x01\x00\x00\x00r\x01\x00\x00\x00a"), want: artifact.ErrContent, says: "golden 1 at byte 14"},
		{name: "goldens: length too large", parts: set(4, "\x01\x00\x00\x00\xff\xff\xff\xffr"), want: artifact.ErrContent, says: "4294967295 bytes"},
		{name: "goldens: empty answer", parts: set(4, "\x01\x00\x00\x00\x01\x00\x00\x00r\x00\x00\x00\x00"), want: artifact.ErrContent, says: "0 bytes"},
		{name: "goldens: bytes after", parts: set(4, "\x01\x00\x00\x00\x01\x00\x00\x00r\x01\x00\x00\x00a!"), want: artifact.ErrContent, says: "follow the last"},

		{name: "items: too few", parts: set(3, `[{"id":"a"}]`), want: artifact.ErrContent, says: "1 items"},
		{name: "items: too many", parts: set(3, `[{"id":"a"},{"id":"b"},{"id":"c"}]`), want: artifact.ErrContent, says: "more than the 2"},
		{name: "items: same id", parts: set(3, `[{"id":"a"},{"id":"a"}]`), want: artifact.ErrContent, says: "items 0 and 1"},
		{name: "items: empty id", parts: set(3, `[{"id":"a"},null]`), want: artifact.ErrContent, says: "item 1 has the id"},
		{name: "items: control character in an id", parts: set(3, `[{"id":"a"},{"id":"\u0007"}]`), want: artifact.ErrContent, says: "item 1 has the id"},
		{name: "items: empty category", parts: set(3, `[{"id":"a"},{"id":"b","categories":[""]}]`), want: artifact.ErrContent, says: "category"},
		{name: "items: wrong type", parts: set(3, `[{"id":"a"},{"id":2}]`), want: artifact.ErrContent, says: "item 1"},
		{name: "items: object", parts: set(3, `{"id":"a"}`), want: artifact.ErrContent, says: "array"},
		{name: "items: trailing data", parts: set(3, `[{"id":"a"},{"id":"b"}] []`), want: artifact.ErrContent},
		{name: "items: not UTF-8", parts: set(3, "[{\"id\":\"a\"},{\"id\":\"\xff\"}]"), want: artifact.ErrContent, says: "UTF-8"},
		{name: "items: key twice", parts: set(3, `[{"id":"a"},{"id":"b","id":"c"}]`), want: artifact.ErrContent, says: `the key "id" occurs twice`},
		{name: "items: key in capitals", parts: set(3, `[{"id":"a"},{"ID":"b"}]`), want: artifact.ErrContent, says: `the key "ID"`},
		{name: "items: key with escapes", parts: set(3, `[{"id":"a"},{"i\u0064":"b"}]`), want: artifact.ErrContent, says: "the key"},
		{name: "items: quotes and braces in strings", parts: set(3, `[{"id":"{\"id\":\\"},{"title":",\"A\":","id":"b","x":[{"y":[],"z":{}},"A",{"y":1}]}]`)},
		{name: "items: many keys", parts: set(3, `[{"id":"a"},{`+manyKeys(65)+`}]`), want: artifact.ErrContent, says: "more than 64"},

		{name: "manifest: empty", parts: set(0, `{}`), want: artifact.ErrManifest, says: "name is empty"},
		{name: "manifest: trailing data", parts: func(p []part) []part { p[0].stored = append(p[0].stored, '1'); return p }, want: artifact.ErrManifest},
		{name: "manifest: key twice", parts: set(0, `{"name":"a","limits":{"max_k":1,"max_k":2}}`), want: artifact.ErrManifest, says: "occurs twice"},
		{name: "manifest: number too large", parts: set(0, `{"abi":1e400}`), want: artifact.ErrManifest},
		{name: "manifest: deep", parts: set(0, strings.Repeat("[", 20_000)), want: artifact.ErrManifest},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := parts()
			if c.parts != nil {
				p = c.parts(p)
			}
			b := build(p)
			if c.bytes != nil {
				b = c.bytes(b)
				if len(b) >= 256+96*len(p) {
					seal(b)
				}
			}
			_, err := read(b)
			if c.want == nil {
				if err != nil {
					t.Fatalf("refused: %v", err)
				}
				return
			}
			if !errors.Is(err, c.want) {
				t.Fatalf("error %v, want %v", err, c.want)
			}
			if !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %q does not say %q", err, c.says)
			}
		})
	}
}

// zip puts a zstd frame, declared to hold raw bytes, in the place of the image.
func zip(frame []byte, raw int64) func([]part) []part {
	return func(p []part) []part {
		p[2].stored, p[2].raw = frame, raw
		return p
	}
}

// set replaces the bytes of part i.
func set(i int, stored string) func([]part) []part {
	return func(p []part) []part {
		p[i].stored = []byte(stored)
		return p
	}
}

// lie changes the content size in a frame's header. It has to be one with a
// field of four bytes.
func lie(frame []byte, raw uint32) []byte {
	at := 5
	if frame[4]>>6 != 2 {
		panic("the frame's content size is not one of four bytes")
	}
	if frame[4]&(1<<5) == 0 {
		at++
	}
	binary.LittleEndian.PutUint32(frame[at:], raw)
	return frame
}

// stream compresses raw into a frame that does not declare its content size.
func stream(t testing.TB, raw []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	enc, err := zstd.NewWriter(&b, zstd.WithWindowSize(1<<20))
	if err != nil {
		t.Fatal(err)
	}
	for len(raw) > 0 { // several writes, or the encoder knows the size after all
		n := min(len(raw), 300_000)
		if _, err := enc.Write(raw[:n]); err != nil {
			t.Fatal(err)
		}
		raw = raw[n:]
	}
	if err := enc.Close(); err != nil {
		t.Fatal(err)
	}
	var h zstd.Header
	if err := h.Decode(b.Bytes()); err != nil || h.HasFCS {
		t.Fatalf("the frame declares its size, or is none: %v", err)
	}
	return b.Bytes()
}

func manyKeys(n int) string {
	var keys []string
	for i := range n {
		keys = append(keys, `"k`+strings.Repeat("x", i)+`":0`)
	}
	return strings.Join(keys, ",")
}

// TestHugeSizesAllocateNothing reads files that declare sizes of terabytes, or
// of as much as the limits allow, and have few bytes.
func TestHugeSizesAllocateNothing(t *testing.T) {
	le := binary.LittleEndian
	for _, c := range []struct {
		name string
		file func() (b []byte, size int64)
		want error
	}{
		{"file", func() ([]byte, int64) { return build(parts()), 1 << 50 }, artifact.ErrLimit},
		{"declared file", func() ([]byte, int64) {
			b := build(parts())
			le.PutUint64(b[16:], 4<<30)
			return seal(b), 4 << 30
		}, artifact.ErrFormat},
		{"sections", func() ([]byte, int64) {
			b := build(parts())
			le.PutUint32(b[12:], math.MaxUint32)
			le.PutUint64(b[32:], 96*math.MaxUint32)
			return b, int64(len(b))
		}, artifact.ErrLimit},
		{"raw length above the limit", func() ([]byte, int64) {
			b := build(zip(frame(t, make([]byte, 1000)), 1<<40)(parts()))
			return b, int64(len(b))
		}, artifact.ErrLimit},
		{"raw length within the limit", func() ([]byte, int64) {
			b := build(zip(stream(t, make([]byte, 1<<20)), 1<<30)(parts()))
			return b, int64(len(b))
		}, artifact.ErrFormat},
		{"more in a frame than declared", func() ([]byte, int64) {
			b := build(zip(stream(t, make([]byte, 64<<20)), 1<<20)(parts()))
			return b, int64(len(b))
		}, artifact.ErrFormat},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, size := c.file()
			r := bytes.NewReader(b)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := artifact.Read(r, size, artifact.ReadOptions{AllowUnsigned: true})
			runtime.ReadMemStats(&after)
			if !errors.Is(err, c.want) {
				t.Errorf("error %v, want %v", err, c.want)
			}
			if n := after.TotalAlloc - before.TotalAlloc; n > 4<<20 {
				t.Errorf("%d bytes were allocated for a file of %d", n, len(b))
			}
		})
	}
}
