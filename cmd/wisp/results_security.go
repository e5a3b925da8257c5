package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"

	"github.com/wisp-project/wisp/artifact"
	"github.com/wisp-project/wisp/artifact/artifacttest"
	"github.com/wisp-project/wisp/edge"
	"github.com/wisp-project/wisp/internal/atomicfile"
	"github.com/wisp-project/wisp/internal/layout"
	"github.com/wisp-project/wisp/internal/results"
)

const securityText = `
What hostile bytes do to the readers. Mutants of small artefacts (bits, numbers, pieces moved and doubled, JSON
pulled apart, the table and the header bent) get digests and a signature that are right, so that the parsers behind
them are reached; and are read once more with the signature that they had, which must be refused. Mutants of requests
go through the JSON of the gateway into a sandbox, and through the decoders of requests and answers between
host and guest. An input that makes a reader panic is kept, and counted. The inputs are numbered: the same number
is the same input, and an interrupted run goes on where it was.

Memory is all that reading allocates, garbage included, over what the file declares: its length and the lengths
of its sections after decompression. It is measured on every hundredth mutant of an artefact with segments of some
megabytes; the figure is the largest.
`

// securitySizes say how much is tried.
type securitySizes struct{ inputs, chunk int }

func (b *bench) security(ctx context.Context) (results.Topic, error) {
	return securityFigures(ctx, securitySizes{inputs: b.inputs, chunk: 20_000}, filepath.Join(b.work, "security"), b.p)
}

// kinds of input, by what is tried with them.
var securityKinds = []string{"artefact", "manifest", "request", "message"}

// tally is what was found, and is kept between chunks.
type tally struct {
	Done     int            `json:"done"`
	Inputs   map[string]int `json:"inputs"`
	Accepted map[string]int `json:"accepted"` // that no reader objected to
	Panics   map[string]int `json:"panics"`
	Forged   int            `json:"forged"`  // that were accepted
	Memory   float64        `json:"memory"`  // the largest ratio
	Weighed  int            `json:"weighed"` // for it
}

func securityFigures(ctx context.Context, n securitySizes, work string, p *progress) (results.Topic, error) {
	t := results.Topic{Title: "Hostile bytes", Text: securityText}
	if err := os.MkdirAll(work, 0o755); err != nil {
		return t, err
	}
	attack, err := newAttack(ctx, work)
	if err != nil {
		return t, err
	}
	defer attack.close()
	path := filepath.Join(work, "tally.json")
	sum := tally{Inputs: map[string]int{}, Accepted: map[string]int{}, Panics: map[string]int{}}
	switch content, err := os.ReadFile(path); {
	case err == nil:
		if err := json.Unmarshal(content, &sum); err != nil {
			return t, fmt.Errorf("%s: %w; remove it to begin anew", path, err)
		}
	case !errors.Is(err, fs.ErrNotExist):
		return t, err
	}
	for sum.Done < n.inputs {
		if err := ctx.Err(); err != nil {
			return t, err
		}
		for end := min(n.inputs, sum.Done+n.chunk); sum.Done < end; sum.Done++ {
			attack.try(ctx, sum.Done, &sum)
		}
		content, err := json.Marshal(sum)
		if err != nil {
			return t, err
		}
		if err := atomicfile.Write(path, content); err != nil {
			return t, err
		}
		p.stage("hostile inputs", int64(sum.Done), int64(n.inputs))
	}
	panics := 0
	for _, kind := range securityKinds {
		panics += sum.Panics[kind]
		t.Records = append(t.Records, results.Record{
			Name: "security." + kind + ".inputs", Value: float64(sum.Inputs[kind]), Unit: "inputs", N: sum.Inputs[kind],
			Note: fmt.Sprintf("%d of them are valid", sum.Accepted[kind]),
		})
	}
	t.Records = append(t.Records,
		results.Record{Name: "security.inputs", Value: float64(sum.Done), Unit: "inputs", N: sum.Done},
		results.Record{Name: "security.panics", Value: float64(panics), Unit: "inputs", N: sum.Done},
		results.Record{Name: "security.accepted-forgeries", Value: float64(sum.Forged), Unit: "files", N: sum.Inputs["artefact"] + sum.Inputs["manifest"]},
		results.Record{Name: "security.memory-ratio", Value: sum.Memory, Unit: "times what is declared", N: sum.Weighed},
	)
	for i := range t.Records {
		t.Records[i].Low, t.Records[i].High = t.Records[i].Value, t.Records[i].Value
	}
	return t, nil
}

// attack is what inputs are tried on.
type attack struct {
	work    string
	key     ed25519.PrivateKey
	reads   artifact.ReadOptions
	files   [][]byte // small artefacts
	large   []byte   // one with large segments
	runtime *edge.Runtime
	image   *layout.Image
	request []byte // as JSON
	message []byte // as the guest reads it
}

