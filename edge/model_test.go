package edge_test

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wisp-project/wisp/artifact"
	"github.com/wisp-project/wisp/edge"
)

// hosts returns options with a state in dir.
func hosts(dir string) edge.HostOptions {
	return edge.HostOptions{Options: edge.Options{Trust: edge.Trust{Keys: []ed25519.PublicKey{public(key(1))}}, State: dir, Sandboxes: 2}}
}

func newHost(t testing.TB, o edge.HostOptions) *edge.Host {
	t.Helper()
	h, err := edge.NewHost(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return h
}

// opens opens a model that must serve.
func opens(t testing.TB, h *edge.Host, name, origin string) *edge.Model {
	t.Helper()
	m, err := h.Open(t.Context(), name, origin)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// serving asks a model of the shape least and returns the title of its only item, by
// which tests tell versions.
func serving(t testing.TB, m *edge.Model) string {
	t.Helper()
	got, err := m.Recommend(t.Context(), edge.Request{})
	if err != nil || len(got.Items) != 1 {
		t.Fatalf("%v items, %v", got.Items, err)
	}
	return got.Items[0].Title
}

// titled is a change for release.
func titled(title string) func(*artifact.Artifact) {
	return func(a *artifact.Artifact) { a.Items[0].Title = title }
}

// TestModel leads a model through its life, and starts the host anew after each
// step: what was accepted last serves, whatever has become of the origin.
func TestModel(t *testing.T) {
	state := filepath.Join(t.TempDir(), "state")
	v := func(n uint64, title string) string { return release(t, n, titled(title)) }
	replace := func(m *edge.Model, from string) error {
		_, err := m.Replace(t.Context(), from)
		return err
	}
	force := func(m *edge.Model, from string) error {
		_, err := m.Force(t.Context(), from)
		return err
	}
	rollback := func(m *edge.Model, _ string) error { return m.Rollback(t.Context()) }
	one, two, three := v(1, "one"), v(2, "two"), v(3, "three")
	a, _ := build(t, least)
	a.Manifest.Version = 9
	unsigned, foreign := save(t, a, nil), save(t, a, key(2))
	serves := "one"
	for i, c := range []struct {
		do   func(m *edge.Model, from string) error
		from string
		want error
		text string
		then string // serves afterwards; as before where empty
	}{
		{do: replace, from: one},
		{do: replace, from: two, then: "two"},
		{do: replace, from: two},
		{do: replace, from: one, want: edge.ErrRollback, text: "after version 2"},
		{do: replace, from: v(2, "another two"), want: edge.ErrRollback, text: "other content"},
		{do: replace, from: unsigned, want: artifact.ErrUnsigned},
		{do: replace, from: foreign, want: artifact.ErrUntrusted},
		{do: force, from: foreign, want: artifact.ErrUntrusted},
		{do: replace, from: state, want: artifact.ErrFormat},
		{do: replace, from: filepath.Join(state, "none"), want: os.ErrNotExist},
		{do: replace, from: release(t, 9, func(a *artifact.Artifact) { a.Goldens[0].Answer[0] ^= 1 }), want: edge.ErrGolden},
		{do: force, from: release(t, 9, func(a *artifact.Artifact) { a.Goldens[0].Answer[0] ^= 1 }), want: edge.ErrGolden},
		{do: replace, from: release(t, 9, func(a *artifact.Artifact) { a.Kernel = []byte("no kernel") }), want: edge.ErrArtefact},
		{do: replace, from: release(t, 9, func(a *artifact.Artifact) { a.Manifest.Name = "other" }), want: edge.ErrModel},
		{do: replace, from: release(t, 9, func(a *artifact.Artifact) { a.Manifest.Tenant = "other" }), want: edge.ErrModel},
		{do: rollback, then: "one"},
		{do: rollback, want: edge.ErrState, text: "no version before 1"},
		{do: replace, from: two, want: edge.ErrRollback, text: "rolled back to version 1"},
		{do: replace, from: one},
		{do: replace, from: three, then: "three"},
		{do: rollback, then: "one"},
		{do: force, from: three, then: "three"},
		{do: rollback, then: "one"},
		{do: replace, from: v(4, "four"), then: "four"},
		{do: force, from: two, then: "two"},
		{do: rollback, then: "four"},
		{do: replace, from: three, want: edge.ErrRollback},
		{do: force, from: release(t, 1, func(a *artifact.Artifact) { a.Manifest.Name, a.Items[0].Title = "other", "other" }), then: "other"},
	} {
		h := newHost(t, hosts(state))
		origin := ""
		if i == 0 {
			origin = one
		}
		m := opens(t, h, "shop", origin)
		if got := serving(t, m); got != serves {
			t.Fatalf("step %d begins with %q, want %q", i, got, serves)
		}
		before := m.Stats()
		err := c.do(m, c.from)
		if !errors.Is(err, c.want) || !strings.Contains(fmt.Sprint(err), c.text) {
			t.Errorf("step %d: error %v, want %v that says %q", i, err, c.want, c.text)
		}
		if c.then != "" {
			serves = c.then
		}
		after := m.Stats()
		if got := serving(t, m); got != serves || (after.Digest == before.Digest) != (c.then == "") || (after.Replaced == 1) != (c.then != "") {
			t.Errorf("step %d: %q serves, want %q; before %+v, after %+v", i, got, serves, before, after)
		}
		if !errors.Is(after.Failure, c.want) {
			t.Errorf("step %d: the failure is %v, want %v", i, after.Failure, c.want)
		}
		if err := h.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	// Of all that was fetched, two versions at most are kept for each of two models.
	heads, err := filepath.Glob(filepath.Join(state, "store", "*.head"))
	if err != nil || len(heads) > 4 {
		t.Errorf("%d versions are kept (%v)", len(heads), err)
	}
}

// TestKeptContent spoils what the state holds: the origin heals it, and without one
// nothing else is served.
func TestKeptContent(t *testing.T) {
	state, path := t.TempDir(), release(t, 3, titled("three"))
	h := newHost(t, hosts(state))
	opens(t, h, "shop", path)
	if err := h.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	sections, err := filepath.Glob(filepath.Join(state, "store", "sections", "*"))
	if err != nil || len(sections) == 0 {
		t.Fatalf("%q, %v", sections, err)
	}
	for _, section := range sections {
		b, err := os.ReadFile(section)
		if err != nil {
			t.Fatal(err)
		}
		b[0] ^= 1
		if err := os.WriteFile(section, b, 0o600); err != nil {
			t.Fatal(err)
		}
		h := newHost(t, hosts(state))
		if _, err := h.Open(t.Context(), "shop", ""); !errors.Is(err, artifact.ErrDigest) {
			t.Errorf("a spoilt section: error %v, want ErrDigest", err)
		}
		m := opens(t, h, "shop", path)
		if serving(t, m) != "three" || m.Stats().Failure == nil {
			t.Errorf("the origin has it, and %q serves; failure %v", serving(t, m), m.Stats().Failure)
		}
		if err := h.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	h = newHost(t, hosts(state))
	if m := opens(t, h, "shop", ""); serving(t, m) != "three" {
		t.Error("it was not healed")
	}
	// Keys are rotated: the new signature is fetched, and nothing else.
	if err := artifact.SignFile(path, key(2)); err != nil {
		t.Fatal(err)
	}
	o := hosts(state)
	o.Trust.Keys = []ed25519.PublicKey{public(key(2))}
	if _, err := newHost(t, o).Open(t.Context(), "shop", ""); !errors.Is(err, artifact.ErrUntrusted) {
		t.Errorf("a key that is trusted no more: error %v, want ErrUntrusted", err)
	}
	opens(t, newHost(t, o), "shop", path)
	opens(t, newHost(t, o), "shop", "")
}

func TestBadHosts(t *testing.T) {
	h := newHost(t, hosts(t.TempDir()))
	path := release(t, 1, nil)
	opens(t, h, "shop", path)
	for name, want := range map[string]error{"": edge.ErrModel, "a/b": edge.ErrModel, "..": edge.ErrModel, ".x": edge.ErrModel, "shop": edge.ErrModel, "new": edge.ErrState} {
		if _, err := h.Open(t.Context(), name, ""); !errors.Is(err, edge.ErrModel) && !errors.Is(err, want) {
			t.Errorf("%q: error %v, want %v", name, err, want)
		}
	}
	if _, err := h.Model("new"); !errors.Is(err, edge.ErrModel) {
		t.Errorf("no such model: error %v", err)
	}
	if m, err := h.Model("shop"); err != nil || m.Name() != "shop" || len(h.Models()) != 1 {
		t.Errorf("the model: %v, error %v, all %v", m, err, h.Models())
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := edge.NewHost(hosts(file)); !errors.Is(err, edge.ErrState) {
		t.Errorf("a file for a state: error %v, want ErrState", err)
	}
	for _, o := range []edge.HostOptions{
		{Others: edge.TenantLimits{Memory: -1}}, {Tenants: map[string]edge.TenantLimits{"a": {Sandboxes: -1}}}, {Options: edge.Options{MaxAnswer: -1}},
	} {
		if _, err := edge.NewHost(o); !errors.Is(err, edge.ErrOptions) {
			t.Errorf("%+v: error %v, want ErrOptions", o, err)
		}
	}
	// Without a state there is nothing to go back to, and no place for what is fetched.
	o := hosts("")
	bare := newHost(t, o)
	m := opens(t, bare, "shop", path)
	if _, err := m.Replace(t.Context(), release(t, 2, titled("two"))); err != nil || serving(t, m) != "two" {
		t.Errorf("replace without a state: %v", err)
	}
	if err := m.Rollback(t.Context()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("rollback without a state: %v", err)
	}
	if _, err := m.Replace(t.Context(), "http://127.0.0.1/shop.wisp"); !errors.Is(err, edge.ErrOptions) {
		t.Errorf("an address without a state: %v", err)
	}
	if err := h.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Open(t.Context(), "other", path); !errors.Is(err, edge.ErrClosed) {
		t.Errorf("after Close: error %v", err)
	}
}

// TestUpdateOverHTTP updates from a server and counts what it sends.
func TestUpdateOverHTTP(t *testing.T) {
	var path atomic.Pointer[string]
	var sent atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		http.ServeFile(counts{w, &sent}, q, *path.Load())
	}))
	defer s.Close()
	shape := mid
	shape.Items = 5000
	a, _ := build(t, shape)
	put := func(version uint64, title string) (size int64) {
		a.Manifest.Version, a.Items[0].Title = version, title
		file := save(t, a, key(1))
		path.Store(&file)
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	size := put(1, "one")
	m := opens(t, newHost(t, hosts(t.TempDir())), "shop", s.URL)
	if sent.Load() < size {
		t.Errorf("%d bytes were sent of %d", sent.Load(), size)
	}
	put(2, "two")
	sent.Store(0)
	if changed, err := m.Update(t.Context()); err != nil || !changed {
		t.Errorf("changed %v, error %v", changed, err)
	}
	items := int64(0)
	for _, info := range sections(t, *path.Load()) {
		if info.Type == artifact.SectionItems || info.Type == artifact.SectionManifest {
			items += info.Stored
		}
	}
	if got := sent.Load(); got > items+10_000 {
		t.Errorf("%d bytes were sent for a changed catalogue of %d", got, items)
	}
	sent.Store(0)
	if changed, err := m.Update(t.Context()); err != nil || changed || sent.Load() > 10_000 {
		t.Errorf("nothing has changed: changed %v, error %v, %d bytes were sent", changed, err, sent.Load())
	}
}

// sections returns those of the artefact at path.
func sections(t *testing.T, path string) []artifact.SectionInfo {
	t.Helper()
	a, err := artifact.Open(path, artifact.ReadOptions{AllowUnsigned: true})
	if err != nil {
		t.Fatal(err)
	}
	return a.Sections
}

type counts struct {
	http.ResponseWriter
	n *atomic.Int64
}

func (c counts) Write(b []byte) (int, error) {
	n, err := c.ResponseWriter.Write(b)
	c.n.Add(int64(n))
	return n, err
}

// TestReplaceUnderLoad replaces versions while many ask: nobody gets an error, and
// every answer is one of some version, whole.
func TestReplaceUnderLoad(t *testing.T) {
	const versions = 8
	a, _ := build(t, mid)
	var paths []string
	for v := range uint64(versions) {
		a.Manifest.Version = v + 1
		for i := range a.Items {
			a.Items[i].Title = fmt.Sprint(v)
		}
		paths = append(paths, save(t, a, key(1)))
	}
	o := hosts(t.TempDir())
	o.Cache = filepath.Join(t.TempDir(), "cache")
	m := opens(t, newHost(t, o), "shop", paths[0])
	events, _ := randomHistory(rand.New(rand.NewPCG(1, 9)), mid, 30)
	want, err := m.Recommend(t.Context(), edge.Request{History: events})
	if err != nil {
		t.Fatal(err)
	}
	var stop atomic.Bool
	var answered, seen atomic.Int64
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for !stop.Load() {
				got, err := m.Recommend(t.Context(), edge.Request{History: events})
				if err != nil {
					t.Error(err)
					return
				}
				answered.Add(1)
				title := got.Items[0].Title
				for i, item := range got.Items {
					if item.Item != want.Items[i].Item || item.Score != want.Items[i].Score || item.Title != title {
						t.Errorf("item %d is %+v, want that of one version with the scores of %+v", i, item, want.Items[i])
					}
				}
				seen.Store(max(seen.Load(), int64(title[0]-'0')))
			}
		})
	}
	for i, path := range paths[1:] {
		before := answered.Load()
		if _, err := m.Replace(t.Context(), path); err != nil {
			t.Error(err)
		}
		if i%3 == 2 {
			if err := m.Rollback(t.Context()); err != nil {
				t.Error(err)
			}
		}
		for answered.Load() < before+20 && !t.Failed() {
			runtime.Gosched()
		}
	}
	stop.Store(true)
	wg.Wait()
	s := m.Stats()
	if s.Replaced != versions-1+2 || s.Answered < answered.Load() || s.Failed != 0 || seen.Load() == 0 {
		t.Errorf("%d answers, up to version %d; stats %+v", answered.Load(), seen.Load(), s)
	}
}

