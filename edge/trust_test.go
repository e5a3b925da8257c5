package edge_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/wisp-project/wisp/artifact"
	"github.com/wisp-project/wisp/edge"
	"github.com/wisp-project/wisp/internal/layout"
	"github.com/wisp-project/wisp/wasm"
)

// least is the smallest shape there is.
var least = layout.Shape{Items: 1, Dim: 1, Layers: 1, Heads: 1, FFN: 1, Window: 1, EventTypes: 1, GapBuckets: 1}

// key returns the key of the seed b, b, …, b.
func key(b byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{b}, ed25519.SeedSize))
}

func public(k ed25519.PrivateKey) ed25519.PublicKey { return k.Public().(ed25519.PublicKey) }

// save stores a, signed unless k is nil, and returns its path.
func save(t testing.TB, a *artifact.Artifact, k ed25519.PrivateKey) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "test.wisp")
	if err := artifact.WriteFile(path, a, artifact.WriteOptions{Raw: true, Key: k}); err != nil {
		t.Fatal(err)
	}
	return path
}

// tryOpen opens the artefact at path and closes it again. It reports whether its
// kernel was trusted.
func tryOpen(t testing.TB, path string, o edge.Options) (sliced bool, err error) {
	t.Helper()
	o.Sandboxes = 1
	r, err := edge.Open(t.Context(), path, o)
	if err != nil {
		if r != nil {
			t.Error("a runtime beside an error")
		}
		return false, err
	}
	sliced = edge.Sliced(r)
	if err := r.Close(t.Context()); err != nil {
		t.Error(err)
	}
	return sliced, nil
}

func TestTrust(t *testing.T) {
	data, kernels, stranger := key(1), key(2), key(3)
	own, _ := build(t, least)
	foreign := *own
	// A custom section changes the digest of a module and not what it does.
	foreign.Kernel = slices.Concat(wasm.Kernel, []byte{0, 3, 1, 'x', 0})
	trust := edge.Trust{Keys: []ed25519.PublicKey{public(data)}, KernelKeys: []ed25519.PublicKey{public(kernels)}}
	listed := trust
	listed.Kernels = [][32]byte{{}, sha256.Sum256(foreign.Kernel)}

	for _, c := range []struct {
		name   string
		a      *artifact.Artifact
		key    ed25519.PrivateKey
		o      edge.Options
		want   error // nil: accepted
		says   string
		sliced bool
	}{
		{name: "own kernel, data key", a: own, key: data, o: edge.Options{Trust: trust}, sliced: true},
		{name: "own kernel, kernel key", a: own, key: kernels, o: edge.Options{Trust: trust}, sliced: true},
		{name: "own kernel, unsigned", a: own, o: edge.Options{Trust: trust, AllowUnsigned: true}, sliced: true},
		{name: "foreign kernel, data key", a: &foreign, key: data, o: edge.Options{Trust: trust}},
		{name: "foreign kernel, kernel key", a: &foreign, key: kernels, o: edge.Options{Trust: trust}, sliced: true},
		{name: "foreign kernel, kernel key alone", a: &foreign, key: kernels, o: edge.Options{Trust: edge.Trust{KernelKeys: trust.KernelKeys}}, sliced: true},
		{name: "listed kernel, data key", a: &foreign, key: data, o: edge.Options{Trust: listed}, sliced: true},
		{name: "listed kernel, unsigned", a: &foreign, o: edge.Options{Trust: listed, AllowUnsigned: true}, sliced: true},
		{name: "foreign kernel, unsigned", a: &foreign, o: edge.Options{Trust: trust, AllowUnsigned: true}},
		{name: "foreign kernel, stranger, unsigned allowed", a: &foreign, key: stranger, o: edge.Options{Trust: trust, AllowUnsigned: true}},

		{name: "stranger", a: own, key: stranger, o: edge.Options{Trust: trust}, want: artifact.ErrUntrusted, says: artifact.NewKeyID(public(stranger)).String()},
		{name: "listed kernel, stranger", a: &foreign, key: stranger, o: edge.Options{Trust: listed}, want: artifact.ErrUntrusted},
		{name: "unsigned", a: own, o: edge.Options{Trust: trust}, want: artifact.ErrUnsigned, says: "wisp sign"},
		{name: "nobody trusted", a: own, key: data, want: artifact.ErrUntrusted},
		{name: "half a key", a: own, key: data, o: edge.Options{Trust: edge.Trust{KernelKeys: []ed25519.PublicKey{public(data)[:16]}}}, want: edge.ErrOptions, says: "16 bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			sliced, err := tryOpen(t, save(t, c.a, c.key), c.o)
			if !errors.Is(err, c.want) || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Fatalf("error %v, want %v that says %q", err, c.want, c.says)
			}
			if sliced != c.sliced {
				t.Errorf("the kernel is trusted: %v, want %v", sliced, c.sliced)
			}
		})
	}

	// What a file claims is no trust: only Read says that a signature is right.
	claim := foreign
	claim.Signature.Key = artifact.NewKeyID(public(kernels))
	if r := start(t, &claim, edge.Options{Trust: trust}); edge.Sliced(r) {
		t.Error("the kernel of an artefact is trusted for a key id without a signature")
	}
}
