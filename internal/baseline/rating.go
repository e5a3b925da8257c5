package baseline

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/wisp-project/wisp/internal/data"
)

// The rating predictors below are fitted on histories of ratings, a slice for
// each user, and are eval.RatingPredictors, safe for concurrent use. None
// predicts beyond the range of the ratings it was fitted on.

// RatingMean predicts the mean of all ratings.
type RatingMean struct {
	mean, lo, hi float64
}

// NewRatingMean takes the mean. The error is ErrInput where there is no rating or
// one is not finite.
func NewRatingMean(histories [][]data.Interaction) (*RatingMean, error) {
	m := &RatingMean{lo: math.Inf(1), hi: math.Inf(-1)}
	sum, n := 0.0, 0
	for u, h := range histories {
		for _, e := range h {
			r := float64(e.Value)
			if math.IsNaN(r) || math.IsInf(r, 0) {
				return nil, fmt.Errorf("%w: rating %v of user %d for item %d; want a number", ErrInput, e.Value, u, e.Item)
			}
			sum, n = sum+r, n+1
			m.lo, m.hi = min(m.lo, r), max(m.hi, r)
		}
	}
	if n == 0 {
		return nil, fmt.Errorf("%w: no ratings to fit on", ErrInput)
	}
	m.mean = sum / float64(n)
	return m, nil
}

// Predict returns the mean.
func (m *RatingMean) Predict(int32, int32) float64 { return m.mean }

func (m *RatingMean) clamp(r float64) float64 { return min(max(r, m.lo), m.hi) }

// RatingBiasOptions says how far biases are drawn to 0. The zero value is ready
// to use.
type RatingBiasOptions struct {
	UserL2 float64 // weight of a user's squared bias (5); negative for none
	ItemL2 float64 // weight of an item's squared bias (2); negative for none
	Sweeps int     // alternations over users and items (20)
}

// RatingBias predicts the mean of all ratings plus a bias of the user and one of
// the item: how much the user rates above the mean, and how much the item is
// rated above it. One that has no ratings has bias 0.
type RatingBias struct {
	RatingMean

	user, item []float64
}

// NewRatingBias fits the biases to the least sum of squared errors plus weighted
// squared biases by alternating least squares: each bias in turn is the sum of
// what the others leave unexplained, divided by the number of ratings plus the
// weight. The error is ErrInput.
func NewRatingBias(histories [][]data.Interaction, items int, opts RatingBiasOptions) (*RatingBias, error) {
	if err := checkFit("rating-bias", histories, items); err != nil {
		return nil, err
	}
	if math.IsNaN(opts.UserL2+opts.ItemL2) || opts.Sweeps < 0 {
		return nil, fmt.Errorf("%w: rating-bias: UserL2 %g, ItemL2 %g, Sweeps %d; want numbers, and no negative Sweeps", ErrInput, opts.UserL2, opts.ItemL2, opts.Sweeps)
	}
	mean, err := NewRatingMean(histories)
	if err != nil {
		return nil, err
	}
	opts.UserL2, opts.ItemL2 = orDefault(opts.UserL2, 5), orDefault(opts.ItemL2, 2)
	if opts.Sweeps == 0 {
		opts.Sweeps = 20
	}
	b := &RatingBias{RatingMean: *mean, user: make([]float64, len(histories)), item: make([]float64, items)}
	sum, n := make([]float64, items), make([]float64, items)
	for range opts.Sweeps {
		clear(sum)
		clear(n)
		for u, h := range histories {
			for _, e := range h {
				sum[e.Item] += float64(e.Value) - b.mean - b.user[u]
				n[e.Item]++
			}
		}
		for i := range b.item {
			b.item[i] = shrunk(sum[i], n[i]+opts.ItemL2)
		}
		for u, h := range histories {
			rest := 0.0
			for _, e := range h {
				rest += float64(e.Value) - b.mean - b.item[e.Item]
			}
			b.user[u] = shrunk(rest, float64(len(h))+opts.UserL2)
		}
	}
	return b, nil
}