func newAttack(ctx context.Context, work string) (*attack, error) {
	at := &attack{work: work, key: ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))}
	at.reads.Keys = []ed25519.PublicKey{at.key.Public().(ed25519.PublicKey)}
	a, err := randomArtefact(12)
	if err != nil {
		return nil, err
	}
	large := *a
	for _, c := range []struct {
		a    *artifact.Artifact
		opts artifact.WriteOptions
		to   func([]byte)
	}{
		{a, artifact.WriteOptions{Raw: true, Key: at.key}, func(b []byte) { at.files = append(at.files, b) }},
		{a, artifact.WriteOptions{Level: 3, Key: at.key}, func(b []byte) { at.files = append(at.files, b) }},
		{&large, artifact.WriteOptions{Level: 1, Key: at.key}, func(b []byte) { at.large = b }},
	} {
		if c.a == &large {
			large.Segments = nil
			for _, s := range a.Segments {
				large.Segments = append(large.Segments, artifact.Segment{Name: s.Name, Data: bytes.Repeat(s.Data, 1+(2<<20)/len(s.Data))})
			}
		}
		var b bytes.Buffer
		if _, err := artifact.Write(&b, c.a, c.opts); err != nil {
			return nil, err
		}
		c.to(b.Bytes())
	}
	if at.image, err = a.Image(); err != nil {
		return nil, err
	}
	if at.runtime, err = edge.New(ctx, a, edge.Options{Sandboxes: 1}); err != nil {
		return nil, err
	}
	if at.request, err = json.Marshal(edge.Request{
		History: []edge.Event{{Item: "1", Type: edge.DefaultType, Time: 1_700_000_000}, {Item: "4", Value: 3, Time: 1_700_000_060}},
		K:       3, Exclude: []string{"2", "none"}, Explain: true, Description: "likes tea",
	}); err != nil {
		return nil, err
	}
	at.message = a.Goldens[0].Request
	return at, nil
}

func (at *attack) close() { _ = at.runtime.Close(context.Background()) }

// try tries input number i.
func (at *attack) try(ctx context.Context, i int, sum *tally) {
	rng := rand.New(rand.NewPCG(uint64(i), 8))
	var kind string
	var input []byte
	switch n := i % 10; {
	case n < 2: // the costliest by far, and so the rarest
		kind = "artefact"
		base := at.files[rng.IntN(len(at.files))]
		if i%500 == 0 {
			base = at.large
		}
		input = artifacttest.File(rng, base)
	case n < 3:
		kind, input = "manifest", at.withManifest(rng)
	case n < 7:
		kind, input = "request", artifacttest.Bytes(rng, bytes.Clone(at.request))
	default:
		kind, input = "message", artifacttest.Bytes(rng, bytes.Clone(at.message))
	}
	sum.Inputs[kind]++
	defer func() {
		if r := recover(); r != nil {
			sum.Panics[kind]++
			name := fmt.Sprintf("panic-%s-%d", kind, i)
			content := fmt.Appendf(nil, "%v\n%s\n%q\n", r, debug.Stack(), input)
			_ = os.WriteFile(filepath.Join(at.work, name), content, 0o644) // the count tells, too
		}
	}()
	var accepted bool
	switch kind {
	case "request":
		accepted = at.ask(ctx, input)
	case "message":
		accepted = at.decode(input)
	default:
		accepted = at.read(input, i%500 == 0, sum)
	}
	if accepted {
		sum.Accepted[kind]++
	}
}

// withManifest returns a file of which the manifest alone is changed: it is stored as
// it is, so that all of the change reaches its parser.
func (at *attack) withManifest(rng *rand.Rand) []byte {
	return artifacttest.Section(rng, at.files[0], 0)
}

// read reads a file, with the signature that it has and with a right one.
func (at *attack) read(b []byte, weigh bool, sum *tally) (accepted bool) {
	if a, err := artifact.Read(bytes.NewReader(b), int64(len(b)), at.reads); err == nil && !at.ours(a, b) {
		sum.Forged++
	}
	artifacttest.Sign(b, at.key)
	var before, after runtime.MemStats
	if weigh {
		runtime.ReadMemStats(&before)
	}
	a, err := artifact.Read(bytes.NewReader(b), int64(len(b)), at.reads)
	if weigh {
		runtime.ReadMemStats(&after)
		if declared := artifacttest.Declared(b); declared > 1<<20 && declared < 1<<30 {
			sum.Weighed++
			sum.Memory = max(sum.Memory, float64(after.TotalAlloc-before.TotalAlloc)/float64(declared))
		}
	}
	if err != nil {
		return false
	}
	_, err = a.Image()
	return err == nil
}

// ours reports whether a file is one of those that were signed.
func (at *attack) ours(a *artifact.Artifact, b []byte) bool {
	for _, f := range append(at.files, at.large) {
		if bytes.Equal(f, b) && a.Signature.Trusted {
			return true
		}
	}
	return false
}

// ask sends a request on the way that the gateway sends it.
func (at *attack) ask(ctx context.Context, b []byte) bool {
	var q edge.Request
	if json.Unmarshal(b, &q) != nil {
		return false
	}
	q.Explain = q.Explain && len(q.History) < 8 // one run for each event
	q.History = q.History[:min(len(q.History), 100)]
	_, err := at.runtime.Recommend(ctx, q)
	return err == nil
}

// decode reads a message as a request and as an answer.
func (at *attack) decode(b []byte) bool {
	r, err := layout.ParseRequest(b)
	accepted := err == nil && r.Check(at.image.Shape, at.image.Map) == nil
	if len(b) >= layout.AnswerHeaderLen {
		limit := layout.AnswerHeader{Hits: 100, Vector: 100, Row: 100}
		if h := layout.ParseAnswerHeader(b); h.Within(limit) && h.Len() <= len(b) {
			_, _ = layout.ParseAnswer(b[:h.Len()], limit, nil)
		}
	}
	return accepted
}
