package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/wisp-project/wisp/hostgpu"
	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/internal/eval"
	"github.com/wisp-project/wisp/model"
	"github.com/wisp-project/wisp/quantize"
)

func newPrune() *cobra.Command {
	var r pruneRun
	c := &cobra.Command{
		Use:   "prune MODEL",
		Short: "Take the least important parts of a model away, and let it recover",
		Long: `Measures how important each weight of a model is to what the model expects (to first
order, how much its loss would change without it), adds that up for each transformer
block, each column of a feed-forward part and each dimension of the vectors, takes the
least important away, so that the matrices get smaller, and trains what is left to expect
what the whole model expected, or an ensemble.

Validation events choose the epoch. A model that knows them (wisp train --refit) recovers
for all --epochs.

Ctrl-C saves; --resume goes on. OUT is a model's folder like that of wisp train.`,
		Example: `  wisp prune model --data prepared --out small --ffn 32
  wisp prune student --data prepared --out smaller --dim 48 --layers 1 --teacher teacher`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r.modelDir, r.command = args[0], commandLine(cmd, args)
			before, after, t, err := r.run(cmd.Context(), newProgress(cmd))
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			fmt.Fprintf(out, "%s: %d layers, feed-forward width %d, width %d; %d parameters of %d\n", r.out, after.Layers, after.FFN, after.Dim, parameters(after), parameters(before))
			if !t.Refit {
				fmt.Fprintf(out, "%s: validation NDCG@10 %.4f in epoch %d, of a teacher with %.4f%s\n", r.out, t.BestNDCG, t.BestEpoch, t.Distilled.NDCG, memoryNote())
			}
			return nil
		},
	}
	f, o, l := c.Flags(), &r.options, &r.lessons
	f.StringVar(&r.data, "data", "", "the prepared data that the model was trained on")
	f.StringVar(&r.out, "out", "", "folder for what is left")
	f.BoolVar(&r.resume, "resume", false, "go on with an interrupted run in --out")
	f.StringVar(&r.teacher, "teacher", "", "`folder` of an ensemble to recover by (default: the whole model)")
	f.IntVar(&r.prune.Layers, "layers", 0, "transformer blocks that stay (default all)")
	f.IntVar(&r.prune.FFN, "ffn", 0, "feed-forward width that stays (default all)")
	f.IntVar(&r.prune.Dim, "dim", 0, "width that stays (default all)")
	f.IntVar(&r.batches, "batches", 64, "batches that importance is measured on")
	f.Float64Var(&l.Temperature, "temperature", 0, "softens the teacher's distributions, or below 1 sharpens them (default 0.5)")
	f.IntVar(&l.Augment, "augment", 0, "histories that are made up from each (default 1, negative for none)")
	f.IntVar(&o.Epochs, "epochs", 10, "epochs at most")
	f.IntVar(&o.Patience, "patience", 0, "epochs without improvement before stopping (default 8)")
	f.Float64Var(&o.LearningRate, "lr", studentRate, "learning rate")
	f.Float64Var(&o.Dropout, "dropout", studentDropout, "dropout")
	f.Uint64Var(&o.Seed, "seed", 1, "seed of all chance")
	required(c, "data", "out")
	return c
}

// parameters counts the weights of a model of some kind.
func parameters(c interface{ Specs() []model.Spec }) int {
	n := 0
	for _, s := range c.Specs() {
		size := 1
		for _, d := range s.Shape {
			size *= d
		}
		n += size
	}
	return n
}

// pruneRun prunes one model.
type pruneRun struct {
	trainRun
	modelDir, teacher string
	prune             quantize.PruneOptions
	batches           int
	lessons           quantize.LessonOptions
}

// prunedFrom says what a model is what is left of.
type prunedFrom struct {
	Model   string                `json:"model"` // digest of its file
	Teacher string                `json:"teacher,omitempty"`
	Options quantize.PruneOptions `json:"options"`
	Epochs  int                   `json:"epochs"` // at most, to recover
}

func (r *pruneRun) from() (*prunedFrom, error) {
	digest, err := fileDigest(filepath.Join(r.modelDir, modelFile))
	return &prunedFrom{digest, r.teacher, r.prune, r.options.Epochs}, err
}

