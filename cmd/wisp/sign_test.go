package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/wisp-project/wisp/artifact"
	"github.com/wisp-project/wisp/hostgpu"
)

// newKey runs keygen and returns the path of the private key and its id.
func newKey(t *testing.T, name string) (path, id string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), name)
	stdout := succeed(t, "keygen", "--out", path)
	_, id, ok := strings.Cut(strings.TrimSpace(stdout), "\nkey ")
	if !ok || !strings.Contains(stdout, path+".pub") {
		t.Fatalf("keygen says %q", stdout)
	}
	return path, id
}

func TestSign(t *testing.T) {
	path := put(t, filepath.Join(t.TempDir(), "a.wisp"), get(t, madeChain(t).artefact))
	before := get(t, path)
	mine, id := newKey(t, "mine.key")
	other, otherID := newKey(t, "other.key")

	fail(t, []string{"not signed", "wisp sign", path}, "verify", "--key", mine+".pub", path)
	if out := succeed(t, "inspect", path); !strings.Contains(out, "\nnot signed\n") {
		t.Errorf("inspect of an unsigned artefact says\n%s", out)
	}
	if out := succeed(t, "sign", mine, path); !strings.Contains(out, path) || !strings.Contains(out, id) {
		t.Errorf("sign says %q", out)
	}
	want := fmt.Sprintf("%s: made version 1, signed with key %s\n", path, id)
	if out := succeed(t, "verify", "--key", mine+".pub", path); out != want {
		t.Errorf("verify says %q, want %q", out, want)
	}
	succeed(t, "verify", "--key", other+".pub", "--key", mine+".pub", path)
	fail(t, []string{id, "not trusted", path}, "verify", "--key", other+".pub", path)
	if out := succeed(t, "inspect", path); !strings.Contains(out, "signed with key "+id) || !strings.Contains(out, "wisp verify") {
		t.Errorf("inspect of a signed artefact says\n%s", out)
	}
	succeed(t, "recommend", path, "--history", "i00001")

	forged := get(t, path)
	forged[150] ^= 1
	bad := put(t, filepath.Join(t.TempDir(), "forged.wisp"), forged)
	fail(t, []string{"invalid signature", "forged", bad}, "verify", "--key", mine+".pub", bad)

	succeed(t, "sign", other, path)
	if out := succeed(t, "verify", "--key", other+".pub", path); !strings.Contains(out, otherID) {
		t.Errorf("signed again, verify says %q", out)
	}
	after := get(t, path)
	if len(after) != len(before) || !bytes.Equal(after[:96], before[:96]) || !bytes.Equal(after[200:], before[200:]) {
		t.Error("signing changed more than the signature")
	}
}

func TestBadKeys(t *testing.T) {
	path := put(t, filepath.Join(t.TempDir(), "a.wisp"), get(t, madeChain(t).artefact))
	key, _ := newKey(t, "key")
	before := snapshot(t, path, key)
	for name, c := range map[string]struct{ args, say []string }{
		"keygen over a key":       {[]string{"keygen", "--out", key}, []string{key, "exists", "name another file"}},
		"keygen into no folder":   {[]string{"keygen", "--out", filepath.Join(path, "key")}, []string{"no folder"}},
		"sign with a public key":  {[]string{"sign", key + ".pub", path}, []string{"public key where the private one is wanted", key + ".pub"}},
		"sign without a key":      {[]string{"sign", key + ".none", path}, []string{"no such file", "wisp keygen"}},
		"sign with an artefact":   {[]string{"sign", path, path}, []string{"unusable key", path}},
		"sign a key":              {[]string{"sign", key, key}, []string{key, "too few"}},
		"sign nothing":            {[]string{"sign", key, path + ".none"}, []string{"no such file", "wisp compress"}},
		"verify with the private": {[]string{"verify", "--key", key, path}, []string{"private key where the public one is wanted", key}},
	} {
		t.Run(name, func(t *testing.T) {
			fail(t, c.say, c.args...)
			if snapshot(t, path, key) != before {
				t.Error("what was there is not what it was")
			}
		})
	}
	if info, err := os.Stat(key); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the private key has the mode %v (error %v)", info.Mode(), err)
	}
}

// TestProvenance expects in the artefact what somebody needs to make it again, and
// no path of this machine.
func TestProvenance(t *testing.T) {
	c := madeChain(t)
	a, err := artifact.Open(c.artefact, artifact.ReadOptions{AllowUnsigned: true})
	if err != nil {
		t.Fatal(err)
	}
	p := a.Manifest.Provenance
	if p == nil || p.Wisp == "" || !strings.HasPrefix(p.Go, "go") {
		t.Fatalf("%+v", p)
	}
	want := "wisp compress model --created=2024-05-01T00:00:00Z --data=prepared --licence=data=CC0-1.0"
	if len(p.Commands) != 3 || p.Commands[2] != want || p.BLAS != hostgpu.BLAS().Name ||
		!strings.HasPrefix(p.Commands[0], "wisp prepare ") || !strings.Contains(p.Commands[0], "--events=events.jsonl") ||
		!strings.HasPrefix(p.Commands[1], "wisp train prepared ") || strings.Contains(p.Commands[1], "--out") {
		t.Errorf("the commands are %q, with %q; want one to prepare, one to train, and %q", p.Commands, p.BLAS, want)
	}
	digests := map[string]string{}
	for _, s := range p.Sources {
		digests[s.Name] = s.SHA256
	}
	for _, path := range []string{
		filepath.Join(madeData, "events.jsonl"), filepath.Join(madeData, "items.jsonl"), filepath.Join(madeData, "users.jsonl"),
		filepath.Join(c.prepared, "events.parquet"), filepath.Join(c.model, modelFile),
	} {
		if name := filepath.Base(path); digests[name] != fmt.Sprintf("%x", sha256.Sum256(get(t, path))) {
			t.Errorf("%s has the digest %q", name, digests[name])
		}
	}
	out := succeed(t, "inspect", c.artefact)
	for _, say := range []string{want, p.Commands[0], p.Commands[1], p.Go, p.BLAS, digests["events.jsonl"], fmt.Sprintf("kernel SHA-256 %x, that of this version", sha256.Sum256(a.Kernel))} {
		if !strings.Contains(out, say) {
			t.Errorf("inspect does not say %q:\n%s", say, out)
		}
	}
	if strings.Contains(out, temporary) {
		t.Errorf("the artefact holds a path of this machine:\n%s", out)
	}
}
