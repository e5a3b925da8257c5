package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wisp-project/wisp/artifact"
	"github.com/wisp-project/wisp/edge"
	"github.com/wisp-project/wisp/hostgpu"
	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/internal/retrain"
	"github.com/wisp-project/wisp/model"
)

// beginning is what retraining begins from: five months of a simulated shop, and the
// weeks that follow.
type beginning struct {
	prepared, model, artefact, items, key string
	weeks                                 [][]data.Event
}

var begun = sync.OnceValues(func() (b beginning, err error) {
	dir := filepath.Join(temporary, "retrain")
	b = beginning{
		prepared: filepath.Join(dir, "prepared"), model: filepath.Join(dir, "model"), artefact: filepath.Join(dir, "shop.wisp"),
		items: filepath.Join(dir, "items.jsonl"), key: filepath.Join(dir, "shop.key"),
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return b, err
	}
	s, err := data.NewSimulator(data.SimulateOptions{Users: 400, Items: 120, Events: 16000, Seed: 3})
	if err != nil {
		return b, err
	}
	const week, first = 7 * 86400, data.SimulateStart + 150*86400
	var old []data.Event
	b.weeks = make([][]data.Event, 4)
	for e := range s.Events() {
		switch n := (e.Time - first) / week; {
		case e.Time < first:
			old = append(old, e)
		case n < int64(len(b.weeks)):
			b.weeks[n] = append(b.weeks[n], e)
		}
	}
	events := filepath.Join(dir, "events.jsonl")
	if _, err := data.WriteEvents(events, slices.Values(old)); err != nil {
		return b, err
	}
	if _, err := data.WriteItems(b.items, s.Items()); err != nil {
		return b, err
	}
	for _, args := range [][]string{
		{"prepare", "--format", "jsonl", "--events", events, "--items", b.items, "--name", "shop", "--out", b.prepared},
		{"train", b.prepared, "--out", b.model, "--epochs", "12", "--dim", "32", "--layers", "1", "--window", "20", "--lr", "0.015", "--features", "16"},
		{"compress", b.model, "--data", b.prepared, "--out", b.artefact, "--created", "2024-05-01T00:00:00Z", "--licence", "data=CC0-1.0"},
		{"keygen", "--out", b.key},
	} {
		if o := wisp(context.Background(), args...); o.code != 0 {
			return b, fmt.Errorf("wisp %s: exit %d: %s", strings.Join(args, " "), o.code, o.stderr)
		}
	}
	return b, nil
})

// job is the folder of one job and what is around it.
type job struct {
	beginning
	t                        *testing.T
	state, feed, served, out string
}

func newJob(t *testing.T) *job {
	t.Helper()
	b, err := begun()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	j := &job{b, t, filepath.Join(dir, "job"), filepath.Join(dir, "feed"), filepath.Join(dir, "served"), filepath.Join(dir, "out.wisp")}
	if err := os.Mkdir(j.feed, 0o755); err != nil {
		t.Fatal(err)
	}
	return j
}

// args is the one command line that a scheduler has. The margin is wide: by how little a
// model of so few events gets worse hangs on the order in which a processor adds.
func (j *job) args(more ...string) []string {
	return append([]string{
		"retrain", "--state", j.state, "--events", j.feed, "--items", j.items, "--model", j.model, "--data", j.prepared, "--artefact", j.artefact,
		"--key", j.key, "--to", j.served, "--out", j.out, "--holdout", "0.5", "--min-cases", "20", "--margin", "0.03", "--save-every", "2", "--lr", "0.001",
	}, more...)
}

// add puts a file of events into the feed.
func (j *job) add(name string, events []data.Event) {
	j.t.Helper()
	if _, err := data.WriteEvents(filepath.Join(j.feed, name), slices.Values(events)); err != nil {
		j.t.Fatal(err)
	}
}

// manifest is that of a run.
func (j *job) manifest(run int) *retrain.Manifest {
	j.t.Helper()
	m, err := retrain.LoadManifest(retrain.Folder(j.state).Manifest(run))
	if err != nil {
		j.t.Fatal(err)
	}
	return m
}

