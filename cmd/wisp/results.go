package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/wisp-project/wisp/edge"
	"github.com/wisp-project/wisp/hostgpu"
	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/internal/eval"
	"github.com/wisp-project/wisp/internal/results"
	"github.com/wisp-project/wisp/model"
	"github.com/wisp-project/wisp/quantize"
)

func newResults() *cobra.Command {
	var b bench
	c := &cobra.Command{
		Use:   "results",
		Short: "Remake the figures of docs/results",
		Long: `Prepares the public data sets, trains every model with several seeds, compresses
and measures it, and writes docs/results. Models that are already in --work are
taken from there, so that an interrupted run goes on where it was.

Data sets that are not in --shared are skipped, and said so. With --set only those named
are measured, and the pages keep what they have of others.`,
		Example: `  wisp results --shared ../shared --work out/results --docs docs/results
  wisp results --topic scale --work out/results --docs docs/results
  wisp results --topic teachers --set ml-latest-small`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			b.p = newProgress(cmd)
			defer b.p.done()
			return b.run(cmd.Context())
		},
	}
	f := c.Flags()
	f.StringVar(&b.shared, "shared", "../shared", "folder with the data sets")
	f.StringVar(&b.work, "work", "out/results", "folder for prepared data and models")
	f.StringVar(&b.docs, "docs", "docs/results", "folder for the figures")
	f.StringSliceVar(&b.topics, "topic", nil, "only these topics, the names of the pages in docs/results")
	f.StringSliceVar(&b.only, "set", nil, "only these data sets")
	f.IntVar(&b.swapped, "swap-requests", 1_000_000, "requests while versions are replaced, of topic operate")
	f.IntVar(&b.soaked, "soak-requests", 10_000_000, "requests of topic soak")
	f.IntVar(&b.inputs, "inputs", 10_000_000, "hostile inputs of topic security; fewer for a look")
	f.IntVar(&b.seeds, "seeds", 3, "models to train of each kind")
	return c
}

// bench makes the figures.
type bench struct {
	shared, work, docs string
	topics, only       []string
	seeds, inputs      int
	swapped, soaked    int
	p                  *progress
	read               map[string]*model.Tensor // what encoders have made of items, by digest
	machine, commit    string
}

// set is a public data set and how it is prepared.
type set struct {
	name    string
	source  data.Source
	options data.PrepareOptions
}

// setNames are the data sets that figures are made of.
var setNames = []string{"simulated", "ml-100k", "movietweetings", "ml-latest-small", "games"}

func (b *bench) sets() []set {
	at := func(parts ...string) string { return filepath.Join(append([]string{b.shared, "data"}, parts...)...) }
	return []set{
		{
			"ml-100k",
			data.Source{Format: "recbole", Events: at("ml-100k", "ml-100k.inter"), Items: at("ml-100k", "ml-100k.item"), Users: at("ml-100k", "ml-100k.user")},
			data.PrepareOptions{NoColdItems: true},
		},
		{
			"movietweetings",
			data.Source{Format: "double-colon", Events: at("movietweetings", "ratings.dat"), Items: at("movietweetings", "movies.dat")},
			data.PrepareOptions{Core: 5, RatingLo: 0, RatingHi: 10, NoColdItems: true},
		},
	}
}

// topic is a page of docs/results.
type topic struct {
	name string
	make func(context.Context) (results.Topic, error)
}

// present returns the sets that are wanted and whose files are there, and says
// which are not there.
func (b *bench) present(sets ...set) []set {
	return slices.DeleteFunc(sets, func(s set) bool {
		if len(b.only) > 0 && !slices.Contains(b.only, s.name) {
			return true
		}
		_, err := os.Stat(s.source.Events)
		if err != nil {
			b.p.line("skipped %s: %v", s.name, err)
		}
		return err != nil
	})
}

