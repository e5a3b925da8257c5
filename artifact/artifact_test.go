package artifact_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/wisp-project/wisp/artifact"
)

func TestRoundTrip(t *testing.T) {
	large := small()
	noise := make([]byte, 300_000)
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range noise {
		noise[i] = byte(rng.Uint32())
	}
	large.Segments = append(large.Segments,
		artifact.Segment{Name: "noise", Data: noise},
		artifact.Segment{Name: "several-blocks16", Data: bytes.Repeat(noise[:1000], 400)})
	for _, c := range []struct {
		name string
		a    *artifact.Artifact
		opts artifact.WriteOptions
	}{
		{"small", small(), artifact.WriteOptions{}},
		{"raw", small(), artifact.WriteOptions{Raw: true}},
		{"large", large, artifact.WriteOptions{}},
		{"large fast", large, artifact.WriteOptions{Level: 1}},
		{"large raw", large, artifact.WriteOptions{Raw: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := encode(t, c.a, c.opts)
			if again := encode(t, c.a, c.opts); !bytes.Equal(b, again) {
				t.Fatal("a second Write gave other bytes")
			}
			got, err := read(b)
			if err != nil {
				t.Fatal(err)
			}
			if got.Digest == [sha256.Size]byte{} || len(got.Sections) != 4+len(c.a.Segments) {
				t.Errorf("digest %x, %d sections", got.Digest, len(got.Sections))
			}
			for _, s := range got.Sections {
				stored := b[s.Offset : s.Offset+s.Stored]
				if sha256.Sum256(stored) != s.Digest {
					t.Errorf("%v %s: the digest is not that of the stored bytes", s.Type, s.Name)
				}
				if compressed := s.Codec == artifact.CodecZstd; compressed != (s.Stored < s.Raw) || compressed && c.opts.Raw {
					t.Errorf("%v %s: codec %v with %d bytes for %d", s.Type, s.Name, s.Codec, s.Stored, s.Raw)
				}
				if incompressible := s.Name == "noise"; incompressible && s.Codec != artifact.CodecRaw {
					t.Errorf("noise is stored as %v", s.Codec)
				}
			}
			got.Digest, got.Sections = [sha256.Size]byte{}, nil
			if !reflect.DeepEqual(got, c.a) {
				t.Errorf("read %+v, want %+v", got, c.a)
			}
		})
	}
}

func TestReadTable(t *testing.T) {
	b := encode(t, small(), artifact.WriteOptions{})
	a, err := read(b)
	if err != nil {
		t.Fatal(err)
	}
	// Only header and table are there: an update has nothing else yet.
	table, err := artifact.ReadTable(bytes.NewReader(b[:256+7*96]), int64(len(b)), artifact.ReadOptions{AllowUnsigned: true})
	if err != nil {
		t.Fatal(err)
	}
	if table.Digest != a.Digest || table.Size != int64(len(b)) || !reflect.DeepEqual(table.Sections, a.Sections) {
		t.Errorf("the table is %+v, want that of %+v", table, a)
	}

	other := small()
	other.Manifest.Version++
	next, err := read(encode(t, other, artifact.WriteOptions{}))
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range next.Sections {
		if same := s.Digest == a.Sections[i].Digest; same == (s.Type == artifact.SectionManifest) {
			t.Errorf("%v %s: same digest is %v after a change of the manifest alone", s.Type, s.Name, same)
		}
	}
	if next.Digest == a.Digest {
		t.Error("the digest did not change with the content")
	}
}