// publishes runs the command, which must publish that version.
func (j *job) publishes(version uint64, more ...string) {
	j.t.Helper()
	out := succeed(j.t, j.args(more...)...)
	if !strings.Contains(out, fmt.Sprintf("version %d published", version)) {
		j.t.Fatalf("it does not publish version %d: %s", version, out)
	}
	a, err := artifact.Open(j.out, artifact.ReadOptions{Keys: []ed25519.PublicKey{j.public()}})
	if err != nil {
		j.t.Fatal(err)
	}
	if a.Manifest.Version != version {
		j.t.Errorf("%s has version %d, want %d", j.out, a.Manifest.Version, version)
	}
}

func (j *job) public() ed25519.PublicKey {
	j.t.Helper()
	key, err := artifact.ReadPublicKey(j.key + ".pub")
	if err != nil {
		j.t.Fatal(err)
	}
	return key
}

// publishesNothing runs the command, which must end with that code and say each of
// words, and changes nothing that is served or that the next run begins with.
func (j *job) publishesNothing(code int, words []string, more ...string) {
	j.t.Helper()
	var o outcome
	j.changesNothing(func() { o = wisp(j.t.Context(), j.args(more...)...) })
	if o.code != code || o.stdout != "" {
		j.t.Fatalf("exit %d, want %d: %s%s", o.code, code, o.stdout, o.stderr)
	}
	lines := strings.Split(strings.TrimSpace(o.stderr), "\n")
	for _, w := range words {
		if last := lines[len(lines)-1]; !strings.Contains(last, w) {
			j.t.Errorf("the error lacks %q: %s", w, last)
		}
	}
}

// changesNothing carries out what must leave what is served, and what the next run
// begins with, as they are.
func (j *job) changesNothing(do func()) {
	j.t.Helper()
	paths := []string{j.served, j.out}
	if state := filepath.Join(j.state, "state.json"); exists(state) { // else it begins
		paths = append(paths, state)
	}
	before := snapshot(j.t, paths...)
	do()
	if snapshot(j.t, paths...) != before {
		j.t.Error("what is served, or what the next run begins with, is not what it was")
	}
}

// TestRetrain has three weeks come, one of them without events: versions rise, a
// gateway follows, and each run can be done again.
func TestRetrain(t *testing.T) {
	j := newJob(t)
	j.add("week-0.jsonl", j.weeks[0])
	j.publishes(2)

	key := j.public()
	h, err := edge.NewHost(edge.HostOptions{Options: edge.Options{State: t.TempDir(), Trust: edge.Trust{Keys: []ed25519.PublicKey{key}}}})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close(t.Context()) //nolint:errcheck // the test has ended
	m, err := h.Open(t.Context(), "shop", filepath.Join(j.served, "shop.head"))
	if err != nil {
		t.Fatal(err)
	}

	// Nothing new, and a file without events: the same command says so, and succeeds.
	for _, name := range []string{"", "week-1.jsonl"} {
		if name != "" {
			j.add(name, nil)
		}
		if out := succeed(t, j.args()...); !strings.Contains(out, "no new events since run 1") {
			t.Errorf("an empty week: %s", out)
		}
	}
	// The same events once more are no news either.
	j.add("week-0-again.jsonl", j.weeks[0])
	if out := succeed(t, j.args()...); !strings.Contains(out, "none was left") || !strings.Contains(out, "exact duplicate") {
		t.Errorf("events that are known: %s", out)
	}
	if runs, err := retrain.Folder(j.state).Runs(); err != nil || len(runs) != 1 {
		t.Errorf("runs %v (%v)", runs, err)
	}

	j.add("week-2.jsonl", append(slices.Clone(j.weeks[1]), j.weeks[2]...))
	j.publishes(3)
	if changed, err := m.Update(t.Context()); err != nil || !changed {
		t.Fatalf("updated %t (%v)", changed, err)
	}
	fresh := j.weeks[2][len(j.weeks[2])-1]
	a, err := m.Recommend(t.Context(), edge.Request{History: []edge.Event{{Item: fresh.Item, Type: "click", Time: fresh.Time}}, K: 3})
	if err != nil || len(a.Items) != 3 {
		t.Errorf("the gateway answers %v (%v)", a, err)
	}

	first, second := j.manifest(1), j.manifest(2)
	if first.Before.Accepted.Version != 1 || second.Before.Accepted != first.Outcome.Next || second.Outcome.Verdict == nil {
		t.Errorf("run 2 did not go on from run 1: %+v and %+v", second.Before.Accepted, first.Outcome.Next)
	}
	if second.Before.Accepted.Horizon >= second.Outcome.Next.Horizon {
		t.Errorf("the horizon goes from %d to %d", second.Before.Accepted.Horizon, second.Outcome.Next.Horizon)
	}
	for run := 1; run <= 2; run++ {
		path := retrain.Folder(j.state).Manifest(run)
		if out := succeed(t, "retrain", "--replay", path, "--key", j.key); !strings.Contains(out, fmt.Sprintf("run %d came to the same bytes", run)) {
			t.Errorf("replay: %s", out)
		}
	}
	// A manifest that says otherwise is found out.
	second.Options.Seed++
	if err := retrain.Folder(j.state).SaveManifest(second); err != nil {
		t.Fatal(err)
	}
	fail(t, []string{"run 2 came to something else", "model", "artefact"}, "retrain", "--replay", retrain.Folder(j.state).Manifest(2))
	// So is an input that is not what it was.
	put(t, filepath.Join(j.state, second.Batch.Name), []byte("{}\n"))
	fail(t, []string{second.Batch.Name, "is not what it was"}, "retrain", "--replay", retrain.Folder(j.state).Manifest(2))
}

