package main

import (
	"cmp"
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/wisp-project/wisp/hostgpu"
	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/model"
	"github.com/wisp-project/wisp/quantize"
)

// studentPresets are the sizes of the towers of a student by name.
var studentPresets = map[string]hostgpu.TrainOptions{
	"nano":  {Dim: 32, Layers: 1, Heads: 1, FFN: 32},
	"micro": {Dim: 48, Layers: 2, Heads: 1, FFN: 48},
	"small": {Dim: 64, Layers: 2, Heads: 1, FFN: 64},
}

func newDistil() *cobra.Command {
	var r studentRun
	c := &cobra.Command{
		Use:   "distil ENSEMBLE",
		Short: "Distil one small model from an ensemble",
		Long: `Trains one model to expect what the ensemble expects, of which wisp compress makes an
artefact like that of any other. The ensemble is asked after each event of each training
history, and of others made up from them: cut, with events dropped, items replaced, and
events appended that the ensemble itself expects. The loss is the divergence from its
distributions over all items, and for the rest that --teacher-weight leaves the next item.

Members that are counted from histories have seen what a user did next: they are counted
anew without each fifth of the users before they are asked about these. Test events are
not looked at, and validation events choose the epoch.

The student starts as the voter of most weight that has its shape and vectors, if there is
one. --refit names the ensemble of the same models trained again with the validation events:
the student then goes on with that one, for the best number of epochs.

Ctrl-C saves; --resume goes on. OUT is a model's folder like that of wisp train.`,
		Example: `  wisp distil teacher --data prepared --out student
  wisp distil teacher --data prepared --out student --refit teacher-refit
  wisp distil teacher --data prepared --out tiny --size nano --augment 3
  wisp distil teacher --data prepared --out wide --dim 96 --layers 2 --resume`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r.teacherDir, r.command = args[0], commandLine(cmd, args)
			t, err := r.run(cmd.Context(), newProgress(cmd))
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: validation NDCG@10 %.4f in epoch %d, %.4f of the teacher's %.4f%s\n",
				r.out, t.BestNDCG, t.BestEpoch, t.BestNDCG/t.Distilled.NDCG, t.Distilled.NDCG, memoryNote())
			return nil
		},
	}
	f, o, l := c.Flags(), &r.options, &r.lessons
	f.StringVar(&r.data, "data", "", "the prepared data that the ensemble was made on")
	f.StringVar(&r.out, "out", "", "folder for the student")
	f.BoolVar(&r.resume, "resume", false, "go on with an interrupted run in --out")
	deviceFlag(f, &r.device)
	f.StringVar(&r.again, "refit", "", "`folder` of the ensemble that knows the validation events, to learn from in the end")
	f.IntVar(&r.vectors.TFIDF, "features", defaultTFIDF, "width of the item vectors made of the words of titles and texts, 0 for none")
	f.StringVar(&r.vectors.Encoder, "encoder", "", "pretrained text encoder that makes more item vectors: a folder"+orBuiltin)
	f.StringVar(&r.size, "size", "small", "nano, micro or small; the next flags change it")
	f.IntVar(&o.Dim, "dim", 0, "model width")
	f.IntVar(&o.Layers, "layers", 0, "transformer blocks")
	f.IntVar(&o.Heads, "heads", 0, "attention heads")
	f.IntVar(&o.FFN, "ffn", 0, "feed-forward width (default: that of the model)")
	f.IntVar(&o.Window, "window", 0, "events that an event sees (default 50)")
	f.BoolVar(&r.fresh, "fresh", false, "start from chance, not from the voter of most weight that has the student's shape and vectors")
	f.Float64Var(&l.Temperature, "temperature", 0, "softens the teacher's distributions, or below 1 sharpens them (default 0.5)")
	f.Float64Var(&o.Soft.Weight, "teacher-weight", 0, "share of the teacher in the loss where the next item is known (default 0.9, negative for none)")
	f.IntVar(&l.Top, "top", 0, "probabilities that are kept of a distribution; what is left is spread as it is on average (default 128)")
	f.IntVar(&l.Augment, "augment", 0, "histories that are made up from each (default 1, negative for none)")
	f.IntVar(&l.Folds, "folds", 0, "parts of the users, each left out when members that are counted are asked about it (default 5)")
	f.Float64Var(&l.Drop, "drop", 0, "share of their events that are dropped (default 0.1, negative for none)")
	f.Float64Var(&l.Swap, "swap", 0, "share of their items that are replaced (default 0.1, negative for none)")
	f.IntVar(&l.Continue, "continue", 0, "events that are appended to them (default 5, negative for none)")
	f.IntVar(&o.Epochs, "epochs", 0, "epochs at most (default 50)")
	f.IntVar(&o.Patience, "patience", 0, "epochs without improvement before stopping (default 8)")
	f.Float64Var(&o.LearningRate, "lr", 0, "learning rate (default 0.002)")
	f.Float64Var(&o.Dropout, "dropout", 0, "dropout (default none)")
	f.Float64Var(&o.WeightDecay, "weight-decay", 0, "decoupled weight decay (default 0.01, negative for none)")
	f.Uint64Var(&o.Seed, "seed", 1, "seed of all chance")
	required(c, "data", "out")
	return c
}

