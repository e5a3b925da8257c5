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
	"strings"
	"testing"

	"github.com/wisp-project/wisp/artifact"
	"github.com/wisp-project/wisp/edge"
	"github.com/wisp-project/wisp/internal/layout"
	"github.com/wisp-project/wisp/internal/layout/layouttest"
)

// exchange is a request with what the gateway answers, as wasm/web/test reads it.
type exchange struct {
	Path     string          `json:"path"` // behind /v1/, or a change: insert, remove, unavailable, available
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
	shop := buildShape(t, layouttest.WithAttributes(layout.Shape{
		Items: 400, Dim: 12, Layers: 2, Heads: 2, FFN: 16, Window: 8, EventTypes: 3, GapBuckets: 24,
		Text: layouttest.TextShapes()[4].Text, Labels: layout.LabelShape{Labels: 30, Entries: 900}, Ratings: true,
	}, 40))
	for i := range shop.Items { // labels from 20 on are brands
		item := &shop.Items[i]
		var categories []string
		for _, c := range item.Categories {
			if c < "c020" {
				categories = append(categories, c)
			} else {
				item.Attributes = append(item.Attributes, artifact.Attribute{Name: "brand", Value: "b" + c[2:]})
			}
		}
		item.Categories = categories
	}
	shop.Items[3].Title = "Ünïcode “quoted” \U0001F600"
	file("shop.wisp", shop, key, false)
	file("other-key.wisp", shop, other, false)
	file("unsigned.wisp", shop, nil, true)
	file("bare.wisp", build(t), key, false) // without a text encoder and heads
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
		if x.Path == "score" { // the gateway leaves the integers out
			x.Response = ask(t, r, x)
		} else {
			answer := p.do(t, http.MethodPost, "/v1/"+x.Path, bytes.NewReader(x.Request))
			if answer.status != http.StatusOK {
				t.Fatalf("%s %s: %d %s", x.Path, x.Request, answer.status, answer.body)
			}
			x.Response = json.RawMessage(answer.body)
		}
		all = append(all, x)
	}
	for i := range 300 {
		for _, x := range changes(random, i) {
			x.Response = ask(t, r, x)
			all = append(all, x)
		}
		x := randomExchange(random, i)
		x.Response = ask(t, r, x)
		all = append(all, x)
	}
	b, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	put("exchanges.json", b)
}

// ask lets a runtime answer.
func ask(t *testing.T, r *edge.Runtime, x exchange) json.RawMessage {
	t.Helper()
	var answer any
	var err error
	switch x.Path {
	case "recommend":
		answer, err = r.Recommend(t.Context(), parse[edge.Request](t, x))
	case "search":
		answer, err = r.Search(t.Context(), parse[edge.SearchRequest](t, x))
	case "similar":
		answer, err = r.Similar(t.Context(), parse[edge.SimilarRequest](t, x))
	case "score":
		answer, err = r.Score(t.Context(), parse[edge.ScoreRequest](t, x))
	case "rate":
		answer, err = r.Rate(t.Context(), parse[edge.RateRequest](t, x))
	case "classify":
		answer, err = r.Classify(t.Context(), parse[edge.ClassifyRequest](t, x))
	case "insert":
		err = r.Insert(t.Context(), parse[edge.NewItem](t, x))
	case "remove":
		err = r.Remove(parse[string](t, x))
	default:
		err = r.SetAvailable(x.Path == "available", parse[string](t, x))
	}
	if err != nil {
		t.Fatalf("%s %s: %v", x.Path, x.Request, err)
	}
	return encode(answer)
}

func parse[Q any](t *testing.T, x exchange) (q Q) {
	t.Helper()
	if err := json.Unmarshal(x.Request, &q); err != nil {
		t.Fatal(err)
	}
	return q
}