// TestRetrainGrowingFile reads one file of lines from a cursor.
func TestRetrainGrowingFile(t *testing.T) {
	j := newJob(t)
	j.feed = filepath.Join(t.TempDir(), "events.jsonl")
	lines := func(events []data.Event) []byte {
		path := filepath.Join(t.TempDir(), "lines")
		if _, err := data.WriteEvents(path, slices.Values(events)); err != nil {
			t.Fatal(err)
		}
		return get(t, path)
	}
	whole := lines(j.weeks[0])
	cut := len(whole) - 20 // within the last line
	put(t, j.feed, whole[:cut])
	j.publishes(2)
	if at := j.manifest(1).After.Offset; at >= int64(cut) || at < int64(cut)-200 {
		t.Errorf("the cursor is at %d of %d", at, cut)
	}
	put(t, j.feed, append(whole, lines(j.weeks[1])...))
	j.publishes(3)
	if m := j.manifest(2); m.Report.Kept != int64(len(j.weeks[1])+1) {
		t.Errorf("%d new events, want %d", m.Report.Kept, len(j.weeks[1])+1)
	}
	put(t, j.feed, whole)
	j.publishesNothing(exitEvents, []string{"it was cut off or begun anew"})
}

// TestRetrainBadEvents has the feed go wrong in the ways that feeds go.
func TestRetrainBadEvents(t *testing.T) {
	j := newJob(t)
	changed := func(change func(i int, e *data.Event)) []data.Event {
		events := slices.Clone(j.weeks[0])
		for i := range events {
			change(i, &events[i])
		}
		return events
	}
	bad := filepath.Join(j.feed, "bad.jsonl")
	for _, test := range []struct {
		name   string
		events []data.Event
		edit   func(b []byte) []byte
		says   []string
	}{
		{"clock going backwards", changed(func(i int, e *data.Event) {
			if i > 300 {
				e.Time -= 400 * 86400
			}
		}), nil, []string{"long before the last event known", "clock"}},
		{"clock ahead", changed(func(i int, e *data.Event) { e.Time += 20 * 365 * 86400 }), nil, []string{"later than the present", "clock"}},
		{"a field of another name", j.weeks[0], func(b []byte) []byte { return bytes.ReplaceAll(b, []byte(`"time"`), []byte(`"at"`)) }, []string{"bad timestamp", "schema changed"}},
		{"a field of another type", j.weeks[0], func(b []byte) []byte {
			return bytes.ReplaceAll(b, []byte(`"time":`), []byte(`"time":"2023-06-01T00:00:00Z","was":`))
		}, []string{"syntax error", "schema changed"}},
		{"a few rows of another kind", j.weeks[0], func(b []byte) []byte { return bytes.Replace(b, []byte(`"click"`), []byte(`"purchase"`), 120) }, []string{"unknown kind of event", "schema changed"}},
		{"other ids", changed(func(_ int, e *data.Event) { e.Item = "shop/" + e.Item }), nil, []string{"items that nobody knows"}},
		{"another scale", changed(func(i int, e *data.Event) {
			if i%3 == 0 {
				e.Kind, e.Value = data.Rating, 10
			}
		}), nil, []string{"outside the scale"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			j := *j
			j.t = t
			j.add("bad.jsonl", test.events)
			if test.edit != nil {
				put(t, bad, test.edit(get(t, bad)))
			}
			j.publishesNothing(exitEvents, append(test.says, "retrain: unusable events"))
			if runs, err := retrain.Folder(j.state).Runs(); err != nil || len(runs) != 0 {
				t.Errorf("runs %v are left (%v)", runs, err)
			}
		})
	}
	// They can be left out for good, and what comes then is learnt from.
	if out := succeed(t, "retrain", "--state", j.state, "--events", j.feed, "--discard"); !strings.Contains(out, "left out for good") {
		t.Error(out)
	}
	j.add("week-0.jsonl", j.weeks[0])
	j.publishes(2)
}