func (b *bench) run(ctx context.Context) error {
	b.machine = results.Machine()
	b.commit = results.Commit(ctx)
	all := []topic{
		{"quality", b.quality},
		{"simulated", b.simulated},
		{"teachers", b.teachers},
		{"students", b.students},
		{"ablation", b.ablation},
		{"cold", b.cold},
		{"controls", b.controls},
		{"games", b.games},
		{"stream", b.stream},
		{"ratings", b.ratings},
		{"sentiment", b.sentiment},
		{"encoder", b.encoder},
		{"text", b.textPath},
		{"speed", b.speed},
		{"runtime", b.runtime},
		{"operate", b.operate},
		{"soak", b.soak},
		{"history", b.history},
		{"security", b.security},
		{"guest", b.guest},
		{"lightweight", b.lightweight},
		{"retrain", b.retraining},
		{"scale", b.scale},
		{"times", b.times},
	}
	for _, name := range b.only {
		if !slices.Contains(setNames, name) {
			return fmt.Errorf("data set %q is unknown; choose among %s", name, strings.Join(setNames, ", "))
		}
	}
	var names []string
	for _, t := range all {
		names = append(names, t.name)
	}
	for _, name := range b.topics {
		if !slices.Contains(names, name) {
			return fmt.Errorf("topic %q is unknown; choose among %s", name, strings.Join(names, ", "))
		}
	}
	for _, topic := range all {
		if len(b.topics) > 0 && !slices.Contains(b.topics, topic.name) {
			continue
		}
		t, err := topic.make(ctx)
		if errors.Is(err, context.Canceled) {
			return hinted{err, "finished models are kept in " + b.work + "; run the same command again to go on"}
		}
		if err != nil {
			return fmt.Errorf("results: %s: %w", topic.name, err)
		}
		if len(t.Records) == 0 {
			b.p.line("%s: nothing could be measured, so its page stays as it is", topic.name)
			continue
		}
		t.Name = topic.name
		for i := range t.Records {
			r := &t.Records[i]
			r.Command, r.Commit, r.Machine = "make results", b.commit, b.machine
			if r.Low == 0 && r.High == 0 {
				r.Low, r.High = r.Value, r.Value
			}
		}
		if len(b.only) > 0 {
			older, err := results.Read(b.docs, t.Name)
			if err != nil {
				return err
			}
			t.Keep(older, b.only)
		}
		if err := t.Write(b.docs); err != nil {
			return err
		}
		b.p.line("wrote %s", filepath.Join(b.docs, t.Name+".md"))
	}
	return nil
}

// prepared returns a data set, prepared unless it was before.
func (b *bench) prepared(ctx context.Context, s set) (*data.Dataset, string, error) {
	dir := filepath.Join(b.work, s.name, "prepared")
	if _, err := data.ReadManifest(dir); err != nil {
		if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
			return nil, "", err
		}
		s.options.Name = s.name
		if _, err := data.Prepare(ctx, s.source, s.options, dir, b.p.stage); err != nil {
			return nil, "", err
		}
	}
	return loadData(dir)
}

// preparedAndSplit is prepared with what leave-one-out holds back of it.
func (b *bench) preparedAndSplit(ctx context.Context, s set) (*data.Dataset, string, *data.Split, error) {
	ds, fingerprint, err := b.prepared(ctx, s)
	if err != nil {
		return nil, "", nil, err
	}
	held, err := split(ds, leaveOneOut)
	return ds, fingerprint, held, err
}

// variant is a way to train.
type variant struct {
	name    string
	vectors givenVectors
	options hostgpu.TrainOptions // what differs from the defaults; the seed is below
	refit   bool
	seed    int
}

// made reports whether a training came about as v asks.
func (v variant) made(t training) bool {
	o := t.Options
	return t.Vectors == v.vectors && t.Refit == v.refit &&
		(v.options.Epochs == 0 || v.options.Epochs == o.Epochs) && (v.options.Dropout == 0 || v.options.Dropout == o.Dropout) &&
		v.options.IDDropout == o.IDDropout && (v.options.Samples == 0 || v.options.Samples == o.Samples) &&
		(v.options.Smoothing == 0 || max(v.options.Smoothing, 0) == o.Smoothing)
}

// usual is the model of the chain.
func usual(seed int) variant { return variant{vectors: givenVectors{TFIDF: defaultTFIDF}, seed: seed} }

