package hub_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/wisp-project/wisp/internal/hub"
)

const weightsName = "model.safetensors"

func TestPull(t *testing.T) {
	h := newHub(t, encoder())
	c, s := h.client()
	dir := filepath.Join(t.TempDir(), "new", "encoder")
	last := map[string]int64{}
	report, err := c.Pull(t.Context(), repo, dir, func(file string, done, total int64) {
		if done < last[file] || done > total || total != int64(len(h.files[file])) {
			t.Errorf("%s: %d of %d after %d", file, done, total, last[file])
		}
		last[file] = done
	})
	if err != nil {
		t.Fatal(err)
	}
	want := fetched(h.files)
	wantFiles(t, dir, want)
	if report.Commit != commit || report.Source != "acme/encoder@main" || len(report.Files) != len(want) {
		t.Errorf("report %+v", report)
	}
	for _, f := range report.Files {
		check := hub.CheckGit
		if f.Name == weightsName {
			check = hub.CheckSHA256
		}
		sum := fmt.Sprintf("%x", sha256.Sum256(want[f.Name]))
		if f.SHA256 != sum || f.Bytes != int64(len(want[f.Name])) || f.Verified != check || f.Cached || f.Resumed {
			t.Errorf("%+v", f)
		}
		if last[f.Name] != f.Bytes {
			t.Errorf("progress of %s ended at %d", f.Name, last[f.Name])
		}
	}
	for i, r := range h.seen() {
		if want := "/" + commit + "/"; i > 0 && !strings.Contains(strings.Replace(r, " ", " /", 1), want) {
			t.Errorf("%q is not of the commit", r)
		}
	}
	if len(s.slept) > 0 {
		t.Errorf("slept %v", s.slept)
	}

	// A second time, and without the manifest, nothing is fetched.
	for range 2 {
		report, err = c.Pull(t.Context(), repo, dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range report.Files {
			if !f.Cached || f.SHA256 != fmt.Sprintf("%x", sha256.Sum256(want[f.Name])) {
				t.Errorf("%+v", f)
			}
		}
		for _, r := range h.seen() {
			if strings.HasPrefix(r, http.MethodGet) {
				t.Errorf("fetched again: %s", r)
			}
		}
		if err := os.Remove(filepath.Join(dir, hub.ManifestName)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestPullSurvives has a hub that misbehaves for a while.
func TestPullSurvives(t *testing.T) {
	changed := weights(2, 250_000)
	tests := []struct {
		name    string
		plain   bool
		arrange func(h *fakeHub)
		gets    []string // ranges asked for, of the weights
		slept   int
		atLeast time.Duration // the first pause
		resumed bool
	}{
		{
			name: "cut several times",
			arrange: func(h *fakeHub) {
				h.tricks[weightsName] = []trick{h.cut(weightsName, 100), h.cut(weightsName, 100_000), h.cut(weightsName, 1), h.cut(weightsName, 99_899)}
			},
			gets: []string{"", "bytes=100-", "bytes=100100-", "bytes=100101-", "bytes=200000-"}, slept: 4, resumed: true,
		},
		{
			name: "429 with Retry-After", slept: 1, atLeast: 7 * time.Second, gets: []string{"", ""},
			arrange: func(h *fakeHub) { h.tricks[weightsName] = []trick{status(429, "Retry-After", "7")} },
		},
		{
			name: "503 with a date", slept: 1, atLeast: 90 * time.Second, gets: []string{"", ""},
			arrange: func(h *fakeHub) {
				h.tricks[weightsName] = []trick{status(503, "Date", "Mon, 05 Feb 2024 10:00:00 GMT", "Retry-After", "Mon, 05 Feb 2024 10:01:30 GMT")}
			},
		},
		{
			name: "failures of lookups", slept: 3, gets: []string{""},
			arrange: func(h *fakeHub) {
				h.heads["config.json"] = []trick{status(500), status(502)}
				h.heads[weightsName] = []trick{status(504)}
			},
		},
		{
			name: "no ranges", slept: 1, gets: []string{"", "bytes=1000-"},
			arrange: func(h *fakeHub) {
				h.tricks[weightsName] = []trick{h.cut(weightsName, 1000), func(w http.ResponseWriter, _ *http.Request, content []byte) { _, _ = w.Write(content) }}
			},
		},
		{
			name: "range refused", slept: 2, gets: []string{"", "bytes=1000-", ""},
			arrange: func(h *fakeHub) { h.tricks[weightsName] = []trick{h.cut(weightsName, 1000), status(416)} },
		},
		{
			name: "another range", slept: 2, gets: []string{"", "bytes=1000-", ""},
			arrange: func(h *fakeHub) {
				h.tricks[weightsName] = []trick{h.cut(weightsName, 1000), func(w http.ResponseWriter, r *http.Request, content []byte) {
					r.Header.Set("Range", "bytes=2000-")
					r.Header.Del("If-Range")
					h.serve(w, r, weightsName, content)
				}}
			},
		},
		{
			// The second connection sends the new file from its start, for If-Range
			// does not fit; it is looked up again and fetched whole.
			name: "changed between parts", plain: true, slept: 1, gets: []string{"", "bytes=1000-", ""},
			arrange: func(h *fakeHub) {
				h.tricks[weightsName] = []trick{func(w http.ResponseWriter, r *http.Request, content []byte) {
					h.set(weightsName, changed)
					h.cut(weightsName, 1000)(w, r, content)
				}}
			},
		},
		{
			// The pieces of two files, of one size, make a wrong checksum.
			name: "changed without anyone saying", slept: 1, gets: []string{"", "bytes=1000-", ""},
			arrange: func(h *fakeHub) {
				h.tricks[weightsName] = []trick{func(w http.ResponseWriter, r *http.Request, content []byte) {
					h.cut(weightsName, 1000)(w, r, weights(3, len(content)))
				}, func(w http.ResponseWriter, r *http.Request, content []byte) {
					r.Header.Del("If-Range")
					h.serve(w, r, weightsName, content)
				}}
			},
		},
		{
			name: "silence", slept: 1, gets: []string{"", "bytes=1000-"}, resumed: true,
			arrange: func(h *fakeHub) {
				h.tricks[weightsName] = []trick{func(w http.ResponseWriter, r *http.Request, content []byte) {
					sum := sha256.Sum256(content)
					w.Header().Set("ETag", fmt.Sprintf(`"%x"`, sum))
					w.Header().Set("Content-Length", fmt.Sprint(len(content)))
					_, _ = w.Write(content[:1000])
					_ = http.NewResponseController(w).Flush()
					<-r.Context().Done()
				}}
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := newHub(t, encoder())
			h.plain = tt.plain
			tt.arrange(h)
			c, s := h.client()
			if tt.name == "silence" {
				c.Stall = 500 * time.Millisecond
			}
			dir := t.TempDir()
			report, err := c.Pull(t.Context(), repo, dir, nil)
			if err != nil {
				t.Fatal(err)
			}
			wantFiles(t, dir, fetched(h.files))
			var gets []string
			for _, r := range h.seen() {
				if f := strings.Fields(r + " "); f[0] == http.MethodGet && strings.HasSuffix(f[1], weightsName) {
					gets = append(gets, strings.Join(f[2:], " "))
				}
			}
			if !slices.Equal(gets, tt.gets) {
				t.Errorf("asked for %q, want %q", gets, tt.gets)
			}
			if len(s.slept) != tt.slept || tt.slept > 0 && s.slept[0] < max(tt.atLeast, 250*time.Millisecond) {
				t.Errorf("slept %v", s.slept)
			}
			f := report.Files[len(report.Files)-1]
			if f.Name != weightsName || f.Resumed != tt.resumed {
				t.Errorf("%+v", f)
			}
			if check := map[bool]hub.Check{false: hub.CheckSHA256, true: hub.CheckSize}[tt.plain]; f.Verified != check {
				t.Errorf("verified by %s, want %s", f.Verified, check)
			}
		})
	}
}

func TestPullFails(t *testing.T) {
	index := func(names ...string) []byte {
		m := map[string]string{}
		for i, n := range names {
			m[fmt.Sprint(i)] = n
		}
		b, err := json.Marshal(map[string]any{"weight_map": m})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	sharded := func(index []byte) func(*fakeHub) {
		return func(h *fakeHub) {
			delete(h.files, weightsName)
			h.files["model.safetensors.index.json"] = index
		}
	}
	for name, tt := range map[string]struct {
		arrange func(h *fakeHub)
		options func(c *hub.Client)
		want    error
		words   []string
		absent  string // must not be there, nor its part
		calm    bool   // without a pause
	}{
		"wrong hash": {
			arrange: func(h *fakeHub) {
				wrong := func(w http.ResponseWriter, _ *http.Request, content []byte) { _, _ = w.Write(weights(9, len(content))) }
				h.tricks[weightsName] = []trick{wrong, wrong, wrong}
			},
			want: hub.ErrChecksum, words: []string{weightsName, "sha256"}, absent: weightsName, calm: true,
		},
		"wrong hash of a small file": {
			arrange: func(h *fakeHub) { h.tricks["config.json"] = []trick{send("text/plain", `{"model_type":"gpt2"}`)} },
			want:    hub.ErrChecksum, words: []string{"config.json", "git-sha1"}, absent: "config.json", calm: true,
		},
		"other length": {
			arrange: func(h *fakeHub) { h.tricks[weightsName] = []trick{send("application/octet-stream", "short")} },
			want:    hub.ErrChecksum, words: []string{weightsName, "300000", "sends 5"}, absent: weightsName, calm: true,
		},
		"longer than stated": {
			arrange: func(h *fakeHub) {
				h.tricks[weightsName] = []trick{func(w http.ResponseWriter, _ *http.Request, content []byte) {
					_ = http.NewResponseController(w).Flush() // no Content-Length
					_, _ = w.Write(append(content, 0))
				}}
			},
			want: hub.ErrChecksum, words: []string{weightsName, "more"}, absent: weightsName, calm: true,
		},
		"cut for ever": {
			arrange: func(h *fakeHub) { h.tricks[weightsName] = slices.Repeat([]trick{h.cut(weightsName, 10)}, 50) },
			want:    hub.ErrUnavailable, words: []string{weightsName, "attempt 6", "again to go on"},
		},
		"no config": {
			arrange: func(h *fakeHub) { delete(h.files, "config.json") },
			want:    hub.ErrNotFound, words: []string{"config.json", "acme/encoder@main"}, calm: true,
		},
		"no tokenizer": {
			arrange: func(h *fakeHub) { delete(h.files, "tokenizer.json"); delete(h.files, "vocab.txt") },
			want:    hub.ErrNotFound, words: []string{"tokenizer.json", "vocab.txt"}, calm: true,
		},
		"no weights": {
			arrange: func(h *fakeHub) { delete(h.files, weightsName) },
			want:    hub.ErrNotFound, words: []string{weightsName, "other formats"}, calm: true,
		},
		"gone in between": {
			arrange: func(h *fakeHub) { h.tricks[weightsName] = []trick{status(404)} },
			want:    hub.ErrNotFound, words: []string{weightsName}, absent: weightsName, calm: true,
		},
		"no token": {
			arrange: func(h *fakeHub) { h.token = "secret" },
			want:    hub.ErrDenied, words: []string{"token"}, calm: true,
		},
		"log-in page": {
			arrange: func(h *fakeHub) { h.heads["config.json"] = []trick{send("text/html; charset=utf-8", "<html>")} },
			want:    hub.ErrResponse, words: []string{"config.json", "web page"}, calm: true,
		},
		"web page in place of JSON": {
			arrange: func(h *fakeHub) {
				h.plain = true
				page := "<!DOCTYPE html><html><p>Sorry</html>"
				h.files["tokenizer.json"] = []byte(page)
			},
			want: hub.ErrResponse, words: []string{"tokenizer.json", "web page"}, absent: "tokenizer.json", calm: true,
		},
		"broken JSON": {
			arrange: func(h *fakeHub) { h.files["tokenizer.json"] = []byte(`{"model":`) },
			want:    hub.ErrResponse, words: []string{"tokenizer.json", "JSON"}, absent: "tokenizer.json", calm: true,
		},
		"text in place of weights": {
			arrange: func(h *fakeHub) { h.files[weightsName] = []byte("version https://git-lfs\noid sha256:12\n") },
			want:    hub.ErrResponse, words: []string{weightsName, "safetensors"}, absent: weightsName, calm: true,
		},
		"no size": {
			arrange: func(h *fakeHub) {
				h.heads["config.json"] = []trick{func(w http.ResponseWriter, _ *http.Request, _ []byte) { _ = http.NewResponseController(w).Flush() }}
			},
			want: hub.ErrResponse, words: []string{"config.json", "size"}, calm: true,
		},
		"encoded": {
			arrange: func(h *fakeHub) { h.heads["config.json"] = []trick{status(200, "Content-Encoding", "gzip")} },
			want:    hub.ErrResponse, words: []string{"gzip"}, calm: true,
		},
		"wait for an hour": {
			arrange: func(h *fakeHub) { h.heads["vocab.txt"] = []trick{status(429, "Retry-After", "3600")} },
			want:    hub.ErrUnavailable, words: []string{"vocab.txt", "1h0m0s"}, calm: true,
		},
		"file too large": {
			options: func(c *hub.Client) { c.Limits.File = 299_999 },
			want:    hub.ErrLimit, words: []string{weightsName, "300000", "299999"}, absent: "config.json", calm: true,
		},
		"all too large": {
			options: func(c *hub.Client) { c.Limits.Total = 300_010 },
			want:    hub.ErrLimit, words: []string{weightsName}, absent: "config.json", calm: true,
		},
		"huge text": {
			arrange: func(h *fakeHub) {
				h.heads["vocab.txt"] = []trick{status(200, "Content-Length", fmt.Sprint(1<<30))}
			},
			want: hub.ErrLimit, words: []string{"vocab.txt"}, calm: true,
		},
		"disk full": {
			options: func(c *hub.Client) {
				left := 100_000
				c.WrapWriter(func(w io.Writer) io.Writer {
					return writerFunc(func(b []byte) (int, error) {
						if left < len(b) {
							return 0, syscall.ENOSPC
						}
						left -= len(b)
						return w.Write(b)
					})
				})
			},
			want: syscall.ENOSPC, words: []string{weightsName + ".part", "make room"}, calm: true,
		},
		"shard missing": {arrange: sharded(index("model-1.safetensors")), want: hub.ErrNotFound, words: []string{"model-1.safetensors", "index"}, calm: true},
		"empty index":   {arrange: sharded(index()), want: hub.ErrResponse, words: []string{"names 0 files"}, calm: true},
		"index of text": {arrange: sharded([]byte(`{"weight_map":"all"}`)), want: hub.ErrResponse, words: []string{"index"}, calm: true},
		"parent":        {arrange: sharded(index("../x.safetensors")), want: hub.ErrResponse, words: []string{"../x.safetensors"}, calm: true},
		"hidden parent": {arrange: sharded(index("a/../../x.safetensors")), want: hub.ErrResponse, calm: true},
		"absolute":      {arrange: sharded(index("/tmp/x.safetensors")), want: hub.ErrResponse, calm: true},
		"backslash":     {arrange: sharded(index(`..\x.safetensors`)), want: hub.ErrResponse, calm: true},
		"drive":         {arrange: sharded(index(`C:x.safetensors`)), want: hub.ErrResponse, calm: true},
		"control":       {arrange: sharded(index("a\x00.safetensors")), want: hub.ErrResponse, calm: true},
		"other kind":    {arrange: sharded(index(".bashrc")), want: hub.ErrResponse, calm: true},
		"too many": {
			arrange: sharded(index(slices.Collect(func(yield func(string) bool) {
				for i := 0; i < 1001 && yield(fmt.Sprintf("%d.safetensors", i)); i++ {
				}
			})...)),
			want: hub.ErrResponse, words: []string{"1001"}, calm: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHub(t, encoder())
			if tt.arrange != nil {
				tt.arrange(h)
			}
			c, s := h.client()
			if tt.options != nil {
				tt.options(c)
			}
			dir := filepath.Join(t.TempDir(), "encoder")
			report, err := c.Pull(t.Context(), repo, dir, nil)
			wantError(t, err, tt.want, tt.words...)
			if report != nil {
				t.Errorf("report %+v", report)
			}
			if exists(filepath.Join(dir, weightsName)) {
				t.Error("the weights are there")
			}
			if tt.absent != "" && (exists(filepath.Join(dir, tt.absent)) || !errors.Is(tt.want, hub.ErrNotFound) && exists(filepath.Join(dir, tt.absent+".part"))) {
				t.Errorf("%s is there", tt.absent)
			}
			if tt.calm != (len(s.slept) == 0) {
				t.Errorf("slept %v", s.slept)
			}
		})
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

// TestPullGoesOn interrupts a pull in several ways; the next one fetches only
// what is missing.
func TestPullGoesOn(t *testing.T) {
	for name, interrupt := range map[string]func(t *testing.T, h *fakeHub, dir string){
		"cancelled": func(t *testing.T, h *fakeHub, dir string) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			c, s := h.client()
			_, err := c.Pull(ctx, repo, dir, func(file string, done, _ int64) {
				if file == weightsName && done > 1000 {
					cancel()
				}
			})
			wantError(t, err, context.Canceled, weightsName)
			if len(s.slept) > 0 {
				t.Errorf("slept %v", s.slept)
			}
		},
		"cancelled in a pause": func(t *testing.T, h *fakeHub, dir string) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			h.tricks[weightsName] = []trick{h.cut(weightsName, 1000)}
			c, _ := h.client()
			c.Sleep = nil
			_, err := c.Pull(ctx, repo, dir, func(file string, done, _ int64) {
				if file == weightsName && done == 1000 {
					time.AfterFunc(20*time.Millisecond, cancel)
				}
			})
			wantError(t, err, context.Canceled, weightsName)
		},
		"disk full": func(t *testing.T, h *fakeHub, dir string) {
			c, _ := h.client()
			c.WrapWriter(func(w io.Writer) io.Writer {
				return writerFunc(func(b []byte) (int, error) {
					n, err := w.Write(b[:min(len(b), 1000)])
					return n, errors.Join(err, map[bool]error{true: syscall.ENOSPC}[n < len(b)])
				})
			})
			_, err := c.Pull(t.Context(), repo, dir, nil)
			wantError(t, err, syscall.ENOSPC, weightsName)
		},
		"cut for ever": func(t *testing.T, h *fakeHub, dir string) {
			h.tricks[weightsName] = []trick{h.cut(weightsName, 100_000)}
			c, _ := h.client()
			c.Attempts = 1
			_, err := c.Pull(t.Context(), repo, dir, nil)
			wantError(t, err, hub.ErrUnavailable, weightsName)
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHub(t, encoder())
			dir := t.TempDir()
			interrupt(t, h, dir)
			info, err := os.Stat(filepath.Join(dir, weightsName+".part"))
			if err != nil || info.Size() == 0 || info.Size() >= 300_000 {
				t.Fatalf("the part: %v, %v", info, err)
			}
			h.seen()
			c, _ := h.client()
			report, err := c.Pull(t.Context(), repo, dir, nil)
			if err != nil {
				t.Fatal(err)
			}
			wantFiles(t, dir, fetched(h.files))
			want := []string{fmt.Sprintf("GET %s/%s bytes=%d-", commit, weightsName, info.Size())}
			got := slices.DeleteFunc(h.seen(), func(r string) bool { return strings.HasPrefix(r, http.MethodHead) })
			if !slices.Equal(got, want) {
				t.Errorf("asked for %q, want %q", got, want)
			}
			if f := report.Files[len(report.Files)-1]; !f.Resumed || f.Cached {
				t.Errorf("%+v", f)
			}
		})
	}
}

// TestPullBeginsAnew interrupts a pull after 1000 bytes of the weights and then
// spoils what is there.
func TestPullBeginsAnew(t *testing.T) {
	for name, tt := range map[string]struct {
		spoil func(t *testing.T, h *fakeHub, part string)
		gets  []string // ranges asked for
	}{
		"other size":     {func(_ *testing.T, h *fakeHub, _ string) { h.set(weightsName, weights(5, 200_000)) }, []string{""}},
		"other contents": {func(_ *testing.T, h *fakeHub, _ string) { h.set(weightsName, weights(5, 300_000)) }, []string{""}},
		"part too long":  {func(t *testing.T, _ *fakeHub, part string) { put(t, part, make([]byte, 300_001)) }, []string{""}},
		// Only the checksum of the whole tells.
		"part damaged": {func(t *testing.T, _ *fakeHub, part string) { put(t, part, make([]byte, 900)) }, []string{"bytes=900-", ""}},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHub(t, encoder())
			dir := t.TempDir()
			h.tricks[weightsName] = []trick{h.cut(weightsName, 1000)}
			c, _ := h.client()
			c.Attempts = 1
			_, err := c.Pull(t.Context(), repo, dir, nil)
			wantError(t, err, hub.ErrUnavailable)
			tt.spoil(t, h, filepath.Join(dir, weightsName+".part"))
			h.seen()
			if _, err := c.Pull(t.Context(), repo, dir, nil); err != nil {
				t.Fatal(err)
			}
			wantFiles(t, dir, fetched(h.files))
			var gets []string
			for _, r := range h.seen() {
				if r, ok := strings.CutPrefix(r, "GET "+commit+"/"+weightsName); ok {
					gets = append(gets, strings.TrimSpace(r))
				}
			}
			if !slices.Equal(gets, tt.gets) {
				t.Errorf("asked for %q, want %q", gets, tt.gets)
			}
		})
	}
}

// TestSlowIsNotSilent has a download that takes longer than Stall, but never
// pauses for so long.
func TestSlowIsNotSilent(t *testing.T) {
	t.Parallel()
	h := newHub(t, encoder())
	h.tricks[weightsName] = []trick{func(w http.ResponseWriter, _ *http.Request, content []byte) {
		for part := range slices.Chunk(content, 10_000) {
			_, _ = w.Write(part)
			_ = http.NewResponseController(w).Flush()
			time.Sleep(45 * time.Millisecond)
		}
	}}
	c, _ := h.client()
	c.Stall, c.Attempts = time.Second, 1
	dir := t.TempDir()
	if _, err := c.Pull(t.Context(), repo, dir, nil); err != nil {
		t.Fatal(err)
	}
	wantFiles(t, dir, fetched(h.files))
}

func TestPullShards(t *testing.T) {
	files := encoder()
	delete(files, weightsName)
	files["model.safetensors.index.json"] = []byte(`{"metadata":{"total_size":3},"weight_map":{"a":"model-2.safetensors","b":"model-1.safetensors","c":"model-2.safetensors"}}`)
	files["model-1.safetensors"] = weights(1, 1000)
	files["model-2.safetensors"] = weights(2, 2000)
	h := newHub(t, files)
	c, _ := h.client()
	dir := t.TempDir()
	if _, err := c.Pull(t.Context(), repo, dir, nil); err != nil {
		t.Fatal(err)
	}
	wantFiles(t, dir, fetched(files))

	// Later the repository has one file of weights and no vocabulary.
	h.mu.Lock()
	for _, name := range []string{"model.safetensors.index.json", "model-1.safetensors", "model-2.safetensors", "vocab.txt"} {
		delete(files, name)
	}
	files[weightsName] = weights(3, 3000)
	h.mu.Unlock()
	if _, err := c.Pull(t.Context(), repo, dir, nil); err != nil {
		t.Fatal(err)
	}
	wantFiles(t, dir, fetched(files))
}

func TestPullIntoAFolderThatIsThere(t *testing.T) {
	t.Run("a file of somebody else", func(t *testing.T) {
		h := newHub(t, encoder())
		dir := t.TempDir()
		mine := map[string][]byte{weightsName: weights(7, 5000), "notes.txt": []byte("mine")}
		for name, b := range mine {
			put(t, filepath.Join(dir, name), b)
		}
		c, _ := h.client()
		_, err := c.Pull(t.Context(), repo, dir, nil)
		wantError(t, err, hub.ErrFolder, weightsName, "another folder")
		wantFiles(t, dir, mine)
	})
	t.Run("another repository", func(t *testing.T) {
		h := newHub(t, encoder())
		dir := t.TempDir()
		put(t, filepath.Join(dir, hub.ManifestName), []byte(`{"version":1,"source":"acme/other"}`))
		c, _ := h.client()
		_, err := c.Pull(t.Context(), repo, dir, nil)
		wantError(t, err, hub.ErrFolder, "acme/other")
		wantFiles(t, dir, nil)
	})
	t.Run("a damaged manifest", func(t *testing.T) {
		h := newHub(t, encoder())
		dir := t.TempDir()
		put(t, filepath.Join(dir, hub.ManifestName), []byte(`{"version":`))
		c, _ := h.client()
		_, err := c.Pull(t.Context(), repo, dir, nil)
		wantError(t, err, hub.ErrFolder, hub.ManifestName)
	})
	t.Run("a link out of it", func(t *testing.T) {
		h := newHub(t, encoder())
		dir, outside := t.TempDir(), t.TempDir()
		if err := os.Symlink(outside, filepath.Join(dir, "1_Pooling")); err != nil {
			t.Skip("no symbolic links here:", err)
		}
		c, _ := h.client()
		if _, err := c.Pull(t.Context(), repo, dir, nil); err == nil {
			t.Error("no error")
		}
		wantFiles(t, outside, nil)
	})
	t.Run("a manifest that names files outside", func(t *testing.T) {
		h := newHub(t, encoder())
		parent := t.TempDir()
		dir := filepath.Join(parent, "encoder")
		put(t, filepath.Join(parent, "mine.txt"), []byte("mine"))
		put(t, filepath.Join(dir, hub.ManifestName), []byte(`{"version":1,"source":"acme/encoder","files":{"../mine.txt":{"bytes":4}}}`))
		c, _ := h.client()
		if _, err := c.Pull(t.Context(), repo, dir, nil); err != nil {
			t.Fatal(err)
		}
		if !exists(filepath.Join(parent, "mine.txt")) {
			t.Error("a file outside is gone")
		}
	})
	for _, plain := range []bool{false, true} {
		t.Run(fmt.Sprintf("a damaged file, plain %v", plain), func(t *testing.T) {
			h := newHub(t, encoder())
			h.plain = plain
			dir := t.TempDir()
			c, _ := h.client()
			if _, err := c.Pull(t.Context(), repo, dir, nil); err != nil {
				t.Fatal(err)
			}
			put(t, filepath.Join(dir, weightsName), weights(8, 300_000))
			h.seen()
			if _, err := c.Pull(t.Context(), repo, dir, nil); err != nil {
				t.Fatal(err)
			}
			wantFiles(t, dir, fetched(h.files))
			gets := slices.DeleteFunc(h.seen(), func(r string) bool { return strings.HasPrefix(r, http.MethodHead) })
			if len(gets) != 1 || !strings.HasSuffix(gets[0], weightsName) {
				t.Errorf("fetched %q", gets)
			}
		})
	}
}

// TestRedirects has the weights on another host, which must not see the token.
func TestRedirects(t *testing.T) {
	files := encoder()
	var tokens []string
	store := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			tokens = append(tokens, r.URL.Path)
		}
		if r.Method != http.MethodGet {
			t.Errorf("%s %s", r.Method, r.URL)
		}
		w.Header().Set("ETag", `"store"`)
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(string(files[weightsName])))
	}))
	t.Cleanup(store.Close)
	h := newHub(t, files)
	h.token = "secret"
	away := func(w http.ResponseWriter, r *http.Request, content []byte) {
		w.Header().Set("X-Linked-Size", fmt.Sprint(len(content)))
		w.Header().Set("X-Linked-Etag", fmt.Sprintf(`"%x"`, sha256.Sum256(content)))
		http.Redirect(w, r, store.URL+"/blob?signature=1234", http.StatusFound)
	}
	h.heads[weightsName], h.tricks[weightsName] = []trick{away}, []trick{away}
	// A repository that was renamed: the token still goes along.
	h.heads["config.json"] = []trick{status(http.StatusTemporaryRedirect, "Location", "/acme/encoder/resolve/main/config.json")}
	c, _ := h.client()
	c.Token = "secret"
	dir := t.TempDir()
	report, err := c.Pull(t.Context(), repo, dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	wantFiles(t, dir, fetched(files))
	if len(tokens) > 0 {
		t.Errorf("the token went to another host: %q", tokens)
	}
	if f := report.Files[len(report.Files)-1]; f.Verified != hub.CheckSHA256 {
		t.Errorf("%+v", f)
	}
}

