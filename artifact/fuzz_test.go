package artifact_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/wisp-project/wisp/artifact"
	"github.com/wisp-project/wisp/artifact/artifacttest"
)

// reencode checks that what was read can be written, and that what was written
// is read and written again as the same bytes.
func reencode(t *testing.T, a *artifact.Artifact) {
	t.Helper()
	first := encode(t, a, artifact.WriteOptions{Level: 1})
	again, err := read(first)
	if err != nil {
		t.Fatalf("Write gave what Read refuses: %v", err)
	}
	if !bytes.Equal(first, encode(t, again, artifact.WriteOptions{Level: 1})) {
		t.Fatal("a file that was read and written has other bytes")
	}
}

// FuzzRead reads anything. The digests are set right first, or nothing behind
// them would ever be reached.
func FuzzRead(f *testing.F) {
	f.Add(encode(f, small(), artifact.WriteOptions{}))
	f.Add(encode(f, small(), artifact.WriteOptions{Raw: true}))
	f.Add(build(parts()))
	f.Add(build(zip(stream(f, make([]byte, 400_000)), 400_000)(parts())))
	f.Add(build(zip(frame(f, make([]byte, 5000)), 4999)(parts())))
	f.Add([]byte("WISP"))
	opts := artifact.ReadOptions{AllowUnsigned: true, Limits: artifact.Limits{MaxSegments: 16 << 20, MaxItems: 16 << 20}}
	f.Fuzz(func(t *testing.T, b []byte) {
		artifacttest.Reseal(b)
		a, err := artifact.Read(bytes.NewReader(b), int64(len(b)), opts)
		if err != nil {
			return
		}
		reencode(t, a)
	})
}

// FuzzSigned reads anything as one who trusts a key, with digests set right. The
// signature is either made right as well, so that what lies behind it is reached,
// or anything: then nothing but the right one may be accepted.
func FuzzSigned(f *testing.F) {
	signed := encode(f, small(), artifact.WriteOptions{Key: key(1)})
	for _, sign := range []bool{false, true} {
		f.Add(signed, signed[96:200], sign)
		f.Add(build(parts()), place(build(parts()), key(2))[96:200], sign)
		f.Add(build(parts()), make([]byte, 104), sign)
	}
	f.Fuzz(func(t *testing.T, b, signature []byte, sign bool) {
		if len(b) < 256 {
			return
		}
		artifacttest.Reseal(b)
		right := place(bytes.Clone(b), key(1))
		copy(b[96:200], signature)
		if sign {
			b = right
		}
		a, err := readSigned(b, key(1))
		if err != nil {
			return
		}
		if !bytes.Equal(b, right) || !a.Signature.Trusted {
			t.Fatalf("a forgery was accepted: %x", b[96:200])
		}
		reencode(t, a)
	})
}

// FuzzManifest reads any manifest within a file that is right otherwise.
func FuzzManifest(f *testing.F) {
	p := parts()
	f.Add(p[0].stored)
	a, err := read(encode(f, small(), artifact.WriteOptions{Raw: true}))
	if err != nil {
		f.Fatal(err)
	}
	whole := encode(f, small(), artifact.WriteOptions{Raw: true})
	s := a.Sections[0]
	f.Add(whole[s.Offset : s.Offset+s.Stored])
	f.Add([]byte(`{"name":"a","name":"b"}`))
	f.Add([]byte(`{"metrics":[{"value":1e308,"name":"\ud800"}]}`))
	f.Fuzz(func(t *testing.T, manifest []byte) {
		a, err := read(build(set(0, string(manifest))(parts())))
		if err != nil {
			return
		}
		if err := a.Validate(); err != nil {
			t.Fatalf("Read accepted what Validate refuses: %v", err)
		}
		reencode(t, a)
	})
}

// TestMutants reads mutants of files of all kinds, as signed with a key that is
// trusted, and as forged.
func TestMutants(t *testing.T) {
	n := 6000
	if testing.Short() {
		n = 1000
	}
	var bases [][]byte
	for _, opts := range []artifact.WriteOptions{{Key: key(1)}, {Key: key(1), Raw: true}} {
		bases = append(bases, encode(t, small(), opts))
	}
	bases = append(bases, place(build(parts()), key(1)), place(build(zip(stream(t, make([]byte, 400_000)), 400_000)(parts())), key(1)))
	rng := rand.New(rand.NewPCG(31, 32))
	accepted := 0
	for i := range n {
		base := bases[i%len(bases)]
		b := artifacttest.File(rng, base)
		if _, err := readSigned(b, key(1)); err == nil && !bytes.Equal(b, base) {
			t.Fatalf("mutant %d is a forgery, and was accepted", i)
		}
		artifacttest.Sign(b, key(1))
		a, err := readSigned(b, key(1))
		if err != nil {
			if !damaged(err) && !errors.Is(err, artifact.ErrManifest) && !errors.Is(err, artifact.ErrContent) {
				t.Fatalf("mutant %d: error %v", i, err)
			}
			continue
		}
		accepted++
		reencode(t, a)
		_, _ = a.Image() // whatever it says, it does not panic
	}
	if accepted < n/100 || accepted > n/2 {
		t.Errorf("%d of %d mutants were accepted: they are too wild, or too tame", accepted, n)
	}
}
