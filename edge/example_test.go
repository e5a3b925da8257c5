package edge_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/wisp-project/wisp/artifact"
	"github.com/wisp-project/wisp/edge"
	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/internal/tokenize"
	"github.com/wisp-project/wisp/model"
	"github.com/wisp-project/wisp/quantize"
	"github.com/wisp-project/wisp/wasm"
)

// writeShop writes an artefact of four goods, of which two and two go together.
// The blocks of its model do nothing: who looked at something gets what is like
// it, and so does who is described by such words. Artefacts of use are made by
// the command wisp.
func writeShop(path string) error {
	c := model.Config{Items: 4, Descriptions: 4, Dim: 4, Layers: 1, Heads: 1, FFN: 4, Window: 8, EventTypes: 3, GapBuckets: 4}
	w := model.Weights{}
	for _, s := range c.Specs() {
		w[s.Name] = model.NewTensor(s.Shape...)
	}
	copy(w[model.ItemEmbedding].Data, []float32{
		3, -3, 1, -1,
		3, -3, -1, 1,
		1, -1, 3, -3,
		-1, 1, 3, -3,
	})
	copy(w[model.UserNormGain].Data, []float32{1, 1, 1, 1})
	copy(w[model.UserCold].Data, []float32{0, 0, 1, 0}) // new customers are shown helmets and bicycles
	for i := range 4 {
		w[model.UserDescription].Row(i)[i] = 4
	}
	m, err := model.New(c, w, nil)
	if err != nil {
		return err
	}
	ds := &data.Dataset{
		Name: "shop", Types: []data.EventType{{Name: "click"}, {Name: "rating", AtLeast: 1}, {Name: "rating", AtLeast: 4}},
		Items: []data.Item{
			{ID: "kettle", Title: "Kettle", Categories: []string{"kitchen"}},
			{ID: "teapot", Title: "Teapot", Categories: []string{"kitchen"}},
			{ID: "helmet", Title: "Helmet", Categories: []string{"sports"}},
			{ID: "bicycle", Title: "Bicycle", Categories: []string{"sports"}},
		},
	}
	text, err := shopWords(ds.Items)
	if err != nil {
		return err
	}
	text.UserMap = w[model.UserDescription]
	text.ItemMap = text.UserMap // a new item lies where who asks for it does
	text.Classes = shopClasses()
	histories := [][]model.Event{{{Item: 0}, {Item: 1, Gap: 30}}, {{Item: 3}}}
	a, err := quantize.Build(context.Background(), m, ds, histories, quantize.BuildOptions{Kernel: wasm.Kernel, Text: text, Ratings: shopRatings(c)})
	if err != nil {
		return err
	}
	return artifact.WriteFile(path, a, artifact.WriteOptions{})
}

// shopWords returns a text encoder whose vectors are the means of those of the six
// words that it knows, and the vectors of the items' titles.
func shopWords(items []data.Item) (*quantize.Text, error) {
	vocabulary := []string{"[PAD]", "[UNK]", "[CLS]", "[SEP]", "kettle", "teapot", "helmet", "bicycle", "tea", "ride"}
	tokenizer, err := tokenize.New(vocabulary, tokenize.Options{})
	if err != nil {
		return nil, err
	}
	c := model.TextConfig{
		Vocabulary: len(vocabulary), Positions: 16, MaxTokens: 16, Types: 1, Dim: 4, Layers: 1, Heads: 1, FFN: 4,
		NormEpsilon: 1e-12, Pooling: model.PoolMean, Normalise: true,
	}
	w := model.Weights{}
	for _, s := range c.Specs() {
		w[s.Name] = model.NewTensor(s.Shape...)
	}
	for _, gain := range []string{model.TextNormGain, model.TextLayerName(0, "attn.norm.weight"), model.TextLayerName(0, "ffn.norm.weight")} {
		copy(w[gain].Data, []float32{1, 1, 1, 1})
	}
	copy(w[model.TextWord].Data[4*4:], []float32{
		3, -3, 1, -1,
		3, -3, -1, 1,
		1, -1, 3, -3,
		-1, 1, 3, -3,
		3, -3, -2, 2,
		-2, 2, 3, -3,
	})
	m, err := model.NewText(c, w)
	if err != nil {
		return nil, err
	}
	titles := model.NewTensor(len(items), c.Dim)
	for i, item := range items {
		v, err := m.Embed(tokenizer.Encode(nil, item.Title, c.MaxTokens))
		if err != nil {
			return nil, err
		}
		copy(titles.Row(i), v)
	}
	return &quantize.Text{Encoder: m, Tokenizer: tokenizer, ItemTexts: titles}, nil
}

