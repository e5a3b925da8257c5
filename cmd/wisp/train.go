package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/wisp-project/wisp/hostgpu"
	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/internal/runlog"
	"github.com/wisp-project/wisp/model"
)

func newTrain() *cobra.Command {
	var r trainRun
	var tuning []string
	c := &cobra.Command{
		Use:   "train PREPARED",
		Short: "Train a model in full precision",
		Long: `Trains the user tower and the item tower together to rank the next item, and keeps
the weights with the best NDCG@10 on validation. Test events are not looked at.

With --tune-encoder the text encoder is trained too: after each epoch its upper blocks
take steps by what the epoch's losses said of the items' vectors, which are then made
anew. OUT/encoder is the encoder that came out, as a Hugging Face folder; descriptions
of users are read by the one that was given.

OUT/run has curves of loss and validation as SVG, all figures as JSON lines, and event
files for TensorBoard (tensorboard --logdir OUT/run).

Ctrl-C saves; --resume goes on, to the same result as an unbroken run on the same
machine. An NVIDIA GPU is used where there is one, and OpenBLAS otherwise where it is
installed (see wisp doctor); --resume may go on on another device.`,
		Example: `  wisp train prepared --out model
  wisp train prepared --out model --resume
  wisp train prepared --out model --encoder all-MiniLM-L6-v2
  wisp train prepared --out model --encoder all-MiniLM-L6-v2 --descriptions
  wisp train prepared --out model --encoder all-MiniLM-L6-v2 --tune-encoder
  wisp train prepared --out model --device cuda
  wisp train prepared --out wide --dim 128 --heads 2 --epochs 80`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r.data, r.command = args[0], commandLine(cmd, args)
			if err := r.check(cmd.Flags(), tuning); err != nil {
				return err
			}
			t, err := r.run(cmd.Context(), newProgress(cmd))
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: validation NDCG@10 %.4f in epoch %d%s\n", r.out, t.BestNDCG, t.BestEpoch, memoryNote())
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&r.out, "out", "", "folder for the model")
	f.BoolVar(&r.resume, "resume", false, "go on with an interrupted training in --out")
	f.BoolVar(&r.refit, "refit", false, "then train again for the best number of epochs, with the validation events")
	f.StringVar(&r.protocol, "split", leaveOneOut, "what is held back for validation and test: leave-one-out or time")
	f.IntVar(&r.vectors.TFIDF, "features", defaultTFIDF, "width of the item vectors made of the words of titles and texts, 0 for none")
	f.StringVar(&r.vectors.Encoder, "encoder", "", "pretrained text encoder that makes more item vectors: a folder"+orBuiltin)
	f.BoolVar(&r.vectors.Descriptions, "descriptions", false, "read the users' descriptions and attributes, by --encoder or else by their words")
	f.BoolVar(&r.vectors.Tuned, "tune-encoder", false, "train --encoder together with the towers, into OUT/encoder")
	deviceFlag(f, &r.device)
	o := &r.options
	tuning = r.tuning.flags(f, &o.EncoderEvery)
	f.Uint64Var(&o.Seed, "seed", 1, "seed of all chance")
	f.IntVar(&o.Epochs, "epochs", 0, "epochs at most (default 50)")
	f.IntVar(&o.Patience, "patience", 0, "epochs without improvement before stopping (default 8)")
	f.IntVar(&o.Dim, "dim", 0, "model width (default 64)")
	f.IntVar(&o.Layers, "layers", 0, "transformer blocks (default 2)")
	f.IntVar(&o.Heads, "heads", 0, "attention heads (default 1)")
	f.IntVar(&o.FFN, "ffn", 0, "feed-forward width (default: that of the model)")
	f.IntVar(&o.Window, "window", 0, "events that an event sees (default 50)")
	f.Float64Var(&o.LearningRate, "lr", 0, "learning rate (default 0.002)")
	f.Float64Var(&o.Dropout, "dropout", 0, "dropout (default 0.4, negative for none)")
	f.Float64Var(&o.IDDropout, "id-dropout", 0, "share of items that a step knows by their vectors alone, for items that will come without events (default none)")
	f.Float64Var(&o.WeightDecay, "weight-decay", 0, "decoupled weight decay (default 0.01, negative for none)")
	f.IntVar(&o.Samples, "samples", 0, "negatives of a sampled softmax (default: the full one up to 20,000 items)")
	required(c, "out")
	return c
}

// trainRun is one training.
type trainRun struct {
	data, out, protocol string
	command             string // the command line, where it was one
	device              string // name of it, "" for the processors
	vectors             givenVectors
	read                map[string]*model.Tensor // what encoders have made of items, shared with other trainings; may be nil
	resume, refit       bool
	options             hostgpu.TrainOptions
	tuning              encoderTuning // with vectors.Tuned
	saveEvery           int           // steps after which it is saved within epochs, 0 for none
	// teach, where it is not nil, says what a teacher expects: the one that trained
	// without the validation events, or with what it made of the student before, the one
	// that knows them. Lessons without a teacher are those of a model that goes on.
	teach     func(ctx context.Context, before *model.Model) (hostgpu.Lessons, error)
	distilled *distilledFrom
	pruned    *prunedFrom
	knows     bool // the validation events are among the training events of the split
}