// trained returns a model, trained unless it is in the work folder, and its
// folder there.
func (b *bench) trained(ctx context.Context, ds *data.Dataset, fingerprint string, s *data.Split, v variant) (*model.Model, training, string, error) {
	name := v.name
	if v.vectors == usual(v.seed).vectors && v.options == (hostgpu.TrainOptions{}) {
		name = "" // whatever it is compared with, it is trained once
	}
	dir := filepath.Join(b.work, ds.Name, fmt.Sprintf("%s%s-seed-%d", name, s.Protocol, v.seed))
	m, t, err := loadModel(dir)
	if err == nil && t.fits(m, ds, fingerprint) == nil && v.made(t) {
		return m, t, dir, nil
	}
	if b.read == nil {
		b.read = map[string]*model.Tensor{}
	}
	r := trainRun{out: dir, vectors: v.vectors, read: b.read, refit: v.refit, options: v.options}
	r.options.Seed = uint64(v.seed)
	r.tuning.options.Losses.NextItem = 1 // where the encoder is trained too
	b.p.line("%s %s, %s, seed %d", ds.Name, v.name, s.Protocol, v.seed)
	if err := r.goOn(func() error {
		_, err := r.runOn(ctx, ds, fingerprint, s, b.p)
		return err
	}); err != nil {
		return nil, t, "", err
	}
	m, t, err = loadModel(dir)
	return m, t, dir, err
}

// goOn calls run, which is to go on with what is in the output folder, or to begin anew
// where that is of a run with other options.
func (r *trainRun) goOn(run func() error) error {
	_, err := os.Stat(filepath.Join(r.out, checkpointFile))
	r.resume = err == nil
	if err = run(); errors.Is(err, hostgpu.ErrCheckpoint) {
		r.resume = false
		err = run()
	}
	return err
}

// again returns what trained does for v trained on the validation events too, for
// the epochs that validation chose in training t.
func (b *bench) again(ctx context.Context, ds *data.Dataset, fingerprint string, s *data.Split, v variant, t training) (*model.Model, training, string, error) {
	v.name = "refit-" + v.name
	v.options.Epochs = t.BestEpoch
	return b.trained(ctx, ds, fingerprint, &data.Split{Protocol: s.Protocol, Train: fittingData(ds, s)}, v)
}

// chain trains the usual model, unless it is there, and compresses it.
func (b *bench) chain(ctx context.Context, ds *data.Dataset, fingerprint string, s *data.Split, seed int) (built, error) {
	m, t, dir, err := b.trained(ctx, ds, fingerprint, s, usual(seed))
	if err != nil {
		return built{}, err
	}
	return build(ctx, m, t, ds, s, quantize.BuildOptions{}, filepath.Join(dir, ds.Name+".wisp"))
}

const qualityText = `
How good each stage of the chain is, on real data.

Protocol: the last event of each user with at least five is the test, the one before
it validation; input is everything before the target. The whole catalogue is ranked,
items of the history left out; the rank is the number of items that score strictly
higher ("ties-against" counts equal scores too). time-split: events before the 80 %
quantile of time train, each user's first event in the next 10 % validates, the first
one in the last 10 % is the test, with everything before it as input. Baselines are
fitted on all events before the test events. The teacher trains without validation
events, which choose its epoch; for the time-split it then trains again for as many
epochs with them. Hyper-parameters were chosen on validation. movietweetings is the
5-core.

Intervals: baselines, bootstrap over cases; stages of the chain, Student's t over seeds
(three, unless n says otherwise). retention is int8 in the sandbox over the float32
teacher, ties counted for the teacher and against int8. identical-requests is the
share of test requests for which all scores out of the sandbox, integers and floats,
equal internal/q8 bit for bit. layer-error is the relative error against float32 on
training histories of seed 1.
`

