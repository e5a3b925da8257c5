package artifact_test

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/wisp-project/wisp/artifact"
)

func TestCreateKey(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "key")
	id, err := artifact.CreateKey(path)
	if err != nil {
		t.Fatal(err)
	}
	private, err := artifact.ReadPrivateKey(path)
	if err != nil {
		t.Fatal(err)
	}
	pub, err := artifact.ReadPublicKey(path + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	if !pub.Equal(private.Public()) || artifact.NewKeyID(pub) != id {
		t.Error("the two files and the id are not of one key")
	}
	if info, err := os.Stat(path); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("the private key has the mode %v (error %v)", info.Mode(), err)
	}

	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := artifact.CreateKey(path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a second key at the same path: error %v, want fs.ErrExist", err)
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
		t.Error("the key that was there is gone")
	}
	other := filepath.Join(dir, "other")
	if err := os.WriteFile(other+".pub", []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := artifact.CreateKey(other); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a public key in the way: error %v, want fs.ErrExist", err)
	}
	if _, err := os.Stat(other); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("half a key is left (error %v)", err)
	}
	if _, err := artifact.CreateKey(filepath.Join(dir, "none", "key")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no folder: error %v, want fs.ErrNotExist", err)
	}
}

func block(t *testing.T, kind string, der []byte, err error) []byte {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func TestWrongKeys(t *testing.T) {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	x, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	secret := func(key any) []byte {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		return block(t, "PRIVATE KEY", der, err)
	}
	open := func(key any) []byte {
		der, err := x509.MarshalPKIXPublicKey(key)
		return block(t, "PUBLIC KEY", der, err)
	}
	ours, theirs := secret(key(1)), open(public(key(1)))
	for name, c := range map[string]struct {
		private, public []byte // nil: not tried
		says            string
	}{
		"empty":      {[]byte{}, []byte{}, "PEM"},
		"text":       {[]byte("no key"), []byte("no key"), "wisp keygen"},
		"RSA":        {secret(rsaKey), open(&rsaKey.PublicKey), "kind RSA, want ed25519"},
		"ECDSA":      {secret(ec), open(&ec.PublicKey), "kind ECDSA, want ed25519"},
		"X25519":     {secret(x), open(x.PublicKey()), "want ed25519"},
		"swapped":    {theirs, ours, "is wanted"},
		"two keys":   {append(bytes.Clone(ours), ours...), append(bytes.Clone(theirs), theirs...), "follows"},
		"encrypted":  {private: block(t, "ENCRYPTED PRIVATE KEY", []byte{1}, nil), says: "decrypt"},
		"OpenSSH":    {private: block(t, "OPENSSH PRIVATE KEY", []byte{1}, nil), says: `"OPENSSH PRIVATE KEY"`},
		"no DER":     {block(t, "PRIVATE KEY", []byte{1}, nil), block(t, "PUBLIC KEY", []byte{1}, nil), "unusable key"},
		"many bytes": {make([]byte, 100_000), make([]byte, 100_000), "no key file"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "k")
			check := func(content []byte, err error) {
				if !errors.Is(err, artifact.ErrKey) || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), path) {
					t.Errorf("%.60q: error %v, want ErrKey that says %q and names the file", content, err, c.says)
				}
			}
			for i, content := range [][]byte{c.private, c.public} {
				if content == nil {
					continue
				}
				if err := os.WriteFile(path, content, 0o600); err != nil {
					t.Fatal(err)
				}
				if i == 0 {
					_, err := artifact.ReadPrivateKey(path)
					check(content, err)
				} else {
					_, err := artifact.ReadPublicKey(path)
					check(content, err)
				}
			}
		})
	}
	if _, err := artifact.ReadPublicKey(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: error %v", err)
	}
}

// TestOpenSSL reads a key that openssl made, and has openssl verify a signature
// of ours from FORMAT.md's description.
func TestOpenSSL(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("openssl is missing")
	}
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	command := func(args ...string) {
		t.Helper()
		if out, err := exec.CommandContext(t.Context(), openssl, args...).CombinedOutput(); err != nil {
			t.Fatalf("openssl %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	command("genpkey", "-algorithm", "ed25519", "-out", path("key"))
	command("pkey", "-in", path("key"), "-pubout", "-out", path("key.pub"))
	private, err := artifact.ReadPrivateKey(path("key"))
	if err != nil {
		t.Fatal(err)
	}
	if pub, err := artifact.ReadPublicKey(path("key.pub")); err != nil || !pub.Equal(private.Public()) {
		t.Fatalf("the public half of openssl's key: %v", err)
	}
	b := encode(t, small(), artifact.WriteOptions{Key: private})
	for name, content := range map[string][]byte{"message": append([]byte("wisp artefact v1\x00"), b[64:96]...), "signature": b[136:200]} {
		if err := os.WriteFile(path(name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	command("pkeyutl", "-verify", "-pubin", "-inkey", path("key.pub"), "-rawin", "-in", path("message"), "-sigfile", path("signature"))
}
