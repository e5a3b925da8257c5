package artifact_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/wisp-project/wisp/artifact"
	"github.com/wisp-project/wisp/artifact/artifacttest"
)

// key returns the key of the seed b, b+1, …, b+31.
func key(b byte) ed25519.PrivateKey {
	seed := make([]byte, ed25519.SeedSize)
	for i := range seed {
		seed[i] = b + byte(i)
	}
	return ed25519.NewKeyFromSeed(seed)
}

func public(k ed25519.PrivateKey) ed25519.PublicKey { return k.Public().(ed25519.PublicKey) }

// place fills the signature place of b from FORMAT.md alone.
func place(b []byte, k ed25519.PrivateKey) []byte {
	artifacttest.Sign(b, k)
	return b
}

// readSigned reads b as one who trusts the keys.
func readSigned(b []byte, keys ...ed25519.PrivateKey) (*artifact.Artifact, error) {
	var opts artifact.ReadOptions
	for _, k := range keys {
		opts.Keys = append(opts.Keys, public(k))
	}
	return artifact.Read(bytes.NewReader(b), int64(len(b)), opts)
}

// TestSignatureVector compares a file that is signed with the numbers in
// FORMAT.md.
func TestSignatureVector(t *testing.T) {
	format, err := os.ReadFile("FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "a.wisp")
	if err := os.WriteFile(path, build(parts()), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := artifact.SignFile(path, key(0)); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, bytes := range map[string][]byte{
		"private key": key(0).Seed(), "public key": public(key(0)),
		"digest": b[64:96], "key id": b[104:136], "message": slices.Concat([]byte("wisp artefact v1\x00"), b[64:96]),
		"signature, first half": b[136:168], "signature, second half": b[168:200],
	} {
		if !strings.Contains(string(format), hex.EncodeToString(bytes)) {
			t.Errorf("FORMAT.md lacks the %s of the test vector: %x", name, bytes)
		}
	}
}

func TestSigned(t *testing.T) {
	b := encode(t, small(), artifact.WriteOptions{Key: key(1)})
	if want := place(encode(t, small(), artifact.WriteOptions{}), key(1)); !bytes.Equal(b, want) {
		t.Error("a signed file is not the unsigned one with its signature place filled in")
	}
	id := artifact.NewKeyID(public(key(1)))
	for name, keys := range map[string][]ed25519.PrivateKey{
		"its key": {key(1)}, "its key second": {key(2), key(1)}, "its key first": {key(1), key(2)},
	} {
		a, err := readSigned(b, keys...)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if a.Signature != (artifact.Signature{Key: id, Trusted: true}) {
			t.Errorf("%s: the signature is %+v", name, a.Signature)
		}
	}
	a, err := read(b) // allows unsigned
	if err != nil || a.Signature != (artifact.Signature{Key: id}) {
		t.Errorf("without keys the signature is %+v, error %v; want the id, not trusted", a.Signature, err)
	}
	if unsigned, err := read(encode(t, small(), artifact.WriteOptions{})); err != nil || unsigned.Signature != (artifact.Signature{}) || unsigned.Digest != a.Digest {
		t.Errorf("unsigned: %+v, digest %x, want %x (error %v)", unsigned.Signature, unsigned.Digest, a.Digest, err)
	}
	var nothing bytes.Buffer
	if _, err := artifact.Write(&nothing, small(), artifact.WriteOptions{Key: key(1)[:63]}); !errors.Is(err, artifact.ErrKey) || nothing.Len() > 0 {
		t.Errorf("a key of 63 bytes: error %v, want ErrKey", err)
	}
}

// TestForgedSignature has files that somebody without the trusted key may make.
func TestForgedSignature(t *testing.T) {
	trusted, other := key(1), key(2)
	file := func() []byte { return place(build(parts()), trusted) }
	id := sha256.Sum256(public(trusted))
	for _, c := range []struct {
		name  string
		forge func(b []byte) []byte
		allow bool  // AllowUnsigned
		want  error // nil: accepted
		says  string
	}{
		{name: "unchanged", forge: func(b []byte) []byte { return b }},
		{name: "unchanged, unsigned allowed", allow: true, forge: func(b []byte) []byte { return b }},
		{name: "another key", forge: func(b []byte) []byte { return place(b, other) }, want: artifact.ErrUntrusted, says: artifact.NewKeyID(public(other)).String()},
		{name: "another key, unsigned allowed", allow: true, forge: func(b []byte) []byte { return place(b, other) }},
		{name: "another key under the trusted id", forge: func(b []byte) []byte { copy(place(b, other)[104:], id[:]); return b }, want: artifact.ErrSignature, says: "forged"},
		{
			name: "another key under the trusted id, unsigned allowed", allow: true,
			forge: func(b []byte) []byte { copy(place(b, other)[104:], id[:]); return b }, want: artifact.ErrSignature, says: "forged",
		},
		{name: "the trusted signature under another id", forge: func(b []byte) []byte { b[104] ^= 1; return b }, want: artifact.ErrUntrusted},
		{name: "stripped", forge: func(b []byte) []byte { clear(b[96:200]); return b }, want: artifact.ErrUnsigned, says: "wisp sign"},
		{name: "no signature", forge: func(b []byte) []byte { clear(b[136:200]); return b }, want: artifact.ErrSignature},
		{name: "no key id", forge: func(b []byte) []byte { clear(b[104:136]); return b }, want: artifact.ErrFormat, says: "id of a key"},
		{name: "algorithm 2", forge: func(b []byte) []byte { b[96] = 2; return b }, want: artifact.ErrSignature, says: "algorithm 2"},
		{name: "algorithm 0", forge: func(b []byte) []byte { b[96] = 0; return b }, want: artifact.ErrFormat, says: "not zero"},
		{name: "reserved", forge: func(b []byte) []byte { b[100] = 1; return b }, want: artifact.ErrFormat, says: "reserved"},
		{name: "the signature of another file", forge: func([]byte) []byte {
			forged := build(set(1, "another kernel")(parts()))
			copy(forged[96:200], file()[96:200])
			return forged
		}, want: artifact.ErrSignature},
		{name: "the table of another file", forge: func(b []byte) []byte {
			table := build(set(1, "KERNEL")(parts())) // the lengths are those of b
			copy(b[:96], table)
			copy(b[256:736], table[256:])
			return b
		}, want: artifact.ErrSignature},
		{name: "a section of another file", forge: func(b []byte) []byte {
			copy(b[binary.LittleEndian.Uint64(b[256+96+16:]):], "KERNEL")
			return b
		}, want: artifact.ErrDigest},
		{name: "a signature without the domain", forge: func(b []byte) []byte { copy(b[136:], ed25519.Sign(trusted, b[64:96])); return b }, want: artifact.ErrSignature},
		{name: "a signature for another purpose", forge: func(b []byte) []byte {
			copy(b[136:], ed25519.Sign(trusted, slices.Concat([]byte("wisp artefact v2\x00"), b[64:96])))
			return b
		}, want: artifact.ErrSignature},
		{name: "S plus the order of the group", forge: func(b []byte) []byte {
			order, _ := new(big.Int).SetString("7237005577332262213973186563042994240857116359379907606001950938285454250989", 10)
			s := slices.Clone(b[168:200])
			slices.Reverse(s)
			s = new(big.Int).Add(new(big.Int).SetBytes(s), order).FillBytes(make([]byte, 32))
			slices.Reverse(s)
			copy(b[168:], s)
			return b
		}, want: artifact.ErrSignature},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := c.forge(file())
			opts := artifact.ReadOptions{Keys: []ed25519.PublicKey{public(trusted)}, AllowUnsigned: c.allow}
			a, err := artifact.Read(bytes.NewReader(b), int64(len(b)), opts)
			if !errors.Is(err, c.want) || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Fatalf("error %v, want %v that says %q", err, c.want, c.says)
			}
			if err == nil && a.Signature.Trusted != bytes.Equal(b, file()) {
				t.Errorf("trusted: %v", a.Signature.Trusted)
			}
		})
	}
	t.Run("nobody is trusted", func(t *testing.T) {
		if _, err := readSigned(file()); !errors.Is(err, artifact.ErrUntrusted) || !strings.Contains(err.Error(), hex.EncodeToString(id[:])) {
			t.Errorf("error %v, want ErrUntrusted that names the key", err)
		}
	})
	t.Run("revoked", func(t *testing.T) {
		if _, err := readSigned(file(), other); !errors.Is(err, artifact.ErrUntrusted) {
			t.Errorf("error %v, want ErrUntrusted", err)
		}
	})
	t.Run("a trusted key of 31 bytes", func(t *testing.T) {
		b := file()
		_, err := artifact.Read(bytes.NewReader(b), int64(len(b)), artifact.ReadOptions{Keys: []ed25519.PublicKey{public(trusted)[:31]}})
		if !errors.Is(err, artifact.ErrKey) {
			t.Errorf("error %v, want ErrKey", err)
		}
	})
}

