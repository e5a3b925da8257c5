package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/wisp-project/wisp/artifact"
	"github.com/wisp-project/wisp/hostgpu"
	"github.com/wisp-project/wisp/internal/atomicfile"
	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/internal/eval"
	"github.com/wisp-project/wisp/internal/results"
	"github.com/wisp-project/wisp/internal/retrain"
	"github.com/wisp-project/wisp/internal/runlog"
	"github.com/wisp-project/wisp/quantize"
	"github.com/wisp-project/wisp/quantize/report"
)

const retrainText = `
MovieTweetings week by week, as far as the data goes. A model is trained and compressed on the first %d weeks. From then
on each policy serves an artefact, which is asked at each user's first event of a week, with everything
before it as the history; the catalogue is that of the end of the week, so that an item an artefact does not know is a
miss. Events of users and items with fewer than five by then are left out, as anywhere.

- never: the artefact of the beginning serves to the end.
- weekly: the command wisp retrain after each week, with its defaults. What its gate refuses is not served.
  The default learning rates, of this and of adapters, were chosen on what the jobs themselves hold out
  of the weeks before those that are asked about here.
- adapters: the same with --adapter-rank %d.
- scratch: after each week a model is trained from chance on everything until then, the last event of each
  user choosing the epoch, and compressed, without a gate.

quality.retrain.SET.POLICY.ndcg10 is over the cases of all weeks, int8, with bootstrap intervals over cases;
"difference" is paired. speed.retrain.SET.POLICY.seconds is what a policy took in all after the beginning, energy by the
report's model: core-seconds times the watts of a busy core in its prices.

quality.retrain.SET.gate.X.published is 1 where a retraining on the last week was published although this was broken:
nothing (it was not broken), shuffled-labels (the next items of all events exchanged), rate-times-100 (the learning rate), and bots (a week
with 1,000 made accounts that push five items).
`

// The policies, by the names of their figures.
const (
	policyNever    = "never"
	policyWeekly   = "weekly"
	policyAdapters = "adapters"
	policyScratch  = "scratch"
)

var policies = []string{policyNever, policyWeekly, policyAdapters, policyScratch}

// policyRank is the rank of the adapters of the policy of that name.
const policyRank = 8

// calendar is a data set that comes week by week.
type calendar struct {
	name    string
	events  []data.Event // in order of time
	items   []data.Item
	prepare data.PrepareOptions
	first   int // weeks that all begins with
	train   hostgpu.TrainOptions
	options retrain.Options
	vectors givenVectors

	dir, docs string
	p         *progress
}

const weekSeconds = 7 * 86400

// weekOf is the number of the week in which an event is.
func (c *calendar) weekOf(e data.Event) int { return int((e.Time - c.events[0].Time) / weekSeconds) }

// weeks is the number of whole weeks.
func (c *calendar) weeks() int { return c.weekOf(c.events[len(c.events)-1]) }

// between returns the events of the weeks from and up to, without, the given ones.
func (c *calendar) between(from, to int) []data.Event {
	at := func(week int) int {
		i, _ := slices.BinarySearchFunc(c.events, week, func(e data.Event, w int) int { return c.weekOf(e) - w })
		return i
	}
	return c.events[at(from):at(to)]
}

// served is how an artefact did in a week, and what it had cost to make.
type served struct {
	Users, Targets, Rank []int32
	Seconds, Cores       float64
	Published            bool
}

