package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"

	"github.com/wisp-project/wisp/artifact"
	"github.com/wisp-project/wisp/hostgpu"
	"github.com/wisp-project/wisp/internal/atomicfile"
	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/internal/retrain"
)

// state reads what the job has come to, or begins it.
func (j *retrainJob) state(ctx context.Context) (*retrain.State, error) {
	s, err := j.dir.Load()
	if !errors.Is(err, fs.ErrNotExist) {
		return s, err
	}
	if j.model == "" || j.data == "" || j.artefact == "" {
		return nil, fmt.Errorf("%s holds no state: the first run needs --model, --data and --artefact to begin from", j.dir)
	}
	return j.begin(ctx)
}

// begin copies what the job begins from into its folder, the state last.
func (j *retrainJob) begin(ctx context.Context) (*retrain.State, error) {
	m, t, err := loadModel(j.model)
	if err != nil {
		return nil, err
	}
	ds, fingerprint, err := loadData(j.data)
	if err != nil {
		return nil, err
	}
	if err := t.fits(m, ds, fingerprint); err != nil {
		return nil, err
	}
	if err := mayContinue(t, ds); err != nil {
		return nil, err
	}
	prepared, err := data.ReadManifest(j.data)
	if err != nil {
		return nil, err
	}
	file, err := os.ReadFile(j.artefact)
	if err != nil {
		return nil, fmt.Errorf("%w; name the artefact that serves", err)
	}
	a, err := artifact.Read(bytes.NewReader(file), int64(len(file)), artifact.ReadOptions{AllowUnsigned: true})
	if err != nil {
		return nil, withRemedy(fmt.Errorf("%s: %w", j.artefact, err))
	}
	if _, err := newServing(a, ds); err != nil {
		return nil, fmt.Errorf("%s: %w", j.artefact, err)
	}

	base := j.dir.Path(retrain.BaseDir)
	if err := os.RemoveAll(base); err != nil { // of a beginning that was cut off
		return nil, err
	}
	place := func(name string) string { return filepath.Join(retrain.BaseDir, name) }
	s := &retrain.State{
		Name: ds.Name, Core: prepared.Core, NoCold: prepared.ItemReport != nil && prepared.ItemReport.Count(data.ReasonCold) > 0, RatingLo: prepared.RatingLo, RatingHi: prepared.RatingHi,
		Accepted: retrain.Accepted{
			Prepared: place(retrain.PreparedDir), Model: place(retrain.ModelDir), Artefact: place("serving.wisp"),
			Version: a.Manifest.Version, Digest: fmt.Sprintf("%x", a.Digest), Horizon: learntUntil(t, ds, prepared),
		},
	}
	if err := os.CopyFS(j.dir.Path(s.Accepted.Prepared), os.DirFS(j.data)); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(j.dir.Path(s.Accepted.Model), 0o755); err != nil {
		return nil, err
	}
	if err := saveModel(j.dir.Path(s.Accepted.Model), m, hostgpu.Vectors{Items: t.items, Users: t.users}, t); err != nil {
		return nil, err
	}
	if err := atomicfile.Write(j.dir.Path(s.Accepted.Artefact), file); err != nil {
		return nil, err
	}
	if s.Accepted.ModelSHA256, err = fileDigest(j.dir.Path(s.Accepted.Model, modelFile)); err != nil {
		return nil, err
	}
	events, err := j.ledger(ctx, j.dir.Path(place("events.jsonl")), ds)
	if err != nil {
		return nil, err
	}
	events.Name = place(events.Name)
	s.Ledger = []data.File{events}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return s, j.dir.Save(s)
}

// ledger writes all events that are known in the beginning: those of ds, or where it
// was prepared with less than there was, those that it was prepared from.
func (j *retrainJob) ledger(ctx context.Context, path string, ds *data.Dataset) (data.File, error) {
	if j.known == "" {
		return data.WriteEvents(path, ds.All())
	}
	src := j.source
	src.Events = j.known
	var failed error
	n := 0
	f, err := data.WriteEvents(path, func(yield func(data.Event) bool) {
		full := false
		_, failed = data.ReadEvents(ctx, src, func(e data.Event) string {
			n++
			full = full || !yield(e)
			return ""
		})
	})
	if err = cmp.Or(failed, err); err == nil && n < ds.Events() {
		err = fmt.Errorf("--known %s has %d events and the prepared data %d: give the file that the data was prepared from", j.known, n, ds.Events())
	}
	return f, err
}

// learntUntil is the moment from which on the events of ds are new to a model that was
// trained by t.
func learntUntil(t training, ds *data.Dataset, m *data.Manifest) int64 {
	switch {
	case t.Protocol != byTime:
		return m.To + 1
	case t.Refit:
		return ds.Quantile(0.9)
	}
	return ds.Quantile(0.8)
}

// mayContinue says why a model cannot go on.
func mayContinue(t training, ds *data.Dataset) error {
	switch v := t.Vectors; {
	case v.Descriptions:
		return errors.New("the model reads the users' descriptions, which a retraining does not go on with: train one without --descriptions")
	case v.Tuned:
		return errors.New("the model was trained together with its text encoder, which a retraining does not go on with: train one without --tune-encoder")
	case ds.OrderOnly:
		return fmt.Errorf("%s has the order of events but no times, so that nothing in it is new or old", ds.Name)
	}
	return nil
}

// newManifest describes a run that begins now.
func (j *retrainJob) newManifest(s *retrain.State, last *retrain.Manifest) *retrain.Manifest {
	blas := hostgpu.BLAS()
	m := &retrain.Manifest{
		Run: s.Accepted.Run + 1, Now: j.now.Unix(), Wisp: version(), Go: runtime.Version(), BLAS: cmp.Or(blas.Detail, blas.Name),
		Threads: runtime.GOMAXPROCS(0), Options: j.options, Before: *s, Release: s.Accepted.Version + 1,
	}
	if last != nil {
		m.Run = max(m.Run, last.Run+1)
	}
	return m
}

