package artifact_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wisp-project/wisp/artifact"
)

// large is small with segments that are worth fetching, of which change replaces
// one.
func large(version uint64, change byte) *artifact.Artifact {
	rng := rand.New(rand.NewPCG(1, 2))
	a := small()
	a.Manifest.Version = version
	for i := range a.Segments {
		a.Segments[i].Data = make([]byte, 100_000)
		for j := range a.Segments[i].Data {
			a.Segments[i].Data[j] = byte(rng.Uint32())
		}
	}
	a.Segments[1].Data[7] ^= change
	return a
}

var trusted = artifact.ReadOptions{Keys: []ed25519.PublicKey{public(key(1))}}

// server shows one file, in a way that tests choose, and remembers what was asked.
type server struct {
	*httptest.Server
	mu      sync.Mutex
	content []byte
	noRange bool                                                     // answer every request with all of it
	first   func(w http.ResponseWriter, q *http.Request) (done bool) // instead, unless nil
	asked   []string
	sent    int64
}

func (s *server) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, q.Header.Get("Range"))
	if s.first != nil && s.first(w, q) {
		return
	}
	if s.noRange {
		q.Header.Del("Range")
	}
	c := &counter{ResponseWriter: w}
	http.ServeContent(c, q, "shop.wisp", time.Time{}, bytes.NewReader(s.content))
	s.sent += c.n
}

// seen is what was asked and sent so far, once no request is being answered.
func (s *server) seen() (asked []string, sent int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.asked), s.sent
}