// Predict returns mean and biases. A user or item that has no ratings, or does
// not exist, adds nothing.
func (b *RatingBias) Predict(user, item int32) float64 {
	r := b.mean
	if user >= 0 && int(user) < len(b.user) {
		r += b.user[user]
	}
	if item >= 0 && int(item) < len(b.item) {
		r += b.item[item]
	}
	return b.clamp(r)
}

// shrunk is sum/n, and 0 for a bias that nothing is known of.
func shrunk(sum, n float64) float64 {
	if n <= 0 {
		return 0
	}
	return sum / n
}

// orDefault reads an option: 0 is the default and a negative value means 0.
func orDefault(v, def float64) float64 {
	if v == 0 {
		return def
	}
	return max(v, 0)
}

// RatingFactorOptions are the hyper-parameters of RatingFactors. The zero value
// is ready to use.
type RatingFactorOptions struct {
	Factors      int     // length of the vectors of users and items (100)
	Epochs       int     // passes over the ratings, at most (100)
	Patience     int     // epochs without a better validation error before stopping (5)
	LearningRate float64 // of the first epoch (0.02)
	Decay        float64 // factor of the learning rate from one epoch to the next (0.97)
	// FactorL2 and BiasL2 weigh the squared vector and the squared bias of a user
	// or item with n ratings, times the root of n: less for each rating where
	// there are many (1 and 0.1; negative for none).
	FactorL2, BiasL2 float64
	Seed             uint64 // of the initial vectors and the order of the ratings
}

func (o RatingFactorOptions) withDefaults() (RatingFactorOptions, error) {
	if o.Factors < 0 || o.Epochs < 0 || o.Patience < 0 || math.IsNaN(o.LearningRate+o.Decay+o.FactorL2+o.BiasL2) {
		return o, fmt.Errorf("%w: rating-mf: %+v; want numbers, and no negative counts", ErrInput, o)
	}
	if o.LearningRate < 0 || o.Decay < 0 {
		return o, fmt.Errorf("%w: rating-mf: LearningRate %g, Decay %g; want positive numbers, or 0 for the default", ErrInput, o.LearningRate, o.Decay)
	}
	for _, d := range []struct {
		v   *int
		def int
	}{{&o.Factors, 100}, {&o.Epochs, 100}, {&o.Patience, 5}} {
		if *d.v == 0 {
			*d.v = d.def
		}
	}
	o.LearningRate, o.Decay = orDefault(o.LearningRate, 0.02), orDefault(o.Decay, 0.97)
	o.FactorL2, o.BiasL2 = orDefault(o.FactorL2, 1.2), orDefault(o.BiasL2, 0.2)
	return o, nil
}

// RatingFactors is the biased matrix factorisation of Koren, Bell and Volinsky,
// "Matrix Factorization Techniques for Recommender Systems", 2009: mean, bias of
// the user, bias of the item and inner product of their vectors.
type RatingFactors struct {
	RatingBias

	users, items []float64 // (users, factors) and (items, factors), row-major
	factors      int
	epochs       int
}

// rating is one example.
type rating struct {
	user, item int32
	value      float64
}