func TestRedirectsThatAreRefused(t *testing.T) {
	for name, tt := range map[string]struct {
		to    string
		words []string
	}{
		"loop":        {"/acme/encoder/resolve/main/config.json", []string{"10 redirects"}},
		"without TLS": {"http://hub.example/config.json?signature=1234", []string{"TLS"}},
		"other kind":  {"file:///etc/passwd", []string{"redirect"}},
		"nowhere":     {"", []string{"redirect"}},
		"user name":   {"https://a:1234@hub.example/", []string{"user name"}},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHub(t, encoder())
			h.heads["config.json"] = slices.Repeat([]trick{status(302, "Location", tt.to)}, 20)
			c, s := h.client()
			c.Token = "secret-token"
			_, err := c.Pull(t.Context(), repo, t.TempDir(), nil)
			wantError(t, err, hub.ErrResponse, tt.words...)
			if strings.Contains(err.Error(), "1234") || strings.Contains(err.Error(), c.Token) || len(s.slept) > 0 {
				t.Errorf("slept %v; %v", s.slept, err)
			}
		})
	}
}

// TestErrorsKeepSignedAddresses has a store behind the hub that is down; the
// address with the signature must not be told.
func TestErrorsKeepSignedAddresses(t *testing.T) {
	store := newHub(t, nil)
	store.Close()
	h := newHub(t, encoder())
	h.tricks[weightsName] = slices.Repeat([]trick{status(302, "Location", store.URL+"/blob?signature=1234")}, 10)
	c, _ := h.client()
	_, err := c.Pull(t.Context(), repo, t.TempDir(), nil)
	wantError(t, err, hub.ErrUnavailable, weightsName, "refused")
	if strings.Contains(err.Error(), "1234") {
		t.Error(err)
	}
}