// runForever names the folders of the process that TestKilledModel kills.
const runForever = "WISP_TEST_RUN_FOREVER"

// TestRunForever is that process: it updates and rolls back, and says what it has
// begun and what is done.
func TestRunForever(t *testing.T) {
	state, dir, ok := strings.Cut(os.Getenv(runForever), "\n")
	if !ok {
		t.Skip("it is run by TestKilledModel")
	}
	o := hosts(state)
	o.Cache = filepath.Join(dir, "cache")
	h, err := edge.NewHost(o)
	if err != nil {
		t.Fatal(err)
	}
	m, err := h.Open(t.Context(), "shop", filepath.Join(dir, "1.wisp"))
	if err != nil {
		t.Fatal(err)
	}
	for n := m.Stats().Version; ; {
		fmt.Printf("serves %d %s\n", n, serving(t, m))
		next := n + 1
		for { // a version that was rolled back is refused, the one after it is not
			fmt.Printf("begins %d\n", next)
			_, err := m.Replace(t.Context(), filepath.Join(dir, fmt.Sprintf("%d.wisp", next)))
			if err == nil {
				break
			}
			if !errors.Is(err, edge.ErrRollback) {
				t.Fatal(err)
			}
			next++
		}
		n = next
		fmt.Printf("serves %d %s\n", n, serving(t, m))
		if n%3 == 0 {
			fmt.Printf("begins %d\n", n-1)
			if err := m.Rollback(t.Context()); err != nil {
				t.Fatal(err)
			}
			if n = m.Stats().Version; n >= next {
				t.Fatalf("after a rollback version %d serves", n)
			}
		}
	}
}

