package main

import (
	"cmp"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"gonum.org/v1/gonum/stat"

	"github.com/wisp-project/wisp/edge"
	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/internal/eval"
	"github.com/wisp-project/wisp/internal/results"
	"github.com/wisp-project/wisp/internal/tokenize"
	"github.com/wisp-project/wisp/internal/vec"
	"github.com/wisp-project/wisp/model"
	"github.com/wisp-project/wisp/quantize"
)

const textPathText = `
What is left of a large text encoder where recommendations hang on texts alone. teacher is
all-MiniLM-L6-v2 in float32 with a network over its vectors of the items' texts; student and
student-nano the encoders built-in and built-in-nano, distilled from it, each with a network
over its own, in eight bits out of one artefact in the sandbox. All networks have the shape and
the options of quality.md, and know texts by their encoder only, as a sandbox does (wisp train
--features 0 --encoder).

- cold-recall10, cold-among-hidden-recall10, cold-boosted-recall10, warm-boosted-recall10: items that
  come without events, and beside them others, by the protocol of cold.md. What is added to the scores of
  new items is chosen on validation for each encoder, with the first seed; how many of them are shown
  for known items hangs on it, so balanced-recall10 is the harmonic mean of the last two, and its ratio
  the student's over the teacher's.
- tags: search by words. Of ml-latest-small, each tag that some user gave a film is a query, and the
  films with that tag are what it is to find, by their titles and genres. recall10 is the share
  of a tag's films, of which ten count at most, among the first ten; mean over tags.
- retention is the student's recall over the teacher's. Its interval is a paired bootstrap, over
  questions or tags; ties are counted for the teacher and against the student. Those of recalls
  and ratios are Student's t over seeds, or a bootstrap over tags.
- student.bytes: the artefact, with kernel, catalogue, encoder and searchable texts;
  ratio-to-teacher is what MiniLM and the teacher's network take in float32, over its bytes.
`

// textStudents are the encoders that are measured, by the names of their figures.
var textStudents = []struct{ name, encoder string }{{"student", quantize.BuiltinMicro}, {"student-nano", quantize.BuiltinNano}}

// textPath measures what the built-in encoders keep of their teacher.
func (b *bench) textPath(ctx context.Context) (results.Topic, error) {
	t := results.Topic{Title: "What the text path keeps", Text: textPathText}
	folder := filepath.Join(b.shared, "models", "all-MiniLM-L6-v2")
	if _, err := os.Stat(folder); err != nil {
		b.p.line("skipped what the text path keeps: %v", err)
		return t, nil
	}
	tok, encoder, err := loadEncoder(folder)
	if err != nil {
		return t, err
	}
	for _, set := range b.present(b.sets()...) {
		records, err := b.coldTexts(ctx, set, folder, encoder)
		if err != nil {
			return t, err
		}
		t.Records = append(t.Records, records...)
	}
	for _, set := range b.present(b.taggedSet()) {
		records, err := b.tagTexts(ctx, set, tok, encoder)
		if err != nil {
			return t, err
		}
		t.Records = append(t.Records, records...)
	}
	return t, nil
}

// taggedSet is the set whose users gave tags.
func (b *bench) taggedSet() set {
	all := b.filmSets()
	return all[slices.IndexFunc(all, func(s set) bool { return s.name == "ml-latest-small" })]
}

