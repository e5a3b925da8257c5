package main

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/wisp-project/wisp/artifact"
	"github.com/wisp-project/wisp/hostgpu"
	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/internal/eval"
	"github.com/wisp-project/wisp/internal/retrain"
	"github.com/wisp-project/wisp/model"
	"github.com/wisp-project/wisp/quantize"
)

// execution makes of a manifest what came of its run. It depends on nothing but the
// manifest and the files that it names, and goes on with what lies in work.
type execution struct {
	dir   retrain.Folder
	work  string // folder of what is made
	m     *retrain.Manifest
	key   ed25519.PrivateKey // nil leaves the artefact unsigned
	p     *progress
	spoil spoiler
}

// spoiler spoils what a candidate learns from, and how.
type spoiler func(lessons []hostgpu.Lesson, o *hostgpu.TrainOptions)

// noNewsError is the end of a run whose events came to nothing.
type noNewsError struct{ why string }

func (n *noNewsError) Error() string { return n.why }

// evaluated is the largest number of cases that a candidate is compared on.
const evaluated = 5000

// path is that of something that is made.
func (e *execution) path(name string) string { return filepath.Join(e.work, name) }

func (e *execution) run(ctx context.Context) (*retrain.Outcome, error) {
	if err := e.check(); err != nil {
		return nil, err
	}
	before := e.m.Before.Accepted
	prepared, err := e.prepare(ctx)
	if err != nil {
		return nil, err
	}
	ds, fingerprint, err := loadData(e.path(retrain.PreparedDir))
	if err != nil {
		return nil, err
	}
	cut := retrain.Cut(ds, before.Horizon, e.m.Options.Holdout)
	s := retrain.Split(ds, cut)
	place := func(name string) string { return filepath.Join(e.dir.Run(e.m.Run), name) }
	o := &retrain.Outcome{
		Prepared: map[string]string{},
		Next: retrain.Accepted{
			Run: e.m.Run, Prepared: place(retrain.PreparedDir), Model: place(retrain.ModelDir), Artefact: place(retrain.ArtefactFile),
			Version: e.m.Release, Horizon: cut, Bots: prepared.EventReport.Count(data.ReasonBot),
		},
	}
	for _, f := range prepared.Files {
		o.Prepared[f.Name] = f.SHA256
	}
	err = e.train(ctx, ds, fingerprint, s)
	if errors.Is(err, hostgpu.ErrDiverged) {
		o.Reason = err.Error()
		return o, nil
	}
	if err != nil {
		return nil, err
	}
	from := e.path(retrain.ModelDir)
	if o.Next.ModelSHA256, err = fileDigest(filepath.Join(from, modelFile)); err != nil {
		return nil, err
	}
	if e.m.Options.Student != "" {
		if err := e.distil(ctx, ds, fingerprint, s); err != nil {
			return nil, err
		}
		from, o.Next.Student = e.path(retrain.StudentDir), place(retrain.StudentDir)
		if o.Student, err = fileDigest(filepath.Join(from, modelFile)); err != nil {
			return nil, err
		}
	}
	serving, err := e.serving()
	if err != nil {
		return nil, err
	}
	a, err := e.compress(ctx, from, ds, s, serving)
	if errors.Is(err, quantize.ErrModel) || errors.Is(err, quantize.ErrCalibration) {
		o.Reason = err.Error() // weights that eight bits cannot hold
		return o, nil
	}
	if err != nil {
		return nil, err
	}
	o.Next.Digest = fmt.Sprintf("%x", a.Digest)
	if e.key != nil {
		if o.Signed, err = fileDigest(e.path(retrain.ArtefactFile)); err != nil {
			return nil, err
		}
	}
	v, err := e.judge(ctx, a, serving, ds, s)
	if err != nil {
		return nil, err
	}
	o.Published, o.Reason, o.Verdict, o.Next.NDCG = v.Publish, v.Reason, &v, v.All.Candidate
	return o, nil
}

// check compares what the run was given with what lies there, and removes what a kill
// has left half written.
func (e *execution) check() error {
	m := e.m
	for _, f := range append([]data.File{m.Batch, m.Items, m.Users}, m.Before.Ledger...) {
		if err := e.dir.Check(f); err != nil {
			return err
		}
	}
	digest, err := fileDigest(e.dir.Path(m.Before.Accepted.Model, modelFile))
	if err != nil {
		return fmt.Errorf("%w: the model that goes on: %w", retrain.ErrState, err)
	}
	if digest != m.Before.Accepted.ModelSHA256 {
		return fmt.Errorf("%w: %s is not the model that goes on", retrain.ErrState, e.dir.Path(m.Before.Accepted.Model))
	}
	return sweep(e.work)
}

