package main_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/wisp-project/wisp/artifact"
	"github.com/wisp-project/wisp/internal/layout"
	"github.com/wisp-project/wisp/wasm"
)

// signer makes a key and returns the path of its public half and what signs
// with it.
func signer(t *testing.T) (pub string, sign func(a *artifact.Artifact) (path string)) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key")
	if _, err := artifact.CreateKey(path); err != nil {
		t.Fatal(err)
	}
	key, err := artifact.ReadPrivateKey(path)
	if err != nil {
		t.Fatal(err)
	}
	return path + ".pub", func(a *artifact.Artifact) string {
		t.Helper()
		file := write(t, a)
		if err := artifact.SignFile(file, key); err != nil {
			t.Fatal(err)
		}
		return file
	}
}

// serves launches a gateway that must get ready, stops it and returns its log.
func serves(t *testing.T, path string, args ...string) string {
	t.Helper()
	p := launch(t, append(args, path)...)
	p.awaitReady(t)
	p.stop()
	if err := p.wait(t); err != nil {
		t.Fatal(err)
	}
	return p.log.String()
}

func TestTrust(t *testing.T) {
	least := layout.Shape{Items: 3, Dim: 2, Layers: 1, Heads: 1, FFN: 2, Window: 2, EventTypes: 3, GapBuckets: 2}
	pub, sign := signer(t)
	other, signOther := signer(t)
	a := buildShape(t, least)
	path := sign(a)
	key, err := artifact.ReadPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	id := artifact.NewKeyID(key).String()

	foreign := *a
	foreign.Kernel = slices.Concat(wasm.Kernel, []byte{0, 3, 1, 'x', 0}) // a custom section
	digest := fmt.Sprintf("%x", sha256.Sum256(foreign.Kernel))

	for _, args := range [][]string{{"--trust", pub}, {"--trust", other, "--trust", pub}, {"--trust-kernels", pub}} {
		if log := serves(t, path, args...); !strings.Contains(log, id) {
			t.Errorf("%v: the log does not name the signer:\n%s", args, log)
		}
	}
	serves(t, sign(&foreign), "--trust", pub, "--trust-kernel", digest)
	_, err = fails(t, "--addr", "127.0.0.1:0", "--trust", other, path)
	if !errors.Is(err, artifact.ErrUntrusted) || !strings.Contains(err.Error(), id) || !strings.Contains(err.Error(), "--trust") {
		t.Errorf("another key: error %v, want ErrUntrusted that names the key and --trust", err)
	}
	_, err = fails(t, "--addr", "127.0.0.1:0", "--trust", pub, signOther(a))
	if !errors.Is(err, artifact.ErrUntrusted) {
		t.Errorf("another signer: error %v, want ErrUntrusted", err)
	}
	_, err = fails(t, "--trust", strings.TrimSuffix(pub, ".pub"), path)
	if err == nil || !strings.Contains(err.Error(), "private key") {
		t.Errorf("a private key: error %v", err)
	}
}

// TestState starts gateways one after the other, as an operator does.
func TestState(t *testing.T) {
	least := layout.Shape{Items: 3, Dim: 2, Layers: 1, Heads: 1, FFN: 2, Window: 2, EventTypes: 3, GapBuckets: 2}
	pub, sign := signer(t)
	a := buildShape(t, least)
	older := sign(a)
	a.Manifest.Version++
	newer := sign(a)
	args := []string{"--trust", pub, "--state", filepath.Join(t.TempDir(), "state")}

	version := func(path string, args ...string) string {
		t.Helper()
		log := serves(t, path, args...)
		_, after, _ := strings.Cut(log, `"version":`)
		return after[:1] + map[bool]string{true: " refused"}[strings.Contains(log, "version refused")]
	}
	for i, c := range []struct {
		path string
		args []string
		want string
	}{
		{older, args, "7"},
		{newer, args, "8"},
		{older, args, "8 refused"}, // it serves what it has
		{newer, args, "8"},
		{older, append(args[:len(args):len(args)], "--force-version"), "7"},
		{older, args, "7"},
		{filepath.Join(t.TempDir(), "none.wisp"), args, "7"},
	} {
		if got := version(c.path, c.args...); got != c.want {
			t.Errorf("start %d serves version %s, want %s", i, got, c.want)
		}
	}
	// Nothing was accepted here yet.
	_, err := fails(t, append(append([]string{"--addr", "127.0.0.1:0"}, args[:2]...), "--state", t.TempDir(), filepath.Join(t.TempDir(), "none.wisp"))...)
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v, want ErrNotExist", err)
	}
}