func (b *bench) quality(ctx context.Context) (results.Topic, error) {
	t := results.Topic{Title: "Quality of each stage", Text: qualityText}
	add := func(name string, i eval.Interval, n int, unit, note string) {
		t.Records = append(t.Records, within(results.Record{Name: name, N: n, Unit: unit, Note: note}, i))
	}
	for _, set := range b.present(b.sets()...) {
		ds, fingerprint, err := b.prepared(ctx, set)
		if err != nil {
			return t, err
		}
		prefix := "quality." + set.name + "."
		for _, protocol := range []string{leaveOneOut, byTime} {
			s, err := split(ds, protocol)
			if err != nil {
				return t, err
			}
			kind := ""
			if protocol == byTime {
				kind = "time-split-"
			}
			base, err := evaluate(ctx, ds, s, nil, b.p)
			if err != nil {
				return t, err
			}
			for _, r := range base {
				name := prefix + r.scorer.Name() + "." + kind
				add(name+"ndcg10", r.ndcg, r.result.Cases, "", "")
				add(name+"hr10", r.hr, r.result.Cases, "", "")
				if protocol == leaveOneOut {
					add(name+"mrr", r.mrr, r.result.Cases, "", "")
					add(name+"coverage10", r.covered, r.result.Cases, "", "share of the catalogue in some top 10")
				}
			}
			// Metrics of the chain, by name, one value for each seed.
			values := map[string][]float64{}
			var order []string
			value := func(name string, v float64) {
				if values[name] == nil {
					order = append(order, name)
				}
				values[name] = append(values[name], v)
			}
			histories := fittingData(ds, s)
			counts := popularity(histories, len(ds.Items))
			for seed := 1; seed <= b.seeds; seed++ {
				c, err := b.chain(ctx, ds, fingerprint, s, seed)
				if err != nil {
					return t, err
				}
				var rows []row
				for _, st := range c.stages {
					r, err := measure(ctx, st, len(ds.Items), s.Test, counts, b.p)
					if err != nil {
						c.close()
						return t, err
					}
					rows = append(rows, r)
					name := prefix + st.scorer.Name() + "." + kind
					value(name+"ndcg10", r.ndcg.Value)
					value(name+"hr10", r.hr.Value)
					if protocol == leaveOneOut {
						value(name+"mrr", r.mrr.Value)
						value(name+"coverage10", r.covered.Value)
						value(name+"novelty10", r.result.Novelty)
						value(name+"gini10", r.result.Gini)
						value(name+"ties-against-ndcg10", r.result.Pessimistic.NDCG)
					}
				}
				best, sandboxed := rows[0].result, rows[2].result
				value(prefix+sandboxStage+"."+kind+"retention", sandboxed.Pessimistic.NDCG/best.Accuracy.NDCG)
				equal, err := b.identical(ctx, c.stages[1].scorer.(*quantize.Scorer), c.stages[2].scorer.(*sandbox), s.Test)
				c.close()
				if err != nil {
					return t, err
				}
				value(prefix+sandboxStage+"."+kind+"identical-requests", equal)
				if protocol == leaveOneOut && seed == 1 {
					for _, l := range c.layers {
						add(prefix+"layer-error."+l.Site, eval.Interval{Value: l.Relative}, l.N, "", fmt.Sprintf("largest %.4f, cosine %.5f", l.Max, l.Cosine))
					}
					for _, r := range rows {
						add("size."+set.name+"."+r.scorer.Name()+".bytes", eval.Interval{Value: float64(r.bytes)}, 1, "bytes", "")
					}
				}
			}
			for _, name := range order {
				i := eval.Interval{Value: values[name][0]}
				if len(values[name]) > 1 {
					if i, err = eval.StudentT(values[name]); err != nil {
						return t, err
					}
				}
				add(name, i, len(values[name]), "", "")
			}
		}
	}
	return t, nil
}

// addMean adds r, which says what it is about, with the mean of values, one for each seed.
func addMean(records *[]results.Record, r results.Record, values []float64) error {
	i := eval.Interval{Value: values[0], Low: values[0], High: values[0]}
	if len(values) > 1 {
		var err error
		if i, err = eval.StudentT(values); err != nil {
			return err
		}
	}
	r.N = len(values)
	*records = append(*records, within(r, i))
	return nil
}

// within is r with the value of i and its bounds.
func within(r results.Record, i eval.Interval) results.Record {
	r.Value, r.Low, r.High = i.Value, i.Low, i.High
	return r
}

// addCases adds the mean of values, one for each case.
func addCases(records *[]results.Record, name string, values []float64) error {
	i, err := eval.Bootstrap(values, eval.BootstrapOptions{})
	*records = append(*records, within(results.Record{Name: name, N: len(values)}, i))
	return err
}

// recordNamed returns the record of that name, and whether there is one.
func recordNamed(records []results.Record, name string) (results.Record, bool) {
	i := slices.IndexFunc(records, func(r results.Record) bool { return r.Name == name })
	if i < 0 {
		return results.Record{}, false
	}
	return records[i], true
}

// identical returns the share of cases for which every score out of the sandbox
// has the bits that internal/q8 gives.
func (b *bench) identical(ctx context.Context, plain *quantize.Scorer, s *sandbox, cases []data.Case) (float64, error) {
	equal := 0
	for _, c := range cases {
		scores, err := s.score(ctx, c.User, c.History)
		if err != nil {
			return 0, err
		}
		want, err := plain.Exact(c.User, c.History)
		if err != nil {
			return 0, err
		}
		same := true
		for i, w := range want {
			same = same && scores[i].Integer == w.Acc && math.Float32bits(scores[i].Value) == math.Float32bits(w.Score)
		}
		if same {
			equal++
		}
	}
	return float64(equal) / float64(len(cases)), nil
}

