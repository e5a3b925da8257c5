package artifact_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/wisp-project/wisp/artifact"
)

// small returns an artefact of every feature in a few hundred bytes.
func small() *artifact.Artifact {
	return &artifact.Artifact{
		Manifest: artifact.Manifest{
			Name: "corner-shop", Version: 7, Tenant: "north", ABI: 1,
			Model: artifact.ModelInfo{
				Items: 3, Dim: 8, Layers: 2, Heads: 2, FFN: 16, Window: 4, EventTypes: 3, GapBuckets: 5,
				Text: artifact.TextInfo{Vocabulary: 50, Tokens: 16, Dim: 6, Layers: 1, Heads: 3, FFN: 12, UserMap: true},
			},
			EventTypes: []artifact.EventType{{Name: "view"}, {Name: "rating", AtLeast: 0.5}, {Name: "rating", AtLeast: 3.7}},
			Limits:     artifact.ManifestLimits{MaxHistory: 100, MaxK: 10, MemoryPages: 4},
			Metrics:    []artifact.Metric{{Name: "ndcg@10", Value: 0.25, Low: 0.2, High: 0.3, N: 40, Protocol: "leave one out"}},
			Licences:   []artifact.Licence{{What: "data", Licence: "CC-BY-4.0", Notice: "© made up\n<all> & \"sundry\""}},
			Created:    "2025-01-02T03:04:05Z",
			Provenance: &artifact.Provenance{
				Wisp: "v0.1.0", Go: "go1.26.0", BLAS: "OpenBLAS 0.3.26", Commands: []string{"wisp compress model --data prepared"},
				Sources: []artifact.Source{{Name: "events.parquet", SHA256: strings.Repeat("0123456789abcdef", 4)}},
			},
		},
		Kernel: []byte("\x00asm\x01\x00\x00\x00"),
		Segments: []artifact.Segment{
			{Name: "header", Data: []byte{1, 2, 3}},
			{Name: "user", Data: bytes.Repeat([]byte{0, 0, 0, 1}, 100)},
			{Name: "items", Data: []byte{255}},
		},
		Items: []artifact.Item{
			{ID: "sku-1", Title: "Tea \u2013 <strong> & black", Categories: []string{"drinks", "tea"}},
			{ID: "曲-2", Title: "A song"},
			{ID: "3"},
		},
		Goldens: []artifact.Golden{
			{Request: []byte{0}, Answer: []byte{1, 2, 3}},
			{Request: []byte("r"), Answer: []byte("a")},
		},
	}
}

func encode(t testing.TB, a *artifact.Artifact, opts artifact.WriteOptions) []byte {
	t.Helper()
	var b bytes.Buffer
	n, err := artifact.Write(&b, a, opts)
	if err != nil {
		t.Fatal(err)
	}
	if n != int64(b.Len()) {
		t.Fatalf("Write returned %d, wrote %d bytes", n, b.Len())
	}
	return b.Bytes()
}

func read(b []byte) (*artifact.Artifact, error) {
	return artifact.Read(bytes.NewReader(b), int64(len(b)), artifact.ReadOptions{AllowUnsigned: true})
}

// The functions below put files together from FORMAT.md alone, so that the
// writer and the reader cannot agree on something else.

// part is a section of a file under construction. With raw 0 it is stored as it
// is, with align 0 at a multiple of 64.
type part struct {
	typ, align uint32
	name       string
	stored     []byte
	raw        int64 // declared, where the stored bytes are a zstd frame
}

// parts returns the sections of a small valid file.
func parts() []part {
	golden := []byte{1, 0, 0, 0, 1, 0, 0, 0, 'r', 1, 0, 0, 0, 'a'}
	return []part{
		{typ: 1, stored: []byte(`{"name":"n","version":1,"abi":1,` +
			`"model":{"items":2,"dim":8,"layers":1,"heads":1,"ffn":8,"window":4,"event_types":1,"gap_buckets":2},` +
			`"event_types":[{"name":"view","at_least":0}],"limits":{"max_history":5,"max_k":5,"memory_pages":1}}`)},
		{typ: 2, stored: []byte("kernel")},
		{typ: 3, name: "image", stored: []byte("image")},
		{typ: 4, stored: []byte(`[{"id":"a"},{"id":"b","title":"B","categories":["c"]}]`)},
		{typ: 5, stored: golden},
	}
}

// build lays out a file with the right digests.
func build(parts []part) []byte {
	le := binary.LittleEndian
	b := make([]byte, 256+96*len(parts))
	copy(b, "WISP\x89\r\n\n")
	le.PutUint32(b[8:], 1)
	le.PutUint32(b[12:], uint32(len(parts)))
	le.PutUint64(b[24:], 256)
	le.PutUint64(b[32:], uint64(96*len(parts)))
	for i, p := range parts {
		e := 256 + 96*i
		raw, codec, align := int64(len(p.stored)), uint32(0), uint32(64)
		if p.raw != 0 {
			raw, codec = p.raw, 1
		}
		if p.align != 0 {
			align = p.align
		}
		for len(b)%int(align) != 0 {
			b = append(b, 0)
		}
		le.PutUint32(b[e:], p.typ)
		le.PutUint32(b[e+4:], codec)
		le.PutUint32(b[e+8:], align)
		le.PutUint64(b[e+16:], uint64(len(b)))
		le.PutUint64(b[e+24:], uint64(len(p.stored)))
		le.PutUint64(b[e+32:], uint64(raw))
		copy(b[e+40:e+56], p.name)
		digest := sha256.Sum256(p.stored)
		copy(b[e+56:], digest[:])
		b = append(b, p.stored...)
	}
	le.PutUint64(b[16:], uint64(len(b)))
	return seal(b)
}

// seal sets the digest over header and table after they were changed.
func seal(b []byte) []byte {
	h := sha256.New()
	h.Write(b[:64])
	h.Write(b[256 : 256+96*binary.LittleEndian.Uint32(b[12:])])
	copy(b[64:96], h.Sum(nil))
	return b
}

// frame compresses raw with settings that the writer does not use.
func frame(t testing.TB, raw []byte, opts ...zstd.EOption) []byte {
	t.Helper()
	enc, err := zstd.NewWriter(nil, opts...)
	if err != nil {
		t.Fatal(err)
	}
	defer enc.Close() //nolint:errcheck // EncodeAll leaves nothing to flush
	return enc.EncodeAll(raw, nil)
}