// trainSplit is what a training learns from and is validated on.
type trainSplit struct {
	*data.Split                   // nil where the events stay on disk
	stored      *data.StoredSplit // then
}

// cases is the number of validation cases.
func (s trainSplit) cases() int {
	if s.stored != nil {
		return len(s.stored.Valid)
	}
	return len(s.Valid)
}

// trainer prepares one training.
func (r *trainRun) trainer(ctx context.Context, ds *data.Dataset, s trainSplit, given hostgpu.Vectors, o hostgpu.TrainOptions, before *model.Model) (*hostgpu.Trainer, error) {
	if s.stored != nil {
		return hostgpu.NewStoredTrainer(ds, s.stored, given, o)
	}
	if r.teach == nil {
		return hostgpu.NewTrainer(ds, s.Split, given, o)
	}
	lessons, err := r.teach(ctx, before)
	if err != nil {
		return nil, err
	}
	if lessons.Targets == nil {
		return hostgpu.NewContinuation(ds, s.Split, given, lessons, o)
	}
	return hostgpu.NewDistiller(ds, s.Split, given, lessons, o)
}

// run trains on the prepared data set. Its events stay on disk, unless a text encoder is
// trained, too, whose pairs of texts are of all of them.
func (r *trainRun) run(ctx context.Context, p *progress) (_ training, err error) {
	if r.vectors.Tuned {
		ds, fingerprint, err := loadData(r.data)
		if err != nil {
			return training{}, err
		}
		s, err := split(ds, r.protocol)
		if err != nil {
			return training{}, err
		}
		return r.runOn(ctx, ds, fingerprint, s, p)
	}
	fingerprint, err := dataFingerprint(r.data)
	if err != nil {
		return training{}, err
	}
	ds, err := data.LoadCatalogue(r.data)
	if err != nil {
		return training{}, err
	}
	events, err := storeEvents(r.data, r.out)
	if err != nil {
		return training{}, err
	}
	defer func() { err = errors.Join(err, events.Close()) }()
	return r.learn(ctx, ds, fingerprint, r.protocol, func(refit bool) (trainSplit, error) {
		s, err := storedSplit(ds, events, r.protocol, refit)
		return trainSplit{stored: s}, err
	}, p)
}

// storeEvents puts the events of a prepared data set where the model is going to be, whose
// folder need not be there yet, or else, where there is no room, among temporary files.
func storeEvents(prepared, out string) (*data.Stored, error) {
	there, err := filepath.Abs(out)
	if err != nil {
		return nil, err
	}
	for there != filepath.Dir(there) {
		if info, err := os.Stat(there); err == nil && info.IsDir() {
			break
		}
		there = filepath.Dir(there)
	}
	events, err := data.Store(prepared, there)
	if err == nil || errors.Is(err, data.ErrPrepared) {
		return events, err
	}
	events, again := data.Store(prepared, "")
	if again != nil {
		return nil, errors.Join(err, again)
	}
	return events, nil
}

// runOn trains on a data set in memory.
func (r *trainRun) runOn(ctx context.Context, ds *data.Dataset, fingerprint string, s *data.Split, p *progress) (training, error) {
	return r.learn(ctx, ds, fingerprint, s.Protocol, func(refit bool) (trainSplit, error) {
		if refit {
			return trainSplit{Split: &data.Split{Protocol: s.Protocol, Train: fittingData(ds, s)}}, nil
		}
		return trainSplit{Split: s}, nil
	}, p)
}

// learn trains on what material says, and with r.refit again on what it says then.
func (r *trainRun) learn(ctx context.Context, ds *data.Dataset, fingerprint, protocol string, material func(refit bool) (trainSplit, error), p *progress) (_ training, err error) {
	defer p.done()
	device, err := openDevice(r.device, p)
	if err != nil {
		return training{}, err
	}
	defer func() { err = errors.Join(err, device.Close()) }()
	r.options.Device = device
	s, err := material(false)
	if err != nil {
		return training{}, err
	}
	given, digest, err := r.vectors.make(ctx, ds, r.read, p)
	if err != nil {
		return training{}, err
	}
	blas := hostgpu.BLAS()
	p.line("training on %d items, %d users with %s", len(ds.Items), len(ds.Users), cmp.Or(deviceName(device), blas.Name))
	result := training{
		Data: ds.Name, Manifest: fingerprint, Protocol: protocol, Vectors: r.vectors, EncoderDigest: digest, Refit: r.refit || r.knows,
		BLAS: blas.Name, Device: deviceName(device), Wisp: version(), Command: r.command, Distilled: r.distilled, Pruned: r.pruned,
	}
	made, err := r.fit(ctx, ds, s, given, r.options, checkpointFile, nil, p, &result)
	if err != nil {
		return training{}, err
	}
	if r.refit {
		p.line("training again for %d epochs, with the validation events", result.BestEpoch)
		o := r.options
		o.Epochs = result.BestEpoch
		whole, err := material(true)
		if err != nil {
			return training{}, err
		}
		var again training // its epochs were not chosen, they were given
		if made, err = r.fit(ctx, ds, whole, given, o, refitFile, made.model, p, &again); err != nil {
			return training{}, err
		}
	}
	return result, resumable(r.save(made, given, ds, result), filepath.Join(r.out, checkpointFile), true)
}

