package q8_test

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"

	"github.com/wisp-project/wisp/wasm"
)

// TestWebIdentity writes the stream of TestIdentity, 3000 requests of all kinds to
// images of all shapes, and the digests of the compiler's answers, to the folder
// WISP_WEB_FIXTURES. wasm/web/test/identity.mjs compares browsers with them.
func TestWebIdentity(t *testing.T) {
	dir := os.Getenv("WISP_WEB_FIXTURES")
	if dir == "" {
		t.Skip("WISP_WEB_FIXTURES names no folder: make test-web does")
	}
	write := func(name string, b []byte) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	type shape struct {
		Image string `json:"image"`
		Pages uint32 `json:"pages"`
	}
	index := struct {
		Shapes  []shape           `json:"shapes"`
		Digests map[string]string `json:"digests"`
	}{Digests: map[string]string{}}
	const n = 3000
	s := newStream(t)
	for i, image := range s.images {
		name := fmt.Sprintf("identity-%d.image", i)
		write(name, image.Bytes())
		index.Shapes = append(index.Shapes, shape{name, image.Map.Pages})
	}
	for line := range strings.Lines(s.wazero(t, wazero.NewRuntimeConfigCompiler(), n)) {
		depth, digest, _ := strings.Cut(strings.TrimSpace(line), " ")
		index.Digests[depth] = digest
	}
	// Each record: the shape, and what appendWrite writes. One to the address of
	// requests is a request.
	var stream []byte
	for b := range n / batchSize {
		i, o, requests := s.batch(b)
		patches, err := s.images[i].Patches(&o)
		if err != nil {
			t.Fatal(err)
		}
		record := func(at uint32, content []byte) {
			stream = appendWrite(binary.LittleEndian.AppendUint32(stream, uint32(i)), at, content)
		}
		for _, p := range patches {
			record(p.At, p.Bytes)
		}
		for _, r := range requests {
			record(s.images[i].Map.Request, r.Append(nil))
		}
	}
	write("identity.stream", stream)
	write("kernel.wasm", wasm.Kernel)
	b, err := json.Marshal(index)
	if err != nil {
		t.Fatal(err)
	}
	write("identity.json", b)
}
