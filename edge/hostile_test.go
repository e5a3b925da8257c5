package edge_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wisp-project/wisp/artifact"
	"github.com/wisp-project/wisp/edge"
	"github.com/wisp-project/wisp/edge/edgetest"
	"github.com/wisp-project/wisp/internal/layout"
)

// What hostile kernels are made of, by the names that are short here.
const (
	unreachable, loop, end, br, brIf, call, drop       = edgetest.Unreachable, edgetest.Loop, edgetest.End, edgetest.Br, edgetest.BrIf, edgetest.Call, edgetest.Drop
	localGet, localSet, localTee, globalGet, globalSet = edgetest.LocalGet, edgetest.LocalSet, edgetest.LocalTee, edgetest.GlobalGet, edgetest.GlobalSet
	i32Eq, i32LtU, i32Add, i32Shl, f32FromI32          = edgetest.I32Eq, edgetest.I32LtU, edgetest.I32Add, edgetest.I32Shl, edgetest.F32FromI32
	void                                               = edgetest.Void
)

var (
	memorySize, memoryGrow  = edgetest.MemorySize, edgetest.MemoryGrow
	module, moduleWithStart = edgetest.Module, edgetest.ModuleWithStart
	word, float             = edgetest.Word, edgetest.Float
	store, when             = edgetest.Store, edgetest.When
	says, asked             = edgetest.Says, edgetest.Asked
)

// foreign returns the artefact with another kernel, which answers its one golden
// request, with K 1, with item 0 and the score 0.
func foreign(t *testing.T, kernel func(m layout.Map) []byte) *artifact.Artifact {
	t.Helper()
	a, q := build(t, mid)
	a.Kernel = kernel(q.Map())
	request := layout.Request{Kind: layout.KindRecommend, K: 1}
	answer := layout.Answer{Status: layout.StatusOK, Hits: []layout.Hit{{}}}
	a.Goldens = []artifact.Golden{{Request: request.Append(nil), Answer: answer.Append(nil)}}
	return a
}