func TestTLS(t *testing.T) {
	files := encoder()
	h := newHub(t, files)
	secure := httptest.NewTLSServer(h)
	t.Cleanup(secure.Close)
	c, s := h.client()
	c.Base = secure.URL
	_, err := c.Pull(t.Context(), repo, t.TempDir(), nil)
	wantError(t, err, hub.ErrResponse, "certificate")
	if len(s.slept) > 0 {
		t.Errorf("slept %v", s.slept)
	}
	c.HTTP = secure.Client()
	dir := t.TempDir()
	if _, err := c.Pull(t.Context(), repo, dir, nil); err != nil {
		t.Fatal(err)
	}
	wantFiles(t, dir, fetched(files))
	h.heads["config.json"] = []trick{status(302, "Location", h.URL+"/acme/encoder/resolve/main/config.json")}
	_, err = c.Pull(t.Context(), repo, t.TempDir(), nil)
	wantError(t, err, hub.ErrResponse, "TLS")
}

func TestUnreachable(t *testing.T) {
	h := newHub(t, nil)
	h.Close()
	c, s := h.client()
	c.Attempts = 20
	_, err := c.Pull(t.Context(), repo, t.TempDir(), nil)
	wantError(t, err, hub.ErrUnavailable, "config.json")
	if len(s.slept) != 19 || s.slept[0] < 250*time.Millisecond || s.slept[0] > 500*time.Millisecond || slices.Max(s.slept) > 30*time.Second || s.slept[18] < 15*time.Second {
		t.Errorf("slept %v", s.slept)
	}
}

