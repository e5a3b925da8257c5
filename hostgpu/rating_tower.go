package hostgpu

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/model"
)

// TowerRatingOptions are the hyper-parameters of a rating head on frozen towers. A zero
// field means its default; the defaults were chosen on validation data.
type TowerRatingOptions struct {
	Epochs       int     `json:"epochs"`        // over the ratings, at most (10)
	Batch        int     `json:"batch"`         // ratings a step (1024)
	LearningRate float64 `json:"learning_rate"` // falls to 0 along a cosine (0.001); must be positive
	L2           float64 `json:"l2"`            // weight of the squared map (0.01); negative for none
	ItemL2       float64 `json:"item_l2"`       // ratings that it takes to believe an item's bias half (2); negative for none
	Shrink       float64 `json:"shrink"`        // the same of a user's (5); negative for none
	Ratings      int     `json:"ratings"`       // that are learnt from, at most, of users by lot (1,000,000)
	Seed         uint64  `json:"seed"`          // of the lot and of the order
}

// WithDefaults returns o with its defaults filled in.
func (o TowerRatingOptions) WithDefaults() TowerRatingOptions {
	for _, d := range []struct {
		v   *int
		def int
	}{{&o.Epochs, 10}, {&o.Batch, 1024}, {&o.Ratings, 1_000_000}} {
		if *d.v == 0 {
			*d.v = d.def
		}
	}
	for _, d := range []struct {
		v   *float64
		def float64
	}{{&o.LearningRate, 0.001}, {&o.L2, 0.01}, {&o.ItemL2, 2}, {&o.Shrink, 5}} {
		if *d.v == 0 {
			*d.v = d.def
		}
		*d.v = max(*d.v, 0)
	}
	return o
}

// Validate reports the first option that no run can follow.
func (o TowerRatingOptions) Validate() error {
	for _, f := range []struct {
		name string
		v    float64
	}{{"epochs", float64(o.Epochs)}, {"batch", float64(o.Batch)}, {"learning rate", o.LearningRate}, {"ratings", float64(o.Ratings)}} {
		if !(f.v >= 0) || math.IsInf(f.v, 0) {
			return fmt.Errorf("%w: ratings: %s is %v, must not be negative", ErrOptions, f.name, f.v)
		}
	}
	for _, f := range []struct {
		name string
		v    float64
	}{{"l2", o.L2}, {"item l2", o.ItemL2}, {"shrink", o.Shrink}} {
		if math.IsNaN(f.v) || math.IsInf(f.v, 0) {
			return fmt.Errorf("%w: ratings: %s is %v, must be a number", ErrOptions, f.name, f.v)
		}
	}
	return nil
}

// TowerRatingFit says how a rating head was found.
type TowerRatingFit struct {
	Epochs int     `json:"epochs"` // behind the map; 0 where mean and biases alone do best
	Cases  int     `json:"cases"`  // validation ratings
	RMSE   float64 `json:"rmse"`   // on them, in the scale of the data
	Biases float64 `json:"biases"` // the same of mean and biases alone
}