// NewRatingFactors fits by stochastic gradient descent, one rating at a time in
// an order drawn anew for each epoch. Where valid has ratings, it stops once
// their error no longer falls and keeps the best epoch; valid nil means all
// epochs. The error is ErrInput, also where the learning rate makes training
// diverge, or the context's.
func NewRatingFactors(ctx context.Context, train, valid [][]data.Interaction, items int, opts RatingFactorOptions) (*RatingFactors, error) {
	const name = "rating-mf"
	if err := checkFit(name, train, items); err != nil {
		return nil, err
	}
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	mean, err := NewRatingMean(train)
	if err != nil {
		return nil, err
	}
	rng := rand.New(rand.NewPCG(opts.Seed, 0))
	m := &RatingFactors{
		RatingBias: RatingBias{RatingMean: *mean, user: make([]float64, len(train)), item: make([]float64, items)},
		users:      gaussian(rng, len(train)*opts.Factors), items: gaussian(rng, items*opts.Factors),
		factors: opts.Factors,
	}
	examples, checks := flat(train), flat(valid)
	if len(checks) > 0 {
		if err := checkFit(name, valid, items); err != nil {
			return nil, err
		}
		if _, err := NewRatingMean(valid); err != nil {
			return nil, err
		}
	}
	// A rating bears its share of the weight: n ratings bear root n.
	userShare, itemShare := make([]float64, len(train)), make([]float64, items)
	for _, x := range examples {
		userShare[x.user]++
		itemShare[x.item]++
	}
	for _, side := range []struct{ shares, vectors []float64 }{{userShare, m.users}, {itemShare, m.items}} {
		for i, n := range side.shares {
			if n > 0 {
				side.shares[i] = 1 / math.Sqrt(n)
			} else { // never trained, must not add noise
				clear(side.vectors[i*m.factors:][:m.factors])
			}
		}
	}
	var best *RatingFactors
	least, rate := math.Inf(1), opts.LearningRate
	for epoch := 1; epoch <= opts.Epochs; epoch++ {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		rng.Shuffle(len(examples), func(i, j int) { examples[i], examples[j] = examples[j], examples[i] })
		squares := 0.0
		for _, x := range examples {
			e := m.step(x, rate, userShare[x.user], itemShare[x.item], &opts)
			squares += e * e
		}
		if math.IsNaN(squares) || math.IsInf(squares, 0) {
			return nil, fmt.Errorf("%w: %s: training diverged in epoch %d at learning rate %g; want a smaller one", ErrInput, name, epoch, rate)
		}
		rate *= opts.Decay
		m.epochs = epoch
		if len(checks) == 0 {
			continue
		}
		switch e := m.squaredError(checks); {
		case e < least:
			least, best = e, m.clone()
		case epoch-best.epochs >= opts.Patience:
			return best, nil
		}
	}
	if best != nil {
		return best, nil
	}
	return m, nil
}

// step descends the gradient of one rating's error and returns the error.
func (m *RatingFactors) step(x rating, rate, userShare, itemShare float64, o *RatingFactorOptions) float64 {
	p, q := m.vectors(x.user, x.item)
	e := x.value - m.mean - m.user[x.user] - m.item[x.item]
	for k, v := range p {
		e -= v * q[k]
	}
	m.user[x.user] += rate * (e - o.BiasL2*userShare*m.user[x.user])
	m.item[x.item] += rate * (e - o.BiasL2*itemShare*m.item[x.item])
	keepUser, keepItem := 1-rate*o.FactorL2*userShare, 1-rate*o.FactorL2*itemShare
	re := rate * e
	for k, v := range p {
		p[k] = v*keepUser + re*q[k]
		q[k] = q[k]*keepItem + re*v
	}
	return e
}

func (m *RatingFactors) vectors(user, item int32) (p, q []float64) {
	f := m.factors
	return m.users[int(user)*f:][:f], m.items[int(item)*f:][:f]
}

// Epochs returns the number of passes that the predictor is the result of.
func (m *RatingFactors) Epochs() int { return m.epochs }

// Predict returns the predicted rating. A user or item without ratings, or out
// of range, leaves what is known of the other: the mean and its bias.
func (m *RatingFactors) Predict(user, item int32) float64 {
	if user < 0 || int(user) >= len(m.user) || item < 0 || int(item) >= len(m.item) {
		return m.RatingBias.Predict(user, item)
	}
	r := m.mean + m.user[user] + m.item[item]
	p, q := m.vectors(user, item)
	for k, v := range p {
		r += v * q[k]
	}
	return m.clamp(r)
}

func (m *RatingFactors) squaredError(ratings []rating) float64 {
	sum := 0.0
	for _, x := range ratings {
		e := m.Predict(x.user, x.item) - x.value
		sum += e * e
	}
	return sum
}

func (m *RatingFactors) clone() *RatingFactors {
	c := *m
	for _, s := range []*[]float64{&c.user, &c.item, &c.users, &c.items} {
		*s = append([]float64(nil), *s...)
	}
	return &c
}

// gaussian draws n initial factors.
func gaussian(rng *rand.Rand, n int) []float64 {
	const deviation = 0.1
	x := make([]float64, n)
	for i := range x {
		x[i] = rng.NormFloat64() * deviation
	}
	return x
}

func flat(histories [][]data.Interaction) []rating {
	var all []rating
	for u, h := range histories {
		for _, e := range h {
			all = append(all, rating{int32(u), e.Item, float64(e.Value)})
		}
	}
	return all
}