const simulatedText = `
A made data set has a known truth: for each moment of each user, the probability of
every item to come next. The truth ranks as well as anything can; popularity and the
trained model stand beside it. Leave-one-out, as in quality.md; the data set is made by
wisp simulate with the options in the note.
`

func (b *bench) simulated(ctx context.Context) (results.Topic, error) {
	t := results.Topic{Title: "The model beside a known truth", Text: simulatedText}
	o := data.SimulateOptions{Users: 3000, Items: 1000, Events: 150000, Seed: 7}
	sim, err := data.NewSimulator(o)
	if err != nil {
		return t, err
	}
	raw := filepath.Join(b.work, "simulated", "raw")
	if err := os.MkdirAll(filepath.Dir(raw), 0o755); err != nil {
		return t, err
	}
	if err := sim.WriteTo(ctx, raw, b.p.stage); err != nil {
		return t, err
	}
	at := func(name string) string { return filepath.Join(raw, name) }
	ds, fingerprint, err := b.prepared(ctx, set{
		"simulated",
		data.Source{Format: "jsonl", Events: at("events.jsonl"), Items: at("items.jsonl"), Users: at("users.jsonl")},
		data.PrepareOptions{RatingLo: 1, RatingHi: 5},
	})
	if err != nil {
		return t, err
	}
	s, err := split(ds, leaveOneOut)
	if err != nil {
		return t, err
	}
	c, err := b.chain(ctx, ds, fingerprint, s, 1)
	if err != nil {
		return t, err
	}
	defer c.close()
	stages := append(c.stages, stage{scorer: newTruth(sim, ds), request: func(context.Context, data.Case) error { return nil }})
	rows, err := evaluate(ctx, ds, s, stages, b.p)
	if err != nil {
		return t, err
	}
	note := fmt.Sprintf("%d users, %d items, %d events, seed %d", o.Users, len(ds.Items), ds.Events(), o.Seed)
	for _, r := range rows {
		t.Records = append(t.Records,
			within(results.Record{Name: "quality.simulated." + r.scorer.Name() + ".ndcg10", N: r.result.Cases, Note: note}, r.ndcg),
			within(results.Record{Name: "quality.simulated." + r.scorer.Name() + ".hr10", N: r.result.Cases}, r.hr))
	}
	return t, nil
}

// truth is the simulator as a scorer.
type truth struct {
	sim   *data.Simulator
	ds    *data.Dataset
	index []int32 // of each of the simulator's items in the data set, -1 for none
}

func newTruth(sim *data.Simulator, ds *data.Dataset) *truth {
	byID := make(map[string]int32, len(ds.Items))
	for i, item := range ds.Items {
		byID[item.ID] = int32(i)
	}
	t := &truth{sim: sim, ds: ds}
	for _, item := range sim.Items() {
		i, ok := byID[item.ID]
		if !ok {
			i = -1
		}
		t.index = append(t.index, i)
	}
	return t
}

// Name returns "truth".
func (t *truth) Name() string { return "truth" }

// Scores writes the probability of each item to come next.
func (t *truth) Scores(_ context.Context, dst []float32, user int32, history []data.Interaction) error {
	p := make([]float32, len(t.index))
	if err := t.sim.Scores(p, t.ds.Users[user].ID, history[len(history)-1].Time); err != nil {
		return err
	}
	for i, at := range t.index {
		if at >= 0 {
			dst[at] = p[i]
		}
	}
	return nil
}

const speedText = `
One request to the runtime, as a caller makes it: item ids and times in, ten items with
titles out, on one sandbox and one goroutine. h50: a history of 50 events. Percentiles
over all requests of all rounds; low and high are the least and the greatest of the
rounds' own percentiles. Allocations are the mean of a request.
`