// sweep removes the temporary files and folders that a kill has left in dir.
func sweep(dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasPrefix(d.Name(), ".") || !strings.HasSuffix(d.Name(), ".tmp") {
			return err
		}
		if err := os.RemoveAll(path); err != nil || !d.IsDir() {
			return err
		}
		return filepath.SkipDir
	})
}

// prepare cleans and indexes all events, old and new.
func (e *execution) prepare(ctx context.Context) (*data.Manifest, error) {
	before, err := data.ReadManifest(e.dir.Path(e.m.Before.Accepted.Prepared))
	if err != nil {
		return nil, err
	}
	out := e.path(retrain.PreparedDir)
	m, err := data.ReadManifest(out)
	if err != nil {
		all := e.path("events.jsonl")
		if err := e.concatenate(all); err != nil {
			return nil, err
		}
		src := data.Source{Format: "jsonl", Events: all, Items: e.dir.Path(e.m.Items.Name), Users: e.dir.Path(e.m.Users.Name)}
		// No item or user at all is no file at all.
		if e.m.Items.Bytes == 0 {
			src.Items = ""
		}
		if e.m.Users.Bytes == 0 {
			src.Users = ""
		}
		m, err = data.Prepare(ctx, src, data.PrepareOptions{
			Name: e.m.Before.Name, Core: e.m.Before.Core, RatingLo: e.m.Before.RatingLo, RatingHi: e.m.Before.RatingHi,
			NoColdItems: e.m.Before.NoCold, BotPerMinute: e.m.Options.BotPerMinute,
		}, out, e.p.stage)
		e.p.done()
		if err = errors.Join(err, os.Remove(all)); err != nil {
			return nil, err
		}
	}
	bots := m.EventReport.Count(data.ReasonBot) - e.m.Before.Accepted.Bots
	if err := e.m.Options.Limits.JudgeBots(bots, e.m.Report.Kept); err != nil {
		return nil, err
	}
	if m.Events <= before.Events {
		return nil, &noNewsError{fmt.Sprintf("of %d new events none was left (%s)", e.m.Report.Kept, &m.EventReport)}
	}
	return m, nil
}

// concatenate writes the ledger and the new events into one file.
func (e *execution) concatenate(path string) (err error) {
	out, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	for _, f := range append(e.m.Before.Ledger[:len(e.m.Before.Ledger):len(e.m.Before.Ledger)], e.m.Batch) {
		in, err := os.Open(e.dir.Path(f.Name))
		if err != nil {
			return err
		}
		_, err = io.Copy(out, in)
		if err = errors.Join(err, in.Close()); err != nil {
			return err
		}
	}
	return nil
}

// ancestor loads a model of an earlier run and finds the items of ds in it.
func (e *execution) ancestor(place string, ds *data.Dataset) (*hostgpu.Ancestor, training, *data.Dataset, error) {
	m, t, err := loadModel(e.dir.Path(place))
	if err != nil {
		return nil, t, nil, err
	}
	old, fingerprint, err := loadData(e.dir.Path(e.m.Before.Accepted.Prepared))
	if err != nil {
		return nil, t, nil, err
	}
	if err := t.fits(m, old, fingerprint); err != nil {
		return nil, t, nil, err
	}
	ids := make([]string, len(old.Items))
	for i := range ids {
		ids[i] = old.Items[i].ID
	}
	return &hostgpu.Ancestor{Model: m, Items: retrain.Places(ds, ids)}, t, old, nil
}

// train goes on with the model that was accepted last.
func (e *execution) train(ctx context.Context, ds *data.Dataset, fingerprint string, s *data.Split) error {
	from, t, old, err := e.ancestor(e.m.Before.Accepted.Model, ds)
	if err != nil {
		return err
	}
	vectors, err := e.vectors(t, old)
	if err != nil {
		return err
	}
	opts := e.m.Options
	o := again(t.Options, from.Model.Config)
	o.Seed, o.Epochs, o.LearningRate = opts.Seed+uint64(e.m.Run), opts.Epochs, opts.LearningRate
	o.AdapterRank = opts.AdapterRank
	lessons := retrain.Histories(s.Train, e.m.Before.Accepted.Horizon, o.Window, opts.Rehearsal, rand.New(rand.NewPCG(o.Seed, 0x4e)))
	if e.spoil != nil {
		e.spoil(lessons, &o)
	}
	r := trainRun{out: e.path(retrain.ModelDir), vectors: vectors, options: o, saveEvery: opts.SaveEvery}
	r.teach = func(context.Context, *model.Model) (hostgpu.Lessons, error) {
		return hostgpu.Lessons{Lessons: lessons, From: from}, nil
	}
	r.resume = exists(filepath.Join(r.out, checkpointFile))
	_, err = r.runOn(ctx, ds, fingerprint, s, e.p)
	return err
}