// TestGolden holds the format fixed: a file written by an earlier version is
// read, and the same bytes are written again.
func TestGolden(t *testing.T) {
	path := filepath.Join("testdata", "small.wisp")
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := artifact.WriteFile(path, small(), artifact.WriteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	got, err := artifact.Open(path, artifact.ReadOptions{AllowUnsigned: true})
	if err != nil {
		t.Fatal(err)
	}
	got.Digest, got.Sections = [sha256.Size]byte{}, nil
	if !reflect.DeepEqual(got, small()) {
		t.Errorf("read %+v, want %+v", got, small())
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(encode(t, small(), artifact.WriteOptions{}), want) {
		t.Error("Write gives other bytes than the file holds; where that is meant, run UPDATE_GOLDEN=1 go test ./artifact")
	}
}

func TestUnsigned(t *testing.T) {
	b := encode(t, small(), artifact.WriteOptions{})
	_, err := artifact.Read(bytes.NewReader(b), int64(len(b)), artifact.ReadOptions{})
	if !errors.Is(err, artifact.ErrUnsigned) || !strings.Contains(err.Error(), "AllowUnsigned") {
		t.Errorf("error %v, want ErrUnsigned that says how to allow it", err)
	}
}

func TestOpenNamesTheFile(t *testing.T) {
	dir := t.TempDir()
	if _, err := artifact.Open(filepath.Join(dir, "none.wisp"), artifact.ReadOptions{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v, want os.ErrNotExist", err)
	}
	path := filepath.Join(dir, "text.wisp")
	if err := os.WriteFile(path, bytes.Repeat([]byte("no "), 100), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := artifact.Open(path, artifact.ReadOptions{}); !errors.Is(err, artifact.ErrFormat) || !strings.Contains(err.Error(), path) {
		t.Errorf("error %v, want ErrFormat that names the file", err)
	}
}

func TestWriteFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.wisp")
	if err := artifact.WriteFile(path, small(), artifact.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}

	bad := small()
	bad.Kernel = nil
	if err := artifact.WriteFile(path, bad, artifact.WriteOptions{}); !errors.Is(err, artifact.ErrContent) {
		t.Errorf("error %v, want ErrContent", err)
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
		t.Errorf("a failed WriteFile changed the file (error %v)", err)
	}

	other := small()
	other.Manifest.Version = 8
	if err := artifact.WriteFile(path, other, artifact.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	if a, err := artifact.Open(path, artifact.ReadOptions{AllowUnsigned: true}); err != nil || a.Manifest.Version != 8 {
		t.Errorf("the file was not replaced (error %v)", err)
	}

	sub := filepath.Join(dir, "folder")
	if err := os.MkdirAll(filepath.Join(sub, "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := artifact.WriteFile(sub, small(), artifact.WriteOptions{}); err == nil {
		t.Error("a folder was replaced by a file")
	}
	if err := artifact.WriteFile(filepath.Join(dir, "none", "a.wisp"), small(), artifact.WriteOptions{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v, want os.ErrNotExist", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 2 {
		t.Errorf("temporary files are left over: %v", entries)
	}
}

// fullDisk accepts room bytes.
type fullDisk struct{ room int }

func (d *fullDisk) Write(b []byte) (int, error) {
	n := min(d.room, len(b))
	d.room -= n
	if n < len(b) {
		return n, io.ErrShortWrite
	}
	return n, nil
}

func TestWriteErrors(t *testing.T) {
	size := len(encode(t, small(), artifact.WriteOptions{}))
	for room := 0; room < size; room += 13 {
		n, err := artifact.Write(&fullDisk{room}, small(), artifact.WriteOptions{})
		if !errors.Is(err, io.ErrShortWrite) || n != int64(room) {
			t.Fatalf("with room for %d bytes Write gives %d, %v", room, n, err)
		}
	}
	for _, c := range []struct {
		name string
		opts artifact.WriteOptions
		want error
	}{
		{"level below", artifact.WriteOptions{Level: -1}, artifact.ErrOptions},
		{"level above", artifact.WriteOptions{Level: 23}, artifact.ErrOptions},
		{"file", artifact.WriteOptions{Limits: artifact.Limits{MaxFile: int64(size - 1)}}, artifact.ErrLimit},
		{"sections", artifact.WriteOptions{Limits: artifact.Limits{MaxSections: 6}}, artifact.ErrLimit},
		{"segments", artifact.WriteOptions{Limits: artifact.Limits{MaxSegments: 403}}, artifact.ErrLimit},
	} {
		t.Run(c.name, func(t *testing.T) {
			var b bytes.Buffer
			if _, err := artifact.Write(&b, small(), c.opts); !errors.Is(err, c.want) || b.Len() > 0 {
				t.Errorf("error %v after %d bytes, want %v", err, b.Len(), c.want)
			}
		})
	}
}

func TestLimits(t *testing.T) {
	b := encode(t, small(), artifact.WriteOptions{})
	a, err := read(b)
	if err != nil {
		t.Fatal(err)
	}
	raw := map[artifact.SectionType]int64{}
	for _, s := range a.Sections {
		raw[s.Type] += s.Raw
	}
	exact := artifact.Limits{
		MaxFile: int64(len(b)), MaxSections: len(a.Sections),
		MaxManifest: raw[artifact.SectionManifest], MaxKernel: raw[artifact.SectionKernel], MaxSegments: raw[artifact.SectionSegment],
		MaxItems: raw[artifact.SectionItems], MaxGoldens: raw[artifact.SectionGolden],
	}
	opts := artifact.ReadOptions{AllowUnsigned: true, Limits: exact}
	if _, err := artifact.Read(bytes.NewReader(b), int64(len(b)), opts); err != nil {
		t.Errorf("with the exact limits: %v", err)
	}
	for _, c := range []struct {
		name  string
		lower func(l *artifact.Limits)
	}{
		{"file", func(l *artifact.Limits) { l.MaxFile-- }},
		{"sections", func(l *artifact.Limits) { l.MaxSections-- }},
		{"manifest", func(l *artifact.Limits) { l.MaxManifest-- }},
		{"kernel", func(l *artifact.Limits) { l.MaxKernel-- }},
		{"segments", func(l *artifact.Limits) { l.MaxSegments-- }},
		{"items", func(l *artifact.Limits) { l.MaxItems-- }},
		{"goldens", func(l *artifact.Limits) { l.MaxGoldens-- }},
		{"negative", func(l *artifact.Limits) { l.MaxKernel = -1 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := opts
			c.lower(&o.Limits)
			if _, err := artifact.Read(bytes.NewReader(b), int64(len(b)), o); !errors.Is(err, artifact.ErrLimit) {
				t.Errorf("error %v, want ErrLimit", err)
			}
		})
	}
}
