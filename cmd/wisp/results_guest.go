package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"gonum.org/v1/gonum/mat"
	"gonum.org/v1/gonum/stat"

	"github.com/wisp-project/wisp/internal/guest"
	"github.com/wisp-project/wisp/internal/layout"
	"github.com/wisp-project/wisp/internal/layout/layouttest"
	"github.com/wisp-project/wisp/internal/results"
	"github.com/wisp-project/wisp/model"
	"github.com/wisp-project/wisp/quantize"
)

const guestText = `
What requests cost in the guest itself, one sandbox on one core: wazero's compiler, without
the runtime around it. Beside other software: peers-guest.md.

- encoder-16: the built-in text encoder on a text of 16 tokens; minilm-32: its
  teacher, all-MiniLM-L6-v2, on 32. p50 and p99 over requests, in turns; low and high are the least and
  the greatest of the rounds' own.
- topk-games: the ten best of the items of games.md for users of that set, with bounds
  and without: medians over users, and the mean share of items that bounds do not
  rule out. pruned-speedup-over-brute is the time without over that with bounds,
  a whole request that computes nothing but the search. The interval holds the middle half of
  users. The vectors are those of text-teacher, which is given the titles' embeddings;
  topk-games-ids are those of ids-teacher, whose items have nothing in common but users.
- topk-spectrum-N: N items drawn from the normal distribution that has the mean and the
  covariance of the items of that set, for the same users.
- The pictures show how the time grows with items (10 best, random parameters, without
  bounds and with those of the spectrum), with events of the history (10,000 items, width 64, 2 layers), with
  tokens (MiniLM), and with cores (as many sandboxes at once). Times are medians.
`

// guestSizes say how much is measured.
type guestSizes struct {
	requests, users int
	spectrum        []int // items
	growth          int   // requests at each point of a picture
	most            int   // the largest catalogue of a picture, a power of two times 1,000
}

func (b *bench) guest(ctx context.Context) (results.Topic, error) {
	t := results.Topic{Title: "The cost of requests in the guest", Text: guestText}
	n := guestSizes{requests: 1000, users: 16, spectrum: []int{100_000, 1_000_000}, growth: 100, most: 1_024_000}
	texts, err := b.guestTexts(ctx, n)
	if err != nil {
		return t, err
	}
	t.Records = append(t.Records, texts...)
	for _, set := range b.present(b.gamesSet()) {
		ds, fingerprint, s, err := b.preparedAndSplit(ctx, set)
		if err != nil {
			return t, err
		}
		for _, v := range b.gamesVariants() {
			v.seed = 1
			m, trained, _, err := b.trained(ctx, ds, fingerprint, s, v)
			if err != nil {
				return t, err
			}
			name := ""
			if v.vectors == (givenVectors{}) {
				name = "-ids"
			}
			histories, _ := calibration(s, trained.users)
			records, err := pruned(ctx, name, m, histories, n)
			if err != nil {
				return t, err
			}
			t.Records = append(t.Records, records...)
		}
	}
	return t, b.growth(ctx, &t, n)
}

// textRounds is in how many rounds the encoders are timed, in turns: machines are slow or fast
// for seconds.
const textRounds = 20

// guestTexts measures the encoders that are there.
func (b *bench) guestTexts(ctx context.Context, n guestSizes) (_ []results.Record, err error) {
	type encoder struct {
		timed
		guest   *guest.Guest
		request layout.Request
	}
	var all []*encoder
	for _, e := range []struct {
		name, folder string
		tokens       int
	}{{"encoder", builtinEncoder, 16}, {"minilm", filepath.Join(b.shared, "models", "all-MiniLM-L6-v2"), 32}} {
		if _, err := os.Stat(e.folder); err != nil && !quantize.IsBuiltin(e.folder) {
			b.p.line("skipped the %s: %v", e.name, err)
			continue
		}
		g, err := openTextGuest(ctx, e.folder)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, g.Close(ctx)) }()
		all = append(all, &encoder{
			timed: timed{name: fmt.Sprintf("%s-%d", e.name, e.tokens), p99: true},
			guest: g, request: layout.Request{Kind: layout.KindEmbed, Text: wordsOf(e.tokens)},
		})
	}
	for range textRounds {
		for _, e := range all {
			times, err := e.guest.Timed(ctx, e.request, max(n.requests/textRounds, 1))
			if err != nil {
				return nil, err
			}
			e.count(times)
		}
	}
	var records []results.Record
	for _, e := range all {
		records = append(records, e.records("")...)
	}
	return records, nil
}