// again returns the options with which a model of shapes c, trained with o, is trained
// on. Options that were written down with their defaults filled in say 0 for none.
func again(o hostgpu.TrainOptions, c model.Config) hostgpu.TrainOptions {
	none := func(v *float64) {
		if *v == 0 {
			*v = -1
		}
	}
	for _, v := range []*float64{&o.WeightDecay, &o.ClipNorm, &o.Dropout, &o.Smoothing, &o.Average} {
		none(v)
	}
	o.Dim, o.Layers, o.Heads, o.FFN, o.Window, o.GapBuckets = c.Dim, c.Layers, c.Heads, c.FFN, c.Window, c.GapBuckets
	o.Warmup = 20 // the moments are new, the weights are not
	o.Soft = hostgpu.SoftTerm{}
	o.Encoder, o.EncoderEvery = hostgpu.TextTrainOptions{}, 0
	o.AdapterRank, o.AdapterScale = 0, 0 // whoever trains on says so anew
	return o
}

// vectors says which vectors the model is given: those of before, by the same text
// encoder, wherever it lies now.
func (e *execution) vectors(t training, old *data.Dataset) (givenVectors, error) {
	v := t.Vectors
	if v.Encoder == "" {
		return v, nil
	}
	if e.m.Options.Encoder != "" {
		v.Encoder = e.m.Options.Encoder
	}
	tok, encoder, err := loadEncoder(v.Encoder)
	if err != nil {
		return v, fmt.Errorf("%w; say with --encoder where the model's text encoder is", err)
	}
	if encoderDigest(tok, encoder, old) != t.EncoderDigest {
		return v, fmt.Errorf("%s is not the text encoder that made the model's vectors; give that one with --encoder", v.Encoder)
	}
	return v, nil
}

// distil trains the student of the model that was just trained, on from the one before
// where there is one.
func (e *execution) distil(ctx context.Context, ds *data.Dataset, fingerprint string, s *data.Split) error {
	m, t, err := loadModel(e.path(retrain.ModelDir))
	if err != nil {
		return err
	}
	folder := fmt.Sprintf(ensembleMember, 1)
	voices := &ensemble{
		Data: ds.Name, Manifest: fingerprint, Protocol: s.Protocol, networks: []voter{{m, t}},
		Members: []member{{Name: retrain.ModelDir, Weight: 1, Folder: folder}},
	}
	fitted, _, err := voices.fit(s.Train, len(ds.Items))
	if err != nil {
		return err
	}
	var cases []data.Case
	for u, h := range s.Train {
		if n := len(h) - 1; n > 0 {
			cases = append(cases, data.Case{User: int32(u), History: h[:n], Target: h[n]})
		}
	}
	if voices.Temperature, err = eval.FitTemperature(ctx, fitted, len(ds.Items), spread(cases, evaluated/10)); err != nil {
		return err
	}
	opts := e.m.Options
	r := studentRun{size: opts.Student, trainRun: trainRun{out: e.path(retrain.StudentDir), vectors: t.Vectors, saveEvery: opts.SaveEvery}}
	r.options = hostgpu.TrainOptions{Seed: opts.Seed + uint64(e.m.Run), Epochs: studentEpochs}
	if was := e.m.Before.Accepted.Student; was != "" {
		if r.ancestor, _, _, err = e.ancestor(was, ds); err != nil {
			return err
		}
		c := r.ancestor.Model.Config
		r.options.Dim, r.options.Layers, r.options.Heads, r.options.FFN, r.options.Window = c.Dim, c.Layers, c.Heads, c.FFN, c.Window
		r.options.Epochs, r.options.LearningRate, r.options.AdapterRank = opts.Epochs, opts.LearningRate, opts.AdapterRank
	}
	r.resume = exists(filepath.Join(r.out, checkpointFile))
	_, err = r.learn(ctx, ds, fingerprint, s, voices, nil, e.p)
	return err
}

// studentEpochs is how long a student learns that has no predecessor.
const studentEpochs = 20