func encode(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

// changes returns what is inserted, removed or made unavailable before request i.
func changes(r *rand.Rand, i int) []exchange {
	id := fmt.Sprintf("new%d", i/8)
	switch i % 8 {
	case 0:
		item := edge.NewItem{ID: id, Title: "fed ab é", Categories: []string{fmt.Sprintf("c%03d", r.IntN(20)), "fresh \uE000"}, Text: []string{"", "a bad cafe"}[r.IntN(2)]}
		if i%16 == 0 {
			item.Attributes = []artifact.Attribute{{Name: "brand", Value: fmt.Sprintf("b%02d", 20+r.IntN(20))}, {Name: "fresh", Value: "\U0001F600"}}
		}
		return []exchange{{Path: "insert", Request: encode(item)}}
	case 2:
		return []exchange{{Path: "unavailable", Request: encode(fmt.Sprintf("i%d", r.IntN(400)))}, {Path: "unavailable", Request: encode(id)}}
	case 4:
		return []exchange{{Path: "available", Request: encode(id)}}
	case 6:
		if i%24 == 6 {
			return []exchange{{Path: "remove", Request: encode(id)}}
		}
	}
	return nil
}

// randomExchange returns a request of a kind that depends on i.
func randomExchange(r *rand.Rand, i int) exchange {
	id := func() string { // some that the catalogue lacks
		if r.IntN(8) == 0 {
			return fmt.Sprintf("new%d", r.IntN(i/8+2))
		}
		return fmt.Sprintf("i%d", r.IntN(410))
	}
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
	switch k := 1 + r.IntN(20); i % 7 {
	case 0:
		return exchange{Path: "recommend", Request: encode(edge.Request{
			History: history, Description: text, K: r.IntN(30), Exclude: []string{id(), id()}, IncludeSeen: r.IntN(2) == 0,
		})}
	case 1:
		return exchange{Path: "recommend", Request: encode(edge.Request{History: history, Description: text, Explain: true, Reasons: r.IntN(5), Rules: randomRules(r, 10, id)})}
	case 2:
		return exchange{Path: "search", Request: encode(edge.SearchRequest{Text: text, K: k, Exclude: []string{id()}, Rules: randomRules(r, k, id)})}
	case 3:
		return exchange{Path: "similar", Request: encode(edge.SimilarRequest{Item: known(), K: k, Exclude: []string{id()}, Rules: randomRules(r, k, id)})}
	}
	if i%7 == 4 {
		return exchange{Path: "rate", Request: encode(edge.RateRequest{History: history, Description: text, Items: []string{known(), known()}[:r.IntN(3)]})}
	}
	if i%7 == 5 {
		return exchange{Path: "classify", Request: encode(edge.ClassifyRequest{Text: text + strings.Repeat(" é", r.IntN(2)*r.IntN(1<<14))})}
	}
	return exchange{Path: "score", Request: encode(edge.ScoreRequest{History: history, Description: text, Items: []string{known(), known(), known()}})}
}

// randomRules returns rules of a ranking of k items, often none of a kind.
func randomRules(r *rand.Rand, k int, id func() string) edge.Rules {
	label := func() edge.Label {
		if r.IntN(3) == 0 {
			return edge.Label{Attribute: "brand", Value: fmt.Sprintf("b%02d", 20+r.IntN(12))}
		}
		return edge.Label{Value: fmt.Sprintf("c%03d", r.IntN(21))}
	}
	var q edge.Rules
	maybe := func() bool { return r.IntN(4) == 0 }
	if maybe() {
		for range 60 {
			q.Only = append(q.Only, id())
		}
	}
	if maybe() {
		q.Require = [][]edge.Label{{label(), label(), label()}}
	}
	if maybe() {
		q.Forbid = []edge.Label{label(), {Attribute: "fresh", Value: "\U0001F600"}}
	}
	if maybe() {
		q.Boosts = []edge.Boost{{Items: []string{id(), id()}, Factor: r.Float32() * 3, Add: r.Float32()}, {Labels: []edge.Label{label(), {Value: "fresh \uE000"}}, Factor: 1.5}}
	}
	if maybe() {
		q.Caps = []edge.Cap{{Most: 1 + r.IntN(3)}, {Attribute: "brand", Most: 2}, {Attribute: "brand", Value: "b21", Most: 0}}
	}
	if maybe() {
		q.Pins = []edge.Pin{{Item: "i7", Place: 0}}
		if k > 3 {
			q.Pins = append(q.Pins, edge.Pin{Item: "new1", Place: 2}, edge.Pin{Item: "i9", Place: k - 1})
		}
	}
	if maybe() {
		q.Diversity = &edge.Diversity{Lambda: r.Float32(), Pool: []int{0, 40}[r.IntN(2)]}
	}
	return q
}
