package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/wisp-project/wisp/hostgpu"
	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/internal/eval"
	"github.com/wisp-project/wisp/model"
)

// crossHead is the file of a cross-encoder's head, beside its encoder.
const crossHead = "head.safetensors"

func newCross() *cobra.Command {
	r := crossRun{textTraining: textTraining{command: "cross", metric: "NDCG@10"}}
	c := &cobra.Command{
		Use:   "cross PREPARED",
		Short: "Train a cross-encoder that re-orders what a model ranks highest",
		Long: `Trains a text encoder to read the text of a user's profile and that of an item at once
and to say how well they go together. It is slow, a forward pass for each pair, so a
trained model ranks all items first, and the cross-encoder puts the best of them into a
new order. It learns to tell the next item of a user from others that the model ranks
highly; only training events are learnt from.

What is kept is the cross-encoder with the best NDCG@10 on validation, and the weight of
its score beside the model's, chosen there too. The model by itself takes part, as epoch 0.

OUT is a Hugging Face folder with the head in head.safetensors; wisp eval --cross OUT
measures it. OUT/run has curves of loss and NDCG@10.

Ctrl-C saves; --resume goes on, to the same result as an unbroken run on the same
machine. Time goes with --max-tokens, --max-lists and, at each validation, --max-cases
times --candidates.`,
		Example: `  wisp train prepared --out model
  wisp cross prepared --encoder all-MiniLM-L6-v2 --model model --out cross --frozen-layers 4
  wisp cross prepared --encoder all-MiniLM-L6-v2 --model model --out cross --frozen-layers 4 --resume
  wisp eval --data prepared --model model --cross cross`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r.data = args[0]
			result, err := r.run(cmd.Context(), newProgress(cmd))
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: validation NDCG@10 %.4f re-ranked in epoch %d with weight %v, %.4f by the model alone%s\n",
				r.out, result.Best, result.BestEpoch, result.Weight, result.Before, memoryNote())
			return nil
		},
	}
	f, o := c.Flags(), &r.Options
	r.flags(f, o, "folder for the cross-encoder")
	deviceFlag(f, &r.device)
	f.Lookup("lr").Usage = "highest learning rate, after warm-up (default 0.0001)"
	f.StringVar(&r.Model, "model", "", "folder of the trained model that ranks all items first")
	f.StringVar(&r.Profile, "profile", data.DefaultProfileText, "template of the profile text, of .User, .Description, .Attributes and .Liked")
	f.IntVar(&r.Titles, "titles", 0, "titles of liked items that a profile names (default 10)")
	f.IntVar(&r.MaxTokens, "max-tokens", hostgpu.DefaultPairTokens, "tokens that a pair of texts is cut to")
	f.IntVar(&r.Candidates, "candidates", hostgpu.DefaultCandidates, "best items of the model that are put into a new order")
	f.IntVar(&r.Negatives, "negatives", 0, "wrong items beside the right one in training (default 7)")
	f.IntVar(&r.Pool, "pool", 0, "best items of the model that they are drawn from (default 50, negative: from all items, by popularity)")
	f.IntVar(&r.MaxLists, "max-lists", 0, "users' events with wrong items in an epoch (default 2,000, negative for all)")
	f.IntVar(&r.MaxCases, "max-cases", 0, "validation cases (default 300, negative for all)")
	f.IntVar(&o.Pairs, "batch", 0, "pairs of a batch (default 32)")
	required(c, "encoder", "model", "out")
	return c
}

// crossRun is one training of a cross-encoder.
type crossRun struct {
	textTraining
	data string
	crossSettings
}

// crossSettings are what the training of a cross-encoder started from.
type crossSettings struct {
	Encoder    string                   `json:"encoder"`    // folder of the pretrained one
	Model      string                   `json:"model"`      // folder of the first stage
	Data       string                   `json:"data"`       // name of the data set
	Manifest   string                   `json:"manifest"`   // digest of its manifest's files
	Profile    string                   `json:"profile"`    // template
	Titles     int                      `json:"titles"`     // in a profile; 0 for the default
	MaxTokens  int                      `json:"max_tokens"` // of a pair
	Candidates int                      `json:"candidates"` // that are re-ranked
	Negatives  int                      `json:"negatives"`  // this and what follows 0 for the default
	Pool       int                      `json:"pool"`
	MaxLists   int                      `json:"max_lists"`
	MaxCases   int                      `json:"max_cases"`
	Options    hostgpu.TextTrainOptions `json:"options"`
	BLAS       string                   `json:"blas"`
}

// crossing is how a cross-encoder came about.
type crossing struct {
	crossSettings
	Weight    float64 `json:"weight"` // of its score beside that of the first stage
	Before    float64 `json:"before"` // NDCG@10 on validation of the first stage
	Best      float64 `json:"best"`
	BestEpoch int     `json:"best_epoch"`
}