// fitted is what a training comes to.
type fitted struct {
	model   *model.Model
	items   *model.Tensor    // the given vectors that it reads
	encoder *model.TextModel // that made them, where it was trained too
}

// save writes what a training came to, of which the users' vectors are still
// those given.
func (r *trainRun) save(made fitted, given hostgpu.Vectors, ds *data.Dataset, result training) error {
	if made.encoder != nil {
		tok, _, err := loadEncoder(r.vectors.Encoder)
		if err != nil {
			return err
		}
		result.EncoderDigest = encoderDigest(tok, made.encoder, ds)
		if err := saveEncoder(filepath.Join(r.out, encoderFolder), made.encoder, r.vectors.Encoder); err != nil {
			return err
		}
	}
	given.Items = made.items
	return saveModel(r.out, made.model, given, result)
}

// fit trains once, with its checkpoint in the named file of the output folder,
// and writes to result what the training came to. before is the model of the training
// before, nil in the first one; only a student goes on from it.
func (r *trainRun) fit(ctx context.Context, ds *data.Dataset, s trainSplit, given hostgpu.Vectors, o hostgpu.TrainOptions, file string, before *model.Model, p *progress, result *training) (made fitted, err error) {
	if r.vectors.Tuned {
		if err := r.tune(ds, s.Split, &given, &o); err != nil {
			return made, err
		}
	}
	t, err := r.trainer(ctx, ds, s, given, o, before)
	if err != nil {
		return made, err
	}
	defer func() { err = errors.Join(err, t.Close()) }()
	t.SaveEvery(r.saveEvery)
	if err := makeModelDir(r.out); err != nil {
		return made, err
	}
	checkpoint, kept := filepath.Join(r.out, file), false
	if _, e := os.Stat(checkpoint); r.resume && (e == nil || file == checkpointFile) {
		if err := t.Resume(checkpoint); err != nil {
			return made, err
		}
		kept = true
	}
	log, err := runlog.Open(filepath.Join(r.out, runFolder, strings.TrimSuffix(file, filepath.Ext(file))), t.Options(), int64(t.Steps()), time.Now())
	if err != nil {
		return made, err
	}
	defer func() { err = resumable(cmp.Or(err, log.Close()), checkpoint, kept) }()
	parts := 1
	err = t.Run(ctx, checkpoint, func(e hostgpu.Progress) {
		if e.Parts > parts {
			parts = e.Parts
			p.line("the GPU has too little memory for a whole batch: each step is made in %d parts", parts)
		}
		if e.Texts > 0 {
			p.stage("training the encoder", int64(e.Read), int64(e.Texts))
			return
		}
		if !e.Done {
			log.Scalar(int64(e.Total), "loss/train", e.Loss, time.Now())
		}
		if e.Done {
			kept = true
			recordMemory(log, int64(e.Total))
			if s.cases() > 0 {
				log.Scalar(int64(e.Total), "ndcg@10/validation", e.NDCG, time.Now())
			}
			if err := log.Draw(); err != nil {
				p.line("the curves could not be drawn: %v", err)
			}
			validation := ""
			if s.cases() > 0 {
				validation = fmt.Sprintf("  validation NDCG@10 %.4f", e.NDCG)
				if e.BestEpoch == e.Epoch {
					validation += "  best so far"
				}
			}
			p.line("epoch %3d  loss %.4f%s", e.Epoch, e.Loss, validation)
			return
		}
		if p.terminal {
			p.stage(fmt.Sprintf("epoch %d", e.Epoch), int64(e.Step), int64(e.Steps))
			p.describe(fmt.Sprintf("epoch %d of at most %d  loss %.4f  best %.4f", e.Epoch, e.Epochs, e.Loss, e.Best))
		}
	})
	if err != nil {
		return made, err
	}
	result.Options = t.Options()
	result.BestNDCG, result.BestEpoch = t.Best()
	made.items, made.encoder = t.ItemVectors(), t.Encoder()
	if made.model, err = t.Model(); err != nil {
		return made, err
	}
	labels := make([]string, len(ds.Items))
	for i, item := range ds.Items {
		labels[i] = label(item.ID, item.Title)
	}
	return made, log.Embedding("items", made.model.ItemVectors.Data, made.model.Config.Dim, labels)
}