// openTextGuest starts a guest with the encoder of a folder, or the built-in one, and
// next to nothing else.
func openTextGuest(ctx context.Context, folder string) (*guest.Guest, error) {
	tok, encoder, err := loadEncoder(folder)
	if err != nil {
		return nil, err
	}
	return openText(ctx, quantize.Text{Encoder: encoder, Tokenizer: tok})
}

func openText(ctx context.Context, text quantize.Text) (*guest.Guest, error) {
	p := layouttest.Params(searchShape(1), 1)
	var err error
	if p.Shape.Text, p.Text, err = quantize.TextParams(text); err != nil {
		return nil, err
	}
	return guest.Open(ctx, p)
}

// wordsOf returns a text of n tokens, [CLS] and [SEP] included, of words that
// every English vocabulary has.
func wordsOf(n int) string {
	words := strings.Fields("on a night in the city an old friend comes back and asks for help with a case that no one else will take")
	text := make([]string, n-2)
	for i := range text {
		text[i] = words[i%len(words)]
	}
	return strings.Join(text, " ")
}

// searchShape is a model with next to nothing before the search for items.
func searchShape(items int) layout.Shape {
	return layout.Shape{Items: items, Dim: 64, Layers: 1, Heads: 1, FFN: 8, Window: 2, EventTypes: 1, GapBuckets: 1}
}

// microseconds returns the q quantile of some times.
func microseconds(times []time.Duration, q float64) float64 {
	us := make([]float64, len(times))
	for i, t := range times {
		us[i] = t.Seconds() * 1e6
	}
	slices.Sort(us)
	return stat.Quantile(q, stat.Empirical, us, nil)
}

// pruned measures searches with bounds and without, over the items of a model
// and over larger catalogues like it; name is what their figures' names end with.
func pruned(ctx context.Context, name string, m *model.Model, histories [][]model.Event, n guestSizes) ([]results.Record, error) {
	cal, err := quantize.Calibrate(m, histories, nil)
	if err != nil {
		return nil, err
	}
	p, err := quantize.Params(m, cal, nil)
	if err != nil {
		return nil, err
	}
	users, err := quantize.UserSample(p, histories)
	if err != nil {
		return nil, err
	}
	records, err := prunedOf(ctx, "topk-games"+name, searchParams(p.ItemRows, p.ItemScale, p.Shape.Dim), users, n)
	if err != nil {
		return nil, err
	}
	for _, items := range n.spectrum {
		more, err := prunedOf(ctx, fmt.Sprintf("topk-spectrum%s-%d", name, items), spectrum(&p, items), users, n)
		if err != nil {
			return nil, err
		}
		records = append(records, more...)
	}
	return records, nil
}

// searchParams are parameters whose answers are searches among given items.
func searchParams(rows []int8, scale []float32, dim int) layout.Params {
	s := searchShape(len(scale))
	s.Dim = dim
	small := s
	small.Items = 1
	p := layouttest.Params(small, 1)
	p.Shape, p.ItemRows, p.ItemScale = s, rows, scale
	return p
}

