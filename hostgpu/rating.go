package hostgpu

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/model"
)

// RatingOptions are the hyper-parameters of a rating head. A zero field means
// its default; the defaults were chosen on validation data. Partners, Attributes
// and Text are weights: how much a kind of feature may contribute beside the
// identity of user and item, which has weight 1; negative for nothing.
type RatingOptions struct {
	Dim          int     `json:"dim"`           // length of learnt vectors (32)
	Steps        int     `json:"steps"`         // of gradient descent, at most (200)
	Every        int     `json:"every"`         // steps between validations (10)
	Patience     int     `json:"patience"`      // validations without a smaller error before stopping (3)
	LearningRate float64 `json:"learning_rate"` // falls to 0 along a cosine over Steps (0.015); must be positive
	L2           float64 `json:"l2"`            // weight of squared vectors (2.5); negative for none
	BiasL2       float64 `json:"bias_l2"`       // weight of squared biases (1); negative for none
	Partners     float64 `json:"partners"`      // which items a user rated, which users rated an item (0.7)
	Attributes   float64 `json:"attributes"`    // of users and items, and categories of items (0.3)
	Text         float64 `json:"text"`          // words of items by TF-IDF (0.3)
	Seed         uint64  `json:"seed"`          // of the initial vectors
}

func (o RatingOptions) withDefaults() RatingOptions {
	for _, d := range []struct {
		v   *int
		def int
	}{{&o.Dim, 32}, {&o.Steps, 200}, {&o.Every, 10}, {&o.Patience, 3}} {
		if *d.v == 0 {
			*d.v = d.def
		}
	}
	for _, d := range []struct {
		v   *float64
		def float64
	}{{&o.LearningRate, 0.015}, {&o.L2, 2.5}, {&o.BiasL2, 1}, {&o.Partners, 0.7}, {&o.Attributes, 0.3}, {&o.Text, 0.3}} {
		if *d.v == 0 {
			*d.v = d.def
		}
		*d.v = max(*d.v, 0)
	}
	return o
}

// Validate reports the first option that no run can follow.
func (o RatingOptions) Validate() error {
	for _, f := range []struct {
		name string
		v    int
	}{{"dim", o.Dim}, {"steps", o.Steps}, {"every", o.Every}, {"patience", o.Patience}} {
		if f.v < 0 {
			return fmt.Errorf("%w: rating head: %s is %d, must not be negative", ErrOptions, f.name, f.v)
		}
	}
	for _, f := range []struct {
		name string
		v    float64
	}{{"learning rate", o.LearningRate}, {"l2", o.L2}, {"bias l2", o.BiasL2}, {"partners", o.Partners}, {"attributes", o.Attributes}, {"text", o.Text}} {
		if math.IsNaN(f.v) || math.IsInf(f.v, 0) {
			return fmt.Errorf("%w: rating head: %s is %v, must be a number", ErrOptions, f.name, f.v)
		}
	}
	if o.LearningRate < 0 {
		return fmt.Errorf("%w: rating head: learning rate is %v, must not be negative", ErrOptions, o.LearningRate)
	}
	return nil
}

// RatingHead predicts the rating of user u for item v as θ(u)ᵀx(v), the
// classical form of rating regression: x(v) = (1, b(v), q(v)) describes the item
// and θ(u) = (b(u), 1, p(u)) holds the weights that the user gives it. In terms
// of the pair it is θᵀφ(u, v) with φ = (b(u), b(v), p(u)∘q(v)) and θ all ones,
// whose scale the learnt vectors carry. Ratings are counted from their mean in
// units of their standard deviation, so that options suit every scale.
//
// Bias and vector of a user, and of an item, are sums over its features: its
// identity, the items it rated (the users who rated it), its attributes, and the
// words of an item. So a user or item without ratings is described by the rest.
// The biases and vectors of features are found by gradient descent on the mean
// squared error with L2 regularisation, over all ratings at each step, with the
// step sizes of Adam.
//
// It is an eval.RatingPredictor, safe for concurrent use.
type RatingHead struct {
	ratingRows
	mean, scale, lo, hi float64
	steps               int
}

// TrainRatings fits a rating head on train, the ratings of each user, and stops
// early where valid has ratings: it keeps the step of least validation error.
// users and items describe the rows; users may be nil. The same arguments give
// the same head, whatever the number of CPUs.
//
// The error is ErrOptions; ErrData where histories do not fit users or items,
// hold no rating or one that is not finite; ErrDiverged; or the context's.
func TrainRatings(ctx context.Context, users []data.User, items []data.Item, train, valid [][]data.Interaction, opts RatingOptions) (*RatingHead, error) {
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	opts = opts.withDefaults()
	if err := checkRatings(users, items, train, valid); err != nil {
		return nil, err
	}
	x := newRatingExamples(train, len(items))
	h := &RatingHead{lo: float64(slices.Min(x.value)), hi: float64(slices.Max(x.value))}
	h.mean, h.scale = x.standardise()
	userFeatures, itemFeatures := ratingFeatures(users, items, x, opts)
	if err := h.descend(ctx, newRatingLoss(userFeatures, itemFeatures, x, opts), newRatingExamples(valid, len(items)), opts); err != nil {
		return nil, err
	}
	return h, nil
}