// retraining compares policies on MovieTweetings.
func (b *bench) retraining(ctx context.Context) (results.Topic, error) {
	const first = 8
	t := results.Topic{Title: "Retraining week by week", Text: fmt.Sprintf(retrainText, first, policyRank)}
	for _, set := range b.present(b.sets()[1]) {
		c := calendar{
			name: set.name, prepare: set.options, first: first, train: hostgpu.TrainOptions{Seed: 1}, options: retrain.Options{Seed: 1},
			vectors: usual(1).vectors, dir: filepath.Join(b.work, "retrain", set.name), docs: b.docs, p: b.p,
		}
		c.prepare.Name = set.name
		if _, err := data.ReadEvents(ctx, set.source, func(e data.Event) string {
			c.events = append(c.events, e)
			return ""
		}); err != nil {
			return t, err
		}
		slices.SortStableFunc(c.events, func(x, y data.Event) int { return int(x.Time - y.Time) })
		var err error
		if c.items, err = data.ReadItems(ctx, set.source); err != nil {
			return t, err
		}
		if err := c.measure(ctx, &t); err != nil {
			return t, err
		}
	}
	return t, nil
}

// measure runs all policies through all weeks and adds the figures to t.
func (c *calendar) measure(ctx context.Context, t *results.Topic) error {
	begin, err := c.scratch(ctx, c.first)
	if err != nil {
		return err
	}
	jobs := map[string]*retrainJob{}
	for policy, rank := range map[string]int{policyWeekly: 0, policyAdapters: policyRank} {
		if jobs[policy], err = c.newJob(begin, policy, rank); err != nil {
			return err
		}
	}
	all := map[string][]served{}
	for week := c.first; week < c.weeks(); week++ {
		ds, fingerprint, err := c.prepared(ctx, week+1)
		if err != nil {
			return err
		}
		for _, policy := range policies {
			path := filepath.Join(c.dir, "weeks", fmt.Sprintf("%s-%02d.json", policy, week))
			key := fingerprint
			if j := jobs[policy]; j != nil {
				key += fmt.Sprint(j.options)
			}
			s, err := kept(path, key, func() (served, error) {
				c.p.line("%s: week %d, %s", c.name, week, policy)
				wall, cores := time.Now(), cpuTime()
				published := true
				artefact := begin.artefact
				var err error
				switch {
				case jobs[policy] != nil && week > c.first:
					published, err = c.retrain(ctx, jobs[policy], week)
					artefact = jobs[policy].out
				case policy == policyScratch && week > c.first:
					var fresh begunWith
					fresh, err = c.scratch(ctx, week)
					artefact = fresh.artefact
				}
				s := served{Seconds: time.Since(wall).Seconds(), Cores: (cpuTime() - cores).Seconds(), Published: published}
				if err == nil {
					err = c.ask(ctx, artefact, ds, week, &s)
				}
				return s, err
			})
			if err != nil {
				return err
			}
			all[policy] = append(all[policy], s)
		}
	}
	if len(all[policyNever]) == 0 {
		return fmt.Errorf("%s has %d weeks, and %d are needed to begin", c.name, c.weeks(), c.first)
	}
	if err := c.report(t, all); err != nil {
		return err
	}
	return c.gate(ctx, t, jobs[policyWeekly])
}

// begunWith is a model with its data and artefact.
type begunWith struct{ prepared, model, artefact string }

// prepared returns the data of so many weeks.
func (c *calendar) prepared(ctx context.Context, weeks int) (*data.Dataset, string, error) {
	dir := c.at(weeks).prepared
	if _, err := data.ReadManifest(dir); err == nil {
		return loadData(dir)
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return nil, "", err
	}
	src := data.Source{Format: "jsonl", Events: dir + ".jsonl", Items: dir + ".items.jsonl"}
	_, err := data.WriteEvents(src.Events, slices.Values(c.between(0, weeks)))
	if err == nil {
		_, err = data.WriteItems(src.Items, c.items)
	}
	if err == nil {
		_, err = data.Prepare(ctx, src, c.prepare, dir, c.p.stage)
	}
	if err = errors.Join(err, os.Remove(src.Events), os.Remove(src.Items)); err != nil {
		return nil, "", err
	}
	return loadData(dir)
}

// at says where what is made on so many weeks is kept.
func (c *calendar) at(weeks int) begunWith {
	dir := filepath.Join(c.dir, fmt.Sprintf("scratch-%02d", weeks))
	return begunWith{filepath.Join(dir, "prepared"), filepath.Join(dir, "model"), filepath.Join(dir, "serving.wisp")}
}