// spoilt carries out the job with something spoilt.
func (j *job) spoilt(spoil spoiler, change func(o *retrain.Options)) error {
	j.t.Helper()
	r := retrainJob{
		dir: retrain.Folder(j.state), source: data.Source{Format: "jsonl", Events: j.feed, Items: j.items},
		model: j.model, data: j.prepared, artefact: j.artefact, key: j.key, to: j.served, out: j.out, keep: 8,
		now: time.Now(), p: &progress{w: j.t.Output()}, spoil: spoil,
		options: retrain.Options{Seed: 1, Holdout: 0.5, Gate: retrain.Gate{MinCases: 20}},
	}
	if change != nil {
		change(&r.options)
	}
	_, err := r.run(j.t.Context())
	return err
}

// TestRetrainGate breaks the retraining on purpose, and nothing is published; the same
// events are published when it is whole, with the same options.
func TestRetrainGate(t *testing.T) {
	j := newJob(t)
	j.add("weeks.jsonl", append(slices.Clone(j.weeks[0]), j.weeks[1]...))
	hard := func(o *retrain.Options) { o.LearningRate, o.Epochs, o.Rehearsal, o.Gate.Margin = 0.001, 12, 12, 0.04 }
	for _, test := range []struct {
		name   string
		spoil  spoiler
		change func(o *retrain.Options)
	}{
		{"shuffled labels", shuffleLabels, hard},
		{"a learning rate 100 times too high", nil, func(o *retrain.Options) { hard(o); o.LearningRate *= 100 }},
		{"one label", func(l []hostgpu.Lesson, _ *hostgpu.TrainOptions) {
			for i := range l {
				for k := range l[i].Next {
					l[i].Next[k] = 7
				}
			}
		}, hard},
	} {
		t.Run(test.name, func(t *testing.T) {
			j := *j
			j.t = t
			var err error
			j.changesNothing(func() { err = j.spoilt(test.spoil, test.change) })
			if !errors.Is(err, errRefused) {
				t.Fatalf("got %v", err)
			}
			t.Log(err)
		})
	}
	runs, err := retrain.Folder(j.state).Runs()
	if err != nil || len(runs) != 3 {
		t.Fatalf("runs %v (%v)", runs, err)
	}
	for _, run := range runs { // each can be asked later why it was not published
		if o := j.manifest(run).Outcome; o == nil || o.Published || o.Reason == "" {
			t.Errorf("run %d: %+v", run, o)
		}
	}
	whole := newJob(t) // another state, as this one would not try the very same again
	whole.feed = j.feed
	if err := whole.spoilt(nil, hard); err != nil {
		t.Errorf("the whole one: %v", err)
	}
}

