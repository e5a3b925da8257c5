package q8_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"

	"github.com/wisp-project/wisp/internal/layout"
	"github.com/wisp-project/wisp/internal/layout/layouttest"
	"github.com/wisp-project/wisp/internal/q8"
	"github.com/wisp-project/wisp/wasm"
)

// The stream of requests that every engine and machine is held to: ten of every
// kind at a time, batch after batch, each batch over the next shape and with an
// overlay of its own.
const batchSize = 10

// depths are the numbers of requests after which the digest of all answers so far
// is kept, so that slow engines can check a prefix.
var depths = []int{300, 3000, 100000}

type stream struct {
	images []*layout.Image
	models []*q8.Model
}

func newStream(t testing.TB) *stream {
	var s stream
	for _, shape := range append(layouttest.Shapes(), layouttest.TextShapes()...) {
		image, m := open(t, layouttest.Params(shape, 1))
		s.images, s.models = append(s.images, image), append(s.models, m)
	}
	return &s
}

// batch returns the shape, the overlay and the requests of batch b.
func (s *stream) batch(b int) (int, layout.Overlay, []layout.Request) {
	i := b % len(s.images)
	image := s.images[i]
	var o layout.Overlay
	if turn := b / len(s.images) % 3; turn > 0 {
		o = layouttest.Overlay(image.Shape, image.Map, 5*turn, uint64(b))
	}
	return i, o, layouttest.RankRequests(image.Shape, image.Map.With(&o), batchSize, uint64(b))
}

// digests returns the digests of answers to n requests; answers returns those to
// batch b, one after the other.
func digests(n int, answers func(b int) []byte) string {
	h, out := sha256.New(), ""
	for b := range n / batchSize {
		h.Write(answers(b))
		for _, d := range depths {
			if (b+1)*batchSize == d {
				out += fmt.Sprintf("%d %x\n", d, h.Sum(nil))
			}
		}
	}
	return out
}

// depth is how many requests an engine answers: want, or less in a short test, or as
// many as WISP_IDENTITY says.
func depth(want int) int {
	if n, err := strconv.Atoi(os.Getenv("WISP_IDENTITY")); err == nil {
		return n
	}
	if testing.Short() {
		return depths[0]
	}
	return want
}

// TestIdentity compares the digests of all answers with the ones that are kept: of
// plain Go, and of the kernel on every engine that is there. WISP_IDENTITY=100000
// goes all the way. UPDATE_GOLDEN keeps the digests that the compiler leads to, and
// drops those of more requests than it answered.
func TestIdentity(t *testing.T) {
	s := newStream(t)
	kinds := map[uint32]bool{}
	for b := range depths[0] / batchSize {
		_, _, requests := s.batch(b)
		for _, r := range requests {
			kinds[r.Kind] = true
		}
	}
	if len(kinds) != layout.KindClassify {
		t.Errorf("the first %d requests are of the kinds %v only", depths[0], kinds)
	}
	if os.Getenv("UPDATE_GOLDEN") != "" {
		golden(t, "identity.txt", s.wazero(t, wazero.NewRuntimeConfigCompiler(), depth(3000)))
	}
	compare := func(t *testing.T, got string) {
		t.Helper()
		want, err := os.ReadFile(filepath.Join("testdata", "identity.txt"))
		if err != nil {
			t.Fatal(err)
		}
		if got == "" || !strings.HasPrefix(string(want), got) {
			t.Errorf("the digests are\n%swant\n%s", got, want)
		}
	}
	for _, e := range engines {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			compare(t, s.wazero(t, e.config(), depth(3000/e.share/100*100)))
		})
	}
	t.Run("q8", func(t *testing.T) {
		t.Parallel()
		compare(t, digests(min(depth(300), 3000), func(b int) (answers []byte) {
			i, o, requests := s.batch(b)
			m := s.models[i].WithOverlay(o)
			for _, r := range requests {
				a := m.Run(r)
				answers = a.Append(answers)
			}
			return answers
		}))
	})
	t.Run("v8", func(t *testing.T) {
		node, err := exec.LookPath("node")
		if err != nil {
			t.Skip("node is not installed: the kernel was not run on V8")
		}
		t.Parallel()
		compare(t, s.v8(t, node, depth(3000)))
	})
}

// wazero returns the digests of n answers on one of wazero's engines.
func (s *stream) wazero(t *testing.T, config wazero.RuntimeConfig, n int) string {
	guests := make([]*guest, len(s.images))
	for i, image := range s.images {
		guests[i] = newGuest(t, config, image)
	}
	return digests(n, func(b int) (answers []byte) {
		i, o, requests := s.batch(b)
		guests[i].lay(t, s.images[i], o)
		for _, r := range requests {
			answers = append(answers, guests[i].answer(t, r.Append(nil))...)
		}
		return answers
	})
}

// v8 returns the digests of n answers in Node, which has one process for each shape.
func (s *stream) v8(t *testing.T, node string, n int) string {
	answers := make([][]byte, n/batchSize)
	for i := range s.images {
		var input []byte
		var batches []int
		for b := range answers {
			shape, o, requests := s.batch(b)
			if shape != i {
				continue
			}
			patches, err := s.images[i].Patches(&o)
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range patches {
				input = appendWrite(input, p.At, p.Bytes)
			}
			for _, r := range requests {
				input = appendWrite(input, s.images[i].Map.Request, r.Append(nil))
			}
			batches = append(batches, b)
		}
		out := runNode(t, node, s.images[i], input)
		for _, b := range batches {
			for range batchSize {
				length := layout.ParseAnswerHeader(out).Len()
				answers[b] = append(answers[b], out[:length]...)
				out = out[length:]
			}
		}
	}
	return digests(n, func(b int) []byte { return answers[b] })
}

// appendWrite appends what testdata/run.mjs is to write to an address.
func appendWrite(dst []byte, at uint32, b []byte) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, at)
	return append(binary.LittleEndian.AppendUint32(dst, uint32(len(b))), b...)
}

// runNode runs testdata/run.mjs and returns the answers.
func runNode(t *testing.T, node string, image *layout.Image, input []byte) []byte {
	t.Helper()
	dir := t.TempDir()
	write := func(name string, b []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	cmd := exec.CommandContext(t.Context(), node, filepath.Join("testdata", "run.mjs"), write("kernel.wasm", wasm.Kernel), write("image", image.Bytes()), write("input", input),
		fmt.Sprint(layout.ImageBase), fmt.Sprint(image.Map.Pages), fmt.Sprint(image.Map.Request), fmt.Sprint(image.Map.Answer))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("node: %v: %s", err, stderr.String())
	}
	return out
}