// scratch trains a model from chance on so many weeks and compresses it.
func (c *calendar) scratch(ctx context.Context, weeks int) (begunWith, error) {
	b := c.at(weeks)
	ds, fingerprint, err := c.prepared(ctx, weeks)
	if err != nil {
		return b, err
	}
	s := data.LeaveOneOut(ds, minEvents)
	s.Valid = s.Test // nothing else is asked of it
	for _, v := range s.Valid {
		s.Train[v.User] = v.History
	}
	r := trainRun{out: b.model, vectors: c.vectors, options: c.train, resume: exists(filepath.Join(b.model, checkpointFile))}
	if _, err := r.runOn(ctx, ds, fingerprint, s, c.p); err != nil {
		return b, err
	}
	m, t, err := loadModel(b.model)
	if err != nil {
		return b, err
	}
	a, _, err := compress(ctx, m, t, ds, s, quantize.BuildOptions{})
	if err != nil {
		return b, err
	}
	return b, artifact.WriteFile(b.artefact, a, artifact.WriteOptions{})
}

// newJob returns the job of a policy that retrains from a beginning, adapters where the
// rank is not 0. Its folder is that of its options: another job begins anew.
func (c *calendar) newJob(begin begunWith, policy string, rank int) (*retrainJob, error) {
	options := c.options
	options.AdapterRank = rank
	options = options.WithDefaults()
	dir := fmt.Sprintf("%s-%x", policy, sha256.Sum256(fmt.Append(nil, options)))[:len(policy)+9]
	at := func(name string) string { return filepath.Join(c.dir, dir, name) }
	if err := os.MkdirAll(at("feed"), 0o755); err != nil {
		return nil, err
	}
	if !exists(at("key")) {
		if _, err := artifact.CreateKey(at("key")); err != nil {
			return nil, err
		}
	}
	if _, err := data.WriteItems(at("items.jsonl"), c.items); err != nil {
		return nil, err
	}
	if _, err := data.WriteEvents(at("known.jsonl"), slices.Values(c.between(0, c.first))); err != nil {
		return nil, err
	}
	j := &retrainJob{
		dir: retrain.Folder(at("state")), source: data.Source{Format: "jsonl", Events: at("feed"), Items: at("items.jsonl")},
		model: begin.model, data: begin.prepared, known: at("known.jsonl"), artefact: begin.artefact, key: at("key"), out: at("serving.wisp"), options: options, keep: 1, p: c.p,
	}
	if exists(j.out) {
		return j, nil
	}
	file, err := os.ReadFile(begin.artefact)
	if err != nil {
		return nil, err
	}
	return j, atomicfile.Write(j.out, file) // what serves until the first is published
}

// retrain has the events of the week before come, and says whether the job published.
func (c *calendar) retrain(ctx context.Context, j *retrainJob, week int) (bool, error) {
	path := filepath.Join(j.source.Events, fmt.Sprintf("week-%02d.jsonl", week-1))
	if !exists(path) {
		if _, err := data.WriteEvents(path+".tmp", slices.Values(c.between(week-1, week))); err != nil {
			return false, err
		}
		if err := os.Rename(path+".tmp", path); err != nil {
			return false, err
		}
	}
	j.now = time.Unix(c.events[0].Time+int64(week)*weekSeconds, 0) // that of the data
	said, err := j.run(ctx)
	if errors.Is(err, errRefused) || errors.Is(err, retrain.ErrEvents) {
		c.p.line("%v", err)
		return false, nil
	}
	c.p.line("%s", said)
	return true, err
}