// serving opens the artefact that serves.
func (e *execution) serving() (*artifact.Artifact, error) {
	before := e.m.Before.Accepted
	a, err := artifact.Open(e.dir.Path(before.Artefact), artifact.ReadOptions{AllowUnsigned: true})
	if err != nil {
		return nil, fmt.Errorf("%w: the artefact that serves: %w", retrain.ErrState, err)
	}
	if fmt.Sprintf("%x", a.Digest) != before.Digest {
		return nil, fmt.Errorf("%w: %s is not the artefact that serves", retrain.ErrState, e.dir.Path(before.Artefact))
	}
	return a, nil
}

// compress makes the artefact of a model, with the name, tenant and abilities of the
// one before, and returns it as it was read back.
func (e *execution) compress(ctx context.Context, from string, ds *data.Dataset, s *data.Split, serving *artifact.Artifact) (*artifact.Artifact, error) {
	m, t, err := loadModel(from)
	if err != nil {
		return nil, err
	}
	was := serving.Manifest
	o := quantize.BuildOptions{
		Name: was.Name, Version: e.m.Release, Tenant: was.Tenant, Licences: was.Licences, ItemBits: e.m.Options.ItemBits,
		Created: time.Unix(e.m.Now, 0).UTC().Format(time.RFC3339),
	}
	if was.Model.Text.Vocabulary > 0 {
		if o.Text, err = textPart(t.Vectors.Encoder, from, m, t, ds); err != nil {
			return nil, err
		}
	}
	if was.Model.Text.Classes > 0 { // of the same text encoder
		if o.Text.Classes, err = quantize.ClassesOf(serving); err != nil {
			return nil, err
		}
	}
	if was.Model.Ratings {
		if o.Ratings, _, err = hostgpu.TrainTowerRatings(ctx, m, ds, s.Train, s.Valid, t.users, hostgpu.TowerRatingOptions{}); err != nil {
			return nil, err
		}
	}
	if was.Model.Attributes > 0 {
		if o.Attributes, err = attributeVectors(m, t, ds); err != nil {
			return nil, err
		}
	}
	e.p.stage("compressing", 0, 0)
	a, _, err := compress(ctx, m, t, ds, s, o)
	if err != nil {
		return nil, err
	}
	a.Manifest.Provenance = e.provenance()
	path := e.path(retrain.ArtefactFile)
	if err := artifact.WriteFile(path, a, artifact.WriteOptions{}); err != nil {
		return nil, err
	}
	if e.key != nil {
		if err := artifact.SignFile(path, e.key); err != nil {
			return nil, err
		}
	}
	e.p.done()
	return artifact.Open(path, artifact.ReadOptions{AllowUnsigned: true})
}

// provenance says what the artefact is made of. What the model that goes on was made of
// is in its own artefact.
func (e *execution) provenance() *artifact.Provenance {
	m := e.m
	p := &artifact.Provenance{Wisp: m.Wisp, Go: m.Go, BLAS: m.BLAS, Commands: []string{"wisp retrain"}}
	p.Sources = append(p.Sources,
		artifact.Source{Name: "model that went on", SHA256: m.Before.Accepted.ModelSHA256},
		artifact.Source{Name: "artefact before", SHA256: m.Before.Accepted.Digest},
	)
	for _, f := range append(append([]data.File(nil), m.Before.Ledger...), m.Batch, m.Items, m.Users) {
		p.Sources = append(p.Sources, artifact.Source{Name: filepath.ToSlash(f.Name), SHA256: f.SHA256})
	}
	return p
}

// judge compares the candidate with what serves on the newest slice.
func (e *execution) judge(ctx context.Context, candidate, serving *artifact.Artifact, ds *data.Dataset, s *data.Split) (retrain.Verdict, error) {
	before := e.m.Before.Accepted
	old, err := newServing(serving, ds)
	if err != nil {
		return retrain.Verdict{}, err
	}
	fresh, err := newServing(candidate, ds)
	if err != nil {
		return retrain.Verdict{}, err
	}
	cases := s.Test
	if len(cases) > 0 {
		cases = spread(cases, evaluated)
	}
	known := make([]bool, len(cases))
	for i, c := range cases {
		known[i] = c.History[0].Time < before.Horizon
	}
	results := [2]*eval.Result{{}, {}}
	counts := popularity(s.Train, len(ds.Items))
	for i, scorer := range []eval.Scorer{fresh, old} {
		if len(cases) == 0 {
			break
		}
		results[i], err = eval.Run(ctx, scorer, len(ds.Items), cases, counts, eval.Options{}, func(done, total int) {
			e.p.stage("comparing "+scorer.Name(), int64(done), int64(total))
		})
		if err != nil {
			return retrain.Verdict{}, err
		}
	}
	e.p.done()
	return e.m.Options.Gate.Judge(results[0], results[1], known, before.NDCG)
}
