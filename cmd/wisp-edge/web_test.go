package main_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/wisp-project/wisp/artifact"
	"github.com/wisp-project/wisp/edge"
	"github.com/wisp-project/wisp/internal/layout"
	"github.com/wisp-project/wisp/internal/layout/layouttest"
)

// exchange is a request with what the gateway answers, as wasm/web/test reads it.
type exchange struct {
	Path     string          `json:"path"` // /v1/…, or score
	Request  json.RawMessage `json:"request"`
	Response json.RawMessage `json:"response"`
}

// TestWebFixtures writes artefacts and a gateway's answers to the folder
// WISP_WEB_FIXTURES, for the tests of the browser package to compare with; see
// scripts/test-web.sh.
func TestWebFixtures(t *testing.T) {
	dir := os.Getenv("WISP_WEB_FIXTURES")
	if dir == "" {
		t.Skip("WISP_WEB_FIXTURES names no folder: make test-web does")
	}
	put := func(name string, b []byte) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	keyFile := filepath.Join(t.TempDir(), "shop.key")
	if _, err := artifact.CreateKey(keyFile); err != nil {
		t.Fatal(err)
	}
	key, err := artifact.ReadPrivateKey(keyFile)
	if err != nil {
		t.Fatal(err)
	}
	pub, err := os.ReadFile(keyFile + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	put("shop.key.pub", pub)
	file := func(name string, a *artifact.Artifact, key ed25519.PrivateKey, raw bool) {
		t.Helper()
		var b bytes.Buffer
		if _, err := artifact.Write(&b, a, artifact.WriteOptions{Key: key, Raw: raw}); err != nil {
			t.Fatal(err)
		}
		put(name, b.Bytes())
	}
	other := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, ed25519.SeedSize))
	s := layout.Shape{Items: 400, Dim: 12, Layers: 2, Heads: 2, FFN: 16, Window: 8, EventTypes: 3, GapBuckets: 24}
	s.Text = layouttest.TextShapes()[4].Text
	shop := buildShape(t, s)
	shop.Items[3].Title = "Ünïcode “quoted” \U0001F600"
	file("shop.wisp", shop, key, false)
	file("other-key.wisp", shop, other, false)
	file("unsigned.wisp", shop, nil, true)
	next := *shop
	next.Manifest.Version++
	next.Items = append([]artifact.Item(nil), shop.Items...)
	next.Items[0].Title = "A new title"
	file("shop-8.wisp", &next, key, false)
	next.Manifest.ABI = layout.ABI + 1
	file("newer-abi.wisp", &next, key, false)
	wrong := *shop
	wrong.Goldens = append([]artifact.Golden(nil), shop.Goldens...)
	wrong.Goldens[5].Answer = bytes.Clone(wrong.Goldens[5].Answer)
	wrong.Goldens[5].Answer[len(wrong.Goldens[5].Answer)-1] ^= 1
	file("wrong-golden.wisp", &wrong, key, false)

	path := filepath.Join(dir, "shop.wisp")
	p, r := serve(t, path), open(t, path)
	var all []exchange
	random := rand.New(rand.NewPCG(10, 20))
	for i := range 300 {
		x := randomExchange(random, i)
		if x.Path == "score" {
			var q edge.ScoreRequest
			if err := json.Unmarshal(x.Request, &q); err != nil {
				t.Fatal(err)
			}
			scores, err := r.Score(t.Context(), q)
			if err != nil {
				t.Fatal(err)
			}
			if x.Response, err = json.Marshal(scores); err != nil {
				t.Fatal(err)
			}
		} else {
			answer := p.do(t, http.MethodPost, x.Path, bytes.NewReader(x.Request))
			if answer.status != http.StatusOK {
				t.Fatalf("%s %s: %d %s", x.Path, x.Request, answer.status, answer.body)
			}
			x.Response = json.RawMessage(answer.body)
		}
		all = append(all, x)
	}
	b, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	put("exchanges.json", b)
}

// randomExchange returns a request of a kind that depends on i.
func randomExchange(r *rand.Rand, i int) exchange {
	id := func() string { return fmt.Sprintf("i%d", r.IntN(410)) } // some that the catalogue lacks
	known := func() string { return fmt.Sprintf("i%d", r.IntN(400)) }
	var history []edge.Event
	for range r.IntN(40) {
		e := edge.Event{Item: id(), Time: int64(r.IntN(1 << 30))}
		if r.IntN(2) == 0 {
			e.Type, e.Value = "rating", float32(r.IntN(11))/2
		}
		history = append(history, e)
	}
	text := []string{"", "a bad cafe", "fed ab, é face!", "中 ก 😀 unknown words"}[r.IntN(4)]
	x := exchange{Path: "/v1/recommend"}
	var q any
	switch i % 4 {
	case 0:
		q = edge.Request{History: history, Description: text, K: r.IntN(30), Exclude: []string{id(), id()}, IncludeSeen: r.IntN(2) == 0}
	case 1:
		q = edge.Request{History: history, Description: text, Explain: true}
	case 2:
		x.Path, q = "/v1/search", edge.SearchRequest{Text: text, K: 1 + r.IntN(20), Exclude: []string{id()}}
	case 3:
		x.Path, q = "score", edge.ScoreRequest{History: history, Description: text, Items: []string{known(), known(), known()}}
	}
	b, err := json.Marshal(q)
	if err != nil {
		panic(err)
	}
	x.Request = b
	return x
}
