package quantize

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/wisp-project/wisp/artifact"
	"github.com/wisp-project/wisp/edge"
	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/internal/layout"
	"github.com/wisp-project/wisp/internal/q8"
	"github.com/wisp-project/wisp/model"
)

// BuildOptions say what goes into an artefact beside the model.
type BuildOptions struct {
	Name     string // of the model; empty means the data set's
	Version  uint64 // of the model; 0 means 1
	Tenant   string
	Kernel   []byte // the guest kernel
	Licences []artifact.Licence
	Metrics  []artifact.Metric
	Created  string // RFC 3339, or empty
	Text     *Text  // the text encoder; nil for none
	// Attributes are those of the items, to be named in explanations; nil for none.
	Attributes *Attributes
	// Ratings predicts what users would rate items; nil for none.
	Ratings *model.RatingHead
	// ItemBits is how many bits a value of an item's vector has, and of that of its text,
	// 3 to 8; 0 means 8. Fewer make a smaller file.
	ItemBits int
}

// goldenRequests is how many requests with exact answers an artefact carries;
// goldenTexts how many texts are asked for in every way that there is, goldenRules
// how many rankings have rules, goldenRates how many ask for ratings.
const (
	goldenRequests = 32
	goldenTexts    = 6
	goldenRules    = 8
	goldenRates    = 4
)

// Build quantizes m, which was trained on ds, and returns the artefact: the
// image, the kernel, the catalogue, and golden requests with the answers that
// internal/q8 gives. Ranges are calibrated on histories, which must come from
// training data. The artefact was run in a sandbox before Build returns it.
func Build(ctx context.Context, m *model.Model, ds *data.Dataset, histories [][]model.Event, o BuildOptions) (*artifact.Artifact, error) {
	items := catalogue(ds)
	if len(items) != m.Config.Items {
		return nil, fmt.Errorf("quantize: build: %w: the data have %d items, the model knows %d", artifact.ErrContent, len(items), m.Config.Items)
	}
	_, labels := artifact.Labels(items)
	b, err := imageWith(m, histories, labels, o)
	if err != nil {
		return nil, err
	}
	image, err := layout.Open(b)
	if err != nil {
		return nil, fmt.Errorf("quantize: build: %w", err)
	}
	a := &artifact.Artifact{
		Manifest: artifact.Manifest{
			Name: o.Name, Version: max(o.Version, 1), Tenant: o.Tenant, Metrics: o.Metrics, Licences: o.Licences, Created: o.Created,
		},
		Kernel: o.Kernel, Items: items,
	}
	a.SetImage(image)
	if a.Manifest.Name == "" {
		a.Manifest.Name = ds.Name
	}
	if o.Text != nil && o.Text.Classes != nil {
		a.Manifest.Classes = o.Text.Classes.Names
	}
	for _, t := range ds.Types {
		a.Manifest.EventTypes = append(a.Manifest.EventTypes, artifact.EventType{Name: t.Name, AtLeast: t.AtLeast})
	}
	if a.Goldens, err = goldens(b, image, histories, a.Items); err != nil {
		return nil, err
	}
	r, err := edge.New(ctx, a, edge.Options{Sandboxes: 1, AllowUnsigned: true})
	if err != nil {
		return nil, fmt.Errorf("quantize: build: the sandbox refuses the new artefact: %w", err)
	}
	return a, r.Close(ctx)
}

// catalogue returns the items of a data set, with the attributes that rules can use:
// those whose values are shared, by two items each on average. Prices and numbers of
// articles would be as many labels as there are items.
func catalogue(ds *data.Dataset) []artifact.Item {
	type values struct {
		items  int
		values map[string]bool
	}
	attributes := map[string]*values{}
	for i := range ds.Items {
		for name, value := range ds.Items[i].Attributes {
			v := attributes[name]
			if v == nil {
				v = &values{values: map[string]bool{}}
				attributes[name] = v
			}
			v.items++
			v.values[value] = true
		}
	}
	items := make([]artifact.Item, len(ds.Items))
	for i, item := range ds.Items {
		items[i] = artifact.Item{ID: item.ID, Title: item.Title, Categories: item.Categories}
		for _, name := range slices.Sorted(maps.Keys(item.Attributes)) {
			if v := attributes[name]; name != "" && item.Attributes[name] != "" && 2*len(v.values) <= v.items {
				items[i].Attributes = append(items[i].Attributes, artifact.Attribute{Name: name, Value: item.Attributes[name]})
			}
		}
	}
	return items
}