// coldTexts asks for the hidden items of a set.
func (b *bench) coldTexts(ctx context.Context, set set, folder string, encoder *model.TextModel) ([]results.Record, error) {
	ds, fingerprint, err := b.prepared(ctx, set)
	if err != nil {
		return nil, err
	}
	c := data.HideItems(ds, 0.1, minEvents, hidingSeed)
	forValidation, q := newColdStart(ds, c, c.Valid, c.Warm.Valid), newColdStart(ds, c, c.Test, c.Warm.Test)
	settings := []struct {
		name    string
		cases   []data.Case
		among   func(*data.Case) []int32
		boosted bool
	}{
		{"cold-recall10", q.cold, q.catalogue().cold, false},
		{"cold-among-hidden-recall10", q.cold, q.amongHidden().cold, false},
		{"cold-boosted-recall10", q.cold, q.catalogue().cold, true},
		{"warm-boosted-recall10", q.warm, q.catalogue().warm, true},
	}
	ask := func(to [][]*eval.Result, s eval.Scorer, boost float32) error {
		for i, setting := range settings {
			asked := s
			if setting.boosted {
				asked = q.boosted(s, boost)
			}
			r, err := q.ask(ctx, asked, setting.cases, setting.among)
			if err != nil {
				return err
			}
			to[i] = append(to[i], r)
		}
		return nil
	}
	given := make([][]*eval.Result, len(settings)) // by setting, of each seed
	var before []float64
	var boost float32 // of the seeds' first, for all
	for seed := 1; seed <= b.seeds; seed++ {
		m, t, _, err := b.trained(ctx, ds, fingerprint, c.Warm, variant{name: "text-", vectors: givenVectors{Encoder: folder}, seed: seed})
		if err != nil {
			return nil, err
		}
		whole := teacher(m, t.users)
		if seed == 1 {
			if boost, err = forValidation.chooseBoost(ctx, whole.scorer); err != nil {
				return nil, err
			}
		}
		if err := ask(given, whole.scorer, boost); err != nil {
			return nil, err
		}
		before = append(before, float64(whole.bytes)+4*float64(parameters(encoder.Config)))
	}
	note := func(boosted bool) string {
		if boosted {
			return fmt.Sprintf("%g added to scores of hidden items", boost)
		}
		return fmt.Sprintf("%d hidden items, %d questions", len(q.hidden), len(q.cold))
	}
	var records []results.Record
	prefix := set.name + ".text-path."
	for i, setting := range settings {
		var hits []float64
		for _, r := range given[i] {
			hits = append(hits, r.Accuracy.HitRate)
		}
		if err := addMean(&records, results.Record{Name: "quality." + prefix + "teacher." + setting.name, Note: note(setting.boosted)}, hits); err != nil {
			return nil, err
		}
	}
	// Both kinds of questions with what was added, the last two settings.
	balanced := func(of [][]*eval.Result, rate func(*eval.Result) float64) []float64 {
		var means []float64
		for i, r := range of[len(of)-2] {
			means = append(means, stat.HarmonicMean([]float64{rate(r), rate(of[len(of)-1][i])}, nil))
		}
		return means
	}
	whole := balanced(given, func(r *eval.Result) float64 { return r.Accuracy.HitRate })
	if err := addMean(&records, results.Record{Name: "quality." + prefix + "teacher.balanced-recall10"}, whole); err != nil {
		return nil, err
	}
	for _, student := range textStudents {
		kept := make([][]*eval.Result, len(settings))
		var after []float64
		for seed := 1; seed <= b.seeds; seed++ {
			x, err := b.textArtefact(ctx, ds, fingerprint, c.Warm, student.encoder, seed)
			if err != nil {
				return nil, err
			}
			st := x.stages[len(x.stages)-1]
			if seed == 1 {
				boost, err = forValidation.chooseBoost(ctx, st.scorer)
			}
			if err == nil {
				err = ask(kept, st.scorer, boost)
			}
			x.close()
			if err != nil {
				return nil, err
			}
			after = append(after, float64(st.bytes))
		}
		for i, setting := range settings {
			var hits []float64
			for _, r := range kept[i] {
				hits = append(hits, r.Pessimistic.HitRate)
			}
			name := "quality." + prefix + student.name + "." + setting.name
			if err := addMean(&records, results.Record{Name: name, Note: note(setting.boosted)}, hits); err != nil {
				return nil, err
			}
			share, err := eval.MeanRetention(kept[i], given[i], eval.HitRate, eval.BootstrapOptions{})
			if err != nil {
				return nil, err
			}
			records = append(records, within(results.Record{Name: name + "-retention", N: b.seeds}, share))
		}
		left := balanced(kept, func(r *eval.Result) float64 { return r.Pessimistic.HitRate })
		name := "quality." + prefix + student.name + ".balanced-recall10"
		if err := addMean(&records, results.Record{Name: name}, left); err != nil {
			return nil, err
		}
		for i := range left {
			left[i] /= whole[i]
		}
		if err := addMean(&records, results.Record{Name: name + "-ratio"}, left); err != nil {
			return nil, err
		}
		size := "size." + prefix + student.name + "."
		records = append(records,
			results.Record{Name: size + "bytes", Value: math.Round(stat.Mean(after, nil)), N: b.seeds, Unit: "bytes"},
			results.Record{Name: size + "ratio-to-teacher", Value: stat.Mean(before, nil) / stat.Mean(after, nil), N: b.seeds})
	}
	return records, nil
}

// tagTexts searches a set for its tags.
func (b *bench) tagTexts(ctx context.Context, set set, tok *tokenize.Tokenizer, encoder *model.TextModel) ([]results.Record, error) {
	ds, fingerprint, err := b.prepared(ctx, set)
	if err != nil {
		return nil, err
	}
	queries, err := readTags(filepath.Join(filepath.Dir(set.source.Events), "tags.csv"), ds)
	if err != nil {
		return nil, err
	}
	found, err := b.foundBy(ctx, encoder, tok, ds, queries)
	if err != nil {
		return nil, err
	}
	s, err := split(ds, leaveOneOut)
	if err != nil {
		return nil, err
	}
	var records []results.Record
	whole := recalls(queries, found)
	prefix := "quality." + set.name + ".text-path."
	if err := addCases(&records, prefix+"teacher.tags-recall10", whole); err != nil {
		return nil, err
	}
	for _, student := range textStudents {
		x, err := b.textArtefact(ctx, ds, fingerprint, s, student.encoder, 1)
		if err != nil {
			return nil, err
		}
		found, err := foundThrough(ctx, x.runtime, queries)
		x.close()
		if err != nil {
			return nil, err
		}
		kept := recalls(queries, found)
		if err := addCases(&records, prefix+student.name+".tags-recall10", kept); err != nil {
			return nil, err
		}
		share, err := eval.Ratio(kept, whole, eval.BootstrapOptions{})
		if err != nil {
			return nil, err
		}
		records = append(records, within(results.Record{Name: prefix + student.name + ".tags-recall10-retention", N: len(queries)}, share))
	}
	return records, nil
}

