package edge_test

import (
	"crypto/ed25519"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/wisp-project/wisp/artifact"
	"github.com/wisp-project/wisp/edge"
)

// TestBadInput opens what cannot be opened: each error says what it is, and what to
// do where that is not plain.
func TestBadInput(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	a, q := build(t, mid)
	good := save(t, a, key(1))
	content, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	trusts := func(o edge.Options) edge.Options {
		o.Trust.Keys = []ed25519.PublicKey{public(key(1))}
		return o
	}
	for name, c := range map[string]struct {
		path string
		o    edge.Options
		want error
		says string
	}{
		"missing":          {filepath.Join(dir, "none.wisp"), trusts(edge.Options{}), fs.ErrNotExist, "none.wisp"},
		"a folder":         {dir, trusts(edge.Options{}), syscall.EISDIR, dir},
		"empty":            {file("empty.wisp", "", 0o600), trusts(edge.Options{}), artifact.ErrFormat, "empty.wisp"},
		"half":             {file("half.wisp", string(content[:len(content)/2]), 0o600), trusts(edge.Options{}), artifact.ErrFormat, "cut off"},
		"text":             {file("text.wisp", strings.Repeat("wisp ", 100), 0o600), trusts(edge.Options{}), artifact.ErrFormat, "not a .wisp file"},
		"unreadable":       {file("secret.wisp", string(content), 0), trusts(edge.Options{}), fs.ErrPermission, "secret.wisp"},
		"memory":           {good, trusts(edge.Options{MaxMemory: int64(q.Map().End) - 1}), edge.ErrLimit, "allow more"},
		"file limit":       {good, trusts(edge.Options{Limits: artifact.Limits{MaxFile: 1000}}), artifact.ErrLimit, "at most 1000"},
		"image limit":      {good, trusts(edge.Options{Limits: artifact.Limits{MaxSegments: 1000}}), artifact.ErrLimit, "at most 1000"},
		"short key":        {good, edge.Options{Trust: edge.Trust{Keys: []ed25519.PublicKey{{1, 2, 3}}}}, edge.ErrOptions, "3 bytes"},
		"private key":      {good, edge.Options{Trust: edge.Trust{KernelKeys: []ed25519.PublicKey{ed25519.PublicKey(key(1))}}}, edge.ErrOptions, "64 bytes"},
		"nobody's key":     {good, edge.Options{}, artifact.ErrUntrusted, "trust it"},
		"state is a file":  {good, trusts(edge.Options{State: good}), edge.ErrState, good},
		"cache is a file":  {good, trusts(edge.Options{Cache: good}), edge.ErrCache, good},
		"negative timeout": {good, trusts(edge.Options{Timeout: -1}), edge.ErrOptions, "negative"},
	} {
		if name == "unreadable" && os.Geteuid() == 0 {
			continue // root reads everything
		}
		if _, err := edge.Open(t.Context(), c.path, c.o); !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: error %v, want %v that says %q", name, err, c.want, c.says)
		}
	}
	// Keys in files of other kinds.
	for name, says := range map[string]string{"rsa": "ed25519", "text": "PEM"} {
		b := "-----BEGIN PUBLIC KEY-----\nMFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBAKVnzrLYhQVYdVqk9xHq7zSuyd7tDfbW\nyTLOxs0EbWvoPqHiRmKyW0pWfp2hVLlJrRjB3ICBMdKXrLjqnGxTnUcCAwEAAQ==\n-----END PUBLIC KEY-----\n"
		if name == "text" {
			b = "my key"
		}
		if _, err := artifact.ReadPublicKey(file(name+".pub", b, 0o600)); !errors.Is(err, artifact.ErrKey) || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: error %v, want ErrKey that says %q", name, err, says)
		}
	}
}