// take reads the new events and the catalogue into the folder of a new run. Where
// there are none, it says so.
func (j *retrainJob) take(ctx context.Context, m *retrain.Manifest) (news bool, said string, err error) {
	dir := j.dir.Run(m.Run)
	if err := os.MkdirAll(j.dir.Path(dir), 0o755); err != nil {
		return false, "", err
	}
	defer func() {
		if err != nil || !news {
			err = errors.Join(err, j.dir.Remove(m.Run))
		}
	}()
	ds, err := data.Load(j.dir.Path(m.Before.Accepted.Prepared))
	if err != nil {
		return false, "", err
	}
	known, err := j.compared(ctx, m)
	if err != nil {
		return false, "", err
	}
	if err := j.catalogue(ctx, ds, m, known); err != nil {
		return false, "", err
	}
	watch := retrain.NewWatch(*known, m.Options.Limits)
	var got *retrain.News
	var failed error
	batch, err := data.WriteEvents(j.dir.Path(dir, retrain.BatchFile), func(yield func(data.Event) bool) {
		full := false
		got, failed = retrain.Feed{Source: j.source}.Read(ctx, m.Before.Cursor, j.dir.Path(dir, "new.tmp"), func(e data.Event) string {
			reason := watch.See(e)
			full = full || reason == "" && !yield(e)
			return reason
		})
	})
	if err = cmp.Or(failed, err); err != nil {
		return false, "", err
	}
	if err := watch.Judge(&got.Report); err != nil {
		return false, "", err
	}
	m.Inputs, m.Report, m.After = got.Inputs, got.Report, got.After
	m.Batch = batch
	m.Batch.Name = filepath.Join(dir, batch.Name)
	if got.Report.Kept == 0 {
		said, err := j.skip(m, "no new events")
		return false, said, err
	}
	j.p.line("run %d: %s", m.Run, &got.Report)
	return true, "", nil
}

// compared reads what new events are compared with out of the ledger: prepared data have
// no users and items outside the k-core.
func (j *retrainJob) compared(ctx context.Context, m *retrain.Manifest) (*retrain.Known, error) {
	k := retrain.NewKnown(m.Before.RatingLo, m.Before.RatingHi, m.Now)
	for _, f := range m.Before.Ledger {
		_, err := data.ReadEvents(ctx, data.Source{Format: "jsonl", Events: j.dir.Path(f.Name)}, func(e data.Event) string {
			k.Add(e)
			return ""
		})
		if err != nil {
			return nil, err
		}
	}
	return k, nil
}

// catalogue writes the items and users of a run, those of the given files before those
// that are known from ds, and adds the items to what is known.
func (j *retrainJob) catalogue(ctx context.Context, ds *data.Dataset, m *retrain.Manifest, known *retrain.Known) error {
	var items []data.Item
	var users []data.User
	var err error
	if j.source.Items != "" {
		if items, err = data.ReadItems(ctx, j.source); err != nil {
			return err
		}
	}
	if j.source.Users != "" {
		if users, err = data.ReadUsers(ctx, j.source); err != nil {
			return err
		}
	}
	given := map[string]bool{}
	for _, it := range items {
		given[it.ID] = true
	}
	items = append(items, slices.DeleteFunc(slices.Clone(ds.Items), func(it data.Item) bool { return given[it.ID] })...)
	for _, it := range items {
		known.Items[it.ID] = true
	}
	clear(given)
	for _, u := range users {
		given[u.ID] = true
	}
	users = append(users, slices.DeleteFunc(slices.Clone(ds.Users), func(u data.User) bool { return given[u.ID] })...)
	dir := j.dir.Run(m.Run)
	if m.Items, err = data.WriteItems(j.dir.Path(dir, retrain.ItemsFile), items); err != nil {
		return err
	}
	m.Users, err = data.WriteUsers(j.dir.Path(dir, retrain.UsersFile), users)
	m.Items.Name, m.Users.Name = filepath.Join(dir, m.Items.Name), filepath.Join(dir, m.Users.Name)
	return err
}

// skip moves the cursor beyond the events of a run that has nothing to learn from, and
// removes the run.
func (j *retrainJob) skip(m *retrain.Manifest, why string) (string, error) {
	s := m.Before
	s.Cursor = m.After
	if err := j.dir.Save(&s); err != nil {
		return "", err
	}
	return fmt.Sprintf("%s: %s since run %d; nothing was trained", j.dir, why, s.Accepted.Run), j.dir.Remove(m.Run)
}

// discardNews moves the cursor beyond the new events, whatever they are.
func (j *retrainJob) discardNews(ctx context.Context) (string, error) {
	s, err := j.state(ctx)
	if err != nil {
		return "", err
	}
	last, err := j.dir.Latest()
	if err != nil {
		return "", err
	}
	if last != nil && last.Run > s.Accepted.Run && last.Outcome != nil && last.Outcome.Published {
		return "", fmt.Errorf("run %d was cut off while it published: run without --discard first", last.Run)
	}
	if last != nil && last.Outcome == nil { // it has some of these events
		if err := j.dir.Remove(last.Run); err != nil {
			return "", err
		}
	}
	news, err := retrain.Feed{Source: j.source}.Skip(s.Cursor)
	if err != nil {
		return "", err
	}
	s.Cursor = news
	return fmt.Sprintf("%s: the new events were left out for good", j.dir), j.dir.Save(s)
}
