package main

import (
	"crypto/ed25519"
	"os"
	"path/filepath"
	"testing"

	"github.com/wisp-project/wisp/artifact"
	"github.com/wisp-project/wisp/edge"
)

// TestPublish signs an artefact, publishes it, and has an edge fetch it from there.
func TestPublish(t *testing.T) {
	path := put(t, filepath.Join(t.TempDir(), "a.wisp"), get(t, madeChain(t).artefact))
	key, _ := newKey(t, "key")
	succeed(t, "sign", key, path)
	public, err := artifact.ReadPublicKey(key + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(t.TempDir(), "models")
	for as, args := range map[string][]string{"a": nil, "shop": {"--as", "shop"}} {
		head := filepath.Join(folder, as+".head")
		if out := succeed(t, append([]string{"publish", path, "--to", folder}, args...)...); out != head+"\n" {
			t.Errorf("publish says %q", out)
		}
		h, err := edge.NewHost(edge.HostOptions{Options: edge.Options{State: t.TempDir(), Trust: edge.Trust{Keys: []ed25519.PublicKey{public}}}})
		if err != nil {
			t.Fatal(err)
		}
		m, err := h.Open(t.Context(), "shop", head)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := m.Recommend(t.Context(), edge.Request{}); err != nil {
			t.Error(err)
		}
		if err := h.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
	fail(t, []string{"not the name of a file"}, "publish", path, "--to", folder, "--as", "../x")
	fail(t, []string{"no such file", "wisp compress"}, "publish", path+".none", "--to", folder)
	fail(t, []string{key}, "publish", path, "--to", key)
	if sections, err := os.ReadDir(filepath.Join(folder, "sections")); err != nil || len(sections) < 5 {
		t.Errorf("%d sections (%v)", len(sections), err)
	}
}