// TestRetrainRefusedTwice does not train again for what was refused, and has a code of
// its own.
func TestRetrainRefusedTwice(t *testing.T) {
	j := newJob(t)
	j.add("weeks.jsonl", append(slices.Clone(j.weeks[0]), j.weeks[1]...))
	hard := []string{"--lr", "0.1", "--epochs", "8"}
	j.publishesNothing(exitRefused, []string{"nothing was published", "worse than what serves", "manifest.json"}, hard...)
	j.publishesNothing(exitRefused, []string{"run 1 had the very same events"}, hard...)
	if runs, err := retrain.Folder(j.state).Runs(); err != nil || !slices.Equal(runs, []int{1}) {
		t.Errorf("runs %v (%v)", runs, err)
	}
	if out := succeed(t, "retrain", "--replay", retrain.Folder(j.state).Manifest(1), "--key", j.key); !strings.Contains(out, "the same bytes") {
		t.Error(out)
	}
}

// robots are events of made accounts that push a few items, some quarters of a second
// apart.
func robots(j *job, accounts, each int, quarters int64) []data.Event {
	rng := rand.New(rand.NewPCG(4, 4))
	events := slices.Clone(j.weeks[0])
	from, to := events[0].Time, events[0].Time
	for _, e := range events {
		from, to = min(from, e.Time), max(to, e.Time)
	}
	for a := range accounts {
		at := from + rng.Int64N(to-from)
		for i := range each {
			events = append(events, data.Event{User: fmt.Sprintf("robot%d", a), Item: events[rng.IntN(5)].Item, Kind: data.Click, Time: at + int64(i)*quarters/4})
		}
	}
	return events
}

// TestRetrainBots has a week of bots of several kinds come.
func TestRetrainBots(t *testing.T) {
	j := newJob(t)
	known := func() []data.Event { // accounts of people, taken over
		events, at := slices.Clone(j.weeks[0]), j.weeks[0][0].Time
		for i := range 3000 {
			events = append(events, data.Event{User: events[i%700].User, Item: events[i%5].Item, Kind: data.Click, Time: at + int64(i)*20})
		}
		return events
	}
	for _, test := range []struct {
		name   string
		events []data.Event
		says   []string
	}{
		{"faster than people", robots(j, 4, 150, 1), []string{"users faster than a person", "--discard"}},
		{"many accounts", robots(j, 300, 8, 120), []string{"users who had none before", "--discard"}},
		{"accounts of people", known(), []string{"busiest", "--discard"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			j := *j
			j.t = t
			j.add("week.jsonl", test.events)
			j.publishesNothing(exitEvents, test.says)
			if runs, err := retrain.Folder(j.state).Runs(); err != nil || len(runs) != 0 {
				t.Errorf("runs %v are left (%v)", runs, err)
			}
		})
	}
}

// TestRetrainLocked runs the command while another one has the state.
func TestRetrainLocked(t *testing.T) {
	j := newJob(t)
	unlock, err := retrain.Folder(j.state).Lock(t.Context(), "process 7 since noon")
	if err != nil {
		t.Fatal(err)
	}
	j.publishesNothing(exitLocked, []string{"another job is running", j.state, "process 7 since noon"})
	unlock()
	succeed(t, j.args()...)
}

// TestRetrainRefuses has the command meet what it cannot begin or go on with.
func TestRetrainRefuses(t *testing.T) {
	j := newJob(t)
	c := madeChain(t)
	for name, test := range map[string]struct{ args, says []string }{
		"no state":        {[]string{"retrain", "--events", j.feed}, []string{"--state"}},
		"no key":          {[]string{"retrain", "--state", j.state, "--events", j.feed}, []string{"--key", "keygen"}},
		"no place":        {[]string{"retrain", "--state", j.state, "--events", j.feed, "--key", j.key}, []string{"--to", "--out"}},
		"no beginning":    {[]string{"retrain", "--state", filepath.Join(t.TempDir(), "job"), "--events", j.feed, "--key", j.key, "--to", j.served}, []string{"--model, --data and --artefact"}},
		"no feed":         {j.args("--state", filepath.Join(t.TempDir(), "job"), "--events", filepath.Join(j.feed, "absent")), []string{"absent"}},
		"a wrong option":  {j.args("--margin", "-1"), []string{"margin"}},
		"wrong bits":      {j.args("--item-bits", "2"), []string{"3 to 8"}},
		"a wrong rank":    {j.args("--adapter-rank", "-1"), []string{"adapter rank is -1", "between 0 and 4096"}},
		"a wrong size":    {j.args("--distil", "huge"), []string{"nano, micro or small"}},
		"other data":      {j.args("--state", filepath.Join(t.TempDir(), "job"), "--data", c.prepared), []string{"was trained on"}},
		"other artefact":  {j.args("--state", filepath.Join(t.TempDir(), "job"), "--artefact", j.items), []string{j.items}},
		"no manifest":     {[]string{"retrain", "--replay", j.items}, []string{j.items}},
		"a missing key":   {j.args("--key", filepath.Join(t.TempDir(), "absent")), []string{"keygen"}},
		"times of orders": {j.args("--format", "sequences"), []string{"no times"}},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "a missing key" {
				j.add("week-0.jsonl", j.weeks[0])
			}
			fail(t, test.says, test.args...)
		})
	}
	if exists(j.served) || exists(j.out) {
		t.Error("something was published")
	}

	described := filepath.Join(t.TempDir(), "model")
	succeed(t, quickTrain(c.prepared, described, "--descriptions")...)
	fail(t, []string{"descriptions", "does not go on"}, j.args("--state", filepath.Join(t.TempDir(), "job"), "--model", described, "--data", c.prepared, "--artefact", c.artefact)...)
}