func TestOptions(t *testing.T) {
	for _, c := range []hub.Client{
		{},
		{Base: "hub.example"},
		{Base: "http://hub.example"},
		{Base: "ftp://hub.example"},
		{Base: "https://me:pw@hub.example"},
		{Base: "https://hub.example/?x=1"},
		{Base: "https://hub.example/#x"},
		{Base: "https://hub.example:port"},
		{Base: "http://localhost.hub.example"},
		{Base: "https://hub.example", Token: "a\r\nX: y"},
		{Base: "https://hub.example", Token: "naïve"},
	} {
		_, err := c.Pull(t.Context(), repo, t.TempDir(), nil)
		wantError(t, err, hub.ErrOptions)
		if strings.Contains(err.Error(), "pw") {
			t.Errorf("the error tells the password: %v", err)
		}
	}
}

func TestParseRepo(t *testing.T) {
	for s, want := range map[string]hub.Repo{
		"acme/encoder":           {Org: "acme", Name: "encoder"},
		"acme/all-L6_v2.1@v1.0":  {Org: "acme", Name: "all-L6_v2.1", Revision: "v1.0"},
		"acme/encoder@refs/pr/1": {Org: "acme", Name: "encoder", Revision: "refs/pr/1"},
	} {
		if got, err := hub.ParseRepo(s); err != nil || got != want {
			t.Errorf("%s: %+v, %v", s, got, err)
		}
	}
	for _, s := range []string{
		"", "encoder", "/encoder", "acme/", "acme/encoder@", "acme/encoder/x", "../encoder", "acme/..", "acme/a..b", "-a/b", "a b/c",
		"acme/encoder@../x", "acme/encoder@a b", "acme/encoder@/x", "acme/enc%2foder", "acme/" + strings.Repeat("x", 100),
	} {
		_, err := hub.ParseRepo(s)
		wantError(t, err, hub.ErrOptions)
	}
}

