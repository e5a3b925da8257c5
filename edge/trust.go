package edge

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"slices"

	"github.com/wisp-project/wisp/artifact"
	"github.com/wisp-project/wisp/wasm"
)

// Trust says whose artefacts and whose kernels a runtime believes. The zero value
// trusts nobody, and no kernel but the one that this package was built with.
type Trust struct {
	// Keys are the public keys of those whose artefacts are accepted. See
	// artifact.ReadOptions for rotation and revocation.
	Keys []ed25519.PublicKey
	// KernelKeys are accepted as Keys are, and the kernels of the artefacts that
	// they signed are trusted.
	KernelKeys []ed25519.PublicKey
	// Kernels are digests, SHA-256 of the WebAssembly module, of kernels that are
	// trusted whoever signed the artefact.
	Kernels [][sha256.Size]byte
}

// validate reports the first key that is none.
func (t Trust) validate() error {
	for i, k := range t.keys() {
		if len(k) != ed25519.PublicKeySize {
			return fmt.Errorf("%w: trusted key %d has %d bytes, ed25519 has %d", ErrOptions, i, len(k), ed25519.PublicKeySize)
		}
	}
	return nil
}

func (t Trust) keys() []ed25519.PublicKey { return slices.Concat(t.Keys, t.KernelKeys) }

// kernel reports whether the kernel of a is believed to return after each slice
// of work. Any other is watched by the engine: slower, and as well contained.
func (t Trust) kernel(a *artifact.Artifact) bool {
	if bytes.Equal(a.Kernel, wasm.Kernel) || slices.Contains(t.Kernels, sha256.Sum256(a.Kernel)) {
		return true
	}
	return a.Signature.Trusted && slices.ContainsFunc(t.KernelKeys, func(k ed25519.PublicKey) bool {
		return artifact.NewKeyID(k) == a.Signature.Key
	})
}