// TestRetrainElsewhere refuses to replace what somebody else has published.
func TestRetrainElsewhere(t *testing.T) {
	j := newJob(t)
	other := filepath.Join(t.TempDir(), "shop.wisp")
	succeed(t, "compress", j.model, "--data", j.prepared, "--out", other, "--model-version", "40")
	succeed(t, "publish", other, "--to", j.served)
	j.add("week-0.jsonl", j.weeks[0])
	head := get(t, filepath.Join(j.served, "shop.head"))
	fail(t, []string{"shop.head is version 40", "did not publish"}, j.args()...)
	if !bytes.Equal(get(t, filepath.Join(j.served, "shop.head")), head) {
		t.Error("it was replaced")
	}
	// Under another name it goes on from where it was.
	j.publishes(2, "--as", "films")
}

// TestRetrainStudent publishes a student, which goes on too.
func TestRetrainStudent(t *testing.T) {
	if testing.Short() {
		t.Skip("trains six models")
	}
	j := newJob(t)
	loose := []string{"--distil", "nano", "--margin", "0.5", "--item-bits", "6"}
	j.add("week-0.jsonl", j.weeks[0])
	j.publishes(2, loose...)
	j.add("week-1.jsonl", j.weeks[1])
	j.publishes(3, loose...)
	a, err := artifact.Open(j.out, artifact.ReadOptions{AllowUnsigned: true})
	if err != nil {
		t.Fatal(err)
	}
	if m := a.Manifest.Model; m.Dim != 32 || m.Layers != 1 || m.FFN != 32 || m.Window != defaultWindow {
		t.Errorf("the student has %+v", m)
	}
	v := j.manifest(2).Outcome.Verdict
	t.Logf("%+v", v.All)
	if v.All.Candidate < v.All.Serving-0.05 {
		t.Errorf("the student forgot: %v after %v", v.All.Candidate, v.All.Serving)
	}
	// Adapters are the student's, too, once it goes on.
	j.add("week-2.jsonl", j.weeks[2])
	j.publishes(4, append(loose, "--adapter-rank", "4")...)
	for _, place := range []string{j.manifest(3).Outcome.Next.Model, j.manifest(3).Outcome.Next.Student} {
		if _, made, err := loadModel(filepath.Join(j.state, place)); err != nil || made.Options.AdapterRank != 4 {
			t.Errorf("%s was trained by adapters of rank %d, want 4 (%v)", place, made.Options.AdapterRank, err)
		}
	}
	if out := succeed(t, "retrain", "--replay", retrain.Folder(j.state).Manifest(2), "--key", j.key); !strings.Contains(out, "the same bytes") {
		t.Error(out)
	}
}