// reach remembers how far into a file a reader went.
type reach struct {
	io.ReaderAt
	end int64
}

func (r *reach) ReadAt(b []byte, off int64) (int, error) {
	r.end = max(r.end, off+int64(len(b)))
	return r.ReaderAt.ReadAt(b, off)
}

// TestSignatureComesFirst expects that no byte of a section is looked at in a
// file that the reader does not trust.
func TestSignatureComesFirst(t *testing.T) {
	for name, b := range map[string][]byte{
		"unsigned":    build(parts()),
		"another key": place(build(parts()), key(2)),
		"forged":      func() []byte { b := place(build(parts()), key(1)); b[199] ^= 1; return b }(),
	} {
		r := &reach{ReaderAt: bytes.NewReader(b)}
		if _, err := artifact.Read(r, int64(len(b)), artifact.ReadOptions{Keys: []ed25519.PublicKey{public(key(1))}}); err == nil {
			t.Errorf("%s: accepted", name)
		}
		if table := int64(256 + 96*len(parts())); r.end != table {
			t.Errorf("%s: read to byte %d, header and table end at %d", name, r.end, table)
		}
	}
}

func TestSignFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.wisp")
	b := encode(t, small(), artifact.WriteOptions{})
	if err := os.WriteFile(path, b, 0o640); err != nil {
		t.Fatal(err)
	}
	for _, k := range []ed25519.PrivateKey{key(1), key(2), key(2)} { // signed, signed by another, and again
		if err := artifact.SignFile(path, k); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, place(bytes.Clone(b), k)) {
			t.Error("more than the signature place changed, or less")
		}
		if _, err := artifact.Open(path, artifact.ReadOptions{Keys: []ed25519.PublicKey{public(k)}}); err != nil {
			t.Error(err)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("the mode is %v (error %v), was 0640", info.Mode(), err)
	}

	damaged := bytes.Clone(b)
	damaged[len(b)-1] ^= 1
	bad := filepath.Join(dir, "bad.wisp")
	if err := os.WriteFile(bad, damaged, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		path string
		key  ed25519.PrivateKey
		want error
	}{
		"damaged":   {bad, key(1), artifact.ErrDigest},
		"missing":   {filepath.Join(dir, "none.wisp"), key(1), fs.ErrNotExist},
		"short key": {path, key(1)[:32], artifact.ErrKey},
	} {
		if err := artifact.SignFile(c.path, c.key); !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.path) {
			t.Errorf("%s: error %v, want %v that names the file", name, err, c.want)
		}
	}
	if err := artifact.SignFile(dir, key(1)); err == nil || !strings.Contains(err.Error(), "is not a file") {
		t.Errorf("a folder: error %v", err)
	}
	if got, err := os.ReadFile(bad); err != nil || !bytes.Equal(got, damaged) {
		t.Errorf("a damaged file was changed (error %v)", err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 2 {
		t.Errorf("something is left over: %v (error %v)", entries, err)
	}
}

func BenchmarkVerify(b *testing.B) {
	file := encode(b, small(), artifact.WriteOptions{Key: key(1)})
	for name, opts := range map[string]artifact.ReadOptions{"unsigned": {AllowUnsigned: true}, "signed": {Keys: []ed25519.PublicKey{public(key(1))}}} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := artifact.ReadTable(bytes.NewReader(file), int64(len(file)), opts); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