// goldens makes requests of every kind and length, from real histories where
// there are any, and answers them. The titles of the items are the texts.
func goldens(b []byte, image *layout.Image, histories [][]model.Event, items []artifact.Item) ([]artifact.Golden, error) {
	q, err := q8.New(b)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrGolden, err)
	}
	s, m := image.Shape, image.Map
	rng := rand.New(rand.NewPCG(1, 0x601d))
	// The longest request that is possible first, of random events; then none.
	longest := make([]layout.Event, m.MaxHistory)
	for i := range longest {
		longest[i] = layout.Event{Item: uint32(rng.IntN(s.Items)), Type: uint32(rng.IntN(s.EventTypes)), Gap: rng.Uint32() >> rng.IntN(32)}
	}
	requests := []layout.Request{
		{Kind: layout.KindRecommend, K: uint32(m.MaxK), History: longest},
		{Kind: layout.KindRecommend, K: uint32(min(10, m.MaxK))},
	}
	for len(requests) < goldenRequests {
		h := longest
		if len(histories) > 0 {
			h = LayoutEvents(histories[rng.IntN(len(histories))])
		}
		h = h[max(0, len(h)-m.MaxHistory):]
		h = h[:rng.IntN(len(h)+1)]
		r := layout.Request{Kind: layout.KindRecommend, K: uint32(1 + rng.IntN(min(20, m.MaxK))), History: h}
		switch len(requests) % 4 {
		case 0:
			r.Flags = layout.FlagExcludeHistory
		case 1:
			for range min(m.MaxList, 16) {
				r.List = append(r.List, uint32(rng.IntN(s.Items)))
			}
		case 3:
			r.K, r.Reasons = min(r.K, uint32(m.MaxExplained)), 3
			if s.Attributes.Count > 0 {
				r.Flags |= layout.FlagAttributes
			}
		case 2:
			r.Kind, r.K, r.List = layout.KindScore, 0, []uint32{0, uint32(s.Items - 1), uint32(rng.IntN(s.Items))}[:min(3, m.MaxList)]
		}
		requests = append(requests, r)
	}
	for i := range goldenRules {
		r := requests[i]
		r.Kind, r.K = layout.KindRecommend, uint32(min(10, m.MaxK))
		if i%2 == 1 {
			item := uint32(rng.IntN(s.Items))
			r = layout.Request{Kind: layout.KindSimilar, K: r.K, History: []layout.Event{{Item: item}}}
		}
		r.Rules = goldenRulesOf(rng, s, m, r.K)
		requests = append(requests, r)
	}
	for i := range goldenRates {
		if s.Ratings {
			requests = append(requests, layout.Request{Kind: layout.KindRate, History: requests[i].History, List: []uint32{0, uint32(s.Items - 1), uint32(rng.IntN(s.Items))}[:min(3, m.MaxList)]})
		}
	}
	// A session: a few events, and a few more behind them. Few, as states are long.
	few := longest[:min(3, len(longest))]
	begin := layout.Request{Kind: layout.KindScore, Flags: layout.FlagState, History: few}
	requests = append(requests, begin, layout.Request{Kind: layout.KindRecommend, K: 1, Flags: layout.FlagState, History: few[:1], State: q.Run(begin).State})
	for i := range goldenTexts * min(s.Text.Dim, 1) {
		text := items[rng.IntN(len(items))].Title
		if i == 0 {
			text = strings.Repeat("one text of some length, ", 6) // every open waits for it
		}
		embed := layout.Request{Kind: layout.KindEmbed, Text: text}
		if s.Text.ItemMap {
			embed.Flags = layout.FlagItemRow
		}
		requests = append(requests, embed)
		if s.Text.ItemTexts {
			requests = append(requests, layout.Request{Kind: layout.KindSearch, K: uint32(min(10, m.MaxK)), Text: text})
		}
		if s.Text.Classes > 0 {
			requests = append(requests, layout.Request{Kind: layout.KindClassify, Text: text})
		}
		if s.Text.UserMap {
			described := requests[i]
			described.Text = text
			requests = append(requests, described)
		}
	}
	golden := make([]artifact.Golden, len(requests))
	for i, r := range requests {
		answer := q.Run(r)
		if answer.Status != layout.StatusOK {
			return nil, fmt.Errorf("%w: request %d has status %d", ErrGolden, i, answer.Status)
		}
		golden[i] = artifact.Golden{Request: r.Append(nil), Answer: answer.Append(nil)}
	}
	return golden, nil
}

// goldenRulesOf returns a rule of every kind that there is for a catalogue.
func goldenRulesOf(rng *rand.Rand, s layout.Shape, m layout.Map, k uint32) []layout.Rule {
	item := func() uint32 { return uint32(rng.IntN(s.Items)) }
	rules := []layout.Rule{
		layout.BoostItems(1.5, 0.25, item()),
		layout.Pin(k-1, item()),
		layout.Diversity(0.7, min(uint32(m.MaxK), 4*k)),
	}
	if v := s.Labels.Labels; v > 0 {
		label := func() uint32 { return uint32(rng.IntN(v)) }
		rules = append(rules,
			layout.Rule{Op: layout.RuleNoneOf, Args: []uint32{label()}},
			layout.BoostLabels(0.5, 0, label()),
			layout.Cap(max(1, k/3), 0, uint32(v)),
		)
		if rng.IntN(2) == 0 {
			rules = append(rules, layout.Rule{Op: layout.RuleAnyOf, Args: slices.Compact(slices.Sorted(slices.Values([]uint32{label(), label(), label()})))})
		}
	}
	if rng.IntN(2) == 0 {
		only := make([]uint32, s.Items)
		for i := range only {
			only[i] = uint32(i)
		}
		rng.Shuffle(len(only), func(i, j int) { only[i], only[j] = only[j], only[i] })
		only = only[:min(s.Items, 200)]
		slices.Sort(only)
		rules = append(rules, layout.Rule{Op: layout.RuleOnly, Args: only})
	}
	return rules
}