// TrainTowerRatings fits a rating head on the frozen towers of m: biases of items as
// shrunken means that leave the users' biases out, and the map by gradient descent
// (Adam) on the mean squared error of each rating in train, predicted from the events
// before it, with L2. Where valid has targets that are ratings, the epoch of the least
// error on them is kept. train are the histories of users, all events; ds names their
// types, of which those called "rating" carry ratings. descriptions are the given
// vectors of the users' descriptions, (U, F_u), nil for none. The same arguments give
// the same head.
//
// The error is ErrOptions, ErrData where there is no rating or one is not finite,
// ErrDiverged, an error of model, or the context's.
func TrainTowerRatings(ctx context.Context, m *model.Model, ds *data.Dataset, train [][]data.Interaction, valid []data.Case, descriptions *model.Tensor, opts TowerRatingOptions) (*model.RatingHead, TowerRatingFit, error) {
	var fit TowerRatingFit
	if err := opts.Validate(); err != nil {
		return nil, fit, err
	}
	opts = opts.WithDefaults()
	rated := make([]bool, len(ds.Types))
	for i, t := range ds.Types {
		rated[i] = t.Name == data.Rating.String()
	}
	h, err := newRatingHead(m.Config, rated, train, opts)
	if err != nil {
		return nil, fit, err
	}
	scorer := NewScorer("", m).WithDescriptions(descriptions)
	x, held := &towerRatings{head: h, m: m, rated: rated}, &towerRatings{head: h, m: m, rated: rated}
	for _, u := range rand.New(rand.NewPCG(opts.Seed, 0)).Perm(len(train)) {
		if len(x.value) >= opts.Ratings {
			break
		}
		if err := x.add(ctx, scorer, int32(u), train[u], 0); err != nil {
			return nil, fit, err
		}
	}
	for _, c := range valid {
		if err := held.add(ctx, scorer, c.User, append(c.History[:len(c.History):len(c.History)], c.Target), len(c.History)); err != nil {
			return nil, fit, err
		}
	}
	if fit, err = x.descend(ctx, held, opts); err != nil {
		return nil, fit, err
	}
	return h, fit, h.Validate(m.Config)
}

// newRatingHead returns a head without a map: means, levels and biases.
func newRatingHead(c model.Config, rated []bool, train [][]data.Interaction, opts TowerRatingOptions) (*model.RatingHead, error) {
	levels, counts := make([]float64, c.EventTypes), make([]float64, c.EventTypes)
	low, high, sum, n := math.Inf(1), math.Inf(-1), 0.0, 0.0
	for u, h := range train {
		for _, e := range h {
			if e.Item < 0 || int(e.Item) >= c.Items || int(e.Type) >= c.EventTypes || int(e.Type) >= len(rated) {
				return nil, fmt.Errorf("%w: ratings: user %d has an event with item %d and type %d; the model has %d items and %d types", ErrData, u, e.Item, e.Type, c.Items, c.EventTypes)
			}
			if !rated[e.Type] {
				continue
			}
			v := float64(e.Value)
			if math.IsNaN(v) || math.IsInf(v, 0) {
				return nil, fmt.Errorf("%w: ratings: rating of user %d for item %d is %v", ErrData, u, e.Item, v)
			}
			low, high, sum, n = min(low, v), max(high, v), sum+v, n+1
			levels[e.Type] += v
			counts[e.Type]++
		}
	}
	if n == 0 {
		return nil, fmt.Errorf("%w: no event is a rating; predicted ratings take data with a rating column (wisp prepare)", ErrData)
	}
	h := &model.RatingHead{
		Low: float32(low), High: float32(high), Mean: float32(sum / n), Shrink: float32(opts.Shrink),
		Levels: make([]float32, c.EventTypes), Items: make([]float32, c.Items),
		Map: model.NewTensor(c.Dim, c.Dim), MapBias: make([]float32, c.Dim),
	}
	for t := range levels {
		h.Levels[t] = float32(levels[t] / counts[t]) // NaN where there is none
	}
	itemBiases(h.Items, train, rated, sum/n, opts)
	return h, nil
}

// itemBiases finds biases of items by alternating least squares with those of users:
// each is what the others leave unexplained, over the number of ratings plus a weight.
func itemBiases(items []float32, train [][]data.Interaction, rated []bool, mean float64, opts TowerRatingOptions) {
	user, sum, n := make([]float64, len(train)), make([]float64, len(items)), make([]float64, len(items))
	for range 20 {
		clear(sum)
		clear(n)
		for u, h := range train {
			for _, e := range h {
				if rated[e.Type] {
					sum[e.Item] += float64(e.Value) - mean - user[u]
					n[e.Item]++
				}
			}
		}
		for i := range items {
			if items[i] = 0; n[i] > 0 {
				items[i] = float32(sum[i] / (n[i] + opts.ItemL2))
			}
		}
		for u, h := range train {
			rest, k := 0.0, 0.0
			for _, e := range h {
				if rated[e.Type] {
					rest += float64(e.Value) - mean - float64(items[e.Item])
					k++
				}
			}
			if k > 0 {
				user[u] = rest / (k + opts.Shrink)
			}
		}
	}
}