func (r *crossRun) run(ctx context.Context, p *progress) (result crossing, err error) {
	defer p.done()
	ds, fingerprint, err := loadData(r.data)
	if err != nil {
		return result, err
	}
	first, trained, err := loadModel(r.Model)
	if err != nil {
		return result, err
	}
	if err := trained.fits(first, ds, fingerprint); err != nil {
		return result, err
	}
	if trained.Refit {
		return result, fmt.Errorf("%s was trained again with the validation events, by which a cross-encoder is chosen; train one without --refit", r.Model)
	}
	s, err := split(ds, trained.Protocol)
	if err != nil {
		return result, err
	}
	profile, err := data.NewProfileText(r.Profile, r.Titles)
	if err != nil {
		return result, err
	}
	e, err := r.read(r.encoder, nil)
	if err != nil {
		return result, err
	}
	p.stage("ranking the validation cases", 0, 0)
	task, err := hostgpu.NewCrossTask(ctx, ds, s, teacher(first, trained.users).scorer, hostgpu.CrossTaskOptions{
		Profile: profile, Negatives: r.Negatives, Pool: r.Pool, Candidates: r.Candidates,
		MaxLists: r.MaxLists, MaxCases: r.MaxCases, Seed: r.Options.Seed,
	})
	if err != nil {
		return result, err
	}
	device, err := openDevice(r.device, p)
	if err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, device.Close()) }()
	r.Options.Device = device
	run, err := hostgpu.NewCrossRun(e, task, r.Options)
	if err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, run.Close()) }()
	if err := r.makeDir(); err != nil {
		return result, err
	}
	r.Encoder, r.Data, r.Manifest, r.Options, r.BLAS = r.encoder, ds.Name, fingerprint, run.Options(), cmp.Or(deviceName(device), hostgpu.BLAS().Name)
	p.line("training a cross-encoder on %d items, %d users with %s", len(ds.Items), len(ds.Users), r.BLAS)
	if err := r.fit(ctx, run.TextRun, r.crossSettings, len(task.Valid) > 0, p); err != nil {
		return result, err
	}
	result.crossSettings = r.crossSettings
	result.Before, result.Best, result.BestEpoch = run.Best()
	if e, result.Weight, err = run.Encoder(); err != nil {
		return result, err
	}
	if result.Weight == 0 {
		p.line("no epoch did better than the model alone, whose order is what is kept; try another --lr or more --max-lists")
	}
	head := map[string]*model.Tensor{hostgpu.CrossWeight: e.Head()}
	if err := model.SaveTensors(filepath.Join(r.out, crossHead), head, nil); err != nil {
		return result, resumable(err, r.checkpoint(), true)
	}
	return result, r.save(e.Model(), result)
}

// read reads the encoder in dir and puts head on it.
func (s *crossSettings) read(dir string, head *model.Tensor) (*hostgpu.CrossEncoder, error) {
	tok, m, err := loadEncoder(dir)
	if err != nil {
		return nil, err
	}
	return hostgpu.NewCrossEncoder(m, tok, head, s.MaxTokens)
}

// rerankedStage is the name of a first stage that a cross-encoder helps.
const rerankedStage = "reranked"

// reranked returns first with the best of what it ranks put into a new order by
// the cross-encoder in dir, and the size of that.
func reranked(dir string, first eval.Scorer, ds *data.Dataset, fingerprint string) (stage, error) {
	var how crossing
	path := filepath.Join(dir, "cross.json")
	b, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(b, &how)
	}
	if err != nil {
		return stage{}, fmt.Errorf("%s holds no cross-encoder: make one with wisp cross (%w)", dir, err)
	}
	if how.Manifest != fingerprint {
		return stage{}, fmt.Errorf("the cross-encoder in %s was trained on %q, not on this preparation of %q; train again or give the data it was trained on", dir, how.Data, ds.Name)
	}
	path = filepath.Join(dir, crossHead)
	tensors, _, err := model.LoadTensors(path)
	if err != nil {
		return stage{}, fmt.Errorf("%w; train the cross-encoder again", err)
	}
	head := tensors[hostgpu.CrossWeight]
	if head == nil {
		return stage{}, fmt.Errorf("%s has no tensor %q; train the cross-encoder again", path, hostgpu.CrossWeight)
	}
	e, err := how.read(dir, head)
	if err != nil {
		return stage{}, err
	}
	profile, err := data.NewProfileText(how.Profile, how.Titles)
	if err != nil {
		return stage{}, err
	}
	s, err := hostgpu.NewReranker(rerankedStage, first, e, how.Weight, ds, profile, cmp.Or(how.Candidates, hostgpu.DefaultCandidates))
	if err != nil {
		return stage{}, err
	}
	var bytes int64
	for _, t := range e.Model().Weights {
		bytes += 4 * int64(len(t.Data))
	}
	return stage{scorer: s, bytes: bytes, request: top10(s, len(ds.Items))}, nil
}
