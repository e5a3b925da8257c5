package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/wisp-project/wisp/artifact"
	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/model"
	"github.com/wisp-project/wisp/quantize"
	"github.com/wisp-project/wisp/wasm"
)

func newCompress() *cobra.Command {
	var dataDir, out, encoder, classes string
	var o quantize.BuildOptions
	var look search
	var licences []string
	var attributes bool
	c := &cobra.Command{
		Use:   "compress MODEL",
		Short: "Quantize a model to int8 and pack it into an artefact",
		Long: `Quantizes the weights for each output channel, the items for each row, and the
activations with ranges calibrated on training histories; prints how far each layer
is from float32; and writes the artefact: image, kernel, catalogue, and golden
requests with the exact bits of their answers. The artefact was run in a sandbox
before it is written.

With --encoder the text encoder that the model was trained with goes in too, with its
tokenizer and the vectors of the items' texts: the artefact then finds items by words,
places new ones by their texts, and reads descriptions of users where the model was
trained with them. It must be all that the model knows of texts, as after
wisp train --features 0 --encoder.

With --budget, --max-latency or --min-retention the model is pruned first, to the smallest
of several shapes that keeps within them, and its items get eight, six or four bits; the
table says what each comes to, and which are on the Pareto front. Shapes over the budget or
too slow are not trained. What is kept is compared on validation, as it is packed.

A rating head that wisp fit-ratings put into the model's folder goes in too, and with
--classes what wisp fit-classes fitted to the same --encoder.

With --attributes explanations also name what of an item speaks for it: its categories,
its words, what an encoder reads in its text, or what the item itself is.`,
		Example: `  wisp compress model --data prepared --out shop.wisp
  wisp compress model --data prepared --out shop.wisp --encoder all-MiniLM-L6-v2
  wisp compress model --data prepared --out shop.wisp --budget 200KB --max-latency 300us --min-retention 0.99 --front front.svg
  wisp compress model --data prepared --out shop.wisp --name shop-nl --model-version 7 --licence "weights=Apache-2.0"`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, l := range licences {
				parsed, err := parseLicence(l)
				if err != nil {
					return err
				}
				o.Licences = append(o.Licences, parsed)
			}
			if o.Created == "" {
				o.Created = time.Now().UTC().Format(time.RFC3339)
			}
			if err := checkOutput(out); err != nil {
				return err
			}
			dir := args[0]
			if look.asked() {
				if encoder != "" {
					return errors.New("--encoder with a budget: a model that takes its text encoder along is not pruned; give one of them")
				}
				if _, err := os.Stat(filepath.Join(dir, ratingFile)); err == nil {
					return fmt.Errorf("%s has a rating head, which is of no pruned model: prune with wisp prune, fit with wisp fit-ratings, then compress without a budget; or remove %s", dir, ratingFile)
				}
				if look.work == "" {
					look.work = out + ".search"
				}
				if o.ItemBits != 0 {
					look.bits = []int{o.ItemBits}
				}
				found, err := look.run(cmd.Context(), cmd.OutOrStdout(), dir, dataDir, newProgress(cmd))
				if err != nil {
					return err
				}
				dir, o.ItemBits = found.dir, found.bits
			}
			m, t, ds, s, err := trained(dir, dataDir)
			if err != nil {
				return err
			}
			o.Metrics = []artifact.Metric{{
				Name: "teacher.validation.ndcg10", Value: t.BestNDCG, Low: t.BestNDCG, High: t.BestNDCG, N: len(s.Valid), Protocol: s.Protocol,
			}}
			if o.Text, err = textPart(encoder, dir, m, t, ds); err != nil {
				return err
			}
			heads := &headSources{}
			if err := heads.add(&o, dir, classes); err != nil {
				return err
			}
			if attributes {
				if o.Attributes, err = attributeVectors(m, t, ds); err != nil {
					return err
				}
			}
			a, layers, err := compress(cmd.Context(), m, t, ds, s, o)
			if err != nil {
				return err
			}
			if a.Manifest.Provenance, err = provenance(cmd, args, t, dataDir, append([]string{filepath.Join(dir, modelFile)}, heads.files...)...); err != nil {
				return err
			}
			heads.note(a.Manifest.Provenance)
			if err := artifact.WriteFile(out, a, artifact.WriteOptions{}); err != nil {
				return err
			}
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', tabwriter.AlignRight)
			fmt.Fprintln(w, "layer\trelative error\tlargest error\tcosine\t")
			for _, l := range layers {
				fmt.Fprintf(w, "%s\t%.4f\t%.4f\t%.5f\t\n", l.Site, l.Relative, l.Max, l.Cosine)
			}
			if err := w.Flush(); err != nil {
				return err
			}
			before, err := fileSize(filepath.Join(args[0], modelFile))
			if err != nil {
				return err
			}
			if o.Text != nil {
				for _, w := range o.Text.Encoder.Weights {
					before += 4 * int64(len(w.Data))
				}
			}
			after, err := fileSize(out)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: %d bytes, kernel and catalogue included; the float32 weights have %d\n", out, after, before)
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&dataDir, "data", "", "the prepared data that the model was trained on")
	f.StringVar(&out, "out", "", "the artefact to write")
	f.StringVar(&encoder, "encoder", "", "text encoder that the model was trained with, to go into the artefact: a folder"+orBuiltin)
	f.StringVar(&classes, "classes", "", "`file` of wisp fit-classes: what texts are sorted into, with the same --encoder")
	f.BoolVar(&attributes, "attributes", false, "put the vectors of words and categories in, so that explanations can name them")
	f.IntVar(&o.ItemBits, "item-bits", 0, "bits of a value of an item's vector, 3 to 8 (default 8, or what a search finds)")
	f.StringVar(&o.Name, "name", "", "name of the model (default: that of the data)")
	f.Uint64Var(&o.Version, "model-version", 1, "version of the model; a gateway refuses to go back")
	f.StringVar(&o.Tenant, "tenant", "", "whom the model serves")
	f.StringVar(&o.Created, "created", "", "time to state, RFC 3339 (default: now)")
	f.StringArrayVar(&licences, "licence", nil, "WHAT=LICENCE, for example data=CC0-1.0; may be repeated")
	f.Var(&look.budget, "budget", "the artefact may have so many bytes, for example 2MB (default: no bound)")
	f.DurationVar(&look.latency, "max-latency", 0, "a request may take so long in the sandbox here, for example 300us")
	f.Float64Var(&look.retention, "min-retention", 0, "share of the model's validation NDCG@10 that must be kept, or of that of --teacher")
	f.StringVar(&look.teacher, "teacher", "", "`folder` of an ensemble that pruned models recover by and are compared with (default: the model)")
	f.IntVar(&look.epochs, "recover-epochs", 5, "epochs that a pruned model recovers for")
	f.StringVar(&look.work, "work", "", "`folder` for pruned models, which are used again (default: OUT.search)")
	f.StringVar(&look.svg, "front", "", "draw the front into this `file`, SVG")
	required(c, "data", "out")
	return c
}

