package hub_test

import (
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wisp-project/wisp/internal/hub"
)

const commit = "0123456789abcdef0123456789abcdef01234567"

var repo = hub.Repo{Org: "acme", Name: "encoder"}

// weights are contents in the form of a safetensors file.
func weights(seed uint64, size int) []byte {
	header := `{"__metadata__":{}}`
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	b = append(b, header...)
	r := rand.New(rand.NewPCG(seed, 0))
	for len(b) < size {
		b = append(b, byte(r.Uint32()))
	}
	return b
}

// encoder are the files of a small repository.
func encoder() map[string][]byte {
	return map[string][]byte{
		"config.json":           []byte(`{"model_type":"bert"}`),
		"tokenizer.json":        []byte(`{"model":{"type":"WordPiece"}}`),
		"vocab.txt":             []byte("[PAD]\n[UNK]\nshoe\nsong\n"),
		"1_Pooling/config.json": []byte(`{"pooling_mode_mean_tokens":true}`),
		"model.safetensors":     weights(1, 300_000),
		"README.md":             []byte("not to be fetched"),
	}
}

// trick serves one GET of a file in its own way.
type trick func(w http.ResponseWriter, r *http.Request, content []byte)

// fakeHub is a hub that can be told to misbehave.
type fakeHub struct {
	*httptest.Server
	mu       sync.Mutex
	files    map[string][]byte
	tricks   map[string][]trick // for the next GETs of a file
	heads    map[string][]trick // for the next HEADs of a file
	plain    bool               // state no checksums, like a plain file server
	token    string             // required, if not empty
	requests []string           // "METHOD PATH [RANGE]"
}

func newHub(t *testing.T, files map[string][]byte) *fakeHub {
	t.Helper()
	h := &fakeHub{files: files, tricks: map[string][]trick{}, heads: map[string][]trick{}}
	h.Server = httptest.NewUnstartedServer(h)
	h.Config.ErrorLog = nil
	h.Start()
	t.Cleanup(h.Close)
	return h
}

func (h *fakeHub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if h.token != "" && r.Header.Get("Authorization") != "Bearer "+h.token {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	revision, name, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/acme/encoder/resolve/"), "/")
	h.mu.Lock()
	h.requests = append(h.requests, strings.TrimSpace(r.Method+" "+revision+"/"+name+" "+r.Header.Get("Range")))
	content, ok := h.files[name]
	queue := h.tricks
	if r.Method == http.MethodHead {
		queue = h.heads
	}
	var do trick
	if q := queue[name]; len(q) > 0 {
		do, queue[name] = q[0], q[1:]
	}
	plain := h.plain
	h.mu.Unlock()
	if !plain {
		w.Header().Set("X-Repo-Commit", commit)
	}
	switch {
	case do != nil:
		do(w, r, content)
	case !ok || revision != "main" && revision != commit:
		http.NotFound(w, r)
	default:
		h.serve(w, r, name, content)
	}
}

// serve serves a file as a hub does: SHA-256 for weights, git's hash otherwise.
func (h *fakeHub) serve(w http.ResponseWriter, r *http.Request, name string, content []byte) {
	switch {
	case h.plain:
		w.Header().Set("ETag", fmt.Sprintf(`"%x"`, sha256.Sum256(content))[:10]+`"`)
	case filepath.Ext(name) == ".safetensors":
		w.Header().Set("X-Linked-Size", fmt.Sprint(len(content)))
		w.Header().Set("X-Linked-Etag", fmt.Sprintf(`"%x"`, sha256.Sum256(content)))
		w.Header().Set("ETag", fmt.Sprintf(`"%x"`, sha256.Sum256(content)))
	default:
		w.Header().Set("ETag", fmt.Sprintf(`"%x"`, sha1.Sum(append(fmt.Appendf(nil, "blob %d\x00", len(content)), content...))))
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
}

// set changes a file.
func (h *fakeHub) set(name string, content []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.files[name] = content
}

// seen returns the requests since the last call.
func (h *fakeHub) seen() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.requests
	h.requests = nil
	return s
}

// cut serves the file but breaks the connection after n bytes.
func (h *fakeHub) cut(name string, n int) trick {
	return func(w http.ResponseWriter, r *http.Request, content []byte) {
		h.serve(&cutWriter{w, n}, r, name, content)
	}
}

type cutWriter struct {
	http.ResponseWriter
	left int
}

func (w *cutWriter) Write(b []byte) (int, error) {
	n, err := w.ResponseWriter.Write(b[:min(len(b), w.left)])
	w.left -= n
	if w.left == 0 {
		_ = http.NewResponseController(w.ResponseWriter).Flush()
		panic(http.ErrAbortHandler)
	}
	return n, err
}

// status answers with a status and headers, given as keys and values in turn.
func status(code int, headers ...string) trick {
	return func(w http.ResponseWriter, _ *http.Request, _ []byte) {
		for i := 0; i < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.WriteHeader(code)
	}
}

// send answers with other contents.
func send(contentType, text string) trick {
	return func(w http.ResponseWriter, _ *http.Request, _ []byte) {
		w.Header().Set("Content-Type", contentType)
		fmt.Fprint(w, text)
	}
}

// sleeper records pauses in place of making them.
type sleeper struct{ slept []time.Duration }

func (s *sleeper) sleep(ctx context.Context, d time.Duration) error {
	s.slept = append(s.slept, d)
	return ctx.Err()
}

func (h *fakeHub) client() (*hub.Client, *sleeper) {
	s := &sleeper{}
	return &hub.Client{Base: h.URL, Sleep: s.sleep, Rand: rand.New(rand.NewPCG(1, 2))}, s
}

func wantError(t *testing.T, err, want error, words ...string) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error %v, want %v", err, want)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("the error lacks %q: %v", w, err)
		}
	}
}

// wantFiles compares the files of a folder, without the manifest.
func wantFiles(t *testing.T, dir string, want map[string][]byte) {
	t.Helper()
	got := map[string]bool{}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == hub.ManifestName {
			return err
		}
		name, err := filepath.Rel(dir, path)
		got[filepath.ToSlash(name)] = true
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range want {
		if b, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !bytes.Equal(b, content) {
			t.Errorf("%s: %d bytes (%v), not the %d of the hub", name, len(b), err, len(content))
		}
		delete(got, name)
	}
	for name := range got {
		t.Errorf("%s should not be there", name)
	}
}

// fetched are the files of a repository that a pull takes.
func fetched(files map[string][]byte) map[string][]byte {
	want := map[string][]byte{}
	for name, b := range files {
		if name != "README.md" {
			want[name] = b
		}
	}
	return want
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func put(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, content, 0o644)); err != nil {
		t.Fatal(err)
	}
}