func TestRevisionIsOneElement(t *testing.T) {
	var paths []string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		paths = append(paths, r.URL.EscapedPath())
		http.NotFound(w, r)
	}))
	t.Cleanup(s.Close)
	c := hub.Client{Base: s.URL + "/mirror/"}
	_, err := c.Pull(t.Context(), hub.Repo{Org: "acme", Name: "encoder", Revision: "refs/pr/1"}, t.TempDir(), nil)
	wantError(t, err, hub.ErrNotFound)
	if want := []string{"/mirror/acme/encoder/resolve/refs%2Fpr%2F1/config.json"}; !slices.Equal(paths, want) {
		t.Errorf("asked for %q", paths)
	}
}

// TestEveryShortCut cuts the connection at many places, once each.
func TestEveryShortCut(t *testing.T) {
	files := encoder()
	files[weightsName] = weights(1, 64)
	for n := 1; n < 64; n += 7 {
		h := newHub(t, maps.Clone(files))
		h.tricks[weightsName] = []trick{h.cut(weightsName, n)}
		c, _ := h.client()
		dir := t.TempDir()
		if _, err := c.Pull(t.Context(), repo, dir, nil); err != nil {
			t.Fatalf("cut after %d: %v", n, err)
		}
		wantFiles(t, dir, fetched(files))
	}
}