// run returns the shapes before and after.
func (r *pruneRun) run(ctx context.Context, p *progress) (before, after model.Config, result training, err error) {
	m, t, ds, s, err := trained(r.modelDir, r.data)
	if err != nil {
		return before, after, result, err
	}
	before = m.Config
	switch {
	case r.prune == (quantize.PruneOptions{}):
		return before, after, result, errors.New("nothing to take away: give --layers, --ffn or --dim")
	case t.Vectors.Tuned:
		return before, after, result, errors.New("the model's text encoder was trained with it, and would have to be trained on: train a smaller model, or one without --tune-encoder")
	case r.batches < 1:
		return before, after, result, fmt.Errorf("--batches is %d, must be at least 1", r.batches)
	}
	r.lessons.Seed = r.options.Seed
	if err := errors.Join(r.lessons.Validate(), r.options.Validate()); err != nil {
		return before, after, result, err
	}
	e, err := r.teaches(ctx, m, t, ds, s)
	if err != nil {
		return before, after, result, err
	}
	histories := s.Train
	if t.Refit { // nothing is left to choose an epoch on
		histories = fittingData(ds, s)
		s = &data.Split{Protocol: s.Protocol, Train: histories}
	}
	lessons, err := askEnsemble(ctx, e, histories, len(ds.Items), r.lessons, p)
	if err != nil {
		return before, after, result, err
	}
	if after, lessons.Start, err = r.cut(ctx, m, t, ds, s, lessons, p); err != nil {
		return before, after, result, err
	}
	o := &r.options
	o.Dim, o.Layers, o.Heads, o.FFN, o.Window, o.GapBuckets = after.Dim, after.Layers, after.Heads, after.FFN, after.Window, after.GapBuckets
	o.Soft.Temperature = r.lessons.WithDefaults().Temperature
	r.vectors, r.knows = t.Vectors, t.Refit
	if r.pruned, err = r.from(); err != nil {
		return before, after, result, err
	}
	r.distilled = &distilledFrom{Members: e.Members, Temperature: e.Temperature, NDCG: e.BestNDCG, Lessons: r.lessons.WithDefaults()}
	r.teach = func(context.Context, *model.Model) (hostgpu.Lessons, error) { return lessons, nil }
	_, fingerprint, err := loadData(r.data)
	if err != nil {
		return before, after, result, err
	}
	result, err = r.runOn(ctx, ds, fingerprint, s, p)
	return before, after, result, err
}

// teaches returns whom the pruned model recovers by.
func (r *pruneRun) teaches(ctx context.Context, m *model.Model, t training, ds *data.Dataset, s *data.Split) (*ensemble, error) {
	if r.teacher != "" {
		e, err := loadEnsemble(r.teacher)
		if err != nil {
			return nil, err
		}
		if e.Manifest != t.Manifest || e.Protocol != t.Protocol || e.Refit != t.Refit {
			return nil, fmt.Errorf("%s is of models that were trained on other events than %s: give an ensemble of the same data and split, with or without --refit like it", r.teacher, r.modelDir)
		}
		return e, nil
	}
	e := &ensemble{
		Data: t.Data, Manifest: t.Manifest, Protocol: t.Protocol, Refit: t.Refit,
		Members: []member{{Name: "unpruned", Weight: 1, Folder: fmt.Sprintf(ensembleMember, 1)}}, networks: []voter{{m, t}}, BestNDCG: t.BestNDCG,
	}
	voters, _, err := e.fit(nil, len(ds.Items))
	if err != nil {
		return nil, err
	}
	if len(s.Valid) == 0 {
		return nil, fmt.Errorf("no validation cases: no user has %d events", minEvents)
	}
	e.Temperature, err = eval.FitTemperature(ctx, voters, len(ds.Items), spread(s.Valid, weighed))
	return e, err
}

// cut measures importance and takes the rest away.
func (r *pruneRun) cut(ctx context.Context, m *model.Model, t training, ds *data.Dataset, s *data.Split, lessons hostgpu.Lessons, p *progress) (c model.Config, w model.Weights, err error) {
	o := hostgpu.TrainOptions{
		Dim: m.Config.Dim, Layers: m.Config.Layers, Heads: m.Config.Heads, FFN: m.Config.FFN, Window: m.Config.Window, GapBuckets: m.Config.GapBuckets,
		Dropout: -1, Seed: r.options.Seed, Soft: hostgpu.SoftTerm{Temperature: r.lessons.WithDefaults().Temperature},
	}
	lessons.Start = m.Weights
	looker, err := hostgpu.NewDistiller(ds, s, hostgpu.Vectors{Items: t.items, Users: t.users}, lessons, o)
	if err != nil {
		return c, nil, err
	}
	defer func() { err = errors.Join(err, looker.Close()) }()
	p.line("measuring importance on %d batches", r.batches)
	importance, err := looker.Importance(ctx, r.batches)
	if err != nil {
		return c, nil, err
	}
	return quantize.Prune(m, importance, r.prune)
}