// studentRun is one distillation.
type studentRun struct {
	trainRun
	teacherDir, again string
	size              string
	fresh             bool              // starts from chance in any case
	ancestor          *hostgpu.Ancestor // a student of older data that goes on, nil for none
	lessons           quantize.LessonOptions
}

// distilledFrom says of whom a student learnt.
type distilledFrom struct {
	Members     []member               `json:"members"`
	Temperature float64                `json:"temperature"`
	NDCG        float64                `json:"ndcg"` // of the teacher on validation
	Lessons     quantize.LessonOptions `json:"lessons"`
}

// defaultWindow is how many events an event sees unless asked otherwise.
const defaultWindow = 50

// studentDropout is none: distributions over all items, and of histories made up too, are
// not as easily learnt by heart as items.
const studentDropout = -1

// studentRate is the learning rate of a student: that of training.
const studentRate = 0.002

// sized fills in what the preset says and no flag did.
func (r *studentRun) sized() error {
	p, ok := studentPresets[r.size]
	if !ok {
		return fmt.Errorf("--size %q is unknown; choose nano, micro or small", r.size)
	}
	o := &r.options
	ffn := p.FFN
	if o.Dim != 0 {
		ffn = o.Dim
	}
	o.Dim, o.Layers, o.Heads, o.FFN = cmp.Or(o.Dim, p.Dim), cmp.Or(o.Layers, p.Layers), cmp.Or(o.Heads, p.Heads), cmp.Or(o.FFN, ffn)
	o.Dropout, o.LearningRate = cmp.Or(o.Dropout, studentDropout), cmp.Or(o.LearningRate, studentRate)
	o.Soft.Temperature = r.lessons.WithDefaults().Temperature
	r.lessons.Seed = o.Seed
	return r.lessons.Validate()
}

// from says of whom the student learns.
func (r *studentRun) from(e *ensemble) *distilledFrom {
	return &distilledFrom{Members: e.Members, Temperature: e.Temperature, NDCG: e.BestNDCG, Lessons: r.lessons.WithDefaults()}
}

func (r *studentRun) run(ctx context.Context, p *progress) (training, error) {
	ds, fingerprint, err := loadData(r.data)
	if err != nil {
		return training{}, err
	}
	e, err := loadEnsemble(r.teacherDir)
	if err != nil {
		return training{}, err
	}
	if err := e.fits(ds, fingerprint); err != nil {
		return training{}, err
	}
	if e.Refit {
		return training{}, fmt.Errorf("%s knows the validation events, which choose the epoch: give the ensemble before that, and this one with --refit", r.teacherDir)
	}
	var again *ensemble
	if r.again != "" {
		if again, err = loadEnsemble(r.again); err != nil {
			return training{}, err
		}
		if err := again.fits(ds, fingerprint); err != nil {
			return training{}, err
		}
		if !again.Refit || again.Protocol != e.Protocol {
			return training{}, fmt.Errorf("%s does not know the validation events of the split %q: give an ensemble of models of wisp train --refit", r.again, e.Protocol)
		}
	}
	s, err := split(ds, e.Protocol)
	if err != nil {
		return training{}, err
	}
	return r.learn(ctx, ds, fingerprint, s, e, again, p)
}

// learn distils from e, and again from the ensemble that knows the validation events
// where that is not nil.
func (r *studentRun) learn(ctx context.Context, ds *data.Dataset, fingerprint string, s *data.Split, e, again *ensemble, p *progress) (training, error) {
	if err := r.sized(); err != nil {
		return training{}, err
	}
	if err := r.options.Validate(); err != nil {
		return training{}, err
	}
	r.distilled = r.from(e)
	r.refit = again != nil
	r.teach = func(ctx context.Context, before *model.Model) (hostgpu.Lessons, error) {
		teacher, histories := e, s.Train
		if before != nil {
			teacher, histories = again, fittingData(ds, s)
		}
		l, err := askEnsemble(ctx, teacher, histories, len(ds.Items), r.lessons, p)
		switch {
		case err != nil:
			return l, err
		case before != nil:
			l.Start = before.Weights
		case r.ancestor != nil:
			l.From = r.ancestor
		case !r.fresh:
			l.Start = e.start(r.options, r.vectors)
		}
		return l, nil
	}
	return r.runOn(ctx, ds, fingerprint, s, p)
}

// askEnsemble makes the lessons of an ensemble on histories, which are always the same.
func askEnsemble(ctx context.Context, e *ensemble, histories [][]data.Interaction, items int, o quantize.LessonOptions, p *progress) (hostgpu.Lessons, error) {
	if l, ok := e.asked[o]; ok {
		return l, nil
	}
	defer p.done()
	l, err := quantize.Lessons(ctx, e.teacher(items), histories, items, o, func(done, users int64) {
		p.stage("asking the teacher", done, users)
	})
	if err == nil {
		e.asked = map[quantize.LessonOptions]hostgpu.Lessons{o: l}
	}
	return l, err
}