// openShop opens that artefact from a temporary folder.
func openShop(ctx context.Context) (*edge.Runtime, error) {
	dir, err := os.MkdirTemp("", "edge")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // an example's litter harms nobody
	path := filepath.Join(dir, "shop.wisp")
	if err := writeShop(path); err != nil {
		return nil, err
	}
	return edge.Open(ctx, path, edge.Options{AllowUnsigned: true})
}

func Example() {
	ctx := context.Background()
	r, err := openShop(ctx) // edge.Open(ctx, "shop.wisp", edge.Options{AllowUnsigned: true})
	if err != nil {
		panic(err)
	}
	defer r.Close(ctx) //nolint:errcheck // the process ends

	answer, err := r.Recommend(ctx, edge.Request{
		History: []edge.Event{{Item: "kettle", Type: "click", Time: 1_700_000_000}},
		K:       2,
		Explain: true,
	})
	if err != nil {
		panic(err)
	}
	for _, item := range answer.Items {
		for _, reason := range item.Reasons {
			fmt.Println(item.Item, "because of", reason.Item)
		}
	}
	// Output:
	// teapot because of kettle
	// helmet because of kettle
}

// A history that is empty, or of items that are not in the catalogue, gets the
// list for new users.
func ExampleRuntime_Recommend_coldStart() {
	ctx := context.Background()
	r, err := openShop(ctx)
	if err != nil {
		panic(err)
	}
	defer r.Close(ctx) //nolint:errcheck // the process ends

	answer, err := r.Recommend(ctx, edge.Request{History: []edge.Event{{Item: "samovar"}}, K: 2})
	if err != nil {
		panic(err)
	}
	fmt.Println(answer.ColdStart, answer.Unknown)
	for _, item := range answer.Items {
		fmt.Println(item.Title)
	}
	// Output:
	// true [samovar]
	// Helmet
	// Bicycle
}

// An artefact with a text encoder reads what a user is like.
func ExampleRuntime_Recommend_description() {
	ctx := context.Background()
	r, err := openShop(ctx)
	if err != nil {
		panic(err)
	}
	defer r.Close(ctx) //nolint:errcheck // the process ends

	answer, err := r.Recommend(ctx, edge.Request{Description: "drinks tea all day", K: 2})
	if err != nil {
		panic(err)
	}
	for _, item := range answer.Items {
		fmt.Println(item.Title)
	}
	// Output:
	// Teapot
	// Kettle
}

// Rules say what may be recommended, and in which order: inside the sandbox, so that
// the list does not come out short.
func ExampleRuntime_Recommend_rules() {
	ctx := context.Background()
	r, err := openShop(ctx)
	if err != nil {
		panic(err)
	}
	defer r.Close(ctx) //nolint:errcheck // the process ends

	answer, err := r.Recommend(ctx, edge.Request{
		History:     []edge.Event{{Item: "kettle"}},
		IncludeSeen: true,
		K:           2,
		Rules: edge.Rules{
			Caps: []edge.Cap{{Most: 1}}, // of each category
			Pins: []edge.Pin{{Item: "bicycle", Place: 0}},
		},
	})
	if err != nil {
		panic(err)
	}
	for _, item := range answer.Items {
		fmt.Println(item.Title)
	}
	// Output:
	// Bicycle
	// Kettle
}

func ExampleRuntime_Similar() {
	ctx := context.Background()
	r, err := openShop(ctx)
	if err != nil {
		panic(err)
	}
	defer r.Close(ctx) //nolint:errcheck // the process ends

	answer, err := r.Similar(ctx, edge.SimilarRequest{Item: "helmet", K: 1})
	if err != nil {
		panic(err)
	}
	fmt.Printf("%s, cosine %.2f\n", answer.Items[0].Title, answer.Items[0].Score)
	// Output: Bicycle, cosine 0.80
}