// TestHostileKernels runs kernels that pass their golden request and behave badly
// when K is 7. Callers learn what happened, the next request is answered, and
// another runtime does not notice.
func TestHostileKernels(t *testing.T) {
	own, _ := build(t, mid)
	neighbour := start(t, own, edge.Options{Sandboxes: 1})
	want, err := neighbour.Recommend(t.Context(), edge.Request{})
	if err != nil {
		t.Fatal(err)
	}
	nan := float(float32(math.NaN()))
	for name, c := range map[string]struct {
		bad  func(m layout.Map) []byte // what it does behind its usual answer
		want error
		text string
		in   edge.Replaced
	}{
		"traps":    {func(layout.Map) []byte { return []byte{unreachable} }, edge.ErrSandbox, "unreachable", edge.Replaced{Trapped: 1}},
		"loops":    {func(layout.Map) []byte { return []byte{loop, void, br, 0, end} }, edge.ErrTimeout, "30ms", edge.Replaced{TimedOut: 1}},
		"recurses": {func(layout.Map) []byte { return []byte{call, 0, drop} }, edge.ErrSandbox, "stack overflow", edge.Replaced{Trapped: 1}},
		"recurses without end or overflow": {func(layout.Map) []byte { // 2^60 calls, no loop, no more than 60 deep
			step := func(by uint32) []byte {
				return slices.Concat([]byte{globalGet, 0}, word(by), []byte{i32Add, globalSet, 0})
			}
			return slices.Concat([]byte{globalGet, 0}, word(60), []byte{i32LtU, 0x04, void},
				step(1), []byte{call, 0, drop, call, 0, drop}, step(math.MaxUint32), []byte{end})
		}, edge.ErrTimeout, "30ms", edge.Replaced{TimedOut: 1}},
		"reads outside":     {func(layout.Map) []byte { return append(edgetest.Load(0xfffffff0), drop) }, edge.ErrSandbox, "out of bounds", edge.Replaced{Trapped: 1}},
		"grows":             {func(layout.Map) []byte { return slices.Concat(word(1), memoryGrow, []byte{drop}) }, edge.ErrMemory, "asked for more", edge.Replaced{Grew: 1}},
		"grows and traps":   {func(layout.Map) []byte { return slices.Concat(word(9), memoryGrow, []byte{unreachable}) }, edge.ErrMemory, "asked for more", edge.Replaced{Grew: 1}},
		"too many hits":     {func(m layout.Map) []byte { return says(m, 8, 0, word(0), float(0)) }, edge.ErrAnswer, "8 hits", edge.Replaced{Answered: 1}},
		"billions of hits":  {func(m layout.Map) []byte { return says(m, math.MaxUint32, 0, word(0), float(0)) }, edge.ErrAnswer, "hits", edge.Replaced{Answered: 1}},
		"item of nobody":    {func(m layout.Map) []byte { return says(m, 1, uint32(mid.Items), word(0), float(0)) }, edge.ErrAnswer, "not asked for", edge.Replaced{Answered: 1}},
		"score is no score": {func(m layout.Map) []byte { return says(m, 1, 0, word(0), nan) }, edge.ErrAnswer, "NaN", edge.Replaced{Answered: 1}},
		"refuses":           {func(m layout.Map) []byte { return store(m.Answer, word(3)...) }, edge.ErrAnswer, "status 3", edge.Replaced{Answered: 1}},
		"a vector too":      {func(m layout.Map) []byte { return store(m.Answer+8, word(1)...) }, edge.ErrAnswer, "1 values", edge.Replaced{Answered: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			a := foreign(t, func(m layout.Map) []byte {
				return module(2, slices.Concat(says(m, 1, 0, word(0), float(0)), when(asked(m), word(7), c.bad(m)...), word(0), []byte{end})...)
			})
			timeout := time.Minute
			if c.want == edge.ErrTimeout { //nolint:errorlint // a cell of the table
				timeout = 30 * time.Millisecond
			}
			r := start(t, a, edge.Options{Sandboxes: 1, Timeout: timeout})
			_, err := r.Recommend(t.Context(), edge.Request{K: 7})
			if !errors.Is(err, c.want) || !errors.Is(err, edge.ErrSandbox) || !strings.Contains(fmt.Sprint(err), c.text) {
				t.Errorf("got %v, want %v with %q", err, c.want, c.text)
			}
			if s := r.Stats(); s.Replaced != c.in || s.Made != 1 || s.Idle != 0 {
				t.Errorf("stats %+v, want one sandbox made and %+v", s, c.in)
			}
			if got, err := r.Recommend(t.Context(), edge.Request{K: 2}); err != nil || len(got.Items) != 1 {
				t.Errorf("the next request: %+v, %v", got, err)
			}
			if got, err := neighbour.Recommend(t.Context(), edge.Request{}); err != nil || !reflect.DeepEqual(got.Items, want.Items) {
				t.Errorf("the neighbour: %v, %v", got, err)
			}
		})
	}
	if s := neighbour.Stats(); s.Made != 1 || s.Replaced != (edge.Replaced{}) {
		t.Errorf("the neighbour's sandbox was replaced: %+v", s)
	}
}

// TestWrongScores is a kernel that answers fewer scores than were asked for.
func TestWrongScores(t *testing.T) {
	a := foreign(t, func(m layout.Map) []byte {
		return module(2, slices.Concat(says(m, 1, 0, word(0), float(0)), word(0), []byte{end})...)
	})
	r := start(t, a, edge.Options{})
	for _, items := range [][]string{{id(0), id(1)}, {id(1)}} {
		if _, err := r.Score(t.Context(), edge.ScoreRequest{Items: items}); !errors.Is(err, edge.ErrAnswer) {
			t.Errorf("scores of %q: got %v, want ErrAnswer", items, err)
		}
	}
}

// TestEarlyGrowth is a kernel that makes room for its own data over the image
// before anybody looks.
func TestEarlyGrowth(t *testing.T) {
	a := foreign(t, func(layout.Map) []byte {
		return moduleWithStart(2, slices.Concat(word(1), memoryGrow, []byte{drop, end}), 0x41, 0, end)
	})
	if _, err := edge.New(t.Context(), a, edge.Options{}); !errors.Is(err, edge.ErrMemory) || !errors.Is(err, edge.ErrGolden) {
		t.Errorf("got %v, want ErrMemory", err)
	}
}

