package q8_test

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/tetratelabs/wazero"

	"github.com/wisp-project/wisp/internal/layout"
	"github.com/wisp-project/wisp/internal/layout/layouttest"
	"github.com/wisp-project/wisp/wasm"
)

// TestWebIdentity writes 3000 requests of all kinds to images of all shapes, and the
// digests of the kernel's first 300 and of all answers in wazero, to the folder
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
	var guests []*guest
	var requests [][]layout.Request
	shapes := append(layouttest.Shapes(), layouttest.TextShapes()...)
	for i, s := range shapes {
		image, _ := open(t, layouttest.Params(s, 1))
		guests = append(guests, newGuest(t, wazero.NewRuntimeConfigCompiler(), image))
		requests = append(requests, requestsOf(s, image.Map, 3000/len(shapes)+1, 10))
		name := fmt.Sprintf("identity-%d.image", i)
		write(name, image.Bytes())
		index.Shapes = append(index.Shapes, shape{name, image.Map.Pages})
	}
	// Each record: the shape, the address, the number of bytes, and these. One to the
	// address of requests is a request.
	var stream []byte
	h := sha256.New()
	for n := range 3000 {
		i := n % len(shapes)
		r := requests[i][n/len(shapes)].Append(nil)
		for _, w := range []uint32{uint32(i), guests[i].m.Request, uint32(len(r))} {
			stream = binary.LittleEndian.AppendUint32(stream, w)
		}
		stream = append(stream, r...)
		h.Write(guests[i].answer(t, r))
		if n+1 == 300 || n+1 == 3000 {
			index.Digests[fmt.Sprint(n+1)] = fmt.Sprintf("%x", h.Sum(nil))
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
