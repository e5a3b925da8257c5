package edge_test

import (
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"

	"github.com/wisp-project/wisp/artifact"
	"github.com/wisp-project/wisp/edge"
)

// cachedIn opens a with a cache in dir, asks it something, and reports whether its
// code came from there.
func cachedIn(t *testing.T, a *artifact.Artifact, o edge.Options) bool {
	t.Helper()
	r, err := edge.New(t.Context(), a, o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Recommend(t.Context(), edge.Request{}); err != nil {
		t.Error(err)
	}
	cached, err := r.Cached()
	if err != nil {
		t.Errorf("the code was not put into the cache: %v", err)
	}
	if err := r.Close(t.Context()); err != nil {
		t.Error(err)
	}
	return cached
}

// entries returns the paths of the entries of a cache.
func entries(t *testing.T, dir string) []string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func skipWithoutCache(t *testing.T) {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("there is no cache there")
	}
}

func TestCache(t *testing.T) {
	skipWithoutCache(t)
	t.Setenv("TMPDIR", t.TempDir())
	dir := filepath.Join(t.TempDir(), "cache", "of", "wisp")
	a, _ := build(t, least)
	o := edge.Options{Cache: dir, Sandboxes: 1}
	if cachedIn(t, a, o) {
		t.Error("an empty cache held the code")
	}
	if !cachedIn(t, a, o) {
		t.Error("the code was compiled again")
	}
	// What is watched, and what is not, are compiled differently.
	foreign := *a
	foreign.Kernel = slices.Concat(a.Kernel, []byte{0, 3, 1, 'x', 0}) // a custom section
	trusted := o
	trusted.Trust.Kernels = [][sha256.Size]byte{sha256.Sum256(foreign.Kernel)}
	for i, want := range []bool{false, true} {
		for _, o := range []edge.Options{o, trusted} {
			if cachedIn(t, &foreign, o) != want {
				t.Errorf("round %d: another kernel: cached %v, want %v", i, !want, want)
			}
		}
	}
	files := entries(t, dir)
	if len(files) != 3 {
		t.Fatalf("the cache holds %q, want three entries", files)
	}
	for _, path := range files {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v (%v)", path, info.Mode(), err)
		}
	}
	if left := entries(t, os.TempDir()); len(left) != 0 {
		t.Errorf("%q are left in the temporary folder", left)
	}
	// An entry under the name of another.
	var contents [][]byte
	for _, path := range files {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		contents = append(contents, b)
	}
	for i, path := range files {
		if err := os.WriteFile(path, contents[(i+1)%3], 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, o := range []edge.Options{o, trusted} {
		if cachedIn(t, &foreign, o) {
			t.Error("the code of another kernel was used")
		}
	}
}

// TestDamagedCache changes the entry in many places: it is made anew, and the
// machine code that somebody else wrote never runs.
func TestDamagedCache(t *testing.T) {
	skipWithoutCache(t)
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	a, _ := build(t, least)
	o := edge.Options{Cache: dir, Sandboxes: 1}
	cachedIn(t, a, o)
	path := entries(t, dir)[0]
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	flip := func(at int) []byte {
		b := slices.Clone(good)
		b[at] ^= 1
		return b
	}
	damaged := map[string][]byte{
		"empty": {}, "cut off": good[:len(good)-1], "appended to": append(slices.Clone(good), 0), "zeros": make([]byte, len(good)),
		"magic": flip(0), "key": flip(40), "name": flip(60), "code": flip(len(good) / 2), "digest": flip(len(good) - 1),
		"code with a right digest of another key": edge.CacheEntry([sha256.Size]byte{}, "wazero-x/"+string(make([]byte, 64)), []byte("code")),
	}
	for name, b := range damaged {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if cachedIn(t, a, o) {
			t.Errorf("%s: it was used", name)
		}
		if b, err := os.ReadFile(path); err != nil || !slices.Equal(b, good) {
			t.Errorf("%s: it was not made anew (%v)", name, err)
		}
	}
	// Whole, for this kernel and machine, and no code that the engine takes.
	key, name := edge.CacheKey(a.Kernel, true), edge.CacheName(good)
	for _, code := range [][]byte{nil, []byte("WAZEVO"), slices.Repeat([]byte{0xff}, 5000)} {
		if err := os.WriteFile(path, edge.CacheEntry(key, name, code), 0o600); err != nil {
			t.Fatal(err)
		}
		if cachedIn(t, a, o) {
			t.Errorf("code of %d bytes was used", len(code))
		}
		if !cachedIn(t, a, o) {
			t.Errorf("code of %d bytes was not replaced", len(code))
		}
	}
}

// TestForeignCache has folders and entries that others may write to.
func TestForeignCache(t *testing.T) {
	skipWithoutCache(t)
	a, _ := build(t, least)
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	o := edge.Options{Cache: dir, Sandboxes: 1}
	cachedIn(t, a, o)
	path := entries(t, dir)[0]
	if err := os.Chmod(path, 0o622); err != nil {
		t.Fatal(err)
	}
	if cachedIn(t, a, o) {
		t.Error("an entry that anybody may write was used")
	}
	refused := func(what string) {
		t.Helper()
		if _, err := edge.New(t.Context(), a, o); !errors.Is(err, edge.ErrCache) {
			t.Errorf("%s: error %v, want ErrCache", what, err)
		}
	}
	for _, mode := range []os.FileMode{0o777, 0o770, 0o1777} {
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
		refused(mode.String())
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	o.Cache = path
	refused("a file")
	o.Cache = filepath.Join(path, "below")
	refused("below a file")
	if os.Geteuid() != 0 {
		t.Skip("only root can give folders away")
	}
	o.Cache = dir
	if err := os.Chown(path, 1234, -1); err != nil {
		t.Fatal(err)
	}
	if cachedIn(t, a, o) {
		t.Error("an entry of another user was used")
	}
	if err := os.Chown(dir, 1234, -1); err != nil {
		t.Fatal(err)
	}
	refused("the folder of another user")
}

// TestFullCache keeps the newest entries only.
func TestFullCache(t *testing.T) {
	skipWithoutCache(t)
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for i := range 70 {
		if err := edge.StoreCode(dir, [sha256.Size]byte{byte(i)}, edge.CacheEntryName, []byte("code")); err != nil {
			t.Fatal(err)
		}
	}
	if got := len(entries(t, dir)); got != 64 {
		t.Errorf("%d entries are kept, want 64", got)
	}
}