// textArtefact trains a network over a built-in encoder's vectors and returns it out of an
// artefact that has the encoder too, to be closed.
func (b *bench) textArtefact(ctx context.Context, ds *data.Dataset, fingerprint string, s *data.Split, builtin string, seed int) (built, error) {
	tok, encoder, err := loadEncoder(builtin)
	if err != nil {
		return built{}, err
	}
	// Its name does not tell an encoder from the one that was built in before.
	v := variant{name: fmt.Sprintf("%s-%.8s-", builtin, encoderDigest(tok, encoder, ds)), vectors: givenVectors{Encoder: builtin}, seed: seed}
	m, t, dir, err := b.trained(ctx, ds, fingerprint, s, v)
	if err != nil {
		return built{}, err
	}
	var o quantize.BuildOptions
	if o.Text, err = textPart(builtin, dir, m, t, ds); err != nil {
		return built{}, err
	}
	return build(ctx, m, t, ds, s, o, filepath.Join(dir, ds.Name+".wisp"))
}

// tagQuery is a tag and the items that have it.
type tagQuery struct {
	text  string
	items map[string]bool
}

// readTags reads lines of user, item, tag and time under a line of names. Tags that differ
// in case are one, and those of no item of ds are left out.
func readTags(path string, ds *data.Dataset) ([]tagQuery, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // nothing was written
	known := map[string]bool{}
	for i := range ds.Items {
		known[ds.Items[i].ID] = true
	}
	var queries []tagQuery
	place := map[string]int{}
	rows := csv.NewReader(f)
	rows.FieldsPerRecord = 4
	for first := true; ; first = false {
		row, err := rows.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		tag := strings.ToLower(strings.TrimSpace(row[2]))
		if first || tag == "" || !known[row[1]] {
			continue
		}
		at, there := place[tag]
		if !there {
			at = len(queries)
			place[tag] = at
			queries = append(queries, tagQuery{text: tag, items: map[string]bool{}})
		}
		queries[at].items[row[1]] = true
	}
	if len(queries) == 0 {
		return nil, fmt.Errorf("%s: no tag of any item in the data", path)
	}
	return queries, nil
}

// recall is the share of the query's items, of which as many as there are places count at
// most, that were found.
func (q tagQuery) recall(found []string) float64 {
	hits := 0
	for _, id := range found {
		if q.items[id] {
			hits++
		}
	}
	return float64(hits) / float64(min(len(q.items), tagPlaces))
}

// tagPlaces is how many items a search for a tag shows.
const tagPlaces = 10

// foundBy returns the items that an encoder in float32 finds for each query, the nearest
// first.
func (b *bench) foundBy(ctx context.Context, encoder *model.TextModel, tok *tokenize.Tokenizer, ds *data.Dataset, queries []tagQuery) ([][]string, error) {
	of, err := embed(ctx, tok, encoder, "items", len(ds.Items), itemTexts(ds), b.p)
	if err != nil {
		return nil, err
	}
	by, err := embed(ctx, tok, encoder, "tags", len(queries), func(i int) string { return queries[i].text }, b.p)
	if err != nil {
		return nil, err
	}
	found := make([][]string, len(queries))
	order, cos := make([]int, len(ds.Items)), make([]float32, len(ds.Items))
	for i := range queries {
		for j := range order {
			order[j], cos[j] = j, vec.Dot(by.Row(i), of.Row(j))
		}
		slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(cos[b], cos[a]) })
		for _, j := range order[:min(tagPlaces, len(order))] {
			found[i] = append(found[i], ds.Items[j].ID)
		}
	}
	return found, nil
}

// foundThrough returns the items that a search through r finds for each query.
func foundThrough(ctx context.Context, r *edge.Runtime, queries []tagQuery) ([][]string, error) {
	found := make([][]string, len(queries))
	for i, q := range queries {
		answer, err := r.Search(ctx, edge.SearchRequest{Text: q.text, K: tagPlaces})
		if err != nil {
			return nil, err
		}
		for _, item := range answer.Items {
			found[i] = append(found[i], item.Item)
		}
	}
	return found, nil
}

// recalls returns that of each query.
func recalls(queries []tagQuery, found [][]string) []float64 {
	all := make([]float64, len(queries))
	for i, q := range queries {
		all[i] = q.recall(found[i])
	}
	return all
}
