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
	Epochs       int     `json:"epochs"`        // over the ratings (10)
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

// TrainTowerRatings fits a rating head on the frozen towers of m: biases of items as
// shrunken means that leave the users' biases out, and the map by gradient descent
// (Adam) on the mean squared error of each rating in train, predicted from the events
// before it, with L2. train are the histories of users, all events; ds names their
// types, of which those called "rating" carry ratings. descriptions are the given
// vectors of the users' descriptions, (U, F_u), nil for none. The same arguments give
// the same head.
//
// The error is ErrOptions, ErrData where there is no rating or one is not finite,
// ErrDiverged, an error of model, or the context's.
func TrainTowerRatings(ctx context.Context, m *model.Model, ds *data.Dataset, train [][]data.Interaction, descriptions *model.Tensor, opts TowerRatingOptions) (*model.RatingHead, error) {
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	opts = opts.WithDefaults()
	rated := make([]bool, len(ds.Types))
	for i, t := range ds.Types {
		rated[i] = t.Name == data.Rating.String()
	}
	h, err := newRatingHead(m.Config, rated, train, opts)
	if err != nil {
		return nil, err
	}
	x := &towerRatings{head: h, m: m, rated: rated}
	scorer := NewScorer("", m).WithDescriptions(descriptions)
	for _, u := range rand.New(rand.NewPCG(opts.Seed, 0)).Perm(len(train)) {
		if len(x.rest) >= opts.Ratings {
			break
		}
		if err := x.add(ctx, scorer, int32(u), train[u]); err != nil {
			return nil, err
		}
	}
	if err := x.descend(ctx, opts); err != nil {
		return nil, err
	}
	return h, h.Validate(m.Config)
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

// towerRatings are ratings with what is known before each of them.
type towerRatings struct {
	head  *model.RatingHead
	m     *model.Model
	rated []bool

	users []float32 // (n, D) user vectors
	item  []int32
	rest  []float32 // what mean and biases leave unexplained
}

// add adds the ratings of a user.
func (x *towerRatings) add(ctx context.Context, s *Scorer, user int32, history []data.Interaction) error {
	if len(history) == 0 {
		return nil
	}
	d, reach := x.m.Config.Dim, x.m.Config.Reach()
	before := append([]float32(nil), x.m.Weights[model.UserCold].Data...) // of no events
	if s.descriptions != nil {
		if err := s.describe(before, user); err != nil {
			return err
		}
	}
	if err := s.Users(ctx, user, history, 0, len(history)-1, func(u []float32) { before = append(before, u...) }); err != nil {
		return err
	}
	events := Events(history)
	for t, e := range history {
		if !x.rated[e.Type] {
			continue
		}
		x.users = append(x.users, before[t*d:(t+1)*d]...)
		x.item = append(x.item, e.Item)
		x.rest = append(x.rest, e.Value-x.head.Mean-x.head.Items[e.Item]-x.head.UserBias(events[max(0, t-reach):t]))
	}
	return nil
}

// descend fits map and bias to what is left.
func (x *towerRatings) descend(ctx context.Context, opts TowerRatingOptions) error {
	n, d := len(x.rest), x.m.Config.Dim
	order := rand.New(rand.NewPCG(opts.Seed, 1))
	batch := min(opts.Batch, n)
	weight, bias := x.head.Map, &model.Tensor{Shape: []int{d}, Data: x.head.MapBias}
	u, q, dq, du := make([]float32, batch*d), make([]float32, batch*d), make([]float32, batch*d), make([]float32, batch*d)
	dw, db := make([]float32, d*d), make([]float32, d)
	adam := newAdamW(0) // L2 is part of the loss
	s := Schedule{Peak: opts.LearningRate, Steps: opts.Epochs * (n / batch)}
	for step := 0; step < s.Steps; {
		places := order.Perm(n)
		for ; len(places) >= batch; places = places[batch:] {
			if err := ctx.Err(); err != nil {
				return err
			}
			for r, i := range places[:batch] {
				copy(u[r*d:(r+1)*d], x.users[i*d:])
			}
			linear(q, u, weight.Data, bias.Data, d, d)
			var loss float64
			for r, i := range places[:batch] {
				v := x.m.ItemVectors.Row(int(x.item[i]))
				e := -x.rest[i]
				for j, y := range q[r*d : (r+1)*d] {
					e += y * v[j]
				}
				loss += float64(e) * float64(e)
				for j := range v {
					dq[r*d+j] = 2 * e / float32(batch) * v[j]
				}
			}
			if math.IsNaN(loss) || math.IsInf(loss, 0) {
				return fmt.Errorf("%w: ratings: the loss is %v after %d steps; a smaller learning rate may help", ErrDiverged, loss, step)
			}
			linearBackward(du, dw, db, dq, u, weight.Data, d, d)
			for i, w := range weight.Data {
				dw[i] += float32(2*opts.L2) * w
			}
			adam.next()
			adam.update("map", weight, dw, s.Rate(step), 1)
			adam.update("bias", bias, db, s.Rate(step), 1)
			step++
		}
	}
	return nil
}