// ask has an artefact rank for each user's first event of a week.
func (c *calendar) ask(ctx context.Context, path string, ds *data.Dataset, week int, s *served) error {
	a, err := artifact.Open(path, artifact.ReadOptions{AllowUnsigned: true})
	if err != nil {
		return err
	}
	scorer, err := newServing(a, ds)
	if err != nil {
		return err
	}
	split := retrain.Split(ds, c.events[0].Time+int64(week)*weekSeconds)
	if len(split.Test) == 0 {
		return nil // nobody came back
	}
	r, err := eval.Run(ctx, scorer, len(ds.Items), split.Test, popularity(split.Train, len(ds.Items)), eval.Options{}, nil)
	if err != nil {
		return err
	}
	s.Users, s.Targets, s.Rank = r.Users, r.Targets, r.Rank
	return nil
}

// report adds the figures of all weeks to t and draws them.
func (c *calendar) report(t *results.Topic, all map[string][]served) error {
	prices, err := report.ReadPrices("prices.yaml", report.DefaultPrices)
	if err != nil {
		return err
	}
	prefix := "quality.retrain." + c.name + "."
	add := func(name string, i eval.Interval, n int, unit, note string) {
		t.Records = append(t.Records, within(results.Record{Name: name, N: n, Unit: unit, Note: note}, i))
	}
	whole, chart := map[string]*eval.Result{}, runlog.Chart{Title: "NDCG@10 by week", Axis: "week"}
	for _, policy := range policies {
		sum := &eval.Result{Scorer: policy, TopK: eval.DefaultTopK}
		curve, seconds, cores, published := runlog.Curve{Name: policy, First: c.first + 1}, 0.0, 0.0, 0
		for i, s := range all[policy] {
			one := &eval.Result{TopK: eval.DefaultTopK, Rank: s.Rank}
			sum.Users, sum.Targets, sum.Rank = append(sum.Users, s.Users...), append(sum.Targets, s.Targets...), append(sum.Rank, s.Rank...)
			if i > 0 { // what all began with is not counted
				seconds, cores = seconds+s.Seconds, cores+s.Cores
				if s.Published {
					published++
				}
			}
			curve.Values = append(curve.Values, eval.Metric(eval.NDCG).Mean(s.Rank, eval.DefaultTopK))
			if len(s.Rank) == 0 {
				continue
			}
			week, err := eval.Bootstrap(one.PerCase(eval.NDCG), eval.BootstrapOptions{})
			if err != nil {
				return err
			}
			add(fmt.Sprintf("%s%s.week-%02d.ndcg10", prefix, policy, c.first+1+i), week, len(s.Rank), "", "")
		}
		mean, err := eval.Bootstrap(sum.PerCase(eval.NDCG), eval.BootstrapOptions{})
		if err != nil {
			return err
		}
		add(prefix+policy+".ndcg10", mean, len(sum.Rank), "", "")
		if policy != policyNever {
			n := len(all[policy]) - 1
			add("speed.retrain."+c.name+"."+policy+".seconds", eval.Interval{Value: seconds, Low: seconds, High: seconds}, n, "s", "")
			joules := cores * prices.Workload.WattsPerCore
			add("energy.retrain."+c.name+"."+policy+".joules", eval.Interval{Value: joules, Low: joules, High: joules}, n, "J",
				fmt.Sprintf("%.0f core-seconds at %g W", cores, prices.Workload.WattsPerCore))
		}
		if policy == policyWeekly || policy == policyAdapters {
			share := float64(published) / float64(max(len(all[policy])-1, 1))
			add(prefix+policy+".published", eval.Interval{Value: share, Low: share, High: share}, len(all[policy])-1, "share", "")
		}
		whole[policy], chart.Curves = sum, append(chart.Curves, curve)
	}
	for _, other := range []string{policyNever, policyAdapters, policyScratch} {
		d, err := eval.PairedBootstrap(whole[policyWeekly], whole[other], eval.NDCG, eval.BootstrapOptions{})
		if err != nil {
			return err
		}
		add(prefix+"difference.weekly-to-"+other+".ndcg10", d.Interval, len(whole[other].Rank), "", fmt.Sprintf("p %.3g", d.P))
	}
	svg, err := runlog.Picture(chart)
	if err != nil {
		return err
	}
	t.Text += "\n![NDCG@10 by week](retrain-" + c.name + ".svg)\n"
	if err := os.MkdirAll(c.docs, 0o755); err != nil {
		return err
	}
	return atomicfile.Write(filepath.Join(c.docs, "retrain-"+c.name+".svg"), svg)
}