// TestRetrainEncoder goes on with a model that knows texts by an encoder, which goes
// along into the artefact.
func TestRetrainEncoder(t *testing.T) {
	j := newJob(t)
	encoder := tinyEncoder(t, j.prepared)
	dir := t.TempDir()
	j.model, j.artefact = filepath.Join(dir, "model"), filepath.Join(dir, "shop.wisp")
	succeed(t, "train", j.prepared, "--out", j.model, "--epochs", "6", "--dim", "16", "--layers", "1", "--window", "20", "--lr", "0.01", "--features", "0", "--encoder", encoder)
	classes := filepath.Join(t.TempDir(), "classes.safetensors")
	words := func(name, text string) string {
		return name + "=" + put(t, filepath.Join(t.TempDir(), name), []byte(strings.Repeat(text+"\n", 10)))
	}
	succeed(t, "fit-classes", words("bad", "the of"), words("good", "wood light"), "--encoder", encoder, "--out", classes)
	succeed(t, "fit-ratings", j.model, "--data", j.prepared)
	succeed(t, "compress", j.model, "--data", j.prepared, "--encoder", encoder, "--classes", classes, "--out", j.artefact)
	j.add("week-0.jsonl", j.weeks[0])
	j.publishes(2, "--margin", "0.5")
	a, err := artifact.Open(j.out, artifact.ReadOptions{AllowUnsigned: true})
	if err != nil {
		t.Fatal(err)
	}
	if !a.Manifest.Model.Text.ItemMap {
		t.Errorf("the artefact does not read texts: %+v", a.Manifest.Model.Text)
	}
	if !a.Manifest.Model.Ratings || !slices.Equal(a.Manifest.Classes, []string{"bad", "good"}) {
		t.Errorf("the heads of the artefact before are gone: %+v", a.Manifest)
	}
	j.add("week-1.jsonl", j.weeks[1])
	fail(t, []string{"is not the text encoder"}, j.args("--encoder", tinyEncoder(t, madeChain(t).prepared))...)
}

// TestRetrainExitCodes are what schedulers are told of.
func TestRetrainExitCodes(t *testing.T) {
	codes := []int{0, exitError, exitUnavailable, exitRefused, exitEvents, exitLocked, exitInterrupted}
	slices.Sort(codes)
	if len(slices.Compact(codes)) != 7 {
		t.Errorf("codes %v", codes)
	}
	help := newRetrain().Long
	for _, code := range []int{exitRefused, exitEvents, exitLocked, exitInterrupted} {
		if !strings.Contains(help, fmt.Sprintf("%d ", code)) {
			t.Errorf("the help does not say what %d is", code)
		}
	}
}

// TestRetrainKnown begins from data that were prepared with less than there was: users
// and items that were left out come back when they have done enough.
func TestRetrainKnown(t *testing.T) {
	j := newJob(t)
	dir := t.TempDir()
	all := filepath.Join(filepath.Dir(j.items), "events.jsonl")
	j.prepared, j.model, j.artefact = filepath.Join(dir, "prepared"), filepath.Join(dir, "model"), filepath.Join(dir, "shop.wisp")
	succeed(t, "prepare", "--format", "jsonl", "--events", all, "--items", j.items, "--core", "30", "--no-cold-items", "--name", "shop", "--out", j.prepared)
	succeed(t, quickTrain(j.prepared, j.model)...)
	succeed(t, "compress", j.model, "--data", j.prepared, "--out", j.artefact)
	j.add("week-0.jsonl", j.weeks[0])
	fail(t, []string{"--known", "the file that the data was prepared from"}, j.args("--known", filepath.Join(j.feed, "week-0.jsonl"))...)
	j.publishes(2, "--known", all, "--margin", "0.5", "--min-cases", "5")
	m := j.manifest(1)
	if lines := bytes.Count(get(t, all), []byte("\n")); bytes.Count(get(t, filepath.Join(j.state, m.Before.Ledger[0].Name)), []byte("\n")) != lines {
		t.Errorf("the ledger does not have all %d events", lines)
	}
	was, err := data.ReadManifest(j.prepared)
	if err != nil {
		t.Fatal(err)
	}
	is, err := data.ReadManifest(filepath.Join(j.state, m.Outcome.Next.Prepared))
	if err != nil {
		t.Fatal(err)
	}
	if is.Core != 30 || is.ColdItems != 0 || is.Events <= was.Events+int64(len(j.weeks[0])) {
		t.Errorf("core %d, %d cold items, %d events after %d", is.Core, is.ColdItems, is.Events, was.Events)
	}
}