// spectrum draws items from the normal distribution with the mean and the
// covariance of p's, and quantizes them as quantize does.
func spectrum(p *layout.Params, items int) layout.Params {
	n, d := p.Shape.Items, p.Shape.Dim
	v := mat.NewDense(n, d, nil)
	mean := make([]float64, d)
	for i := range n {
		for j := range d {
			x := float64(p.ItemRows[i*d+j]) * float64(p.ItemScale[i])
			v.Set(i, j, x)
			mean[j] += x / float64(n)
		}
	}
	var covariance mat.SymDense
	stat.CovarianceMatrix(&covariance, v, nil)
	var trace float64
	for j := range d {
		trace += covariance.At(j, j)
	}
	for j := range d { // so that it has a root
		covariance.SetSym(j, j, covariance.At(j, j)+1e-9*trace)
	}
	var chol mat.Cholesky
	chol.Factorize(&covariance)
	var root mat.TriDense
	chol.LTo(&root)
	rng := rand.New(rand.NewPCG(1, 0x5bec))
	rows, scale := make([]int8, items*d), make([]float32, items)
	g, x := make([]float64, d), make([]float64, d)
	for i := range items {
		for j := range g {
			g[j] = rng.NormFloat64()
		}
		var top float64
		for j := range x {
			x[j] = mean[j]
			for k := range j + 1 {
				x[j] += root.At(j, k) * g[k]
			}
			top = max(top, math.Abs(x[j]))
		}
		scale[i] = float32(top / layout.WeightMax)
		for j := range x {
			rows[i*d+j] = int8(math.RoundToEven(x[j] / top * layout.WeightMax))
		}
	}
	return searchParams(rows, scale, d)
}

// prunedOf measures one catalogue: each user's vector is the answer to an empty
// history.
func prunedOf(ctx context.Context, name string, p layout.Params, users [][]int16, n guestSizes) ([]results.Record, error) {
	bounded := p
	report := quantize.AddBounds(&bounded, users)
	ratios, brute, fast := []float64{}, []float64{}, []float64{}
	request := layout.Request{Kind: layout.KindRecommend, K: uint32(min(10, p.Shape.Items))}
	for i := range min(n.users, len(users)) {
		var medians [2]float64
		var answers [2]layout.Answer
		for j, side := range []layout.Params{p, bounded} {
			side.Cold = users[len(users)-1-i]
			g, err := guest.Open(ctx, side)
			if err != nil {
				return nil, err
			}
			times, err := g.Timed(ctx, request, max(n.requests*10_000/p.Shape.Items, 5))
			if err != nil {
				return nil, err
			}
			medians[j] = microseconds(times, 0.5)
			if answers[j], err = g.Answer(ctx, request); err != nil {
				return nil, err
			}
			if err := g.Close(ctx); err != nil {
				return nil, err
			}
		}
		if !slices.Equal(answers[0].Hits, answers[1].Hits) {
			return nil, fmt.Errorf("%s: bounds changed the answer", name)
		}
		ratios, brute, fast = append(ratios, medians[0]/medians[1]), append(brute, medians[0]), append(fast, medians[1])
	}
	middle := func(metric, unit, note string, x []float64) results.Record {
		slices.Sort(x)
		q := func(p float64) float64 { return stat.Quantile(p, stat.Empirical, x, nil) }
		return results.Record{Name: "speed." + name + "." + metric, Value: q(0.5), Low: q(0.25), High: q(0.75), Unit: unit, N: len(x), Note: note}
	}
	note := fmt.Sprintf("%d items, rows of bounds with %d and %d columns", p.Shape.Items, report.First, report.Columns-report.First)
	if report.Columns == 0 {
		note = fmt.Sprintf("%d items: bounds do not pay, there are none", p.Shape.Items)
	}
	return []results.Record{
		middle("pruned-speedup-over-brute", "ratio", note, ratios),
		middle("pruned-us", "µs", "", fast),
		middle("brute-us", "µs", "", brute),
		{Name: "speed." + name + ".looked-at-share", Value: report.Looked, N: len(users) / 2, Note: "of the items, a mean over users that the bounds were not fitted to"},
	}, nil
}
