package main

import (
	"context"
	"fmt"
	"math"

	"github.com/wisp-project/wisp/hostgpu"
	"github.com/wisp-project/wisp/internal/baseline"
	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/internal/eval"
	"github.com/wisp-project/wisp/internal/results"
)

const ratingsText = `
How far predicted ratings are from given ones: root of the mean squared error (rmse) and
mean absolute error (mae), in the scale of the data set. Five folds: fold of rating i is
p[i] mod 5 for a permutation p drawn with seed 1 (eval.Folds); each fold is predicted by
models fitted on the other four. Intervals: Student's t over the folds.

rating-mean: the mean of all ratings. rating-bias: mean, bias of the user, bias of the
item. rating-mf: biased matrix factorisation (Koren, Bell and Volinsky 2009). rating-head:
rating regression θ(u)ᵀx(v) on learnt features of user and item: identity, who rated what,
attributes, words.

later: the last rating of each user of five events or more, predicted from the events
before it, as a sequence model can be asked; the one before it validates. rating-towers:
the rating head that wisp fit-ratings folds in from the history, on the towers of the usual
model, in int8 in the sandbox, and -fp32 in float32; its options were chosen on validation
ratings. rating-bias beside it knows all ratings before the last. Intervals there:
bootstrap over users, errors being means over the seeds.

Within the four folds that train, a tenth chosen by lot (seed 2) is held out: the weight
of L2 is the best of three on it, and so is the number of epochs or steps; the model is
then fitted anew on all four. The other options are the defaults of the packages, chosen
once by the mean error over the five tenths; so for each fold, four of the tenths behind
the defaults have ratings of that fold among them.
`

// The folds of the ratings topic, and the part of a training fold that chooses.
const (
	ratingFolds     = 5
	ratingFoldSeed  = 1
	ratingValidPart = 10
	ratingValidSeed = 2
)

// ratingFit fits a rating predictor on the ratings of each user.
type ratingFit func(ctx context.Context, train [][]data.Interaction) (eval.RatingPredictor, error)

// ratings measures the prediction of ratings.
func (b *bench) ratings(ctx context.Context) (results.Topic, error) {
	t := results.Topic{Title: "Prediction of ratings", Text: ratingsText}
	sets := b.present(b.sets()[0])
	if len(sets) == 0 {
		return t, nil
	}
	ds, fingerprint, err := b.prepared(ctx, sets[0])
	if err != nil {
		return t, err
	}
	histories := eval.Ratings(ds)
	for _, m := range []struct {
		name string
		fit  ratingFit
	}{
		{"rating-mean", func(_ context.Context, train [][]data.Interaction) (eval.RatingPredictor, error) {
			return baseline.NewRatingMean(train)
		}},
		{"rating-bias", func(_ context.Context, train [][]data.Interaction) (eval.RatingPredictor, error) {
			return baseline.NewRatingBias(train, len(ds.Items), baseline.RatingBiasOptions{})
		}},
		{"rating-mf", fitFactors(ds)},
		{"rating-head", fitHead(ds)},
	} {
		c, err := eval.CrossValidateRatings(ctx, histories, ratingFolds, ratingFoldSeed,
			func(ctx context.Context, fold int, train [][]data.Interaction) (eval.RatingPredictor, error) {
				b.p.stage(m.name+", folds", int64(fold), ratingFolds)
				return m.fit(ctx, train)
			})
		if err != nil {
			return t, fmt.Errorf("%s: %w", m.name, err)
		}
		note := "folds:"
		for _, e := range c.Folds {
			note += fmt.Sprintf(" %.4f", e.RMSE)
		}
		prefix := "quality." + ds.Name + "." + m.name + "."
		t.Records = append(t.Records,
			results.Record{Name: prefix + "rmse", Value: c.RMSE.Value, Low: c.RMSE.Low, High: c.RMSE.High, N: ratingFolds, Note: note},
			results.Record{Name: prefix + "mae", Value: c.MAE.Value, Low: c.MAE.Low, High: c.MAE.High, N: ratingFolds})
	}
	later, err := b.laterRatings(ctx, ds, fingerprint)
	t.Records = append(t.Records, later...)
	return t, err
}

// fitFactors returns the fit of a matrix factorisation with options chosen on a
// part of its training data.
func fitFactors(ds *data.Dataset) ratingFit {
	return func(ctx context.Context, train [][]data.Interaction) (eval.RatingPredictor, error) {
		best, err := chooseRating(ctx, train, []float64{0.9, 1.2, 1.5},
			func(rest, held [][]data.Interaction, l2 float64) (*baseline.RatingFactors, baseline.RatingFactorOptions, error) {
				o := baseline.RatingFactorOptions{FactorL2: l2}
				m, err := baseline.NewRatingFactors(ctx, rest, held, len(ds.Items), o)
				if err == nil {
					o.Epochs = m.Epochs()
				}
				return m, o, err
			})
		if err != nil {
			return nil, err
		}
		return baseline.NewRatingFactors(ctx, train, nil, len(ds.Items), best)
	}
}

// fitHead returns the fit of a rating head, likewise.
func fitHead(ds *data.Dataset) ratingFit {
	return func(ctx context.Context, train [][]data.Interaction) (eval.RatingPredictor, error) {
		best, err := chooseRating(ctx, train, []float64{2, 2.5, 3},
			func(rest, held [][]data.Interaction, l2 float64) (*hostgpu.RatingHead, hostgpu.RatingOptions, error) {
				o := hostgpu.RatingOptions{L2: l2}
				h, err := hostgpu.TrainRatings(ctx, ds.Users, ds.Items, rest, held, o)
				if err == nil {
					o.Steps = h.Steps()
				}
				return h, o, err
			})
		if err != nil {
			return nil, err
		}
		return hostgpu.TrainRatings(ctx, ds.Users, ds.Items, train, nil, best)
	}
}

// chooseRating holds out a part of train, calls try with each weight of L2, and
// returns the options of the predictor with the least error on that part.
func chooseRating[P eval.RatingPredictor, O any](ctx context.Context, train [][]data.Interaction, weights []float64,
	try func(rest, held [][]data.Interaction, l2 float64) (P, O, error),
) (best O, err error) {
	n := 0
	for _, h := range train {
		n += len(h)
	}
	folds, err := eval.Folds(n, ratingValidPart, ratingValidSeed)
	if err != nil {
		return best, err
	}
	rest, held, err := eval.HoldOut(train, folds, 0)
	if err != nil {
		return best, err
	}
	least := math.Inf(1)
	for _, l2 := range weights {
		if err := ctx.Err(); err != nil {
			return best, err
		}
		p, options, err := try(rest, held, l2)
		if err != nil {
			return best, err
		}
		e, err := eval.MeasureRatings(p, held)
		if err != nil {
			return best, err
		}
		if e.RMSE < least {
			least, best = e.RMSE, options
		}
	}
	return best, nil
}
