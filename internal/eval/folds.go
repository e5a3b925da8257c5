package eval

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/wisp-project/wisp/internal/data"
)

// RatingPredictor predicts what rating a user would give an item.
type RatingPredictor interface {
	// Predict returns the rating in the data set's own scale. Users and items
	// that the predictor has not met, and indices out of range, get what is known
	// without them. Predict is safe for concurrent use.
	Predict(user, item int32) float64
}

// Ratings returns the ratings among the events of d, by user, in order of time.
func Ratings(d *data.Dataset) [][]data.Interaction {
	rating := data.Rating.String()
	histories := make([][]data.Interaction, len(d.Histories))
	for u, h := range d.Histories {
		for _, e := range h {
			if int(e.Type) < len(d.Types) && d.Types[e.Type].Name == rating {
				histories[u] = append(histories[u], e)
			}
		}
	}
	return histories
}

// Folds deals n events to k folds, whose sizes differ by one at most, and
// returns the fold of each: event i belongs to fold p[i] mod k, where p is a
// permutation drawn with the seed. The error is ErrInput unless 2 <= k <= n.
func Folds(n, k int, seed uint64) ([]int, error) {
	if k < 2 || n < k {
		return nil, fmt.Errorf("%w: %d folds of %d events; want at least 2, and an event for each", ErrInput, k, n)
	}
	folds := rand.New(rand.NewPCG(seed, 0)).Perm(n)
	for i := range folds {
		folds[i] %= k
	}
	return folds, nil
}

// HoldOut divides histories: held has the events of the given fold, rest all
// others, both by user and in the same order. folds has the fold of each event,
// counted through the histories one user after the other; the error is ErrInput
// where it has another length.
func HoldOut(histories [][]data.Interaction, folds []int, fold int) (rest, held [][]data.Interaction, err error) {
	if n := countEvents(histories); n != len(folds) {
		return nil, nil, fmt.Errorf("%w: %d events and the folds of %d", ErrInput, n, len(folds))
	}
	rest, held = make([][]data.Interaction, len(histories)), make([][]data.Interaction, len(histories))
	i := 0
	for u, h := range histories {
		for _, e := range h {
			if folds[i] == fold {
				held[u] = append(held[u], e)
			} else {
				rest[u] = append(rest[u], e)
			}
			i++
		}
	}
	return rest, held, nil
}

// RatingError is how far predictions are from ratings, on average.
type RatingError struct {
	RMSE, MAE float64
}

// MeasureRatings compares the predictions of p with the ratings in histories.
// The error is ErrInput where there are none, and ErrNaN for a prediction that
// is not a number.
func MeasureRatings(p RatingPredictor, histories [][]data.Interaction) (RatingError, error) {
	n := countEvents(histories)
	predicted, actual := make([]float64, 0, n), make([]float64, 0, n)
	for u, h := range histories {
		for _, e := range h {
			y := p.Predict(int32(u), e.Item)
			if math.IsNaN(y) {
				return RatingError{}, fmt.Errorf("%w: predicted rating of user %d for item %d", ErrNaN, u, e.Item)
			}
			predicted, actual = append(predicted, y), append(actual, float64(e.Value))
		}
	}
	rmse, err := RMSE(predicted, actual)
	if err != nil {
		return RatingError{}, err
	}
	mae, err := MAE(predicted, actual)
	return RatingError{RMSE: rmse, MAE: mae}, err
}

// CrossValidation is the outcome of CrossValidateRatings.
type CrossValidation struct {
	// RMSE and MAE are means over the folds with intervals by Student's t. The
	// folds share training data, so the intervals are a little too narrow.
	RMSE, MAE Interval
	Folds     []RatingError // of each fold
}

// CrossValidateRatings measures how well ratings can be predicted: the ratings
// in histories are dealt to k folds, as by Folds, and each fold in turn is held
// out and predicted by what fit makes of the others. train has the users of
// histories; fit may divide it again to choose hyper-parameters, and must not
// write to it.
func CrossValidateRatings(ctx context.Context, histories [][]data.Interaction, k int, seed uint64,
	fit func(ctx context.Context, fold int, train [][]data.Interaction) (RatingPredictor, error),
) (*CrossValidation, error) {
	folds, err := Folds(countEvents(histories), k, seed)
	if err != nil {
		return nil, err
	}
	c := &CrossValidation{}
	var rmse, mae []float64
	for fold := range k {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		train, test, err := HoldOut(histories, folds, fold)
		if err != nil {
			return nil, err
		}
		p, err := fit(ctx, fold, train)
		if err != nil {
			return nil, fmt.Errorf("eval: fold %d of %d: %w", fold+1, k, err)
		}
		e, err := MeasureRatings(p, test)
		if err != nil {
			return nil, err
		}
		c.Folds = append(c.Folds, e)
		rmse, mae = append(rmse, e.RMSE), append(mae, e.MAE)
	}
	if c.RMSE, err = StudentT(rmse); err != nil {
		return nil, err
	}
	c.MAE, err = StudentT(mae)
	return c, err
}

func countEvents(histories [][]data.Interaction) int {
	n := 0
	for _, h := range histories {
		n += len(h)
	}
	return n
}