// TestSecret has a kernel leave a secret wherever it can, asked for scores, and
// look for it in all of its memory, asked for recommendations: the score is how
// often it is found.
func TestSecret(t *testing.T) {
	const secret = 0x5ec2e7ab
	kernel := func(trusted bool) func(m layout.Map) []byte {
		return func(m layout.Map) []byte {
			hide := slices.Concat(store(256, word(secret)...), store(layout.ImageBase-4, word(secret)...), store(m.End-4, word(secret)...))
			if !trusted {
				hide = slices.Concat(hide, store(layout.ImageBase+4096, word(secret)...), word(secret), []byte{globalSet, 0})
			}
			return module(2, slices.Concat(
				[]byte{globalGet, 0}, word(secret), []byte{i32Eq, localSet, 1, loop, void},
				[]byte{localGet, 0, 0x28, 2, 0}, word(secret), []byte{i32Eq, localGet, 1, i32Add, localSet, 1},
				[]byte{localGet, 0}, word(4), []byte{i32Add, localTee, 0}, memorySize, word(16), []byte{i32Shl, i32LtU, brIf, 0, end},
				says(m, 1, 0, []byte{localGet, 1}, []byte{localGet, 1, f32FromI32}),
				when(asked(m), word(0), hide...),
				word(0), []byte{end},
			)...)
		}
	}
	for _, c := range []struct {
		isolation edge.Isolation
		trusted   bool
		found     float32
		want      edge.Stats // after the golden request and two more
	}{
		{edge.Shared, true, 3, edge.Stats{Made: 1, Idle: 1}},
		{edge.Shared, false, 5, edge.Stats{Made: 1, Idle: 1}},
		{edge.Wiped, true, 0, edge.Stats{Made: 1, Idle: 1, Wiped: 4}}, // one more records what a wipe brings back
		{edge.Wiped, false, 0, edge.Stats{Made: 3, Replaced: edge.Replaced{Used: 3}}},
		{edge.Fresh, true, 0, edge.Stats{Made: 3, Replaced: edge.Replaced{Used: 3}}},
		{edge.Fresh, false, 0, edge.Stats{Made: 3, Replaced: edge.Replaced{Used: 3}}},
	} {
		name, _ := c.isolation.MarshalText()
		t.Run(fmt.Sprintf("%s, trusted %v", name, c.trusted), func(t *testing.T) {
			a := foreign(t, kernel(c.trusted))
			o := edge.Options{Sandboxes: 1, Isolation: c.isolation}
			if c.trusted {
				o.Trust.Kernels = [][sha256.Size]byte{sha256.Sum256(a.Kernel)}
			}
			r := start(t, a, o)
			if _, err := r.Score(t.Context(), edge.ScoreRequest{Items: []string{id(0)}}); err != nil {
				t.Fatal(err)
			}
			got, err := r.Recommend(t.Context(), edge.Request{K: 1})
			if err != nil {
				t.Fatal(err)
			}
			if got.Items[0].Score != c.found {
				t.Errorf("the secret was found %v times, want %v", got.Items[0].Score, c.found)
			}
			if s := pooled(r); s != c.want {
				t.Errorf("stats %+v, want %+v", s, c.want)
			}
		})
	}
}

// TestTrustedLoop is a trusted kernel that never has an answer: a time limit ends
// it between two slices.
func TestTrustedLoop(t *testing.T) {
	a := foreign(t, func(m layout.Map) []byte {
		more := append(word(layout.StatusMore), 0x0f) // return
		return module(2, slices.Concat(says(m, 1, 0, word(0), float(0)), when(asked(m), word(7), more...), word(0), []byte{end})...)
	})
	r := start(t, a, edge.Options{Timeout: 10 * time.Millisecond, Trust: edge.Trust{Kernels: [][sha256.Size]byte{sha256.Sum256(a.Kernel)}}})
	if _, err := r.Recommend(t.Context(), edge.Request{K: 7}); !errors.Is(err, edge.ErrTimeout) {
		t.Errorf("got %v, want ErrTimeout", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.Recommend(ctx, edge.Request{K: 7}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want Canceled", err)
	}
	if s := r.Stats(); s.Replaced != (edge.Replaced{TimedOut: 1}) || s.Made != 2 || s.Idle != 1 {
		t.Errorf("stats %+v, want one sandbox replaced after the time limit, none after the caller left", s)
	}
}