// gate breaks the retraining on the last whole week in several ways.
func (c *calendar) gate(ctx context.Context, t *results.Topic, weekly *retrainJob) error {
	last := c.between(c.weeks()-1, c.weeks())
	for _, broken := range []struct {
		name   string
		spoil  spoiler
		change func(j *retrainJob)
		more   []data.Event
	}{
		{"nothing", nil, nil, nil}, // without which the others would say little
		{"shuffled-labels", shuffleLabels, nil, nil},
		{"rate-times-100", nil, func(j *retrainJob) { j.options.LearningRate *= 100 }, nil},
		{"bots", nil, nil, push(last, 1000, 8)},
	} {
		dir := filepath.Join(c.dir, "gate-"+broken.name)
		outcome, err := kept(dir+".json", fmt.Sprint(len(last), weekly.options), func() (string, error) {
			if err := os.RemoveAll(dir); err != nil {
				return "", err
			}
			if err := os.CopyFS(filepath.Join(dir, "state"), os.DirFS(string(weekly.dir))); err != nil {
				return "", err
			}
			j := *weekly
			j.dir, j.source.Events, j.out = retrain.Folder(filepath.Join(dir, "state")), filepath.Join(dir, "feed"), filepath.Join(dir, "out.wisp")
			j.spoil, j.now = broken.spoil, time.Unix(c.events[0].Time+int64(c.weeks())*weekSeconds, 0)
			if broken.change != nil {
				broken.change(&j)
			}
			if err := os.Mkdir(j.source.Events, 0o755); err != nil {
				return "", err
			}
			if _, err := data.WriteEvents(filepath.Join(j.source.Events, "last.jsonl"), slices.Values(append(slices.Clone(last), broken.more...))); err != nil {
				return "", err
			}
			_, err := j.run(ctx)
			if errors.Is(err, errRefused) || errors.Is(err, retrain.ErrEvents) {
				return err.Error(), nil
			}
			return "", err
		})
		if err != nil {
			return err
		}
		published := 0.0
		if outcome == "" {
			published = 1
		}
		t.Records = append(t.Records, results.Record{Name: "quality.retrain." + c.name + ".gate." + broken.name + ".published", Value: published, N: 1, Note: firstSentence(outcome)})
	}
	return nil
}

// push returns events of made accounts in the time of others, on five of their items.
func push(others []data.Event, accounts, each int) []data.Event {
	var events []data.Event
	from, to := others[0].Time, others[len(others)-1].Time
	for a := range accounts {
		at := from + (to-from)*int64(a)/int64(accounts)
		for i := range each {
			e := others[(a+i)%min(5, len(others))]
			e.User, e.Time = fmt.Sprintf("bot-%d", a), min(at+int64(i)*30, to)
			events = append(events, e)
		}
	}
	return events
}

// firstSentence is what a table has room for.
func firstSentence(s string) string {
	for i := range s {
		if s[i] == ';' || s[i] == '(' {
			return s[:i]
		}
	}
	return s
}

// shuffleLabels gives each event the item that came after another one.
func shuffleLabels(lessons []hostgpu.Lesson, _ *hostgpu.TrainOptions) {
	var all []int32
	for _, l := range lessons {
		all = append(all, l.Next...)
	}
	rand.New(rand.NewPCG(9, 9)).Shuffle(len(all), func(i, k int) { all[i], all[k] = all[k], all[i] })
	for i := range lessons {
		n := len(lessons[i].Next)
		lessons[i].Next, all = all[:n:n], all[n:]
	}
}