// TestKilledModel ends a process with SIGKILL while it opens, updates and rolls back,
// at moments that nobody chose. The next one serves what was accepted last: the
// version that was being brought in, or the one before.
func TestKilledModel(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no state is kept there")
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	state, dir := t.TempDir(), t.TempDir()
	a, _ := build(t, least)
	for v := range uint64(400) {
		a.Manifest.Version, a.Items[0].Title = v+1, fmt.Sprintf("title-%d", v+1)
		path := filepath.Join(dir, fmt.Sprintf("%d.wisp", v+1))
		if err := artifact.WriteFile(path, a, artifact.WriteOptions{Raw: true, Key: key(1)}); err != nil {
			t.Fatal(err)
		}
	}
	rounds, rng := 24, rand.New(rand.NewPCG(15, 16))
	if testing.Short() {
		rounds = 6
	}
	serves := uint64(0)
	inTheMiddle := 0
	for round := range rounds {
		ctx, kill := context.WithCancel(t.Context())
		cmd := exec.CommandContext(ctx, exe, "-test.run", "^TestRunForever$")
		cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s\n%s", runForever, state, dir))
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		allowed := map[uint64]bool{serves: true} // if it is killed before it says anything
		read := func() bool {
			if !lines.Scan() {
				return false
			}
			var n uint64
			line := lines.Text()
			switch {
			case strings.HasPrefix(line, "serves"):
				if _, err := fmt.Sscanf(line, "serves %d", &n); err != nil || line != fmt.Sprintf("serves %d title-%d", n, n) {
					t.Errorf("it says %q", line)
				}
				allowed = map[uint64]bool{n: true}
				serves = n
			case strings.HasPrefix(line, "begins"):
				_, _ = fmt.Sscanf(line, "begins %d", &n)
				allowed[n] = true
				if n < serves { // a rollback, to whichever version was before
					for v := range n {
						allowed[v] = true
					}
				}
			default:
				t.Errorf("it says %q", line)
			}
			return true
		}
		for range rng.IntN(8) {
			if !read() {
				t.Fatalf("round %d: the process ended", round)
			}
		}
		time.Sleep(time.Duration(rng.IntN(12_000)) * time.Microsecond)
		kill() // SIGKILL
		for read() {
		}
		_, _ = io.Copy(io.Discard, out)
		_ = cmd.Wait() // it was killed

		h := newHost(t, hosts(state))
		m, err := h.Open(t.Context(), "shop", "")
		if err != nil {
			if serves == 0 && errors.Is(err, edge.ErrModel) { // killed before it had ever served
				continue
			}
			t.Fatalf("round %d, after version %d: %v", round, serves, err)
		}
		got := m.Stats().Version
		if serves > 0 && !allowed[got] || serving(t, m) != fmt.Sprintf("title-%d", got) {
			t.Fatalf("round %d: version %d serves, allowed are %v", round, got, allowed)
		}
		if len(allowed) > 1 {
			inTheMiddle++
		}
		serves = got
		if err := h.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if inTheMiddle < rounds/4 {
		t.Errorf("only %d of %d kills came while something was going on", inTheMiddle, rounds)
	}
}
