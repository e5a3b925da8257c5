package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/wisp-project/wisp/hostgpu"
	"github.com/wisp-project/wisp/internal/data"
)

func newFinetune() *cobra.Command {
	r := finetuneRun{textTraining: textTraining{command: "finetune", metric: "recall@10"}}
	c := &cobra.Command{
		Use:   "finetune PREPARED",
		Short: "Fine-tune a pretrained text encoder on what users do next",
		Long: `Goes on with the training of a pretrained text encoder, so that the text of a user's
profile, description and what was liked last, lies near the text of the item that the
user took to next. Only training events are learnt from. What is kept is the encoder
with the best recall@10 on validation: how often the next item is among the ten nearest
of all items. The encoder as it came takes part.

OUT is a Hugging Face folder: wisp train --encoder OUT uses it, with the same --split,
and so do transformers and sentence-transformers. OUT/run has curves of loss and recall.

--losses sums losses: contrastive, by which a profile must find its item among those of
the batch, and masked-lm, by which hidden words of both texts must be guessed, as in
wisp pretrain. A loss that is not named has the weight 0.

Ctrl-C saves; --resume goes on, to the same result as an unbroken run on the same
machine. --frozen-layers and --max-tokens save time; the lower blocks of an encoder have
the least to learn. --adapter-rank 8 trains changes of low rank and nothing else, merged
into the encoder at the end: moments and checkpoints are a fraction of the usual, a step
takes as long. It asks for a higher --lr.`,
		Example: `  wisp finetune prepared --encoder all-MiniLM-L6-v2 --out encoder --max-tokens 64
  wisp finetune prepared --encoder all-MiniLM-L6-v2 --out encoder --resume --max-tokens 64
  wisp finetune prepared --encoder all-MiniLM-L6-v2 --out encoder --frozen-layers 4 --lr 5e-5
  wisp finetune prepared --encoder all-MiniLM-L6-v2 --out encoder --adapter-rank 8 --lr 3e-4
  wisp finetune prepared --encoder all-MiniLM-L6-v2 --out encoder --losses contrastive=1,masked-lm=0.1
  wisp train prepared --encoder encoder --out model`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r.data = args[0]
			result, err := r.run(cmd.Context(), newProgress(cmd))
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: validation recall@10 %.4f in epoch %d, %.4f before%s\n", r.out, result.Best, result.BestEpoch, result.Before, memoryNote())
			return nil
		},
	}
	f, o := c.Flags(), &r.Options
	r.flags(f, o, "folder for the fine-tuned one")
	deviceFlag(f, &r.device)
	f.StringVar(&r.Protocol, "split", leaveOneOut, "what is held back for validation and test: leave-one-out or time")
	f.StringVar(&r.Profile, "profile", data.DefaultProfileText, "template of the profile text, of .User, .Description, .Attributes and .Liked")
	f.IntVar(&r.Titles, "titles", 0, "titles of liked items that a profile names (default 10)")
	f.IntVar(&r.MaxTokens, "max-tokens", 0, "tokens that a text is cut to (default: what the encoder says)")
	f.IntVar(&r.MaxPairs, "max-pairs", 0, "pairs of profile and next item in an epoch (default 10,000, negative for all)")
	f.IntVar(&o.Pairs, "batch", 0, "pairs of a batch (default 32)")
	r.losses.to = &o.Losses
	f.Var(&r.losses, "losses", "`loss=weight` of what is summed, contrastive and masked-lm")
	f.Float64Var(&o.Temperature, "temperature", 0, "by which cosines are divided (default 0.05)")
	f.Float64Var(&o.Smoothing, "smoothing", 0, "label smoothing of the contrastive loss (default none)")
	required(c, "encoder", "out")
	return c
}

// finetuneRun is one fine-tuning.
type finetuneRun struct {
	textTraining
	data   string
	losses lossWeights
	finetuneSettings
}

// finetuneSettings are what a fine-tuning started from.
type finetuneSettings struct {
	Encoder   string                   `json:"encoder"`  // folder of the pretrained one
	Data      string                   `json:"data"`     // name of the data set
	Manifest  string                   `json:"manifest"` // digest of its manifest's files
	Protocol  string                   `json:"protocol"` // of the split
	Profile   string                   `json:"profile"`  // template
	Titles    int                      `json:"titles"`   // in a profile; this and what follows 0 for the default
	MaxTokens int                      `json:"max_tokens"`
	MaxPairs  int                      `json:"max_pairs"`
	Options   hostgpu.TextTrainOptions `json:"options"`
	BLAS      string                   `json:"blas"`
}