// checkRatings refuses histories that do not fit.
func checkRatings(users []data.User, items []data.Item, train, valid [][]data.Interaction) error {
	if users != nil && len(users) != len(train) {
		return fmt.Errorf("%w: rating head: %d users and the ratings of %d", ErrData, len(users), len(train))
	}
	if len(valid) > len(train) {
		return fmt.Errorf("%w: rating head: validation ratings of %d users and training ratings of %d", ErrData, len(valid), len(train))
	}
	n := 0
	for _, histories := range [][][]data.Interaction{train, valid} {
		for u, h := range histories {
			for _, e := range h {
				if e.Item < 0 || int(e.Item) >= len(items) {
					return fmt.Errorf("%w: rating head: user %d rated item %d of a catalogue of %d", ErrData, u, e.Item, len(items))
				}
				if v := float64(e.Value); math.IsNaN(v) || math.IsInf(v, 0) {
					return fmt.Errorf("%w: rating head: rating of user %d for item %d is %v", ErrData, u, e.Item, v)
				}
			}
			n += len(h)
		}
		if n == 0 {
			return fmt.Errorf("%w: rating head: no ratings", ErrData)
		}
	}
	return nil
}

// descend trains the tables of features and keeps what they give users and items.
func (h *RatingHead) descend(ctx context.Context, k *ratingLoss, valid *ratingExamples, opts RatingOptions) error {
	rng := rand.New(rand.NewPCG(opts.Seed, 0))
	users, items := model.NewTensor(k.users.columns, k.width), model.NewTensor(k.items.columns, k.width)
	for _, t := range []*model.Tensor{users, items} {
		for i := range t.Data {
			if i%k.width > 0 { // biases start at 0
				t.Data[i] = float32(rng.NormFloat64() * 0.1)
			}
		}
	}
	grads := []vector{host.resize(vector{}, len(users.Data)), host.resize(vector{}, len(items.Data))}
	in := []argument{floats(users.Data), floats(items.Data)}
	adam := newAdamW(0) // L2 is part of the loss
	least, loss := math.Inf(1), make([]float32, 1)
	for step := 0; ; step++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		k.forward(host, onHost(loss), in)
		if l := float64(loss[0]); math.IsNaN(l) || math.IsInf(l, 0) {
			return fmt.Errorf("%w: rating head: the loss is %v after %d steps; a smaller learning rate may help", ErrDiverged, l, step)
		}
		last := step == opts.Steps
		switch {
		case len(valid.value) == 0:
			if last {
				h.ratingRows, h.steps = k.rows.clone(), step
			}
		case last || step%opts.Every == 0:
			if e := h.squaredError(k.rows, valid); e < least {
				least, h.ratingRows, h.steps = e, k.rows.clone(), step
			}
			last = last || step-h.steps >= opts.Patience*opts.Every
		}
		if last {
			return nil
		}
		loss[0] = 1
		k.backward(host, grads, onHost(loss), vector{}, in)
		adam.next()
		rate := opts.LearningRate * (1 + math.Cos(math.Pi*float64(step)/float64(opts.Steps))) / 2
		adam.update(host, "users", users, grads[0], rate, 1)
		adam.update(host, "items", items, grads[1], rate, 1)
	}
}

func (h *RatingHead) squaredError(rows ratingRows, x *ratingExamples) float64 {
	sum := 0.0
	for i, y := range x.value {
		e := h.rating(float64(rows.predict(x.user[i], x.item[i]))) - float64(y)
		sum += e * e
	}
	return sum
}

// rating brings a prediction to the scale of the ratings.
func (h *RatingHead) rating(r float64) float64 {
	return min(max(h.mean+h.scale*r, h.lo), h.hi)
}

// Steps returns the number of steps of gradient descent behind the head.
func (h *RatingHead) Steps() int { return h.steps }

// Predict returns the predicted rating, within the range of the training
// ratings. Without a user of that index it is the mean and the item's bias,
// without such an item the mean and the user's.
func (h *RatingHead) Predict(user, item int32) float64 {
	hasUser := user >= 0 && int(user) < len(h.users)/h.width
	hasItem := item >= 0 && int(item) < len(h.items)/h.width
	switch {
	case hasUser && hasItem:
		return h.rating(float64(h.predict(user, item)))
	case hasUser:
		return h.rating(float64(h.users[int(user)*h.width]))
	case hasItem:
		return h.rating(float64(h.items[int(item)*h.width]))
	}
	return h.mean
}