// A new item is recommended and found from the moment it is there, by its text alone.
func ExampleRuntime_Insert() {
	ctx := context.Background()
	r, err := openShop(ctx)
	if err != nil {
		panic(err)
	}
	defer r.Close(ctx) //nolint:errcheck // the process ends

	if err := r.Insert(ctx, edge.NewItem{ID: "caddy", Title: "Caddy", Text: "keeps tea", Categories: []string{"kitchen"}}); err != nil {
		panic(err)
	}
	kitchen := edge.Rules{Require: [][]edge.Label{{{Value: "kitchen"}}}}
	answer, err := r.Search(ctx, edge.SearchRequest{Text: "tea", K: 1, Rules: kitchen})
	if err != nil {
		panic(err)
	}
	fmt.Println(answer.Items[0].Title)
	answer, err = r.Recommend(ctx, edge.Request{History: []edge.Event{{Item: "caddy"}}, K: 2})
	if err != nil {
		panic(err)
	}
	for _, item := range answer.Items {
		fmt.Println("after the caddy:", item.Title)
	}
	// Output:
	// Caddy
	// after the caddy: Teapot
	// after the caddy: Kettle
}

// It also finds items by words that stand in no title.
func ExampleRuntime_Search() {
	ctx := context.Background()
	r, err := openShop(ctx)
	if err != nil {
		panic(err)
	}
	defer r.Close(ctx) //nolint:errcheck // the process ends

	answer, err := r.Search(ctx, edge.SearchRequest{Text: "something to ride", K: 1})
	if err != nil {
		panic(err)
	}
	fmt.Printf("%s, cosine %.2f\n", answer.Items[0].Title, answer.Items[0].Score)
	// Output: Bicycle, cosine 0.96
}

func ExampleRuntime_Score() {
	ctx := context.Background()
	r, err := openShop(ctx)
	if err != nil {
		panic(err)
	}
	defer r.Close(ctx) //nolint:errcheck // the process ends

	history := []edge.Event{{Item: "bicycle"}}
	scores, err := r.Score(ctx, edge.ScoreRequest{History: history, Items: []string{"helmet", "kettle"}})
	if err != nil {
		panic(err)
	}
	fmt.Println("a helmet goes better with a bicycle:", scores[0].Value > scores[1].Value)

	_, err = r.Score(ctx, edge.ScoreRequest{History: history, Items: []string{"samovar"}})
	fmt.Println(errors.Is(err, edge.ErrRequest))
	// Output:
	// a helmet goes better with a bicycle: true
	// true
}

// A host serves models by name, and replaces their versions while they answer.
func ExampleHost() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "edge")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir) //nolint:errcheck // an example's litter harms nobody
	origin := filepath.Join(dir, "shop.wisp")
	if err := writeShop(origin); err != nil {
		panic(err)
	}

	h, err := edge.NewHost(edge.HostOptions{
		Options: edge.Options{State: filepath.Join(dir, "state"), AllowUnsigned: true, Now: time.Now},
		Others:  edge.TenantLimits{Sandboxes: 1, Timeout: time.Second},
	})
	if err != nil {
		panic(err)
	}
	defer h.Close(ctx)                       //nolint:errcheck // the process ends
	shop, err := h.Open(ctx, "shop", origin) // or an address that begins with https://
	if err != nil {
		panic(err)
	}
	answer, err := shop.Recommend(ctx, edge.Request{History: []edge.Event{{Item: "bicycle"}}, K: 1})
	if err != nil {
		panic(err)
	}
	fmt.Println(answer.Items[0].Title)

	changed, err := shop.Update(ctx)
	fmt.Println("a newer version:", changed, err)
	err = shop.Rollback(ctx)
	fmt.Println("one before:", !errors.Is(err, edge.ErrState))
	s := shop.Stats()
	fmt.Println("version", s.Version, "failed", s.Failed, "timed", s.Latency.Count == s.Answered)
	// Output:
	// Helmet
	// a newer version: false <nil>
	// one before: false
	// version 1 failed 0 timed true
}