// TestRetrainInterrupted stops a run as a scheduler does that wants its machine back.
func TestRetrainInterrupted(t *testing.T) {
	j := newJob(t)
	j.add("week-0.jsonl", j.weeks[0])
	for _, stage := range []string{"clean", "epoch   1", "comparing"} {
		ctx, cancel := context.WithCancel(t.Context())
		var stderr bytes.Buffer
		code := run(ctx, j.args(), &stderr, writerFunc(func(b []byte) {
			stderr.Write(b)
			if bytes.HasPrefix(b, []byte(stage)) {
				cancel()
			}
		}))
		cancel()
		wantInterrupted(t, outcome{code: code, stderr: stderr.String()}, "run the same command again to go on")
		if exists(j.out) || exists(j.served) {
			t.Fatalf("interrupted at %q, and something was published", stage)
		}
	}
	j.publishes(2)
	if out := succeed(t, "retrain", "--replay", retrain.Folder(j.state).Manifest(1), "--key", j.key); !strings.Contains(out, "the same bytes") {
		t.Error(out)
	}
}

// TestRetrainAdapters goes on by adapters alone, also after an interruption, and then
// whole again. What adapters leave as it is stays so to the bit.
func TestRetrainAdapters(t *testing.T) {
	j := newJob(t)
	adapters := []string{"--adapter-rank", "4", "--lr", "0.003", "--margin", "0.05"}
	j.add("week-0.jsonl", j.weeks[0])
	ctx, cancel := context.WithCancel(t.Context())
	var stderr bytes.Buffer
	code := run(ctx, j.args(adapters...), &stderr, writerFunc(func(b []byte) {
		stderr.Write(b)
		if bytes.HasPrefix(b, []byte("epoch   1")) {
			cancel()
		}
	}))
	cancel()
	wantInterrupted(t, outcome{code: code, stderr: stderr.String()}, "run the same command again to go on")
	j.publishes(2, adapters...)
	if rank := j.manifest(1).Options.AdapterRank; rank != 4 {
		t.Errorf("the manifest says adapters of rank %d", rank)
	}
	if out := succeed(t, "retrain", "--replay", retrain.Folder(j.state).Manifest(1), "--key", j.key); !strings.Contains(out, "the same bytes") {
		t.Error(out)
	}
	j.add("week-1.jsonl", j.weeks[1])
	j.publishes(3, "--margin", "0.05")

	models := []*model.Model{}
	for run, want := range []int{0, 4, 0} {
		dir := j.model
		if run > 0 {
			dir = filepath.Join(j.state, j.manifest(run).Outcome.Next.Model)
		}
		m, made, err := loadModel(dir)
		if err != nil {
			t.Fatal(err)
		}
		if made.Options.AdapterRank != want {
			t.Errorf("run %d was trained by adapters of rank %d, want %d", run, made.Options.AdapterRank, want)
		}
		models = append(models, m)
	}
	for _, name := range []string{model.UserType, model.UserGap, model.UserNormGain, model.LayerName(0, "attn.q.bias"), model.LayerName(0, "attn.distance.bias"), model.LayerName(0, "ffn.norm.weight")} {
		if !slices.Equal(models[0].Weights[name].Data, models[1].Weights[name].Data) {
			t.Errorf("%s has moved with adapters", name)
		}
		if slices.Equal(models[1].Weights[name].Data, models[2].Weights[name].Data) {
			t.Errorf("%s has not moved without", name)
		}
	}
	for _, name := range []string{model.ItemFeatures, model.LayerName(0, "attn.q.weight"), model.LayerName(0, "ffn.down.weight")} {
		if slices.Equal(models[0].Weights[name].Data, models[1].Weights[name].Data) {
			t.Errorf("%s has not moved", name)
		}
	}
	// A manifest that says another rank is found out.
	m := j.manifest(1)
	m.Options.AdapterRank = 5
	if err := retrain.Folder(j.state).SaveManifest(m); err != nil {
		t.Fatal(err)
	}
	fail(t, []string{"run 1 came to something else", "model"}, "retrain", "--replay", retrain.Folder(j.state).Manifest(1))
}