// finetuning is how a fine-tuned encoder came about.
type finetuning struct {
	finetuneSettings
	Before    float64 `json:"before"` // recall@10 on validation of the pretrained encoder
	Best      float64 `json:"best"`
	BestEpoch int     `json:"best_epoch"`
}

func (r *finetuneRun) run(ctx context.Context, p *progress) (result finetuning, err error) {
	defer p.done()
	if err := r.losses.check(); err != nil {
		return result, err
	}
	ds, fingerprint, err := loadData(r.data)
	if err != nil {
		return result, err
	}
	s, err := split(ds, r.Protocol)
	if err != nil {
		return result, err
	}
	tok, m, err := loadEncoder(r.encoder)
	if err != nil {
		return result, err
	}
	profile, err := data.NewProfileText(r.Profile, r.Titles)
	if err != nil {
		return result, err
	}
	task, err := hostgpu.NewProfileTask(ds, s, tok, m.Config, hostgpu.ProfileTaskOptions{
		Profile: profile, MaxTokens: r.MaxTokens, MaxPairs: r.MaxPairs, Seed: r.Options.Seed,
	})
	if err != nil {
		return result, err
	}
	device, err := openDevice(r.device, p)
	if err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, device.Close()) }()
	r.Options.Special, r.Options.Device = tok.Special(), device
	run, err := hostgpu.NewTextRun(m, task, r.Options)
	if err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, run.Close()) }()
	if err := r.makeDir(); err != nil {
		return result, err
	}
	r.Encoder, r.Data, r.Manifest, r.Options, r.BLAS = r.encoder, ds.Name, fingerprint, run.Options(), cmp.Or(deviceName(device), hostgpu.BLAS().Name)
	p.line("fine-tuning on %d items, %d users with %s", len(ds.Items), len(ds.Users), r.BLAS)
	if err := r.fit(ctx, run, r.finetuneSettings, len(task.Valid) > 0, p); err != nil {
		return result, err
	}
	result.finetuneSettings = r.finetuneSettings
	result.Before, result.Best, result.BestEpoch = run.Best()
	if result.BestEpoch == 0 {
		p.line("no epoch did better than the encoder as it came, which is what is kept; try another --lr or more --max-pairs")
	}
	return result, r.save(run.Model(), result)
}

// lossWeights is the flag of TextLosses: loss=weight, and more after commas or in
// further flags.
type lossWeights struct {
	to     *hostgpu.TextLosses
	towers bool // the loss of the towers is among them
	given  bool
}

// losses are the weights by the names that the flag has for them.
func (l *lossWeights) losses() map[string]*float64 {
	all := map[string]*float64{"contrastive": &l.to.Contrastive, "masked-lm": &l.to.MaskedLM}
	if l.towers {
		all["next-item"] = &l.to.NextItem
	}
	return all
}

// check reports weights that leave nothing to train on.
func (l *lossWeights) check() error {
	if l.given && *l.to == (hostgpu.TextLosses{}) {
		return errors.New("--losses gives every loss the weight 0; give one a weight above it")
	}
	return nil
}

// Set is pflag.Value's.
func (l *lossWeights) Set(s string) error {
	for pair := range strings.SplitSeq(s, ",") {
		name, text, found := strings.Cut(pair, "=")
		weight, known := l.losses()[strings.TrimSpace(name)]
		if !known {
			return fmt.Errorf("loss %q is unknown; choose among %s", name, strings.Join(slices.Sorted(maps.Keys(l.losses())), " and "))
		}
		v, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
		if !found || err != nil {
			return fmt.Errorf("%q is no weight of a loss; write it as in contrastive=1,masked-lm=0.1", pair)
		}
		*weight, l.given = v, true
	}
	return nil
}

// String is pflag.Value's.
func (l *lossWeights) String() string {
	if !l.given {
		return "contrastive=1" // what no weights mean
	}
	var pairs []string
	for _, name := range slices.Sorted(maps.Keys(l.losses())) {
		pairs = append(pairs, fmt.Sprintf("%s=%v", name, *l.losses()[name]))
	}
	return strings.Join(pairs, ",")
}

// Type is pflag.Value's; a file of --config may have a mapping for one that
// begins so.
func (l *lossWeights) Type() string { return "stringToFloat64" }