// change changes the server while no request is being answered.
func (s *server) change(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

type counter struct {
	http.ResponseWriter
	n int64
}

func (c *counter) Write(b []byte) (int, error) {
	n, err := c.ResponseWriter.Write(b)
	c.n += int64(n)
	return n, err
}

func serve(t *testing.T, content []byte) *server {
	t.Helper()
	s := &server{content: content}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func newStore(t *testing.T) (*artifact.Store, string) {
	t.Helper()
	dir := t.TempDir()
	s, err := artifact.OpenStore(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s, dir
}

// fetched fetches and reads what was fetched.
func fetched(t *testing.T, s *artifact.Store, from artifact.Origin, opts artifact.FetchOptions) (*artifact.Artifact, int64) {
	t.Helper()
	var n int64
	opts.ReadOptions, opts.Fetched = trusted, func(bytes int64) { n += bytes }
	table, err := s.Fetch(t.Context(), from, opts)
	if err != nil {
		t.Fatal(err)
	}
	a, err := s.Read(table.Digest, trusted)
	if err != nil {
		t.Fatal(err)
	}
	return a, n
}

// TestFetch brings versions from origins of all kinds: the second time only what
// has changed comes.
func TestFetch(t *testing.T) {
	one, two := encode(t, large(1, 0), artifact.WriteOptions{Key: key(1)}), encode(t, large(2, 1), artifact.WriteOptions{Key: key(1)})
	files := func(t *testing.T) (paths [2]string) {
		for i, b := range [][]byte{one, two} {
			paths[i] = filepath.Join(t.TempDir(), "shop.wisp")
			if err := os.WriteFile(paths[i], b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return paths
	}
	published := func(t *testing.T) (dir string, publish func(i int)) {
		s, dir := newStore(t)
		paths := files(t)
		return dir, func(i int) {
			if err := s.Publish(t.Context(), paths[i], "shop"); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, origin := range map[string]func(t *testing.T) func(version int) artifact.Origin{
		"file": func(t *testing.T) func(int) artifact.Origin {
			paths := files(t)
			return func(i int) artifact.Origin { return artifact.NewOrigin(paths[i]) }
		},
		"folder": func(t *testing.T) func(int) artifact.Origin {
			dir, publish := published(t)
			return func(i int) artifact.Origin {
				publish(i)
				return artifact.NewOrigin(filepath.Join(dir, "shop.head"))
			}
		},
		"folder on a server": func(t *testing.T) func(int) artifact.Origin {
			dir, publish := published(t)
			s := httptest.NewServer(http.FileServer(http.Dir(dir)))
			t.Cleanup(s.Close)
			return func(i int) artifact.Origin {
				publish(i)
				return artifact.NewOrigin(s.URL + "/shop.head?x=1")
			}
		},
		"ranges": func(t *testing.T) func(int) artifact.Origin {
			s := serve(t, one)
			return func(i int) artifact.Origin {
				s.content = [][]byte{one, two}[i]
				return artifact.NewOrigin(s.URL + "/shop.wisp")
			}
		},
		"no ranges": func(t *testing.T) func(int) artifact.Origin {
			s := serve(t, one)
			s.noRange = true
			return func(i int) artifact.Origin {
				s.content = [][]byte{one, two}[i]
				return artifact.NewOrigin(s.URL)
			}
		},
		"neither ranges nor length": func(t *testing.T) func(int) artifact.Origin {
			s := serve(t, one)
			s.first = func(w http.ResponseWriter, _ *http.Request) bool {
				for part := range bytes.Lines(s.content) {
					_, _ = w.Write(part)
				}
				return true
			}
			return func(i int) artifact.Origin {
				s.content = [][]byte{one, two}[i]
				return artifact.NewOrigin(s.URL)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			from := origin(t)
			store, dir := newStore(t)
			a, all := fetched(t, store, from(0), artifact.FetchOptions{})
			want, err := readSigned(one, key(1))
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(a, want) || all < 300_000 {
				t.Errorf("after %d bytes another artefact than the file's", all)
			}
			b, some := fetched(t, store, from(1), artifact.FetchOptions{})
			if want, err = readSigned(two, key(1)); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(b, want) || some < 100_000 || some > 110_000 {
				t.Errorf("the update took %d bytes, or is another artefact", some)
			}
			if _, none := fetched(t, store, from(1), artifact.FetchOptions{}); none != 0 {
				t.Errorf("nothing has changed, and %d bytes came", none)
			}
			// A section that the disk has spoilt comes again.
			spoil(t, filepath.Join(dir, "sections", fmt.Sprintf("%x", b.Sections[2].Digest)))
			if _, again := fetched(t, store, from(1), artifact.FetchOptions{}); again != b.Sections[2].Stored {
				t.Errorf("%d bytes came for one spoilt section of %d", again, b.Sections[2].Stored)
			}
			// What nobody needs any more goes, and no more.
			if err := store.Keep(t.Context(), b.Digest); err != nil {
				t.Fatal(err)
			}
			if _, err := store.Read(b.Digest, trusted); err != nil {
				t.Errorf("it was to be kept: %v", err)
			}
			if _, err := store.Read(a.Digest, trusted); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("it was not to be kept: %v", err)
			}
			sections, err := os.ReadDir(filepath.Join(dir, "sections"))
			if err != nil || len(sections) != len(b.Sections) {
				t.Errorf("%d sections are left of %d (%v)", len(sections), len(b.Sections), err)
			}
		})
	}
}

// What another model's interrupted fetch has got stays, until nobody can want it.
func TestKeepLeavesWhatGoesOn(t *testing.T) {
	dir := t.TempDir()
	store, err := artifact.OpenStore(dir)
	if err != nil {
		t.Fatal(err)
	}
	part := filepath.Join(dir, "sections", strings.Repeat("ab", sha256.Size)+".part")
	if err := os.WriteFile(part, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := store.Keep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(part); err != nil {
		t.Errorf("a fetch that was interrupted just now would begin anew: %v", err)
	}
	newer := filepath.Join(dir, "sections", "newer")
	if err := os.WriteFile(newer, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-25 * time.Hour)
	if err := os.Chtimes(part, old, old); err != nil {
		t.Fatal(err)
	}
	if err := store.Keep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(part); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("half a section of the day before yesterday stays: %v", err)
	}
}

func spoil(t *testing.T, path string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestNothingBeforeTheSignature counts what is asked of the server of a forger, and
// of one whose manifest is not wanted.
func TestNothingBeforeTheSignature(t *testing.T) {
	s := serve(t, encode(t, large(1, 0), artifact.WriteOptions{Key: key(2)}))
	store, dir := newStore(t)
	if _, err := store.Fetch(t.Context(), artifact.NewOrigin(s.URL), artifact.FetchOptions{ReadOptions: trusted}); !errors.Is(err, artifact.ErrUntrusted) {
		t.Errorf("error %v, want ErrUntrusted", err)
	}
	if asked, sent := s.seen(); len(asked) != 1 || sent > 8<<10 {
		t.Errorf("asked for %q, %d bytes were sent", asked, sent)
	}
	if got, err := filepath.Glob(filepath.Join(dir, "sections", "*")); err != nil || len(got) != 0 {
		t.Errorf("the store holds %q (%v)", got, err)
	}

	s.change(func() { s.content, s.asked = encode(t, large(1, 0), artifact.WriteOptions{Key: key(1)}), nil })
	no := errors.New("no")
	_, err := store.Fetch(t.Context(), artifact.NewOrigin(s.URL), artifact.FetchOptions{
		ReadOptions: trusted, Accept: func(_ *artifact.Table, m *artifact.Manifest) error {
			if m.Name != "corner-shop" || m.Version != 1 {
				t.Errorf("asked about %+v", m)
			}
			return no
		},
	})
	if asked, _ := s.seen(); !errors.Is(err, no) || len(asked) != 2 {
		t.Errorf("error %v after requests for %q", err, asked)
	}
}

// TestResume cuts the connection again and again.
func TestResume(t *testing.T) {
	content := encode(t, large(1, 0), artifact.WriteOptions{Key: key(1)})
	for _, noRange := range []bool{false, true} {
		s := serve(t, content)
		s.noRange = noRange
		hang := false
		s.first = func(w http.ResponseWriter, q *http.Request) bool {
			var from, to int
			_, _ = fmt.Sscanf(q.Header.Get("Range"), "bytes=%d-%d", &from, &to)
			if noRange {
				from, to = 0, len(content)-1
			}
			if to-from < 50_000 {
				return false
			}
			// The announced length never comes.
			w.Header().Set("Content-Length", fmt.Sprint(to-from+1))
			status := http.StatusOK
			if !noRange {
				w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, to, len(content)))
				status = http.StatusPartialContent
			}
			w.WriteHeader(status)
			end := from + 40_000
			if hang && len(s.asked) > 4 {
				end = from
			}
			if noRange {
				end = min(len(content), 40_000*len(s.asked))
			}
			_, _ = w.Write(content[from:end])
			s.sent += int64(end - from)
			if hang {
				w.(http.Flusher).Flush()
				<-q.Context().Done()
			}
			return true
		}
		store, _ := newStore(t)
		if _, n := fetched(t, store, &artifact.HTTPOrigin{URL: s.URL}, artifact.FetchOptions{}); n > int64(len(content)) {
			t.Errorf("%d bytes came of %d", n, len(content))
		}
		if _, sent := s.seen(); sent > int64(len(content))+10_000 && !noRange {
			t.Errorf("%d bytes were sent of %d", sent, len(content))
		}

		// A process that gives up leaves what it has, and the next one goes on.
		store, dir := newStore(t)
		s.change(func() { s.asked, s.sent, hang = nil, 0, true })
		_, err := store.Fetch(t.Context(), &artifact.HTTPOrigin{URL: s.URL, Idle: 20 * time.Millisecond}, artifact.FetchOptions{ReadOptions: trusted})
		if err == nil && !noRange {
			t.Error("a server that hangs: no error")
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := store.Fetch(ctx, artifact.NewOrigin(s.URL), artifact.FetchOptions{ReadOptions: trusted}); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v, want Canceled", err)
		}
		parts, err := filepath.Glob(filepath.Join(dir, "sections", "*.part"))
		if err != nil || len(parts) != 1 && !noRange {
			t.Errorf("%q are left (%v)", parts, err)
		}
		s.change(func() { s.first, s.sent = nil, 0 })
		if _, n := fetched(t, store, artifact.NewOrigin(s.URL), artifact.FetchOptions{}); n > 300_000 {
			t.Errorf("the next process fetched %d bytes", n)
		}
		// A spoilt beginning costs one more attempt, nothing else.
		store, dir = newStore(t)
		a, err := readSigned(content, key(1))
		if err != nil {
			t.Fatal(err)
		}
		for _, info := range a.Sections {
			part := filepath.Join(dir, "sections", fmt.Sprintf("%x.part", info.Digest))
			if err := os.WriteFile(part, make([]byte, min(info.Stored, 500)), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		fetched(t, store, artifact.NewOrigin(s.URL), artifact.FetchOptions{})
	}
}

// TestUnusableServers has servers that give something else than they are asked for.
func TestUnusableServers(t *testing.T) {
	content := encode(t, large(1, 0), artifact.WriteOptions{Key: key(1)})
	partial := func(contentRange string, b []byte) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Content-Range", contentRange)
			w.WriteHeader(http.StatusPartialContent)
			_, _ = w.Write(b)
			return true
		}
	}
	second := 0
	for name, c := range map[string]struct {
		first func(w http.ResponseWriter, q *http.Request) bool
		want  error
		says  string
	}{
		"redirects": {func(w http.ResponseWriter, q *http.Request) bool {
			http.Redirect(w, q, "/elsewhere", http.StatusFound)
			return true
		}, artifact.ErrOrigin, "redirects to \"/elsewhere\""},
		"not found":        {func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(404); return true }, artifact.ErrOrigin, "404"},
		"another range":    {partial("bytes 8-8191/300000", content[8:8192]), artifact.ErrOrigin, "bytes 8-8191"},
		"a longer range":   {partial(fmt.Sprintf("bytes 0-%d/%d", len(content)-1, len(content)), content), artifact.ErrOrigin, "asked for"},
		"no range said":    {partial("", content[:8192]), artifact.ErrOrigin, "asked for"},
		"another size":     {partial("bytes 0-8191/99999999", content[:8192]), artifact.ErrFormat, "cut off or appended"},
		"negative numbers": {partial("bytes 0--5/-9", content[:8192]), artifact.ErrOrigin, "asked for"},
		"fewer bytes":      {partial("bytes 0-8191/300000", content[:100]), artifact.ErrOrigin, "100 bytes announced"},
		"encoded": {func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Content-Encoding", "gzip")
			return false
		}, artifact.ErrOrigin, "gzip"},
		"something else": {func(w http.ResponseWriter, _ *http.Request) bool {
			_, _ = w.Write(bytes.Repeat([]byte("<html>"), 100))
			return true
		}, artifact.ErrFormat, "not a .wisp file"},
		"nothing": {func(http.ResponseWriter, *http.Request) bool { return true }, artifact.ErrFormat, "fewer bytes"},
		"silence": {func(_ http.ResponseWriter, q *http.Request) bool {
			<-q.Context().Done()
			return true
		}, artifact.ErrOrigin, "nothing came for"},
		"another file the second time": {func(w http.ResponseWriter, q *http.Request) bool {
			if second++; second == 1 {
				return false
			}
			http.ServeContent(w, q, "", time.Time{}, bytes.NewReader(append(content[:len(content):len(content)], 0)))
			return true
		}, artifact.ErrOrigin, "replaced meanwhile"},
		"other bytes the third time": {func(w http.ResponseWriter, q *http.Request) bool {
			if second++; second < 5 {
				return false
			}
			http.ServeContent(w, q, "", time.Time{}, bytes.NewReader(make([]byte, len(content))))
			return true
		}, artifact.ErrDigest, "fetch again"},
	} {
		t.Run(name, func(t *testing.T) {
			second = 0
			s := serve(t, content)
			s.first = c.first
			store, _ := newStore(t)
			_, err := store.Fetch(t.Context(), &artifact.HTTPOrigin{URL: s.URL, Idle: 50 * time.Millisecond}, artifact.FetchOptions{ReadOptions: trusted})
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), s.URL) {
				t.Errorf("error %v, want %v that says %q and names the address", err, c.want, c.says)
			}
		})
	}
	t.Run("nobody there", func(t *testing.T) {
		s := serve(t, nil)
		s.Close()
		store, _ := newStore(t)
		if _, err := store.Fetch(t.Context(), artifact.NewOrigin(s.URL), artifact.FetchOptions{ReadOptions: trusted}); !errors.Is(err, artifact.ErrOrigin) {
			t.Errorf("error %v, want ErrOrigin", err)
		}
	})
	t.Run("limits", func(t *testing.T) {
		s := serve(t, content)
		store, _ := newStore(t)
		o := trusted
		o.Limits.MaxFile = 1000
		if _, err := store.Fetch(t.Context(), artifact.NewOrigin(s.URL), artifact.FetchOptions{ReadOptions: o}); !errors.Is(err, artifact.ErrLimit) {
			t.Errorf("error %v, want ErrLimit", err)
		}
	})
}

// TestBadStore has folders that are no stores.
func TestBadStore(t *testing.T) {
	file := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := artifact.OpenStore(file); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("a file: error %v", err)
	}
	s, dir := newStore(t)
	if _, err := s.Read(sha256.Sum256(nil), trusted); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("nothing there: error %v", err)
	}
	for _, name := range []string{"", "a/b", ".."} {
		if err := s.Publish(t.Context(), file, name); !errors.Is(err, artifact.ErrOptions) {
			t.Errorf("published as %q: error %v", name, err)
		}
	}
	if err := s.Publish(t.Context(), file, "shop"); !errors.Is(err, artifact.ErrFormat) {
		t.Errorf("published an empty file: error %v", err)
	}
	// The head of one artefact under the digest of another.
	path := filepath.Join(t.TempDir(), "a.wisp")
	if err := artifact.WriteFile(path, small(), artifact.WriteOptions{Key: key(1)}); err != nil {
		t.Fatal(err)
	}
	table, err := s.Fetch(t.Context(), artifact.FileOrigin(path), artifact.FetchOptions{ReadOptions: trusted})
	if err != nil {
		t.Fatal(err)
	}
	other := sha256.Sum256([]byte("other"))
	from, to := filepath.Join(dir, fmt.Sprintf("%x.head", table.Digest)), filepath.Join(dir, fmt.Sprintf("%x.head", other))
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Read(other, trusted); !errors.Is(err, artifact.ErrDigest) {
		t.Errorf("another head: error %v, want ErrDigest", err)
	}
}