func (b *bench) speed(ctx context.Context) (results.Topic, error) {
	t := results.Topic{Title: "Speed of the sandbox", Text: speedText}
	for _, set := range b.present(b.sets()...) {
		ds, fingerprint, s, err := b.preparedAndSplit(ctx, set)
		if err != nil {
			return t, err
		}
		c, err := b.chain(ctx, ds, fingerprint, s, 1)
		if err != nil {
			return t, err
		}
		c.close()
		begin := time.Now()
		r, err := edge.Open(ctx, c.path, edge.Options{Sandboxes: 1, AllowUnsigned: true})
		if err != nil {
			return t, err
		}
		opened := time.Since(begin)
		records, err := b.latency(ctx, r, ds, s)
		if err = errors.Join(err, r.Close(ctx)); err != nil {
			return t, err
		}
		t.Records = append(t.Records, records...)
		t.Records = append(t.Records, results.Record{
			Name: "speed.open-" + ds.Name + ".ms", Value: float64(opened.Microseconds()) / 1000, Unit: "ms", N: 1,
			Note: "read, check, compile, answer the golden requests",
		})
	}
	return t, nil
}

// latency times requests of 50 events in rounds.
func (b *bench) latency(ctx context.Context, r *edge.Runtime, ds *data.Dataset, s *data.Split) ([]results.Record, error) {
	box, err := newSandbox(r, ds)
	if err != nil {
		return nil, err
	}
	const events, rounds, requests = 50, 20, 500
	var histories [][]edge.Event
	for _, c := range s.Test {
		if len(c.History) >= events {
			histories = append(histories, box.events(c.History[len(c.History)-events:]))
		}
	}
	if len(histories) == 0 {
		return nil, nil
	}
	kind := timed{name: "recommend-h50-" + ds.Name, p99: true, ask: func(h []edge.Event) error {
		_, err := r.Recommend(ctx, edge.Request{History: h})
		return err
	}}
	for round := range rounds + 1 {
		if err := kind.round(histories, requests, round == 0); err != nil { // it is warm after the first
			return nil, err
		}
	}
	times, bytes, err := kind.allocated(histories, requests)
	if err != nil {
		return nil, err
	}
	return append(kind.records(fmt.Sprintf("%d items, width 64, 2 layers; %d rounds of %d", len(ds.Items), rounds, requests)),
		results.Record{Name: "speed." + kind.name + ".allocations", Value: times, N: requests},
		results.Record{Name: "speed." + kind.name + ".allocated-bytes", Value: bytes, Unit: "bytes", N: requests}), nil
}

const scaleText = `
Ten million simulated events (200,000 users, 20,000 items) through wisp simulate and
wisp prepare, each as a process of its own. The bound: memory grows with users and
items, and with one of the 64 partitions of the events, not with all of them.
`

func (b *bench) scale(ctx context.Context) (results.Topic, error) {
	t := results.Topic{Title: "Preparing ten million events", Text: scaleText}
	self, err := os.Executable()
	if err != nil {
		return t, err
	}
	raw, out := filepath.Join(b.work, "scale", "raw"), filepath.Join(b.work, "scale", "prepared")
	if err := os.MkdirAll(filepath.Dir(raw), 0o755); err != nil {
		return t, err
	}
	for _, step := range []struct {
		name string
		args []string
	}{
		{"simulate", []string{"simulate", "--users", "200000", "--items", "20000", "--events", "10000000", "--seed", "1", "--out", raw}},
		{"prepare", []string{
			"prepare", "--format", "jsonl", "--events", filepath.Join(raw, "events.jsonl"), "--items", filepath.Join(raw, "items.jsonl"),
			"--users", filepath.Join(raw, "users.jsonl"), "--out", out,
		}},
	} {
		b.p.line("wisp %s", strings.Join(step.args, " "))
		begin := time.Now()
		cmd := exec.CommandContext(ctx, self, step.args...)
		cmd.Stderr = os.Stderr
		peak, err := runMeasured(cmd)
		if err != nil {
			if ctx.Err() != nil {
				return t, ctx.Err()
			}
			return t, fmt.Errorf("wisp %s: %w", step.name, err)
		}
		took := time.Since(begin)
		name := "scale." + step.name + "-10m-events."
		t.Records = append(t.Records, results.Record{Name: name + "seconds", Value: math.Round(took.Seconds()*10) / 10, Unit: "s", N: 1})
		if peak > 0 {
			t.Records = append(t.Records, results.Record{Name: name + "peak-memory-bytes", Value: float64(peak), Unit: "bytes", N: 1, Note: "largest resident set"})
		}
	}
	m, err := data.ReadManifest(out)
	if err != nil {
		return t, err
	}
	t.Records = append(t.Records, results.Record{Name: "scale.prepare-10m-events.events", Value: float64(m.Events), N: 1})
	return t, os.RemoveAll(filepath.Join(b.work, "scale"))
}