func parseLicence(s string) (artifact.Licence, error) {
	for i := range s {
		if s[i] == '=' && i > 0 && i+1 < len(s) {
			return artifact.Licence{What: s[:i], Licence: s[i+1:]}, nil
		}
	}
	return artifact.Licence{}, fmt.Errorf("--licence %q is not of the form WHAT=LICENCE", s)
}

// trained loads a model and the data it was trained on, split as it was then.
func trained(modelDir, dataDir string) (*model.Model, training, *data.Dataset, *data.Split, error) {
	m, t, err := loadModel(modelDir)
	if err != nil {
		return nil, t, nil, nil, err
	}
	ds, fingerprint, err := loadData(dataDir)
	if err != nil {
		return nil, t, nil, nil, err
	}
	if err := t.fits(m, ds, fingerprint); err != nil {
		return nil, t, nil, nil, err
	}
	s, err := split(ds, t.Protocol)
	return m, t, ds, s, err
}

// textPart returns what goes into the artefact of the model in modelDir of the text
// encoder in dir, nothing where dir is empty, or says why that cannot be.
func textPart(dir, modelDir string, m *model.Model, t training, ds *data.Dataset) (*quantize.Text, error) {
	v := t.Vectors
	switch {
	case dir == "" && v.Descriptions && v.Encoder != "":
		return nil, fmt.Errorf("the model reads the users' descriptions, which takes the text encoder that read them in training: "+
			"give it with --encoder %s, or train without --descriptions", v.Encoder)
	case dir == "" && v.Descriptions:
		return nil, errors.New("the model reads the users' descriptions by their words, which a sandbox does not: " +
			"train with --features 0 --encoder FOLDER --descriptions, or without --descriptions")
	case dir == "":
		return nil, nil
	case v.Encoder == "" || v.TFIDF != 0:
		return nil, fmt.Errorf("the model knows the items' texts by TF-IDF, which a sandbox does not compute: "+
			"train one that knows them by the encoder alone, wisp train PREPARED --features 0 --encoder %s", dir)
	case v.Tuned && v.Descriptions:
		return nil, errors.New("the model reads items by the encoder that was trained with it and users by the one it started from, " +
			"and an artefact has room for one: train without --tune-encoder or without --descriptions")
	case t.EncoderDigest == "":
		return nil, errors.New("the model does not say which encoder made its vectors: train it again")
	}
	tok, encoder, err := loadEncoder(dir)
	if err != nil {
		return nil, err
	}
	if encoderDigest(tok, encoder, ds) != t.EncoderDigest {
		was := v.Encoder
		if v.Tuned {
			was = filepath.Join(modelDir, encoderFolder)
		}
		return nil, fmt.Errorf("%s is not the encoder that made the model's vectors, which was in %s: give that one, or train again with this", dir, was)
	}
	return &quantize.Text{
		Encoder: encoder, Tokenizer: tok,
		ItemMap: m.Weights[model.ItemFeatures], UserMap: m.Weights[model.UserDescription], ItemTexts: t.items,
	}, nil
}

// compress builds the artefact of a model and measures each layer on validation
// histories.
func compress(ctx context.Context, m *model.Model, t training, ds *data.Dataset, s *data.Split, o quantize.BuildOptions) (*artifact.Artifact, []quantize.LayerError, error) {
	o.Kernel = wasm.Kernel
	histories, descriptions := calibration(s, t.users)
	if o.Text != nil {
		o.Text.Descriptions = descriptions
	}
	a, err := quantize.Build(ctx, m, ds, histories, o)
	if err != nil {
		return nil, nil, err
	}
	image, err := a.Image()
	if err != nil {
		return nil, nil, err
	}
	const most = 200
	layers, err := quantize.LayerErrors(m, image.Bytes(), histories[:min(len(histories), most)])
	return a, layers, err
}

func fileSize(path string) (int64, error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}
