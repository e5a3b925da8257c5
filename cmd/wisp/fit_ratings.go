package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/wisp-project/wisp/hostgpu"
	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/model"
)

// ratingFile holds the rating head of the model in the same folder; its metadata entry
// fittedKey says how it came about.
const (
	ratingFile = "rating.safetensors"
	fittedKey  = "wisp.fitted"
)

// headOrigin says what a head was fitted to.
type headOrigin struct {
	Model   string `json:"model,omitempty"`   // digest of the file of the model that a rating head is of
	Encoder string `json:"encoder,omitempty"` // digest of the encoder that classes of texts are of
	Options any    `json:"options"`
	Fit     any    `json:"fit"`
	Wisp    string `json:"wisp,omitempty"`    // version of the program
	Command string `json:"command,omitempty"` // the command line
}

// metadata returns f as that of a file.
func (f headOrigin) metadata() (map[string]string, error) {
	b, err := json.Marshal(f)
	return map[string]string{fittedKey: string(b)}, err
}

// readOrigin is the reverse of metadata.
func readOrigin(path string, metadata map[string]string) (f headOrigin, err error) {
	if err := json.Unmarshal([]byte(metadata[fittedKey]), &f); err != nil {
		return f, fmt.Errorf("%s: the metadata does not say how it was fitted: %w; fit it again", path, err)
	}
	return f, nil
}

func newFitRatings() *cobra.Command {
	var dataDir string
	var o hostgpu.TowerRatingOptions
	c := &cobra.Command{
		Use:   "fit-ratings MODEL",
		Short: "Fit what predicts the ratings that users would give",
		Long: `Fits a rating head to a trained model, which stays as it is, and puts it into the model's
folder; wisp compress takes it along. The artefact then answers what its user would rate
an item:

  mean + bias of the user + bias of the item + u'D v

for the model's user vector u and item vector v. The bias of the user is folded in from
the ratings of the history that a request brings, so nobody needs to be known. D is found
by gradient descent on the squared error of each training rating, predicted from the
events before it; validation ratings choose the epoch. A model that knows the validation
events (wisp train --refit) gets a head that was fitted to them too, for that many epochs.

The model is to be fitted anew after wisp train, distil, prune or retrain made another.`,
		Example: `  wisp fit-ratings model --data prepared
  wisp compress model --data prepared --out films.wisp
  wisp recommend films.wisp --data prepared --user 42 --rate 50,172`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			fit, err := fitRatings(cmd.Context(), args[0], dataDir, o, commandLine(cmd, args))
			if err != nil {
				return err
			}
			path := filepath.Join(args[0], ratingFile)
			if fit.Cases == 0 {
				fmt.Fprintf(cmd.OutOrStdout(), "%s: no validation event is a rating: %d epochs were not checked\n", path, fit.Epochs)
				return nil
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: off by %.4f on %d validation ratings (root mean square) in epoch %d, by %.4f without the vectors\n", path, fit.RMSE, fit.Cases, fit.Epochs, fit.Biases)
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&dataDir, "data", "", "the prepared data that the model was trained on")
	f.IntVar(&o.Epochs, "epochs", 0, "epochs at most (default 10)")
	f.IntVar(&o.Batch, "batch", 0, "ratings of a batch (default 1024)")
	f.IntVar(&o.Ratings, "ratings", 0, "ratings that are learnt from at most, of users by lot (default 1,000,000)")
	f.Float64Var(&o.LearningRate, "lr", 0, "learning rate (default 0.001)")
	f.Float64Var(&o.L2, "l2", 0, "weight of the squared map (default 0.01, negative for none)")
	f.Float64Var(&o.ItemL2, "item-l2", 0, "ratings that it takes to believe an item's bias half (default 2, negative for none)")
	f.Float64Var(&o.Shrink, "shrink", 0, "ratings that it takes to believe a user's bias half (default 5, negative for none)")
	f.Uint64Var(&o.Seed, "seed", 1, "seed of all chance")
	required(c, "data")
	return c
}

// fitRatings fits a rating head to the model in a folder and writes it there.
func fitRatings(ctx context.Context, dir, dataDir string, o hostgpu.TowerRatingOptions, command string) (hostgpu.TowerRatingFit, error) {
	m, t, ds, s, err := trained(dir, dataDir)
	if err != nil {
		return hostgpu.TowerRatingFit{}, err
	}
	h, fit, err := ratingHead(ctx, m, t, ds, s, o)
	if err != nil {
		return fit, err
	}
	digest, err := fileDigest(filepath.Join(dir, modelFile))
	if err != nil {
		return fit, err
	}
	metadata, err := headOrigin{Model: digest, Options: o.WithDefaults(), Fit: fit, Wisp: version(), Command: command}.metadata()
	if err != nil {
		return fit, err
	}
	return fit, model.SaveRatingHead(filepath.Join(dir, ratingFile), h, metadata)
}

// ratingHead fits one to a model that was trained on ds as split.
func ratingHead(ctx context.Context, m *model.Model, t training, ds *data.Dataset, s *data.Split, o hostgpu.TowerRatingOptions) (*model.RatingHead, hostgpu.TowerRatingFit, error) {
	h, fit, err := hostgpu.TrainTowerRatings(ctx, m, ds, s.Train, s.Valid, t.users, o)
	if err != nil || !t.Refit {
		return h, fit, err
	}
	o.Epochs = max(fit.Epochs, 1)
	h, _, err = hostgpu.TrainTowerRatings(ctx, m, ds, fittingData(ds, s), nil, t.users, o)
	if err == nil && fit.Epochs == 0 { // no map was better than one
		clear(h.Map.Data)
		clear(h.MapBias)
	}
	return h, fit, err
}

// loadRatings reads the rating head of the model in dir, nil where it has none, and the
// command that made it.
func loadRatings(dir string) (*model.RatingHead, string, error) {
	path := filepath.Join(dir, ratingFile)
	h, metadata, err := model.LoadRatingHead(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, "", nil
	}
	if err != nil {
		return nil, "", fmt.Errorf("%w; fit it again with wisp fit-ratings, or remove the file", err)
	}
	f, err := readOrigin(path, metadata)
	if err != nil {
		return nil, "", err
	}
	digest, err := fileDigest(filepath.Join(dir, modelFile))
	if err != nil {
		return nil, "", err
	}
	if f.Model != digest {
		return nil, "", fmt.Errorf("%s was fitted to another model than %s: fit it again with wisp fit-ratings, or remove the file", path, dir)
	}
	return h, f.Command, nil
}
