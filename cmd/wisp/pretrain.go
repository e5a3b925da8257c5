package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/wisp-project/wisp/hostgpu"
	"github.com/wisp-project/wisp/internal/data"
)

func newPretrain() *cobra.Command {
	r := pretrainRun{textTraining: textTraining{command: "pretrain", metric: "loss"}}
	c := &cobra.Command{
		Use:   "pretrain [PREPARED]",
		Short: "Go on with the pre-training of a text encoder on texts of a domain",
		Long: `Goes on with the pre-training of a text encoder on texts like those it will read: some
words are hidden, and the encoder learns to guess them from the others. No behaviour is
needed. The texts are those of the items in PREPARED, the descriptions of its users, and
the lines of the files of --texts.

One text of twenty is held out; what is kept is the encoder with the least loss on these.
The encoder as it came takes part.

OUT is a Hugging Face folder: wisp finetune and wisp train take it with --encoder OUT, and
so do transformers and sentence-transformers. What guesses the words is the encoder's own
masked-language head where its folder has one, and starts anew otherwise; it is not kept.
The embeddings of texts are not what is trained here, so wisp finetune comes next. OUT/run
has curves of the loss.

Ctrl-C saves; --resume goes on, to the same result as an unbroken run on the same
machine. --frozen-layers and --max-tokens save time.`,
		Example: `  wisp pretrain prepared --encoder all-MiniLM-L6-v2 --out domain --max-tokens 64
  wisp pretrain --texts reviews.txt --encoder all-MiniLM-L6-v2 --out domain --frozen-layers 4
  wisp finetune prepared --encoder domain --out encoder`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				r.data = args[0]
			}
			result, err := r.run(cmd.Context(), newProgress(cmd))
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: loss of the texts held out %.4f in epoch %d, %.4f before%s\n", r.out, result.Best, result.BestEpoch, result.Before, memoryNote())
			return nil
		},
	}
	f, o := c.Flags(), &r.Options
	r.flags(f, o, "folder for the encoder that comes out")
	deviceFlag(f, &r.device)
	f.StringArrayVar(&r.files, "texts", nil, "`file` with a text a line; may be given more than once")
	f.IntVar(&r.MaxTokens, "max-tokens", 0, "tokens that a text is cut to (default: what the encoder says)")
	f.IntVar(&o.Pairs, "batch", 0, "texts of a batch (default 32)")
	required(c, "encoder", "out")
	return c
}

// pretrainRun is one pre-training.
type pretrainRun struct {
	textTraining
	data  string
	files []string
	pretrainSettings
}

// pretrainSettings are what a pre-training started from.
type pretrainSettings struct {
	Encoder   string                   `json:"encoder"`    // folder of the pretrained one
	Data      string                   `json:"data"`       // name of the data set, if there is one
	Manifest  string                   `json:"manifest"`   // digest of its manifest's files
	Texts     []string                 `json:"texts"`      // digests of the files of texts
	MaxTokens int                      `json:"max_tokens"` // that a text is cut to
	Options   hostgpu.TextTrainOptions `json:"options"`
	BLAS      string                   `json:"blas"`
}

// pretraining is how a pretrained encoder came about.
type pretraining struct {
	pretrainSettings
	Before    float64 `json:"before"` // loss on the texts held out of the encoder as it came
	Best      float64 `json:"best"`
	BestEpoch int     `json:"best_epoch"`
}

func (r *pretrainRun) run(ctx context.Context, p *progress) (result pretraining, err error) {
	defer p.done()
	texts, err := r.texts()
	if err != nil {
		return result, err
	}
	tok, m, err := loadEncoder(r.encoder)
	if err != nil {
		return result, err
	}
	c := m.Config
	if r.MaxTokens = cmp.Or(r.MaxTokens, c.MaxTokens); r.MaxTokens < 3 || r.MaxTokens > c.Positions {
		return result, fmt.Errorf("--max-tokens is %d, must lie between 3 and the %d of the encoder", r.MaxTokens, c.Positions)
	}
	ids := make([][]int32, len(texts))
	for i, text := range texts {
		ids[i] = tok.Encode(nil, text, r.MaxTokens)
	}
	device, err := openDevice(r.device, p)
	if err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, device.Close()) }()
	r.Options.Special, r.Options.Device = tok.Special(), device
	run, err := hostgpu.NewPretrainRun(m, ids, r.Options)
	if err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, run.Close()) }()
	if err := r.makeDir(); err != nil {
		return result, err
	}
	r.Encoder, r.Options, r.BLAS = r.encoder, run.Options(), cmp.Or(deviceName(device), hostgpu.BLAS().Name)
	head := "its own masked-language head"
	if m.Masked == nil {
		head = "a new masked-language head"
	}
	p.line("pre-training on %d texts with %s and %s", len(texts), head, r.BLAS)
	if err := r.fit(ctx, run, r.pretrainSettings, true, p); err != nil {
		return result, err
	}
	result.pretrainSettings = r.pretrainSettings
	result.Before, result.Best, result.BestEpoch = run.Best()
	if result.BestEpoch == 0 {
		p.line("no epoch did better than the encoder as it came, which is what is kept; try another --lr or more texts")
	}
	return result, r.save(run.Model(), result)
}

// texts reads what there is to read, and notes what that was.
func (r *pretrainRun) texts() ([]string, error) {
	if r.data == "" && len(r.files) == 0 {
		return nil, errors.New("no texts to train on; name a folder that wisp prepare made, or a file with --texts")
	}
	var texts []string
	add := func(text string) {
		if text = strings.TrimSpace(text); text != "" {
			texts = append(texts, text)
		}
	}
	if r.data != "" {
		ds, fingerprint, err := loadData(r.data)
		if err != nil {
			return nil, err
		}
		r.Data, r.Manifest = ds.Name, fingerprint
		for i := range ds.Items {
			add(data.ItemText(&ds.Items[i]))
		}
		for i := range ds.Users {
			add(ds.Users[i].Description)
		}
	}
	for _, path := range r.files {
		content, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("--texts: %w; check the path", err)
		}
		r.Texts = append(r.Texts, fmt.Sprintf("%x", sha256.Sum256(content)))
		n := 0
		for line := range strings.Lines(string(content)) {
			if n++; !utf8.ValidString(line) {
				return nil, fmt.Errorf("%s:%d is not UTF-8; convert the file, for instance with iconv", path, n)
			}
			add(line)
		}
	}
	return texts, nil
}
